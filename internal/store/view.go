package store

import (
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// row is one decoded record. It is immutable and shared by all snapshots that
// show it.
type row struct {
	key   string // physical; ref's strings are parts of it
	ref   Ref
	rev   int64
	value any // *T
	// indexed holds the values of each index, kept here so that removing a row
	// never depends on computing them again.
	indexed [][]string
	// summed holds the key of its total in each sum.
	summed []string
}

type indexEntry struct {
	value string
	row   *row
}

// tableView is one state of a table: its rows in key order, its indexes and sums.
// Once it is reachable from a Snapshot it is never changed, only copied.
type tableView struct {
	// copying guards the bookkeeping that copying does in the trees; reading
	// them needs no lock.
	copying sync.Mutex
	rows    *btree.BTreeG[*row]
	indexes []*btree.BTreeG[indexEntry]
	sums    []*btree.BTreeG[sumEntry]
	of      []sum // the table's
}

func newTableView(t *table) *tableView {
	opts := btree.Options{NoLocks: true}
	v := &tableView{
		rows:    btree.NewBTreeGOptions(func(a, b *row) bool { return a.key < b.key }, opts),
		indexes: make([]*btree.BTreeG[indexEntry], len(t.indexes)),
		sums:    make([]*btree.BTreeG[sumEntry], len(t.sums)),
		of:      t.sums,
	}
	for i := range v.indexes {
		v.indexes[i] = btree.NewBTreeGOptions(func(a, b indexEntry) bool {
			if a.value != b.value {
				return a.value < b.value
			}
			return a.row.key < b.row.key
		}, opts)
	}
	for i := range v.sums {
		v.sums[i] = btree.NewBTreeGOptions(func(a, b sumEntry) bool { return a.key < b.key }, opts)
	}
	return v
}

// copy returns an independent view in constant time: nodes are shared until
// one side changes them.
func (v *tableView) copy() *tableView {
	v.copying.Lock()
	defer v.copying.Unlock()
	c := &tableView{
		rows: v.rows.Copy(), indexes: make([]*btree.BTreeG[indexEntry], len(v.indexes)),
		sums: make([]*btree.BTreeG[sumEntry], len(v.sums)), of: v.of,
	}
	for i, ix := range v.indexes {
		c.indexes[i] = ix.Copy()
	}
	for i, s := range v.sums {
		c.sums[i] = s.Copy()
	}
	return c
}

func (v *tableView) get(key string) *row {
	r, _ := v.rows.Get(&row{key: key})
	return r
}

// put adds or replaces a row and returns the one it replaced.
func (v *tableView) put(r *row) *row {
	old, _ := v.rows.Set(r)
	if old != nil {
		v.unindex(old)
	}
	for i, values := range r.indexed {
		for _, value := range values {
			v.indexes[i].Set(indexEntry{value, r})
		}
	}
	v.account(old, r)
	return old
}

func (v *tableView) delete(key string) *row {
	old, _ := v.rows.Delete(&row{key: key})
	if old != nil {
		v.unindex(old)
		v.account(old, nil)
	}
	return old
}

func (v *tableView) unindex(r *row) {
	for i, values := range r.indexed {
		for _, value := range values {
			v.indexes[i].Delete(indexEntry{value, r})
		}
	}
}

// scan calls yield for the rows whose keys begin with prefix, in order.
func (v *tableView) scan(prefix string, yield func(*row) bool) {
	v.rows.Ascend(&row{key: prefix}, func(r *row) bool {
		return strings.HasPrefix(r.key, prefix) && yield(r)
	})
}

// scanIndex calls yield for the rows with the index value whose keys begin with
// prefix, in key order.
func (v *tableView) scanIndex(index int, value, prefix string, yield func(*row) bool) {
	v.indexes[index].Ascend(indexEntry{value, &row{key: prefix}}, func(e indexEntry) bool {
		return e.value == value && strings.HasPrefix(e.row.key, prefix) && yield(e.row)
	})
}

// Snapshot is an immutable state of all tables at one revision. It is cheap to
// take and to hold.
type Snapshot struct {
	revision int64
	tables   []*tableView
}

// Revision is the store's revision that the snapshot shows.
func (s *Snapshot) Revision() int64 { return s.revision }

func (s *Snapshot) view(t *table) *tableView { return s.tables[t.position] }

func (s *Snapshot) get(t *table, key string) *row { return s.view(t).get(key) }

// Reader is what tables, indexes and sums read from: a *Snapshot or a *Tx.
type Reader interface {
	view(t *table) *tableView
	get(t *table, key string) *row
	total(t *table, sum int, key string) any
	sums(t *table, sum int) (base *btree.BTreeG[sumEntry], changed map[string]any)
}

// edit is a next state under construction: tables are copied when first touched.
type edit struct {
	base    *Snapshot
	tables  []*tableView
	touched []bool
}

func newEdit(base *Snapshot) *edit {
	return &edit{
		base:    base,
		tables:  append([]*tableView(nil), base.tables...),
		touched: make([]bool, len(base.tables)),
	}
}

func (e *edit) table(t *table) *tableView {
	if !e.touched[t.position] {
		e.touched[t.position] = true
		e.tables[t.position] = e.tables[t.position].copy()
	}
	return e.tables[t.position]
}

func (e *edit) snapshot(revision int64) *Snapshot {
	return &Snapshot{revision: revision, tables: e.tables}
}
