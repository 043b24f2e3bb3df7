package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// probes are the directories that containerd's library makes, and mounts overlays
// in, to find out what the kernel can do.
var probes = []string{"multiple-lowerdir-check*", "userxattr-check*"}

// clearProbes removes what a process that was killed while it probed has left in
// the layers' directory. The store mounts nothing there itself, so that every
// mount below it is a probe's.
func clearProbes(layers string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(layers))
	if err != nil {
		return fmt.Errorf("open image store: read the mounts: %w", err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("open image store: unmount what an earlier process left at %s: %w", m.Mountpoint, err)
		}
	}
	for _, pattern := range probes {
		left, err := filepath.Glob(filepath.Join(layers, pattern))
		if err != nil {
			return fmt.Errorf("open image store: %w", err)
		}
		for _, dir := range left {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("open image store: remove what an earlier process left: %w", err)
			}
		}
	}
	return nil
}
