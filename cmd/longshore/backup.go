package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"longshore.dev/longshore/internal/backup"
	"longshore.dev/longshore/internal/control"
)

type backupCommand struct {
	ownerFlags
	File string `arg:"" help:"The backup's file, which must not exist." type:"path"`
}

// Run writes the backup, and reads it to its end before it has its name.
func (b *backupCommand) Run(ctx context.Context, c *console) error {
	if _, err := os.Lstat(b.File); err == nil {
		return fmt.Errorf("%s exists: name another file, or remove it", b.File)
	}
	key := b.rootKey()
	a, err := control.ReadAccess(b.Data, key)
	if err != nil {
		return err
	}
	client, err := control.NewClient(a)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(b.File), filepath.Base(b.File)+".partial-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	defer os.Remove(f.Name())
	m, err := b.fetch(ctx, client, key, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), b.File); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	size := int64(0)
	if info, err := os.Stat(b.File); err == nil {
		size = info.Size()
	}
	c.say("%s  %d records and the logs, as of %s, %d bytes. It was read back whole.", b.File, m.Entries, m.CreatedAt.Format("2006-01-02 15:04:05 MST"), size)
	c.say("Only the root key opens it, which is not in it: keep a copy of that elsewhere.")
	return nil
}

func (b *backupCommand) fetch(ctx context.Context, client *control.Client, key control.RootKey, f *os.File) (m backup.Manifest, err error) {
	if err := client.Backup(ctx, f); err != nil {
		return m, err
	}
	if err := f.Sync(); err != nil {
		return m, fmt.Errorf("write the backup: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return m, fmt.Errorf("read the backup back: %w", err)
	}
	return control.Verify(f, b.Data, key)
}

type restoreCommand struct {
	baseFlags
	serverFlags
	File string `arg:"" help:"The backup." type:"existingfile"`
}

// Run restores the backup into the data directory.
func (r *restoreCommand) Run(ctx context.Context, c *console) error {
	f, err := os.Open(r.File)
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	defer f.Close()
	m, err := control.Restore(ctx, f, r.config(&r.baseFlags, c.logger(r.LogLevel)))
	if err != nil {
		return err
	}
	c.say("%s holds the server as of %s: %d records and the logs.", r.Data, m.CreatedAt.Format("2006-01-02 15:04:05 MST"), m.Entries)
	c.say("Start it with the flags that it had: longshore server --data %s", quote(r.Data))
	return nil
}
