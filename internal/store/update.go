package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// maxGroup is how many transactions are committed together, and how many
	// more may wait for their turn.
	maxGroup = 512
	// maxGroupBytes bounds a group, a single larger transaction excepted.
	maxGroupBytes = 2 << 20

	minBackoff = time.Millisecond
	maxBackoff = 100 * time.Millisecond
)

// Update runs fn against a consistent view and commits what it wrote, guarded
// by what it read with Get. fn may be run again after a conflict: it must have
// no effects but its writes. An error of fn is returned as it is, and nothing
// is written. When Update returns nil, the writes are durable and Snapshot
// shows them.
//
// When ctx ends first, the error says whether the write may still be applied.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	turn := turn{db: db}
	defer turn.end()
	backoff := minBackoff
	for attempt := 1; ; {
		if err := db.ready(ctx); err != nil {
			return err
		}
		txn, err := db.prepare(fn)
		if err != nil || len(txn.Ops) == 0 {
			return err
		}
		if turn.mustWait(txn) {
			// Look again when it is our turn: the view will be newer then.
			if err := turn.take(ctx); err != nil {
				return err
			}
			continue
		}
		result, err := db.commit(ctx, txn)
		if err != nil {
			return err
		}
		if result.Succeeded {
			return db.reached(ctx, result.Revision)
		}
		if attempt == db.opts.MaxAttempts {
			return fmt.Errorf("%w: gave up after %d attempts", ErrConflict, attempt)
		}
		db.catchUp(ctx, result.Revision, backoff)
		if attempt++; attempt > 2 {
			if err := turn.take(ctx); err != nil {
				return err
			}
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// turn lets updates that lost against others of this process go one after the
// other: each of them would make the rest lose again. Newcomers that touch the
// keys of the one whose turn it is wait for theirs, or it might always lose.
type turn struct {
	db   *DB
	mine bool
}

func (t *turn) mustWait(txn Txn) bool {
	if t.mine {
		keys := make(map[string]struct{}, len(txn.Guards)+len(txn.Ops))
		for _, g := range txn.Guards {
			keys[g.Key] = struct{}{}
		}
		for _, op := range txn.Ops {
			keys[op.Key] = struct{}{}
		}
		t.db.contested.Store(&keys)
		return false
	}
	contested := t.db.contested.Load()
	if contested == nil {
		return false
	}
	for _, op := range txn.Ops {
		if _, ok := (*contested)[op.Key]; ok {
			return true
		}
	}
	return false
}

func (t *turn) take(ctx context.Context) error {
	if t.mine {
		return nil
	}
	select {
	case t.db.turns <- struct{}{}:
		t.mine = true
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store: nothing was written: %w", ctx.Err())
	case <-t.db.stop:
		return t.db.Err()
	}
}

func (t *turn) end() {
	if t.mine {
		t.db.contested.Store(nil)
		<-t.db.turns
	}
}

func (db *DB) ready(ctx context.Context) error {
	if db.current.Load() == nil {
		return fmt.Errorf("%w: it has not been started", ErrClosed)
	}
	if err := db.Err(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: nothing was written: %w", err)
	}
	return nil
}

// prepare runs fn once; an fn that writes nothing makes a transaction without ops.
func (db *DB) prepare(fn func(tx *Tx) error) (Txn, error) {
	tx := newTx(db.Snapshot())
	if err := fn(tx); err != nil {
		return Txn{}, err
	}
	if tx.err != nil {
		return Txn{}, tx.err
	}
	txn := tx.txn()
	return txn, txn.Validate()
}

// reached waits until the view shows an applied revision.
func (db *DB) reached(ctx context.Context, revision int64) error {
	if err := db.shown.wait(ctx, revision); err != nil {
		return fmt.Errorf("store: written at revision %d, which the view does not show yet: %w", revision, err)
	}
	return nil
}

// catchUp waits for the view to show what caused the conflict. The revision may
// be another user's of a shared cluster, which this view never shows: hence the
// bound.
func (db *DB) catchUp(ctx context.Context, revision int64, backoff time.Duration) {
	limit := time.Duration(float64(backoff) * (0.5 + db.opts.Jitter()))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_ = db.shown.wait(ctx, revision) // the next attempt tells
}

// request is a transaction on its way to the committer.
type request struct {
	ctx    context.Context
	txn    Txn
	size   int
	result TxnResult
	err    error
	done   chan struct{}
}

func (db *DB) commit(ctx context.Context, txn Txn) (TxnResult, error) {
	r := &request{ctx: ctx, txn: txn, size: txn.Size(), done: make(chan struct{})}
	select {
	case db.requests <- r:
	case <-ctx.Done():
		return TxnResult{}, fmt.Errorf("store: nothing was written: %w", ctx.Err())
	case <-db.stop:
		return TxnResult{}, db.Err()
	}
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
		return TxnResult{}, fmt.Errorf("store: the write may or may not be applied: %w", ctx.Err())
	case <-db.stop:
		return TxnResult{}, fmt.Errorf("store: the write may or may not be applied: %w", db.Err())
	}
}

// commitLoop commits what has gathered while the previous commit was under way.
func (db *DB) commitLoop() {
	ctx, cancel := db.untilStop()
	defer cancel()
	var held *request // did not fit into the previous group
	for {
		first := held
		held = nil
		if first == nil {
			select {
			case first = <-db.requests:
			case <-db.stop:
				return
			}
		}
		var group []*request
		group, held = db.gather(first)
		db.commitGroup(ctx, group)
		if ctx.Err() != nil {
			return
		}
	}
}

// gather takes the waiting requests that fit, in order; next is one too many.
func (db *DB) gather(first *request) (group []*request, next *request) {
	size := 0
	for r := first; ; {
		if err := r.ctx.Err(); err != nil {
			r.finish(TxnResult{}, fmt.Errorf("store: nothing was written: %w", err))
		} else {
			group = append(group, r)
			size += r.size
		}
		if len(group) == maxGroup {
			return group, nil
		}
		select {
		case r = <-db.requests:
			if size+r.size > maxGroupBytes && len(group) > 0 {
				return group, r
			}
		default:
			return group, nil
		}
	}
}

func (db *DB) commitGroup(ctx context.Context, group []*request) {
	if len(group) == 0 {
		return
	}
	txns := make([]Txn, len(group))
	for i, r := range group {
		txns[i] = r.txn
	}
	results, err := db.commitNow(ctx, txns)
	if errors.Is(err, ErrTooLarge) && len(group) > 1 {
		// One of them is; the others must not suffer for it.
		for _, r := range group {
			db.commitGroup(ctx, []*request{r})
		}
		return
	}
	for i, r := range group {
		if err != nil {
			r.finish(TxnResult{}, err)
		} else {
			r.finish(results[i], nil)
		}
	}
}

// commitNow commits, unless a cut is being made: then it waits for that.
func (db *DB) commitNow(ctx context.Context, txns []Txn) ([]TxnResult, error) {
	db.cutting.RLock()
	defer db.cutting.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, db.opts.CommitTimeout)
	defer cancel()
	return db.kv.Commit(ctx, txns)
}

// Cut returns everything in the store at one revision, and calls beside meanwhile:
// from before the entries are read until after beside has returned, nothing is written
// by this DB. What beside copies and the entries belong together.
func (db *DB) Cut(ctx context.Context, beside func() error) ([]Entry, int64, error) {
	db.cutting.Lock()
	defer db.cutting.Unlock()
	if err := db.Err(); err != nil {
		return nil, 0, err
	}
	entries, revision, err := db.kv.Range(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	return entries, revision, beside()
}

func (r *request) finish(result TxnResult, err error) {
	r.result, r.err = result, err
	close(r.done)
}
