package rollout

import (
	"cmp"
	"slices"
)

// Node is a container instance, for a service that has a task on each.
type Node struct {
	ID   string
	Want Want
}

// Want is whether a node is to have a task of the service.
type Want int

// What a node can be to the service.
const (
	Wanted Want = iota
	// Tolerated: a task that is there stays, none is started. The agent is away, or
	// the node is being drained and still has other tasks.
	Tolerated
	// Unwanted: a task that is there goes.
	Unwanted
)

// place is a node with the service's tasks on it.
type place struct {
	node             Node
	fresh, old, sick []*Task // not being stopped; sick are fresh ones
	stopping         int
}

// NextDaemon returns what a service does now that has one task on each wanted node.
// Service.Desired does not count; where a task is replaced, the one before goes first.
func NextDaemon(s State, nodes []Node) Plan {
	var p Plan
	first := s.Deployments[0]
	s.Service.Desired = 0
	for _, n := range nodes {
		if n.Want == Wanted {
			s.Service.Desired++
		}
	}
	if n := s.Service.Threshold; n > 0 && first.Failed >= n && !first.Done && !first.GivenUp {
		return Plan{Failed: true}
	}
	places := placesOf(&s, nodes)
	waits := s.Now.Before(first.NotBefore)
	d := daemon{t: count(&s), least: s.Service.least(), replace: !first.GivenUp && !waits}
	settled := true
	for _, at := range places {
		d.clear(at, &p)
		if at.node.Want != Wanted {
			settled = settled && (at.node.Want == Tolerated || len(at.fresh)+len(at.old)+at.stopping == 0)
			continue
		}
		switch {
		case len(at.fresh)+len(at.old)+at.stopping > 0:
		case first.GivenUp:
			p.Hold = GivenUp
		case waits:
			p.Hold, p.Until = Backoff, first.NotBefore
		default:
			p.StartOn = append(p.StartOn, at.node.ID)
		}
		settled = settled && len(at.fresh) == 1 && at.fresh[0].healthy() && len(at.old)+at.stopping == 0
	}
	p.Drop = empty(&s)
	settled = settled && len(p.Stop) == 0 && len(p.StartOn) == 0
	p.Complete = settled && !first.Done && !first.GivenUp
	if p.Hold == Nothing && len(p.StartOn) == 0 && len(p.Stop) == 0 && !settled {
		p.Hold = d.held()
	}
	return p
}

func placesOf(s *State, nodes []Node) []*place {
	byID := map[string]*place{}
	var all []*place
	at := func(id string, want Want) *place {
		if byID[id] == nil {
			byID[id] = &place{node: Node{id, want}}
			all = append(all, byID[id])
		}
		return byID[id]
	}
	for _, n := range nodes {
		at(n.ID, n.Want)
	}
	for i := range s.Tasks {
		k := &s.Tasks[i]
		here := at(k.Node, Unwanted)
		switch {
		case k.Phase == Stopping:
			here.stopping++
		case k.Deployment != s.Deployments[0].ID:
			here.old = append(here.old, k)
		default:
			here.fresh = append(here.fresh, k)
			if k.Unhealthy {
				here.sick = append(here.sick, k)
			}
		}
	}
	slices.SortFunc(all, func(a, b *place) int { return cmp.Compare(a.node.ID, b.node.ID) })
	return all
}

// daemon is what may be stopped yet.
type daemon struct {
	t       tally
	least   int
	replace bool // what is stopped for another version would be replaced
	wanting bool // something is to be stopped that may not be
}

// clear stops what is not to be on a node.
func (d *daemon) clear(at *place, p *Plan) {
	switch at.node.Want {
	case Unwanted:
		for _, k := range slices.Concat(at.fresh, at.old) {
			d.stop(k, Surplus, p, true)
		}
		return
	case Tolerated:
		return
	}
	for _, k := range at.sick {
		d.stop(k, Unhealthy, p, true)
	}
	// Of several the one stays that has got the furthest.
	well := slices.DeleteFunc(slices.Clone(at.fresh), func(k *Task) bool { return k.Unhealthy })
	slices.SortFunc(well, func(a, b *Task) int {
		return cmp.Or(compareBools(b.healthy(), a.healthy()), cmp.Compare(b.Phase, a.Phase), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, k := range well[min(1, len(well)):] {
		d.stop(k, Surplus, p, true)
	}
	for _, k := range at.old {
		if len(well) > 0 {
			d.stop(k, Superseded, p, true) // its place is taken
		} else if d.replace {
			d.stop(k, Superseded, p, !k.serves())
		}
	}
}

// stop stops a task, unless it is protected, or, if it does not have to go, as long as
// the service needs it.
func (d *daemon) stop(k *Task, why Why, p *Plan, must bool) {
	if k.Protected && why != Unhealthy {
		d.wanting = true
		return
	}
	if !must && (k.healthy() && d.t.healthy <= d.least || d.t.serving <= d.least) {
		d.wanting = true
		return
	}
	if k.healthy() {
		d.t.healthy--
	}
	if k.serves() {
		d.t.serving--
	}
	p.Stop = append(p.Stop, Stop{k.ID, why})
}

func (d *daemon) held() Hold {
	switch {
	case d.t.stopping > 0:
		return Ends
	case d.t.freshHealthy < len(d.t.fresh):
		return Health
	case d.t.protected > 0 && d.wanting:
		return Protection
	case d.wanting:
		return MaximumNoRoom
	default:
		return Health
	}
}
