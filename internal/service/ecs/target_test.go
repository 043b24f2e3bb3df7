package ecs

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const testGroup = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"

// balancer is load balancers whose targets' states the test sets.
type balancer struct {
	groups  map[string]TargetGroup
	targets map[Target]string
	notify  func(account, region, group string)
	rules   map[string]map[string]int32
}

func (b *balancer) Rule(_, _, arn string) (map[string]int32, bool) {
	w, ok := b.rules[arn]
	return w, ok
}

func (b *balancer) TargetGroup(_, _, arn string) (TargetGroup, bool) {
	g, ok := b.groups[arn]
	return g, ok
}

func (b *balancer) RegisterTarget(_ context.Context, _, _, _ string, t Target) error {
	if b.targets[t] == "" {
		b.targets[t] = "initial"
	}
	return nil
}

func (b *balancer) DeregisterTarget(_ context.Context, _, _, _ string, t Target) error {
	if b.targets[t] != "" {
		b.targets[t] = targetDraining
	}
	return nil
}

func (b *balancer) TargetHealth(_, _, _ string, t Target) TargetHealth {
	return TargetHealth{State: b.targets[t], Reason: "Target.Reason"}
}

func (b *balancer) Subscribe(notify func(account, region, group string)) { b.notify = notify }

// move takes all targets of one state to another ("": gone).
func (b *balancer) move(from, to string) {
	for t, state := range maps.Clone(b.targets) {
		if state == from {
			b.targets[t] = to
		}
		if b.targets[t] == "" {
			delete(b.targets, t)
		}
	}
}

func (b *balancer) count(state string) (n int) {
	for _, s := range b.targets {
		if s == state {
			n++
		}
	}
	return n
}

func balancedRoom(t *testing.T) (*room, *balancer) {
	b := &balancer{groups: map[string]TargetGroup{testGroup: {Type: "instance", LoadBalancers: []string{"lb"}}}, targets: map[Target]string{}}
	r := newRoom(t, func(d *Deps) { d.Balancer = b })
	r.join("n1", "default", 100_000, 100_000)
	for revision := range int32(2) {
		d := simple("web", 1, 6)
		d.Revision = revision + 1
		d.ContainerDefinitions[0].PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80)}}
		r.define(d)
	}
	return r, b
}

func balanced(in *ecs.CreateServiceInput) {
	in.LoadBalancers = []types.LoadBalancer{{TargetGroupArn: aws.String(testGroup), ContainerName: aws.String("main"), ContainerPort: aws.Int32(80)}}
}

// turn runs the loops once over, on a node that obeys. Each task gets a host port of its own.
func (r *room) turn() {
	r.t.Helper()
	for range 4 {
		r.keep()
		for key := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
			if _, err := r.reconcileTargets(context.Background(), testAccount+"/"+testRegion+"/"+key); err != nil {
				r.t.Fatal(err)
			}
		}
		// What it can't do is in the service's events.
		_, _ = r.reconcileTraffic(context.Background(), testAccount+"/"+testRegion+"/default/svc")
	}
	port := int32(32768)
	for _, t := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
		port++
		arn := taskARN(testScope, "default", t.ID)
		switch {
		case t.LastStatus == taskStopped:
		case t.agentDesired() == taskStopped:
			r.report(t.NodeID, arn, "STOPPED", stopped("main", 0))
		case t.LastStatus == taskPending:
			c := running("main")
			c.NetworkBindings = []types.NetworkBinding{{ContainerPort: aws.Int32(80), HostPort: aws.Int32(port + int32(r.ids.Add(1))%20000)}}
			r.report(t.NodeID, arn, "RUNNING", c)
		}
	}
}

func (r *room) turns(n int) {
	r.t.Helper()
	for range n {
		r.turn()
	}
}

// A task counts only when its target is healthy; one that goes is deregistered first, and
// stopped when its target has drained.
func TestServiceBehindALoadBalancer(t *testing.T) {
	r, b := balancedRoom(t)
	r.create(2, balanced)
	r.turns(3)
	if s := r.service(); b.count("initial") != 2 || s.RunningCount != 2 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateInProgress {
		t.Fatalf("%v, %d run, the rollout is %s", b.targets, s.RunningCount, s.Deployments[0].RolloutState)
	}
	r.wantEvent("registered 1 targets in (target-group " + testGroup + ").")
	r.explained("service/svc", "to be healthy", "waits for its targets to be healthy")
	b.move("initial", targetHealthy)
	r.turns(1)
	if s := r.service(); s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted || len(s.LoadBalancers) != 1 {
		t.Errorf("the rollout is %s, the load balancers %v", s.Deployments[0].RolloutState, s.LoadBalancers)
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.turns(3)
	if b.count(targetHealthy) != 2 || b.count("initial") != 2 || len(r.serviceTasks(1)) != 2 {
		t.Errorf("before the new ones are healthy: %v", b.targets)
	}
	old := r.serviceTasks(1)
	b.move("initial", targetHealthy)
	r.turns(3)
	if b.count(targetDraining) != 2 || b.count(targetHealthy) != 2 {
		t.Fatalf("then: %v", b.targets)
	}
	for _, arn := range old {
		if k := r.describe("default", arn); deref(k.LastStatus) != "DEACTIVATING" || deref(k.DesiredStatus) != "STOPPED" {
			t.Errorf("while it drains, it is %s, wanted %s", deref(k.LastStatus), deref(k.DesiredStatus))
		}
	}
	r.explained("task/"+lastPart(old[0]), "its targets to drain", "is DRAINING in target group "+testGroup+", draining")
	b.move(targetDraining, "")
	r.turns(2)
	for _, arn := range old {
		if k := r.describe("default", arn); deref(k.LastStatus) != "STOPPED" {
			t.Errorf("when it has drained, it is %s", deref(k.LastStatus))
		}
	}
	if s := r.service(); len(s.Deployments) != 1 || s.RunningCount != 2 {
		t.Errorf("%d deployments, %d run", len(s.Deployments), s.RunningCount)
	}
}

// A task whose target fails is replaced after the grace period, and counts as failed.
func TestTargetThatFails(t *testing.T) {
	r, b := balancedRoom(t)
	r.create(1, balanced, func(in *ecs.CreateServiceInput) { in.HealthCheckGracePeriodSeconds = aws.Int32(60) })
	r.turns(3)
	b.move("initial", targetUnhealthy)
	if r.turns(2); len(r.serviceTasks(1)) != 1 {
		t.Errorf("within the grace period there are %d tasks", len(r.serviceTasks(1)))
	}
	first := r.serviceTasks(1)[0]
	r.advanceClock(time.Minute)
	r.turns(3)
	if b.count("initial") != 1 || b.count(targetUnhealthy) != 1 {
		t.Errorf("after it: %v", b.targets)
	}
	b.move("initial", targetHealthy)
	r.turns(3)
	b.move(targetDraining, "")
	r.turns(3)
	if k := r.describe("default", first); !strings.HasPrefix(deref(k.StoppedReason), "Task failed ELB health checks in (target-group "+testGroup+")") || deref(k.LastStatus) != "STOPPED" {
		t.Errorf("it is %s: %s", deref(k.LastStatus), deref(k.StoppedReason))
	}
	if s := r.service(); s.RunningCount != 1 {
		t.Errorf("%d run", s.RunningCount)
	}
}

// Whatever ends a task, its target is deregistered: by hand after it has drained, by itself
// at once.
func TestTargetsOfTasksThatEnd(t *testing.T) {
	r, b := balancedRoom(t)
	r.create(2, balanced)
	r.turns(3)
	b.move("initial", targetHealthy)
	r.turns(1)
	tasks := r.serviceTasks(1)
	if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &tasks[0]}); err != nil {
		t.Fatal(err)
	}
	if k := r.describe("default", tasks[0]); deref(k.LastStatus) != "DEACTIVATING" {
		t.Errorf("stopped by hand it is %s", deref(k.LastStatus))
	}
	r.report("n1", tasks[1], "STOPPED", stopped("main", 1))
	r.turns(3)
	if b.count(targetDraining) != 2 {
		t.Errorf("%v", b.targets)
	}
	b.move(targetDraining, "")
	b.move("initial", targetHealthy)
	if r.turns(3); b.count(targetHealthy) != 2 || len(b.targets) != 2 {
		t.Errorf("replaced: %v", b.targets)
	}
}

func TestLoadBalancersThatAreRefused(t *testing.T) {
	r, b := balancedRoom(t)
	b.groups["arn:unused"], b.groups["arn:ip"] = TargetGroup{Type: "instance"}, TargetGroup{Type: "ip", LoadBalancers: []string{"lb"}}
	for want, change := range map[string]func(*types.LoadBalancer){
		"does not exist.": func(l *types.LoadBalancer) { l.TargetGroupArn = aws.String("arn:none") },
		"does not have an associated load balancer.":      func(l *types.LoadBalancer) { l.TargetGroupArn = aws.String("arn:unused") },
		"incompatible with the bridge network mode":       func(l *types.LoadBalancer) { l.TargetGroupArn = aws.String("arn:ip") },
		"The container x does not exist":                  func(l *types.LoadBalancer) { l.ContainerName = aws.String("x") },
		"did not have a container port 81 defined.":       func(l *types.LoadBalancer) { l.ContainerPort = aws.Int32(81) },
		"has no targetGroupArn":                           func(l *types.LoadBalancer) { l.TargetGroupArn = nil },
		"Classic Load Balancers are not supported":        func(l *types.LoadBalancer) { l.LoadBalancerName = aws.String("x") },
		"advancedConfiguration must have alternateTarget": func(l *types.LoadBalancer) { l.AdvancedConfiguration = &types.AdvancedConfiguration{} },
	} {
		in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: aws.Int32(1)}
		balanced(in)
		change(&in.LoadBalancers[0])
		if _, err := r.CreateService(asRoot(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: aws.Int32(1), HealthCheckGracePeriodSeconds: aws.Int32(1)}
	if _, err := r.CreateService(asRoot(), in); err == nil {
		t.Error("a grace period without a load balancer was taken")
	}
}
