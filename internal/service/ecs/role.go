package ecs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

// Roles makes the credentials of tasks' roles. It assumes them as the service
// ecs-tasks.amazonaws.com does, for the task.
type Roles interface {
	// AssumeForTask returns credentials of a role for a task, or the API error of a
	// refusal. The session is named by the task's id, as ECS names it.
	AssumeForTask(ctx context.Context, account, region, taskARN, roleARN, session string) (*ststypes.Credentials, error)
	// CredentialsID is the id of a task's credentials of a kind: a secret that nobody
	// can guess, and the same each time.
	CredentialsID(ctx context.Context, taskARN, roleType string) (string, error)
}

// taskRoles are the ARNs of the roles that a task has, "" where it has none.
func taskRoles(sc store.Scope, d *types.TaskDefinition, o *types.TaskOverride) (task, execution string) {
	task, execution = deref(roleARN(sc, d.TaskRoleArn)), deref(roleARN(sc, d.ExecutionRoleArn))
	if o != nil {
		if role := deref(roleARN(sc, o.TaskRoleArn)); role != "" {
			task = role
		}
		if role := deref(roleARN(sc, o.ExecutionRoleArn)); role != "" {
			execution = role
		}
	}
	return task, execution
}

// taskRole is one role of a task.
type taskRole struct{ kind, arn string }

func rolesWith(sc store.Scope, d *types.TaskDefinition, o *types.TaskOverride) []taskRole {
	task, execution := taskRoles(sc, d, o)
	var roles []taskRole
	if task != "" {
		roles = append(roles, taskRole{acs.RoleTask, task})
	}
	if execution != "" {
		roles = append(roles, taskRole{acs.RoleExecution, execution})
	}
	return roles
}

// rolesOf are the roles of a task that was made.
func (s *Service) rolesOf(r store.Reader, sc store.Scope, t *Task) []taskRole {
	td, ok := s.definitions.Get(r, sc, definitionID(t.Family, t.Revision))
	if !ok {
		return nil
	}
	return rolesWith(sc, &td.Definition, t.Overrides)
}

func hasRole(sc store.Scope, d *types.TaskDefinition, o *types.TaskOverride, kind string) bool {
	return slices.Contains(roleTypes(rolesWith(sc, d, o)), kind)
}

func roleTypes(roles []taskRole) []string {
	var kinds []string
	for _, role := range roles {
		kinds = append(kinds, role.kind)
	}
	return kinds
}

// requiredWith is what a definition requires of a node when it is run with
// overrides: a role or storage that they give requires what the definition's own would.
func requiredWith(sc store.Scope, d *types.TaskDefinition, o *types.TaskOverride) []types.Attribute {
	task, execution := taskRoles(sc, d, o)
	storage := o != nil && o.EphemeralStorage != nil
	if task == deref(d.TaskRoleArn) && execution == deref(d.ExecutionRoleArn) && !storage {
		return d.RequiresAttributes
	}
	with := *d
	with.TaskRoleArn, with.ExecutionRoleArn = optional(task), optional(execution)
	if storage {
		with.EphemeralStorage = o.EphemeralStorage
	}
	return requiredAttributes(&with)
}

// Credentials implements acs.Source.
func (s *Service) Credentials(ctx context.Context, x acs.Session, arn string) ([]acs.Grant, error) {
	snap := s.db.Snapshot()
	n, err := s.sessionNode(snap, x)
	if err != nil {
		return nil, err
	}
	sc := sessionScope(x)
	key, _ := taskKeyOf(sc, arn)
	t, ok := s.tasks.Get(snap, sc, key)
	if !ok || t.NodeID != n.ID || t.LastStatus == taskStopped {
		return nil, nil
	}
	var grants []acs.Grant
	for _, role := range s.rolesOf(snap, sc, t) {
		g, err := s.grant(ctx, sc, t, role)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

func (s *Service) grant(ctx context.Context, sc store.Scope, t *Task, role taskRole) (acs.Grant, error) {
	if s.deps.Roles == nil {
		return acs.Grant{}, refusedRole(role)
	}
	arn := taskARN(sc, t.Cluster, t.ID)
	c, err := s.deps.Roles.AssumeForTask(ctx, sc.Account, sc.Region, arn, role.arn, t.ID)
	if err != nil {
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient {
			s.log.Info("a task's role can't be assumed", "task", arn, "role", role.arn, "error", err)
			return acs.Grant{}, refusedRole(role)
		}
		return acs.Grant{}, err
	}
	id, err := s.deps.Roles.CredentialsID(ctx, arn, role.kind)
	if err != nil {
		return acs.Grant{}, err
	}
	return acs.Grant{RoleType: role.kind, Expires: *c.Expiration, Credentials: acs.Credentials{
		CredentialsID: id, RoleARN: role.arn, AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey,
		SessionToken: *c.SessionToken, Expiration: c.Expiration.UTC().Format(time.RFC3339),
	}}, nil
}

// refusedRole has ECS's text of a role that it can't assume.
func refusedRole(role taskRole) error {
	return &acs.RefusedRoleError{Reason: "ECS was unable to assume the role '" + role.arn + "' that was provided for this task. " +
		"Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role."}
}
