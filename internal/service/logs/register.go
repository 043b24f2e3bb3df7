package logs

import (
	"context"
	_ "embed" // operations.txt
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// known tells whether AWS's API has an operation.
func known(operation string) bool {
	return strings.HasPrefix(operations, operation+" ") || strings.Contains(operations, "\n"+operation+" ")
}

// conditions of an operation: AWS's keys and the values that hold.
type conditions = map[string][]string

// Register registers the room's operations.
func (s *Service) Register(r *wire.Registry) {
	svc := r.Add(wire.ServiceInfo{
		Name: "logs", SigningName: "logs", Protocols: []wire.Protocol{wire.AWSJSON11},
		TargetPrefix: "Logs_20140328", LowerCamel: true, Knows: known,
	})
	s.registerGroups(svc)
	s.registerTags(svc)
	s.registerEvents(svc)
}

func (s *Service) registerGroups(svc *wire.Service) {
	wire.Handle(svc, wire.Operation[api.CreateLogGroupInput]{
		Name: "CreateLogGroup",
		Resources: func(ctx context.Context, in *api.CreateLogGroupInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(_ context.Context, in *api.CreateLogGroupInput) conditions { return requestTags(in.Tags) },
	}, s.CreateLogGroup)
	wire.Handle(svc, wire.Operation[api.DeleteLogGroupInput]{
		Name: "DeleteLogGroup",
		Resources: func(ctx context.Context, in *api.DeleteLogGroupInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.DeleteLogGroupInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.DeleteLogGroup)
	wire.Handle(svc, wire.Operation[api.PutLogGroupDeletionProtectionInput]{
		Name: "PutLogGroupDeletionProtection",
		Resources: func(ctx context.Context, in *api.PutLogGroupDeletionProtectionInput) []string {
			return onGroup(ctx, nil, in.LogGroupIdentifier)
		},
		Conditions: func(ctx context.Context, in *api.PutLogGroupDeletionProtectionInput) conditions {
			return s.resourceTags(ctx, nil, in.LogGroupIdentifier)
		},
	}, s.PutLogGroupDeletionProtection)
	wire.Handle(svc, wire.Operation[api.DescribeLogGroupsInput]{
		Name: "DescribeLogGroups", ReadOnly: true,
		Resources: func(ctx context.Context, _ *api.DescribeLogGroupsInput) []string { return onGroup(ctx, nil, nil) },
	}, s.DescribeLogGroups)
	wire.Handle(svc, wire.Operation[api.ListLogGroupsInput]{
		Name: "ListLogGroups", ReadOnly: true,
		Resources: func(ctx context.Context, _ *api.ListLogGroupsInput) []string { return onGroup(ctx, nil, nil) },
	}, s.ListLogGroups)
	wire.Handle(svc, wire.Operation[api.PutRetentionPolicyInput]{
		Name: "PutRetentionPolicy",
		Resources: func(ctx context.Context, in *api.PutRetentionPolicyInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.PutRetentionPolicyInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.PutRetentionPolicy)
	wire.Handle(svc, wire.Operation[api.DeleteRetentionPolicyInput]{
		Name: "DeleteRetentionPolicy",
		Resources: func(ctx context.Context, in *api.DeleteRetentionPolicyInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.DeleteRetentionPolicyInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.DeleteRetentionPolicy)
}

func (s *Service) registerTags(svc *wire.Service) {
	wire.Handle(svc, wire.Operation[api.TagResourceInput]{
		Name:      "TagResource",
		Resources: func(_ context.Context, in *api.TagResourceInput) []string { return onARN(in.ResourceArn) },
		Conditions: func(ctx context.Context, in *api.TagResourceInput) conditions {
			return both(requestTags(in.Tags), s.resourceTags(ctx, nil, in.ResourceArn))
		},
	}, s.TagResource)
	wire.Handle(svc, wire.Operation[api.UntagResourceInput]{
		Name:      "UntagResource",
		Resources: func(_ context.Context, in *api.UntagResourceInput) []string { return onARN(in.ResourceArn) },
		Conditions: func(ctx context.Context, in *api.UntagResourceInput) conditions {
			return both(conditions{"aws:TagKeys": in.TagKeys}, s.resourceTags(ctx, nil, in.ResourceArn))
		},
	}, s.UntagResource)
	wire.Handle(svc, wire.Operation[api.ListTagsForResourceInput]{
		Name: "ListTagsForResource", ReadOnly: true,
		Resources: func(_ context.Context, in *api.ListTagsForResourceInput) []string { return onARN(in.ResourceArn) },
		Conditions: func(ctx context.Context, in *api.ListTagsForResourceInput) conditions {
			return s.resourceTags(ctx, nil, in.ResourceArn)
		},
	}, s.ListTagsForResource)
	// AWS gives these three no conditions on the tags of the request.
	wire.Handle(svc, wire.Operation[api.TagLogGroupInput]{
		Name: "TagLogGroup",
		Resources: func(ctx context.Context, in *api.TagLogGroupInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.TagLogGroupInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.TagLogGroup)
	wire.Handle(svc, wire.Operation[api.UntagLogGroupInput]{
		Name: "UntagLogGroup",
		Resources: func(ctx context.Context, in *api.UntagLogGroupInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.UntagLogGroupInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.UntagLogGroup)
	wire.Handle(svc, wire.Operation[api.ListTagsLogGroupInput]{
		Name: "ListTagsLogGroup", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.ListTagsLogGroupInput) []string {
			return onGroup(ctx, in.LogGroupName, nil)
		},
		Conditions: func(ctx context.Context, in *api.ListTagsLogGroupInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.ListTagsLogGroup)
}

func (s *Service) registerEvents(svc *wire.Service) {
	wire.Handle(svc, wire.Operation[api.CreateLogStreamInput]{
		Name: "CreateLogStream",
		Resources: func(ctx context.Context, in *api.CreateLogStreamInput) []string {
			return onStream(ctx, in.LogGroupName, nil, in.LogStreamName)
		},
		Conditions: func(ctx context.Context, in *api.CreateLogStreamInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.CreateLogStream)
	wire.Handle(svc, wire.Operation[api.DeleteLogStreamInput]{
		Name: "DeleteLogStream",
		Resources: func(ctx context.Context, in *api.DeleteLogStreamInput) []string {
			return onStream(ctx, in.LogGroupName, nil, in.LogStreamName)
		},
		Conditions: func(ctx context.Context, in *api.DeleteLogStreamInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.DeleteLogStream)
	wire.Handle(svc, wire.Operation[api.DescribeLogStreamsInput]{
		Name: "DescribeLogStreams", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.DescribeLogStreamsInput) []string {
			return onGroup(ctx, in.LogGroupName, in.LogGroupIdentifier)
		},
		Conditions: func(ctx context.Context, in *api.DescribeLogStreamsInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, in.LogGroupIdentifier)
		},
	}, s.DescribeLogStreams)
	// Log events are data, which the audit log does not record, as CloudTrail does not.
	wire.Handle(svc, wire.Operation[api.PutLogEventsInput]{
		Name: "PutLogEvents", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.PutLogEventsInput) []string {
			return onStream(ctx, in.LogGroupName, nil, in.LogStreamName)
		},
		Conditions: func(ctx context.Context, in *api.PutLogEventsInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, nil)
		},
	}, s.PutLogEvents)
	wire.Handle(svc, wire.Operation[api.GetLogEventsInput]{
		Name: "GetLogEvents", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.GetLogEventsInput) []string {
			return onStream(ctx, in.LogGroupName, in.LogGroupIdentifier, in.LogStreamName)
		},
		Conditions: func(ctx context.Context, in *api.GetLogEventsInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, in.LogGroupIdentifier)
		},
	}, s.GetLogEvents)
	wire.Handle(svc, wire.Operation[api.FilterLogEventsInput]{
		Name: "FilterLogEvents", ReadOnly: true,
		Resources: func(ctx context.Context, in *api.FilterLogEventsInput) []string {
			return onGroup(ctx, in.LogGroupName, in.LogGroupIdentifier)
		},
		Conditions: func(ctx context.Context, in *api.FilterLogEventsInput) conditions {
			return s.resourceTags(ctx, in.LogGroupName, in.LogGroupIdentifier)
		},
	}, s.FilterLogEvents)
}

// onStream returns the resource of an action on a stream. An action on a group
// is one on its stream without a name: that is how AWS writes it in refusals, and
// why policies name log-group:NAME:*.
func onStream(ctx context.Context, name, identifier, stream *string) []string {
	group := aws.ToString(name)
	if identifier != nil {
		var err error
		if group, err = nameOf(ctx, *identifier); err != nil {
			return []string{*identifier} // the operation will refuse it
		}
	}
	return []string{streamARN(scopeOf(ctx), group, aws.ToString(stream))}
}

func onGroup(ctx context.Context, name, identifier *string) []string {
	return onStream(ctx, name, identifier, nil)
}

// onARN returns the resource of the tagging operations, which have no ":*".
func onARN(arn *string) []string { return []string{strings.TrimSuffix(aws.ToString(arn), ":*")} }

func requestTags(tags map[string]string) conditions {
	if len(tags) == 0 {
		return nil
	}
	c := conditions{"aws:TagKeys": slices.Sorted(maps.Keys(tags))}
	for k, v := range tags {
		c["aws:RequestTag/"+k] = []string{v}
	}
	return c
}

func (s *Service) resourceTags(ctx context.Context, name, identifier *string) conditions {
	group := aws.ToString(name)
	if identifier != nil {
		var err error
		if group, err = nameOf(ctx, *identifier); err != nil {
			return nil
		}
	}
	g, ok := s.groups.Get(s.db.Snapshot(), scopeOf(ctx), group)
	if !ok || group == "" {
		return nil
	}
	c := conditions{}
	for k, v := range g.Tags {
		c["aws:ResourceTag/"+k] = []string{v}
	}
	return c
}

func both(a, b conditions) conditions {
	if a == nil {
		return b
	}
	maps.Copy(a, b)
	return a
}
