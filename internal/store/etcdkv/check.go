package etcdkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// maxCleanCheck is the size up to which the database file is read through even
// though the last run ended well.
const maxCleanCheck = 64 << 20

// checkMember looks at etcd's files before etcd does. It finds what etcd handles
// badly: a database page that makes no sense ends the process with a stack trace
// of some goroutine; a log that ends before what the database already has is
// taken for a torn write, and etcd waits for ever, as it does after a first
// start that was cut short, which is begun again here. The check may end its
// goroutine by way of the logger.
func checkMember(logger *zap.Logger, member string, endedWell bool) error {
	path, logDir := filepath.Join(member, "member", "snap", "db"), filepath.Join(member, "member", "wal")
	segments, err := filepath.Glob(filepath.Join(logDir, "*.wal"))
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(segments) == 0:
		return nil // the first start
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the database %s is missing, its log is there", path)
	case err != nil:
		return err
	}
	var log logEnd
	if len(segments) > 0 {
		if log, err = readLog(logger, logDir); err != nil {
			return fmt.Errorf("read the log %s: %w", logDir, err)
		}
	}
	db, err := readDatabase(path, !endedWell || log.committed == 0 || st.Size() <= maxCleanCheck)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	switch {
	case log.committed == 0 && db.keys == 0:
		// Nothing was ever acknowledged.
		return os.RemoveAll(member)
	case log.last < db.applied || len(segments) == 0:
		return fmt.Errorf("the log %s ends at entry %d, the database has entry %d", logDir, log.last, db.applied)
	}
	return nil
}

// logEnd is what the check wants to know of the log.
type logEnd struct {
	last      uint64 // index of the last whole entry
	committed uint64 // 0: not even the first entry, which makes the member a member
}

func readLog(logger *zap.Logger, dir string) (logEnd, error) {
	snapshots, err := wal.ValidSnapshotEntries(logger, dir)
	if err != nil {
		return logEnd{}, err
	}
	from := &walpb.Snapshot{}
	if len(snapshots) > 0 {
		from = snapshots[len(snapshots)-1]
	}
	w, err := wal.OpenForRead(logger, dir, from)
	if err != nil {
		return logEnd{}, err
	}
	defer w.Close()
	_, state, entries, err := w.ReadAll()
	if err != nil {
		return logEnd{}, err
	}
	end := logEnd{last: from.GetIndex(), committed: max(from.GetIndex(), state.GetCommit())}
	if len(entries) > 0 {
		end.last = entries[len(entries)-1].GetIndex()
	}
	return end, nil
}

// database is what the check wants to know of the database file.
type database struct {
	applied uint64 // index of the last log entry that is in it
	keys    int    // stored versions of keys, when read through
}

// readDatabase reads the file's structure and, with all, every page in use.
func readDatabase(path string, all bool) (found database, err error) {
	// A file that was cut off faults when it is read beyond its end.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return found, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if meta := tx.Bucket([]byte("meta")); meta != nil {
			if index := meta.Get([]byte("consistent_index")); len(index) == 8 {
				found.applied = binary.BigEndian.Uint64(index)
			}
		}
		if !all {
			return nil
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				if string(name) == "key" {
					found.keys++
				}
				return touch(k, v)
			})
		})
	})
	return found, err
}

// touch reads a value's last byte, which may be pages away from its first.
func touch(key, value []byte) error {
	if len(key) == 0 || (len(value) > 0 && int(value[len(value)-1]) > 0xff) {
		return errors.New("a key is empty")
	}
	return nil
}
