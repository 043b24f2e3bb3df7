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
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
)

// widget is the record of these tests.
type widget struct {
	Name   string            `json:"name"`
	Colour string            `json:"colour,omitempty"`
	Count  int               `json:"count"`
	Tags   map[string]string `json:"tags,omitempty"`
	Parts  []*widget         `json:"parts,omitempty"`
	Made   *time.Time        `json:"made,omitempty"`
}

var home = store.Scope{Account: "123456789012", Region: "eu-west-1"}

// fixture is a started DB with one indexed table.
type fixture struct {
	db       *store.DB
	widgets  *store.Table[widget]
	byColour *store.Index[widget]
	tallies  *store.Sum[widget, tally]
}

// tally is the sum of the widgets of one colour.
type tally struct{ widgets, count int }

func addWidget(total *tally, w *widget, out bool) *tally {
	next := tally{}
	if total != nil {
		next = *total
	}
	sign := 1
	if out {
		sign = -1
	}
	next.widgets, next.count = next.widgets+sign, next.count+sign*w.Count
	if next.widgets == 0 {
		return nil
	}
	return &next
}

func declare(kv store.KV) *fixture {
	db := store.New(kv, store.Options{})
	f := &fixture{db: db, widgets: store.NewTable[widget](db, "widgets")}
	f.byColour = store.NewIndex(f.widgets, "colour", func(_ store.Scope, _ string, w *widget) []string {
		if w.Colour == "" {
			return nil
		}
		return strings.Split(w.Colour, "+")
	})
	f.tallies = store.NewSum(f.widgets, "tally", func(_ store.Scope, _ string, w *widget) string { return w.Colour }, addWidget)
	return f
}

func start(t testing.TB, kv store.KV) *fixture {
	t.Helper()
	f := declare(kv)
	if err := f.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.db.Close() })
	return f
}

func newMem(t testing.TB) *memkv.KV {
	kv := memkv.New()
	t.Cleanup(func() { kv.Close() })
	return kv
}

func (f *fixture) put(t testing.TB, id string, w *widget) {
	t.Helper()
	if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		f.widgets.Put(tx, home, id, w)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func ids[T any](seq func(func(string, T) bool)) []string {
	var found []string
	for id := range seq {
		found = append(found, id)
	}
	return found
}

func TestUpdateIsReadBackAtOnce(t *testing.T) {
	f := start(t, newMem(t))
	var wg sync.WaitGroup
	for writer := range 16 {
		wg.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("w%d-%d", writer, i)
				f.put(t, id, &widget{Name: id, Count: i})
				got, ok := f.widgets.Get(f.db.Snapshot(), home, id)
				if !ok || got.Name != id || got.Count != i {
					t.Errorf("after Update of %s the snapshot shows %+v, %v", id, got, ok)
				}
			}
		})
	}
	wg.Wait()
	if n := len(ids(f.widgets.List(f.db.Snapshot(), home))); n != 16*50 {
		t.Errorf("%d records, want %d", n, 16*50)
	}
}

func TestConcurrentCountersLoseNothing(t *testing.T) {
	f := start(t, newMem(t))
	const writers, rounds, counters = 12, 40, 3
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range rounds {
				id := fmt.Sprintf("counter-%d", (writer+i)%counters)
				if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
					next := &widget{}
					if cur, ok := f.widgets.Get(tx, home, id); ok {
						next = f.widgets.Clone(cur)
					}
					next.Count++
					f.widgets.Put(tx, home, id, next)
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, w := range f.widgets.List(f.db.Snapshot(), home) {
		total += w.Count
	}
	if total != writers*rounds {
		t.Errorf("counted %d increments, want %d", total, writers*rounds)
	}
}

func TestSnapshotNeverChanges(t *testing.T) {
	f := start(t, newMem(t))
	f.put(t, "a", &widget{Name: "old", Colour: "red"})
	f.put(t, "b", &widget{Name: "b", Colour: "red"})
	snap := f.db.Snapshot()
	for i := range 500 {
		f.put(t, fmt.Sprintf("n%03d", i), &widget{Colour: "red"})
	}
	f.put(t, "a", &widget{Name: "new", Colour: "blue"})
	if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		f.widgets.Delete(tx, home, "b")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.widgets.Get(snap, home, "a"); got == nil || got.Name != "old" {
		t.Errorf("the old snapshot shows %+v", got)
	}
	if got := ids(f.byColour.List(snap, home, "red")); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the old snapshot's index shows %v", got)
	}
	now := f.db.Snapshot()
	if n := f.byColour.Count(now, home, "red"); n != 500 {
		t.Errorf("the new snapshot's index counts %d, want 500", n)
	}
	if _, ok := f.widgets.Get(now, home, "b"); ok {
		t.Error("the new snapshot shows a deleted record")
	}
}

func TestTransactionSeesItsOwnWrites(t *testing.T) {
	f := start(t, newMem(t))
	f.put(t, "a", &widget{Name: "a", Colour: "red"})
	f.put(t, "b", &widget{Name: "b", Colour: "red"})
	err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		for id, w := range f.widgets.List(tx, home) { // writing while listing
			next := f.widgets.Clone(w)
			next.Colour = "blue"
			f.widgets.Put(tx, home, id, next)
			f.widgets.Put(tx, home, id+"2", next)
		}
		if got := ids(f.byColour.List(tx, home, "blue")); !slices.Equal(got, []string{"a", "a2", "b", "b2"}) {
			t.Errorf("index inside the transaction: %v", got)
		}
		f.widgets.Delete(tx, home, "a2")
		if _, ok := f.widgets.Get(tx, home, "a2"); ok {
			t.Error("a deleted record is still there inside the transaction")
		}
		if n := f.byColour.Count(tx, home, "red"); n != 0 {
			t.Errorf("%d records are still red inside the transaction", n)
		}
		if n := f.byColour.Count(f.db.Snapshot(), home, "red"); n != 2 {
			t.Errorf("outside, %d are red before the commit, want 2", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(f.widgets.List(f.db.Snapshot(), home)); !slices.Equal(got, []string{"a", "b", "b2"}) {
		t.Errorf("after the commit: %v", got)
	}
}

func TestFunctionsErrorAborts(t *testing.T) {
	f := start(t, newMem(t))
	refused := errors.New("refused")
	before := f.db.Snapshot().Revision()
	err := f.db.Update(t.Context(), func(tx *store.Tx) error {
		f.widgets.Put(tx, home, "a", &widget{})
		return refused
	})
	if err != refused {
		t.Errorf("Update returned %v, want fn's error as it is", err)
	}
	if _, ok := f.widgets.Get(f.db.Snapshot(), home, "a"); ok || f.db.Snapshot().Revision() != before {
		t.Error("an aborted update left a trace")
	}
}

func TestWhatCannotBeStoredIsRefused(t *testing.T) {
	f := start(t, newMem(t))
	tests := []struct {
		name string
		fn   func(tx *store.Tx)
		want string
	}{
		{"empty id", func(tx *store.Tx) { f.widgets.Put(tx, home, "", &widget{}) }, "id is empty"},
		{"long id", func(tx *store.Tx) { f.widgets.Put(tx, home, strings.Repeat("x", 3000), &widget{}) }, "3000 bytes"},
		{"slash in account", func(tx *store.Tx) { f.widgets.Put(tx, store.Scope{Account: "a/b"}, "x", &widget{}) }, `"a/b"`},
		{"dash as region", func(tx *store.Tx) { f.widgets.Put(tx, store.Scope{Region: "-"}, "x", &widget{}) }, `"-"`},
		{"nil record", func(tx *store.Tx) { f.widgets.Put(tx, home, "x", nil) }, "nil"},
		{"large record", func(tx *store.Tx) {
			f.widgets.Put(tx, home, "x", &widget{Name: strings.Repeat("x", store.MaxValueBytes)})
		}, "at most 1572864"},
		{"many writes", func(tx *store.Tx) {
			for i := range store.MaxTxnOps + 1 {
				f.widgets.Put(tx, home, fmt.Sprint(i), &widget{})
			}
		}, "4097 writes"},
	}
	for _, tt := range tests {
		err := f.db.Update(t.Context(), func(tx *store.Tx) error { tt.fn(tx); return nil })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %s", tt.name, err, tt.want)
		}
	}
	if got := ids(f.widgets.List(f.db.Snapshot(), home)); got != nil {
		t.Errorf("something was stored: %v", got)
	}
}

func TestScopesAreSeparate(t *testing.T) {
	f := start(t, newMem(t))
	scopes := []store.Scope{home, {Account: "123456789012", Region: "us-east-1"}, {Account: "999999999999", Region: "eu-west-1"}, {}}
	for _, s := range scopes {
		if err := f.db.Update(t.Context(), func(tx *store.Tx) error {
			f.widgets.Put(tx, s, "same/id", &widget{Name: s.Account + s.Region, Colour: "red"})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	snap := f.db.Snapshot()
	for _, s := range scopes {
		w, ok := f.widgets.Get(snap, s, "same/id")
		if !ok || w.Name != s.Account+s.Region {
			t.Errorf("%v: %+v", s, w)
		}
		if got := ids(f.widgets.ListPrefix(snap, s, "same/")); !slices.Equal(got, []string{"same/id"}) {
			t.Errorf("%v lists %v", s, got)
		}
		if n := f.byColour.Count(snap, s, "red"); n != 1 {
			t.Errorf("%v counts %d", s, n)
		}
	}
	seen := map[store.Scope]bool{}
	for ref := range f.widgets.ListAll(snap) {
		seen[ref.Scope] = ref.ID == "same/id"
	}
	byIndex := map[store.Scope]bool{}
	for ref := range f.byColour.ListAll(snap, "red") {
		byIndex[ref.Scope] = true
	}
	if len(seen) != len(scopes) || !maps.Equal(seen, byIndex) {
		t.Errorf("ListAll: %v, by index: %v", seen, byIndex)
	}
}

func TestCloneIsDeep(t *testing.T) {
	f := declare(newMem(t))
	now := time.Now()
	w := &widget{Name: "a", Tags: map[string]string{"k": "v"}, Parts: []*widget{{Name: "part", Tags: map[string]string{"x": "y"}}}, Made: &now}
	c := f.widgets.Clone(w)
	c.Tags["k"] = "changed"
	c.Parts[0].Name = "changed"
	c.Parts[0].Tags["x"] = "changed"
	*c.Made = now.Add(time.Hour)
	if w.Tags["k"] != "v" || w.Parts[0].Name != "part" || w.Parts[0].Tags["x"] != "y" || !w.Made.Equal(now) {
		t.Errorf("changing the clone changed the original: %+v", w)
	}
}

func TestUpdateAfterCloseAndBeforeStart(t *testing.T) {
	f := declare(newMem(t))
	write := func() error {
		return f.db.Update(context.Background(), func(tx *store.Tx) error {
			f.widgets.Put(tx, home, "a", &widget{})
			return nil
		})
	}
	if err := write(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("before Start: %v", err)
	}
	if err := f.db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.db.Close()
	if err := write(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if !errors.Is(f.db.Err(), store.ErrClosed) {
		t.Errorf("Err after Close: %v", f.db.Err())
	}
}
