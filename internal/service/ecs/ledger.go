package ecs

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// usage is what a node's tasks take of it.
type usage struct {
	cpu, memory int64
	gpus        map[string]bool
	tcp, udp    map[uint16]bool
	tasks       []*Task
}

// usage adds up the tasks of a node that are not STOPPED, of every cluster, and
// the ports that the node keeps for itself.
func (s *Service) usage(r store.Reader, sc store.Scope, n *Node) usage {
	u := usage{gpus: map[string]bool{}, tcp: map[uint16]bool{}, udp: map[uint16]bool{}}
	takePorts(u.tcp, n.Resources.TCP)
	takePorts(u.udp, n.Resources.UDP)
	for _, t := range s.liveByNode.List(r, sc, n.ID) {
		u.tasks = append(u.tasks, t)
		u.cpu += t.Allocation.CPU
		u.memory += t.Allocation.Memory
		for _, g := range t.Allocation.GPUs {
			u.gpus[g] = true
		}
		for _, p := range t.Allocation.TCP {
			u.tcp[p] = true
		}
		for _, p := range t.Allocation.UDP {
			u.udp[p] = true
		}
		for i := range t.Containers {
			u.takeBindings(t.Containers[i].NetworkBindings)
		}
	}
	return u
}

// takeBindings counts the host ports that an agent chose.
func (u *usage) takeBindings(bindings []types.NetworkBinding) {
	for _, b := range bindings {
		p := deref(b.HostPort)
		if p <= 0 || p > 65535 {
			continue
		}
		if b.Protocol == types.TransportProtocolUdp {
			u.udp[uint16(p)] = true
		} else {
			u.tcp[uint16(p)] = true
		}
	}
}

func takePorts(into map[uint16]bool, ports []string) {
	for _, p := range ports {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			into[uint16(n)] = true
		}
	}
}

func portList(ports map[uint16]bool) []string {
	sorted := make([]int, 0, len(ports))
	for p := range ports {
		sorted = append(sorted, int(p))
	}
	slices.Sort(sorted)
	text := make([]string, len(sorted))
	for i, p := range sorted {
		text[i] = strconv.Itoa(p)
	}
	return text
}

// remaining is what the node has left.
func (u *usage) remaining(n *Node) placement.Resources {
	gpus := 0
	for _, g := range n.Resources.GPUs {
		if !u.gpus[g] {
			gpus++
		}
	}
	return placement.Resources{
		CPU:    n.Resources.CPU - u.cpu,
		Memory: n.Resources.Memory - u.memory,
		GPU:    int64(gpus),
	}
}

// candidate describes a container instance to the placement. ci is nil for a
// node that takes Fargate tasks.
func (s *Service) candidate(r store.Reader, sc store.Scope, cluster string, n *Node, ci *ContainerInstance) placement.Instance {
	u := s.usage(r, sc, n)
	in := placement.Instance{
		ID: n.ID, NodeID: n.ID, Active: true, AgentConnected: n.Connected,
		Remaining: u.remaining(n), UsedTCP: u.tcp, UsedUDP: u.udp,
		Attributes: attributeMap(n, ci), TaskGroups: map[string]int{},
		AgentVersion: agentVersion(n), EC2InstanceID: n.ID, RegisteredAt: n.RegisteredAt,
	}
	if ci != nil {
		in.ID, in.Active, in.RegisteredAt = ci.ID, ci.Status == statusActive, ci.RegisteredAt
		in.AgentConnected = agentConnected(n, ci)
	}
	for _, t := range u.tasks {
		if t.Cluster != cluster || ci != nil && t.InstanceID != ci.ID {
			continue
		}
		if t.DesiredStatus == taskRunning {
			in.TaskGroups[t.Group]++
		}
		if t.LastStatus == taskRunning {
			in.RunningTasks++
		}
	}
	return in
}

// clusterCandidates are the ACTIVE instances of a cluster.
func (s *Service) clusterCandidates(r store.Reader, sc store.Scope, cluster string) []placement.Instance {
	var all []placement.Instance
	for _, ci := range s.instances.ListPrefix(r, sc, cluster+"/") {
		if ci.Status != statusActive {
			continue
		}
		if n, ok := s.nodeOf(r, sc, ci); ok {
			all = append(all, s.candidate(r, sc, cluster, n, ci))
		}
	}
	return all
}

// fargateCandidates are the nodes that take Fargate tasks.
func (s *Service) fargateCandidates(r store.Reader, sc store.Scope, cluster string) []placement.Instance {
	var all []placement.Instance
	for _, n := range s.nodesByRole.List(r, sc, "fargate") {
		c := s.candidate(r, sc, cluster, n, nil)
		c.Active = n.Universal || s.homeActive(r, sc, n)
		all = append(all, c)
	}
	return all
}

// homeActive tells whether the instance that the node's agent registered as
// still is one.
func (s *Service) homeActive(r store.Reader, sc store.Scope, n *Node) bool {
	ci, ok := s.instances.Get(r, sc, memberKey(n.HomeCluster, n.HomeInstance))
	return ok && ci.Status == statusActive
}

// nodeOf reads an instance's node without guarding it: in a transaction the
// ledger guards what matters, and a node's connection must not fail placements.
func (s *Service) nodeOf(r store.Reader, sc store.Scope, ci *ContainerInstance) (*Node, bool) {
	return s.node(r, sc, ci.NodeID)
}

func (s *Service) node(r store.Reader, sc store.Scope, id string) (*Node, bool) {
	for key, n := range s.nodes.ListPrefix(r, sc, id) {
		return n, key == id // the exact key sorts first
	}
	return nil, false
}

// writeLedger enters that a transaction puts tasks on a node.
func (s *Service) writeLedger(tx *store.Tx, sc store.Scope, node string) {
	l, ok := s.ledgers.Get(tx, sc, node)
	if !ok {
		l = &Ledger{}
	}
	s.ledgers.Put(tx, sc, node, &Ledger{Writes: l.Writes + 1})
}

// attributeMap merges the node's attributes and the instance's own.
func attributeMap(n *Node, ci *ContainerInstance) map[string]string {
	m := make(map[string]string, len(n.Attributes)+4)
	for _, a := range n.Attributes {
		m[deref(a.Name)] = deref(a.Value)
	}
	if ci != nil {
		for _, a := range ci.Attributes {
			m[deref(a.Name)] = deref(a.Value)
		}
	}
	return m
}

// instanceAttributes is attributeMap as the API shows it.
func instanceAttributes(n *Node, ci *ContainerInstance) []types.Attribute {
	seen := map[string]bool{}
	var all []types.Attribute
	for _, list := range [][]types.Attribute{ci.Attributes, n.Attributes} {
		for _, a := range list {
			if !seen[deref(a.Name)] {
				seen[deref(a.Name)] = true
				all = append(all, types.Attribute{Name: a.Name, Value: a.Value})
			}
		}
	}
	return all
}

func agentVersion(n *Node) string {
	if n.VersionInfo == nil {
		return ""
	}
	return deref(n.VersionInfo.AgentVersion)
}

// agentConnected: a universal node's agent serves all of its instances, any
// other's only the one that it registered as.
func agentConnected(n *Node, ci *ContainerInstance) bool {
	return n.Connected && ci.Status != statusInactive &&
		(n.Universal || n.HomeCluster == ci.Cluster && n.HomeInstance == ci.ID)
}
