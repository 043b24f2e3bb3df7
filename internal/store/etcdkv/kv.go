package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"longshore.dev/longshore/internal/store"
)

const (
	rangePage = 500
	// maxRangeStarts bounds how often a Range begins again because its revision
	// was compacted between two pages.
	maxRangeStarts = 5
)

// KV is a store.KV on etcd.
type KV struct {
	client *clientv3.Client
	prefix string // before every key, in a cluster shared with others
	limits limits

	// watchContext prepares a context for Watch.
	watchContext func(context.Context) context.Context

	maintenance *maintenance // nil: not ours to do
	// room refuses writes with ErrNoSpace while the disk is nearly full, so that etcd,
	// which would not survive it, never meets a full one.
	room    func() error
	written atomic.Int64 // bytes committed since the start

	life      context.Context // ends when the KV is closed or has failed
	stop      context.CancelFunc
	stopOnce  sync.Once
	closeOnce sync.Once
	err       atomic.Pointer[error]
	running   sync.WaitGroup
	release   func() // closes what is below the client
}

func newKV(client *clientv3.Client, prefix string, l limits) *KV {
	life, stop := context.WithCancel(context.Background())
	return &KV{
		client:       client,
		prefix:       prefix,
		limits:       l,
		watchContext: func(ctx context.Context) context.Context { return ctx },
		life:         life,
		stop:         stop,
		room:         func() error { return nil },
		release:      func() {},
	}
}

// Stopped is closed when the KV was closed, or when etcd has failed for good
// (the disk is full or broken): then the process should end. Err tells which.
func (kv *KV) Stopped() <-chan struct{} { return kv.life.Done() }

// Err is nil while the KV works.
func (kv *KV) Err() error {
	if err := kv.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (kv *KV) shutDown(err error) {
	kv.stopOnce.Do(func() {
		kv.err.Store(&err)
		kv.stop()
	})
}

// Close ends all watches and releases the client, the member and its lock.
func (kv *KV) Close() error {
	kv.shutDown(store.ErrClosed)
	kv.closeOnce.Do(func() {
		kv.running.Wait()
		kv.client.Close()
		kv.release()
	})
	return nil
}

// bound returns a context that also ends with the KV.
func (kv *KV) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	unbind := context.AfterFunc(kv.life, cancel)
	return ctx, func() { unbind(); cancel() }
}

// Get returns the entry of key, or store.ErrNotFound.
func (kv *KV) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := kv.Err(); err != nil {
		return store.Entry{}, err
	}
	ctx, cancel := kv.bound(ctx)
	defer cancel()
	resp, err := kv.client.Get(ctx, kv.prefix+key)
	if err != nil {
		return store.Entry{}, kv.translate(ctx, "get", err)
	}
	if len(resp.Kvs) == 0 {
		return store.Entry{}, fmt.Errorf("key %q: %w", key, store.ErrNotFound)
	}
	return kv.entry(resp.Kvs[0]), nil
}

// Range returns the entries with the prefix, in key order, at one revision.
func (kv *KV) Range(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	if err := kv.Err(); err != nil {
		return nil, 0, err
	}
	ctx, cancel := kv.bound(ctx)
	defer cancel()
	for start := 1; ; start++ {
		entries, revision, err := kv.rangeOnce(ctx, kv.prefix+prefix)
		if err == nil {
			return entries, revision, nil
		}
		err = kv.translate(ctx, "range", err)
		if !errors.Is(err, store.ErrCompacted) || start == maxRangeStarts {
			return nil, 0, err
		}
	}
}

func (kv *KV) rangeOnce(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	var entries []store.Entry
	var revision int64
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" { // etcd's way of saying all keys
		from, end = "\x00", "\x00"
	}
	for {
		resp, err := kv.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(rangePage), clientv3.WithRev(revision))
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, e := range resp.Kvs {
			entries = append(entries, kv.entry(e))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return entries, revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Commit applies the group in as few etcd transactions as its keys and the
// server's limits allow.
func (kv *KV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	if err := kv.Err(); err != nil {
		return nil, err
	}
	size := 0
	for _, txn := range txns {
		if err := kv.limits.check(txn, len(kv.prefix)); err != nil {
			return nil, err
		}
		size += txn.Size()
	}
	if size > 0 {
		if err := kv.room(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := kv.bound(ctx)
	defer cancel()
	results := make([]store.TxnResult, 0, len(txns))
	for _, n := range kv.limits.split(txns, len(kv.prefix)) {
		done := len(results)
		part, err := kv.commitRound(ctx, txns[done:done+n])
		if err != nil {
			err = kv.translate(ctx, "commit", err)
			if kv.maintenance != nil && errors.Is(err, store.ErrNoSpace) {
				kv.maintenance.wake()
			}
			if done > 0 && errors.Is(err, store.ErrTooLarge) {
				// ErrTooLarge promises that nothing was applied.
				err = fmt.Errorf("%w: after %d of %d transactions: %v", store.ErrUnavailable, done, len(txns), err)
			}
			return nil, err
		}
		results = append(results, part...)
	}
	kv.written.Add(int64(size))
	return results, nil
}

func (kv *KV) commitRound(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	if len(txns) == 1 {
		resp, err := kv.client.Txn(ctx).If(compares(kv.prefix, txns[0].Guards)...).Then(ops(kv.prefix, txns[0].Ops)...).Commit()
		if err != nil {
			return nil, err
		}
		return []store.TxnResult{{Succeeded: resp.Succeeded, Revision: resp.Header.Revision}}, nil
	}
	nested := make([]clientv3.Op, len(txns))
	for i, txn := range txns {
		nested[i] = clientv3.OpTxn(compares(kv.prefix, txn.Guards), ops(kv.prefix, txn.Ops), nil)
	}
	resp, err := kv.client.Txn(ctx).Then(nested...).Commit()
	if err != nil {
		return nil, err
	}
	results := make([]store.TxnResult, len(txns))
	for i, r := range resp.Responses {
		results[i] = store.TxnResult{Succeeded: r.GetResponseTxn().Succeeded, Revision: resp.Header.Revision}
	}
	return results, nil
}

// Watch sends the changes of keys with the prefix from a revision on. A lost
// connection is made again without a gap.
func (kv *KV) Watch(ctx context.Context, prefix string, from int64) <-chan store.WatchBatch {
	out := make(chan store.WatchBatch)
	if kv.Err() != nil {
		close(out)
		return out
	}
	kv.running.Go(func() {
		defer close(out)
		ctx, cancel := kv.bound(ctx)
		defer cancel()
		batches := kv.client.Watch(kv.watchContext(ctx), kv.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
		for resp := range batches {
			batch, send := kv.batch(ctx, resp)
			if !send {
				continue
			}
			select {
			case out <- batch:
			case <-ctx.Done():
				return
			}
			if batch.Err != nil {
				return
			}
		}
	})
	return out
}

// batch converts a response; send is false when it says nothing, or when the
// watch ends because it was told to.
func (kv *KV) batch(ctx context.Context, resp clientv3.WatchResponse) (batch store.WatchBatch, send bool) {
	if err := resp.Err(); err != nil {
		if ctx.Err() != nil {
			return store.WatchBatch{}, false
		}
		return store.WatchBatch{Err: kv.translate(ctx, "watch", err)}, true
	}
	if resp.IsProgressNotify() {
		return store.WatchBatch{Revision: resp.Header.Revision}, true
	}
	for _, ev := range resp.Events {
		key := strings.TrimPrefix(string(ev.Kv.Key), kv.prefix)
		e := store.Event{Key: key, ModRevision: ev.Kv.ModRevision}
		if ev.Type == clientv3.EventTypeDelete {
			e.Deleted = true
		} else {
			e.Value, e.CreateRevision = value(ev.Kv), ev.Kv.CreateRevision
		}
		batch.Events = append(batch.Events, e)
		// The header's revision may be ahead of the events that were sent.
		batch.Revision = e.ModRevision
	}
	return batch, len(batch.Events) > 0
}

// Compact forgets the history up to and including the revision.
func (kv *KV) Compact(ctx context.Context, revision int64) error {
	if err := kv.Err(); err != nil {
		return err
	}
	ctx, cancel := kv.bound(ctx)
	defer cancel()
	if _, err := kv.client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return kv.translate(ctx, "compact", err)
	}
	return nil
}

func (kv *KV) entry(e *mvccpb.KeyValue) store.Entry {
	return store.Entry{
		Key:            strings.TrimPrefix(string(e.Key), kv.prefix),
		Value:          value(e),
		ModRevision:    e.ModRevision,
		CreateRevision: e.CreateRevision,
	}
}

// value makes an empty value distinct from none.
func value(e *mvccpb.KeyValue) []byte {
	if e.Value == nil {
		return []byte{}
	}
	return e.Value
}

// sleep waits for d and reports whether the KV still works.
func (kv *KV) sleep(d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-kv.life.Done():
	}
	return kv.Err() == nil
}
