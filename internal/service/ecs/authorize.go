package ecs

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

var errNotTheNodes = errors.New("a node may act for its own container instances and tasks only")

// NodeMay tells whether a node's agent may make a call: it may act for its own
// container instances and their tasks, and for nothing else. The error is the
// reason of the refusal.
func (s *Service) NodeMay(_ context.Context, req *wire.AuthorizationRequest) error {
	sc := store.Scope{Account: req.Call.Account, Region: req.Call.Region}
	node := req.Call.Principal.NodeID
	allowed := false
	switch in := req.Input.(type) {
	case *ecs.RegisterContainerInstanceInput:
		arn := deref(in.ContainerInstanceArn)
		allowed = s.mayRegister(sc, node, in.Cluster) && (arn == "" || s.ownInstance(sc, node, arn, in.Cluster))
	case *ecs.DiscoverPollEndpointInput:
		ref := deref(in.ContainerInstance)
		allowed = ref == "" || s.ownInstance(sc, node, ref, in.Cluster)
	case *ecs.DeregisterContainerInstanceInput:
		allowed = s.ownInstance(sc, node, deref(in.ContainerInstance), in.Cluster)
	case *ecs.UpdateContainerInstancesStateInput:
		allowed = len(in.ContainerInstances) > 0
		for _, ref := range in.ContainerInstances {
			allowed = allowed && s.ownInstance(sc, node, ref, in.Cluster)
		}
	case *ecs.SubmitTaskStateChangeInput:
		allowed = s.ownTask(sc, node, deref(in.Task), in.Cluster)
	case *ecs.SubmitContainerStateChangeInput:
		allowed = s.ownTask(sc, node, deref(in.Task), in.Cluster)
	case *ecs.SubmitAttachmentStateChangesInput:
		allowed = true // the operation looks among the node's own tasks only
	case *ecs.ListTagsForResourceInput:
		arn := deref(in.ResourceArn)
		a, ok := parseARN(arn)
		allowed = ok && (a.Kind == "task" && s.knows(sc, arn) && s.ownTask(sc, node, arn, nil) ||
			a.Kind == "container-instance" && s.ownInstance(sc, node, arn, nil))
	case *ecs.CreateClusterInput:
		// An agent makes the default cluster where there is none.
		allowed = deref(in.ClusterName) == "" || *in.ClusterName == defaultCluster
	}
	if allowed && node != "" {
		return nil
	}
	return errNotTheNodes
}

// mayRegister tells whether a node may be in a cluster at all: in the region that it
// joined, and where its token said.
func (s *Service) mayRegister(sc store.Scope, node string, cluster *string) bool {
	n, ok := s.node(s.db.Snapshot(), sc, node)
	if !ok || n.OnlyCluster == "" {
		return ok
	}
	name, err := clusterName(sc, cluster)
	return err == nil && name == n.OnlyCluster
}

func (s *Service) ownInstance(sc store.Scope, node, ref string, cluster *string) bool {
	name, err := clusterOfMember(sc, ref, cluster)
	if err != nil {
		return false
	}
	ci, err := s.instance(s.db.Snapshot(), sc, name, ref)
	return err == nil && ci.NodeID == node
}

// knows tells whether a task is there.
func (s *Service) knows(sc store.Scope, arn string) bool {
	key, ok := taskKeyOf(sc, arn)
	if ok {
		_, ok = s.tasks.Get(s.db.Snapshot(), sc, key)
	}
	return ok
}

// ownTask also allows tasks that are not known any more: their reports are
// acknowledged and dropped.
func (s *Service) ownTask(sc store.Scope, node, ref string, cluster *string) bool {
	name, err := clusterOfMember(sc, ref, cluster)
	if err != nil {
		return false
	}
	id, err := memberID(sc, "task", name, ref)
	if err != nil {
		return false
	}
	t, ok := s.tasks.Get(s.db.Snapshot(), sc, memberKey(name, id))
	return !ok || t.NodeID == node
}
