package image

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"

	"longshore.dev/longshore/internal/atomicfile"
)

// bootID is where the kernel tells one boot from another.
const bootID = "/proc/sys/kernel/random/boot_id"

// distrust throws away what unfinished work left before a reboot, which may have
// been a power loss: its files were not forced to disk. What has a record was.
func (s *Local) distrust() error {
	now, err := os.ReadFile(bootID)
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	then, err := os.ReadFile(s.path("boot"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open image store: %w", err)
	}
	if bytes.Equal(now, then) {
		return nil
	}
	all, err := s.leases.List(s.base)
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	for _, l := range all {
		if err := s.leases.Delete(s.base, l); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("open image store: %w", err)
		}
	}
	if _, err := s.db.GarbageCollect(s.base); err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	if err := atomicfile.Write(s.path("boot"), now); err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	return nil
}
