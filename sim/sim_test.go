package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/store"
)

// sail runs one seed of a scenario.
func sail(t *testing.T, name string, seed uint64) *World {
	t.Helper()
	s, ok := named(name)
	if !ok {
		t.Fatalf("there is no scenario %s", name)
	}
	w := newWorld(s, seed)
	if err := w.Run(); err != nil {
		t.Errorf("%v\nthe latest of what happened:\n%s", err, w.trace.last())
	}
	return w
}

func TestSeeds(t *testing.T) {
	for name, seeds := range map[string]uint64{"mixed": 3, "storm": 3, "tight": 2, "addresses": 2, "faultless": 1} {
		for seed := range seeds {
			t.Run(fmt.Sprint(name, " ", seed+1), func(t *testing.T) {
				w := sail(t, name, seed+1)
				t.Log(w.stats)
				if w.stats.Starts == 0 || w.stats.Explained == 0 || name != "faultless" && w.stats.Conflicts == 0 {
					t.Errorf("next to nothing happened: %s", w.stats)
				}
			})
		}
	}
}

// Seeds that have found something. They found it in the code as it was then; what
// they do now may be something else.
func TestSeedsThatFoundSomething(t *testing.T) {
	for _, c := range []struct {
		found, scenario string
		seed            uint64
	}{
		{"a node whose disconnection was not recorded was never given up", "storm", 22},
	} {
		t.Run(c.found, func(t *testing.T) { sail(t, c.scenario, c.seed) })
	}
}

func TestThousandsOfAgents(t *testing.T) {
	s := fleet()
	s.For, s.Settle, s.Brief = time.Minute, 4*time.Minute, true
	w := newWorld(s, 1)
	if err := w.Run(); err != nil {
		t.Errorf("%v\n%s", err, w.trace.last())
	}
	t.Log(w.stats)
	if len(w.agents) < 2000 || w.stats.Starts < 200 {
		t.Errorf("%d agents ran %d tasks", len(w.agents), w.stats.Starts)
	}
}

func TestASeedReplays(t *testing.T) {
	digest := func(seed uint64) string {
		s, _ := named("storm")
		s.For, s.Settle = 15*time.Minute, 15*time.Minute
		w := newWorld(s, seed)
		var all strings.Builder
		w.trace.all = func(line string) { all.WriteString(line + "\n") }
		if err := w.Run(); err != nil {
			t.Fatal(err)
		}
		return all.String()
	}
	first := digest(41)
	if second := digest(41); first != second {
		a, b := strings.Split(first, "\n"), strings.Split(second, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d of the trace was %q, and then %q", i, a[i], b[i])
			}
		}
		t.Fatalf("the traces have %d and %d lines", len(a), len(b))
	}
	if digest(42) == first {
		t.Error("another seed did the same")
	}
}

// committed is a record as it comes to the oracle.
func committed(table, id string, record any) store.Event {
	raw, err := json.Marshal(map[string]any{"v": 1, "r": record})
	if err != nil {
		panic(err)
	}
	return store.Event{Key: "ls/1/" + account + "/" + region + "/" + table + "/" + id, Value: raw, ModRevision: 2}
}

func TestTheOracleRefuses(t *testing.T) {
	task := func(id string, change func(*ecs.Task)) store.Event {
		k := &ecs.Task{
			ID: id, Cluster: cluster, NodeID: "n", InstanceID: "ci", Service: "svc", StartedBy: "d", LastStatus: "RUNNING", DesiredStatus: "RUNNING", StartedAt: epoch.Add(-time.Hour),
			Allocation: ecs.Allocation{CPU: 10, Memory: 10},
		}
		if change != nil {
			change(k)
		}
		return committed("ecs.tasks", cluster+"/"+id, k)
	}
	same := func(*ecs.Task) {}
	stop := func(k *ecs.Task) {
		k.DesiredStatus, k.StopCode, k.StoppedReason = "STOPPED", types.TaskStopCodeServiceSchedulerInitiated, "scaling"
	}
	address := func(k *ecs.Task) { k.ENI = &ecs.ENI{SubnetID: "s", Address: "10.0.0.9"} }
	port := func(k *ecs.Task) { k.Allocation.TCP = []uint16{80} }
	for name, c := range map[string]struct {
		before, then []store.Event
		want         string
	}{
		"a task that goes back": {[]store.Event{task("a", same)}, []store.Event{task("a", func(k *ecs.Task) { k.LastStatus = "PENDING" })}, "went back"},
		"too few healthy ones":  {[]store.Event{task("a", same), task("b", same)}, []store.Event{task("a", stop)}, "healthy ones left"},
		"too many": {[]store.Event{task("a", same), task("b", same), task("c", same)}, []store.Event{task("d", same)},
			"4 tasks after a start"},
		"a port twice":            {[]store.Event{task("a", port)}, []store.Event{task("b", port)}, "have the port 80"},
		"an address twice":        {[]store.Event{task("a", address)}, []store.Event{task("b", address)}, "have the address"},
		"more than a node has":    {nil, []store.Event{task("a", func(k *ecs.Task) { k.Allocation.Memory = 1001 })}, "take 10 CPU and 1001 MiB"},
		"an address that is kept": {[]store.Event{task("a", address), committed("ecs.addresses", "s/10.0.0.9", ecs.Address{Task: cluster + "/a"})}, []store.Event{task("a", func(k *ecs.Task) { address(k); stop(k); k.LastStatus, k.StoppedAt = "STOPPED", epoch })}, "is not released"},
		"a node that is there":    {[]store.Event{task("a", same)}, []store.Event{task("a", func(k *ecs.Task) { stop(k); k.StopCode = types.TaskStopCodeTerminationNotice })}, "is given up"},
		"a protected task": {[]store.Event{task("a", func(k *ecs.Task) { k.ProtectedUntil = epoch.Add(time.Hour) }), task("b", same), task("c", same)},
			[]store.Event{task("a", func(k *ecs.Task) { k.ProtectedUntil = epoch.Add(time.Hour); stop(k) })}, "the protected task"},
	} {
		w := newWorld(Scenario{}, 1)
		w.oracle.commit([]store.Event{
			committed("ecs.nodes", "n", ecs.Node{ID: "n", Connected: true, Resources: ecs.NodeResources{CPU: 1000, Memory: 1000}}),
			committed("ecs.instances", cluster+"/ci", ecs.ContainerInstance{ID: "ci", Status: "ACTIVE"}),
			committed("ecs.services", cluster+"/svc", map[string]any{"name": "svc", "cluster": cluster, "status": "ACTIVE", "desired": 2,
				"configuration": map[string]any{"MinimumHealthyPercent": 100, "MaximumPercent": 150}}),
		})
		for _, ev := range c.before {
			w.oracle.commit([]store.Event{ev})
		}
		if w.failure != nil {
			t.Errorf("%s: refused too early: %v", name, w.failure)
		}
		if w.oracle.commit(c.then); w.failure == nil || !strings.Contains(w.failure.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, w.failure, c.want)
		}
	}
}
