package balance

import "time"

// PickGroup chooses by weight; roll is any number, each group gets its share of all
// numbers. It returns "" where every weight is 0.
func (f *Forward) PickGroup(roll uint64) string {
	if len(f.Groups) == 1 {
		return f.Groups[0].ID
	}
	var sum uint64
	for _, g := range f.Groups {
		sum += uint64(g.Weight)
	}
	if sum == 0 {
		return ""
	}
	roll %= sum
	for _, g := range f.Groups {
		if roll < uint64(g.Weight) {
			return g.ID
		}
		roll -= uint64(g.Weight)
	}
	return ""
}

// Has tells whether a client may stay with a group: it is still there, and has a weight.
func (f *Forward) Has(id string) bool {
	for _, g := range f.Groups {
		if g.ID == id {
			return g.Weight > 0 || len(f.Groups) == 1
		}
	}
	return false
}

// Candidate is a target that may be chosen.
type Candidate interface {
	comparable
	// Outstanding requests that it has.
	Outstanding() int
	// Share of a full share that it may get, above 0 and at most 1.
	Share() float64
}

// Choose returns one of the candidates that is not in tried, or the zero value. turn
// counts the choices of the group; roll is a random number from 0 to below 1.
func Choose[C Candidate](algorithm string, all, tried []C, turn uint64, roll float64) (chosen C) {
	n := uint64(len(all))
	if n == 0 {
		return chosen
	}
	switch algorithm {
	case LeastOutstanding:
		return least(all, tried, turn)
	case WeightedRandom:
		turn = uint64(roll * float64(n))
	}
	sum := 0.0
	for _, c := range all {
		sum += c.Share()
	}
	if sum < float64(n) {
		roll *= sum
		for _, c := range all {
			if roll -= c.Share(); roll < 0 && !in(tried, c) {
				return c
			}
		}
	}
	for i := range n {
		if c := all[(turn+i)%n]; !in(tried, c) {
			return c
		}
	}
	return chosen
}

// least begins at the turn, so that equals get their turns.
func least[C Candidate](all, tried []C, turn uint64) (chosen C) {
	best, n := -1.0, uint64(len(all))
	for i := range n {
		c := all[(turn+i)%n]
		load := float64(c.Outstanding()+1) / c.Share()
		if (best < 0 || load < best) && !in(tried, c) {
			chosen, best = c, load
		}
	}
	return chosen
}

// in is slices.Contains without its call in the common case that nothing was tried.
func in[C comparable](list []C, c C) bool {
	for _, other := range list {
		if other == c {
			return true
		}
	}
	return false
}

// leastShare is what a target gets in the first moment of its slow start.
const leastShare = 0.05

// SlowShare is the share of a target that has been healthy for a time.
func SlowShare(healthyFor, slowStart time.Duration) float64 {
	if healthyFor >= slowStart {
		return 1
	}
	return max(leastShare, float64(healthyFor)/float64(slowStart))
}

// ByFlow puts names in the order in which a flow tries them, best first: the same flow
// prefers the same name, whatever else is in the list (rendezvous hashing). It returns
// indexes.
func ByFlow(names []string, flow string) []int {
	order, scores := make([]int, len(names)), make([]uint64, len(names))
	for i, name := range names {
		scores[i] = score(name, flow)
		at := i
		for ; at > 0 && scores[order[at-1]] < scores[i]; at-- {
			order[at] = order[at-1]
		}
		order[at] = i
	}
	return order
}

// score is FNV-1a with a finish that spreads (that of splitmix64): FNV alone keeps
// neighbours together.
func score(name, flow string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [2]string{name, flow} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
