package logs

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
)

// groupsPerPage is the most that DescribeLogGroups returns at once.
const groupsPerPage = 50

// CreateLogGroup creates a log group.
func (s *Service) CreateLogGroup(ctx context.Context, in *cloudwatchlogs.CreateLogGroupInput) (*cloudwatchlogs.CreateLogGroupOutput, error) {
	name := aws.ToString(in.LogGroupName)
	if err := checkNewGroup(in); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	g := &group{
		Name: name, Generation: s.id(), CreatedAt: s.nowMillis(), Class: in.LogGroupClass,
		Tags: maps.Clone(in.Tags), DeletionProtection: aws.ToBool(in.DeletionProtectionEnabled),
	}
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		if _, ok := s.groups.Get(tx, sc, name); ok {
			return exists("The specified log group already exists")
		}
		s.groups.Put(tx, sc, name, g)
		return nil
	})
	if err != nil {
		return nil, stored(err)
	}
	return &cloudwatchlogs.CreateLogGroupOutput{}, nil
}

func checkNewGroup(in *cloudwatchlogs.CreateLogGroupInput) error {
	switch name := aws.ToString(in.LogGroupName); {
	case name == "":
		return invalid("logGroupName is required.")
	case strings.HasPrefix(strings.ToLower(name), "aws/"):
		return invalid("Log groups starting with AWS/ are reserved for AWS.")
	case in.KmsKeyId != nil:
		return invalid("kmsKeyId is not supported: log events cannot be encrypted with a customer's key here.")
	case in.LogGroupClass == types.LogGroupClassDelivery:
		return invalid("The log group class DELIVERY is not supported.")
	}
	return checkTags(in.Tags)
}

// DeleteLogGroup deletes a log group; its streams and events follow.
func (s *Service) DeleteLogGroup(ctx context.Context, in *cloudwatchlogs.DeleteLogGroupInput) (*cloudwatchlogs.DeleteLogGroupOutput, error) {
	sc, name := scopeOf(ctx), aws.ToString(in.LogGroupName)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, name)
		if err != nil {
			return err
		}
		if g.DeletionProtection {
			m := "The specified log group cannot be deleted because deletion protection is enabled. Disable it with PutLogGroupDeletionProtection first."
			return &types.ValidationException{Message: &m}
		}
		s.groups.Delete(tx, sc, name)
		s.deletions.Put(tx, sc, g.Generation, &deletion{Group: g.Generation})
		return nil
	})
	if err != nil {
		return nil, stored(err)
	}
	s.wake()
	return &cloudwatchlogs.DeleteLogGroupOutput{}, nil
}

// PutLogGroupDeletionProtection enables or disables deletion protection.
func (s *Service) PutLogGroupDeletionProtection(ctx context.Context, in *cloudwatchlogs.PutLogGroupDeletionProtectionInput) (*cloudwatchlogs.PutLogGroupDeletionProtectionOutput, error) {
	name, err := nameOf(ctx, aws.ToString(in.LogGroupIdentifier))
	if err != nil {
		return nil, err
	}
	err = s.editGroup(ctx, name, func(g *group) error {
		g.DeletionProtection = aws.ToBool(in.DeletionProtectionEnabled)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.PutLogGroupDeletionProtectionOutput{}, nil
}

// editGroup changes a log group's record.
func (s *Service) editGroup(ctx context.Context, name string, edit func(g *group) error) error {
	sc := scopeOf(ctx)
	return stored(s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, name)
		if err != nil {
			return err
		}
		changed := s.groups.Clone(g)
		if err := edit(changed); err != nil {
			return err
		}
		s.groups.Put(tx, sc, name, changed)
		return nil
	}))
}

// DescribeLogGroups lists log groups by name.
func (s *Service) DescribeLogGroups(ctx context.Context, in *cloudwatchlogs.DescribeLogGroupsInput) (*cloudwatchlogs.DescribeLogGroupsOutput, error) {
	wanted, err := groupFilter(ctx, in)
	if err != nil {
		return nil, err
	}
	page, next, err := s.groupPage(ctx, "groups", in.NextToken, pageSize(in.Limit, groupsPerPage), aws.ToString(in.LogGroupNamePrefix), wanted)
	if err != nil {
		return nil, err
	}
	out := &cloudwatchlogs.DescribeLogGroupsOutput{LogGroups: []types.LogGroup{}, NextToken: next}
	sc := scopeOf(ctx)
	for _, g := range page {
		view, err := s.groupView(ctx, sc, g)
		if err != nil {
			return nil, err
		}
		if in.LogGroupNamePattern != nil { // AWS shows no more of groups found this way
			view = types.LogGroup{Arn: view.Arn, CreationTime: view.CreationTime, LogGroupName: view.LogGroupName}
		}
		out.LogGroups = append(out.LogGroups, view)
	}
	return out, nil
}

// groupFilter returns what DescribeLogGroups' parameters ask for besides the prefix.
func groupFilter(ctx context.Context, in *cloudwatchlogs.DescribeLogGroupsInput) (func(*group) bool, error) {
	if in.LogGroupNamePrefix != nil && in.LogGroupNamePattern != nil {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	if in.LogGroupIdentifiers != nil {
		if in.LogGroupNamePrefix != nil || in.LogGroupNamePattern != nil || in.LogGroupClass != "" {
			return nil, invalid("LogGroupIdentifiers cannot be combined with other filters.")
		}
		var names []string
		for _, id := range in.LogGroupIdentifiers {
			name, err := nameOf(ctx, id)
			if err != nil {
				return nil, err
			}
			names = append(names, name)
		}
		return func(g *group) bool { return slices.Contains(names, g.Name) }, nil
	}
	pattern := aws.ToString(in.LogGroupNamePattern)
	return func(g *group) bool {
		return strings.Contains(g.Name, pattern) && (in.LogGroupClass == "" || in.LogGroupClass == g.class())
	}, nil
}

// groupPage returns a page of the groups that are wanted, and the token of the next.
func (s *Service) groupPage(ctx context.Context, kind string, token *string, limit int, prefix string, wanted func(*group) bool) ([]*group, *string, error) {
	after, _, err := transparent(kind, token)
	if err != nil {
		return nil, nil, err
	}
	var page []*group
	for name, g := range s.groups.ListPrefix(s.db.Snapshot(), scopeOf(ctx), prefix) {
		if name <= after || !wanted(g) {
			continue
		}
		if len(page) == limit {
			return page, opaque(kind, page[limit-1].Name), nil
		}
		page = append(page, g)
	}
	return page, nil, nil
}

func (s *Service) groupView(ctx context.Context, sc store.Scope, g *group) (types.LogGroup, error) {
	stat, err := s.events.Stat(ctx, bulk.StreamID{Group: g.Generation})
	if err != nil {
		return types.LogGroup{}, stored(err)
	}
	arn := groupARN(sc, g.Name)
	view := types.LogGroup{
		LogGroupName: &g.Name, Arn: aws.String(arn + ":*"), LogGroupArn: &arn, CreationTime: &g.CreatedAt,
		MetricFilterCount: aws.Int32(0), StoredBytes: &stat.Bytes, LogGroupClass: g.class(),
		DeletionProtectionEnabled: &g.DeletionProtection,
	}
	if g.RetentionDays != 0 {
		view.RetentionInDays = &g.RetentionDays
	}
	return view, nil
}

// ListLogGroups lists log groups by a pattern of alternatives.
func (s *Service) ListLogGroups(ctx context.Context, in *cloudwatchlogs.ListLogGroupsInput) (*cloudwatchlogs.ListLogGroupsOutput, error) {
	if in.DataSources != nil || in.FieldIndexNames != nil || in.LogGroupTags != nil {
		return nil, invalid("Filtering by dataSources, fieldIndexNames or logGroupTags is not supported.")
	}
	alternatives := strings.Split(aws.ToString(in.LogGroupNamePattern), "|")
	wanted := func(g *group) bool {
		return (in.LogGroupClass == "" || in.LogGroupClass == g.class()) &&
			slices.ContainsFunc(alternatives, func(a string) bool {
				if prefix, ok := strings.CutPrefix(a, "^"); ok {
					return strings.HasPrefix(g.Name, prefix)
				}
				return strings.Contains(g.Name, a)
			})
	}
	limit := 50
	if in.Limit != nil {
		limit = pageSize(in.Limit, 1000)
	}
	page, next, err := s.groupPage(ctx, "list", in.NextToken, limit, "", wanted)
	if err != nil {
		return nil, err
	}
	out := &cloudwatchlogs.ListLogGroupsOutput{LogGroups: []types.LogGroupSummary{}, NextToken: next}
	sc := scopeOf(ctx)
	for _, g := range page {
		out.LogGroups = append(out.LogGroups, types.LogGroupSummary{
			LogGroupName: &g.Name, LogGroupArn: aws.String(groupARN(sc, g.Name)), LogGroupClass: g.class(),
		})
	}
	return out, nil
}
