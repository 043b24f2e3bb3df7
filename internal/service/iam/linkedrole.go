package iam

import (
	"context"
	"fmt"
	"strings"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// linkedService is a service that has a role of its own in accounts.
type linkedService struct {
	role, policy string
	suffix       bool // several roles, told apart by a suffix
}

// linkedServices are those of the services that we have or mean to have.
var linkedServices = map[string]linkedService{
	"autoscaling.amazonaws.com":                 {role: "AWSServiceRoleForAutoScaling", policy: "AutoScalingServiceRolePolicy", suffix: true},
	"batch.amazonaws.com":                       {role: "AWSServiceRoleForBatch", policy: "BatchServiceRolePolicy"},
	"ecs.amazonaws.com":                         {role: "AWSServiceRoleForECS", policy: "AmazonECSServiceRolePolicy"},
	"ecs.application-autoscaling.amazonaws.com": {role: "AWSServiceRoleForApplicationAutoScaling_ECSService", policy: "AWSApplicationAutoscalingECSServicePolicy"},
	"elasticloadbalancing.amazonaws.com":        {role: "AWSServiceRoleForElasticLoadBalancing", policy: "AWSElasticLoadBalancingServiceRolePolicy"},
}

// deletion is what became of a request to delete a service-linked role, kept for
// deletionRest under the id of the task. Written by DeleteServiceLinkedRole only.
type deletion struct {
	At time.Time `json:"at"`
}

const deletionRest = 24 * time.Hour

// linkedName is the name and the path of a service's role.
func linkedName(service, suffix string) (name, path string) {
	name = linkedServices[service].role
	if suffix != "" {
		name += "_" + suffix
	}
	return name, linkedPath + service + "/"
}

// CreateServiceLinkedRole makes the role under which a service acts in the account.
func (s *Service) CreateServiceLinkedRole(ctx context.Context, in *api.CreateServiceLinkedRoleInput) (*api.CreateServiceLinkedRoleOutput, error) {
	service, suffix := deref(in.AWSServiceName), deref(in.CustomSuffix)
	linked, ok := linkedServices[service]
	if !ok {
		return nil, errInput("The service %s has no service-linked role here.", service)
	}
	if suffix != "" && !linked.suffix {
		return nil, errInput("Custom suffix is not allowed for %s", service)
	}
	name, path := linkedName(service, suffix)
	if len(name) > 64 {
		return nil, errInput("The role's name %s would be longer than 64 characters: use a shorter suffix.", name)
	}
	i, err := s.newIdentity(s.roles, &name, &path, nil)
	if err != nil {
		return nil, err
	}
	i.Description, i.MaxSessionSeconds = deref(in.Description), defaultSession
	i.Trust = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"%s"},"Action":"sts:AssumeRole"}]}`, service)
	i.Attached = []string{awsPolicyPrefix + strings.TrimPrefix(linkedPath, "/") + linked.policy}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if _, taken := s.roles.table.Get(tx, sc, key(name)); taken {
			return errInput("Service role name %s has been taken in this account, please try a different suffix.", name)
		}
		s.roles.table.Put(tx, sc, key(name), i) // no quota counts it
		return nil
	})
	return &api.CreateServiceLinkedRoleOutput{Role: s.fullRole(scopeOf(ctx).Account, i)}, err
}

// DeleteServiceLinkedRole deletes a service's role, at once; the task's id tells so
// to who asks.
func (s *Service) DeleteServiceLinkedRole(ctx context.Context, in *api.DeleteServiceLinkedRoleInput) (*api.DeleteServiceLinkedRoleOutput, error) {
	id, err := newID("")
	if err != nil {
		return nil, err
	}
	now, task := s.now(), ""
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		i, err := s.roles.get(tx, sc, deref(in.RoleName))
		if err != nil {
			return err
		}
		if !i.linked() {
			return errInput("The role %s is not a service-linked role: use DeleteRole.", i.Name)
		}
		task = "task" + i.Path + i.Name + "/" + id
		dropped := 0
		for old, d := range s.deletions.List(tx, sc) {
			if now.Sub(d.At) > deletionRest && dropped < 50 {
				s.deletions.Delete(tx, sc, old)
				dropped++
			}
		}
		s.deletions.Put(tx, sc, task, &deletion{At: now})
		s.roles.table.Delete(tx, sc, key(i.Name))
		s.keyUses.Delete(tx, store.Scope{}, i.ID)
		return nil
	})
	return &api.DeleteServiceLinkedRoleOutput{DeletionTaskId: &task}, err
}

// GetServiceLinkedRoleDeletionStatus tells what became of a deletion in the last day.
func (s *Service) GetServiceLinkedRoleDeletionStatus(ctx context.Context, in *api.GetServiceLinkedRoleDeletionStatusInput) (*api.GetServiceLinkedRoleDeletionStatusOutput, error) {
	if _, ok := s.deletions.Get(s.snapshot(), scopeOf(ctx), deref(in.DeletionTaskId)); !ok {
		return nil, errNone("The deletion task %s cannot be found.", deref(in.DeletionTaskId))
	}
	return &api.GetServiceLinkedRoleDeletionStatusOutput{Status: types.DeletionTaskStatusTypeSucceeded}, nil
}
