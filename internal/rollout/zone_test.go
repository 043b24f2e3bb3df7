package rollout

import (
	"fmt"
	"testing"
)

// zoned gives a world's tasks zones: new ones go where they are asked for, others anywhere
// that a placement may have put them.
type zoned struct {
	*world
	zones []string
}

func (z *zoned) counts() map[string]int {
	n := map[string]int{}
	for _, k := range z.Tasks {
		n[k.Zone]++
	}
	return n
}

func (z *zoned) step(t *testing.T) Plan {
	t.Helper()
	p := Next(z.State)
	z.carryOut(t, p)
	if p.StartIn != "" {
		if len(z.Tasks)+1 > z.Service.most() {
			t.Fatalf("%d tasks are there and one is started elsewhere: at most %d are allowed", len(z.Tasks), z.Service.most())
		}
		z.add(z.Deployments[0].ID, Pending)
		z.Tasks[len(z.Tasks)-1].Zone = p.StartIn
	}
	for i := range z.Tasks {
		if z.Tasks[i].Zone == "" {
			z.Tasks[i].Zone = z.zones[z.r.IntN(len(z.zones))]
		}
	}
	z.happen()
	return p
}

// However its tasks lie, a service comes to rest with its zones even, where it is asked for
// and its maximum allows it; and it never breaks its other laws on the way.
func TestZonesAreEvenedOut(t *testing.T) {
	moved := 0
	for seed := range uint64(2000) {
		z := &zoned{newWorld(seed), []string{"a", "b", "c"}[:1+seed%3]}
		z.Service.Rebalance, z.Zones = true, z.zones
		for range 60 {
			z.step(t)
		}
		z.faulty = false
		settled := false
		for range 600 {
			p := z.step(t)
			if p.StartIn != "" {
				moved++
			}
			if settled = p.Start == 0 && p.StartIn == "" && len(p.Stop) == 0 && !p.Complete && (p.Hold == Nothing || p.Hold == MaximumNoRoom); settled {
				break
			}
		}
		if !settled {
			t.Fatalf("seed %d: it does not come to rest: %+v", seed, z.State)
		}
		n := z.counts()
		least := len(z.Tasks)
		for _, zone := range z.zones {
			least = min(least, n[zone])
		}
		if most(n)-least > 1 && z.Service.most() > z.Service.Desired && Next(z.State).Hold == Nothing {
			t.Fatalf("seed %d: it rests with %v", seed, n)
		}
	}
	if moved == 0 {
		t.Error("nothing was moved")
	}
}

// Scaled in, a service loses tasks of the zone that has the most.
func TestScaledInEvenly(t *testing.T) {
	s := State{Service: Service{Desired: 3, MinimumPercent: 100, MaximumPercent: 200}, Now: epoch, Deployments: []Deployment{{ID: "new", Done: true}}, Tasks: tasks("new", "hhhhhh")}
	for i, zone := range []string{"a", "a", "a", "a", "b", "c"} {
		s.Tasks[i].Zone = zone
	}
	if got := fmt.Sprint(Next(s).Stop); got != "[{new3 1} {new2 1} {new1 1}]" {
		t.Errorf("stopped are %s", got)
	}
}

// The task that is to even the zones out is waited for, and one of the fullest zone goes then.
func TestRebalanceStepByStep(t *testing.T) {
	s := State{Service: Service{Desired: 3, MinimumPercent: 100, MaximumPercent: 200, Rebalance: true}, Now: epoch, Zones: []string{"a", "b"},
		Deployments: []Deployment{{ID: "new", Done: true}}, Tasks: tasks("new", "hhh")}
	for i := range s.Tasks {
		s.Tasks[i].Zone = "a"
	}
	if p := Next(s); p.StartIn != "b" || len(p.Stop) > 0 {
		t.Fatalf("plan %+v", p)
	}
	s.Tasks = append(s.Tasks, Task{ID: "more", Deployment: "new", CreatedAt: epoch, Zone: "b"})
	if p := Next(s); p.StartIn != "" || len(p.Stop) > 0 || p.Hold != Health {
		t.Fatalf("on its way: plan %+v", p)
	}
	s.Tasks[3].Phase = Running
	if p := Next(s); p.StartIn != "" || fmt.Sprint(p.Stop) != "[{new2 1}]" {
		t.Fatalf("healthy: plan %+v", p)
	}
	s.Service.Rebalance = false
	s.Tasks = s.Tasks[:3]
	if p := Next(s); p.StartIn != "" {
		t.Errorf("not asked for: plan %+v", p)
	}
}
