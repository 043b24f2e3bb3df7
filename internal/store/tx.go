package store

import "fmt"

// Tx is one attempt of an Update: reads from one snapshot with the attempt's
// own writes on top. It is used by one goroutine, inside the Update's function.
type Tx struct {
	base   *Snapshot
	guards map[string]int64
	writes map[string]*write
	order  []*write
	tables map[*table]*txTable
	log    []write // every write, for undo
	bytes  int     // of the values written
	err    error
}

type write struct {
	table *table
	key   string
	row   *row // nil: deleted
	old   *row // before this write
	value []byte
}

// txTable is a table as the transaction sees it: view shows the first `shown`
// of the changes.
type txTable struct {
	view    *tableView
	shown   int
	changes []write
	sums    []txSum
}

func newTx(base *Snapshot) *Tx {
	return &Tx{
		base:   base,
		guards: make(map[string]int64),
		writes: make(map[string]*write),
		tables: make(map[*table]*txTable),
	}
}

// Revision is the store's revision that the transaction reads.
func (tx *Tx) Revision() int64 { return tx.base.revision }

func (tx *Tx) get(t *table, key string) *row {
	if w := tx.writes[key]; w != nil {
		return w.row
	}
	r := tx.base.get(t, key)
	tx.guard(key, r)
	return r
}

func (tx *Tx) guard(key string, r *row) {
	if r == nil {
		tx.guards[key] = 0
	} else {
		tx.guards[key] = r.rev
	}
}

// view never changes a view that it has given out, so that a caller may write
// while it lists.
func (tx *Tx) view(t *table) *tableView {
	own := tx.tables[t]
	if own == nil {
		return tx.base.view(t)
	}
	if own.shown < len(own.changes) {
		if own.view == nil {
			own.view = tx.base.view(t)
		}
		own.view = own.view.copy()
		for _, w := range own.changes[own.shown:] {
			if w.row == nil {
				own.view.delete(w.key)
			} else {
				own.view.put(w.row)
			}
		}
		own.shown = len(own.changes)
	}
	return own.view
}

func (tx *Tx) put(t *table, ref Ref, v any, value []byte) {
	if err := checkRef(ref.Scope, ref.ID); err != nil {
		tx.fail(fmt.Errorf("store: put %s %q: %w", t.name, ref.ID, err))
		return
	}
	if len(value) > MaxValueBytes {
		tx.fail(fmt.Errorf("store: put %s %q: %w: the record has %d bytes as JSON, at most %d are possible",
			t.name, ref.ID, ErrTooLarge, len(value), MaxValueBytes))
		return
	}
	key := scopePrefix(t.name, ref.Scope) + ref.ID
	tx.write(write{table: t, key: key, row: t.row(key, ref, 0, v), value: value})
}

func (tx *Tx) delete(t *table, ref Ref) {
	if err := checkRef(ref.Scope, ref.ID); err != nil {
		tx.fail(fmt.Errorf("store: delete %s %q: %w", t.name, ref.ID, err))
		return
	}
	key := scopePrefix(t.name, ref.Scope) + ref.ID
	base := tx.base.get(t, key)
	// The guard makes the outcome certain: either the deletion is a change with
	// a revision of its own, or there is nothing to delete.
	tx.guard(key, base)
	if base == nil && tx.writes[key] == nil {
		return
	}
	tx.write(write{table: t, key: key})
}

func (tx *Tx) write(w write) {
	tx.log = append(tx.log, w)
	tx.bytes += len(w.key) + len(w.value)
	if known := tx.writes[w.key]; known != nil {
		w.old = known.row
		*known = w
	} else {
		w.old = tx.base.get(w.table, w.key)
		tx.writes[w.key] = &w
		tx.order = append(tx.order, &w)
	}
	own := tx.tables[w.table]
	if own == nil {
		own = &txTable{}
		tx.tables[w.table] = own
	}
	own.changes = append(own.changes, w)
}

// try runs fn, and takes its writes back if it fails. What it has read stays
// guarded: its answer, too, holds for the state that is committed on.
func (tx *Tx) try(fn func(tx *Tx) error) error {
	before := len(tx.log)
	err := fn(tx)
	if err == nil {
		err = tx.err
	}
	tx.err = nil
	if err != nil && len(tx.log) > before {
		kept := tx.log[:before]
		tx.log, tx.order, tx.bytes = nil, nil, 0
		clear(tx.writes)
		clear(tx.tables)
		for _, w := range kept {
			tx.write(w)
		}
	}
	return err
}

// full tells that no more should be put into one commit.
func (tx *Tx) full() bool {
	return len(tx.order) > MaxTxnOps/2 || len(tx.guards) > MaxTxnOps/2 || tx.bytes > maxGroupBytes
}

// fail keeps the first error; Update returns it in place of committing.
func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

func (tx *Tx) txn() Txn {
	t := Txn{Ops: make([]Op, 0, len(tx.order)), Guards: make([]Guard, 0, len(tx.guards))}
	for _, w := range tx.order {
		if w.row != nil {
			t.Ops = append(t.Ops, Op{Key: w.key, Value: w.value})
		} else if tx.base.get(w.table, w.key) != nil {
			t.Ops = append(t.Ops, Op{Key: w.key, Delete: true})
		}
	}
	for key, rev := range tx.guards {
		t.Guards = append(t.Guards, Guard{Key: key, Revision: rev})
	}
	return t
}
