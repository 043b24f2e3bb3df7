package ecs

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// keptPorts are the ports that a node keeps for itself.
func keptPorts(ports []string) placement.Ports {
	var kept placement.Ports
	for _, p := range ports {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil {
			kept = append(kept, uint16(n))
		}
	}
	slices.Sort(kept)
	return kept
}

// portList lists ports as the API does: each once, in order.
func portList(lists ...placement.Ports) []string {
	ports := slices.Concat(lists...)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	text := make([]string, len(ports))
	for i, p := range ports {
		text[i] = strconv.Itoa(int(p))
	}
	return text
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

// attributeMap merges what the node offers and the instance's own attributes.
func attributeMap(n *Node, ci *ContainerInstance) map[string]string {
	m := make(map[string]string, len(n.Attributes)+4)
	for _, a := range n.offers() {
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
