package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"longshore.dev/longshore/internal/boltfile"
)

var (
	bucketTasks = []byte("tasks")
	bucketNode  = []byte("node")
	keyIdentity = []byte("identity")
	keySequence = []byte("sequence")
)

// identity is what the node keeps of its registration.
type identity struct {
	Cluster              string `json:"cluster"`
	ContainerInstanceARN string `json:"containerInstanceArn"`
	// Timeline is the greatest sequence number of a payload or timeline of a
	// manifest seen: the two share one counter.
	Timeline int64 `json:"timeline"`
}

// db keeps the node's records on disk. Writers that come together share one
// fsync.
type db struct {
	bolt      *bbolt.DB
	committer *committer
	// sequence is the greatest sequence number of a payload; it goes to disk with
	// the payload's tasks.
	sequence atomic.Int64
}

// openDB opens dir/agent.db. Another agent that holds it is an error.
func openDB(dir string) (*db, error) {
	path := filepath.Join(dir, "agent.db")
	b, err := boltfile.Open(path, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true})
	switch {
	case errors.Is(err, boltfile.ErrInUse):
		return nil, fmt.Errorf("%w: another agent runs with this data directory; stop it, or choose another --data", err)
	case errors.Is(err, boltfile.ErrDamaged):
		return nil, fmt.Errorf("the agent's records: %w; to go on without them move the file away and start again: "+
			"the node then ends the tasks that it runs, reports them as lost, and takes new ones", err)
	case err != nil:
		return nil, fmt.Errorf("open the agent's records: %w", err)
	}
	if prepared(b) { // no write: the disk may be full
		return &db{bolt: b, committer: newCommitter(b)}, nil
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketTasks, bucketNode} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the agent's records %s: %w", path, err), b.Close())
	}
	return &db{bolt: b, committer: newCommitter(b)}, nil
}

func prepared(b *bbolt.DB) bool {
	missing := errors.New("missing")
	return b.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketTasks) == nil || tx.Bucket(bucketNode) == nil {
			return missing
		}
		return nil
	}) == nil
}

func (d *db) close() error {
	d.committer.close()
	return d.bolt.Close()
}

func (d *db) putTask(r *record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode task %s: %w", r.ID, err)
	}
	return d.committer.commit(func(tx *bbolt.Tx) error {
		if n := d.sequence.Load(); n > 0 {
			if err := tx.Bucket(bucketNode).Put(keySequence, binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketTasks).Put([]byte(r.ID), raw)
	})
}

func (d *db) deleteTasks(ids []string) error {
	return d.committer.commit(func(tx *bbolt.Tx) error {
		for _, id := range ids {
			if err := tx.Bucket(bucketTasks).Delete([]byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// tasks returns every record, and the ids of those that cannot be read.
func (d *db) tasks() (all []*record, damaged []string, err error) {
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketTasks).ForEach(func(k, v []byte) error {
			r := new(record)
			if err := json.Unmarshal(v, r); err != nil || r.ID != string(k) || !validTaskID(r.ID) ||
				r.FinishedAt.IsZero() && len(r.Containers) != len(r.Task.Containers) {
				damaged = append(damaged, string(k))
			} else {
				all = append(all, r)
			}
			return nil
		})
	})
	return all, damaged, err
}

// identity returns the registration; zero before the first.
func (d *db) identity() (identity, error) {
	var id identity
	err := d.bolt.View(func(tx *bbolt.Tx) error {
		if raw := tx.Bucket(bucketNode).Get(keyIdentity); raw != nil {
			if err := json.Unmarshal(raw, &id); err != nil {
				return err
			}
		}
		if raw := tx.Bucket(bucketNode).Get(keySequence); len(raw) == 8 {
			id.Timeline = max(id.Timeline, int64(binary.BigEndian.Uint64(raw)))
		}
		return nil
	})
	if err != nil {
		return identity{}, fmt.Errorf("read the node's registration in %s: %w: move the file away and start again; "+
			"the node then ends its tasks and registers as a new container instance", d.bolt.Path(), err)
	}
	return id, nil
}

func (d *db) putIdentity(id identity) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return d.committer.commit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketNode).Put(keyIdentity, raw) })
}

// ensureDir makes a directory that only the node's user may enter.
func ensureDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}
