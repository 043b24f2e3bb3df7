package ecs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/rollout"
	"longshore.dev/longshore/internal/store"
)

// Explanation says why a task, a service or a deployment is as it is.
type Explanation struct {
	ARN   string `json:"arn"`
	State string `json:"state"`
	// Waiting says what is waited for, Since when; it is empty if for nothing.
	Waiting string    `json:"waiting,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Why are the facts behind it, the most telling first.
	Why []string `json:"why,omitempty"`
	// Next says what would change it.
	Next string `json:"next,omitempty"`
}

// waiting is what a service waited for after the loop's last step.
type waiting struct {
	For string `json:"for"` // one of the words below
	// Detail is of the placement, or what refused the launch.
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since"`
}

// What a service can wait for.
const (
	waitHealth     = "HEALTH"
	waitEnds       = "ENDS"
	waitBackoff    = "BACKOFF"
	waitMaximum    = "MAXIMUM"
	waitGivenUp    = "GIVEN_UP"
	waitProtection = "PROTECTION"
	waitPlace      = "PLACE"
	waitTraffic    = "TRAFFIC"
)

var holdWords = map[rollout.Hold]string{
	rollout.Health: waitHealth, rollout.Ends: waitEnds, rollout.Backoff: waitBackoff, rollout.MaximumNoRoom: waitMaximum,
	rollout.GivenUp: waitGivenUp, rollout.Protection: waitProtection, rollout.Refused: waitPlace,
	rollout.Traffic: waitTraffic,
}

// waits notes what a service waits for, and since when.
func (r *serviceRecord) waits(what, detail string, now time.Time) {
	if what == "" {
		r.Waiting = nil
		return
	}
	since := now
	if w := r.Waiting; w != nil && w.For == what {
		since = w.Since
	}
	r.Waiting = &waiting{what, detail, since}
}

// Explain says why a resource is as it is. ref is task/ID, service/NAME or deployment/ID,
// or an ARN of a task, a service or a service deployment.
func (s *Service) Explain(account, region, cluster, ref string) (Explanation, error) {
	sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
	kind, id, _ := strings.Cut(ref, "/")
	if a, ok := parseARN(ref); ok {
		if a.Scope != sc || len(a.Path) < 2 {
			return Explanation{}, errInvalidParameter("%s is not of this account and region.", clip(ref))
		}
		kind, cluster, id = a.Kind, a.Path[0], a.Path[len(a.Path)-1]
	}
	c, err := s.cluster(snap, sc, optional(cluster))
	if err != nil {
		return Explanation{}, err
	}
	switch kind {
	case "task":
		t, ok := s.tasks.Get(snap, sc, memberKey(c.Name, id))
		if !ok {
			return Explanation{}, errInvalidParameter("There is no task %s in the cluster %s; a task is forgotten an hour after its end. `aws ecs list-tasks` lists those that there are.", clip(id), c.Name)
		}
		return s.explainTask(snap, sc, t), nil
	case "service":
		x, ok := s.services.Get(snap, sc, memberKey(c.Name, id))
		if !ok {
			return Explanation{}, errInvalidParameter("There is no service %s in the cluster %s. `aws ecs list-services` lists those that there are.", clip(id), c.Name)
		}
		return s.explainService(snap, sc, x), nil
	case "deployment", kindRelease:
		return s.explainRelease(snap, sc, c.Name, strings.TrimPrefix(id, deploymentPrefix))
	}
	return Explanation{}, errInvalidParameter("%s can't be explained: name task/ID, service/NAME or deployment/ID.", clip(ref))
}

// explainTask says what a task waits for, or why it ended.
func (s *Service) explainTask(r store.Reader, sc store.Scope, t *Task) Explanation {
	e := Explanation{ARN: taskARN(sc, t.Cluster, t.ID), State: t.LastStatus}
	for i := range t.Containers {
		e.Why = append(e.Why, t.Containers[i].fact())
	}
	e.Why = append(e.Why, s.targetFacts(sc, t)...)
	switch {
	case t.LastStatus == taskStopped:
		e.Since = t.StoppedAt
		e.Why = slices.Insert(e.Why, 0, fmt.Sprintf("%s: %s", t.StopCode, orNone(t.StoppedReason)))
		return e
	case t.LastStatus == taskDeactivating:
		e.Waiting, e.Since = "its targets to drain", t.StoppingAt
		e.Why = slices.Insert(e.Why, 0, fmt.Sprintf("it is to be stopped: %s", orNone(t.StoppedReason)))
		e.Next = "a target has drained after the target group's deregistration_delay.timeout_seconds"
	case t.DesiredStatus == taskStopped:
		e.Waiting, e.Since = "its containers to end", t.StoppingAt
		e.Why = slices.Insert(e.Why, 0, fmt.Sprintf("it is being stopped: %s", orNone(t.StoppedReason)))
		e.Next = "a container that ignores SIGTERM is killed after its stopTimeout (30 seconds unless it says otherwise)"
	case t.LastStatus == taskRunning:
		e.Since = t.StartedAt
		if t.Health == types.HealthStatusUnhealthy {
			e.Waiting, e.Next = "its health check to pass", "the health check's command must exit with 0; its output is in the container's logs if it writes there"
		} else if t.checksHealth() && t.Health != types.HealthStatusHealthy {
			e.Waiting, e.Next = "its first health check", "the check runs after its startPeriod, every interval"
		} else if waits, fails := s.targetHealth(sc, t); waits || fails != "" {
			e.Waiting, e.Next = "its targets to be healthy", "the target group's health check must pass healthyThresholdCount times in a row"
		}
	case t.PullStartedAt.IsZero():
		e.Waiting, e.Since, e.Next = "its node to take it", t.CreatedAt, "the node's agent starts with it as soon as it has it"
	case t.PullStoppedAt.IsZero():
		e.Waiting, e.Since, e.Next = "its images to be pulled", t.PullStartedAt, "a pull that fails is tried again, then ends the task with CannotPullContainerError"
	default:
		e.Waiting, e.Since, e.Next = "its containers to start", t.PullStoppedAt, "containers start in the order of dependsOn, each when its conditions hold"
	}
	if n, ok := s.node(r, sc, t.NodeID); ok && !n.Connected {
		e.Waiting, e.Since = "its node's agent to connect", n.ConnectivityAt
		e.Why = slices.Insert(e.Why, 0, fmt.Sprintf("the agent of node %s has been away since %s", n.ID, n.ConnectivityAt.Format(time.RFC3339)))
		e.Next = fmt.Sprintf("when it connects, the task's state is known again; after %s its tasks are given up", s.deps.LostAfter)
	}
	return e
}

// targetFacts are a task's places in target groups, each in one line.
func (s *Service) targetFacts(sc store.Scope, t *Task) (facts []string) {
	if s.deps.Balancer == nil {
		return nil
	}
	for _, p := range t.Targets {
		fact := fmt.Sprintf("port %d of container %s is not yet in target group %s", p.ContainerPort, p.Container, p.Group)
		if p.State != "" {
			fact = fmt.Sprintf("target %s:%d is %s in target group %s", p.Target.ID, p.Target.Port, p.State, p.Group)
			if h := s.deps.Balancer.TargetHealth(sc.Account, sc.Region, p.Group, p.Target); h.State != "" {
				fact += strings.TrimRight(fmt.Sprintf(", %s %s %s", h.State, h.Reason, h.Description), " ")
			}
		}
		facts = append(facts, fact)
	}
	return facts
}

// fact is a container in one line.
func (c *TaskContainer) fact() string {
	out := fmt.Sprintf("container %s is %s", c.Name, c.LastStatus)
	if c.ExitCode != nil {
		out += fmt.Sprintf(" with exit code %d", *c.ExitCode)
	}
	if c.Health != "" && c.LastStatus == taskRunning {
		out += ", " + string(c.Health)
	}
	if c.Reason != "" {
		out += ": " + c.Reason
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "no reason was given"
	}
	return s
}

// Bounds of what an explanation lists.
const maxExplained = 5

// explainService says what a service waits for.
func (s *Service) explainService(r store.Reader, sc store.Scope, x *serviceRecord) Explanation {
	e := Explanation{ARN: serviceARNOf(sc, x.Cluster, x.Name), State: x.Status}
	counts := s.countByStarter(r, sc, x.Cluster, x.Name)
	for i := range x.Deployments {
		d := &x.Deployments[i]
		n := counts[d.ID]
		if n == nil {
			n = &serviceCount{}
		}
		role := "wanted"
		if i > 0 {
			role = "former"
		}
		e.Why = append(e.Why, fmt.Sprintf("deployment %s (%s, %s): %d tasks RUNNING, %d on their way, %d failed", d.ID, definitionRef(d.version), role, n.running, n.pending, d.Failed))
		e.Why = append(e.Why, s.lastFailures(r, sc, x, d)...)
	}
	if x.Status == statusInactive {
		e.Since = x.InactiveAt
		return e
	}
	if w := x.Waiting; w != nil {
		e.Since = w.Since
		e.Waiting, e.Next = x.held(w, s.now())
		if w.For == waitTraffic {
			e.Waiting, e.Next = s.heldTraffic(r, sc, x)
		}
		if w.For == waitHealth || w.For == waitEnds {
			e.Why = append(e.Why, s.slowTasks(r, sc, x, w.For)...)
		}
	} else if x.Status == statusActive {
		e.Why = slices.Insert(e.Why, 0, fmt.Sprintf("it has the %d tasks that it wants", x.Desired))
	}
	return e
}

// held says what a hold means for the service, and what would end it.
func (x *serviceRecord) held(w *waiting, now time.Time) (what, next string) {
	d := &x.Deployments[0]
	least, most := deref(x.Configuration.MinimumHealthyPercent), deref(x.Configuration.MaximumPercent)
	switch w.For {
	case waitHealth:
		return "tasks of the wanted deployment to be healthy", "a task counts as healthy when its health check passes, or, without one, after it has run for 40 seconds"
	case waitEnds:
		return "tasks that are being stopped to be gone", "a container that ignores SIGTERM is killed after its stopTimeout"
	case waitBackoff:
		return fmt.Sprintf("%s to pass before the next start, after %d failed tasks in a row", d.NotBefore.Sub(now).Round(time.Second), d.Failed), "a deployment whose tasks stay up; the failed tasks' reasons are above"
	case waitMaximum:
		return fmt.Sprintf("room: maximumPercent %d lets no task be started, and minimumHealthyPercent %d none be stopped", most, least), "raise maximumPercent, or lower minimumHealthyPercent"
	case waitGivenUp:
		return "another deployment: this one has failed", "update the service to a version whose tasks stay up"
	case waitProtection:
		return "the protection of tasks to end that are to be stopped", "aws ecs update-task-protection --no-protection-enabled, or the end of its time"
	default:
		return "a place for its tasks: " + w.Detail, "add or free capacity, or change what the task definition asks for"
	}
}

// heldTraffic says what a service waits for whose traffic shifts.
func (s *Service) heldTraffic(r store.Reader, sc store.Scope, x *serviceRecord) (what, next string) {
	rel := s.shifting(r, sc, x)
	if rel == nil {
		return "its deployment to go on", ""
	}
	h := rel.Shift
	if run, pause := rel.pausedAt(); run != nil && pause {
		return fmt.Sprintf("somebody to end its pause at %s", h.Stage), fmt.Sprintf("aws ecs continue-service-deployment --service-deployment-arn %s --hook-id %s, or its timeout at %s", releaseARN(sc, rel), run.ID, run.ExpiresAt.Format(time.RFC3339))
	} else if run != nil {
		return fmt.Sprintf("lifecycle hook %s at %s", run.ID, h.Stage), "the end of the task that was started by " + hookStarter + run.ID
	}
	for _, f := range x.forwardings(rel) {
		if !s.forwards(sc, f) {
			return fmt.Sprintf("load balancers to shift traffic at %s", h.Stage), fmt.Sprintf("%s has to forward as asked for; the role %s must be allowed to change it", f.rule, f.role)
		}
	}
	production, _ := rel.weights()
	return fmt.Sprintf("the time of %s, with %g %% of the traffic at the new tasks", h.Stage, production), "the end of that time, or aws ecs stop-service-deployment"
}

// slowTasks are the tasks that a service waits for.
func (s *Service) slowTasks(r store.Reader, sc store.Scope, x *serviceRecord, hold string) (facts []string) {
	for _, t := range s.tasksByService.List(r, sc, x.Cluster+"/"+x.Name) {
		ending := t.DesiredStatus == taskStopped
		if t.LastStatus == taskStopped || ending != (hold == waitEnds) || !ending && t.StartedBy != x.Deployments[0].ID {
			continue
		}
		e := s.explainTask(r, sc, t)
		if e.Waiting == "" {
			if t.checksHealth() || s.now().Sub(t.StartedAt) >= s.deps.HealthyAfter {
				continue
			}
			e.Waiting = fmt.Sprintf("%s of running to count as healthy", s.deps.HealthyAfter)
		}
		facts = append(facts, fmt.Sprintf("task %s (%s) waits for %s", t.ID, t.LastStatus, e.Waiting))
		if len(facts) == maxExplained {
			break
		}
	}
	return facts
}

// lastFailures are a deployment's tasks that ended by themselves, the latest first.
func (s *Service) lastFailures(r store.Reader, sc store.Scope, x *serviceRecord, d *deployment) (facts []string) {
	var ended []*Task
	for _, t := range s.tasksByStarter.List(r, sc, x.Cluster+"/"+d.ID) {
		if t.LastStatus == taskStopped && t.failed() {
			ended = append(ended, t)
		}
	}
	slices.SortFunc(ended, func(a, b *Task) int { return b.StoppedAt.Compare(a.StoppedAt) })
	for _, t := range ended[:min(len(ended), maxExplained)] {
		fact := fmt.Sprintf("task %s ended at %s: %s", t.ID, t.StoppedAt.Format(time.RFC3339), orNone(t.StoppedReason))
		for i := range t.Containers {
			if c := &t.Containers[i]; c.Essential && (c.Reason != "" || c.ExitCode != nil) {
				fact += "; " + c.fact()
			}
		}
		facts = append(facts, fact)
	}
	return facts
}

// explainRelease says how far a deployment is. id is a service deployment's, or the digits
// of a deployment's.
func (s *Service) explainRelease(r store.Reader, sc store.Scope, cluster, id string) (Explanation, error) {
	for _, x := range s.releases.ListPrefix(r, sc, cluster+"/") {
		if x.ID != id && x.Target != id {
			continue
		}
		e := Explanation{ARN: releaseARN(sc, x), State: string(x.Status), Since: x.UpdatedAt}
		if x.Reason != "" {
			e.Why = append(e.Why, x.Reason)
		}
		if x.over() {
			return e, nil
		}
		if service, ok := s.services.Get(r, sc, memberKey(x.Cluster, x.Service)); ok && service.Release == x.ID {
			of := s.explainService(r, sc, service)
			e.Waiting, e.Since, e.Next = of.Waiting, of.Since, of.Next
			e.Why = append(e.Why, of.Why...)
		}
		return e, nil
	}
	return Explanation{}, errInvalidParameter("There is no deployment %s in the cluster %s. `aws ecs list-service-deployments` lists a service's.", clip(id), cluster)
}
