package store

import (
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// sum is what a Sum is to the untyped parts of the store.
type sum struct {
	// value tells what a record counts under; "" when it does not count.
	value func(s Scope, id string, v any) string
	// add returns total with v put in (or taken out) as a new value, nil when
	// nothing is left in it.
	add func(total any, v any, out bool) any
}

// sumEntry is one total; its key is the scope's prefix and the value.
type sumEntry struct {
	key   string
	total any
}

// Sum keeps a running total of a table's records for each value derived from
// them. Like an index it is part of the view, made from the records alone: it is
// there after a load, and inside a transaction it counts what that has written.
type Sum[T, A any] struct {
	t        *table
	position int
}

// NewSum declares a sum. value tells under what a record counts ("": nowhere).
// add returns a new total: the given one, nil at first, with the record put in or
// taken out; nil when no record is left in it. Totals are shared, so add must not
// change the one that it is given. Both depend on nothing but their arguments,
// and the order in which records come and go must not matter.
func NewSum[T, A any](t *Table[T], name string, value func(s Scope, id string, v *T) string, add func(total *A, v *T, out bool) *A) *Sum[T, A] {
	t.t.db.mustNotRun("NewSum " + name)
	t.t.sums = append(t.t.sums, sum{
		value: func(s Scope, id string, v any) string { return value(s, id, v.(*T)) },
		add: func(total, v any, out bool) any {
			before, _ := total.(*A)
			if after := add(before, v.(*T), out); after != nil {
				return after
			}
			return nil
		},
	})
	return &Sum[T, A]{t: t.t, position: len(t.t.sums) - 1}
}

// Get returns the total of a scope's records that count under the value, nil if
// there are none. It is shared and must not be modified.
func (s *Sum[T, A]) Get(r Reader, sc Scope, value string) *A {
	total, _ := r.total(s.t, s.position, sumKey(sc, value)).(*A)
	return total
}

// All returns a scope's totals in order of the values: cheaper than many Gets.
func (s *Sum[T, A]) All(r Reader, sc Scope) iter.Seq2[string, *A] {
	return func(yield func(string, *A) bool) {
		prefix := sumKey(sc, "")
		base, own := r.sums(s.t, s.position)
		fresh := ownKeys(own, base, prefix)
		give := func(key string, total any) bool {
			if changed, ok := own[key]; ok {
				total = changed
			}
			a, _ := total.(*A)
			return a == nil || yield(key[len(prefix):], a)
		}
		more := true
		base.Ascend(sumEntry{key: prefix}, func(e sumEntry) bool {
			if !strings.HasPrefix(e.key, prefix) {
				return false
			}
			for more && len(fresh) > 0 && fresh[0] < e.key {
				more, fresh = give(fresh[0], nil), fresh[1:]
			}
			more = more && give(e.key, e.total)
			return more
		})
		for more && len(fresh) > 0 {
			more, fresh = give(fresh[0], nil), fresh[1:]
		}
	}
}

// ownKeys are the keys of a transaction's totals that the base has not, in order.
func ownKeys(own map[string]any, base *btree.BTreeG[sumEntry], prefix string) []string {
	var keys []string
	for key := range own {
		if _, ok := base.Get(sumEntry{key: key}); !ok && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func sumKey(s Scope, value string) string { return s.Account + "/" + s.Region + "/" + value }

// sumKeys are the keys of the totals that a record counts in, "" for none.
func (t *table) sumKeys(ref Ref, v any) []string {
	if len(t.sums) == 0 {
		return nil
	}
	keys := make([]string, len(t.sums))
	for i := range t.sums {
		if value := t.sums[i].value(ref.Scope, ref.ID, v); value != "" {
			keys[i] = sumKey(ref.Scope, value)
		}
	}
	return keys
}

// account moves the totals from an old row to a new one; either may be nil.
func (v *tableView) account(old, new *row) {
	for i := range v.sums {
		for _, step := range steps(old, new, i) {
			e, _ := v.sums[i].Get(sumEntry{key: step.key})
			if total := v.of[i].add(e.total, step.row.value, step.out); total != nil {
				v.sums[i].Set(sumEntry{step.key, total})
			} else {
				v.sums[i].Delete(sumEntry{key: step.key})
			}
		}
	}
}

// sumStep puts a row in a total or takes it out.
type sumStep struct {
	key string
	row *row
	out bool
}

// steps are what the change of a row does to one of the table's sums.
func steps(old, new *row, sum int) []sumStep {
	list := make([]sumStep, 0, 2)
	if old != nil && old.summed[sum] != "" {
		list = append(list, sumStep{old.summed[sum], old, true})
	}
	if new != nil && new.summed[sum] != "" {
		list = append(list, sumStep{new.summed[sum], new, false})
	}
	return list
}

// txSum is a sum as a transaction sees it: the totals that the first `counted` of
// its changes touched.
type txSum struct {
	counted int
	totals  map[string]any
}

// total is a running total with the transaction's own writes in it.
func (tx *Tx) total(t *table, sum int, key string) any {
	_, own := tx.sums(t, sum)
	if total, ok := own[key]; ok {
		return total
	}
	return tx.base.total(t, sum, key)
}

// sums returns the totals that the transaction reads, and over them those that
// its own writes have changed.
func (tx *Tx) sums(t *table, sum int) (base *btree.BTreeG[sumEntry], changed map[string]any) {
	base, _ = tx.base.sums(t, sum)
	own := tx.tables[t]
	if own == nil {
		return base, nil
	}
	if own.sums == nil {
		own.sums = make([]txSum, len(t.sums))
	}
	s := &own.sums[sum]
	for ; s.counted < len(own.changes); s.counted++ {
		change := &own.changes[s.counted]
		for _, step := range steps(change.old, change.row, sum) {
			before, ok := s.totals[step.key]
			if !ok {
				before = tx.base.total(t, sum, step.key)
			}
			if s.totals == nil {
				s.totals = make(map[string]any)
			}
			s.totals[step.key] = t.sums[sum].add(before, step.row.value, step.out)
		}
	}
	return base, s.totals
}

func (s *Snapshot) sums(t *table, sum int) (*btree.BTreeG[sumEntry], map[string]any) {
	return s.view(t).sums[sum], nil
}

func (s *Snapshot) total(t *table, sum int, key string) any {
	e, _ := s.view(t).sums[sum].Get(sumEntry{key: key})
	return e.total
}
