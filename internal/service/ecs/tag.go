package ecs

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// maxTags does not count tags that ECS itself gave.
const maxTags = 50

// TagResource adds tags to a cluster, task definition, task or container
// instance, and changes the values of those that it has.
func (s *Service) TagResource(ctx context.Context, in *ecs.TagResourceInput) (*ecs.TagResourceOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	err := s.changeTags(ctx, deref(in.ResourceArn), func(tags []types.Tag) ([]types.Tag, error) {
		merged := mergeTags(tags, in.Tags)
		given := 0
		for _, t := range merged {
			if !reservedTag(deref(t.Key)) {
				given++
			}
		}
		if given > maxTags {
			return nil, errInvalidParameter("The number of tags exceeds the limit of %d.", maxTags)
		}
		return merged, nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.TagResourceOutput{}, nil
}

// UntagResource removes tags by their keys. Keys that are not there are ignored.
func (s *Service) UntagResource(ctx context.Context, in *ecs.UntagResourceInput) (*ecs.UntagResourceOutput, error) {
	if slices.ContainsFunc(in.TagKeys, reservedTag) {
		return nil, errInvalidParameter("Tag keys can't start with aws:.")
	}
	err := s.changeTags(ctx, deref(in.ResourceArn), func(tags []types.Tag) ([]types.Tag, error) {
		return slices.DeleteFunc(slices.Clone(tags), func(t types.Tag) bool {
			return slices.Contains(in.TagKeys, deref(t.Key))
		}), nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.UntagResourceOutput{}, nil
}

// ListTagsForResource lists a resource's tags.
func (s *Service) ListTagsForResource(ctx context.Context, in *ecs.ListTagsForResourceInput) (*ecs.ListTagsForResourceOutput, error) {
	target, err := s.taggable(s.db.Snapshot(), scopeOf(ctx), deref(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	return &ecs.ListTagsForResourceOutput{Tags: list(target.tags)}, nil
}

func reservedTag(key string) bool { return strings.HasPrefix(strings.ToLower(key), "aws:") }

func (s *Service) changeTags(ctx context.Context, arn string, change func([]types.Tag) ([]types.Tag, error)) error {
	sc := scopeOf(ctx)
	return s.db.Update(ctx, func(tx *store.Tx) error {
		target, err := s.taggable(tx, sc, arn)
		if err != nil {
			return err
		}
		tags, err := change(target.tags)
		if err != nil {
			return err
		}
		target.put(tx, tags)
		return nil
	})
}

// taggable is a resource that has tags.
type taggable struct {
	tags []types.Tag
	put  func(tx *store.Tx, tags []types.Tag)
}

func errResourceNotFound() error {
	return &types.ResourceNotFoundException{
		Message: optional("The specified resource wasn't found. Specify a valid resource ARN and try again."),
	}
}

// taggable finds the resource that an ARN names.
func (s *Service) taggable(r store.Reader, sc store.Scope, arn string) (taggable, error) {
	a, ok := parseARN(arn)
	if !ok {
		return taggable{}, errInvalidParameter("Invalid identifier: %s. Specify a full ARN.", clip(arn))
	}
	if a.Scope != sc {
		return taggable{}, errResourceNotFound()
	}
	switch {
	case a.Kind == "cluster" && len(a.Path) == 1:
		return s.taggableCluster(r, sc, a.Path[0])
	case a.Kind == "task-definition" && len(a.Path) == 1:
		return s.taggableDefinition(r, sc, a.Path[0])
	case a.Kind == "task" && len(a.Path) == 2:
		return s.taggableTask(r, sc, memberKey(a.Path[0], a.Path[1]))
	case a.Kind == "container-instance" && len(a.Path) == 2:
		return s.taggableInstance(r, sc, memberKey(a.Path[0], a.Path[1]))
	case a.Kind == "service" && len(a.Path) == 2:
		return s.taggableService(r, sc, memberKey(a.Path[0], a.Path[1]))
	case len(a.Path) == 1 && slices.Contains([]string{"task", "container-instance", "service"}, a.Kind):
		return taggable{}, errInvalidParameter("Long arn format must be used for tagging operations")
	case slices.Contains([]string{"task-set", "capacity-provider"}, a.Kind):
		return taggable{}, errResourceNotFound()
	}
	return taggable{}, errInvalidParameter("Invalid identifier: %s names nothing that can have tags.", clip(arn))
}

func (s *Service) taggableCluster(r store.Reader, sc store.Scope, name string) (taggable, error) {
	if _, err := s.cluster(r, sc, &name); err != nil {
		return taggable{}, err
	}
	return taggableIn(s.clusters, r, sc, name, func(c *Cluster) *[]types.Tag { return &c.Tags })
}

func (s *Service) taggableDefinition(r store.Reader, sc store.Scope, name string) (taggable, error) {
	family, revision, err := parseDefinitionRef(sc, name)
	if err != nil || revision == 0 {
		return taggable{}, errInvalidParameter("Invalid identifier: %s. Specify a task definition with its revision.", clip(name))
	}
	return taggableIn(s.definitions, r, sc, definitionID(family, revision), func(d *TaskDefinition) *[]types.Tag { return &d.Tags })
}

func (s *Service) taggableTask(r store.Reader, sc store.Scope, key string) (taggable, error) {
	return taggableIn(s.tasks, r, sc, key, func(t *Task) *[]types.Tag { return &t.Tags })
}

func (s *Service) taggableInstance(r store.Reader, sc store.Scope, key string) (taggable, error) {
	return taggableIn(s.instances, r, sc, key, func(ci *ContainerInstance) *[]types.Tag { return &ci.Tags })
}

func (s *Service) taggableService(r store.Reader, sc store.Scope, key string) (taggable, error) {
	if x, ok := s.services.Get(r, sc, key); !ok || x.Status == statusInactive {
		return taggable{}, errResourceNotFound()
	}
	return taggableIn(s.services, r, sc, key, func(x *serviceRecord) *[]types.Tag { return &x.Tags })
}

// taggableIn finds a record of a table; tags is where it keeps them.
func taggableIn[T any](table *store.Table[T], r store.Reader, sc store.Scope, id string, tags func(*T) *[]types.Tag) (taggable, error) {
	old, ok := table.Get(r, sc, id)
	if !ok {
		return taggable{}, errResourceNotFound()
	}
	return taggable{*tags(old), func(tx *store.Tx, changed []types.Tag) {
		v := table.Clone(old)
		*tags(v) = changed
		table.Put(tx, sc, id, v)
	}}, nil
}
