package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerAttributes(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.PutAttributesInput]{
		Name: "PutAttributes",
		Resources: func(ctx context.Context, in *ecs.PutAttributesInput) []string {
			return s.members(ctx, "container-instance", in.Cluster, targets(in.Attributes))
		},
		Conditions: func(ctx context.Context, in *ecs.PutAttributesInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.PutAttributes)
	wire.Handle(w, wire.Operation[ecs.DeleteAttributesInput]{
		Name: "DeleteAttributes",
		Resources: func(ctx context.Context, in *ecs.DeleteAttributesInput) []string {
			return s.members(ctx, "container-instance", in.Cluster, targets(in.Attributes))
		},
		Conditions: func(ctx context.Context, in *ecs.DeleteAttributesInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.DeleteAttributes)
	wire.Handle(w, wire.Operation[ecs.ListAttributesInput]{
		Name: "ListAttributes", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.ListAttributesInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.ListAttributes)
}

func targets(attributes []types.Attribute) []string {
	var ids []string
	for _, a := range attributes {
		ids = append(ids, deref(a.TargetId))
	}
	return ids
}
