package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	bucketTasks = []byte("tasks")
	bucketNode  = []byte("node")
	keyIdentity = []byte("identity")
)

// identity is what the node keeps of its registration.
type identity struct {
	Cluster              string `json:"cluster"`
	ContainerInstanceARN string `json:"containerInstanceArn"`
	// Timeline is the greatest manifest timeline seen.
	Timeline int64 `json:"timeline"`
}

// db keeps the node's records on disk. Writers that come together share one
// fsync.
type db struct {
	bolt      *bbolt.DB
	committer *committer
}

// openDB opens dir/agent.db. Another agent that holds it is an error.
func openDB(dir string) (*db, error) {
	path := filepath.Join(dir, "agent.db")
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("%s is in use: another agent runs with this data directory; stop it, or choose another --data", path)
		}
		return nil, fmt.Errorf("open the agent's records %s: %w", path, err)
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
	return &db{b, newCommitter(b)}, nil
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
	return d.committer.commit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketTasks).Put([]byte(r.ID), raw) })
}

func (d *db) deleteTask(id string) error {
	return d.committer.commit(func(tx *bbolt.Tx) error { return tx.Bucket(bucketTasks).Delete([]byte(id)) })
}

// tasks returns every record.
func (d *db) tasks() ([]*record, error) {
	var all []*record
	err := d.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketTasks).ForEach(func(k, v []byte) error {
			r := new(record)
			if err := json.Unmarshal(v, r); err != nil {
				return fmt.Errorf("record of task %s: %w", k, err)
			}
			all = append(all, r)
			return nil
		})
	})
	return all, err
}

// identity returns the registration; zero before the first.
func (d *db) identity() (identity, error) {
	var id identity
	err := d.bolt.View(func(tx *bbolt.Tx) error {
		if raw := tx.Bucket(bucketNode).Get(keyIdentity); raw != nil {
			return json.Unmarshal(raw, &id)
		}
		return nil
	})
	return id, err
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
