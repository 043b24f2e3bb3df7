package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
	"longshore.dev/longshore/internal/store/memkv"
)

// each runs a test over the store in memory and over etcd.
func each(t *testing.T, test func(t *testing.T, kv store.KV)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, newMem(t)) })
	t.Run("etcd", func(t *testing.T) {
		kv, err := etcdkv.OpenEmbedded(t.Context(), etcdkv.Embedded{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { kv.Close() })
		test(t, kv)
	})
}

// increment adds one to a counter and appends to a log in one transaction.
func (f *fixture) increment(ctx context.Context, counter, entry string) error {
	return f.db.Update(ctx, func(tx *store.Tx) error {
		next := &widget{Name: counter}
		if cur, ok := f.widgets.Get(tx, home, counter); ok {
			next = f.widgets.Clone(cur)
		}
		next.Count++
		f.widgets.Put(tx, home, counter, next)
		f.widgets.Put(tx, home, entry, &widget{Count: next.Count})
		return nil
	})
}

// TestCountersAreLinearizable: each increment sees a number of its own, and one
// that began after another had ended sees a larger one.
func TestCountersAreLinearizable(t *testing.T) {
	each(t, func(t *testing.T, kv store.KV) {
		f := start(t, kv)
		const writers, rounds = 16, 30
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				last := 0
				for i := range rounds {
					entry := fmt.Sprintf("log/%d/%d", w, i)
					if err := f.increment(t.Context(), "counter", entry); err != nil {
						t.Error(err)
						return
					}
					e, ok := f.widgets.Get(f.db.Snapshot(), home, entry)
					if !ok || e.Count <= last {
						t.Errorf("%s: %+v after %d", entry, e, last)
						return
					}
					last = e.Count
				}
			})
		}
		wg.Wait()
		var seen []int
		for _, e := range f.widgets.ListPrefix(f.db.Snapshot(), home, "log/") {
			seen = append(seen, e.Count)
		}
		slices.Sort(seen)
		for i, n := range seen {
			if n != i+1 {
				t.Fatalf("the numbers seen are %v", seen)
			}
		}
		if len(seen) != writers*rounds {
			t.Errorf("%d increments, want %d", len(seen), writers*rounds)
		}
	})
}

// follower rebuilds a table from a snapshot and the changes after it.
type follower struct {
	mu    sync.Mutex
	state map[string]int
	last  int64
	errs  []string
}

func (fl *follower) change(c store.Change[widget]) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if c.Revision < fl.last {
		fl.errs = append(fl.errs, fmt.Sprintf("%s at %d after %d", c.ID, c.Revision, fl.last))
	}
	fl.last = c.Revision
	if c.New == nil {
		delete(fl.state, c.ID)
	} else {
		fl.state[c.ID] = c.New.Count
	}
}

func contents(f *fixture, s *store.Snapshot) map[string]int {
	m := map[string]int{}
	for id, w := range f.widgets.List(s, home) {
		m[id] = w.Count
	}
	return m
}

// TestNoGapBetweenSnapshotAndChanges: followers that join while others write end
// with the store's state, and get the changes in order.
func TestNoGapBetweenSnapshotAndChanges(t *testing.T) {
	each(t, func(t *testing.T, kv store.KV) {
		f := start(t, kv)
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for i := range 60 {
					if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
						f.widgets.Put(tx, home, fmt.Sprintf("%d/%d", w, i%10), &widget{Count: i})
						f.widgets.Delete(tx, home, fmt.Sprintf("%d/%d", w, (i+5)%10))
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var followers []*follower
		for range 20 {
			fl := &follower{state: map[string]int{}}
			fl.mu.Lock() // holds changes back until the snapshot is taken in
			cancel := f.widgets.Subscribe(fl.change)
			defer cancel()
			fl.state = contents(f, f.db.Snapshot())
			fl.mu.Unlock()
			followers = append(followers, fl)
		}
		wg.Wait()
		if err := f.db.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := contents(f, f.db.Snapshot())
		for i, fl := range followers {
			fl.mu.Lock()
			if !maps.Equal(fl.state, want) || fl.errs != nil {
				t.Errorf("follower %d: %v\nthe store: %v\nout of order: %v", i, fl.state, want, fl.errs)
			}
			fl.mu.Unlock()
		}
	})
}

// TestChangesFollowTheView: when a subscriber hears of a change, the snapshot
// shows it; it gets the old and the new record; and after cancel, nothing.
func TestChangesFollowTheView(t *testing.T) {
	f := start(t, newMem(t))
	var heard []string
	cancel := f.widgets.Subscribe(func(c store.Change[widget]) {
		snap := f.db.Snapshot()
		shown, _ := f.widgets.Get(snap, c.Scope, c.ID)
		if snap.Revision() < c.Revision || (c.New != nil && shown == nil) {
			t.Errorf("told of %s at %d, the snapshot is at %d", c.ID, c.Revision, snap.Revision())
		}
		s := c.ID + ":"
		if c.Old != nil {
			s += c.Old.Name
		}
		s += ">"
		if c.New != nil {
			s += c.New.Name
		}
		heard = append(heard, s)
	})
	f.put(t, "a", &widget{Name: "one"})
	f.put(t, "a", &widget{Name: "two"})
	if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		f.widgets.Delete(tx, home, "a")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := f.db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a:>one", "a:one>two", "a:two>"}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
	cancel()
	f.put(t, "a", &widget{Name: "three"})
	if err := f.db.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(heard) != 3 {
		t.Errorf("heard after cancel: %v", heard)
	}
}

// TestSlowSubscriberDelaysNobody: while one subscriber is stuck, updates and
// snapshots go on.
func TestSlowSubscriberDelaysNobody(t *testing.T) {
	f := start(t, newMem(t))
	release := make(chan struct{})
	stuck := make(chan struct{}, 200)
	f.widgets.Subscribe(func(store.Change[widget]) { stuck <- struct{}{}; <-release })
	for i := range 100 {
		f.put(t, fmt.Sprint(i), &widget{Count: i})
	}
	<-stuck
	if n := len(contents(f, f.db.Snapshot())); n != 100 {
		t.Errorf("the snapshot shows %d records, want 100", n)
	}
	close(release)
}

// cutKV lets a test cut watches and hold new ones back.
type cutKV struct {
	*memkv.KV
	mu   sync.Mutex
	cut  chan struct{} // closed: present watches end
	hold chan struct{} // closed: new watches may begin
}

func newCutKV(t *testing.T) *cutKV {
	k := &cutKV{KV: newMem(t), cut: make(chan struct{}), hold: make(chan struct{})}
	close(k.hold)
	return k
}

func (k *cutKV) Watch(ctx context.Context, prefix string, from int64) <-chan store.WatchBatch {
	k.mu.Lock()
	cut, hold := k.cut, k.hold
	k.mu.Unlock()
	out := make(chan store.WatchBatch)
	go func() {
		defer close(out)
		select {
		case <-hold:
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		in := k.KV.Watch(ctx, prefix, from)
		for {
			select {
			case b, ok := <-in:
				if !ok {
					return
				}
				out <- b
			case <-cut:
				out <- store.WatchBatch{Err: fmt.Errorf("%w: cut", store.ErrUnavailable)}
				return
			}
		}
	}()
	return out
}

// interrupt cuts the watch while it runs between, and then lets it begin again.
func (k *cutKV) interrupt(between func()) {
	k.mu.Lock()
	close(k.cut)
	k.cut, k.hold = make(chan struct{}), make(chan struct{})
	k.mu.Unlock()
	between()
	close(k.hold)
}

// other is another writer of the same store.
func other(t *testing.T, kv store.KV) *fixture {
	return start(t, kv)
}

// TestInterruptedWatch: whether the history is still there or compacted, the
// view and the subscribers get to the same state.
func TestInterruptedWatch(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compact), func(t *testing.T) {
			kv := newCutKV(t)
			f, writer := start(t, kv), other(t, kv.KV)
			fl := &follower{state: map[string]int{}}
			defer f.widgets.Subscribe(fl.change)()
			f.put(t, "kept", &widget{Count: 1})
			f.put(t, "changed", &widget{Count: 1, Colour: "red"})
			f.put(t, "deleted", &widget{Count: 1, Colour: "red"})
			kept, _ := f.widgets.Get(f.db.Snapshot(), home, "kept")

			kv.interrupt(func() {
				writer.put(t, "changed", &widget{Count: 2, Colour: "blue"})
				writer.put(t, "made", &widget{Count: 3, Colour: "blue"})
				if err := writer.db.Update(t.Context(), func(tx *store.Tx) error {
					writer.widgets.Delete(tx, home, "deleted")
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if compact {
					if err := kv.Compact(t.Context(), writer.db.Snapshot().Revision()); err != nil {
						t.Fatal(err)
					}
				}
			})
			f.put(t, "after", &widget{Count: 4}) // returns when the view has caught up
			if err := f.db.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"kept": 1, "changed": 2, "made": 3, "after": 4}
			snap := f.db.Snapshot()
			if got := contents(f, snap); !maps.Equal(got, want) {
				t.Errorf("the view shows %v, want %v", got, want)
			}
			if got := ids(f.byColour.List(snap, home, "blue")); !slices.Equal(got, []string{"changed", "made"}) || f.byColour.Count(snap, home, "red") != 0 {
				t.Errorf("the index shows blue %v", got)
			}
			if !maps.Equal(fl.state, want) || fl.errs != nil {
				t.Errorf("the subscriber has %v, want %v; out of order: %v", fl.state, want, fl.errs)
			}
			if again, _ := f.widgets.Get(snap, home, "kept"); again != kept {
				t.Error("a record that did not change was decoded again")
			}
		})
	}
}

func TestEndlessConflict(t *testing.T) {
	kv := newMem(t)
	f, writer := start(t, kv), other(t, kv)
	attempts := 0
	err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		attempts++
		f.widgets.Get(tx, home, "a")
		writer.put(t, "a", &widget{Count: attempts}) // somebody is always faster
		f.widgets.Put(tx, home, "b", &widget{})
		return nil
	})
	if !errors.Is(err, store.ErrConflict) || attempts != 64 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
	if _, ok := f.widgets.Get(f.db.Snapshot(), home, "b"); ok {
		t.Error("a refused write is there")
	}
}

// TestAbsenceIsGuarded: of two updates that create the same record if there is
// none, one creates it and the other sees it.
func TestAbsenceIsGuarded(t *testing.T) {
	each(t, func(t *testing.T, kv store.KV) {
		a, b := start(t, kv), other(t, kv)
		for round := range 20 {
			id := fmt.Sprint(round)
			var created [2]bool
			var wg sync.WaitGroup
			for i, f := range []*fixture{a, b} {
				wg.Go(func() {
					if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
						_, exists := f.widgets.Get(tx, home, id)
						if created[i] = !exists; !exists {
							f.widgets.Put(tx, home, id, &widget{Count: i})
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if created[0] == created[1] {
				t.Fatalf("round %d: created %v", round, created)
			}
		}
	})
}

// TestDeleteIsReadBackAtOnce holds for records that others delete, too: what
// deletes nothing must not wait for a revision that never comes.
func TestDeleteIsReadBackAtOnce(t *testing.T) {
	each(t, func(t *testing.T, kv store.KV) {
		a, b := start(t, kv), other(t, kv)
		for i := range 10 {
			a.put(t, "x", &widget{Count: i})
			var wg sync.WaitGroup
			for _, f := range []*fixture{a, b} {
				wg.Go(func() {
					if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
						f.widgets.Delete(tx, home, "x")
						return nil
					}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if _, ok := a.widgets.Get(a.db.Snapshot(), home, "x"); ok {
				t.Fatal("a deleted record is there")
			}
		}
	})
}

func TestOneTooLargeDoesNotHarmItsGroup(t *testing.T) {
	kv := &refusingKV{KV: newMem(t)}
	f := start(t, kv)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			err := f.db.Update(t.Context(), func(tx *store.Tx) error {
				f.widgets.Put(tx, home, fmt.Sprint(i), &widget{Name: map[bool]string{true: "poison"}[i == 7]})
				return nil
			})
			if (i == 7) != errors.Is(err, store.ErrTooLarge) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(contents(f, f.db.Snapshot())); n != 39 {
		t.Errorf("%d records, want 39", n)
	}
}

// refusingKV is a store with a bound that only it knows.
type refusingKV struct{ *memkv.KV }

func (k *refusingKV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	for _, txn := range txns {
		for _, op := range txn.Ops {
			if strings.Contains(string(op.Value), "poison") {
				return nil, fmt.Errorf("%w: poison", store.ErrTooLarge)
			}
		}
	}
	return k.KV.Commit(ctx, txns)
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	kv := &slowKV{KV: newMem(t), entered: make(chan struct{}), leave: make(chan struct{})}
	f := start(t, kv)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- f.db.Update(ctx, func(tx *store.Tx) error {
			f.widgets.Put(tx, home, "a", &widget{})
			return nil
		})
	}()
	<-kv.entered
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "may or may not") {
		t.Errorf("an update given up while it is committed: %v", err)
	}
	if err := f.db.Update(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("an update with an ended context: %v", err)
	}
	close(kv.leave)
}

type slowKV struct {
	*memkv.KV
	entered, leave chan struct{}
}

func (k *slowKV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	k.entered <- struct{}{}
	select {
	case <-k.leave:
	case <-ctx.Done():
	}
	return k.KV.Commit(ctx, txns)
}

func TestRecordVersions(t *testing.T) {
	kv := newMem(t)
	old := declare(kv)
	if err := old.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.put(t, "a", &widget{Name: "written by version 1", Count: 5})

	newer := declare(kv)
	newer.widgets.SetSchema(2, func(version int, record []byte) ([]byte, error) {
		if version != 1 {
			return nil, fmt.Errorf("unexpected version %d", version)
		}
		return []byte(strings.Replace(string(record), `"count":5`, `"count":50`, 1)), nil
	})
	if err := newer.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer newer.db.Close()
	if w, ok := newer.widgets.Get(newer.db.Snapshot(), home, "a"); !ok || w.Count != 50 || w.Name != "written by version 1" {
		t.Errorf("the upgraded record is %+v", w)
	}

	// A running older program stops when a newer one writes what it cannot read.
	newer.put(t, "b", &widget{Name: "written by version 2"})
	select {
	case <-old.db.Stopped():
	case <-time.After(20 * time.Second):
		t.Fatal("the older program goes on")
	}
	if err := old.db.Err(); !errors.Is(err, store.ErrNewerFormat) {
		t.Errorf("the older program stopped because of %v", err)
	}
	err := declare(kv).db.Start(t.Context())
	if !errors.Is(err, store.ErrNewerFormat) || !strings.Contains(err.Error(), "widgets/b") || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("the older program starts: %v", err)
	}
}

func TestUnreadableRecordIsNamed(t *testing.T) {
	for _, value := range []string{"", "nonsense", `{"v":1,"r":{"name":5}}`, `{"v":0,"r":{}}`, `{"v":1,"r":{"name"`, `{"v":x,"r":{}}`} {
		kv := newMem(t)
		key := "ls/1/123456789012/eu-west-1/widgets/broken"
		if _, err := kv.Commit(t.Context(), []store.Txn{{Ops: []store.Op{{Key: key, Value: []byte(value)}}}}); err != nil {
			t.Fatal(err)
		}
		if err := declare(kv).db.Start(t.Context()); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), key) {
			t.Errorf("value %q: %v", value, err)
		}
	}
}

// TestUnknownTablesAreLeftAlone: a table of a later version is no reason to fail.
func TestUnknownTablesAreLeftAlone(t *testing.T) {
	kv := newMem(t)
	ops := []store.Op{
		{Key: "ls/1/-/-/gadgets/a", Value: []byte("of another version")},
		{Key: "ls/1/odd", Value: []byte("no record at all")},
	}
	if _, err := kv.Commit(t.Context(), []store.Txn{{Ops: ops}}); err != nil {
		t.Fatal(err)
	}
	f := start(t, kv)
	f.put(t, "a", &widget{})
	if got := contents(f, f.db.Snapshot()); len(got) != 1 {
		t.Errorf("the table shows %v", got)
	}
	if _, err := kv.Get(t.Context(), "ls/1/-/-/gadgets/a"); err != nil {
		t.Errorf("the unknown record: %v", err)
	}
}

// TestInABubble: over the store in memory everything works in virtual time, as
// simulations need it.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := memkv.New()
		f := declare(kv)
		if err := f.db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		heard := 0
		f.widgets.Subscribe(func(store.Change[widget]) { heard++ })
		begin := time.Now()
		for i := range 10 {
			f.put(t, "a", &widget{Count: i})
			time.Sleep(time.Hour)
		}
		if err := f.db.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if heard != 10 || time.Since(begin) != 10*time.Hour {
			t.Errorf("heard of %d changes in %v", heard, time.Since(begin))
		}
		f.db.Close()
		kv.Close()
	})
}
