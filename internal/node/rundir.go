package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// runDirSize bounds the memory of a run directory's tmpfs.
const runDirSize = "size=256m,mode=0700"

// prepareRunDir makes the run directory and sees to it that it is in memory:
// resolved task specs, which may hold secrets, are kept there and nowhere else.
func prepareRunDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("run directory %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, runDirSize); err != nil {
		return fmt.Errorf("%s is not in memory and no tmpfs can be mounted there (containers need root): %w", dir, err)
	}
	return nil
}

// removeRunDir unmounts and removes the run directory of a node without tasks.
func removeRunDir(dir string) error {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the run directory %s: %w", dir, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the run directory: %w", err)
	}
	return nil
}
