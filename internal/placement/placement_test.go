package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// instance makes an ACTIVE instance on a node of its own.
func instance(id, zone string, cpu, memory int64) Instance {
	return Instance{
		ID: id, NodeID: "node-" + id, Active: true, AgentConnected: true,
		Remaining:  Resources{CPU: cpu, Memory: memory},
		Attributes: map[string]string{zoneAttribute: zone},
	}
}

// fleet is two zones, a with two instances and b with one, all of equal size.
func fleet() []Instance {
	return []Instance{instance("a1", "a", 1024, 2048), instance("a2", "a", 1024, 2048), instance("b1", "b", 1024, 2048)}
}

var small = Resources{CPU: 128, Memory: 128}

func TestStrategies(t *testing.T) {
	tests := []struct {
		name       string
		strategies []Strategy
		change     func(f []Instance)
		count      int
		want       string
	}{
		{name: "default: zones, then fewest tasks", count: 6, want: "a1 b1 a2 b1 a1 b1"},
		{name: "default counts tasks of other groups on an instance", count: 2, want: "a2 b1",
			change: func(f []Instance) { f[0].RunningTasks = 3 }},
		{name: "default counts tasks that do not run yet", count: 1, want: "a2",
			change: func(f []Instance) {
				f[0].TaskGroups = []TaskGroup{{"db", 1}}
				f[2].TaskGroups = []TaskGroup{{"db", 1}}
			}},
		{name: "spread over zones", strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}}, count: 4, want: "a1 b1 a1 b1"},
		{name: "spread counts the tasks of the group on refused instances too", count: 2, want: "b1 b1",
			strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}},
			change:     func(f []Instance) { f[0].Active = false; f[0].TaskGroups = []TaskGroup{{"web", 4}} }},
		{name: "spread ignores tasks of other groups", count: 1, want: "a1",
			strategies: []Strategy{{Spread, "instanceId"}},
			change:     func(f []Instance) { f[0].TaskGroups = []TaskGroup{{"db", 4}}; f[0].RunningTasks = 4 }},
		{name: "spread over zones, then instances", count: 5, want: "a1 b1 a2 b1 a1",
			strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}, {Spread, "host"}}},
		{name: "spread over instances, then zones", count: 4, want: "a1 b1 a2 b1",
			strategies: []Strategy{{Spread, "instanceId"}, {Spread, "attribute:ecs.availability-zone"}}},
		{name: "binpack memory", count: 3, want: "a2 a2 a1",
			strategies: []Strategy{{Binpack, "memory"}},
			change:     func(f []Instance) { f[1].Remaining.Memory = 256 }},
		{name: "binpack cpu, field in any case", count: 9, want: "a1 a1 a1 a1 a1 a1 a1 a1 a2",
			strategies: []Strategy{{Binpack, "CPU"}}},
		{name: "spread over zones, then binpack", count: 4, want: "a2 b1 a2 b1",
			strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}, {Binpack, "memory"}},
			change:     func(f []Instance) { f[1].Remaining.Memory = 1024 }},
		{name: "the smaller order wins a tie", count: 1, want: "a2",
			strategies: []Strategy{{Spread, "instanceId"}},
			change:     func(f []Instance) { f[0].Order, f[1].Order, f[2].Order = 3, 1, 2 }},
		{name: "instances without the attribute count together", count: 4, want: "a1 b1 a2 b1",
			strategies: []Strategy{{Spread, "attribute:rack"}, {Spread, "instanceId"}},
			change:     func(f []Instance) { f[2].Attributes["rack"] = "" }},
		{name: "the second spread counts within the first", count: 4, want: "a1 b1 a2 b1",
			strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}, {Spread, "attribute:rack"}},
			change: func(f []Instance) {
				f[0].Attributes["rack"], f[1].Attributes["rack"], f[2].Attributes["rack"] = "r1", "r2", "r2"
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := fleet()
			if tt.change != nil {
				tt.change(f)
			}
			p := Place(pointers(f), Request{Count: tt.count, Group: "web", Resources: small, Strategies: tt.strategies})
			if got := strings.Join(p.Assignments, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	tests := []struct {
		name    string
		change  func(f []Instance, r *Request)
		counts  map[Reason]int
		nearest string
		explain string
	}{
		{"memory", func(f []Instance, r *Request) { r.Resources.Memory = 2560; f[1].Remaining.Memory = 2000 },
			map[Reason]int{ReasonMemory: 3}, "a1", "needs 512 MiB of memory more"},
		{"cpu and memory", func(f []Instance, r *Request) { r.Resources = Resources{CPU: 2048, Memory: 4096} },
			map[Reason]int{ReasonMemory: 3}, "a1", "needs 1024 CPU units more, 2048 MiB of memory more"},
		{"gpu", func(f []Instance, r *Request) { r.Resources.GPU = 2; f[2].Remaining.GPU = 1 },
			map[Reason]int{ReasonGPU: 3}, "b1", "needs 1 GPUs more"},
		{"ports", func(f []Instance, r *Request) {
			r.TCPPorts, r.UDPPorts = []uint16{80, 81}, []uint16{53}
			for i := range f {
				f[i].UsedTCP, f[i].UsedUDP = Ports{80}, Ports{53, 81}
			}
		}, map[Reason]int{ReasonPorts: 3}, "a1", "needs host ports free that are taken: 53, 80"},
		{"attribute", func(f []Instance, r *Request) {
			r.RequiresAttributes = []Attribute{{Name: zoneAttribute}, {"gpu", "a100"}}
			f[0].Attributes["gpu"] = "t4"
		}, map[Reason]int{ReasonAttribute: 3}, "a1", "needs the attribute gpu=a100"},
		{"inactive and disconnected", func(f []Instance, r *Request) {
			f[0].Active, f[1].AgentConnected, f[2].Active = false, false, false
		}, map[Reason]int{ReasonInactive: 2, ReasonAgent: 1}, "a2", "has an agent that is not connected"},
		{"location", func(f []Instance, r *Request) { r.Zones = []string{"c", "d"} },
			map[Reason]int{ReasonLocation: 3}, "a1", "is in another availability zone than the task's subnets"},
		{"member of", func(f []Instance, r *Request) {
			r.Constraints = []Constraint{{MemberOf, "attribute:ecs.availability-zone == b"}}
			r.Resources.CPU = 1100
		}, map[Reason]int{ReasonMemberOf: 2, ReasonCPU: 1}, "b1", "needs 76 CPU units more"},
		{"distinct instance", func(f []Instance, r *Request) {
			r.Constraints = []Constraint{{Type: DistinctInstance}}
			for i := range f {
				f[i].TaskGroups = []TaskGroup{{"web", 1}}
			}
		}, map[Reason]int{ReasonDistinct: 3}, "a1", "runs a task of the same group already (distinctInstance)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, r := fleet(), Request{Count: 2, Group: "web", Resources: small}
			tt.change(f, &r)
			p := Place(pointers(f), r)
			if len(p.Assignments) != 0 || p.Unplaced != 2 {
				t.Fatalf("placed %v, unplaced %d", p.Assignments, p.Unplaced)
			}
			if !reflect.DeepEqual(p.Refusal.Counts, tt.counts) || p.Refusal.Nearest != tt.nearest {
				t.Errorf("got %v nearest %s, want %v nearest %s", p.Refusal.Counts, p.Refusal.Nearest, tt.counts, tt.nearest)
			}
			if got := p.Refusal.Explain(nil); !strings.HasSuffix(got, tt.nearest+", "+tt.explain) {
				t.Errorf("explanation %q does not end with %q", got, tt.explain)
			}
			if len(p.Refusal.Instances) != 3 {
				t.Errorf("refused instances %v", p.Refusal.Instances)
			}
		})
	}
}

func TestPartOfARequestIsPlaced(t *testing.T) {
	p := Place(pointers(fleet()), Request{Count: 5, Resources: small, TCPPorts: []uint16{80}})
	if want := []string{"a1", "b1", "a2"}; !slices.Equal(p.Assignments, want) || p.Unplaced != 2 {
		t.Errorf("got %v and %d unplaced, want %v and 2: a static port is there once per instance", p.Assignments, p.Unplaced, want)
	}
	if p.Refusal.Counts[ReasonPorts] != 3 {
		t.Errorf("refused for %v, want 3 for their ports", p.Refusal.Counts)
	}
}

func TestNoInstance(t *testing.T) {
	p := Place(nil, Request{Count: 1})
	if p.Unplaced != 1 || len(p.Refusal.Counts) != 0 || p.Refusal.Explain(nil) != "there is no container instance in the cluster" {
		t.Errorf("got %+v", p)
	}
}

func TestInstancesOfOneNodeShareIt(t *testing.T) {
	f := []Instance{instance("one", "a", 1024, 1024), instance("two", "a", 1024, 1024)}
	f[0].NodeID, f[1].NodeID = "laptop", "laptop"
	f[1].UsedTCP = Ports{443}
	if p := Place(pointers(f), Request{Count: 9, Resources: Resources{CPU: 256, Memory: 16}}); len(p.Assignments) != 4 {
		t.Errorf("placed %v on a node that has room for 4", p.Assignments)
	}
	if p := Place(pointers(f), Request{Count: 2, TCPPorts: []uint16{80}}); len(p.Assignments) != 1 {
		t.Errorf("placed %v on a node that has port 80 once", p.Assignments)
	}
	if p := Place(pointers(f), Request{Count: 1, TCPPorts: []uint16{443}}); len(p.Assignments) != 0 {
		t.Errorf("placed %v though the node's port 443 is taken by its other instance", p.Assignments)
	}
}

// Found by the property test: a placement changes the keys of all of a node's
// instances at once, and one heap.Fix after the other lost the order.
func TestOrderHoldsAmongInstancesOfOneNode(t *testing.T) {
	var f []Instance
	for i := range 6 {
		in := instance(fmt.Sprintf("i%d", i), "a", 1024, 1024)
		in.NodeID = "laptop"
		f = append(f, in)
	}
	p := Place(pointers(f), Request{Count: 6, Resources: Resources{CPU: 1, Memory: 1}})
	if want := []string{"i0", "i1", "i2", "i3", "i4", "i5"}; !slices.Equal(p.Assignments, want) {
		t.Errorf("got %v, want each instance once", p.Assignments)
	}
}

func TestMemberOfSeesEarlierPlacements(t *testing.T) {
	tests := []struct {
		expression string
		want       string
	}{
		{"not(task:group == web)", "a1 b1 a2"},
		{"runningTasksCount < 2", "a1 b1 a2 b1 a1 a2"},
		{"task:group == cache", "b1 b1 b1 b1 b1 b1 b1 b1"},
		{"task:group == cache and runningTasksCount <= 2", "b1 b1"},
		{"ec2InstanceId == i-2 or agentVersion > 1.9", "a2 a2 a2 a2 a2 a2 a2 a2"},
		{"registeredAt >= 2026-01-01 and agentConnected == true and task:group not_exists", "a1"},
	}
	for _, tt := range tests {
		f := fleet()
		f[1].EC2InstanceID, f[0].AgentVersion = "i-2", "1.8.1"
		f[0].RegisteredAt = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		f[2].TaskGroups = []TaskGroup{{"cache", 1}, {"gone", 0}}
		if strings.Contains(tt.expression, "<= 2") {
			f[2].RunningTasks = 1
		}
		p := Place(pointers(f), Request{Count: 20, Group: "web", Resources: small, Constraints: []Constraint{{MemberOf, tt.expression}}})
		if got := strings.Join(p.Assignments, " "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.expression, got, tt.want)
		}
	}
}

func TestRandomIsFairAndSeeded(t *testing.T) {
	request := func(seed uint64) Request {
		return Request{Count: 3000, Strategies: []Strategy{{Type: Random}}, Rand: rand.New(rand.NewPCG(seed, 0))}
	}
	first := Place(pointers(fleet()), request(7))
	counts := map[string]int{}
	repeats := 0
	for i, id := range first.Assignments {
		counts[id]++
		if i > 0 && id == first.Assignments[i-1] {
			repeats++
		}
	}
	for id, n := range counts {
		if n < 900 || n > 1100 {
			t.Errorf("%s got %d of 3000 tasks, want about 1000", id, n)
		}
	}
	if repeats < 900 || repeats > 1100 {
		t.Errorf("the instance before was chosen again %d times of 3000, want about 1000: choices are not independent", repeats)
	}
	if !slices.Equal(first.Assignments, Place(pointers(fleet()), request(7)).Assignments) {
		t.Error("the same seed gave another plan")
	}
	if slices.Equal(first.Assignments, Place(pointers(fleet()), request(8)).Assignments) {
		t.Error("another seed gave the same plan")
	}
}

func TestInvalidRequests(t *testing.T) {
	tests := []struct {
		request Request
		want    string
	}{
		{Request{Constraints: []Constraint{{"memberof", "a"}}}, `placement constraint 1: type "memberof" is not distinctInstance or memberOf`},
		{Request{Constraints: []Constraint{{DistinctInstance, "a"}}}, "takes no expression"},
		{Request{Constraints: []Constraint{{Type: DistinctInstance}, {MemberOf, "attribute:x = y"}}}, "placement constraint 2: the expression \"attribute:x = y\" is invalid: at character 13"},
		{Request{Strategies: []Strategy{{"pack", "cpu"}}}, `type "pack" is not random, spread or binpack`},
		{Request{Strategies: []Strategy{{Spread, "zone"}}}, `the field "zone" of spread`},
		{Request{Strategies: []Strategy{{Spread, "attribute:"}}}, `the field "attribute:" of spread`},
		{Request{Strategies: []Strategy{{Type: Random}, {Binpack, "disk"}}}, `placement strategy 2: the field "disk" of binpack`},
		{Request{Resources: Resources{CPU: -1}}, "must not be negative"},
	}
	for _, tt := range tests {
		tt.request.Count = 1
		err := tt.request.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
		p := Place(pointers(fleet()), tt.request)
		if p.Unplaced != 1 || p.Refusal.Invalid == nil || p.Refusal.Explain(nil) != err.Error() {
			t.Errorf("placing the invalid request gave %+v", p)
		}
	}
}

func TestRefusedInstancesAreBounded(t *testing.T) {
	var f []Instance
	for i := range MaxRefusedInstances + 50 {
		f = append(f, instance(fmt.Sprintf("i%03d", i), "a", 0, 0))
	}
	f[len(f)-1].Remaining = Resources{CPU: 1, Memory: 127}
	r := Place(pointers(f), Request{Count: 1, Resources: small}).Refusal
	if last := r.Instances[len(r.Instances)-1]; r.Nearest != "i149" || last.ID != r.Nearest {
		t.Errorf("the nearest instance, %s, is not among those told", r.Nearest)
	}
	if len(r.Instances) != MaxRefusedInstances || r.Instances[0] != (RefusedInstance{"i000", ReasonMemory}) || r.Counts[ReasonMemory] != len(f) {
		t.Errorf("%d refused instances, counts %v", len(r.Instances), r.Counts)
	}
}

// 5,000 instances, a service of 5,000 tasks spread over zones and instances.
func BenchmarkPlaceService(b *testing.B) {
	benchmark(b, Request{Count: 5000, Strategies: []Strategy{{Spread, "attribute:ecs.availability-zone"}, {Spread, "instanceId"}}})
}

func BenchmarkPlaceBinpack(b *testing.B) {
	benchmark(b, Request{Count: 5000, Strategies: []Strategy{{Binpack, "memory"}}})
}

// The largest RunTask, with everything that a real one asks for.
func BenchmarkPlaceRunTask(b *testing.B) {
	benchmark(b, Request{
		Count: 10, Constraints: []Constraint{{MemberOf, "attribute:ecs.instance-type =~ m5.*"}},
		RequiresAttributes: []Attribute{{Name: "ecs.capability.docker-remote-api.1.19"}, {Name: "ecs.capability.execution-role-ecr-pull"}},
	})
}

func pointers(f []Instance) []*Instance {
	all := make([]*Instance, len(f))
	for i := range f {
		all[i] = &f[i]
	}
	return all
}

func benchmark(b *testing.B, r Request) {
	r.Group, r.Resources = "service:web", small
	var f []Instance
	for i := range 5000 {
		in := instance(fmt.Sprintf("i-%05d", i), string(rune('a'+i%3)), 4096, 16384)
		in.Attributes["ecs.instance-type"] = "m5.xlarge"
		in.Attributes["ecs.capability.docker-remote-api.1.19"] = ""
		in.Attributes["ecs.capability.execution-role-ecr-pull"] = ""
		in.NodeID, in.Zone = in.ID, in.Attributes[zoneAttribute]
		f = append(f, in)
	}
	b.ReportAllocs()
	instances := pointers(f)
	var planner Planner
	for b.Loop() {
		if p := planner.Place(instances, r); p.Unplaced != 0 {
			b.Fatal(p.Refusal.Explain(nil))
		}
	}
	b.ReportMetric(float64(r.Count)*float64(b.N)/b.Elapsed().Seconds(), "placements/s")
}
