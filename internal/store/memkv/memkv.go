package memkv

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"

	"longshore.dev/longshore/internal/store"
)

// maxHistory is how many revisions are kept for watches.
const maxHistory = 1 << 16

// KV is an in-memory store.KV.
type KV struct {
	mu        sync.Mutex
	entries   btree.Map[string, store.Entry]
	revision  int64
	compacted int64         // history begins after this revision
	history   []revision    // one per revision in (compacted, revision]
	changed   chan struct{} // closed and replaced when revision grows
	closed    bool
	closing   chan struct{}
	watches   sync.WaitGroup
}

type revision struct{ events []store.Event }

// New returns an empty KV at revision 1, as etcd's.
func New() *KV {
	return &KV{revision: 1, compacted: 1, changed: make(chan struct{}), closing: make(chan struct{})}
}

// Get returns the entry of key, or store.ErrNotFound.
func (kv *KV) Get(ctx context.Context, key string) (store.Entry, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if err := kv.usable(ctx); err != nil {
		return store.Entry{}, err
	}
	e, ok := kv.entries.Get(key)
	if !ok {
		return store.Entry{}, fmt.Errorf("key %q: %w", key, store.ErrNotFound)
	}
	return cloneEntry(e), nil
}

// Range returns the entries with the prefix, in key order, and the revision.
func (kv *KV) Range(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if err := kv.usable(ctx); err != nil {
		return nil, 0, err
	}
	var found []store.Entry
	kv.entries.Ascend(prefix, func(key string, e store.Entry) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		found = append(found, cloneEntry(e))
		return true
	})
	return found, kv.revision, nil
}

// Commit applies txns one after the other.
func (kv *KV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	for _, txn := range txns {
		if err := txn.Validate(); err != nil {
			return nil, err
		}
	}
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if err := kv.usable(ctx); err != nil {
		return nil, err
	}
	results := make([]store.TxnResult, len(txns))
	before := kv.revision
	for i, txn := range txns {
		results[i].Succeeded = kv.holds(txn.Guards)
		if results[i].Succeeded {
			kv.applyOps(txn.Ops)
		}
		results[i].Revision = kv.revision
	}
	if kv.revision > before {
		kv.wake()
	}
	return results, nil
}

func (kv *KV) holds(guards []store.Guard) bool {
	for _, g := range guards {
		e, _ := kv.entries.Get(g.Key) // absent: zero, as the guard says it
		if e.ModRevision != g.Revision {
			return false
		}
	}
	return true
}

func (kv *KV) applyOps(ops []store.Op) {
	next := kv.revision + 1
	var events []store.Event
	for _, op := range ops {
		old, exists := kv.entries.Get(op.Key)
		if op.Delete {
			if exists {
				kv.entries.Delete(op.Key)
				events = append(events, store.Event{Key: op.Key, Deleted: true, ModRevision: next})
			}
			continue
		}
		e := store.Entry{Key: op.Key, Value: slices.Clone(op.Value), ModRevision: next, CreateRevision: next}
		if exists {
			e.CreateRevision = old.CreateRevision
		}
		if e.Value == nil {
			e.Value = []byte{}
		}
		kv.entries.Set(op.Key, e)
		events = append(events, store.Event{Key: op.Key, Value: e.Value, ModRevision: next, CreateRevision: e.CreateRevision})
	}
	if len(events) == 0 {
		return
	}
	kv.revision = next
	kv.history = append(kv.history, revision{events})
	if len(kv.history) > 2*maxHistory {
		kv.compact(kv.revision - maxHistory)
	}
}

// Compact forgets the history up to and including the revision.
func (kv *KV) Compact(_ context.Context, revision int64) error {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if revision <= kv.compacted {
		return fmt.Errorf("compact to %d: %w", revision, store.ErrCompacted)
	}
	if revision > kv.revision {
		return fmt.Errorf("memkv: compact to %d, which is in the future (now %d)", revision, kv.revision)
	}
	kv.compact(revision)
	return nil
}

func (kv *KV) compact(to int64) {
	kv.history = slices.Clone(kv.history[to-kv.compacted:])
	kv.compacted = to
}

// Watch sends the changes of keys with the prefix from a revision on.
func (kv *KV) Watch(ctx context.Context, prefix string, from int64) <-chan store.WatchBatch {
	out := make(chan store.WatchBatch)
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.closed {
		close(out)
		return out
	}
	if from <= 0 {
		from = kv.revision + 1
	}
	kv.watches.Go(func() {
		defer close(out)
		kv.watch(ctx, prefix, from, out)
	})
	return out
}

func (kv *KV) watch(ctx context.Context, prefix string, from int64, out chan<- store.WatchBatch) {
	for ctx.Err() == nil {
		batch, changed := kv.next(prefix, from)
		if len(batch.Events) > 0 || batch.Err != nil {
			select {
			case out <- batch:
			case <-ctx.Done():
				return
			case <-kv.closing:
				return
			}
		}
		if batch.Err != nil {
			return
		}
		from = max(from, batch.Revision+1)
		if changed == nil {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-kv.closing:
			return
		}
	}
}

// maxBatch is how many revisions one batch covers.
const maxBatch = 1000

// next returns the following batch. When it is the last for now, changed says
// when to look again.
func (kv *KV) next(prefix string, from int64) (batch store.WatchBatch, changed <-chan struct{}) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if from <= kv.compacted {
		return store.WatchBatch{Err: fmt.Errorf("watch from %d: %w", from, store.ErrCompacted)}, nil
	}
	to := min(kv.revision, from+maxBatch-1)
	for rev := from; rev <= to; rev++ {
		for _, ev := range kv.history[rev-kv.compacted-1].events {
			if strings.HasPrefix(ev.Key, prefix) {
				ev.Value = slices.Clone(ev.Value)
				batch.Events = append(batch.Events, ev)
			}
		}
	}
	batch.Revision = to
	if to == kv.revision || from > kv.revision {
		changed = kv.changed
	}
	return batch, changed
}

// Close ends all watches and waits for them.
func (kv *KV) Close() error {
	kv.mu.Lock()
	if !kv.closed {
		kv.closed = true
		close(kv.closing)
	}
	kv.mu.Unlock()
	kv.watches.Wait()
	return nil
}

func (kv *KV) wake() {
	close(kv.changed)
	kv.changed = make(chan struct{})
}

func (kv *KV) usable(ctx context.Context) error {
	if kv.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}

func cloneEntry(e store.Entry) store.Entry {
	e.Value = slices.Clone(e.Value)
	return e
}
