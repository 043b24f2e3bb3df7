package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/store"
)

// TestHistoryIsBounded plays a day of steady, bursty and idle writing.
func TestHistoryIsBounded(t *testing.T) {
	m := &maintenance{historyAge: 5 * time.Minute, historyBytes: 64 << 20}
	now := time.Unix(1_000_000, 0)
	here := mark{at: now, revision: 1}
	compactions := 0
	for second := range 24 * 3600 {
		switch {
		case second < 3600: // nothing
		case second < 7200:
			here.revision += 10
			here.written += 10 << 10
		case second < 8000:
			here.revision += 500
			here.written += 20 << 20
		case second%600 == 0:
			here.revision++
			here.written += 100
		}
		now = now.Add(time.Second)
		here.at = now
		target, rest, due := m.plan(append(m.marks, here))
		m.marks = rest
		if due {
			compactions++
			if target.revision <= m.compacted.revision || target.revision > here.revision {
				t.Fatalf("second %d: compact to %d, after %d, now at %d", second, target.revision, m.compacted.revision, here.revision)
			}
			m.compacted = target
		}
		if kept := here.written - m.compacted.written; second > 600 && here.revision > m.compacted.revision && kept > 110<<20 {
			t.Fatalf("second %d: %d MB of history are kept", second, kept>>20)
		}
		if len(m.marks) > 400 {
			t.Fatalf("second %d: %d marks", second, len(m.marks))
		}
	}
	if now.Sub(m.compacted.at) > 30*time.Minute {
		t.Errorf("history of %v is kept", now.Sub(m.compacted.at))
	}
	if compactions < 100 || compactions > 3000 {
		t.Errorf("%d compactions in a day", compactions)
	}
}

func openTest(t testing.TB, opts Embedded) *KV {
	t.Helper()
	opts.Dir = t.TempDir()
	kv, err := OpenEmbedded(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

// TestOldHistoryIsForgotten: the member compacts itself while it is written to,
// and live data stays.
func TestOldHistoryIsForgotten(t *testing.T) {
	kv := openTest(t, Embedded{HistoryBytes: 1 << 20})
	first := int64(0)
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; ; i++ {
		results, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: fmt.Sprint("k/", i%10), Value: make([]byte, 32<<10)}}}})
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = results[0].Revision
		}
		if i%50 == 0 && compacted(t, kv, first) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the history is never compacted")
		}
	}
	if entries, _, err := kv.Range(t.Context(), "k/"); err != nil || len(entries) != 10 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func compacted(t *testing.T, kv *KV, revision int64) bool {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := <-kv.Watch(ctx, "k/", revision)
	return errors.Is(b.Err, store.ErrCompacted)
}

// TestFullQuotaIsRepaired: old versions fill the quota, writes are refused with
// a clear error, and soon they work again; nothing acknowledged is lost.
func TestFullQuotaIsRepaired(t *testing.T) {
	kv := openTest(t, Embedded{QuotaBytes: 20 << 20, HistoryBytes: 1 << 40})
	value := []byte(strings.Repeat("v", 512<<10))
	refused, acked := 0, 0
	deadline := time.Now().Add(30 * time.Second)
	for refused == 0 || acked == 0 {
		_, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: "k", Value: value}}}})
		switch {
		case err == nil && refused > 0:
			acked++
		case errors.Is(err, store.ErrNoSpace):
			if refused++; refused == 1 && !strings.Contains(err.Error(), "quota of 20971520 bytes") {
				t.Errorf("the error does not name the quota: %v", err)
			}
			time.Sleep(20 * time.Millisecond) // a client's pause between tries
		case err != nil:
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("refused %d times, the store does not recover", refused)
		}
	}
	if e, err := kv.Get(t.Context(), "k"); err != nil || len(e.Value) != len(value) {
		t.Errorf("%d bytes, %v", len(e.Value), err)
	}
	if size := kv.maintenance.server.Backend().Size(); size > 18<<20 {
		t.Errorf("the file still has %d bytes", size)
	}
}

// TestFreeSpaceIsGivenBack: after most data was deleted, the file shrinks.
func TestFreeSpaceIsGivenBack(t *testing.T) {
	kv := openTest(t, Embedded{defragMin: 16 << 20, lookEvery: time.Millisecond})
	var txns []store.Txn
	for i := range 20 {
		txns = append(txns, store.Txn{Ops: []store.Op{{Key: fmt.Sprint("k/", i), Value: make([]byte, 1<<20)}}})
	}
	for group := range slices.Chunk(txns, 8) {
		if _, err := kv.Commit(t.Context(), group); err != nil {
			t.Fatal(err)
		}
	}
	for i := range txns {
		txns[i] = store.Txn{Ops: []store.Op{{Key: fmt.Sprint("k/", i), Delete: true}}}
	}
	results, err := kv.Commit(t.Context(), txns)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Compact(t.Context(), results[len(results)-1].Revision); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for kv.maintenance.server.Backend().Size() > 4<<20 {
		if time.Now().After(deadline) {
			t.Fatalf("the file still has %d bytes", kv.maintenance.server.Backend().Size())
		}
		time.Sleep(10 * time.Millisecond) // nothing announces it
	}
}

// TestRoundsKeepOrderAndApartWhatTouches checks split against its definition.
func TestRoundsKeepOrderAndApartWhatTouches(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := limits{txnOps: rapid.IntRange(8, 40).Draw(rt, "txnOps"), requestBytes: rapid.IntRange(6<<10, 20<<10).Draw(rt, "requestBytes")}
		key := rapid.StringMatching("[a-h]")
		var txns []store.Txn
		for range rapid.IntRange(0, 30).Draw(rt, "txns") {
			var txn store.Txn
			for _, k := range rapid.SliceOfNDistinct(key, 1, 3, rapid.ID).Draw(rt, "ops") {
				txn.Ops = append(txn.Ops, store.Op{Key: k, Value: make([]byte, rapid.IntRange(0, 500).Draw(rt, "size"))})
			}
			for _, k := range rapid.SliceOfN(key, 0, 3).Draw(rt, "guards") {
				txn.Guards = append(txn.Guards, store.Guard{Key: k})
			}
			txns = append(txns, txn)
		}
		total := 0
		for _, n := range l.split(txns, 0) {
			if n < 1 {
				rt.Fatal("an empty round")
			}
			group := txns[total : total+n]
			total += n
			written := map[string]bool{}
			widest, size := 0, requestOverhead
			for _, txn := range group {
				for _, g := range txn.Guards {
					if written[g.Key] {
						rt.Fatalf("a guard of %s is in the round that writes it before", g.Key)
					}
				}
				for _, op := range txn.Ops {
					if written[op.Key] {
						rt.Fatalf("%s is written twice in a round", op.Key)
					}
				}
				for _, op := range txn.Ops {
					written[op.Key] = true
				}
				widest = max(widest, len(txn.Ops), len(txn.Guards))
				size += requestSize(txn, 0)
			}
			if n > 1 && (n+widest > l.txnOps || size > l.requestBytes) {
				rt.Fatalf("a round of %d transactions, %d wide, %d bytes, with limits %+v", n, widest, size, l)
			}
		}
		if total != len(txns) {
			rt.Fatalf("%d transactions in rounds, want %d", total, len(txns))
		}
	})
}
