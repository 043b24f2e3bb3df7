package image

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"

	"longshore.dev/longshore/internal/boltfile"
)

// openBolt opens a database and proves that it can be read.
func openBolt(path string) (*bolt.DB, error) {
	db, err := boltfile.Open(path, &bolt.Options{Timeout: time.Second})
	return db, boltError(err)
}

// checkBolt verifies a database that a library opens by itself.
func checkBolt(path string) error {
	return boltError(boltfile.Check(path))
}

func boltError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, boltfile.ErrDamaged) {
		return damaged(err)
	}
	return fmt.Errorf("open image store: %w", err)
}

func damaged(err error) error {
	return fmt.Errorf("open image store: %w; stop all tasks of this node and remove the image directory: images are fetched again", err)
}

// removeHalfMade removes the directories of layers that are not on record: a process
// that was killed while it unpacked one may have left it under the very name that
// the next layer takes.
func (s *Local) removeHalfMade(layers snapshots.Snapshotter) error {
	cleaner, ok := layers.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err := cleaner.Cleanup(s.base)
	if !errdefs.IsNotFound(err) {
		return err
	}
	// No layer was ever put on record.
	dir := s.path("layers", "snapshots")
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
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
