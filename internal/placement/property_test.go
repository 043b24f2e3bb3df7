package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/placement/cql"
)

var (
	drawResources = rapid.Custom(func(t *rapid.T) Resources {
		return Resources{
			CPU:    rapid.Int64Range(0, 8).Draw(t, "cpu"),
			Memory: rapid.Int64Range(0, 8).Draw(t, "memory"),
			GPU:    rapid.Int64Range(0, 2).Draw(t, "gpu"),
		}
	})
	drawPorts   = rapid.SliceOfNDistinct(rapid.Uint16Range(80, 83), 0, 2, rapid.ID[uint16])
	drawGroup   = rapid.SampledFrom([]string{"web", "db"})
	drawZone    = rapid.SampledFrom([]string{"a", "b", "c"})
	expressions = []string{
		"attribute:ecs.availability-zone in [a, b]", "attribute:rack exists", "not(task:group == db)",
		"runningTasksCount < 3", "agentConnected == true || attribute:rack == r1",
	}
	strategies = []Strategy{
		{Type: Random}, {Spread, "instanceId"}, {Spread, "attribute:ecs.availability-zone"}, {Spread, "attribute:rack"},
		{Binpack, "cpu"}, {Binpack, "memory"},
	}
)

func portSet(ports ...uint16) Ports {
	slices.Sort(ports)
	return ports
}

func drawFleet(t *rapid.T) []Instance {
	var f []Instance
	for i := range rapid.IntRange(0, 8).Draw(t, "instances") {
		in := Instance{
			ID: fmt.Sprintf("i%d", i), Order: rapid.IntRange(0, 2).Draw(t, "order"),
			Active: rapid.IntRange(0, 9).Draw(t, "active") > 0, AgentConnected: rapid.IntRange(0, 9).Draw(t, "connected") > 0,
			Remaining: drawResources.Draw(t, "remaining"),
			UsedTCP:   portSet(drawPorts.Draw(t, "tcp")...), UsedUDP: portSet(drawPorts.Draw(t, "udp")...),
			Attributes: map[string]string{zoneAttribute: drawZone.Draw(t, "zone")},
		}
		if rapid.Bool().Draw(t, "racked") {
			in.Attributes["rack"] = rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "rack")
		}
		for range rapid.IntRange(0, 3).Draw(t, "tasks") {
			in.TaskGroups = CountTask(in.TaskGroups, drawGroup.Draw(t, "group"), 1)
			in.RunningTasks += rapid.IntRange(0, 1).Draw(t, "runs")
		}
		if n := rapid.IntRange(0, 5).Draw(t, "node"); n < i && n < 3 {
			// Share an earlier instance's machine.
			in.NodeID, in.Remaining, in.UsedTCP, in.UsedUDP = f[n].ID, f[n].Remaining, f[n].UsedTCP, f[n].UsedUDP
			f[n].NodeID = f[n].ID
		}
		f = append(f, in)
	}
	return f
}

func drawRequest(t *rapid.T) Request {
	r := Request{
		Count: rapid.IntRange(0, 12).Draw(t, "count"), Group: drawGroup.Draw(t, "group"),
		Resources: drawResources.Draw(t, "resources"),
		TCPPorts:  drawPorts.Draw(t, "tcp"), UDPPorts: drawPorts.Draw(t, "udp"),
		Zones: rapid.SliceOfNDistinct(drawZone, 0, 2, rapid.ID[string]).Draw(t, "zones"),
		Rand:  rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)),
	}
	for range rapid.IntRange(0, 2).Draw(t, "constraints") {
		c := Constraint{MemberOf, rapid.SampledFrom(expressions).Draw(t, "expression")}
		if rapid.IntRange(0, 2).Draw(t, "distinct") == 0 {
			c = Constraint{Type: DistinctInstance}
		}
		r.Constraints = append(r.Constraints, c)
	}
	r.Strategies = rapid.SliceOfN(rapid.SampledFrom(strategies), 0, 3).Draw(t, "strategies")
	if rapid.IntRange(0, 3).Draw(t, "capable") == 0 {
		r.RequiresAttributes = []Attribute{{"rack", rapid.SampledFrom([]string{"", "r1"}).Draw(t, "rack")}}
	}
	return r
}

// ledger applies placements one by one to a copy of the fleet, by the plainest
// means: it is what Place is held against.
type ledger struct {
	fleet   []Instance
	request Request
}

func newLedger(fleet []Instance, r Request) *ledger {
	return &ledger{slices.Clone(fleet), r}
}

func (l *ledger) fits(in Instance) bool {
	r := l.request
	if !in.Active || !in.AgentConnected || len(r.Zones) > 0 && !slices.Contains(r.Zones, in.Attributes[zoneAttribute]) {
		return false
	}
	for _, a := range r.RequiresAttributes {
		if v, ok := in.Attributes[a.Name]; !ok || a.Value != "" && a.Value != v {
			return false
		}
	}
	for _, c := range r.Constraints {
		if c.Type == DistinctInstance && in.groupTasks(r.Group) > 0 {
			return false
		}
		if c.Type == MemberOf {
			e, err := cql.Parse(c.Expression)
			subject := &candidate{Instance: &in, task: &task{Request: r}, groupTasks: in.groupTasks(r.Group), runningTasks: in.RunningTasks}
			if err != nil || !e.Matches(subject) {
				return false
			}
		}
	}
	for _, p := range r.TCPPorts {
		if slices.Contains(in.UsedTCP, p) {
			return false
		}
	}
	for _, p := range r.UDPPorts {
		if slices.Contains(in.UsedUDP, p) {
			return false
		}
	}
	return in.Remaining.CPU >= r.Resources.CPU && in.Remaining.Memory >= r.Resources.Memory && in.Remaining.GPU >= r.Resources.GPU
}

func (l *ledger) place(id string) {
	at := slices.IndexFunc(l.fleet, func(in Instance) bool { return in.ID == id })
	l.fleet[at].TaskGroups = CountTask(l.fleet[at].TaskGroups, l.request.Group, 1)
	l.fleet[at].RunningTasks++
	for i := range l.fleet {
		in := &l.fleet[i]
		if i != at && (in.NodeID == "" || in.NodeID != l.fleet[at].NodeID) {
			continue
		}
		in.Remaining.CPU -= l.request.Resources.CPU
		in.Remaining.Memory -= l.request.Resources.Memory
		in.Remaining.GPU -= l.request.Resources.GPU
		in.UsedTCP = portSet(slices.Concat(in.UsedTCP, l.request.TCPPorts)...)
		in.UsedUDP = portSet(slices.Concat(in.UsedUDP, l.request.UDPPorts)...)
	}
}

// preferred narrows the instances that fit by one strategy after the other, as
// ECS documents it; random narrows nothing.
func (l *ledger) preferred() []string {
	var left []Instance
	for _, in := range l.fleet {
		if l.fits(in) {
			left = append(left, in)
		}
	}
	within := func(Instance) string { return "" }
	levels := l.request.Strategies
	if len(levels) == 0 {
		levels = []Strategy{{Spread, "attribute:" + zoneAttribute}, {Type: "fewest"}}
	}
	for _, s := range levels {
		key := func(in Instance) int64 { return in.Remaining.CPU }
		switch {
		case s.Type == Random:
			return ids(left)
		case s.Type == "fewest":
			key = func(in Instance) int64 {
				all := 0
				for _, g := range in.TaskGroups {
					all += g.Tasks
				}
				return int64(max(all, in.RunningTasks))
			}
		case s.Field == "memory":
			key = func(in Instance) int64 { return in.Remaining.Memory }
		case s.Field == "instanceId":
			key = func(in Instance) int64 { return int64(in.groupTasks(l.request.Group)) }
		case s.Type == Spread:
			outer, name := within, s.Field[len("attribute:"):]
			within = func(in Instance) string {
				v, ok := in.Attributes[name]
				return fmt.Sprint(outer(in), "/", v, ok)
			}
			sums := map[string]int64{}
			for _, in := range l.fleet {
				sums[within(in)] += int64(in.groupTasks(l.request.Group))
			}
			same := within
			key = func(in Instance) int64 { return sums[same(in)] }
		}
		left = least(left, key)
	}
	order := least(left, func(in Instance) int64 { return int64(in.Order) })
	return ids(order)[:min(1, len(order))]
}

func least(in []Instance, key func(Instance) int64) []Instance {
	var out []Instance
	for _, i := range in {
		if len(out) > 0 && key(i) < key(out[0]) {
			out = out[:0]
		}
		if len(out) == 0 || key(i) == key(out[0]) {
			out = append(out, i)
		}
	}
	return out
}

func ids(in []Instance) []string {
	var out []string
	for _, i := range in {
		out = append(out, i.ID)
	}
	return out
}

// Each task goes where the plain reading of filters and strategies sends it,
// and is left out only when nothing fits.
func TestEveryPlacementIsThePreferredOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := drawFleet(t), drawRequest(t)
		before := newLedger(fleet, r).fleet
		p := Place(pointers(fleet), r)
		l := newLedger(fleet, r)
		for i, id := range p.Assignments {
			want := l.preferred()
			if !slices.Contains(want, id) {
				t.Fatalf("task %d went to %s, want one of %v", i, id, want)
			}
			l.place(id)
		}
		if len(p.Assignments)+p.Unplaced != r.Count {
			t.Fatalf("%d placed and %d unplaced of %d", len(p.Assignments), p.Unplaced, r.Count)
		}
		if p.Unplaced > 0 {
			if fit := l.preferred(); len(fit) > 0 {
				t.Fatalf("%d left out though %v fit", p.Unplaced, fit)
			}
			total := 0
			for _, n := range p.Refusal.Counts {
				total += n
			}
			if total != len(fleet) || p.Refusal.Counts[""] != 0 || (p.Refusal.Nearest == "") != (len(fleet) == 0) {
				t.Fatalf("the refusal %+v does not explain %d instances", p.Refusal, len(fleet))
			}
		}
		if !reflect.DeepEqual(before, fleet) {
			t.Fatal("Place changed the instances that it was given")
		}
	})
}

// With room everywhere a spread differs by at most one between its targets.
func TestSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fleet []Instance
		zones := rapid.IntRange(1, 4).Draw(t, "zones")
		perZone := rapid.IntRange(1, 4).Draw(t, "per zone")
		for i := range zones * perZone {
			fleet = append(fleet, instance(fmt.Sprintf("i%d", i), fmt.Sprintf("z%d", i%zones), 1000, 1000))
		}
		count := rapid.IntRange(0, 60).Draw(t, "count")
		p := Place(pointers(fleet), Request{Count: count, Group: "web", Resources: Resources{1, 1, 0}, Strategies: []Strategy{
			{Spread, "attribute:" + zoneAttribute}, {Spread, "instanceId"}}})
		perInstance, perZoneTasks := map[string]int{}, map[string]int{}
		for _, in := range fleet {
			perInstance[in.ID], perZoneTasks[in.Attributes[zoneAttribute]] = 0, 0
		}
		for _, id := range p.Assignments {
			perInstance[id]++
			for _, in := range fleet {
				if in.ID == id {
					perZoneTasks[in.Attributes[zoneAttribute]]++
				}
			}
		}
		for what, counts := range map[string]map[string]int{"instances": perInstance, "zones": perZoneTasks} {
			low, high := count, 0
			for _, n := range counts {
				low, high = min(low, n), max(high, n)
			}
			if high-low > 1 || p.Unplaced != 0 {
				t.Fatalf("%s got between %d and %d of %d tasks, %d unplaced", what, low, high, count, p.Unplaced)
			}
		}
	})
}

func TestSameSeedSamePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := drawFleet(t), drawRequest(t)
		seed := rapid.Uint64().Draw(t, "seed")
		r.Rand = rand.New(rand.NewPCG(seed, 1))
		first := Place(pointers(fleet), r)
		r.Rand = rand.New(rand.NewPCG(seed, 1))
		var planner Planner // that has planned something else before
		planner.Place(pointers(drawFleet(t)), drawRequest(t))
		if second := planner.Place(pointers(fleet), r); !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v and then %+v", first, second)
		}
	})
}
