package ecs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// hookRun is one run of a lifecycle hook: a pause that somebody ends, or a task whose exit
// code decides.
type hookRun struct {
	ID    string `json:"id"`
	Stage string `json:"stage"`
	Step  int    `json:"step,omitempty"`
	// Index is of the hook in the release's configuration.
	Index     int                                 `json:"index"`
	Status    types.DeploymentLifecycleHookStatus `json:"status"`
	Reason    string                              `json:"reason,omitempty"`
	ExpiresAt time.Time                           `json:"expiresAt"`
}

// hookStarter is what a hook's task has in StartedBy, with the run's ID behind it.
const hookStarter = "ecs-hook/"

// defaultHookMinutes is how long a hook may take that does not say, AWS's.
const defaultHookMinutes = 1440

// hooks begins the hooks of a release's stage, and looks at them: whether one is waited for,
// and why one has failed. A shift that goes back asks none.
func (k *keeper) hooks(tx *store.Tx, r *serviceRecord, x *release) (waits bool, failed string) {
	h := x.Shift
	if h.Back || r.Deployments[0].State == types.DeploymentRolloutStateFailed {
		return false, ""
	}
	for i := range x.Configuration.LifecycleHooks {
		hook := &x.Configuration.LifecycleHooks[i]
		if !slices.Contains(hook.LifecycleStages, types.DeploymentLifecycleHookStage(h.Stage)) {
			continue
		}
		at := slices.IndexFunc(h.Hooks, func(run hookRun) bool { return run.Stage == h.Stage && run.Step == h.Step && run.Index == i })
		if at < 0 {
			at = len(h.Hooks)
			h.Hooks = append(h.Hooks, k.beginHook(h, i, hook))
		}
		run := &h.Hooks[at]
		k.lookAtHook(tx, r, run, hook)
		switch run.Status {
		case types.DeploymentLifecycleHookStatusSucceeded:
		case types.DeploymentLifecycleHookStatusFailed:
			return false, fmt.Sprintf("lifecycle hook %s failed at %s: %s", run.ID, run.Stage, run.Reason)
		case types.DeploymentLifecycleHookStatusTimedOut:
			if hookTimeoutAction(hook) == types.DeploymentLifecycleHookActionRollback {
				return false, fmt.Sprintf("lifecycle hook %s timed out at %s", run.ID, run.Stage)
			}
		default:
			waits = true
		}
	}
	return waits, ""
}

func (k *keeper) beginHook(h *shift, index int, hook *types.DeploymentLifecycleHook) hookRun {
	status, limit := types.DeploymentLifecycleHookStatusInProgress, int32(defaultHookMinutes)
	if hook.TargetType == types.DeploymentLifecycleHookTargetTypePause {
		status = types.DeploymentLifecycleHookStatusAwaitingAction
	}
	if t := hook.TimeoutConfiguration; t != nil {
		limit = or(t.TimeoutInMinutes, limit)
	}
	id := deriveUUID(k.id, fmt.Sprint("hook ", h.Stage, h.Step, index))
	return hookRun{ID: id, Stage: h.Stage, Step: h.Step, Index: index, Status: status, ExpiresAt: k.now.Add(minutes(limit))}
}

// lookAtHook notes how a hook that runs has ended, if it has.
func (k *keeper) lookAtHook(tx *store.Tx, r *serviceRecord, run *hookRun, hook *types.DeploymentLifecycleHook) {
	switch run.Status {
	case types.DeploymentLifecycleHookStatusAwaitingAction, types.DeploymentLifecycleHookStatusInProgress:
	default:
		return
	}
	if hook.TargetType != types.DeploymentLifecycleHookTargetTypePause {
		for _, t := range k.room.tasksByStarter.List(tx, k.scope, r.Cluster+"/"+hookStarter+run.ID) {
			if t.LastStatus == taskStopped {
				run.Status, run.Reason = t.hookResult()
				return
			}
		}
	}
	if left := run.ExpiresAt.Sub(k.now); left > 0 {
		k.look(left)
		return
	}
	run.Status = types.DeploymentLifecycleHookStatusTimedOut
}

// hookResult is what a hook's task has come to: it has succeeded if its essential containers
// all ended with 0.
func (t *Task) hookResult() (status types.DeploymentLifecycleHookStatus, reason string) {
	for i := range t.Containers {
		if c := &t.Containers[i]; c.Essential && (c.ExitCode == nil || *c.ExitCode != 0) {
			return types.DeploymentLifecycleHookStatusFailed, fmt.Sprintf("task %s: %s", t.ID, c.fact())
		}
	}
	return types.DeploymentLifecycleHookStatusSucceeded, ""
}

func hookTimeoutAction(hook *types.DeploymentLifecycleHook) types.DeploymentLifecycleHookAction {
	if t := hook.TimeoutConfiguration; t != nil && t.Action != "" {
		return t.Action
	}
	return types.DeploymentLifecycleHookActionRollback
}

// startHooks starts the tasks of a release's hooks that have none yet, each under its hook's
// role. A role or task that is refused fails the hook; a task without a place is tried again.
func (s *Service) startHooks(ctx context.Context, sc store.Scope, r *serviceRecord, x *release) error {
	for _, run := range x.Shift.Hooks {
		hook := &x.Configuration.LifecycleHooks[run.Index]
		if run.Status != types.DeploymentLifecycleHookStatusInProgress || s.hookStarted(sc, r, run.ID) {
			continue
		}
		out, err := s.deps.Infrastructure.RunTask(ctx, sc.Account, sc.Region, Acting{Role: deref(hook.RoleArn), For: serviceARNOf(sc, r.Cluster, r.Name)}, s.hookTask(sc, r, x, &run, hook))
		switch message, refused := refusalOf(err); {
		case refused:
			if err := s.failHook(ctx, sc, x, run.ID, message); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("run lifecycle hook %s: %w", run.ID, err)
		case len(out.Tasks) == 0:
			return fmt.Errorf("lifecycle hook %s: its task found no place: %s", run.ID, deref(out.Failures[0].Reason))
		}
	}
	return nil
}

func (s *Service) hookStarted(sc store.Scope, r *serviceRecord, id string) bool {
	for range s.tasksByStarter.List(s.db.Snapshot(), sc, r.Cluster+"/"+hookStarter+id) {
		return true
	}
	return false
}

// hookTask is the call that runs a hook's task, beside the service's own. Its containers are
// told what it is about.
func (s *Service) hookTask(sc store.Scope, r *serviceRecord, x *release, run *hookRun, hook *types.DeploymentLifecycleHook) *ecs.RunTaskInput {
	first := &r.Deployments[0]
	in := &ecs.RunTaskInput{
		Cluster: &r.Cluster, TaskDefinition: hook.HookTargetArn, StartedBy: optional(hookStarter + run.ID), ClientToken: &run.ID, Group: optional("hook:" + r.Name),
		LaunchType: first.LaunchType, CapacityProviderStrategy: first.Providers, Overrides: &types.TaskOverride{},
	}
	d, err := s.definition(s.db.Snapshot(), sc, deref(hook.HookTargetArn))
	if err != nil {
		return in // which RunTask refuses
	}
	if d.Definition.NetworkMode == types.NetworkModeAwsvpc {
		in.NetworkConfiguration = first.Network
	}
	said := []types.KeyValuePair{
		{Name: optional("ECS_LIFECYCLE_STAGE"), Value: &run.Stage},
		{Name: optional("ECS_LIFECYCLE_HOOK_ID"), Value: &run.ID},
		{Name: optional("ECS_SERVICE_ARN"), Value: optional(serviceARNOf(sc, r.Cluster, r.Name))},
		{Name: optional("ECS_SERVICE_DEPLOYMENT_ARN"), Value: optional(releaseARN(sc, x))},
		{Name: optional("ECS_TARGET_SERVICE_REVISION_ARN"), Value: optional(revisionARN(sc, r.Cluster, r.Name, x.Target))},
	}
	for i := range d.Definition.ContainerDefinitions {
		in.Overrides.ContainerOverrides = append(in.Overrides.ContainerOverrides, types.ContainerOverride{Name: d.Definition.ContainerDefinitions[i].Name, Environment: said})
	}
	return in
}

// failHook notes that a hook could not be run.
func (s *Service) failHook(ctx context.Context, sc store.Scope, x *release, id, reason string) error {
	return s.db.Update(ctx, func(tx *store.Tx) error {
		s.answerHook(tx, sc, x.key(), id, types.DeploymentLifecycleHookStatusFailed, reason)
		return nil
	})
}

// answerHook ends a hook that runs; false if none does.
func (s *Service) answerHook(tx *store.Tx, sc store.Scope, key, id string, status types.DeploymentLifecycleHookStatus, reason string) bool {
	old, ok := s.releases.Get(tx, sc, key)
	if !ok || old.over() || old.Shift == nil || old.Shift.Back {
		return false
	}
	x := s.releases.Clone(old)
	for i := range x.Shift.Hooks {
		run := &x.Shift.Hooks[i]
		waits := run.Status == types.DeploymentLifecycleHookStatusAwaitingAction || run.Status == types.DeploymentLifecycleHookStatusInProgress
		if run.ID == id && waits {
			run.Status, run.Reason = status, reason
			s.releases.Put(tx, sc, key, x)
			return true
		}
	}
	return false
}

// ContinueServiceDeployment ends a pause: the deployment goes on, or back.
func (s *Service) ContinueServiceDeployment(ctx context.Context, in *ecs.ContinueServiceDeploymentInput) (*ecs.ContinueServiceDeploymentOutput, error) {
	sc := scopeOf(ctx)
	key, err := partOf(sc, kindRelease, deref(in.ServiceDeploymentArn))
	if err != nil {
		return nil, err
	}
	status, reason := types.DeploymentLifecycleHookStatusSucceeded, ""
	switch in.Action {
	case "", types.DeploymentLifecycleHookActionContinue:
	case types.DeploymentLifecycleHookActionRollback:
		status, reason = types.DeploymentLifecycleHookStatusFailed, "a rollback was asked for"
	default:
		return nil, errInvalidParameter("The action %s is not valid: use CONTINUE or ROLLBACK.", clip(string(in.Action)))
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		x, ok := s.releases.Get(tx, sc, key)
		if !ok {
			return &types.ServiceDeploymentNotFoundException{Message: optional("Service deployment not found.")}
		}
		paused := x.Shift != nil && slices.ContainsFunc(x.Shift.Hooks, func(run hookRun) bool {
			return run.ID == deref(in.HookId) && run.Status == types.DeploymentLifecycleHookStatusAwaitingAction
		})
		if !paused || !s.answerHook(tx, sc, key, *in.HookId, status, reason) {
			return errInvalidParameter("The service deployment is not paused at the hook %s: DescribeServiceDeployments shows those that await an action.", clip(deref(in.HookId)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.ContinueServiceDeploymentOutput{ServiceDeploymentArn: in.ServiceDeploymentArn}, nil
}

// hookViews are a release's hooks as the API shows them.
func (x *release) hookViews() (all []types.DeploymentLifecycleHookDetail) {
	if x.Shift == nil {
		return nil
	}
	for i := range x.Shift.Hooks {
		run := &x.Shift.Hooks[i]
		hook := &x.Configuration.LifecycleHooks[run.Index]
		kind := hook.TargetType
		if kind == "" {
			kind = types.DeploymentLifecycleHookTargetTypeAwsLambda
		}
		all = append(all, types.DeploymentLifecycleHookDetail{
			HookId: &run.ID, Status: run.Status, TargetType: kind, TargetArn: hook.HookTargetArn, ExpiresAt: &run.ExpiresAt, TimeoutAction: hookTimeoutAction(hook),
		})
	}
	return all
}

// pausedAt is the hook that a release waits for, and what it is.
func (x *release) pausedAt() (run *hookRun, pause bool) {
	for i := range x.Shift.Hooks {
		switch run := &x.Shift.Hooks[i]; run.Status {
		case types.DeploymentLifecycleHookStatusAwaitingAction:
			return run, true
		case types.DeploymentLifecycleHookStatusInProgress:
			return run, false
		}
	}
	return nil, false
}

// ofHook tells whether a task is a hook's.
func (t *Task) ofHook() bool { return strings.HasPrefix(t.StartedBy, hookStarter) }
