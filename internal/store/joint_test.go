package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
)

// heldKV holds commits until it is told to go on, counts and may fail them.
type heldKV struct {
	*memkv.KV
	hold    chan struct{} // a receive lets one commit pass; nil lets all
	arrived chan struct{}
	commits atomic.Int64
	fail    atomic.Pointer[error]
}

func (k *heldKV) Commit(ctx context.Context, txns []store.Txn) ([]store.TxnResult, error) {
	k.commits.Add(1)
	if k.hold != nil {
		k.arrived <- struct{}{}
		<-k.hold
	}
	if err := k.fail.Load(); err != nil {
		return nil, *err
	}
	return k.KV.Commit(ctx, txns)
}

// add is an update that counts the widget "hot" up by n.
func (f *fixture) add(n int) func(tx *store.Tx) error {
	return func(tx *store.Tx) error {
		w := widget{}
		if old, ok := f.widgets.Get(tx, home, "hot"); ok {
			w = *old
		}
		w.Count += n
		f.widgets.Put(tx, home, "hot", &w)
		return nil
	}
}

func (f *fixture) hot() int {
	w, _ := f.widgets.Get(f.db.Snapshot(), home, "hot")
	if w == nil {
		return 0
	}
	return w.Count
}

// jointly begins updates while a first one is held in its commit, and returns
// what ends all of them.
func jointly(t *testing.T, kv *heldKV, f *fixture, updates ...func(tx *store.Tx) error) (errs []error) {
	t.Helper()
	kv.hold, kv.arrived = make(chan struct{}), make(chan struct{}, 100)
	var all sync.WaitGroup
	all.Go(func() {
		if err := f.db.UpdateJointly(t.Context(), f.add(0)); err != nil && kv.fail.Load() == nil {
			t.Error(err)
		}
	})
	<-kv.arrived
	errs = make([]error, len(updates))
	var begun atomic.Int64
	for i, update := range updates {
		all.Go(func() {
			begun.Add(1)
			errs[i] = f.db.UpdateJointly(t.Context(), update)
		})
	}
	for begun.Load() < int64(len(updates)) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // so that they wait, which only the number of commits depends on
	close(kv.hold)
	all.Wait()
	return errs
}

func TestUpdatesOfOneRecordAreCommittedTogether(t *testing.T) {
	kv := &heldKV{KV: newMem(t)}
	f := start(t, kv)
	var updates []func(tx *store.Tx) error
	for range 200 {
		updates = append(updates, f.add(1))
	}
	for _, err := range jointly(t, kv, f, updates...) {
		if err != nil {
			t.Error(err)
		}
	}
	if f.hot() != 200 {
		t.Errorf("200 updates counted %d", f.hot())
	}
	if n := kv.commits.Load(); n > 20 {
		t.Errorf("it took %d commits", n)
	}
}

// One that fails, with an error, by a record that can't be stored or by a panic,
// leaves no writes, and the others do not notice.
func TestAFailingMemberLeavesNothing(t *testing.T) {
	kv := &heldKV{KV: newMem(t)}
	f := start(t, kv)
	no := errors.New("no")
	writes := func(then func(tx *store.Tx) error) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			f.widgets.Put(tx, home, "stray", &widget{})
			if err := f.add(1000)(tx); err != nil {
				return err
			}
			return then(tx)
		}
	}
	var panicked any
	errs := jointly(t, kv, f,
		f.add(1), writes(func(*store.Tx) error { return no }), f.add(1),
		writes(func(tx *store.Tx) error { f.widgets.Put(tx, home, "", &widget{}); return nil }), f.add(1),
		func(tx *store.Tx) error { f.widgets.Delete(tx, home, "nothing"); return nil },
	)
	func() {
		defer func() { panicked = recover() }()
		_ = f.db.UpdateJointly(t.Context(), writes(func(*store.Tx) error { panic("oh") }))
	}()
	if panicked != "oh" {
		t.Errorf("the panic came back as %v", panicked)
	}
	if errs[0] != nil || !errors.Is(errs[1], no) || errs[2] != nil || errs[3] == nil || errs[4] != nil || errs[5] != nil {
		t.Errorf("errors: %v", errs)
	}
	if _, stray := f.widgets.Get(f.db.Snapshot(), home, "stray"); stray || f.hot() != 3 {
		t.Errorf("counted %d; stray: %v", f.hot(), stray)
	}
}

func TestAFailedJointCommitFailsItsMembers(t *testing.T) {
	kv := &heldKV{KV: newMem(t)}
	f := start(t, kv)
	gone := fmt.Errorf("%w: gone", store.ErrUnavailable)
	kv.fail.Store(&gone)
	// The last one's answer rests on what was not committed.
	for i, err := range jointly(t, kv, f, f.add(1), func(tx *store.Tx) error {
		if w, ok := f.widgets.Get(tx, home, "hot"); ok && w.Count > 0 {
			return errors.New("there is one already")
		}
		return nil
	}) {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("update %d: %v", i, err)
		}
	}
	if f.hot() != 0 {
		t.Errorf("counted %d", f.hot())
	}
}

// A caller that has left is not waited for, and its function does not run later.
func TestACallerThatLeftIsNotRunForAnyMore(t *testing.T) {
	kv := &heldKV{KV: newMem(t), hold: make(chan struct{}), arrived: make(chan struct{}, 10)}
	f := start(t, kv)
	first := make(chan error, 1)
	go func() { first <- f.db.UpdateJointly(t.Context(), f.add(1)) }()
	<-kv.arrived
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Bool
	second := make(chan error, 1)
	go func() {
		second <- f.db.UpdateJointly(ctx, func(tx *store.Tx) error { ran.Store(true); return f.add(10)(tx) })
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left: %v", err)
	}
	close(kv.hold)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := f.db.UpdateJointly(t.Context(), f.add(1)); err != nil {
		t.Error(err)
	}
	if ran.Load() || f.hot() != 2 {
		t.Errorf("ran: %v; counted %d", ran.Load(), f.hot())
	}
}

// Members that are too large together, or one of which is too large by itself,
// are committed apart.
func TestALargeMemberDoesNotHarmTheOthers(t *testing.T) {
	kv := &heldKV{KV: newMem(t)}
	f := start(t, kv)
	many := func(prefix string, n int) func(tx *store.Tx) error {
		return func(tx *store.Tx) error {
			for i := range n {
				f.widgets.Put(tx, home, fmt.Sprint(prefix, i), &widget{})
			}
			return nil
		}
	}
	errs := jointly(t, kv, f, f.add(1), many("a", 3000), many("b", store.MaxTxnOps+1), f.add(1), many("c", 3000))
	for i, err := range errs {
		if (i == 2) != errors.Is(err, store.ErrTooLarge) || i != 2 && err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	}
	if n := f.byColour.Count(f.db.Snapshot(), home, "red"); f.hot() != 2 || n != 0 {
		t.Errorf("counted %d", f.hot())
	}
}

// Whatever members write, read and fail at, the outcome is that of doing those
// that succeed one after the other.
func TestJointUpdatesMatchAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := start(t, newMem(t))
		scopes := []store.Scope{home, {}}
		var mu sync.Mutex
		model := map[store.Ref]widget{}
		var all sync.WaitGroup
		for range rapid.IntRange(1, 8).Draw(rt, "members") {
			fails := rapid.IntRange(0, 3).Draw(rt, "fails") == 0
			writes := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) [4]int {
				draw := rapid.IntRange(0, 2)
				return [4]int{draw.Draw(rt, "scope") % 2, draw.Draw(rt, "id"), draw.Draw(rt, "kind"), draw.Draw(rt, "colour")}
			}), 0, 5).Draw(rt, "writes")
			all.Go(func() {
				_ = f.db.UpdateJointly(t.Context(), func(tx *store.Tx) error {
					mu.Lock()
					defer mu.Unlock()
					next := map[store.Ref]widget{}
					for ref, w := range model {
						next[ref] = w
					}
					for _, w := range writes {
						ref := store.Ref{Scope: scopes[w[0]], ID: []string{"a", "b", "ab"}[w[1]]}
						if w[2] == 0 {
							f.widgets.Delete(tx, ref.Scope, ref.ID)
							delete(next, ref)
							continue
						}
						v := widget{Colour: []string{"", "red", "blue"}[w[3]], Count: w[1]}
						f.widgets.Put(tx, ref.Scope, ref.ID, &v)
						next[ref] = v
					}
					if fails {
						return errors.New("failed")
					}
					model = next
					return nil
				})
			})
		}
		all.Wait()
		compare(rt, f, f.db.Snapshot(), scopes, model)
	})
}
