package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"longshore.dev/longshore/internal/store"
)

func testWatch(t *testing.T, kv store.KV) {
	_, rev := contents(t, kv, "")
	batches := kv.Watch(t.Context(), "w/", rev+1)
	created := commit(t, kv, put("w/a", "1"))
	commit(t, kv, put("other", "1"))
	changed := commit(t, kv, put("w/a", "2"))
	deleted := commit(t, kv, del("w/a"))

	var events []store.Event
	for len(events) < 3 {
		b := next(t, batches)
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		events = append(events, b.Events...)
		if last := b.Events[len(b.Events)-1].ModRevision; b.Revision < last {
			t.Errorf("a batch up to %d says that it covers %d", last, b.Revision)
		}
	}
	want := []store.Event{
		{Key: "w/a", Value: []byte("1"), ModRevision: created, CreateRevision: created},
		{Key: "w/a", Value: []byte("2"), ModRevision: changed, CreateRevision: created},
		{Key: "w/a", Deleted: true, ModRevision: deleted},
	}
	for i := range want {
		if fmt.Sprintf("%+v", events[i]) != fmt.Sprintf("%+v", want[i]) {
			t.Errorf("event %d is %+v, want %+v", i, events[i], want[i])
		}
	}
	if events[2].Value != nil {
		t.Error("a deletion has a value")
	}
}

func testWatchPast(t *testing.T, kv store.KV) {
	var revs []int64
	for i := range 5 {
		revs = append(revs, commit(t, kv, put("w/a", fmt.Sprint(i))))
	}
	batches := kv.Watch(t.Context(), "w/", revs[2])
	for seen := 2; seen < 5; {
		b := next(t, batches)
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		for _, ev := range b.Events {
			if ev.ModRevision != revs[seen] || string(ev.Value) != fmt.Sprint(seen) {
				t.Fatalf("event %+v, want value %d at %d", ev, seen, revs[seen])
			}
			seen++
		}
	}
}

// testWatchWholeRevisions: a batch never ends inside a transaction.
func testWatchWholeRevisions(t *testing.T, kv store.KV) {
	_, rev := contents(t, kv, "")
	batches := kv.Watch(t.Context(), "w/", rev+1)
	const txns, keys = 50, 20
	go func() {
		for i := range txns {
			var ops []store.Op
			for k := range keys {
				ops = append(ops, put(fmt.Sprintf("w/%d", k), fmt.Sprint(i)))
			}
			kv.Commit(context.WithoutCancel(t.Context()), []store.Txn{{Ops: ops}})
		}
	}()
	for seen := 0; seen < txns; {
		b := next(t, batches)
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		if len(b.Events)%keys != 0 {
			t.Fatalf("a batch of %d events cuts a transaction of %d", len(b.Events), keys)
		}
		seen += len(b.Events) / keys
	}
}

// testWatchUnderLoad: a snapshot and the watch after it have no gap, whatever
// is written meanwhile.
func testWatchUnderLoad(t *testing.T, kv store.KV) {
	const writers, rounds = 4, 60
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				txns := []store.Txn{
					{Ops: []store.Op{put(fmt.Sprintf("w/%d/%d", w, i%7), fmt.Sprint(i))}},
					{Ops: []store.Op{put("w/shared", fmt.Sprintf("%d.%d", w, i)), del(fmt.Sprintf("w/%d/%d", w, (i+3)%7))}},
				}
				if _, err := kv.Commit(ctx, txns); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	type follower struct {
		state map[string]string
		rev   int64
		feed  <-chan store.WatchBatch
	}
	var followers []*follower
	for i := range 4 {
		f := &follower{}
		f.state, f.rev = contents(t, kv, "w/")
		f.feed = kv.Watch(ctx, "w/", f.rev+1)
		followers = append(followers, f)
		mark := fmt.Sprint("w/mark", i)
		commit(t, kv, put(mark, "seen"))
		for first := followers[0]; first.state[mark] == ""; {
			replay(t, first.state, &first.rev, next(t, first.feed))
		}
	}
	wg.Wait()
	commit(t, kv, put("w/end", "end"))
	final, _ := contents(t, kv, "w/")
	for i, f := range followers {
		for f.state["w/end"] == "" {
			replay(t, f.state, &f.rev, next(t, f.feed))
		}
		if !maps.Equal(f.state, final) {
			t.Errorf("follower %d ends with %v, the store has %v", i, f.state, final)
		}
	}
}

func replay(t *testing.T, state map[string]string, rev *int64, b store.WatchBatch) {
	t.Helper()
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	for _, ev := range b.Events {
		if ev.ModRevision < *rev {
			t.Fatalf("event at %d after one at %d", ev.ModRevision, *rev)
		}
		*rev = ev.ModRevision
		if ev.Deleted {
			delete(state, ev.Key)
		} else {
			state[ev.Key] = string(ev.Value)
		}
	}
}

func testCompaction(t *testing.T, kv store.KV) {
	c, ok := kv.(compactor)
	if !ok {
		t.Fatal("the implementation cannot compact its history")
	}
	first := commit(t, kv, put("w/a", "1"))
	var last int64
	for i := range 10 {
		last = commit(t, kv, put("w/a", fmt.Sprint(i)))
	}
	if err := c.Compact(t.Context(), last-2); err != nil {
		t.Fatal(err)
	}
	if b := next(t, kv.Watch(t.Context(), "w/", first)); !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("a watch from before the compaction says %v, want ErrCompacted", b.Err)
	}
	batches := kv.Watch(t.Context(), "w/", last-1)
	b := next(t, batches)
	if b.Err != nil || b.Events[0].ModRevision != last-1 {
		t.Errorf("a watch from after the compaction begins with %+v", b)
	}
	if got, _ := contents(t, kv, "w/"); got["w/a"] != "9" {
		t.Errorf("after the compaction: %v", got)
	}
	if err := c.Compact(t.Context(), last-2); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("compacting the same revision again: %v, want ErrCompacted", err)
	}
}

func testEndedContext(t *testing.T, kv store.KV) {
	rev := commit(t, kv, put("a", "1"))
	ctx, cancel := context.WithCancel(t.Context())
	batches := kv.Watch(ctx, "", rev+1)
	cancel()
	deadline := time.After(patience)
	for open := true; open; {
		select {
		case b, ok := <-batches:
			if open = ok; ok && b.Err != nil {
				t.Errorf("an ended watch says %v", b.Err)
			}
		case <-deadline:
			t.Fatal("the watch outlives its context")
		}
	}
	if _, err := kv.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with an ended context: %v", err)
	}
	if _, err := kv.Commit(ctx, []store.Txn{{Ops: []store.Op{put("a", "2")}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with an ended context: %v", err)
	}
}

func testClose(t *testing.T, kv store.KV) {
	rev := commit(t, kv, put("a", "1"))
	batches := kv.Watch(t.Context(), "", rev+1)
	unread := kv.Watch(t.Context(), "", rev)
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ch := range []<-chan store.WatchBatch{batches, unread} {
		deadline := time.After(patience)
		for open := true; open; {
			select {
			case _, open = <-ch:
			case <-deadline:
				t.Fatal("a watch outlives Close")
			}
		}
	}
	if _, err := kv.Get(t.Context(), "a"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{put("a", "2")}}}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	if err := kv.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}
