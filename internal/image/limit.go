package image

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits bound what an image may cost this node, whoever made it. Zero fields
// take the defaults.
type Limits struct {
	// ManifestBytes bounds a manifest or an index, ConfigBytes a configuration.
	ManifestBytes, ConfigBytes int64
	// Layers bounds the layers of an image; overlayfs and mount(2) have limits too.
	Layers int
	// IndexEntries bounds the manifests that an index lists.
	IndexEntries int
	// LayerBytes bounds one layer as the registry stores it.
	LayerBytes int64
	// UnpackedBytes and Files bound what one layer unpacks to.
	UnpackedBytes int64
	Files         int
	// KeepFree is how much of the disk, in percent, images leave to others (5): a layer
	// that would take it is refused, however it is compressed. Negative: nothing.
	KeepFree int
	// ArchiveBytes and ArchiveFiles bound an archive given to Import.
	ArchiveBytes int64
	ArchiveFiles int
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	defInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.ManifestBytes, 4*mib)
	def(&l.ConfigBytes, 8*mib)
	def(&l.LayerBytes, 64*gib)
	def(&l.UnpackedBytes, 128*gib)
	def(&l.ArchiveBytes, 256*gib)
	if l.KeepFree == 0 {
		l.KeepFree = 5
	}
	defInt(&l.Layers, 128)
	defInt(&l.IndexEntries, 1024)
	defInt(&l.Files, 4_000_000)
	defInt(&l.ArchiveFiles, 10_000)
	return l
}

// room is what the disk has for images, and the error of what needs more.
func (s *Local) room() (int64, error) {
	if s.opts.Limits.KeepFree < 0 {
		return 1 << 62, unix.ENOSPC
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.opts.Root, &fs); err != nil {
		return 0, fmt.Errorf("look at the disk of %s: %w", s.opts.Root, err)
	}
	keep := int64(fs.Blocks) * fs.Bsize / 100 * int64(s.opts.Limits.KeepFree)
	left := max(int64(fs.Bavail)*fs.Bsize-keep, 0)
	return left, fmt.Errorf("it needs more than the %d bytes that images may still take, so that %d%% of the disk stay free: %w",
		left, s.opts.Limits.KeepFree, unix.ENOSPC)
}
