package ecs

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/store"
)

// DefaultLostAfter is how long a node's agent may be away before the node counts
// as lost: longer than a reboot.
const DefaultLostAfter = 5 * time.Minute

// lostAt is when a node counts as lost if its agent does not come back; false for
// one that cannot be lost now. Nobody knows what happened before this process
// began: an agent that could not reach a dead server has done nothing wrong, so
// that the time counts from the process's start at the earliest.
func lostAt(n *Node, began time.Time, after time.Duration) (time.Time, bool) {
	if n.Connected || n.HomeInstance == "" {
		return time.Time{}, false
	}
	since := n.ConnectivityAt
	for _, t := range []time.Time{n.RegisteredAt, began} {
		if t.After(since) {
			since = t
		}
	}
	return since.Add(after), true
}

// lostReason says why a lost node's task was stopped.
func lostReason(n *Node, lost time.Time, after time.Duration) string {
	since := "it never connected after it registered"
	if !n.ConnectivityAt.IsZero() {
		since = "its agent has been disconnected since " + n.ConnectivityAt.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("Host (instance %s) lost at %s: %s, and a host counts as lost after %s", n.ID, lost.UTC().Format(time.RFC3339), since, after)
}

// clock is the loop's: the room's own, so that a test or a simulation can step it.
type clock struct{ now func() time.Time }

// Now implements reconcile.Clock.
func (c clock) Now() time.Time { return c.now() }

// After implements reconcile.Clock.
func (c clock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Keys of the loop are "account/region/node".
func nodeKey(ref store.Ref) string { return ref.Account + "/" + ref.Region + "/" + ref.ID }

func nodeRef(key string) (store.Ref, bool) {
	parts := strings.SplitN(key, "/", 3)
	if len(parts) != 3 {
		return store.Ref{}, false
	}
	return store.Ref{Scope: store.Scope{Account: parts[0], Region: parts[1]}, ID: parts[2]}, true
}

// watchNodes makes the loop, and wakes it when a node's agent goes away and when
// an instance is deregistered.
func (s *Service) watchNodes() {
	began := s.now()
	s.nodeLoop = reconcile.New(reconcile.Options{
		Name: "ecs nodes", Log: s.log, Resync: time.Minute, Workers: 4,
		QueueOptions: reconcile.QueueOptions{Clock: clock{s.now}},
		Keys: func() iter.Seq[string] {
			return func(yield func(string) bool) {
				for ref := range s.nodes.ListAll(s.db.Snapshot()) {
					if !yield(nodeKey(ref)) {
						return
					}
				}
			}
		},
		Reconcile: func(ctx context.Context, key string) (time.Duration, error) { return s.reconcileNode(ctx, key, began) },
	})
	s.nodes.Subscribe(func(c store.Change[Node]) {
		if c.New != nil && !c.New.Connected && (c.Old == nil || c.Old.Connected || c.Old.HomeInstance != c.New.HomeInstance) {
			s.nodeLoop.Add(nodeKey(c.Ref))
		}
	})
	s.instances.Subscribe(func(c store.Change[ContainerInstance]) {
		if c.New != nil && c.New.Status == statusInactive && (c.Old == nil || c.Old.Status != statusInactive) {
			s.nodeLoop.Add(nodeKey(store.Ref{Scope: c.Scope, ID: c.New.NodeID}))
		}
	})
}

// reconcileNode stops what a node that is lost, or an instance that is
// deregistered, was to run. It returns when the node will be lost if its agent
// stays away.
func (s *Service) reconcileNode(ctx context.Context, key string, began time.Time) (again time.Duration, err error) {
	ref, ok := nodeRef(key)
	if !ok {
		return 0, nil
	}
	if err := s.noteAway(ctx, ref); err != nil {
		return 0, err
	}
	if err := s.giveUp(ctx, ref); err != nil {
		return 0, err
	}
	n, ok := s.nodes.Get(s.db.Snapshot(), ref.Scope, ref.ID)
	if !ok {
		return 0, nil
	}
	at, ok := lostAt(n, began, s.deps.LostAfter)
	if !ok {
		return 0, nil
	}
	now := s.now().UTC()
	if now.Before(at) {
		return at.Sub(now), nil
	}
	return 0, s.lose(ctx, ref, began)
}

// noteAway marks a node disconnected that has no session any more: when its last one
// ended, the store may not have answered.
func (s *Service) noteAway(ctx context.Context, ref store.Ref) error {
	n, ok := s.nodes.Get(s.db.Snapshot(), ref.Scope, ref.ID)
	if !ok || !n.Connected || s.serves(n) {
		return nil
	}
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		return s.setConnected(tx, ref.Scope, ref.ID, false, func(n *Node) bool { return n.Connected && !s.serves(n) })
	})
	if err != nil {
		return fmt.Errorf("record that the agent of node %s is away: %w", ref.ID, err)
	}
	return nil
}

// lose marks a node lost and stops its tasks, a batch at a time. Each batch makes
// sure that the agent has not come back meanwhile.
func (s *Service) lose(ctx context.Context, ref store.Ref, began time.Time) error {
	now := s.now().UTC()
	for {
		stopped := 0
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			stopped = 0
			old, ok := s.nodes.Get(tx, ref.Scope, ref.ID) // guarded: a session that opens makes this run again
			if !ok {
				return nil
			}
			at, ok := lostAt(old, began, s.deps.LostAfter)
			if !ok || now.Before(at) {
				return nil
			}
			n := old
			if n.LostAt.IsZero() {
				n = s.nodes.Clone(old)
				n.LostAt = now
				s.nodes.Put(tx, ref.Scope, ref.ID, n)
			}
			reason := lostReason(n, n.LostAt, s.deps.LostAfter)
			for key := range s.liveByNode.List(tx, ref.Scope, ref.ID) {
				if stopped == giveUpBatch {
					break
				}
				t, _ := s.tasks.Get(tx, ref.Scope, key) // guarded: its agent may still report
				t = s.tasks.Clone(t)
				t.stopNow(types.TaskStopCodeTerminationNotice, reason, now)
				s.releaseENI(tx, ref.Scope, t, now)
				s.tasks.Put(tx, ref.Scope, t.Key(), t)
				stopped++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("give up the tasks of the lost node %s: %w", ref.ID, err)
		}
		if stopped > 0 {
			s.log.Warn("a node is lost; its tasks were stopped", "node", ref.ID, "tasks", stopped)
		}
		if stopped < giveUpBatch {
			return nil
		}
	}
}

// giveUp stops the tasks that a node's deregistered instances still have, a batch
// at a time. All instances of a revoked node are deregistered on the way.
func (s *Service) giveUp(ctx context.Context, ref store.Ref) error {
	now := s.now().UTC()
	for {
		done := 0
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			done = 0
			n, ok := s.node(tx, ref.Scope, ref.ID)
			if !ok {
				return nil
			}
			for key := range s.instancesByNode.List(tx, ref.Scope, ref.ID) {
				done += s.giveUpInstance(tx, ref.Scope, n, key, giveUpBatch-done, now)
				if done >= giveUpBatch {
					break
				}
			}
			if done > 0 {
				s.writeLedger(tx, ref.Scope, ref.ID)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("stop the tasks of deregistered instances of node %s: %w", ref.ID, err)
		}
		if done < giveUpBatch {
			return nil
		}
	}
}

// giveUpInstance does up to limit things to one instance, and tells how many.
func (s *Service) giveUpInstance(tx *store.Tx, sc store.Scope, n *Node, key string, limit int, now time.Time) (done int) {
	ci, ok := s.instances.Get(tx, sc, key)
	if !ok || ci.Status != statusInactive && n.RevokedAt.IsZero() {
		return 0
	}
	if ci.Status != statusInactive {
		s.retire(tx, sc, ci, now)
		done++
	}
	for key := range s.tasksByInstance.List(tx, sc, ci.Key()) {
		if done >= limit {
			break
		}
		t, _ := s.tasks.Get(tx, sc, key) // guarded: its agent may still report
		if t.LastStatus != taskStopped && s.orphan(tx, sc, n, s.tasks.Clone(t), now) {
			done++
		}
	}
	return done
}
