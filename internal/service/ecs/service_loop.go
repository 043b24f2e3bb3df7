package ecs

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/rollout"
	"longshore.dev/longshore/internal/store"
)

const (
	// DefaultHealthyAfter is how long a task without a health check runs before it counts
	// as healthy, as in AWS.
	DefaultHealthyAfter = 40 * time.Second
	// placeAgain is when tasks that found no place are tried again.
	placeAgain = 15 * time.Second
	// maxStarts and maxStops bound one step of one service.
	maxStarts, maxStops = 10, 50
)

// watchServices makes the loop that keeps services as they should be, and wakes it when
// a service or one of its tasks changes.
func (s *Service) watchServices() {
	s.serviceLoop = reconcile.New(reconcile.Options{
		Name: "ecs services", Log: s.log, Resync: time.Minute, Workers: 4,
		QueueOptions: reconcile.QueueOptions{Clock: clock{s.now}},
		Keys: func() iter.Seq[string] {
			return func(yield func(string) bool) {
				for ref, r := range s.services.ListAll(s.db.Snapshot()) {
					if r.Status != statusInactive && !yield(nodeKey(ref)) {
						return
					}
				}
			}
		},
		Reconcile: s.reconcileService,
	})
	s.services.Subscribe(func(c store.Change[serviceRecord]) { s.serviceLoop.Add(nodeKey(c.Ref)) })
	s.tasks.Subscribe(func(c store.Change[Task]) {
		for _, t := range []*Task{c.Old, c.New} {
			if t != nil && t.Service != "" {
				s.serviceLoop.Add(nodeKey(store.Ref{Scope: c.Scope, ID: memberKey(t.Cluster, t.Service)}))
				return
			}
		}
	})
	s.instances.Subscribe(func(c store.Change[ContainerInstance]) {
		if c.New != nil && (c.Old == nil || c.New.Status != c.Old.Status || !reflect.DeepEqual(c.New.Attributes, c.Old.Attributes)) {
			s.wakeServices(c.Scope, c.New.Cluster+"/")
		}
	})
	s.nodes.Subscribe(func(c store.Change[Node]) {
		if c.New != nil && (c.Old == nil || c.New.Connected && !c.Old.Connected) {
			s.wakeServices(c.Scope, "")
		}
	})
}

// wakeServices has services looked at, whose keys begin with prefix.
func (s *Service) wakeServices(sc store.Scope, prefix string) {
	for key, r := range s.services.ListPrefix(s.db.Snapshot(), sc, prefix) {
		if r.Status != statusInactive {
			s.serviceLoop.Add(nodeKey(store.Ref{Scope: sc, ID: key}))
		}
	}
}

// reconcileService brings a service one step closer to what it should be.
func (s *Service) reconcileService(ctx context.Context, key string) (again time.Duration, err error) {
	ref, ok := nodeRef(key)
	if !ok {
		return 0, nil
	}
	k := &keeper{
		room: s, scope: ref.Scope, now: s.now().UTC(), id: s.id(),
		launch: &launch{service: s, scope: ref.Scope, now: s.now().UTC(), generation: s.id()},
	}
	for range maxStarts {
		k.launch.seeds = append(k.launch.seeds, s.id()+s.id())
	}
	err = s.db.UpdateJointly(ctx, func(tx *store.Tx) error { return k.step(tx, ref.ID) })
	return k.again, launchError(err)
}

// keeper is one step of one service; what is random of it was drawn before.
type keeper struct {
	room   *Service
	scope  store.Scope
	now    time.Time
	id     string // new deployments' and events' ids derive from it
	launch *launch
	used   int // of the launch's seeds
	drawn  int
	lack   string // why tasks found no place
	again  time.Duration
}

// newID returns an id that follows from the step's.
func (k *keeper) newID(kind string) string {
	k.drawn++
	return derive(k.id, fmt.Sprint(kind, k.drawn), 32)
}

// look has the service looked at again after d at the latest.
func (k *keeper) look(d time.Duration) {
	if d > 0 && (k.again == 0 || d < k.again) {
		k.again = d
	}
}

// step may run again after a conflict, so it begins by forgetting what it had.
func (k *keeper) step(tx *store.Tx, key string) error {
	s := k.room
	k.drawn, k.used, k.again, k.lack = 0, 0, 0, ""
	old, ok := s.services.Get(tx, k.scope, key)
	if !ok || old.Status == statusInactive {
		return nil
	}
	r, before := s.services.Clone(old), s.services.Clone(old)
	k.account(tx, r)
	k.proceed(tx, r)
	plan, err := k.begin(tx, r)
	if err != nil {
		return err
	}
	k.stop(tx, r, plan.Stop)
	r.Deployments = slices.DeleteFunc(r.Deployments, func(d deployment) bool { return slices.Contains(plan.Drop, d.ID) })
	k.conclude(tx, r, plan)
	if !reflect.DeepEqual(r, before) {
		s.services.Put(tx, k.scope, key, r)
	}
	return nil
}

// begin asks the rollout, and starts what it plans.
func (k *keeper) begin(tx *store.Tx, r *serviceRecord) (rollout.Plan, error) {
	if plan, shifts := k.shift(tx, r); shifts {
		return plan.Plan, k.startAll(tx, r, plan.Starts)
	}
	plan, err := k.next(tx, r)
	if err == nil && plan.Failed {
		k.fail(tx, r)
		plan, err = k.next(tx, r)
	}
	if err != nil {
		return plan, err
	}
	if err := k.startOf(tx, r, &r.Deployments[0], plan.Start); err != nil {
		return plan, err
	}
	if plan.StartIn, err = k.startIn(tx, r, plan.StartIn); err != nil {
		return plan, err
	}
	return plan, k.startOn(tx, r, plan.StartOn)
}

// next asks the rollout.
func (k *keeper) next(tx *store.Tx, r *serviceRecord) (rollout.Plan, error) {
	st := k.state(tx, r)
	if !r.daemon() {
		return rollout.Next(st), nil
	}
	nodes, err := k.daemonNodes(tx, r)
	if err != nil {
		return rollout.Plan{Hold: rollout.Refused}, k.refused(r, err)
	}
	if r.Status == statusActive {
		r.Desired = 0
		for _, n := range nodes {
			if n.Want == rollout.Wanted {
				r.Desired++
			}
		}
	}
	return rollout.NextDaemon(st, nodes), nil
}

// account counts tasks that ended by themselves, each once.
func (k *keeper) account(tx *store.Tx, r *serviceRecord) {
	for key, listed := range k.room.tasksByService.List(tx, k.scope, r.Cluster+"/"+r.Name) {
		if listed.LastStatus != taskStopped || listed.Accounted {
			continue
		}
		old, ok := k.room.tasks.Get(tx, k.scope, key)
		if !ok || old.Accounted {
			continue
		}
		t := k.room.tasks.Clone(old)
		t.Accounted = true
		k.room.tasks.Put(tx, k.scope, key, t)
		d := r.deploymentOf(t)
		if d != nil && t.failed() {
			k.failed(r, d, t)
		}
	}
}

// failed tells whether a task that has ended, or is ending, did so by itself or for its
// health.
func (t *Task) failed() bool {
	switch t.StopCode {
	case types.TaskStopCodeServiceSchedulerInitiated:
		return t.StoppedReason == reasonUnhealthy || strings.HasPrefix(t.StoppedReason, reasonTarget)
	case types.TaskStopCodeUserInitiated:
		return false
	}
	return true
}

const reasonUnhealthy = "Task failed container health checks"

// failed counts the failure of a task.
func (k *keeper) failed(r *serviceRecord, d *deployment, t *Task) {
	r.Steady = false
	d.Failed++
	d.UpdatedAt = k.now
	if wait := rollout.BackoffAfter(d.Failed); wait > 0 {
		d.NotBefore = k.now.Add(wait)
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) is unable to consistently start tasks successfully. For more information, see the stopped reason of (task %s): %s", r.Name, t.ID, t.StoppedReason))
	}
}

// state is what the service looks like to the rollout.
func (k *keeper) state(tx *store.Tx, r *serviceRecord) rollout.State {
	st := rollout.State{Now: k.now, Service: rollout.Service{
		Desired: int(r.desired()), MinimumPercent: int(deref(r.Configuration.MinimumHealthyPercent)),
		MaximumPercent: int(deref(r.Configuration.MaximumPercent)), Threshold: r.breakerThreshold(), Rebalance: r.Rebalance,
	}, Zones: k.zones(tx, r)}
	if r.Status != statusActive {
		st.Service.MinimumPercent = 0
	}
	healthy := map[string]bool{}
	for _, t := range k.room.tasksByService.List(tx, k.scope, r.Cluster+"/"+r.Name) {
		if t.LastStatus == taskStopped {
			continue
		}
		seen := k.task(tx, r, t)
		if seen.Phase == rollout.Running && !seen.Waiting && !seen.Unhealthy {
			healthy[t.StartedBy] = true
		}
		st.Tasks = append(st.Tasks, seen)
	}
	slices.SortFunc(st.Tasks, func(a, b rollout.Task) int { return strings.Compare(a.ID, b.ID) })
	for i := range r.Deployments {
		d := &r.Deployments[i]
		if healthy[d.ID] && d.Failed > 0 && r.resetsOnHealthy() {
			d.Failed, d.NotBefore = 0, time.Time{}
		}
		st.Deployments = append(st.Deployments, rollout.Deployment{
			ID: d.ID, Failed: d.Failed, NotBefore: d.NotBefore,
			Done: d.State == types.DeploymentRolloutStateCompleted, GivenUp: d.State == types.DeploymentRolloutStateFailed,
		})
	}
	return st
}

func (s *serviceRecord) resetsOnHealthy() bool {
	b := s.Configuration.DeploymentCircuitBreaker
	return b == nil || b.ResetOnHealthyTask == nil || *b.ResetOnHealthyTask
}

// task is what a task looks like to the rollout. Nothing protects those of a service that
// is deleted. One on an instance that is being drained is to be replaced like those of a
// former deployment.
func (k *keeper) task(tx *store.Tx, r *serviceRecord, t *Task) rollout.Task {
	out := rollout.Task{ID: t.ID, Deployment: t.StartedBy, CreatedAt: t.CreatedAt, Node: t.InstanceID, Zone: t.Zone, Protected: t.protected(k.now) && r.Status == statusActive}
	if out.Protected {
		k.look(t.ProtectedUntil.Sub(k.now))
	}
	if ci, ok := k.room.instances.Get(tx, k.scope, memberKey(t.Cluster, t.InstanceID)); ok && ci.Status == statusDraining && !r.daemon() {
		out.Deployment = ""
	}
	switch {
	case t.DesiredStatus == taskStopped:
		out.Phase = rollout.Stopping
		return out
	case t.LastStatus != taskRunning:
		return out
	}
	out.Phase = rollout.Running
	waits, fails := k.room.targetHealth(k.scope, t)
	grace := t.StartedAt.Add(time.Duration(r.Grace) * time.Second).Sub(k.now)
	switch {
	case t.Health == types.HealthStatusUnhealthy, fails != "" && grace <= 0:
		out.Unhealthy = true
	case fails != "":
		out.Waiting = true
		k.look(grace)
	case waits, t.checksHealth() && t.Health != types.HealthStatusHealthy:
		out.Waiting = true // it is told when it is
	case len(t.Targets) > 0 || t.checksHealth():
	default:
		if left := t.StartedAt.Add(k.room.deps.HealthyAfter).Sub(k.now); left > 0 {
			out.Waiting = true
			k.look(left)
		}
	}
	return out
}

// checksHealth tells whether an essential container has a health check.
func (t *Task) checksHealth() bool {
	return slices.ContainsFunc(t.Containers, func(c TaskContainer) bool { return c.Essential && c.Health != "" })
}

// prepare makes the launch of a deployment's tasks.
func (k *keeper) prepare(tx *store.Tx, r *serviceRecord, d *deployment) error {
	l := k.launch
	l.askedGroup, l.startedBy, l.ofService = "service:"+r.Name, d.ID, r.Name
	l.platformVersion, l.network, l.targets = d.Platform, d.Network, d.targetsOf()
	l.managedTags, l.propagate, l.tags = r.ManagedTags, "", nil
	switch r.Propagate {
	case types.PropagateTagsService:
		l.tags = r.Tags
	case types.PropagateTagsTaskDefinition:
		l.propagate = types.PropagateTagsTaskDefinition
	}
	if err := l.resolve(tx, &r.Cluster, definitionRef(d.version)); err != nil {
		return err
	}
	if r.ManagedTags {
		l.allTags = append(l.allTags, types.Tag{Key: optional("aws:ecs:serviceName"), Value: &r.Name})
	}
	return nil
}

// startOf launches tasks of a deployment, as many as there is room for.
func (k *keeper) startOf(tx *store.Tx, r *serviceRecord, d *deployment, n int) error {
	if n > maxStarts-k.used {
		n = maxStarts - k.used
		k.look(time.Millisecond)
	}
	if n == 0 {
		return nil
	}
	if err := k.prepare(tx, r, d); err != nil {
		return k.refused(r, err)
	}
	l := k.launch
	lots, err := d.lots(l.cluster, n)
	if err != nil {
		return k.refused(r, err)
	}
	var started []string
	var failures []types.Failure
	next := k.used
	k.used += n
	for _, lot := range lots {
		tasks, failed, err := k.room.place(tx, l, lot, l.seeds[next:next+lot.count], r.Constraints, d.strategy(lot, r.Strategy))
		if err != nil {
			return k.refused(r, err)
		}
		next += lot.count
		for _, t := range tasks {
			started = append(started, "(task "+t.ID+")")
		}
		failures = append(failures, failed...)
	}
	k.started(r, d, started, failures)
	return nil
}

// started notes what was started, and what found no place.
func (k *keeper) started(r *serviceRecord, d *deployment, tasks []string, failures []types.Failure) {
	if len(failures) > 0 {
		k.unplaced(r, failures)
	}
	if len(tasks) > 0 {
		r.Steady, d.UpdatedAt = false, k.now
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) has started %d tasks: %s.", r.Name, len(tasks), strings.Join(tasks, " ")))
	}
}

// refused notes why no task can be started, if that is an answer and no fault of ours.
func (k *keeper) refused(r *serviceRecord, err error) error {
	message, ok := refusalOf(err)
	if !ok {
		return err
	}
	r.Steady, k.lack = false, message
	r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) was unable to place a task. Reason: %s", r.Name, message))
	k.look(placeAgain)
	return nil
}

// unplaced notes why tasks found no place: the nearest fit, where there is one.
func (k *keeper) unplaced(r *serviceRecord, failures []types.Failure) {
	why := failures[0]
	for _, f := range failures {
		if f.Detail != nil {
			why = f
		}
	}
	message := fmt.Sprintf("(service %s) was unable to place a task because no container instance met all of its requirements. Reason: %s.", r.Name, deref(why.Reason))
	if why.Detail != nil {
		message += " " + *why.Detail
	}
	r.Steady, k.lack = false, deref(why.Reason)
	if why.Detail != nil {
		k.lack = *why.Detail
	}
	r.say(k.newID("event"), k.now, message)
	k.look(placeAgain)
}

// stop stops tasks that the plan names.
func (k *keeper) stop(tx *store.Tx, r *serviceRecord, stops []rollout.Stop) {
	if len(stops) > maxStops {
		stops = stops[:maxStops]
		k.look(time.Millisecond)
	}
	var stopped []string
	for _, stop := range stops {
		key := memberKey(r.Cluster, stop.ID)
		old, ok := k.room.tasks.Get(tx, k.scope, key)
		if !ok {
			continue
		}
		t := k.room.tasks.Clone(old)
		if !t.requestStop(types.TaskStopCodeServiceSchedulerInitiated, k.stopReason(r, t, stop.Why), k.now) {
			continue
		}
		t.Version++
		if t.LastStatus == taskRunning {
			t.advance(taskStopping, k.now)
		}
		k.room.tasks.Put(tx, k.scope, key, t)
		stopped = append(stopped, "(task "+t.ID+")")
	}
	if len(stopped) > 0 {
		r.Steady = false
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) has stopped %d running tasks: %s.", r.Name, len(stopped), strings.Join(stopped, " ")))
	}
}

func (k *keeper) stopReason(r *serviceRecord, t *Task, why rollout.Why) string {
	if why == rollout.Unhealthy {
		if _, fails := k.room.targetHealth(k.scope, t); fails != "" && t.Health != types.HealthStatusUnhealthy {
			return fails
		}
		return reasonUnhealthy
	}
	return "Scaling activity initiated by (deployment " + r.Deployments[0].ID + ")"
}

// proceed takes the release that goes on a step further: it has begun, or is to be
// rolled back on request.
func (k *keeper) proceed(tx *store.Tx, r *serviceRecord) {
	x, ok := k.room.releases.Get(tx, k.scope, r.Key()+"/"+r.Release)
	switch {
	case !ok || r.Status != statusActive:
	case x.Status == types.ServiceDeploymentStatusPending:
		k.room.ofRelease(tx, k.scope, r, func(x *release) {
			x.Status, x.StartedAt, x.UpdatedAt = types.ServiceDeploymentStatusInProgress, k.now, k.now
		})
	case x.Status == types.ServiceDeploymentStatusRollbackRequested:
		stopped := &r.Deployments[0]
		stopped.State, stopped.Reason, stopped.UpdatedAt = types.DeploymentRolloutStateFailed, reasonRequested, k.now
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) (deployment %s) deployment stopped on request.", r.Name, stopped.ID))
		if !k.rollBack(tx, r, reasonRequested) {
			k.room.endRelease(tx, k.scope, r, types.ServiceDeploymentStatusStopped, reasonNoSource, k.now)
		}
	}
}

// succeed ends the release that goes on well.
func (k *keeper) succeed(tx *store.Tx, r *serviceRecord) {
	k.room.ofRelease(tx, k.scope, r, func(x *release) {
		status := types.ServiceDeploymentStatusSuccessful
		if x.Rollback != nil {
			status = types.ServiceDeploymentStatusRollbackSuccessful
		}
		x.end(r, status, "", k.now)
	})
}

// fail gives the wanted deployment up, and returns to the last one that had all its
// tasks, if that is asked for.
func (k *keeper) fail(tx *store.Tx, r *serviceRecord) {
	failed := &r.Deployments[0]
	failed.State, failed.UpdatedAt = types.DeploymentRolloutStateFailed, k.now
	failed.Reason = "ECS deployment circuit breaker: tasks failed to start."
	r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) (deployment %s) deployment failed: tasks failed to start.", r.Name, failed.ID))
	k.room.ofRelease(tx, k.scope, r, func(x *release) { x.Tripped = true })
	if r.Configuration.DeploymentCircuitBreaker.Rollback && k.rollBack(tx, r, reasonBreaker) {
		return
	}
	k.room.ofRelease(tx, k.scope, r, func(x *release) {
		status := types.ServiceDeploymentStatusStopped
		if x.Rollback != nil {
			status = types.ServiceDeploymentStatusRollbackFailed
		}
		x.end(r, status, reasonFailed, k.now)
	})
}

// rollBack makes the last revision that had all its tasks the wanted one again, unless
// there is none, or it is what has failed.
func (k *keeper) rollBack(tx *store.Tx, r *serviceRecord, reason string) bool {
	if r.Completed == nil || r.Completed.ID == r.Deployments[0].revisionID() {
		return false
	}
	back := deployment{ID: deploymentPrefix + r.Completed.ID, version: r.Completed.version, Alternate: r.Completed.Alternate, CreatedAt: k.now}
	// Of tasks of that revision that still run, the deployment goes on.
	if i := slices.IndexFunc(r.Deployments, func(d deployment) bool { return d.ID == back.ID }); i > 0 {
		back = r.Deployments[i]
		r.Deployments = slices.Delete(r.Deployments, i, i+1)
	}
	back.State, back.UpdatedAt, back.Failed, back.NotBefore = types.DeploymentRolloutStateInProgress, k.now, 0, time.Time{}
	back.Reason = "ECS deployment circuit breaker: rolling back to deployment " + back.ID + "."
	if reason != reasonBreaker {
		back.Reason = "ECS deployment " + back.ID + " in progress: rolling back."
	}
	k.room.ofRelease(tx, k.scope, r, func(x *release) {
		x.Failed, x.Status, x.Reason, x.UpdatedAt = r.Deployments[0].Failed, types.ServiceDeploymentStatusRollbackInProgress, reason, k.now
		x.Rollback = &releaseRollback{Revision: r.Completed.ID, Reason: reason, StartedAt: k.now}
		x.shiftBack(r.Deployments[0].ID, k.now)
	})
	r.Deployments = append([]deployment{back}, r.Deployments...)
	r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) rolling back to deployment %s.", r.Name, back.ID))
	return true
}

// conclude notes what has come to its end.
func (k *keeper) conclude(tx *store.Tx, r *serviceRecord, plan rollout.Plan) {
	if plan.Hold == rollout.Backoff {
		k.look(plan.Until.Sub(k.now))
	}
	hold := holdWords[plan.Hold]
	if k.lack != "" {
		hold = waitPlace
	}
	r.waits(hold, k.lack, k.now)
	d := &r.Deployments[0]
	if plan.Complete && r.Status == statusActive {
		d.State, d.Reason, d.UpdatedAt = types.DeploymentRolloutStateCompleted, "ECS deployment "+d.ID+" completed.", k.now
		r.Completed = d.revision(d.CreatedAt)
		k.succeed(tx, r)
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) (deployment %s) deployment completed.", r.Name, d.ID))
	}
	rests := plan.Start == 0 && plan.StartIn == "" && len(plan.StartOn) == 0 && len(plan.Stop) == 0 && plan.Hold == rollout.Nothing
	if rests && r.Status == statusActive && !r.Steady {
		r.Steady = true
		r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) has reached a steady state.", r.Name))
	}
	if r.Status == statusDraining && k.live(tx, r) == 0 {
		r.Status, r.InactiveAt, r.Deployments = statusInactive, k.now, nil
	}
}

// live is how many tasks of the service are not STOPPED.
func (k *keeper) live(tx *store.Tx, r *serviceRecord) (n int) {
	for _, t := range k.room.tasksByService.List(tx, k.scope, r.Cluster+"/"+r.Name) {
		if t.LastStatus != taskStopped {
			n++
		}
	}
	return n
}

const deploymentPrefix = "ecs-svc/"

// deploymentID is an id as AWS gives it: "ecs-svc/" and 19 digits.
func deploymentID(hex string) string {
	digits := make([]byte, 19)
	for i := range digits {
		digits[i] = '0' + hex[i]%10
	}
	return deploymentPrefix + string(digits)
}
