package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// reasonOrder ranks reasons by the order of the tests: the later the reason, the
// nearer the instance was.
var reasonOrder = []Reason{
	ReasonInactive, ReasonAgent, ReasonLocation, ReasonAttribute, ReasonMemberOf, ReasonDistinct,
	ReasonGPU, ReasonPorts, ReasonMemory, ReasonCPU,
}

// refusal explains why no candidate is left.
func (f *field) refusal() Refusal {
	r := Refusal{}
	var nearest *candidate
	for i := range f.candidates {
		c := &f.candidates[i]
		reason := f.task.refuses(c)
		if r.Counts == nil {
			r.Counts = make(map[Reason]int)
		}
		r.Counts[reason]++
		if len(r.Instances) < MaxRefusedInstances {
			r.Instances = append(r.Instances, RefusedInstance{c.ID, reason})
		}
		if nearest == nil || f.nearer(c, reason, nearest, r.NearestReason) {
			nearest, r.NearestReason = c, reason
		}
	}
	if nearest == nil {
		return r
	}
	r.Nearest = nearest.ID
	if !slices.ContainsFunc(r.Instances, func(i RefusedInstance) bool { return i.ID == r.Nearest }) {
		r.Instances[len(r.Instances)-1] = RefusedInstance{nearest.ID, r.NearestReason}
	}
	switch r.NearestReason {
	case ReasonGPU, ReasonPorts, ReasonMemory, ReasonCPU:
		r.NearestMissing = f.task.missing(nearest.node)
		r.NearestPorts = f.task.takenPorts(nearest.node)
	case ReasonAttribute:
		for _, a := range f.task.RequiresAttributes {
			if !nearest.hasAttribute(a) {
				r.NearestAttributes = append(r.NearestAttributes, a)
			}
		}
	}
	return r
}

// nearer tells whether c, refused for reason, is a better explanation than d.
func (f *field) nearer(c *candidate, reason Reason, d *candidate, dReason Reason) bool {
	rank, dRank := slices.Index(reasonOrder, reason), slices.Index(reasonOrder, dReason)
	if rank != dRank {
		return rank > dRank
	}
	if rank < slices.Index(reasonOrder, ReasonGPU) {
		return false
	}
	return f.task.shortfall(c.node) < f.task.shortfall(d.node)
}

// missing is what the node lacks of each resource.
func (t *task) missing(n *node) Resources {
	return Resources{
		CPU:    max(t.Resources.CPU-n.remaining.CPU, 0),
		Memory: max(t.Resources.Memory-n.remaining.Memory, 0),
		GPU:    max(t.Resources.GPU-n.remaining.GPU, 0),
	}
}

// shortfall adds up what the node lacks, each as a share of what is needed.
func (t *task) shortfall(n *node) float64 {
	m, sum := t.missing(n), 0.0
	for _, part := range [][2]int64{{m.CPU, t.Resources.CPU}, {m.Memory, t.Resources.Memory}, {m.GPU, t.Resources.GPU}} {
		if part[1] > 0 {
			sum += float64(part[0]) / float64(part[1])
		}
	}
	return sum
}

// takenPorts are the requested host ports that are taken on n, each once.
func (t *task) takenPorts(n *node) []uint16 {
	if n.placed > 0 {
		return slices.Concat(t.TCPPorts, t.UDPPorts)
	}
	taken := make(map[uint16]bool)
	for _, c := range n.candidates {
		for _, p := range t.TCPPorts {
			if c.takesTCP(p) {
				taken[p] = true
			}
		}
		for _, p := range t.UDPPorts {
			if c.takesUDP(p) {
				taken[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(taken))
}

// Explain says in words why the request was refused and what would change it;
// instances are called by what name returns for their ID (nil: the ID itself).
func (r Refusal) Explain(name func(id string) string) string {
	if r.Invalid != nil {
		return r.Invalid.Error()
	}
	if r.Nearest == "" {
		return "there is no container instance in the cluster"
	}
	if name == nil {
		name = func(id string) string { return id }
	}
	var counts []string
	for _, reason := range reasonOrder {
		if n := r.Counts[reason]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, strings.TrimSuffix(string(reason), ".")))
		}
	}
	return fmt.Sprintf("no container instance met all requirements (%s); the closest, %s, %s",
		strings.Join(counts, ", "), name(r.Nearest), r.lack())
}

// lack says what the nearest instance would have to have.
func (r Refusal) lack() string {
	var needs []string
	if n := r.NearestMissing.CPU; n > 0 {
		needs = append(needs, fmt.Sprintf("%d CPU units more", n))
	}
	if n := r.NearestMissing.Memory; n > 0 {
		needs = append(needs, fmt.Sprintf("%d MiB of memory more", n))
	}
	if n := r.NearestMissing.GPU; n > 0 {
		needs = append(needs, fmt.Sprintf("%d GPUs more", n))
	}
	if len(r.NearestPorts) > 0 {
		needs = append(needs, fmt.Sprintf("host ports free that are taken: %s", join(r.NearestPorts)))
	}
	for _, a := range r.NearestAttributes {
		need := "the attribute " + a.Name
		if a.Value != "" {
			need += "=" + a.Value
		}
		needs = append(needs, need)
	}
	if len(needs) > 0 {
		return "needs " + strings.Join(needs, ", ")
	}
	return map[Reason]string{
		ReasonInactive: "is not ACTIVE",
		ReasonAgent:    "has an agent that is not connected",
		ReasonLocation: "is in another availability zone than the task's subnets",
		ReasonMemberOf: "does not satisfy a memberOf placement constraint",
		ReasonDistinct: "runs a task of the same group already (distinctInstance)",
	}[r.NearestReason]
}

func join(ports []uint16) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, ", ")
}
