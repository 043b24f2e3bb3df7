package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerTags(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.TagResourceInput]{
		Name: "TagResource",
		Resources: func(_ context.Context, in *ecs.TagResourceInput) []string {
			return []string{deref(in.ResourceArn)}
		},
		Conditions: func(_ context.Context, in *ecs.TagResourceInput) map[string][]string {
			return tagConditions(in.Tags)
		},
	}, s.TagResource)
	wire.Handle(w, wire.Operation[ecs.UntagResourceInput]{
		Name: "UntagResource",
		Resources: func(_ context.Context, in *ecs.UntagResourceInput) []string {
			return []string{deref(in.ResourceArn)}
		},
		Conditions: func(_ context.Context, in *ecs.UntagResourceInput) map[string][]string {
			return map[string][]string{"aws:TagKeys": in.TagKeys}
		},
	}, s.UntagResource)
	wire.Handle(w, wire.Operation[ecs.ListTagsForResourceInput]{
		Name: "ListTagsForResource", ReadOnly: true,
		Resources: func(_ context.Context, in *ecs.ListTagsForResourceInput) []string {
			return []string{deref(in.ResourceArn)}
		},
	}, s.ListTagsForResource)
}
