package ecs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// cluster returns the ACTIVE cluster that ref names.
func (s *Service) cluster(r store.Reader, sc store.Scope, ref *string) (*Cluster, error) {
	name, err := clusterName(sc, ref)
	if err != nil {
		return nil, err
	}
	c, ok := s.clusters.Get(r, sc, name)
	if !ok || c.Status != statusActive {
		return nil, errClusterNotFound()
	}
	return c, nil
}

// clusterForWrite returns the ACTIVE cluster that ref names. The default cluster
// is made when the account has never had one, as AWS does at the first use.
// generation is a new id, in case a cluster is made.
func (s *Service) clusterForWrite(tx *store.Tx, sc store.Scope, ref *string, generation string, now time.Time) (*Cluster, error) {
	name, err := clusterName(sc, ref)
	if err != nil {
		return nil, err
	}
	if _, ok := s.clusters.Get(tx, sc, name); !ok && name == defaultCluster {
		return s.addCluster(tx, sc, &Cluster{Name: name, Generation: generation, Status: statusActive, CreatedAt: now}), nil
	}
	return s.cluster(tx, sc, &name)
}

// EnsureDefaultCluster makes the default cluster where the account has never had
// one, so that it is there before its first use.
func (s *Service) EnsureDefaultCluster(ctx context.Context, account, region string) error {
	generation, now := s.id(), s.now().UTC()
	return s.db.Update(ctx, func(tx *store.Tx) error {
		sc := store.Scope{Account: account, Region: region}
		if _, ok := s.clusters.Get(tx, sc, defaultCluster); !ok {
			s.addCluster(tx, sc, &Cluster{Name: defaultCluster, Generation: generation, Status: statusActive, CreatedAt: now})
		}
		return nil
	})
}

// addCluster puts a new ACTIVE cluster and joins the universal nodes to it.
func (s *Service) addCluster(tx *store.Tx, sc store.Scope, c *Cluster) *Cluster {
	s.clusters.Put(tx, sc, c.Name, c)
	for id, n := range s.nodesByRole.List(tx, sc, "universal") {
		// A guarded read: a registration at the same time must not miss the cluster.
		if n, _ = s.nodes.Get(tx, sc, id); n != nil && n.Universal {
			s.joinCluster(tx, sc, n, c, c.CreatedAt)
		}
	}
	return c
}

// withdrawUniversal removes the universal nodes' instances from a cluster that
// is being deleted; they are no reason to refuse the deletion. The instance that
// a node's agent registered as only becomes INACTIVE: the agent's sessions, which
// serve the other clusters too, are in its name.
func (s *Service) withdrawUniversal(tx *store.Tx, sc store.Scope, cluster string, now time.Time) {
	for key, ci := range s.instances.ListPrefix(tx, sc, cluster+"/") {
		n, ok := s.nodes.Get(tx, sc, ci.NodeID)
		switch {
		case !ok || !n.Universal:
		case n.isHome(ci):
			ci = s.instances.Clone(ci)
			ci.Status, ci.InactiveAt = statusInactive, now
			ci.Version++
			s.instances.Put(tx, sc, key, ci)
		default:
			s.instances.Delete(tx, sc, key)
		}
	}
}

// isHome tells whether the node's agent registered as this instance.
func (n *Node) isHome(ci *ContainerInstance) bool {
	return n.HomeCluster == ci.Cluster && n.HomeInstance == ci.ID
}

// joinCluster makes the instance of a universal node in a cluster. Its id
// follows from the node's incarnation and the cluster's generation, so that
// joining again finds the same record.
func (s *Service) joinCluster(tx *store.Tx, sc store.Scope, n *Node, c *Cluster, now time.Time) {
	if n.HomeCluster == c.Name {
		s.comeHome(tx, sc, n, c)
		return
	}
	sum := sha256.Sum256([]byte(n.ID + "\x00" + n.Incarnation + "\x00" + c.Generation))
	ci := &ContainerInstance{
		ID: hex.EncodeToString(sum[:16]), Cluster: c.Name, NodeID: n.ID,
		Status: statusActive, RegisteredAt: now, Version: 1,
	}
	if _, ok := s.instances.Get(tx, sc, ci.Key()); !ok {
		s.instances.Put(tx, sc, ci.Key(), ci)
	}
}

// comeHome makes a node's own instance ACTIVE again when the cluster was deleted
// and made anew.
func (s *Service) comeHome(tx *store.Tx, sc store.Scope, n *Node, c *Cluster) {
	old, ok := s.instances.Get(tx, sc, memberKey(c.Name, n.HomeInstance))
	if !ok || old.Status != statusInactive || old.InactiveAt.After(c.CreatedAt) {
		return
	}
	ci := s.instances.Clone(old)
	ci.Status, ci.StatusReason, ci.InactiveAt, ci.RegisteredAt = statusActive, "", time.Time{}, c.CreatedAt
	ci.Version++
	s.instances.Put(tx, sc, ci.Key(), ci)
}

// definition returns the task definition that ref names: a family's latest
// active revision, or the given one whatever its status.
func (s *Service) definition(r store.Reader, sc store.Scope, ref string) (*TaskDefinition, error) {
	family, revision, err := parseDefinitionRef(sc, ref)
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		f, ok := s.families.Get(r, sc, family)
		if !ok || f.LatestActive == 0 {
			return nil, errClient("TaskDefinition not found.")
		}
		revision = f.LatestActive
	}
	d, ok := s.definitions.Get(r, sc, definitionID(family, revision))
	if !ok {
		return nil, errClient("TaskDefinition not found.")
	}
	return d, nil
}

// runnableDefinition returns the task definition that new tasks may be made of.
func (s *Service) runnableDefinition(r store.Reader, sc store.Scope, ref string) (*TaskDefinition, error) {
	d, err := s.definition(r, sc, ref)
	if err != nil {
		return nil, err
	}
	if d.Definition.Status != types.TaskDefinitionStatusActive {
		return nil, errClient("TaskDefinition is inactive")
	}
	return d, nil
}

// instance returns a container instance that a call names in a cluster.
func (s *Service) instance(r store.Reader, sc store.Scope, cluster, ref string) (*ContainerInstance, error) {
	id, err := memberID(sc, "container-instance", cluster, ref)
	if err != nil {
		return nil, err
	}
	ci, ok := s.instances.Get(r, sc, memberKey(cluster, id))
	if !ok {
		return nil, errInvalidParameter("The referenced container instance was not found.")
	}
	return ci, nil
}

// task returns a task that a call names in a cluster.
func (s *Service) task(r store.Reader, sc store.Scope, cluster, ref string) (*Task, error) {
	id, err := memberID(sc, "task", cluster, ref)
	if err != nil {
		return nil, err
	}
	t, ok := s.tasks.Get(r, sc, memberKey(cluster, id))
	if !ok {
		return nil, errInvalidParameter("The referenced task was not found.")
	}
	return t, nil
}
