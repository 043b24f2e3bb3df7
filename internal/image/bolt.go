package image

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

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
