package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerClusters(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.CreateClusterInput]{
		Name: "CreateCluster",
		Resources: func(ctx context.Context, in *ecs.CreateClusterInput) []string {
			return s.clusterResource(ctx, in.ClusterName)
		},
		Conditions: func(ctx context.Context, in *ecs.CreateClusterInput) map[string][]string {
			return storageKeyCondition(providerCondition(ctx, tagConditions(in.Tags), in.CapacityProviders), in.Configuration)
		},
		Also: func(ctx context.Context, in *ecs.CreateClusterInput) []wire.Permission {
			return taggingNew("CreateCluster", in.Tags, s.clusterResource(ctx, in.ClusterName))
		},
	}, s.CreateCluster)
	wire.Handle(w, wire.Operation[ecs.DeleteClusterInput]{
		Name: "DeleteCluster",
		Resources: func(ctx context.Context, in *ecs.DeleteClusterInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.DeleteCluster)
	wire.Handle(w, wire.Operation[ecs.DescribeClustersInput]{
		Name: "DescribeClusters", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeClustersInput) []string {
			if len(in.Clusters) == 0 {
				return s.clusterResource(ctx, nil)
			}
			var arns []string
			for _, ref := range in.Clusters {
				arns = append(arns, s.clusterResource(ctx, &ref)...)
			}
			return arns
		},
	}, s.DescribeClusters)
	wire.Handle(w, wire.Operation[ecs.ListClustersInput]{
		Name: "ListClusters", ReadOnly: true,
	}, s.ListClusters)
	wire.Handle(w, wire.Operation[ecs.UpdateClusterInput]{
		Name: "UpdateCluster",
		Resources: func(ctx context.Context, in *ecs.UpdateClusterInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
		Conditions: func(_ context.Context, in *ecs.UpdateClusterInput) map[string][]string {
			return storageKeyCondition(map[string][]string{}, in.Configuration)
		},
	}, s.UpdateCluster)
	wire.Handle(w, wire.Operation[ecs.UpdateClusterSettingsInput]{
		Name: "UpdateClusterSettings",
		Resources: func(ctx context.Context, in *ecs.UpdateClusterSettingsInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.UpdateClusterSettings)
	wire.Handle(w, wire.Operation[ecs.PutClusterCapacityProvidersInput]{
		Name: "PutClusterCapacityProviders",
		Resources: func(ctx context.Context, in *ecs.PutClusterCapacityProvidersInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
		Conditions: func(ctx context.Context, in *ecs.PutClusterCapacityProvidersInput) map[string][]string {
			return providerCondition(ctx, map[string][]string{}, in.CapacityProviders)
		},
	}, s.PutClusterCapacityProviders)
}
