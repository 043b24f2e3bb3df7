package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"longshore.dev/longshore/internal/backup"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

const (
	backupPath = "/_longshore/backup"
	// backupTime bounds a backup's way to who asked for it.
	backupTime = 12 * time.Hour
)

// copyPath is where the bulk data's files are held while a backup is sent.
func copyPath(dataDir string) string { return filepath.Join(dataDir, "backup") }

// serveBackup sends a backup: one cut of the store and the bulk data, sealed by the root
// key in use. The server goes on meanwhile; only while the cut is made, writes wait.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	call := s.callOf(r, "CreateBackup")
	sent := false
	err := s.identify(r, nil, call)
	if err == nil {
		sent, err = s.sendBackup(r.Context(), w)
	}
	if call.Principal.Kind == "" {
		s.auditor.RecordFailure(r.Context(), call, err)
	} else {
		s.auditor.Record(r.Context(), call, []string{"longshore:backup"}, err)
	}
	if err == nil {
		return
	}
	if sent {
		s.log.Error("a backup was cut off", "error", err)
		panic(http.ErrAbortHandler) // so that the other end sees it
	}
	s.answerAdmin(w, call.Operation, adminAnswer{}, err)
}

func (s *Server) sendBackup(ctx context.Context, w http.ResponseWriter) (sent bool, err error) {
	if !s.backingUp.TryLock() {
		return false, wire.Errorf("ConflictException", "Another backup is being made: wait for its end.")
	}
	defer s.backingUp.Unlock()
	dir := copyPath(s.config.DataDir)
	if err := os.RemoveAll(dir); err != nil {
		return false, fmt.Errorf("remove what an earlier backup left: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	entries, revision, err := s.db.Cut(ctx, func() error { return s.bulk.Checkpoint(dir) })
	if err != nil {
		return false, err
	}
	deadline := s.now().Add(backupTime)
	if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil {
		return false, fmt.Errorf("give the backup time: %w", err)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	return true, backup.Write(w, s.ring, backup.Manifest{
		CreatedAt: s.now().UTC(), Account: s.config.Account, Region: s.config.Region, Revision: revision,
	}, entries, dir)
}

// ErrNoBackup is a file that is no whole backup, or one of another root key.
var ErrNoBackup = errors.New("this is no backup that can be restored")

// Verify reads a backup to its end.
func Verify(r io.Reader, dataDir string, key RootKey) (backup.Manifest, error) {
	ring, err := key.ring(dataDir)
	if err != nil {
		return backup.Manifest{}, err
	}
	m, err := backup.Read(r, ring, backup.Parts{})
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	return m, nil
}

// restoringPath marks a data directory in which a restore has not come to its end.
func restoringPath(dataDir string) string { return filepath.Join(dataDir, "restoring") }

// checkRestored refuses a data directory with half a restore in it.
func checkRestored(dataDir string) error {
	if _, err := os.Lstat(restoringPath(dataDir)); !missing(err) {
		return fmt.Errorf("a restore into %s did not come to its end: repeat `longshore restore`, or remove %s, bulk and etcd there to begin with nothing", dataDir, restoringPath(dataDir))
	}
	return nil
}

// Restore makes a data directory that of a server from a backup. The directory may hold
// the root key and a node's part, but no server. Nothing of the backup counts before
// all of it was read: one that is cut off at any point is repeated, or removed.
func Restore(ctx context.Context, r io.Reader, c Config) (m backup.Manifest, err error) {
	if err := c.check(); err != nil {
		return m, err
	}
	if err := prepareDir(c.DataDir, c.Log); err != nil {
		return m, err
	}
	ring, err := c.RootKey.ring(c.DataDir)
	if err != nil {
		return m, fmt.Errorf("%w: put the root key that the backup was made with at %s", err, c.RootKey.where(c.DataDir))
	}
	mark, bulk, etcd := restoringPath(c.DataDir), filepath.Join(c.DataDir, "bulk"), filepath.Join(c.DataDir, "etcd")
	if _, err := os.Lstat(mark); !missing(err) {
		if err := errors.Join(os.RemoveAll(bulk), os.RemoveAll(etcd)); err != nil {
			return m, fmt.Errorf("remove what an earlier restore left: %w", err)
		}
	}
	for _, dir := range []string{bulk, etcd} {
		if _, err := os.Lstat(dir); !missing(err) {
			return m, fmt.Errorf("%s is there: this directory has a server's state, which a restore does not replace. Move it away first", dir)
		}
	}
	if err := makeMark(mark); err != nil {
		return m, err
	}
	if m, err = restoreInto(ctx, r, &c, ring, bulk); err != nil {
		return m, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	if err := errors.Join(syncTree(c.DataDir, bulk), os.Remove(mark)); err != nil {
		return m, fmt.Errorf("finish the restore: %w", err)
	}
	return m, nil
}

func makeMark(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark the restore: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close(), syncTree(filepath.Dir(path))); err != nil {
		return fmt.Errorf("mark the restore: %w", err)
	}
	return nil
}

// syncTree puts the names in directories on disk.
func syncTree(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.Sync(), d.Close())
	}
	return errors.Join(errs...)
}

func restoreInto(ctx context.Context, r io.Reader, c *Config, opening interface {
	Open(context string, sealed []byte) ([]byte, error)
}, bulk string) (m backup.Manifest, err error) {
	kv, err := openKV(ctx, c)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	if entries, _, err := kv.Range(ctx, ""); err != nil || len(entries) > 0 {
		return m, errors.Join(err, fmt.Errorf("the store has %d entries already: a restore needs an empty one", len(entries)))
	}
	if err := os.Mkdir(bulk, 0o700); err != nil {
		return m, err
	}
	return backup.Read(r, opening, backup.Parts{
		Manifest: func(m backup.Manifest) error {
			if m.Account != c.Account || m.Region != c.Region {
				return fmt.Errorf("the backup is of account %s in %s, and the restore for account %s in %s: give --account and --region", m.Account, m.Region, c.Account, c.Region)
			}
			return nil
		},
		Entries: func(batch []store.Entry) error {
			txn := store.Txn{}
			for _, e := range batch {
				txn.Ops = append(txn.Ops, store.Op{Key: e.Key, Value: e.Value})
			}
			_, err := kv.Commit(ctx, []store.Txn{txn})
			return err
		},
		File: func(name string, content io.Reader) error { return restoreFile(bulk, name, content) },
	})
}

func restoreFile(dir, name string, content io.Reader) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}
