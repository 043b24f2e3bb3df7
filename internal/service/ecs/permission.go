package ecs

import (
	"context"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

// tasksService is to whom roles of tasks are passed.
const tasksService = "ecs-tasks.amazonaws.com"

// resourceConditions are the keys of a resource's tags, and of what it is a part of: each
// resource of a call has its own.
func (s *Service) resourceConditions(ctx context.Context, arn string) map[string][]string {
	if a, ok := parseARN(arn); ok && (a.Kind == kindRelease || a.Kind == kindRevision) && len(a.Path) == 3 {
		return map[string][]string{
			"ecs:cluster": {clusterARN(a.Scope, a.Path[0])}, "ecs:service": {serviceARNOf(a.Scope, a.Path[0], a.Path[1])},
		}
	}
	target, err := s.taggable(s.db.Snapshot(), scopeOf(ctx), arn)
	if err != nil {
		return nil
	}
	c := map[string][]string{}
	for _, t := range target.tags {
		c["aws:ResourceTag/"+deref(t.Key)] = []string{deref(t.Value)}
		c["ecs:ResourceTag/"+deref(t.Key)] = []string{deref(t.Value)}
	}
	return c
}

// tagConditions are the condition keys of the tags that a call gives.
func tagConditions(tags []types.Tag) map[string][]string {
	c := map[string][]string{}
	for _, t := range tags {
		c["aws:RequestTag/"+deref(t.Key)] = []string{deref(t.Value)}
		c["aws:TagKeys"] = append(c["aws:TagKeys"], deref(t.Key))
	}
	return c
}

// taggingNew is the permission to give tags to what an operation makes.
func taggingNew(operation string, tags []types.Tag, resources []string) []wire.Permission {
	if len(tags) == 0 {
		return nil
	}
	c := tagConditions(tags)
	c["ecs:CreateAction"] = []string{operation}
	return []wire.Permission{{Action: "ecs:TagResource", Resources: resources, Conditions: c}}
}

// passingRoles is the permission to hand roles over to tasks.
func passingRoles(ctx context.Context, roles ...*string) []wire.Permission {
	var arns []string
	for _, role := range roles {
		if arn := deref(roleARN(scopeOf(ctx), role)); arn != "" && !slices.Contains(arns, arn) {
			arns = append(arns, arn)
		}
	}
	if len(arns) == 0 {
		return nil
	}
	return []wire.Permission{wire.PassRole(tasksService, arns...)}
}

// launching are the permissions that starting tasks needs besides its own: to hand
// over the roles that they will have, and to tag them.
func (s *Service) launching(ctx context.Context, operation string, l launchCall) []wire.Permission {
	definition := &types.TaskDefinition{}
	if d, err := s.definition(s.db.Snapshot(), scopeOf(ctx), deref(l.definition)); err == nil {
		definition = &d.Definition
	}
	task, execution := taskRoles(scopeOf(ctx), definition, l.overrides)
	return append(passingRoles(ctx, &task, &execution), taggingNew(operation, l.tags, s.members(ctx, "task", l.cluster, []string{"*"}))...)
}

// launchCall is what RunTask and StartTask have in common for authorisation.
type launchCall struct {
	definition, cluster *string
	overrides           *types.TaskOverride
	tags                []types.Tag
	execute             bool
	volumes             int
}

func (s *Service) launchConditions(ctx context.Context, l launchCall) map[string][]string {
	c := tagConditions(l.tags)
	c["ecs:cluster"] = s.clusterResource(ctx, l.cluster)
	c["ecs:enable-execute-command"] = []string{strconv.FormatBool(l.execute)}
	c["ecs:enable-ebs-volumes"] = []string{strconv.FormatBool(l.volumes > 0)}
	return c
}

func providerCondition(ctx context.Context, c map[string][]string, providers []string) map[string][]string {
	for _, name := range providers {
		c["ecs:capacity-provider"] = append(c["ecs:capacity-provider"], arnOf(scopeOf(ctx), "capacity-provider", name))
	}
	return c
}

// storageKeyCondition is the key of the KMS key for the storage of a cluster's tasks.
func storageKeyCondition(c map[string][]string, configuration *types.ClusterConfiguration) map[string][]string {
	if configuration == nil || configuration.ManagedStorageConfiguration == nil {
		return c
	}
	if key := deref(configuration.ManagedStorageConfiguration.FargateEphemeralStorageKmsKeyId); key != "" {
		c["ecs:fargate-ephemeral-storage-kms-key"] = []string{key}
	}
	return c
}
