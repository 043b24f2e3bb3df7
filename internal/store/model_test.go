package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
)

// TestTablesIndexesAndSumsMatchAModel does random transactions, some aborted, and
// compares every read, inside and outside of transactions, with plain maps.
func TestTablesIndexesAndSumsMatchAModel(t *testing.T) {
	scopes := []store.Scope{home, {Account: "1", Region: "r"}, {}}
	colours := []string{"", "red", "blue", "red+blue", "blue+blue", "re"}
	rapid.Check(t, func(rt *rapid.T) {
		kv := memkv.New()
		defer kv.Close()
		f := declare(kv)
		if err := f.db.Start(t.Context()); err != nil {
			rt.Fatal(err)
		}
		defer f.db.Close()
		model := map[store.Ref]widget{}
		type old struct {
			snap  *store.Snapshot
			model map[store.Ref]widget
		}
		var kept []old
		for range rapid.IntRange(1, 25).Draw(rt, "transactions") {
			next := maps.Clone(model)
			abort := rapid.IntRange(0, 5).Draw(rt, "abort") == 0
			err := f.db.Update(t.Context(), func(tx *store.Tx) error {
				for range rapid.IntRange(1, 6).Draw(rt, "writes") {
					ref := store.Ref{Scope: rapid.SampledFrom(scopes).Draw(rt, "scope"), ID: rapid.SampledFrom([]string{"a", "a/b", "b", "ab", "a\x00"}).Draw(rt, "id")}
					if rapid.IntRange(0, 2).Draw(rt, "kind") == 0 {
						f.widgets.Delete(tx, ref.Scope, ref.ID)
						delete(next, ref)
					} else {
						w := widget{Colour: rapid.SampledFrom(colours).Draw(rt, "colour"), Count: rapid.IntRange(0, 99).Draw(rt, "count")}
						f.widgets.Put(tx, ref.Scope, ref.ID, &w)
						next[ref] = w
					}
					if rapid.Bool().Draw(rt, "look") {
						compare(rt, f, tx, scopes, next)
					}
				}
				if abort {
					return fmt.Errorf("aborted")
				}
				return nil
			})
			if abort != (err != nil) {
				rt.Fatal(err)
			}
			if !abort {
				model = next
			}
			compare(rt, f, f.db.Snapshot(), scopes, model)
			kept = append(kept, old{f.db.Snapshot(), model})
		}
		for _, o := range kept {
			compare(rt, f, o.snap, scopes, o.model)
		}
		// What a new process loads is the same.
		again := declare(kv)
		if err := again.db.Start(t.Context()); err != nil {
			rt.Fatal(err)
		}
		defer again.db.Close()
		compare(rt, again, again.db.Snapshot(), scopes, model)
	})
}

func compare(rt *rapid.T, f *fixture, r store.Reader, scopes []store.Scope, model map[store.Ref]widget) {
	for _, s := range scopes {
		for _, prefix := range []string{"", "a", "a/", "c"} {
			var want []string
			for ref := range model {
				if ref.Scope == s && strings.HasPrefix(ref.ID, prefix) {
					want = append(want, ref.ID)
				}
			}
			slices.Sort(want)
			if got := ids(f.widgets.ListPrefix(r, s, prefix)); !slices.Equal(got, want) {
				rt.Fatalf("%v with prefix %q: %q, want %q", s, prefix, got, want)
			}
		}
		for _, colour := range []string{"red", "blue", "re", ""} {
			var want []string
			for ref, w := range model {
				if ref.Scope == s && w.Colour != "" && slices.Contains(strings.Split(w.Colour, "+"), colour) {
					want = append(want, ref.ID)
				}
			}
			slices.Sort(want)
			if got := ids(f.byColour.List(r, s, colour)); !slices.Equal(got, want) {
				rt.Fatalf("%v of %s: %q, want %q", s, colour, got, want)
			}
			if n := f.byColour.Count(r, s, colour); n != len(want) {
				rt.Fatalf("%v of %s: %d, want %d", s, colour, n, len(want))
			}
		}
		seen := map[string]*tally{}
		last := ""
		for colour, total := range f.tallies.All(r, s) {
			if seen[colour] = total; colour <= last {
				rt.Fatalf("%v: the sum of %s comes after that of %s", s, colour, last)
			}
			last = colour
		}
		for _, colour := range []string{"red", "blue", "red+blue", "re"} {
			var want *tally
			for ref, w := range model {
				if ref.Scope == s && w.Colour == colour {
					want = addWidget(want, &w, false)
				}
			}
			got := f.tallies.Get(r, s, colour)
			if got != seen[colour] && (got == nil || seen[colour] == nil || *got != *seen[colour]) {
				rt.Fatalf("%v: the sum of %s is %v, listed %v", s, colour, got, seen[colour])
			}
			if (got == nil) != (want == nil) || got != nil && *got != *want {
				rt.Fatalf("%v: the sum of %s is %v, want %v", s, colour, got, want)
			}
		}
	}
	all := map[store.Ref]widget{}
	for ref, w := range f.widgets.ListAll(r) {
		all[ref] = widget{Colour: w.Colour, Count: w.Count}
		if got, ok := f.widgets.Get(r, ref.Scope, ref.ID); !ok || got != w {
			rt.Fatalf("%v: listed %+v, got %+v", ref, w, got)
		}
	}
	if !sameRecords(all, model) {
		rt.Fatalf("all: %v, want %v", all, model)
	}
}

func sameRecords(a, b map[store.Ref]widget) bool {
	return maps.EqualFunc(a, b, func(x, y widget) bool { return x.Colour == y.Colour && x.Count == y.Count })
}
