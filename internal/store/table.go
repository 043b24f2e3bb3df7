package store

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"sync"
)

// table is what a Table is to the untyped parts of the store.
type table struct {
	db       *DB
	name     string
	position int
	schema   schema
	decode   func(record []byte) (any, error)
	indexes  []func(s Scope, id string, v any) []string
	sums     []sum

	mu          sync.Mutex
	subscribers []*subscriber
}

type subscriber struct {
	notify func(change)
	since  int64 // what the view showed when it subscribed
}

// read makes a row of a stored entry.
func (t *table) read(key string, ref Ref, rev int64, value []byte) (*row, error) {
	record, err := t.schema.open(value)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", key, err)
	}
	v, err := t.decode(record)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w: %w", key, ErrDamaged, err)
	}
	return t.row(key, ref, rev, v), nil
}

func (t *table) row(key string, ref Ref, rev int64, v any) *row {
	r := &row{key: key, ref: ref, rev: rev, value: v, summed: t.sumKeys(ref, v)}
	if len(t.indexes) > 0 {
		r.indexed = make([][]string, len(t.indexes))
		for i, values := range t.indexes {
			r.indexed[i] = values(ref.Scope, ref.ID, v)
		}
	}
	return r
}

// Table holds records of type T, a struct with JSON tags. A record is stored
// with the table's schema version, decoded once, and shared by all readers.
type Table[T any] struct{ t *table }

// NewTable declares a table. All tables and indexes are declared before
// DB.Start; a name that is taken or malformed panics.
func NewTable[T any](db *DB, name string) *Table[T] {
	if name == "" || strings.Contains(name, "/") {
		panic(fmt.Sprintf("store: %q cannot be a table's name", name))
	}
	t := &table{
		db:     db,
		name:   name,
		schema: schema{version: 1},
		decode: func(record []byte) (any, error) {
			v := new(T)
			if err := json.Unmarshal(record, v); err != nil {
				return nil, err
			}
			return v, nil
		},
	}
	db.declare(t)
	return &Table[T]{t}
}

// SetSchema states the version that this program writes (1 unless told
// otherwise), and how a record of an older version becomes one of this version.
// A record of a newer version makes Start fail with ErrNewerFormat.
func (t *Table[T]) SetSchema(version int, upgrade Upgrade) *Table[T] {
	t.t.db.mustNotRun("SetSchema")
	if version < 1 {
		panic("store: schema versions begin with 1")
	}
	t.t.schema = schema{version: version, upgrade: upgrade}
	return t
}

// Name is the table's name.
func (t *Table[T]) Name() string { return t.t.name }

func (t *Table[T]) key(s Scope, id string) string { return scopePrefix(t.t.name, s) + id }

// Get returns the record, which is shared: Clone it before changing it.
func (t *Table[T]) Get(r Reader, s Scope, id string) (*T, bool) {
	row := r.get(t.t, t.key(s, id))
	if row == nil {
		return nil, false
	}
	return row.value.(*T), true
}

// List returns the records of a scope in id order.
func (t *Table[T]) List(r Reader, s Scope) iter.Seq2[string, *T] {
	return t.ListPrefix(r, s, "")
}

// ListPrefix returns the records of a scope whose ids begin with prefix, in id
// order.
func (t *Table[T]) ListPrefix(r Reader, s Scope, prefix string) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		r.view(t.t).scan(t.key(s, prefix), func(row *row) bool {
			return yield(row.ref.ID, row.value.(*T))
		})
	}
}

// ListAll returns the records of every scope, scope by scope.
func (t *Table[T]) ListAll(r Reader) iter.Seq2[Ref, *T] {
	return func(yield func(Ref, *T) bool) {
		r.view(t.t).scan(keyPrefix, func(row *row) bool {
			return yield(row.ref, row.value.(*T))
		})
	}
}

// Mark identifies a state of a table: reads with equal marks see the same records.
type Mark struct{ view *tableView }

// Mark returns the mark of what r sees of the table, for caches of what is
// derived from all of it.
func (t *Table[T]) Mark(r Reader) Mark { return Mark{r.view(t.t)} }

// Put writes the record as v is now. What is wrong with it (not encodable, too
// large, an empty id) is returned by Update.
func (t *Table[T]) Put(tx *Tx, s Scope, id string, v *T) {
	if v == nil {
		tx.fail(fmt.Errorf("store: put %s %q: the record is nil", t.t.name, id))
		return
	}
	record, err := json.Marshal(v)
	if err != nil {
		tx.fail(fmt.Errorf("store: put %s %q: %w", t.t.name, id, err))
		return
	}
	tx.put(t.t, Ref{s, id}, v, sealEnvelope(t.t.schema.version, record))
}

// Delete removes the record if it exists. Like Get it guards the record's
// revision, absence too.
func (t *Table[T]) Delete(tx *Tx, s Scope, id string) { tx.delete(t.t, Ref{s, id}) }

// Clone returns a deep copy, for modification.
func (t *Table[T]) Clone(v *T) *T { return clone(v) }

// Change is one record's change. Old is nil when it was created, New when it
// was deleted; both are shared and must not be modified.
type Change[T any] struct {
	Ref
	Old, New *T
	Revision int64
}

// Subscribe calls fn for every change of the table from now on, one at a time,
// in revision order, after Snapshot shows it. A change that a snapshot taken
// after Subscribe does not show is certain to be notified. When the store had
// to load everything again, fn gets the differences, intermediate states left out.
//
// fn must not block nor call Update: all subscribers share one goroutine.
// After cancel returns, a call that was already under way may still finish.
func (t *Table[T]) Subscribe(fn func(Change[T])) (cancel func()) {
	s := &subscriber{notify: func(c change) {
		typed := Change[T]{Ref: c.ref, Revision: c.revision}
		if c.old != nil {
			typed.Old = c.old.value.(*T)
		}
		if c.new != nil {
			typed.New = c.new.value.(*T)
		}
		fn(typed)
	}}
	return t.t.subscribe(s)
}

// Index finds a table's records by values derived from them.
type Index[T any] struct {
	t        *table
	position int
}

// NewIndex declares an index: fn returns the values under which a record is
// found (none, one or several), and depends on nothing but its arguments.
func NewIndex[T any](t *Table[T], name string, fn func(s Scope, id string, v *T) []string) *Index[T] {
	t.t.db.mustNotRun("NewIndex " + name)
	t.t.indexes = append(t.t.indexes, func(s Scope, id string, v any) []string { return fn(s, id, v.(*T)) })
	return &Index[T]{t: t.t, position: len(t.t.indexes) - 1}
}

// List returns the records of a scope that have the value, in id order.
func (ix *Index[T]) List(r Reader, s Scope, value string) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		r.view(ix.t).scanIndex(ix.position, value, scopePrefix(ix.t.name, s), func(row *row) bool {
			return yield(row.ref.ID, row.value.(*T))
		})
	}
}

// ListAll returns the records of every scope that have the value, scope by scope.
func (ix *Index[T]) ListAll(r Reader, value string) iter.Seq2[Ref, *T] {
	return func(yield func(Ref, *T) bool) {
		r.view(ix.t).scanIndex(ix.position, value, keyPrefix, func(row *row) bool {
			return yield(row.ref, row.value.(*T))
		})
	}
}

// Count is the number of records of a scope that have the value.
func (ix *Index[T]) Count(r Reader, s Scope, value string) int {
	n := 0
	r.view(ix.t).scanIndex(ix.position, value, scopePrefix(ix.t.name, s), func(*row) bool {
		n++
		return true
	})
	return n
}
