package ecs

import (
	"context"
	_ "embed" // operations.txt
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/document"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

//go:embed operations.txt
var operations string

// info describes ECS on the wire.
func (s *Service) info() wire.ServiceInfo {
	known := map[string]bool{}
	for line := range strings.Lines(operations) {
		name, _, _ := strings.Cut(line, " ")
		known[name] = true
	}
	return wire.ServiceInfo{
		Name:               "ecs",
		SigningName:        "ecs",
		IAMPrefix:          "ecs",
		Protocols:          []wire.Protocol{wire.AWSJSON11},
		TargetPrefix:       "AmazonEC2ContainerServiceV20141113",
		APIVersion:         "2014-11-13",
		LowerCamel:         true,
		Unions:             unions(),
		NewDocument:        func(v any) any { return document.NewLazyDocument(v) },
		ResourceConditions: s.resourceConditions,
		Knows:              func(operation string) bool { return known[operation] },
	}
}

// Register adds the room's operations to a registry. Each states the resources
// and condition keys that AWS's service authorization reference lists for it.
func (s *Service) Register(r *wire.Registry) {
	w := r.Add(s.info())
	s.registerClusters(w)
	s.registerDefinitions(w)
	s.registerTasks(w)
	s.registerServices(w)
	s.registerInstances(w)
	s.registerAgent(w)
	s.registerAttributes(w)
	s.registerTags(w)
	s.registerSettings(w)
}

func (s *Service) registerTasks(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.RunTaskInput]{
		Name: "RunTask",
		Resources: func(ctx context.Context, in *ecs.RunTaskInput) []string {
			return s.definitionResource(ctx, deref(in.TaskDefinition))
		},
		Conditions: func(ctx context.Context, in *ecs.RunTaskInput) map[string][]string {
			var providers []string
			for _, item := range in.CapacityProviderStrategy {
				providers = append(providers, deref(item.CapacityProvider))
			}
			return providerCondition(ctx, s.launchConditions(ctx, ofRun(in)), providers)
		},
		Also: func(ctx context.Context, in *ecs.RunTaskInput) []wire.Permission {
			return s.launching(ctx, "RunTask", ofRun(in))
		},
	}, s.RunTask)
	wire.Handle(w, wire.Operation[ecs.StartTaskInput]{
		Name: "StartTask",
		Resources: func(ctx context.Context, in *ecs.StartTaskInput) []string {
			return s.definitionResource(ctx, deref(in.TaskDefinition))
		},
		Conditions: func(ctx context.Context, in *ecs.StartTaskInput) map[string][]string {
			c := s.launchConditions(ctx, ofStart(in))
			c["ecs:container-instances"] = s.members(ctx, "container-instance", in.Cluster, in.ContainerInstances)
			return c
		},
		Also: func(ctx context.Context, in *ecs.StartTaskInput) []wire.Permission {
			return s.launching(ctx, "StartTask", ofStart(in))
		},
	}, s.StartTask)
	wire.Handle(w, wire.Operation[ecs.StopTaskInput]{
		Name: "StopTask",
		Resources: func(ctx context.Context, in *ecs.StopTaskInput) []string {
			return s.members(ctx, "task", in.Cluster, []string{deref(in.Task)})
		},
		Conditions: func(ctx context.Context, in *ecs.StopTaskInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.StopTask)
	wire.Handle(w, wire.Operation[ecs.DescribeTasksInput]{
		Name: "DescribeTasks", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeTasksInput) []string {
			return s.members(ctx, "task", in.Cluster, in.Tasks)
		},
		Conditions: func(ctx context.Context, in *ecs.DescribeTasksInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.DescribeTasks)
	wire.Handle(w, wire.Operation[ecs.ListTasksInput]{
		Name: "ListTasks", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.ListTasksInput) []string {
			if ref := deref(in.ContainerInstance); ref != "" {
				return s.members(ctx, "container-instance", in.Cluster, []string{ref})
			}
			return nil
		},
		Conditions: func(ctx context.Context, in *ecs.ListTasksInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.ListTasks)
}

func ofRun(in *ecs.RunTaskInput) launchCall {
	return launchCall{in.TaskDefinition, in.Cluster, in.Overrides, in.Tags, in.EnableExecuteCommand, len(in.VolumeConfigurations)}
}

func ofStart(in *ecs.StartTaskInput) launchCall {
	return launchCall{in.TaskDefinition, in.Cluster, in.Overrides, in.Tags, in.EnableExecuteCommand, len(in.VolumeConfigurations)}
}

func (s *Service) registerInstances(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.RegisterContainerInstanceInput]{
		Name: "RegisterContainerInstance",
		Resources: func(ctx context.Context, in *ecs.RegisterContainerInstanceInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
		Conditions: func(_ context.Context, in *ecs.RegisterContainerInstanceInput) map[string][]string {
			return tagConditions(in.Tags)
		},
		Also: func(ctx context.Context, in *ecs.RegisterContainerInstanceInput) []wire.Permission {
			return taggingNew("RegisterContainerInstance", in.Tags, s.members(ctx, "container-instance", in.Cluster, []string{"*"}))
		},
	}, s.RegisterContainerInstance)
	wire.Handle(w, wire.Operation[ecs.DeregisterContainerInstanceInput]{
		Name: "DeregisterContainerInstance",
		Resources: func(ctx context.Context, in *ecs.DeregisterContainerInstanceInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.DeregisterContainerInstance)
	wire.Handle(w, wire.Operation[ecs.DescribeContainerInstancesInput]{
		Name: "DescribeContainerInstances", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.DescribeContainerInstancesInput) []string {
			return s.members(ctx, "container-instance", in.Cluster, in.ContainerInstances)
		},
		Conditions: func(ctx context.Context, in *ecs.DescribeContainerInstancesInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.DescribeContainerInstances)
	wire.Handle(w, wire.Operation[ecs.ListContainerInstancesInput]{
		Name: "ListContainerInstances", ReadOnly: true,
		Resources: func(ctx context.Context, in *ecs.ListContainerInstancesInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.ListContainerInstances)
	wire.Handle(w, wire.Operation[ecs.UpdateContainerInstancesStateInput]{
		Name: "UpdateContainerInstancesState",
		Resources: func(ctx context.Context, in *ecs.UpdateContainerInstancesStateInput) []string {
			return s.members(ctx, "container-instance", in.Cluster, in.ContainerInstances)
		},
		Conditions: func(ctx context.Context, in *ecs.UpdateContainerInstancesStateInput) map[string][]string {
			return s.clusterCondition(ctx, in.Cluster)
		},
	}, s.UpdateContainerInstancesState)
}

func (s *Service) registerAgent(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.DiscoverPollEndpointInput]{
		Name: "DiscoverPollEndpoint", ReadOnly: true,
	}, s.DiscoverPollEndpoint)
	wire.Handle(w, wire.Operation[ecs.SubmitTaskStateChangeInput]{
		Name: "SubmitTaskStateChange",
		Resources: func(ctx context.Context, in *ecs.SubmitTaskStateChangeInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.SubmitTaskStateChange)
	wire.Handle(w, wire.Operation[ecs.SubmitContainerStateChangeInput]{
		Name: "SubmitContainerStateChange",
		Resources: func(ctx context.Context, in *ecs.SubmitContainerStateChangeInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.SubmitContainerStateChange)
	wire.Handle(w, wire.Operation[ecs.SubmitAttachmentStateChangesInput]{
		Name: "SubmitAttachmentStateChanges",
		Resources: func(ctx context.Context, in *ecs.SubmitAttachmentStateChangesInput) []string {
			return s.clusterResource(ctx, in.Cluster)
		},
	}, s.SubmitAttachmentStateChanges)
}

// The functions below name what a call is about for its authorisation. What
// cannot be named becomes "*": the operation then refuses it by itself.

func (s *Service) clusterResource(ctx context.Context, ref *string) []string {
	sc := scopeOf(ctx)
	name, err := clusterName(sc, ref)
	if err != nil {
		return []string{"*"}
	}
	return []string{clusterARN(sc, name)}
}

func (s *Service) clusterCondition(ctx context.Context, ref *string) map[string][]string {
	return map[string][]string{"ecs:cluster": s.clusterResource(ctx, ref)}
}

// definitionResource resolves a family to its latest revision, as AWS does
// before it authorises.
func (s *Service) definitionResource(ctx context.Context, ref string) []string {
	sc := scopeOf(ctx)
	d, err := s.definition(s.db.Snapshot(), sc, ref)
	if err != nil {
		return []string{arnOf(sc, "task-definition", "*")}
	}
	return []string{deref(d.Definition.TaskDefinitionArn)}
}

func (s *Service) members(ctx context.Context, kind string, cluster *string, refs []string) []string {
	sc := scopeOf(ctx)
	name, err := clusterName(sc, cluster)
	if err != nil {
		return []string{"*"}
	}
	arns := make([]string, 0, len(refs))
	for _, ref := range refs {
		arns = append(arns, arnOf(sc, kind, name, ref[strings.LastIndexByte(ref, '/')+1:]))
	}
	return arns
}

// unions are the variants of the API's unions.
func unions() []any {
	return []any{(*types.SharingStrategyMemberNvidiaMps)(nil), (*types.ServiceConnectContainerConfigurationMemberLogLevel)(nil), (*types.GatewayConnectionResourcesMemberHostSharedAlb)(nil)}
}
