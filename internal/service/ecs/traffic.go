package ecs

import (
	"context"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/store"
)

// Acting is as whom, and for which resource, services act: the role is assumed as
// ecs.amazonaws.com, and its policies decide.
type Acting struct{ Role, For string }

// Infrastructure is what services do to other resources under a role. An API error is a
// refusal.
type Infrastructure interface {
	// Forward has a listener's rule forward to target groups, by weight. rule is the ARN of
	// a rule, or of a listener, whose default action it is then.
	Forward(ctx context.Context, account, region string, as Acting, rule string, weights map[string]int32) error
	// RunTask is the operation.
	RunTask(ctx context.Context, account, region string, as Acting, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error)
}

// forwarding is what a rule of a load balancer is to do for a service.
type forwarding struct {
	rule, role string
	weights    map[string]int32 // by target group
}

// groupOf is the target group of a load balancer's two that the deployment takes.
func (d *deployment) groupOf(b *types.LoadBalancer) string {
	if a := b.AdvancedConfiguration; d.Alternate && a != nil && deref(a.AlternateTargetGroupArn) != "" {
		return *a.AlternateTargetGroupArn
	}
	return deref(b.TargetGroupArn)
}

// forwardings are what the rules of a service's load balancers are to do now.
func (r *serviceRecord) forwardings(x *release) (all []forwarding) {
	first := &r.Deployments[0]
	production, test := x.weights()
	add := func(rule *string, b *types.LoadBalancer, percent float64) {
		if deref(rule) == "" {
			return
		}
		mine := first.groupOf(b)
		other := deref(b.TargetGroupArn)
		if mine == other {
			other = deref(b.AdvancedConfiguration.AlternateTargetGroupArn)
		}
		a, o := weighedOut(percent)
		all = append(all, forwarding{*rule, deref(b.AdvancedConfiguration.RoleArn), map[string]int32{mine: a, other: o}})
	}
	for i := range first.LoadBalancers {
		if b := &first.LoadBalancers[i]; b.AdvancedConfiguration != nil {
			add(b.AdvancedConfiguration.ProductionListenerRule, b, production)
			add(b.AdvancedConfiguration.TestListenerRule, b, test)
		}
	}
	return all
}

// weighedOut makes integers of a percentage of one digit after the point, and of its rest.
func weighedOut(percent float64) (part, rest int32) {
	if percent == math.Trunc(percent) {
		return int32(percent), 100 - int32(percent)
	}
	part = int32(math.Round(percent * 10))
	return part, 1000 - part
}

// weighed tells whether the load balancers do what a release asks for.
func (s *Service) weighed(r store.Reader, sc store.Scope, x *serviceRecord, rel *release) bool {
	for _, f := range x.forwardings(rel) {
		if !s.forwards(sc, f) {
			return false
		}
	}
	return true
}

// forwards tells whether a rule does what it is to do. Both groups have to be in it: only
// then are their targets checked.
func (s *Service) forwards(sc store.Scope, f forwarding) bool {
	if s.deps.Balancer == nil {
		return false
	}
	has, ok := s.deps.Balancer.Rule(sc.Account, sc.Region, f.rule)
	if !ok || len(has) != len(f.weights) {
		return false
	}
	for group, weight := range f.weights {
		if there, ok := has[group]; !ok || there != weight {
			return false
		}
	}
	return true
}

// watchTraffic makes the loop that has load balancers shift traffic, and that runs hooks.
func (s *Service) watchTraffic() {
	s.trafficLoop = reconcile.New(reconcile.Options{
		Name: "ecs traffic", Log: s.log, Resync: time.Minute, Workers: 2,
		QueueOptions: reconcile.QueueOptions{Clock: clock{s.now}},
		Keys: func() iter.Seq[string] {
			return func(yield func(string) bool) {
				for ref, x := range s.releases.ListAll(s.db.Snapshot()) {
					if !x.over() && x.Shift != nil && !yield(nodeKey(store.Ref{Scope: ref.Scope, ID: memberKey(x.Cluster, x.Service)})) {
						return
					}
				}
			}
		},
		Reconcile: s.reconcileTraffic,
	})
	s.releases.Subscribe(func(c store.Change[release]) {
		if c.New != nil {
			key := nodeKey(store.Ref{Scope: c.Scope, ID: memberKey(c.New.Cluster, c.New.Service)})
			s.trafficLoop.Add(key)
			s.serviceLoop.Add(key)
		}
	})
	s.tasks.Subscribe(func(c store.Change[Task]) {
		if c.New != nil && c.New.ofHook() && c.New.LastStatus == taskStopped {
			s.wakeServices(c.Scope, c.New.Cluster+"/")
		}
	})
}

// reconcileTraffic does for a service's release what is done outside of transactions; all of
// it may be repeated.
func (s *Service) reconcileTraffic(ctx context.Context, key string) (again time.Duration, err error) {
	ref, ok := nodeRef(key)
	if !ok || s.deps.Infrastructure == nil {
		return 0, nil
	}
	snap := s.db.Snapshot()
	r, ok := s.services.Get(snap, ref.Scope, ref.ID)
	if !ok {
		return 0, nil
	}
	x := s.shifting(snap, ref.Scope, r)
	if x == nil {
		return 0, nil
	}
	for _, f := range r.forwardings(x) {
		if s.forwards(ref.Scope, f) {
			continue
		}
		err := s.deps.Infrastructure.Forward(ctx, ref.Account, ref.Region, Acting{Role: f.role, For: serviceARNOf(ref.Scope, r.Cluster, r.Name)}, f.rule, f.weights)
		if err != nil {
			return 0, s.untaken(ctx, ref, f.rule, err)
		}
		s.serviceLoop.Add(key)
	}
	if err := s.startHooks(ctx, ref.Scope, r, x); err != nil {
		return 0, s.untaken(ctx, ref, "", err)
	}
	return 0, nil
}

// untaken notes in the service's events what a load balancer or a hook did not take.
func (s *Service) untaken(ctx context.Context, ref store.Ref, rule string, cause error) error {
	what := cause.Error()
	if message, refused := refusalOf(cause); refused {
		what = message
	}
	id, now := s.id(), s.now().UTC()
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.services.Get(tx, ref.Scope, ref.ID)
		if !ok {
			return nil
		}
		r := s.services.Clone(old)
		message := fmt.Sprintf("(service %s) is unable to go on with its deployment: %s", r.Name, what)
		if rule != "" {
			message = fmt.Sprintf("(service %s) was unable to shift traffic with %s: %s", r.Name, rule, what)
		}
		if r.say(id, now, message); len(r.Events) != len(old.Events) || r.Events[0] != old.Events[0] {
			s.services.Put(tx, ref.Scope, ref.ID, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return cause
}
