package ecs

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"longshore.dev/longshore/internal/store"
)

// Admission is what a node may be.
type Admission struct {
	NodeID string
	// All lets the node serve every cluster, Fargate lets it take FARGATE tasks.
	All, Fargate bool
	// Cluster is the only one that it may register in; empty: any.
	Cluster string
}

// PutNode makes or changes a node's record: what its agent may announce, and
// where. It is called by the composition root for the nodes that it trusts, before
// they register.
func (s *Service) PutNode(ctx context.Context, account, region string, a Admission) error {
	sc := store.Scope{Account: account, Region: region}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		n := &Node{ID: a.NodeID}
		if old, ok := s.nodes.Get(tx, sc, a.NodeID); ok {
			n = s.nodes.Clone(old)
		}
		n.MayServeAll, n.MayServeFargate, n.OnlyCluster, n.RevokedAt = a.All, a.Fargate, a.Cluster, time.Time{}
		s.nodes.Put(tx, sc, a.NodeID, n)
		return nil
	})
}

// HasCluster tells whether there is an ACTIVE cluster of this name.
func (s *Service) HasCluster(account, region, name string) bool {
	c, ok := s.clusters.Get(s.db.Snapshot(), store.Scope{Account: account, Region: region}, name)
	return ok && c.Status == statusActive
}

// NodeAddress is where a node's host ports are reached; ok is false if there is no such node.
func (s *Service) NodeAddress(account, region, id string) (address netip.Addr, ok bool) {
	n, ok := s.node(s.db.Snapshot(), store.Scope{Account: account, Region: region}, id)
	if !ok || !n.LostAt.IsZero() {
		return netip.Addr{}, false
	}
	address, err := netip.ParseAddr(n.Address)
	return address.Unmap(), err == nil
}

// NodeInfo is what the operator may know of a node.
type NodeInfo struct {
	ID string `json:"id"`
	// Cluster and Instance (an ARN) are what the agent registered as; empty before.
	Cluster  string `json:"cluster,omitempty"`
	Instance string `json:"instance,omitempty"`
	// State is "connected", "disconnected", "lost", "revoked" or, before it
	// registered, "joined".
	State string `json:"state"`
	// Since is when the state began, zero when that is not known.
	Since time.Time `json:"since,omitzero"`
	// Tasks counts those that have not stopped.
	Tasks int `json:"tasks"`
}

// Nodes lists the nodes of an account and region.
func (s *Service) Nodes(account, region string) []NodeInfo {
	sc, snap, list := store.Scope{Account: account, Region: region}, s.db.Snapshot(), []NodeInfo{}
	for id, n := range s.nodes.List(snap, sc) {
		info := NodeInfo{ID: id, Cluster: n.HomeCluster, Tasks: s.liveByNode.Count(snap, sc, id)}
		if n.HomeInstance != "" {
			info.Instance = instanceARN(sc, n.HomeCluster, n.HomeInstance)
		}
		switch {
		case !n.RevokedAt.IsZero():
			info.State, info.Since = "revoked", n.RevokedAt
		case n.Connected:
			info.State, info.Since = "connected", n.ConnectivityAt
		case !n.LostAt.IsZero():
			info.State, info.Since = "lost", n.LostAt
		case n.HomeInstance == "":
			info.State = "joined"
		default:
			info.State, info.Since = "disconnected", n.ConnectivityAt
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.ID, b.ID)) })
	return list
}

// RevokeNode gives a node up for good: all of its instances are deregistered, its
// tasks stopped. It tells whether the node was known. Its credentials are the
// caller's business.
func (s *Service) RevokeNode(ctx context.Context, account, region, id string) (known bool, err error) {
	sc, now := store.Scope{Account: account, Region: region}, s.now().UTC()
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.nodes.Get(tx, sc, id)
		if known = ok; !ok {
			return nil
		}
		n := s.nodes.Clone(old)
		n.RevokedAt, n.Universal, n.Fargate = now, false, false // its agent will not come back to stop anything
		s.nodes.Put(tx, sc, id, n)
		s.writeLedger(tx, sc, id)
		return nil
	})
	if err != nil || !known {
		return known, err
	}
	return true, s.giveUp(ctx, store.Ref{Scope: sc, ID: id})
}

// sweepNodes forgets revoked nodes of which nothing is left.
func (s *Service) sweepNodes(ctx context.Context) error {
	snap := s.db.Snapshot()
	var over []store.Ref
	for ref, n := range s.nodes.ListAll(snap) {
		if !n.RevokedAt.IsZero() && s.instancesByNode.Count(snap, ref.Scope, ref.ID) == 0 && s.liveByNode.Count(snap, ref.Scope, ref.ID) == 0 {
			over = append(over, ref)
		}
	}
	return remove(ctx, s.db, s.nodes, over, func(n *Node) bool { return !n.RevokedAt.IsZero() })
}
