package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	minRewatch = 10 * time.Millisecond
	maxRewatch = 2 * time.Second
)

// follow keeps the view up to date until the DB stops. It is the only writer
// of the view.
func (db *DB) follow() {
	ctx, cancel := db.untilStop()
	defer cancel()
	pause := minRewatch
	for ctx.Err() == nil {
		before := db.Snapshot().revision
		err := db.followWatch(ctx, before+1)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrCompacted) {
			db.opts.Log.Warn("store: the watch fell behind the kept history, loading everything again", "revision", before)
			err = db.reload(ctx)
		}
		if errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrDamaged) {
			db.opts.Log.Error("store: stopped", "error", err)
			db.shutDown(err)
			return
		}
		if db.Snapshot().revision > before {
			pause = minRewatch
		}
		if err != nil {
			db.opts.Log.Warn("store: watch interrupted, trying again", "error", err, "in", pause)
			db.sleep(ctx, pause)
			pause = min(2*pause, maxRewatch)
		}
	}
}

// followWatch applies one watch's batches until it ends, and says why it did.
func (db *DB) followWatch(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for batch := range db.kv.Watch(ctx, keyPrefix, from) {
		if batch.Err != nil {
			return batch.Err
		}
		if err := db.apply(ctx, batch); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the watch ended", ErrUnavailable)
}

// apply shows a batch in the view, then hands its changes to the notifier.
func (db *DB) apply(ctx context.Context, batch WatchBatch) error {
	base := db.Snapshot()
	next := newEdit(base)
	changes := make([]change, 0, len(batch.Events))
	for _, ev := range batch.Events {
		t, ref, ok := db.tableOf(ev.Key)
		if !ok {
			continue
		}
		c := change{table: t, ref: ref, revision: ev.ModRevision}
		if ev.Deleted {
			c.old = next.table(t).delete(ev.Key)
		} else {
			r, err := t.read(ev.Key, ref, ev.ModRevision, ev.Value)
			if err != nil {
				return err
			}
			c.new = r
			c.old = next.table(t).put(r)
		}
		if c.old != nil || c.new != nil {
			changes = append(changes, c)
		}
	}
	return db.show(ctx, next.snapshot(max(base.revision, batch.Revision)), changes)
}

// show publishes the snapshot, wakes the updates that wait for it, and queues
// the notifications.
func (db *DB) show(ctx context.Context, snap *Snapshot, changes []change) error {
	db.current.Store(snap)
	db.shown.advance(snap.revision)
	select {
	case db.notices <- notice{revision: snap.revision, changes: changes}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reload replaces the view by a fresh load and notifies the differences.
func (db *DB) reload(ctx context.Context) error {
	snap, changes, err := db.load(ctx, db.Snapshot())
	if err != nil {
		return err
	}
	return db.show(ctx, snap, changes)
}

// load reads everything at one revision, and what differs from base. Rows that
// did not change are taken over from base.
func (db *DB) load(ctx context.Context, base *Snapshot) (*Snapshot, []change, error) {
	entries, revision, err := db.kv.Range(ctx, keyPrefix)
	if err != nil {
		return nil, nil, err
	}
	next := &Snapshot{revision: revision}
	for _, t := range db.tables {
		next.tables = append(next.tables, newTableView(t))
	}
	var changes []change
	unknown := 0
	for _, e := range entries {
		t, ref, ok := db.tableOf(e.Key)
		if !ok {
			unknown++
			continue
		}
		old := base.get(t, e.Key)
		if old != nil && old.rev == e.ModRevision {
			next.view(t).put(old)
			continue
		}
		r, err := t.read(e.Key, ref, e.ModRevision, e.Value)
		if err != nil {
			return nil, nil, err
		}
		next.view(t).put(r)
		changes = append(changes, change{table: t, ref: ref, old: old, new: r, revision: e.ModRevision})
	}
	if unknown > 0 {
		db.opts.Log.Warn("store: records of tables that this version does not know are left alone", "records", unknown)
	}
	changes = append(changes, db.vanished(base, next)...)
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.revision, b.revision) })
	return next, changes, nil
}

// vanished returns a deletion for each row of base that next does not have.
// When it was deleted is no longer known: it counts as next's revision.
func (db *DB) vanished(base, next *Snapshot) []change {
	var changes []change
	for _, t := range db.tables {
		base.view(t).scan(keyPrefix, func(r *row) bool {
			if next.get(t, r.key) == nil {
				changes = append(changes, change{table: t, ref: r.ref, old: r, revision: next.revision})
			}
			return true
		})
	}
	return changes
}

func (db *DB) tableOf(key string) (*table, Ref, bool) {
	name, ref, ok := splitKey(key)
	if !ok {
		return nil, Ref{}, false
	}
	t := db.byName[name]
	return t, ref, t != nil
}

func (db *DB) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
