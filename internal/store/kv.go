package store

import (
	"context"
	"fmt"
)

// Bounds that hold for every KV. A single KV may have tighter ones (a remote
// etcd is configured with its own); all of them are reported as ErrTooLarge.
const (
	// MaxValueBytes is the largest value of a key: 1.5 MiB.
	MaxValueBytes = 3 << 19
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 4096
	// MaxTxnOps is the largest number of ops, and of guards, in a transaction.
	MaxTxnOps = 4096
	// MaxTxnBytes bounds the keys and values of one transaction.
	MaxTxnBytes = 8 << 20
)

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

// Op puts a value (Delete false) or deletes a key. Deleting a key that does
// not exist changes nothing.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Txn is a multi-key transaction: all ops are applied, in one revision, if all
// guards hold. A key may be in Ops only once.
type Txn struct {
	Guards []Guard
	Ops    []Op
}

// Size is the number of bytes in the transaction's keys and values.
func (t Txn) Size() int {
	n := 0
	for _, g := range t.Guards {
		n += len(g.Key)
	}
	for _, op := range t.Ops {
		n += len(op.Key) + len(op.Value)
	}
	return n
}

// Validate reports the first thing that every KV refuses: an empty or too long
// key, a key written twice, or more than the bounds allow (ErrTooLarge).
func (t Txn) Validate() error {
	if len(t.Ops) > MaxTxnOps || len(t.Guards) > MaxTxnOps {
		return fmt.Errorf("%w: a transaction of %d writes and %d guards, at most %d of each are possible: split it",
			ErrTooLarge, len(t.Ops), len(t.Guards), MaxTxnOps)
	}
	for _, g := range t.Guards {
		if err := validateKey(g.Key); err != nil {
			return err
		}
	}
	seen := make(map[string]struct{}, len(t.Ops))
	for _, op := range t.Ops {
		if err := validateKey(op.Key); err != nil {
			return err
		}
		if _, dup := seen[op.Key]; dup {
			return fmt.Errorf("store: key %q is written twice in one transaction", op.Key)
		}
		seen[op.Key] = struct{}{}
		if len(op.Value) > MaxValueBytes {
			return fmt.Errorf("%w: the value of %q has %d bytes, at most %d are possible",
				ErrTooLarge, op.Key, len(op.Value), MaxValueBytes)
		}
	}
	if n := t.Size(); n > MaxTxnBytes {
		return fmt.Errorf("%w: a transaction of %d bytes, at most %d are possible: split it", ErrTooLarge, n, MaxTxnBytes)
	}
	return nil
}

func validateKey(key string) error {
	if key == "" {
		return fmt.Errorf("store: a key is empty")
	}
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes, at most %d are possible", ErrTooLarge, len(key), MaxKeyBytes)
	}
	return nil
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
	// Commit applies txns in order, durably, each by its own guards, and returns
	// a result for each. A later txn sees the effects of an earlier one.
	//
	// ErrTooLarge, and any error of Validate, mean that nothing was applied.
	// After another error each txn may or may not have been applied, whole.
	Commit(ctx context.Context, txns []Txn) ([]TxnResult, error)
	// Watch sends every change of keys with the prefix from revision from (inclusive)
	// on, without a gap, until ctx ends (from 0: from now on). The channel is closed
	// after an error batch, when ctx has ended, and when the KV is closed.
	Watch(ctx context.Context, prefix string, from int64) <-chan WatchBatch
	// Close ends all watches and releases everything.
	Close() error
}
