package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/store"
)

func testGet(t *testing.T, kv store.KV) {
	if _, err := kv.Get(t.Context(), "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of an absent key: %v, want ErrNotFound", err)
	}
	first := commit(t, kv, put("a", "1"))
	second := commit(t, kv, put("a", "2"))
	if second <= first {
		t.Errorf("revisions do not grow: %d, then %d", first, second)
	}
	e, err := kv.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if e.Key != "a" || string(e.Value) != "2" || e.CreateRevision != first || e.ModRevision != second {
		t.Errorf("got %+v, want value 2 created at %d, changed at %d", e, first, second)
	}
}

func testValues(t *testing.T, kv store.KV) {
	values := map[string]string{"empty": "", "binary": "\x00\xff\n\"", "k/\x01\xfe": "odd key", "large": strings.Repeat("v", 300<<10)}
	for k, v := range values {
		commit(t, kv, put(k, v))
	}
	for k, v := range values {
		e, err := kv.Get(t.Context(), k)
		if err != nil || string(e.Value) != v || e.Value == nil {
			t.Errorf("%q: %d bytes, %v; want the %d that were put", k, len(e.Value), err, len(v))
		}
	}
}

func testRange(t *testing.T, kv store.KV) {
	commit(t, kv, put("p/b", "2"), put("p/a", "1"), put("p", "x"), put("p0", "x"), put("q", "x"))
	rev := commit(t, kv, put("p/c", "3"))
	entries, at, err := kv.Range(t.Context(), "p/")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if !slices.Equal(keys, []string{"p/a", "p/b", "p/c"}) {
		t.Errorf("keys %v", keys)
	}
	if at != rev {
		t.Errorf("at revision %d, want %d", at, rev)
	}
	if entries, _, err := kv.Range(t.Context(), "nothing/"); err != nil || len(entries) != 0 {
		t.Errorf("an empty range: %v, %v", entries, err)
	}
}

func testRangePages(t *testing.T, kv store.KV) {
	const n = 2345
	var txns []store.Txn
	for i := range n {
		txns = append(txns, store.Txn{Ops: []store.Op{put(fmt.Sprintf("many/%05d", i), fmt.Sprint(i))}})
	}
	try(t, kv, txns...)
	entries, _, err := kv.Range(t.Context(), "many/")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != n {
		t.Fatalf("%d entries, want %d", len(entries), n)
	}
	for i, e := range entries {
		if e.Key != fmt.Sprintf("many/%05d", i) || string(e.Value) != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q = %q", i, e.Key, e.Value)
		}
	}
}

func testGuards(t *testing.T, kv store.KV) {
	rev := commit(t, kv, put("a", "1"))
	tests := []struct {
		name   string
		guards []store.Guard
		want   bool
	}{
		{"right revision", []store.Guard{{Key: "a", Revision: rev}}, true},
		{"old revision", []store.Guard{{Key: "a", Revision: rev}}, false}, // the first case changed it
		{"absent as expected", []store.Guard{{Key: "b", Revision: 0}}, true},
		{"not absent", []store.Guard{{Key: "a", Revision: 0}}, false},
		{"not present", []store.Guard{{Key: "b", Revision: rev}}, false},
		{"one of two fails", []store.Guard{{Key: "b", Revision: 0}, {Key: "a", Revision: 0}}, false},
	}
	for _, tt := range tests {
		before, _ := contents(t, kv, "")
		r := try(t, kv, store.Txn{Guards: tt.guards, Ops: []store.Op{put("a", tt.name), put("c", tt.name)}})[0]
		after, at := contents(t, kv, "")
		if r.Succeeded != tt.want {
			t.Errorf("%s: succeeded %v, want %v", tt.name, r.Succeeded, tt.want)
		}
		if r.Revision != at {
			t.Errorf("%s: result at revision %d, the store is at %d", tt.name, r.Revision, at)
		}
		if !tt.want && !maps.Equal(before, after) {
			t.Errorf("%s: refused, and yet %v became %v", tt.name, before, after)
		}
		if tt.want && (after["a"] != tt.name || after["c"] != tt.name) {
			t.Errorf("%s: applied, and yet it is %v", tt.name, after)
		}
	}
}

func testDelete(t *testing.T, kv store.KV) {
	first := commit(t, kv, put("a", "1"), put("b", "1"))
	commit(t, kv, del("a"), del("absent"))
	if got, _ := contents(t, kv, ""); !maps.Equal(got, map[string]string{"b": "1"}) {
		t.Errorf("after the deletion: %v", got)
	}
	again := commit(t, kv, put("a", "2"))
	e, err := kv.Get(t.Context(), "a")
	if err != nil || e.CreateRevision != again || again <= first {
		t.Errorf("made again at %d: %+v, %v", again, e, err)
	}
}

func testGroupOrder(t *testing.T, kv store.KV) {
	absent := func(k string) []store.Guard { return []store.Guard{{Key: k, Revision: 0}} }
	results := try(t, kv,
		store.Txn{Guards: absent("a"), Ops: []store.Op{put("a", "1")}},
		store.Txn{Guards: absent("a"), Ops: []store.Op{put("a", "2"), put("b", "2")}}, // the first made a
		store.Txn{Ops: []store.Op{put("a", "3")}},
		store.Txn{Ops: []store.Op{del("a")}},
		store.Txn{Guards: absent("a"), Ops: []store.Op{put("c", "5")}}, // the fourth deleted a
	)
	want := []bool{true, false, true, true, true}
	for i, r := range results {
		if r.Succeeded != want[i] {
			t.Errorf("transaction %d: succeeded %v, want %v", i+1, r.Succeeded, want[i])
		}
	}
	if got, _ := contents(t, kv, ""); !maps.Equal(got, map[string]string{"c": "5"}) {
		t.Errorf("the group left %v", got)
	}
}

func testGroupIndependence(t *testing.T, kv store.KV) {
	results := try(t, kv,
		store.Txn{Ops: []store.Op{put("a", "1")}},
		store.Txn{Guards: []store.Guard{{Key: "x", Revision: 99}}, Ops: []store.Op{put("b", "1"), put("x", "1")}},
		store.Txn{Ops: []store.Op{put("c", "1")}},
	)
	if !results[0].Succeeded || results[1].Succeeded || !results[2].Succeeded {
		t.Errorf("results %+v", results)
	}
	if got, _ := contents(t, kv, ""); !maps.Equal(got, map[string]string{"a": "1", "c": "1"}) {
		t.Errorf("the group left %v", got)
	}
}

func testLargeGroup(t *testing.T, kv store.KV) {
	var txns []store.Txn
	for i := range 600 {
		txns = append(txns, store.Txn{
			Guards: []store.Guard{{Key: fmt.Sprintf("g/%d", i)}},
			Ops:    []store.Op{put(fmt.Sprintf("g/%d", i), "v"), put(fmt.Sprintf("h/%d", i), strings.Repeat("v", 8<<10)), put("last", fmt.Sprint(i))},
		})
	}
	for i, r := range try(t, kv, txns...) {
		if !r.Succeeded {
			t.Fatalf("transaction %d was refused", i)
		}
	}
	if got, _ := contents(t, kv, ""); len(got) != 1201 || got["last"] != "599" {
		t.Errorf("%d keys, last %q", len(got), got["last"])
	}
}

// testRandomGroups compares groups over few keys with doing one after the other.
func testRandomGroups(t *testing.T, kv store.KV) {
	rng := rand.New(rand.NewPCG(1, 2))
	type known struct {
		value string
		rev   int64
	}
	model := map[string]known{}
	keys := []string{"r/a", "r/b", "r/c", "r/d"}
	for step := range 60 {
		// Guards on revisions before the group, of keys the group may change.
		var txns []store.Txn
		for i := range 1 + rng.IntN(8) {
			var txn store.Txn
			if rng.IntN(3) > 0 {
				k := keys[rng.IntN(len(keys))]
				txn.Guards = []store.Guard{{Key: k, Revision: model[k].rev}}
			}
			for _, k := range rng.Perm(len(keys))[:1+rng.IntN(2)] {
				if rng.IntN(4) == 0 {
					txn.Ops = append(txn.Ops, del(keys[k]))
				} else {
					txn.Ops = append(txn.Ops, put(keys[k], fmt.Sprintf("%d.%d", step, i)))
				}
			}
			txns = append(txns, txn)
		}
		for i, r := range try(t, kv, txns...) {
			holds := true
			for _, g := range txns[i].Guards {
				holds = holds && model[g.Key].rev == g.Revision
			}
			if r.Succeeded != holds {
				t.Fatalf("step %d, transaction %d of %+v: succeeded %v, want %v", step, i, txns, r.Succeeded, holds)
			}
			if !holds {
				continue
			}
			for _, op := range txns[i].Ops {
				if op.Delete {
					delete(model, op.Key)
				} else {
					model[op.Key] = known{string(op.Value), r.Revision}
				}
			}
		}
		entries, _, err := kv.Range(t.Context(), "r/")
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(model) {
			t.Fatalf("step %d: %d keys, want %d", step, len(entries), len(model))
		}
		for _, e := range entries {
			if m := model[e.Key]; m.value != string(e.Value) || m.rev != e.ModRevision {
				t.Fatalf("step %d: %s is %q at %d, want %q at %d", step, e.Key, e.Value, e.ModRevision, m.value, m.rev)
			}
		}
	}
}

func testBounds(t *testing.T, kv store.KV) {
	tooMany := store.Txn{}
	for i := range store.MaxTxnOps + 1 {
		tooMany.Ops = append(tooMany.Ops, put(fmt.Sprint(i), ""))
	}
	tests := []struct {
		name  string
		txn   store.Txn
		large bool
	}{
		{"value", store.Txn{Ops: []store.Op{{Key: "a", Value: make([]byte, store.MaxValueBytes+1)}}}, true},
		{"key", store.Txn{Ops: []store.Op{put(strings.Repeat("k", store.MaxKeyBytes+1), "")}}, true},
		{"guard's key", store.Txn{Guards: []store.Guard{{Key: strings.Repeat("k", store.MaxKeyBytes+1)}}, Ops: []store.Op{put("a", "")}}, true},
		{"ops", tooMany, true},
		{"empty key", store.Txn{Ops: []store.Op{put("", "")}}, false},
		{"key twice", store.Txn{Ops: []store.Op{put("a", "1"), del("a")}}, false},
	}
	for _, tt := range tests {
		good := store.Txn{Ops: []store.Op{put("good", tt.name)}}
		_, err := kv.Commit(context.WithoutCancel(t.Context()), []store.Txn{good, tt.txn})
		if err == nil || errors.Is(err, store.ErrTooLarge) != tt.large {
			t.Errorf("%s: error %v (too large expected: %v)", tt.name, err, tt.large)
		}
	}
	if got, _ := contents(t, kv, ""); len(got) != 0 {
		t.Errorf("refused groups left %d keys", len(got))
	}
	if rev := commit(t, kv, put("good", "1")); rev == 0 {
		t.Error("no revision")
	}
}
