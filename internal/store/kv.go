package store

import "context"

// Entry is one key with its value and revisions.
type Entry struct {
	Key   string
	Value []byte
	// ModRevision is the revision of the last change of this key,
	// CreateRevision that of its creation.
	ModRevision    int64
	CreateRevision int64
}

// Guard is a condition of a transaction: the key's ModRevision is Revision
// (0: the key does not exist).
type Guard struct {
	Key      string
	Revision int64
}

// Op puts a value (Delete false) or deletes a key.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Txn is a multi-key transaction: all ops are applied, in one revision, if all
// guards hold.
type Txn struct {
	Guards []Guard
	Ops    []Op
}

// TxnResult tells whether the guards held, and the revision at which the
// transaction was applied or refused.
type TxnResult struct {
	Succeeded bool
	Revision  int64
}

// Event is one change seen by a watch. Value is nil when the key was deleted.
type Event struct {
	Key     string
	Value   []byte
	Deleted bool
	// ModRevision of the change; CreateRevision of the key (0 when deleted).
	ModRevision    int64
	CreateRevision int64
}

// WatchBatch holds every event of one or more whole revisions, in order.
// Revision is the last revision that the batch covers.
type WatchBatch struct {
	Events   []Event
	Revision int64
	// Err ends the watch; ErrCompacted means that the caller must start again
	// from a new snapshot.
	Err error
}

// KV is the key-value contract. All implementations pass storetest.Run.
type KV interface {
	// Get returns the entry of key, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)
	// Range returns the entries whose keys begin with prefix, in key order, at
	// one revision, which it also returns. Implementations page internally.
	Range(ctx context.Context, prefix string) ([]Entry, int64, error)
	// Commit applies txns in order in one durable commit, each by its own
	// guards, and returns a result for each. A later txn sees the effects of an
	// earlier one.
	Commit(ctx context.Context, txns []Txn) ([]TxnResult, error)
	// Watch sends every change of keys with the prefix from revision from (inclusive)
	// on, without a gap, until ctx ends. The channel is closed after an error batch.
	Watch(ctx context.Context, prefix string, from int64) <-chan WatchBatch
	Close() error
}
