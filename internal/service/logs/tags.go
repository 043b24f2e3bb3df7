package logs

import (
	"context"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// maxTags is how many tags a log group can have.
const maxTags = 50

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return errTooManyTags("")
	}
	for k := range tags {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return invalid("Tag keys beginning with 'aws:' are reserved: %s", k)
		}
	}
	return nil
}

func errTooManyTags(resource string) error {
	m := "A resource can have no more than 50 tags."
	e := &types.TooManyTagsException{Message: &m}
	if resource != "" {
		e.ResourceName = &resource
	}
	return e
}

// TagResource adds tags to a log group or replaces their values.
func (s *Service) TagResource(ctx context.Context, in *cloudwatchlogs.TagResourceInput) (*cloudwatchlogs.TagResourceOutput, error) {
	name, err := taggedName(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.TagResourceOutput{}, s.tag(ctx, name, in.Tags)
}

// UntagResource removes tags from a log group.
func (s *Service) UntagResource(ctx context.Context, in *cloudwatchlogs.UntagResourceInput) (*cloudwatchlogs.UntagResourceOutput, error) {
	name, err := taggedName(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.UntagResourceOutput{}, s.untag(ctx, name, in.TagKeys)
}

// ListTagsForResource returns a log group's tags.
func (s *Service) ListTagsForResource(ctx context.Context, in *cloudwatchlogs.ListTagsForResourceInput) (*cloudwatchlogs.ListTagsForResourceOutput, error) {
	name, err := taggedName(ctx, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := s.tagsOf(ctx, name)
	return &cloudwatchlogs.ListTagsForResourceOutput{Tags: tags}, err
}

// TagLogGroup is the older TagResource.
func (s *Service) TagLogGroup(ctx context.Context, in *cloudwatchlogs.TagLogGroupInput) (*cloudwatchlogs.TagLogGroupOutput, error) {
	return &cloudwatchlogs.TagLogGroupOutput{}, s.tag(ctx, aws.ToString(in.LogGroupName), in.Tags)
}

// UntagLogGroup is the older UntagResource.
func (s *Service) UntagLogGroup(ctx context.Context, in *cloudwatchlogs.UntagLogGroupInput) (*cloudwatchlogs.UntagLogGroupOutput, error) {
	return &cloudwatchlogs.UntagLogGroupOutput{}, s.untag(ctx, aws.ToString(in.LogGroupName), in.Tags)
}

// ListTagsLogGroup is the older ListTagsForResource.
func (s *Service) ListTagsLogGroup(ctx context.Context, in *cloudwatchlogs.ListTagsLogGroupInput) (*cloudwatchlogs.ListTagsLogGroupOutput, error) {
	tags, err := s.tagsOf(ctx, aws.ToString(in.LogGroupName))
	return &cloudwatchlogs.ListTagsLogGroupOutput{Tags: tags}, err
}

func taggedName(ctx context.Context, arn *string) (string, error) {
	if !strings.HasPrefix(aws.ToString(arn), "arn:") {
		return "", invalid("The specified resourceArn %q is not an ARN.", aws.ToString(arn))
	}
	return nameOf(ctx, *arn)
}

func (s *Service) tag(ctx context.Context, name string, tags map[string]string) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	return s.editGroup(ctx, name, func(g *group) error {
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		maps.Copy(g.Tags, tags)
		if len(g.Tags) > maxTags {
			return errTooManyTags(groupARN(scopeOf(ctx), name))
		}
		return nil
	})
}

func (s *Service) untag(ctx context.Context, name string, keys []string) error {
	return s.editGroup(ctx, name, func(g *group) error {
		for _, k := range keys {
			delete(g.Tags, k)
		}
		return nil
	})
}

func (s *Service) tagsOf(ctx context.Context, name string) (map[string]string, error) {
	g, err := s.group(s.db.Snapshot(), scopeOf(ctx), name)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(g.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	return tags, nil
}
