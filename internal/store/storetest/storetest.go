package storetest

import (
	"context"
	"testing"
	"time"

	"longshore.dev/longshore/internal/store"
)

// compactor is what an implementation offers beside store.KV.
type compactor interface {
	Compact(ctx context.Context, revision int64) error
}

// patience bounds waiting for what must happen.
const patience = 20 * time.Second

// Run holds the implementation that open returns, empty and new for each call,
// against the contract. open registers its own clean-up.
func Run(t *testing.T, open func(t *testing.T) store.KV) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, store.KV)
	}{
		{"get", testGet},
		{"values", testValues},
		{"range", testRange},
		{"range pages", testRangePages},
		{"guards", testGuards},
		{"delete", testDelete},
		{"group order", testGroupOrder},
		{"group is not all or nothing", testGroupIndependence},
		{"large group", testLargeGroup},
		{"random groups", testRandomGroups},
		{"bounds", testBounds},
		{"watch", testWatch},
		{"watch from the past", testWatchPast},
		{"watch whole revisions", testWatchWholeRevisions},
		{"watch under load", testWatchUnderLoad},
		{"compaction", testCompaction},
		{"ended context", testEndedContext},
		{"close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }
func del(key string) store.Op        { return store.Op{Key: key, Delete: true} }

// commit applies one transaction, which must succeed, and returns its revision.
func commit(t *testing.T, kv store.KV, ops ...store.Op) int64 {
	t.Helper()
	r := try(t, kv, store.Txn{Ops: ops})[0]
	if !r.Succeeded {
		t.Fatalf("an unguarded transaction was refused at revision %d", r.Revision)
	}
	return r.Revision
}

func try(t *testing.T, kv store.KV, txns ...store.Txn) []store.TxnResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	results, err := kv.Commit(ctx, txns)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(txns) {
		t.Fatalf("%d results for %d transactions", len(results), len(txns))
	}
	return results
}

// contents returns keys and values under a prefix.
func contents(t *testing.T, kv store.KV, prefix string) (map[string]string, int64) {
	t.Helper()
	entries, rev, err := kv.Range(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string, len(entries))
	for _, e := range entries {
		m[e.Key] = string(e.Value)
	}
	return m, rev
}

// next returns the next batch that has events.
func next(t *testing.T, batches <-chan store.WatchBatch) store.WatchBatch {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				t.Fatal("the watch was closed")
			}
			if b.Err != nil || len(b.Events) > 0 {
				return b
			}
		case <-deadline:
			t.Fatal("no event came")
		}
	}
}
