package ecs

import (
	"context"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

func (s *Service) registerDefinitions(w *wire.Service) {
	wire.Handle(w, wire.Operation[ecs.RegisterTaskDefinitionInput]{
		Name: "RegisterTaskDefinition",
		Resources: func(ctx context.Context, in *ecs.RegisterTaskDefinitionInput) []string {
			return []string{arnOf(scopeOf(ctx), "task-definition", deref(in.Family)+":*")}
		},
		Conditions: func(_ context.Context, in *ecs.RegisterTaskDefinitionInput) map[string][]string {
			return definitionConditions(in)
		},
		Also: func(ctx context.Context, in *ecs.RegisterTaskDefinitionInput) []wire.Permission {
			family := []string{arnOf(scopeOf(ctx), "task-definition", deref(in.Family)+":*")}
			return append(passingRoles(ctx, in.TaskRoleArn, in.ExecutionRoleArn), taggingNew("RegisterTaskDefinition", in.Tags, family)...)
		},
	}, s.RegisterTaskDefinition)
	wire.Handle(w, wire.Operation[ecs.DeregisterTaskDefinitionInput]{
		Name: "DeregisterTaskDefinition",
	}, s.DeregisterTaskDefinition)
	wire.Handle(w, wire.Operation[ecs.DeleteTaskDefinitionsInput]{
		Name: "DeleteTaskDefinitions",
		Resources: func(ctx context.Context, in *ecs.DeleteTaskDefinitionsInput) []string {
			return definitionResources(scopeOf(ctx), in.TaskDefinitions)
		},
	}, s.DeleteTaskDefinitions)
	wire.Handle(w, wire.Operation[ecs.DescribeTaskDefinitionInput]{
		Name: "DescribeTaskDefinition", ReadOnly: true,
	}, s.DescribeTaskDefinition)
	wire.Handle(w, wire.Operation[ecs.ListTaskDefinitionsInput]{
		Name: "ListTaskDefinitions", ReadOnly: true,
	}, s.ListTaskDefinitions)
	wire.Handle(w, wire.Operation[ecs.ListTaskDefinitionFamiliesInput]{
		Name: "ListTaskDefinitionFamilies", ReadOnly: true,
	}, s.ListTaskDefinitionFamilies)
}

func definitionResources(sc store.Scope, refs []string) []string {
	arns := make([]string, 0, len(refs))
	for _, ref := range refs {
		family, revision, err := parseDefinitionRef(sc, ref)
		if err != nil || revision == 0 {
			arns = append(arns, "*")
			continue
		}
		arns = append(arns, taskDefinitionARN(sc, family, revision))
	}
	return arns
}

// definitionConditions are the keys that policies restrict what may be registered by.
func definitionConditions(in *ecs.RegisterTaskDefinitionInput) map[string][]string {
	c := tagConditions(in.Tags)
	for _, x := range in.RequiresCompatibilities {
		c["ecs:compute-compatibility"] = append(c["ecs:compute-compatibility"], string(x))
	}
	privileged := false
	for i := range in.ContainerDefinitions {
		privileged = privileged || deref(in.ContainerDefinitions[i].Privileged)
	}
	c["ecs:privileged"] = []string{strconv.FormatBool(privileged)}
	if n, ok := parseCPU(deref(in.Cpu)); ok {
		c["ecs:task-cpu"] = []string{decimal(n)}
	}
	if n, ok := parseMemory(deref(in.Memory)); ok {
		c["ecs:task-memory"] = []string{decimal(n)}
	}
	return c
}
