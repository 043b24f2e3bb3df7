package ecs

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerServices(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.CreateServiceInput]{
		Name: "CreateService",
		Resources: func(ctx context.Context, in *ecs.CreateServiceInput) []string {
			return s.members(ctx, "service", in.Cluster, []string{deref(in.ServiceName)})
		},
		Conditions: func(ctx context.Context, in *ecs.CreateServiceInput) map[string][]string {
			c := s.serviceConditions(ctx, serviceCall{in.Cluster, in.TaskDefinition, in.EnableExecuteCommand, len(in.VolumeConfigurations), len(in.VpcLatticeConfigurations), in.ServiceConnectConfiguration, in.CapacityProviderStrategy})
			maps.Copy(c, tagConditions(in.Tags))
			return c
		},
		Also: func(ctx context.Context, in *ecs.CreateServiceInput) []wire.Permission {
			return slices.Concat(s.passedBy(ctx, deref(in.TaskDefinition)), passingActing(in.DeploymentConfiguration, in.LoadBalancers),
				taggingNew("CreateService", in.Tags, s.members(ctx, "service", in.Cluster, []string{deref(in.ServiceName)})))
		},
	}, s.CreateService)
	wire.Handle(w, wire.Operation[ecs.UpdateServiceInput]{
		Name: "UpdateService",
		Resources: func(ctx context.Context, in *ecs.UpdateServiceInput) []string {
			return s.members(ctx, "service", in.Cluster, []string{deref(in.Service)})
		},
		Conditions: func(ctx context.Context, in *ecs.UpdateServiceInput) map[string][]string {
			return s.serviceConditions(ctx, serviceCall{in.Cluster, in.TaskDefinition, deref(in.EnableExecuteCommand), len(in.VolumeConfigurations), len(in.VpcLatticeConfigurations), in.ServiceConnectConfiguration, in.CapacityProviderStrategy})
		},
		Also: func(ctx context.Context, in *ecs.UpdateServiceInput) []wire.Permission {
			acting := passingActing(in.DeploymentConfiguration, in.LoadBalancers)
			if in.TaskDefinition == nil {
				return acting
			}
			return append(acting, s.passedBy(ctx, *in.TaskDefinition)...)
		},
	}, s.UpdateService)
	wire.Handle(w, wire.Operation[ecs.DeleteServiceInput]{
		Name: "DeleteService",
		Resources: func(ctx context.Context, in *ecs.DeleteServiceInput) []string {
			return s.members(ctx, "service", in.Cluster, []string{deref(in.Service)})
		},
		Conditions: func(ctx context.Context, in *ecs.DeleteServiceInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.DeleteService)
	wire.Handle(w, wire.Operation[ecs.DescribeServicesInput]{
		Name: "DescribeServices", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeServicesInput) []string {
			return s.members(ctx, "service", in.Cluster, in.Services)
		},
		Conditions: func(ctx context.Context, in *ecs.DescribeServicesInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.DescribeServices)
	wire.Handle(w, wire.Operation[ecs.ListServicesInput]{
		Name: "ListServices", ReadOnly: true,
		Conditions: func(ctx context.Context, in *ecs.ListServicesInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.ListServices)
	s.registerReleases(w)
	s.registerProtection(w)
}

func (s *Service) registerProtection(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.GetTaskProtectionInput]{
		Name: "GetTaskProtection", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.GetTaskProtectionInput) []string {
			return s.members(ctx, "task", in.Cluster, in.Tasks)
		},
		Conditions: func(ctx context.Context, in *ecs.GetTaskProtectionInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.GetTaskProtection)
	wire.Handle(w, wire.Operation[ecs.UpdateTaskProtectionInput]{
		Name: "UpdateTaskProtection",
		Resources: func(ctx context.Context, in *ecs.UpdateTaskProtectionInput) []string {
			return s.members(ctx, "task", in.Cluster, in.Tasks)
		},
		Conditions: func(ctx context.Context, in *ecs.UpdateTaskProtectionInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.UpdateTaskProtection)
}

func (s *Service) registerReleases(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.ListServiceDeploymentsInput]{
		Name: "ListServiceDeployments", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.ListServiceDeploymentsInput) []string {
			return s.members(ctx, "service", in.Cluster, []string{deref(in.Service)})
		},
		Conditions: func(ctx context.Context, in *ecs.ListServiceDeploymentsInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.ListServiceDeployments)
	wire.Handle(w, wire.Operation[ecs.DescribeServiceDeploymentsInput]{
		Name: "DescribeServiceDeployments", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeServiceDeploymentsInput) []string {
			return partsAsked(ctx, kindRelease, in.ServiceDeploymentArns)
		},
	}, s.DescribeServiceDeployments)
	wire.Handle(w, wire.Operation[ecs.StopServiceDeploymentInput]{
		Name: "StopServiceDeployment",
		Resources: func(ctx context.Context, in *ecs.StopServiceDeploymentInput) []string {
			return partsAsked(ctx, kindRelease, []string{deref(in.ServiceDeploymentArn)})
		},
	}, s.StopServiceDeployment)
	wire.Handle(w, wire.Operation[ecs.ContinueServiceDeploymentInput]{
		Name: "ContinueServiceDeployment",
		Resources: func(ctx context.Context, in *ecs.ContinueServiceDeploymentInput) []string {
			return partsAsked(ctx, kindRelease, []string{deref(in.ServiceDeploymentArn)})
		},
	}, s.ContinueServiceDeployment)
	wire.Handle(w, wire.Operation[ecs.DescribeServiceRevisionsInput]{
		Name: "DescribeServiceRevisions", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeServiceRevisionsInput) []string {
			return partsAsked(ctx, kindRevision, in.ServiceRevisionArns)
		},
	}, s.DescribeServiceRevisions)
}

// partsAsked are the ARNs of parts of services that a call names; what is no such ARN
// counts as any of its kind.
func partsAsked(ctx context.Context, kind string, arns []string) (out []string) {
	sc := scopeOf(ctx)
	for _, arn := range arns {
		if key, err := partOf(sc, kind, arn); err != nil || key == "" {
			arn = arnOf(sc, kind, "*")
		}
		out = append(out, arn)
	}
	return out
}

// serviceCall is what CreateService and UpdateService have in common for authorisation.
type serviceCall struct {
	cluster, definition *string
	execute             bool
	volumes, lattice    int
	connect             *types.ServiceConnectConfiguration
	providers           []types.CapacityProviderStrategyItem
}

func (s *Service) serviceConditions(ctx context.Context, in serviceCall) map[string][]string {
	c := s.clusterCondition(ctx, in.cluster)
	if in.definition != nil {
		c["ecs:task-definition"] = s.definitionResource(ctx, *in.definition)
	}
	c["ecs:enable-execute-command"] = []string{strconv.FormatBool(in.execute)}
	c["ecs:enable-ebs-volumes"] = []string{strconv.FormatBool(in.volumes > 0)}
	c["ecs:enable-service-connect"] = []string{strconv.FormatBool(in.connect != nil && in.connect.Enabled)}
	c["ecs:enable-vpc-lattice"] = []string{strconv.FormatBool(in.lattice > 0)}
	if in.connect != nil && in.connect.Namespace != nil {
		c["ecs:namespace"] = []string{*in.connect.Namespace}
	}
	return providerCondition(ctx, c, providersOf(in.providers))
}

func providersOf(strategy []types.CapacityProviderStrategyItem) (names []string) {
	for _, item := range strategy {
		names = append(names, deref(item.CapacityProvider))
	}
	return names
}

// passedBy is the permission to hand over the roles of a task definition, whose tasks a
// service will start.
func (s *Service) passedBy(ctx context.Context, definition string) []wire.Permission {
	d, err := s.definition(s.db.Snapshot(), scopeOf(ctx), definition)
	if err != nil {
		return nil
	}
	return passingRoles(ctx, d.Definition.TaskRoleArn, d.Definition.ExecutionRoleArn)
}
