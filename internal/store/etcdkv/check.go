package etcdkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// maxCleanCheck is the size up to which the database file is read through even
// though the last run ended well.
const maxCleanCheck = 64 << 20

// checkDatabase reads etcd's database file through before etcd does: etcd reads
// it on goroutines of its own, where a page that makes no sense ends the process
// with a stack trace.
func checkDatabase(member string, endedWell bool) error {
	path := filepath.Join(member, "member", "snap", "db")
	log, err := filepath.Glob(filepath.Join(member, "member", "wal", "*.wal"))
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(log) == 0:
		return nil // the first start
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the database %s is missing, its log is there", path)
	case err != nil:
		return err
	case endedWell && len(log) > 0 && st.Size() > maxCleanCheck:
		return nil
	}
	keys, err := readThrough(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	// A first start that was cut short leaves an empty database without a log.
	if keys > 0 && len(log) == 0 {
		return fmt.Errorf("the log of %s is missing", path)
	}
	return nil
}

// readThrough visits every page that is in use and counts the stored keys.
func readThrough(path string) (keys int, err error) {
	// A file that was cut off faults when it is read beyond its end.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				if string(name) == "key" {
					keys++
				}
				return touch(k, v)
			})
		})
	})
	return keys, err
}

// touch reads a value's last byte, which may be pages away from its first.
func touch(key, value []byte) error {
	if len(key) == 0 || (len(value) > 0 && int(value[len(value)-1]) > 0xff) {
		return errors.New("a key is empty")
	}
	return nil
}
