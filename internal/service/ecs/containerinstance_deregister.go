package ecs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// reasonDeregistered is AWS's text.
const reasonDeregistered = "Container instance deregistration forced by user"

// giveUpBatch bounds how many tasks one transaction stops.
const giveUpBatch = 50

// DeregisterContainerInstance ends an instance's membership. With tasks on it,
// it must be forced; the tasks are then stopped. The instance is INACTIVE in one
// transaction, and its tasks follow in as many as they need: the loop of lost.go
// goes on with them if this process dies in between.
func (s *Service) DeregisterContainerInstance(ctx context.Context, in *ecs.DeregisterContainerInstanceInput) (*ecs.DeregisterContainerInstanceOutput, error) {
	sc, now := scopeOf(ctx), s.now().UTC()
	var key, node string
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.cluster(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		ci, err := s.instance(tx, sc, c.Name, deref(in.ContainerInstance))
		if err != nil {
			return err
		}
		if _, ok := s.nodeOf(tx, sc, ci); !ok {
			return errServer("The container instance's node is unknown.")
		}
		key, node = ci.Key(), ci.NodeID
		if ci.Status == statusInactive {
			return nil
		}
		if !deref(in.Force) && len(s.tasksOn(tx, sc, ci)) > 0 {
			return errInvalidParameter("Found running tasks on the instance.")
		}
		s.retire(tx, sc, ci, now)
		s.writeLedger(tx, sc, ci.NodeID) // no task may be placed there meanwhile
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.giveUp(ctx, store.Ref{Scope: sc, ID: node}); err != nil {
		return nil, err
	}
	snap := s.db.Snapshot()
	ci, ok := s.instances.Get(snap, sc, key)
	if !ok {
		return nil, errServer("The container instance was deregistered before, and is gone.")
	}
	n, _ := s.nodeOf(snap, sc, ci)
	shown := s.instanceView(snap, sc, n, ci, true, false)
	return &ecs.DeregisterContainerInstanceOutput{ContainerInstance: &shown}, nil
}

// retire makes an instance INACTIVE. Whoever calls it writes the node's ledger.
func (s *Service) retire(tx *store.Tx, sc store.Scope, ci *ContainerInstance, now time.Time) {
	ci = s.instances.Clone(ci)
	ci.Status, ci.InactiveAt = statusInactive, now
	ci.Version++
	s.instances.Put(tx, sc, ci.Key(), ci)
}

// orphan stops a task whose instance is deregistered, and tells whether there was
// anything to do. The agent of a universal node stays and stops the task; any
// other is given up.
func (s *Service) orphan(tx *store.Tx, sc store.Scope, n *Node, t *Task, now time.Time) bool {
	if n.Universal {
		if !t.requestStop(types.TaskStopCodeUserInitiated, reasonDeregistered, now) {
			return false
		}
		t.Version++
		if !t.serves() {
			t.advance(taskStopping, now)
		}
	} else {
		t.stopNow(types.TaskStopCodeUserInitiated, reasonDeregistered, now)
		s.releaseENI(tx, sc, t, now)
	}
	s.tasks.Put(tx, sc, t.Key(), t)
	return true
}
