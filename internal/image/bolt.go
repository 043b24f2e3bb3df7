package image

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checkedBytes is the size up to which a database is checked page by page when
// it is opened: larger ones would delay the start.
const checkedBytes = 64 * mib

// openBolt opens a database and proves that it can be read: bbolt panics, later
// and elsewhere, on a page that is damaged.
func openBolt(path string) (db *bolt.DB, err error) {
	// A file that was cut short faults where it is mapped but does not exist.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, damaged(path, fmt.Errorf("%v", p))
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open image store: %s is in use by another process", path)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err != nil {
		return nil, damaged(path, err)
	}
	if err := verify(db); err != nil {
		_ = db.Close()
		return nil, damaged(path, err)
	}
	return db, nil
}

func verify(db *bolt.DB) error {
	return db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(db.Path())
		if err != nil {
			return err
		}
		if tx.Size() > info.Size() {
			return fmt.Errorf("%d of %d bytes are missing", tx.Size()-info.Size(), tx.Size())
		}
		if tx.Size() > checkedBytes {
			return nil
		}
		var first error
		for err := range tx.Check() { // must be drained
			if first == nil {
				first = err
			}
		}
		return first
	})
}

// checkBolt verifies a database that a library opens by itself.
func checkBolt(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := openBolt(path)
	if err != nil {
		return err
	}
	return db.Close()
}

func damaged(path string, err error) error {
	return fmt.Errorf("open image store: %s is damaged (%w); stop all tasks of this node and remove the image directory: images are fetched again", path, err)
}

// libraryLog hands what containerd's libraries warn about to our log.
func libraryLog(to *slog.Logger) *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(slogHook{to})
	return logrus.NewEntry(l)
}

type slogHook struct{ to *slog.Logger }

func (slogHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel}
}

func (h slogHook) Fire(e *logrus.Entry) error {
	attrs := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, k, fmt.Sprint(v))
	}
	h.to.Warn("image library: "+e.Message, attrs...)
	return nil
}
