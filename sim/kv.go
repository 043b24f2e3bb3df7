package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"longshore.dev/longshore/internal/store"
)

// serverKV is the store as one server reaches it. A commit returns when the views
// and subscribers of both servers have been told of it: while one is under way
// nothing else is, so that the goroutines of store.DB add no choice of their own.
type serverKV struct {
	w      *World
	server *server

	mu      sync.Mutex
	ctx     context.Context // the watch's
	out     chan store.WatchBatch
	watched chan struct{} // closed when the watch has begun
	closed  bool
}

func newServerKV(w *World, s *server) *serverKV {
	return &serverKV{w: w, server: s, watched: make(chan struct{})}
}

// Get implements store.KV.
func (k *serverKV) Get(ctx context.Context, key string) (store.Entry, error) {
	return k.w.mem.Get(ctx, key)
}

// Range implements store.KV.
func (k *serverKV) Range(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	return k.w.mem.Range(ctx, prefix)
}

// Watch implements store.KV: the DB's only watch, from the revision that it has loaded.
func (k *serverKV) Watch(ctx context.Context, _ string, _ int64) <-chan store.WatchBatch {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(chan store.WatchBatch)
	if k.out != nil {
		panic("sim: a second watch")
	}
	k.ctx, k.out = ctx, out
	close(k.watched)
	go func() {
		<-ctx.Done()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.closed = true
		close(out)
	}()
	return out
}

// Close implements store.KV.
func (k *serverKV) Close() error { return nil }

// deliver shows a commit to the server and returns when all subscribers have been told.
func (k *serverKV) deliver(batch store.WatchBatch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// The second, empty batch is taken when the first has been applied.
	for _, b := range []store.WatchBatch{batch, {Revision: batch.Revision}} {
		if k.closed {
			return
		}
		select {
		case k.out <- b:
		case <-k.ctx.Done():
			return
		}
	}
	_ = k.server.db.Sync(k.ctx) // it fails when the server has died
}

// Commit implements store.KV, with the faults of the scenario.
func (k *serverKV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	w := k.w
	if k.server.dead {
		return nil, fmt.Errorf("%w: the process is dead", store.ErrUnavailable)
	}
	w.stats.Commits++
	fault := w.commitFault()
	switch fault {
	case diesBefore:
		k.server.die("before a commit")
		return nil, store.ErrUnavailable
	case refused:
		w.stats.Unknown++
		return nil, fmt.Errorf("%w: simulated, not applied", store.ErrUnavailable)
	case overtaken:
		w.overtake()
	case touched:
		w.touch(txns)
	}
	results, err := w.commit(ctx, txns)
	w.oracle.raced = false
	switch fault {
	case diesAfter:
		k.server.die("after a commit")
		return nil, store.ErrUnavailable
	case unknown:
		w.stats.Unknown++
		return nil, fmt.Errorf("%w: simulated, applied", store.ErrUnavailable)
	}
	return results, err
}

// commitFault draws what happens to a commit.
func (w *World) commitFault() fault {
	if !w.faulty || w.quiet {
		return none
	}
	f := w.Faults
	p := w.rnd.Float64()
	for _, c := range []struct {
		p float64
		f fault
	}{{f.Crash / 2, diesBefore}, {f.Crash / 2, diesAfter}, {f.Store / 2, refused}, {f.Store / 2, unknown}, {f.Overtake, overtaken}, {f.Conflict, touched}} {
		if p < c.p {
			return c.f
		}
		p -= c.p
	}
	return none
}

type fault int

const (
	none       fault = iota
	diesBefore       // the process dies, nothing is written
	diesAfter        // the process dies, all is written
	refused          // the store does not answer, nothing is written
	unknown          // the store does not answer, all is written
	overtaken        // something else is committed between the reading and the writing
	touched          // so is something that changes nothing but a revision
)

// commit applies transactions, has the oracle look at them, and tells the servers.
func (w *World) commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	results, err := w.mem.Commit(ctx, txns)
	if err != nil {
		return nil, err
	}
	for i, txn := range txns {
		if !results[i].Succeeded {
			w.stats.Conflicts++
			w.trace.note(w.now, "conflict")
			continue
		}
		batch := store.WatchBatch{Revision: results[i].Revision}
		for _, op := range txn.Ops {
			ev := store.Event{Key: op.Key, Value: op.Value, Deleted: op.Delete, ModRevision: results[i].Revision}
			if op.Delete && !w.oracle.exists(op.Key) {
				continue
			}
			batch.Events = append(batch.Events, ev)
		}
		if len(batch.Events) == 0 {
			continue
		}
		w.oracle.commit(batch.Events)
		for _, s := range []*server{w.main, w.other} {
			if s != nil {
				s.kv.deliver(batch)
			}
		}
	}
	return results, nil
}

// overtake has the other server serve a request that is under way, or one of
// another operator's.
func (w *World) overtake() {
	if w.other == nil {
		return
	}
	w.quiet = true
	defer func() { w.quiet = false }()
	w.early = slices.DeleteFunc(w.early, func(e *event) bool { return e.gone })
	switch {
	case w.rnd.IntN(3) == 0:
		w.operator.rush(w.other)
	case len(w.early) > 0:
		e := w.early[w.rnd.IntN(len(w.early))]
		e.gone = true
		w.trace.note(w.now, "meanwhile "+e.label)
		e.serve(w.other)
	}
	w.oracle.raced = true
}

// touch writes one of the guarded records as it is, as another writer might.
func (w *World) touch(txns []store.Txn) {
	guards := slices.SortedFunc(slices.Values(txns[0].Guards), func(a, b store.Guard) int { return cmp.Compare(a.Key, b.Key) })
	if len(guards) == 0 {
		return
	}
	key := guards[w.rnd.IntN(len(guards))].Key
	e, err := w.mem.Get(context.Background(), key)
	if err != nil {
		return
	}
	if _, err := w.commit(context.Background(), []store.Txn{{Ops: []store.Op{{Key: key, Value: e.Value}}}}); err != nil {
		w.fail("a commit in memory failed: %v", err)
	}
}
