package ecs

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/store"
)

const (
	sweepEvery = 30 * time.Second
	// sweepBatch bounds what one transaction removes.
	sweepBatch = 50
	// instanceRest is how long a deregistered instance can still be described.
	instanceRest = time.Hour
)

// HistoryTask is the kind of the room's records in the history: JSON of a Task.
const HistoryTask = "ecs.task"

// Run marks the nodes disconnected until their agents come back, and then gives up
// those that are lost and removes what is over, until ctx ends. The database must
// have been started.
func (s *Service) Run(ctx context.Context) error {
	if err := s.ResetConnectivity(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("ecs: reset the nodes' connectivity: %w", err)
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	for _, l := range s.Loops() {
		loops.Go(func() { _ = l.Run(ctx) }) // returns ctx's end, nothing else
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("what is over was not removed; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Loops are the loops that Run runs, for who steps them instead.
func (s *Service) Loops() []*reconcile.Loop {
	return []*reconcile.Loop{s.nodeLoop, s.serviceLoop, s.targetLoop, s.trafficLoop}
}

// Sweep moves tasks that have been stopped for long enough to the history, and
// forgets addresses, client tokens and instances that nobody asks for any more.
// It is one step of Run.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.now().UTC()
	if err := s.sweepTasks(ctx, now); err != nil {
		return err
	}
	snap := s.db.Snapshot()
	err := sweepTable(ctx, s.db, s.addresses, func(a *Address) bool { return a.rested(now) })
	if err != nil {
		return err
	}
	err = sweepTable(ctx, s.db, s.tokens, func(t *ClientToken) bool { return now.Sub(t.CreatedAt) >= tokenLife })
	if err != nil {
		return err
	}
	err = sweepTable(ctx, s.db, s.services, func(r *serviceRecord) bool { return r.Status == statusInactive && now.Sub(r.InactiveAt) >= inactiveFor })
	if err != nil {
		return err
	}
	if err := s.sweepClusters(ctx, now); err != nil {
		return err
	}
	if err := s.sweepDefinitions(ctx); err != nil {
		return err
	}
	var over []store.Ref
	for ref, ci := range s.instancesByStatus.ListAll(snap, statusInactive) {
		// A universal node's sessions are in the name of its own instance.
		if n, ok := s.node(snap, ref.Scope, ci.NodeID); ok && n.Universal && n.isHome(ci) {
			continue
		}
		if now.Sub(ci.InactiveAt) >= instanceRest {
			over = append(over, ref)
		}
	}
	if err := remove(ctx, s.db, s.instances, over, func(ci *ContainerInstance) bool { return ci.Status == statusInactive }); err != nil {
		return err
	}
	return s.sweepNodes(ctx)
}

// sweepTasks first writes the history, then removes the tasks: a crash between
// the two repeats the former.
func (s *Service) sweepTasks(ctx context.Context, now time.Time) error {
	var over []store.Ref
	var records []bulk.HistoryRecord
	for ref, t := range s.tasksByStatus.ListAll(s.db.Snapshot(), "stopped") {
		if now.Sub(t.StoppedAt) < s.deps.StoppedFor {
			continue
		}
		data, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode task %s: %w", t.ID, err)
		}
		over = append(over, ref)
		records = append(records, bulk.HistoryRecord{
			Account: ref.Account, Region: ref.Region, Kind: HistoryTask, ID: ref.ID, At: t.StoppedAt, Data: data,
		})
	}
	for len(over) > 0 {
		n := min(len(over), sweepBatch)
		if s.deps.History != nil {
			if err := s.deps.History.Put(ctx, records[:n]); err != nil {
				return fmt.Errorf("write the history: %w", err)
			}
		}
		if err := remove(ctx, s.db, s.tasks, over[:n], func(t *Task) bool { return t.LastStatus == taskStopped }); err != nil {
			return err
		}
		over, records = over[n:], records[n:]
	}
	return nil
}

func sweepTable[T any](ctx context.Context, db *store.DB, table *store.Table[T], over func(*T) bool) error {
	var refs []store.Ref
	for ref, v := range table.ListAll(db.Snapshot()) {
		if over(v) {
			refs = append(refs, ref)
		}
	}
	return remove(ctx, db, table, refs, over)
}

// remove deletes records that are still over, a batch at a time.
func remove[T any](ctx context.Context, db *store.DB, table *store.Table[T], refs []store.Ref, over func(*T) bool) error {
	for len(refs) > 0 {
		n := min(len(refs), sweepBatch)
		err := db.Update(ctx, func(tx *store.Tx) error {
			for _, ref := range refs[:n] {
				if v, ok := table.Get(tx, ref.Scope, ref.ID); ok && over(v) {
					table.Delete(tx, ref.Scope, ref.ID)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}
