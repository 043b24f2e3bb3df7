// Package store holds all live control-plane state.
//
// At the bottom is KV, a small key-value contract (get, range, guarded
// multi-key transaction, gap-free watch) with two implementations held to one
// suite (storetest): etcd, embedded or remote, and a deterministic one in memory.
// Above it DB keeps an in-memory indexed view fed by one watch, and offers typed
// tables with indexes and running sums, optimistic multi-key transactions and
// change notifications.
//
// A room reads from a Snapshot and writes in DB.Update. Update returns only when
// the write is durable and the local view shows it (read your writes).
// Concurrent updates are grouped into one commit, each with its own guards; those
// that mostly write the same records go through DB.UpdateJointly, as one transaction.
//
// Invariants: the view never shows a revision half applied; every change is
// notified in revision order; an acknowledged write survives kill -9; records
// read from a snapshot are shared and must not be modified (Table.Clone first).
//
// It does not know what the records mean. Bulk data (log events, metrics,
// history) is in package bulk.
//
// Read kv.go first, then db.go and table.go.
package store
