package ecs

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/store"
)

// Balancer is what services need of the load balancers' room. Its calls are made outside
// of transactions, and may be repeated: both registering and deregistering are
// idempotent. Reading is from memory.
type Balancer interface {
	// TargetGroup describes a target group; ok is false if there is none.
	TargetGroup(account, region, arn string) (group TargetGroup, ok bool)
	RegisterTarget(ctx context.Context, account, region, group string, t Target) error
	DeregisterTarget(ctx context.Context, account, region, group string, t Target) error
	// TargetHealth is a target's state; the zero value for one that is not registered.
	TargetHealth(account, region, group string, t Target) TargetHealth
	// Rule returns the weights of the target groups that a listener's rule forwards to, or a
	// listener by default; ok is false if there is none, or it does not forward.
	Rule(account, region, arn string) (weights map[string]int32, ok bool)
	// Subscribe has notify called after the state of a group's targets may have changed.
	Subscribe(notify func(account, region, group string))
}

// TargetGroup is what of a target group matters to services.
type TargetGroup struct {
	Type          string   // instance or ip
	LoadBalancers []string // ARNs
}

// Target is one address in a target group: an instance's id or an IP address, and a port.
type Target struct {
	ID   string `json:"id,omitempty"`
	Port int32  `json:"port,omitempty"`
}

// TargetHealth is Elastic Load Balancing's state of a target: initial, healthy, unhealthy,
// draining, unused, unavailable.
type TargetHealth struct{ State, Reason, Description string }

// States of targets that services look at.
const (
	targetHealthy   = "healthy"
	targetUnhealthy = "unhealthy"
	targetDraining  = "draining"
	targetUnused    = "unused"
)

// TaskTarget is a place of a task in a target group.
type TaskTarget struct {
	Group         string `json:"group"`
	Container     string `json:"container"`
	ContainerPort int32  `json:"containerPort"`
	// Target is known when the task runs. The loop in this file writes it and State:
	// empty, REGISTERING, REGISTERED, DRAINING (deregistered), DEREGISTERED (it gets
	// nothing more).
	Target Target `json:"target,omitzero"`
	State  string `json:"state,omitempty"`
}

// States of a TaskTarget.
const (
	placeRegistering  = "REGISTERING"
	placeRegistered   = "REGISTERED"
	placeDraining     = "DRAINING"
	placeDeregistered = "DEREGISTERED"
)

// drainLook is how often a target that drains is looked at, should nothing tell of it.
const drainLook = 5 * time.Second

// serves tells whether requests may still come to the task through a load balancer.
func (t *Task) serves() bool {
	return slices.ContainsFunc(t.Targets, func(p TaskTarget) bool { return p.State != "" && p.State != placeDeregistered })
}

// agentDesired is what the task's agent is told to aim for: a task that still serves runs
// on until its targets are drained.
func (t *Task) agentDesired() string {
	if t.LastStatus == taskDeactivating {
		return taskRunning
	}
	return t.DesiredStatus
}

// watchTargets makes the loop that registers and deregisters the targets of tasks.
func (s *Service) watchTargets() {
	s.targetLoop = reconcile.New(reconcile.Options{
		Name: "ecs targets", Log: s.log, Resync: time.Minute, Workers: 4,
		QueueOptions: reconcile.QueueOptions{Clock: clock{s.now}},
		Keys: func() iter.Seq[string] {
			return func(yield func(string) bool) {
				for ref, t := range s.tasks.ListAll(s.db.Snapshot()) {
					if len(t.Targets) > 0 && !yield(nodeKey(ref)) {
						return
					}
				}
			}
		},
		Reconcile: s.reconcileTargets,
	})
	s.tasks.Subscribe(func(c store.Change[Task]) {
		if c.New != nil && len(c.New.Targets) > 0 {
			s.targetLoop.Add(nodeKey(c.Ref))
		}
	})
	if s.deps.Balancer == nil {
		return
	}
	s.deps.Balancer.Subscribe(func(account, region, group string) {
		sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
		for key, r := range s.services.List(snap, sc) {
			if r.Status == statusInactive || !r.uses(group) {
				continue
			}
			s.serviceLoop.Add(nodeKey(store.Ref{Scope: sc, ID: key}))
			for task, t := range s.tasksByService.List(snap, sc, key) {
				if t.serves() && t.DesiredStatus == taskStopped {
					s.targetLoop.Add(nodeKey(store.Ref{Scope: sc, ID: task}))
				}
			}
		}
	})
}

// uses tells whether tasks of a service are in a target group.
func (r *serviceRecord) uses(group string) bool {
	return slices.ContainsFunc(r.Deployments, func(d deployment) bool {
		return slices.ContainsFunc(d.LoadBalancers, func(b types.LoadBalancer) bool { return d.groupOf(&b) == group })
	})
}

// reconcileTargets takes a task's targets one step further, outside of any transaction,
// and then notes what was done. Whatever is repeated after a crash changes nothing.
func (s *Service) reconcileTargets(ctx context.Context, key string) (again time.Duration, err error) {
	ref, ok := nodeRef(key)
	if !ok || s.deps.Balancer == nil {
		return 0, nil
	}
	t, ok := s.tasks.Get(s.db.Snapshot(), ref.Scope, ref.ID)
	if !ok || len(t.Targets) == 0 {
		return 0, nil
	}
	next := s.tasks.Clone(t)
	var said []string
	for i := range next.Targets {
		event, err := s.moveTarget(ctx, ref.Scope, t, &next.Targets[i])
		if err != nil {
			return 0, err
		}
		if event != "" {
			said = append(said, event)
		}
		if next.Targets[i].State == placeDraining {
			again = drainLook
		}
	}
	return again, s.db.Update(ctx, func(tx *store.Tx) error { return s.noteTargets(tx, ref, next, said) })
}

// moveTarget registers a target whose task runs, deregisters one whose task is to stop or
// has, and sees when it has drained. That a target is to be registered is noted first, so
// that no task is stopped that has just got requests.
func (s *Service) moveTarget(ctx context.Context, sc store.Scope, t *Task, p *TaskTarget) (event string, err error) {
	b := s.deps.Balancer
	runs := t.LastStatus == taskRunning && t.DesiredStatus == taskRunning
	switch {
	case runs && p.State == "":
		target, ok := t.target(b, sc, p)
		if !ok {
			return "", fmt.Errorf("task %s has no address for port %d of container %s yet", t.ID, p.ContainerPort, p.Container)
		}
		p.Target, p.State = target, placeRegistering
	case runs && p.State == placeRegistering:
		if err := b.RegisterTarget(ctx, sc.Account, sc.Region, p.Group, p.Target); err != nil {
			return "", fmt.Errorf("register task %s in %s: %w", t.ID, p.Group, err)
		}
		p.State = placeRegistered
		return "registered 1 targets in (target-group " + p.Group + ").", nil
	case !runs && (p.State == placeRegistering || p.State == placeRegistered):
		if err := b.DeregisterTarget(ctx, sc.Account, sc.Region, p.Group, p.Target); err != nil {
			return "", fmt.Errorf("deregister task %s from %s: %w", t.ID, p.Group, err)
		}
		p.State = placeDraining
		return "deregistered 1 targets in (target-group " + p.Group + ").", nil
	case p.State == placeDraining && b.TargetHealth(sc.Account, sc.Region, p.Group, p.Target).State != targetDraining:
		p.State = placeDeregistered
	}
	return "", nil
}

// target is the address at which a task serves.
func (t *Task) target(b Balancer, sc store.Scope, p *TaskTarget) (Target, bool) {
	if t.ENI != nil {
		return Target{ID: t.ENI.Address, Port: p.ContainerPort}, true
	}
	port := int32(0)
	for i := range t.Containers {
		if t.Containers[i].Name != p.Container {
			continue
		}
		for _, n := range t.Containers[i].NetworkBindings {
			if deref(n.ContainerPort) == p.ContainerPort && n.HostPort != nil {
				port = *n.HostPort
			}
		}
	}
	if port == 0 && t.NetworkMode == types.NetworkModeHost {
		port = p.ContainerPort
	}
	return Target{ID: t.NodeID, Port: port}, port != 0
}

// noteTargets notes what was done with a task's targets; a task whose last one has drained
// is stopped now.
func (s *Service) noteTargets(tx *store.Tx, ref store.Ref, done *Task, said []string) error {
	old, ok := s.tasks.Get(tx, ref.Scope, ref.ID)
	if !ok {
		return nil
	}
	now := s.now().UTC()
	t := s.tasks.Clone(old)
	changed := !slices.Equal(t.Targets, done.Targets)
	t.Targets = done.Targets
	if t.LastStatus == taskDeactivating && !t.serves() {
		changed = t.advance(taskStopping, now) || changed
	}
	if !changed {
		return nil
	}
	t.Version++
	s.tasks.Put(tx, ref.Scope, ref.ID, t)
	if r, ok := s.services.Get(tx, ref.Scope, memberKey(t.Cluster, t.Service)); ok && len(said) > 0 {
		r = s.services.Clone(r)
		for i, event := range said {
			r.say(derive(t.ID+event, fmt.Sprint(now.UnixNano(), i), 32), now, fmt.Sprintf("(service %s) %s", r.Name, event))
		}
		s.services.Put(tx, ref.Scope, r.Key(), r)
	}
	return nil
}

// targetHealth is the state of a task's targets together: whether it waits for one, and
// why one fails.
func (s *Service) targetHealth(sc store.Scope, t *Task) (waits bool, fails string) {
	if s.deps.Balancer == nil {
		return false, ""
	}
	for _, p := range t.Targets {
		if p.State != placeRegistered {
			waits = true
			continue
		}
		switch h := s.deps.Balancer.TargetHealth(sc.Account, sc.Region, p.Group, p.Target); h.State {
		case targetHealthy, targetUnused: // nobody asks an unused one
		case targetUnhealthy:
			fails = fmt.Sprintf("%s (target-group %s): %s", reasonTarget, p.Group, strings.TrimSpace(h.Reason+" "+h.Description))
		default:
			waits = true
		}
	}
	return waits, fails
}

const reasonTarget = "Task failed ELB health checks in"

// maxTargetGroups is AWS's limit for a service.
const maxTargetGroups = 5

// checkLoadBalancers refuses load balancers that no task could be registered with.
func (s *Service) checkLoadBalancers(sc store.Scope, d *types.TaskDefinition, balancers []types.LoadBalancer) error {
	if len(balancers) > maxTargetGroups {
		return errInvalidParameter("loadBalancers can have at most %d items.", maxTargetGroups)
	}
	for i := range balancers {
		b := &balancers[i]
		arn := deref(b.TargetGroupArn)
		switch {
		case deref(b.LoadBalancerName) != "":
			return errUnsupported("Classic Load Balancers are not supported: name a target group.")
		case s.deps.Balancer == nil:
			return errUnsupported("loadBalancers are not supported yet: there is no Elastic Load Balancing.")
		case arn == "":
			return errInvalidParameter("loadBalancers[%d] has no targetGroupArn.", i)
		}
		if err := s.checkGroup(sc, d, arn); err != nil {
			return err
		}
		if err := s.checkAdvanced(sc, d, b); err != nil {
			return err
		}
		if err := checkBalancedPort(d, b); err != nil {
			return err
		}
	}
	return nil
}

// checkGroup refuses a target group that tasks of a definition can't be in.
func (s *Service) checkGroup(sc store.Scope, d *types.TaskDefinition, arn string) error {
	group, ok := s.deps.Balancer.TargetGroup(sc.Account, sc.Region, arn)
	if !ok {
		return errInvalidParameter("Unable to assume role and validate the specified targetGroupArn: the target group %s does not exist.", clip(arn))
	}
	if len(group.LoadBalancers) == 0 {
		return errInvalidParameter("The target group with targetGroupArn %s does not have an associated load balancer.", arn)
	}
	want := "instance"
	if d.NetworkMode == types.NetworkModeAwsvpc {
		want = "ip"
	}
	if group.Type != want {
		return errInvalidParameter("The provided target group %s has target type %s, which is incompatible with the %s network mode specified in the task definition.", arn, group.Type, orBridge(d.NetworkMode))
	}
	return nil
}

func orBridge(m types.NetworkMode) types.NetworkMode {
	if m == "" {
		return types.NetworkModeBridge
	}
	return m
}

func checkBalancedPort(d *types.TaskDefinition, b *types.LoadBalancer) error {
	name, port := deref(b.ContainerName), deref(b.ContainerPort)
	i := slices.IndexFunc(d.ContainerDefinitions, func(c types.ContainerDefinition) bool { return deref(c.Name) == name })
	if i < 0 {
		return errInvalidParameter("The container %s does not exist in the task definition.", clip(name))
	}
	mapped := slices.ContainsFunc(d.ContainerDefinitions[i].PortMappings, func(m types.PortMapping) bool { return deref(m.ContainerPort) == port })
	if !mapped {
		return errInvalidParameter("The container %s did not have a container port %d defined.", name, port)
	}
	return nil
}

// targetsOf are the places that a task of a deployment takes.
func (d *deployment) targetsOf() (targets []TaskTarget) {
	for i := range d.LoadBalancers {
		b := &d.LoadBalancers[i]
		targets = append(targets, TaskTarget{Group: d.groupOf(b), Container: deref(b.ContainerName), ContainerPort: deref(b.ContainerPort)})
	}
	return targets
}
