package ecs

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// candidate is an instance as the placement sees it, with its node.
type candidate struct {
	placement.Instance
	node *Node
	// current is the instance as it was given to a placement last: it is right as
	// long as the node's usage is the same.
	current atomic.Pointer[usedCandidate]
}

type usedCandidate struct {
	usage    *usage
	cluster  string
	instance placement.Instance
}

// candidate describes a container instance to the placement. ci is nil for a
// node that takes Fargate tasks.
func (s *Service) candidate(r store.Reader, sc store.Scope, cluster string, n *Node, ci *ContainerInstance) placement.Instance {
	return *fixedCandidate(n, ci).used(s.usage(r, sc, n.ID), cluster, ci != nil)
}

// fixedCandidate is what of a candidate does not depend on tasks.
func fixedCandidate(n *Node, ci *ContainerInstance) *candidate {
	in := placement.Instance{
		ID: n.ID, NodeID: n.ID, Active: true, AgentConnected: n.Connected,
		KeptTCP: keptPorts(n.Resources.TCP), KeptUDP: keptPorts(n.Resources.UDP),
		Attributes: attributeMap(n, ci), AgentVersion: agentVersion(n), EC2InstanceID: n.ID, RegisteredAt: n.RegisteredAt,
	}
	if ci != nil {
		in.ID, in.Active, in.RegisteredAt = ci.ID, ci.Status == statusActive, ci.RegisteredAt
		in.AgentConnected = agentConnected(n, ci)
	}
	in.Zone = in.Attributes[attributeZone]
	return &candidate{Instance: in, node: n}
}

// used returns the instance with what tasks have taken of its node; those of the
// instance, or of the whole cluster, count towards its groups.
func (c *candidate) used(u *usage, cluster string, isInstance bool) *placement.Instance {
	if known := c.current.Load(); known != nil && known.usage == u && known.cluster == cluster {
		return &known.instance
	}
	own := memberUsage{}
	if isInstance {
		own = u.member(cluster, c.ID)
	} else {
		own = u.cluster(cluster)
	}
	now := &usedCandidate{usage: u, cluster: cluster, instance: c.Instance}
	in := &now.instance
	in.Remaining, in.UsedTCP, in.UsedUDP = u.remaining(c.node), u.tcp, u.udp
	in.TaskGroups, in.RunningTasks = own.groups, own.running
	c.current.Store(now)
	return in
}

// clusterCandidates are the ACTIVE instances of a cluster.
func (s *Service) clusterCandidates(r store.Reader, sc store.Scope, cluster string) []*placement.Instance {
	return s.candidates(r, sc, cluster, true, func() (all []*candidate) {
		for _, ci := range s.instances.ListPrefix(r, sc, cluster+"/") {
			if ci.Status != statusActive {
				continue
			}
			if n, ok := s.nodeOf(r, sc, ci); ok {
				all = append(all, fixedCandidate(n, ci))
			}
		}
		return all
	})
}

// fargateCandidates are the nodes that take Fargate tasks.
func (s *Service) fargateCandidates(r store.Reader, sc store.Scope, cluster string) []*placement.Instance {
	return s.candidates(r, sc, cluster, false, func() (all []*candidate) {
		for _, n := range s.nodesByRole.List(r, sc, "fargate") {
			c := fixedCandidate(n, nil)
			c.Active = n.Universal || s.homeActive(r, sc, n)
			all = append(all, c)
		}
		return all
	})
}

// candidates completes fixed candidates with what tasks have taken of each.
func (s *Service) candidates(r store.Reader, sc store.Scope, cluster string, areInstances bool, fixed func() []*candidate) []*placement.Instance {
	key := fixedKey{scope: sc}
	if areInstances {
		key.cluster = cluster
	}
	list := s.fixed.get(key, fixedMark{s.nodes.Mark(r), s.instances.Mark(r)}, fixed)
	all := make([]*placement.Instance, 0, len(list))
	// Both are ordered by node.
	next := func(u *usage, upTo string) {
		for len(all) < len(list) && list[len(all)].node.ID <= upTo {
			c := list[len(all)]
			if c.node.ID == upTo {
				all = append(all, c.used(u, cluster, areInstances))
			} else {
				all = append(all, c.used(&idle, cluster, areInstances))
			}
		}
	}
	for node, u := range s.usageByNode.All(r, sc) {
		next(u, node)
	}
	for _, c := range list[len(all):] {
		all = append(all, c.used(&idle, cluster, areInstances))
	}
	return all
}

// planners are for placements: a fleet's needs much room, and there may be
// thousands a second.
var planners = sync.Pool{New: func() any { return new(placement.Planner) }}

func planned(candidates []*placement.Instance, req placement.Request) placement.Plan {
	p := planners.Get().(*placement.Planner)
	defer planners.Put(p)
	return p.Place(candidates, req)
}

// fixedCandidates remembers, for a few clusters, what of their candidates does
// not depend on tasks. An entry counts only while nodes and instances are as they
// were when it was made; it is made again from them.
type fixedCandidates struct {
	mu sync.Mutex
	by map[fixedKey]fixedEntry
}

// fixedKey names a cluster, or with an empty one the nodes that take Fargate tasks.
type fixedKey struct {
	scope   store.Scope
	cluster string
}

type fixedMark struct{ nodes, instances store.Mark }

type fixedEntry struct {
	mark fixedMark
	list []*candidate // ordered by node, as the placement likes it
}

// maxFixed bounds the clusters remembered.
const maxFixed = 64

func (f *fixedCandidates) get(key fixedKey, mark fixedMark, list func() []*candidate) []*candidate {
	f.mu.Lock()
	e, ok := f.by[key]
	f.mu.Unlock()
	if ok && e.mark == mark {
		return e.list
	}
	e = fixedEntry{mark, list()}
	slices.SortFunc(e.list, func(a, b *candidate) int { return cmp.Compare(a.NodeID, b.NodeID) })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil || len(f.by) >= maxFixed {
		f.by = map[fixedKey]fixedEntry{}
	}
	f.by[key] = e
	return e.list
}
