package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenClearsAKilledProcessProbes: a process that was killed while containerd's
// library tried an overlay out leaves its mount.
func TestOpenClearsAKilledProcessProbes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	probe := filepath.Join(dir, "layers", "multiple-lowerdir-check123")
	merged := filepath.Join(probe, "merged")
	if err := os.MkdirAll(merged, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", merged, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	store := open(t, dir)
	defer store.Close()
	if _, err := os.Stat(probe); !os.IsNotExist(err) {
		t.Fatalf("the probe's directory is still there: %v", err)
	}
}
