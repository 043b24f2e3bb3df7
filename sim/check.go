package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/service/ecs"
)

// watch checks from time to time what need not hold in the middle of things.
func (w *World) watch() {
	w.after(w.between(w.CheckEvery/2, w.CheckEvery*3/2), "check", func() {
		if w.main != nil && !w.main.dead {
			w.check()
		}
		w.watch()
	})
}

// check looks at everything when the loops have nothing to do at this moment.
func (w *World) check() {
	was := w.quiet
	w.quiet = true
	defer func() { w.quiet = was }()
	w.main.drain(w.main.loops...)
	settled := w.settled()
	if w.failure == nil && settled {
		w.probe()
	}
	if w.failure == nil {
		w.checkNodes()
		w.checkTold()
		w.checkTasks()
	}
	if w.failure == nil && settled {
		w.checkServices()
	}
}

// settled tells whether no loop is about to look again, for what the store has not
// taken or for what is done in several steps.
func (w *World) settled() bool {
	for _, l := range w.main.loops {
		if due, ok := l.NextDue(); l.Stats().Failing > 0 || ok && due.Sub(w.now) < 100*time.Millisecond {
			return false
		}
	}
	return true
}

// probe has the other server, which knows nothing of what has woken the first,
// look at every service: it must find nothing left to do. What is looked at again
// after a time, as ECS does, may be found before its time.
func (w *World) probe() {
	for _, s := range w.oracle.services {
		if s.Status == "ACTIVE" && s.Waiting != nil && s.Waiting.For == "PLACE" || s.daemon() {
			return
		}
	}
	before, commits := w.oracle.acted, w.stats.Commits
	w.other.drain(w.other.loops[1:]...) // the first is of nodes, whose sessions are with main
	w.stats.Probes++
	if n := w.oracle.acted - before; n > 0 {
		w.fail("the loops had come to rest, and %d tasks were still to be started or stopped (%d commits)", n, w.stats.Commits-commits)
	}
}

// checkNodes compares what the API says of the instances with the tasks, and what
// is given up with what is gone.
func (w *World) checkNodes() {
	for _, a := range w.agents {
		if a.instance == "" || a.retired {
			continue
		}
		w.checkRemaining(a)
		since, gone := a.goneSince()
		if began := w.main.began; gone && began.After(since) {
			since = began
		}
		// Silence is noticed within 80 seconds, and looked at within a minute.
		if gone && w.now.Sub(since) > ecs.DefaultLostAfter+80*time.Second+2*time.Minute && len(w.oracle.byNode[a.name]) > 0 {
			w.fail("the node %s is gone since %s, and still has %d tasks", a.name, since, len(w.oracle.byNode[a.name]))
		}
	}
}

func (w *World) checkRemaining(a *agent) {
	out, err := w.main.room.DescribeContainerInstances(asOperator(), &awsecs.DescribeContainerInstancesInput{ContainerInstances: []string{a.instance}})
	if err != nil || len(out.ContainerInstances) != 1 {
		w.fail("the instance of %s can't be described: %v", a.name, err)
		return
	}
	ci := out.ContainerInstances[0]
	cpu, memory, ports, count := a.cpu, a.mem, []string{"22"}, int32(0)
	for _, t := range w.oracle.byNode[a.name] {
		cpu, memory = cpu-int32(t.Allocation.CPU), memory-int32(t.Allocation.Memory)
		for _, p := range t.Allocation.TCP {
			ports = append(ports, fmt.Sprint(p))
		}
		if t.LastStatus == "RUNNING" {
			count++
		}
	}
	slices.Sort(ports)
	left := func(name string) types.Resource {
		i := slices.IndexFunc(ci.RemainingResources, func(r types.Resource) bool { return *r.Name == name })
		return ci.RemainingResources[i]
	}
	got := left("PORTS").StringSetValue
	slices.Sort(got)
	if left("CPU").IntegerValue != cpu || left("MEMORY").IntegerValue != memory || !slices.Equal(got, ports) || ci.RunningTasksCount != count {
		w.fail("%s has %d CPU, %d MiB, ports %v, %d tasks RUNNING; its tasks leave %d, %d, %v, %d", a.name,
			left("CPU").IntegerValue, left("MEMORY").IntegerValue, got, ci.RunningTasksCount, cpu, memory, ports, count)
	}
}

// toldWithin is how long it may take until an agent whose session stands has heard
// what it is to do, payloads that come to nothing included.
const toldWithin = 2 * time.Minute

// checkTold checks that agents know what they are to do.
func (w *World) checkTold() {
	for _, a := range w.agents {
		l := a.link
		if !a.up || l == nil || l.broken || l.over || w.now.Sub(l.opened) < toldWithin {
			continue
		}
		for _, key := range sortedKeys(w.oracle.byNode[a.name]) {
			t := w.oracle.tasks[key]
			k := a.tasks["arn:aws:ecs:"+region+":"+account+":task/"+key]
			switch {
			case k == nil && w.now.Sub(t.CreatedAt) >= toldWithin && !a.finished["arn:aws:ecs:"+region+":"+account+":task/"+key]:
				w.fail("%s was never told of the task %s, made at %s", a.name, key, t.CreatedAt)
			case k != nil && t.DesiredStatus == "STOPPED" && k.status != stopped && !k.stopAsked && w.now.Sub(t.StoppingAt) >= toldWithin:
				w.fail("%s was not told to stop the task %s, to be stopped since %s", a.name, key, t.StoppingAt)
			}
		}
	}
}

// checkServices asks why of each service that has not what it wants.
func (w *World) checkServices() {
	for _, key := range sortedKeys(w.oracle.services) {
		s := w.oracle.services[key]
		if s.Status != "ACTIVE" || w.resting(s) {
			continue
		}
		w.stats.Explained++
		e, err := w.main.room.Explain(account, region, s.Cluster, "service/"+s.Name)
		if err != nil || e.Waiting == "" || e.Next == "" || e.Since.IsZero() {
			w.fail("the service %s has not what it wants, and nothing says why: %+v %v; %s", s.Name, e, err, w.facts(key))
		}
		w.checkReason(key, s)
	}
}

// checkTasks asks why of each task that is not RUNNING, or is to be stopped.
func (w *World) checkTasks() {
	for _, key := range sortedKeys(w.oracle.tasks) {
		t := w.oracle.tasks[key]
		if t.LastStatus == "STOPPED" || t.LastStatus == "RUNNING" && t.DesiredStatus == "RUNNING" {
			continue
		}
		w.stats.Explained++
		e, err := w.main.room.Explain(account, region, t.Cluster, "task/"+t.ID)
		if err != nil || e.Waiting == "" || e.Next == "" || e.Since.IsZero() {
			w.fail("the task %s is %s, desired %s, and nothing says why: %+v %v", key, t.LastStatus, t.DesiredStatus, e, err)
		}
	}
}

// facts are a service's tasks in words.
func (w *World) facts(key string) string {
	var out []string
	tasks := w.oracle.byService[key]
	for _, k := range sortedKeys(tasks) {
		t := tasks[k]
		out = append(out, fmt.Sprintf("%s of %s on %s: %s, desired %s, %s, started %s, protected until %s", t.ID[:8], t.StartedBy, t.NodeID, t.LastStatus, t.DesiredStatus, t.Health, t.StartedAt.Sub(w.began), t.ProtectedUntil.Sub(w.began)))
	}
	return strings.Join(out, "; ")
}

// resting tells whether a service has all that it wants.
func (w *World) resting(s *service) bool {
	if len(s.Deployments) != 1 && !s.daemon() {
		return false
	}
	healthy := 0
	for _, t := range w.oracle.byService[s.Cluster+"/"+s.Name] {
		if ok := t.StartedBy == s.Deployments[0].ID && w.oracle.healthy(t); ok {
			healthy++
		} else if !s.daemon() {
			return false
		}
	}
	// A daemon's tasks may stay on instances that are drained, as long as others do.
	return healthy == s.Desired || s.daemon() && healthy > s.Desired
}

// checkReason checks that what a service says that it waits for is there.
func (w *World) checkReason(key string, s *service) {
	if s.Waiting == nil {
		w.fail("the service %s waits for nothing", s.Name)
		return
	}
	stopping, unready := 0, 0
	for _, t := range w.oracle.byService[key] {
		if t.DesiredStatus == "STOPPED" {
			stopping++
		} else if !w.oracle.healthy(t) {
			unready++
		}
	}
	wrong := false
	switch s.Waiting.For {
	case "ENDS":
		wrong = stopping == 0
	case "HEALTH":
		wrong = unready == 0
	case "BACKOFF":
		wrong = s.Deployments[0].NotBefore.Before(w.now)
	case "MAXIMUM":
		wrong = len(w.oracle.byService[key]) < s.most()
	case "PLACE":
		wrong = s.Waiting.Detail == ""
	}
	if wrong && !s.daemon() {
		w.fail("the service %s says that it waits for %s (%s): %d of its %d tasks are being stopped, %d not healthy, the backoff ends at %s: %s",
			s.Name, s.Waiting.For, s.Waiting.Detail, stopping, len(w.oracle.byService[key]), unready, s.Deployments[0].NotBefore, w.facts(key))
	}
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// checkConverged holds when all has been calm for long enough.
func (w *World) checkConverged() {
	for _, s := range w.operator.services {
		if s.gone {
			continue
		}
		out, err := w.main.room.DescribeServices(asOperator(), &awsecs.DescribeServicesInput{Services: []string{s.name}})
		if err != nil || len(out.Services) != 1 {
			w.fail("the service %s can't be described: %v", s.name, err)
			return
		}
		x := out.Services[0]
		if w.Tight && w.placeless(s.name) {
			continue
		}
		if s.daemon {
			s.count = w.eligible()
		}
		if x.RunningCount != s.count || x.PendingCount != 0 || x.DesiredCount != s.count || len(x.Deployments) != 1 || x.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
			e, _ := w.main.room.Explain(account, region, cluster, "service/"+s.name)
			w.fail("the service %s of %d %s has not converged: %d running, %d pending, %d desired, %d deployments, %s: %+v", s.name, s.count, s.family,
				x.RunningCount, x.PendingCount, x.DesiredCount, len(x.Deployments), x.Deployments[0].RolloutState, e)
			return
		}
	}
	w.checkAgreement()
}

// placeless tells whether a service says that it has no place for its tasks.
func (w *World) placeless(name string) bool {
	e, err := w.main.room.Explain(account, region, cluster, "service/"+name)
	return err == nil && strings.HasPrefix(e.Waiting, "a place for its tasks: ") && len(e.Waiting) > len("a place for its tasks: ")
}

// eligible counts the instances on which a daemon has a task.
func (w *World) eligible() (n int32) {
	for _, a := range w.agents {
		if a.on {
			n++
		}
	}
	return n
}

// checkAgreement compares the store's tasks with what runs.
func (w *World) checkAgreement() {
	for _, a := range w.agents {
		if !a.on {
			if n := len(w.oracle.byNode[a.name]); n > 0 {
				w.fail("the dead node %s has %d tasks", a.name, n)
			}
			continue
		}
		here := map[string]bool{}
		for _, t := range a.order {
			here[cluster+"/"+t.id()] = t.status == running
		}
		for _, key := range sortedKeys(w.oracle.byNode[a.name]) {
			t := w.oracle.tasks[key]
			if t.LastStatus != "RUNNING" || t.DesiredStatus != "RUNNING" || !here[key] {
				w.fail("the task %s is %s, desired %s; %s runs it: %v", key, t.LastStatus, t.DesiredStatus, a.name, here[key])
			}
			delete(here, key)
		}
		for _, key := range sortedKeys(here) {
			w.fail("%s has the task %s, which should not run (running: %v)", a.name, key, here[key])
		}
	}
}

// checkNothingLeft holds when everything was deleted and stopped.
func (w *World) checkNothingLeft() {
	for key, t := range w.oracle.tasks {
		if live(t) {
			w.fail("the task %s is still %s", key, t.LastStatus)
		}
	}
	for key, a := range w.oracle.addresses {
		if a.ReleasedAt.IsZero() {
			w.fail("the address %s of the task %s was never released", key, a.Task)
		}
	}
	for key, s := range w.oracle.services {
		if s.Status != "INACTIVE" {
			w.fail("the service %s is still %s", key, s.Status)
		}
	}
	for _, a := range w.agents {
		if a.instance != "" {
			w.checkRemaining(a)
		}
		if len(a.order) > 0 && a.on {
			w.fail("%s still has the task %s", a.name, a.order[0].arn)
		}
	}
}

// checkForgotten holds more than an hour later.
func (w *World) checkForgotten() {
	if n := len(w.oracle.tasks) + len(w.oracle.addresses) + len(w.oracle.services); n > 0 {
		w.fail("%d tasks, %d addresses and %d services are remembered after all is over", len(w.oracle.tasks), len(w.oracle.addresses), len(w.oracle.services))
	}
	if err := w.main.room.Sweep(context.Background()); err != nil {
		w.fail("the sweep failed: %v", err)
	}
}
