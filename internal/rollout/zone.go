package rollout

import (
	"cmp"
	"slices"
)

// perZone counts tasks by their zone.
func perZone(tasks []*Task, counts func(*Task) bool) map[string]int {
	n := map[string]int{}
	for _, k := range tasks {
		if counts(k) {
			n[k.Zone]++
		}
	}
	return n
}

// most is the largest of the counts.
func most(n map[string]int) (largest int) {
	for _, count := range n {
		largest = max(largest, count)
	}
	return largest
}

// lopsided is the zone with the fewest tasks, if another one has at least two more: one of
// them is better there. It is empty if all is even, or there is one zone only.
func (s *State) lopsided(fresh []*Task) string {
	if len(s.Zones) < 2 {
		return ""
	}
	n := perZone(fresh, func(*Task) bool { return true })
	least := slices.MinFunc(s.Zones, func(a, b string) int { return cmp.Or(cmp.Compare(n[a], n[b]), cmp.Compare(a, b)) })
	if most(n)-n[least] < 2 {
		return ""
	}
	return least
}

// rebalance is the zone where one task more is to be started now, "" for none. The one that
// it replaces goes when it is healthy.
func (s *State) rebalance(t tally) string {
	first := &s.Deployments[0]
	if !s.Service.Rebalance || !first.Done || first.GivenUp || s.Now.Before(first.NotBefore) || len(t.fresh) != s.Service.Desired || s.Service.most() <= len(s.Tasks) {
		return ""
	}
	return s.lopsided(t.fresh)
}

// arriving is 1 if one of the surplus tasks was started to even the zones out, and is not
// healthy yet.
func (s *State) arriving(t tally) int {
	if !s.Service.Rebalance || len(t.fresh)-t.sick != s.Service.Desired+1 || t.freshHealthy != s.Service.Desired {
		return 0
	}
	n := perZone(t.fresh, (*Task).healthy)
	for _, k := range t.fresh {
		if !k.healthy() && !k.Unhealthy && most(n)-n[k.Zone] >= 2 {
			return 1
		}
	}
	return 0
}

// byNeed puts those first that a service needs least: what does not serve yet, then the
// latest of the zone that has the most.
func byNeed(tasks []*Task) []*Task {
	slices.SortFunc(tasks, func(a, b *Task) int {
		return cmp.Or(compareBools(a.healthy(), b.healthy()), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	n := perZone(tasks, func(*Task) bool { return true })
	rank := make(map[*Task]int, len(tasks))
	for _, k := range tasks {
		// How many its zone has left when it is its turn.
		rank[k] = n[k.Zone]
		n[k.Zone]--
	}
	slices.SortStableFunc(tasks, func(a, b *Task) int {
		return cmp.Or(compareBools(a.healthy(), b.healthy()), cmp.Compare(rank[b], rank[a]))
	})
	return tasks
}
