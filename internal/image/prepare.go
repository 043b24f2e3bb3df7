package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// pinPrefix starts the names of the read-only snapshots that keep an image's
// layers from being collected while root file systems lie over them, and that
// know the paths of those layers. There is at most one for each chain id.
const pinPrefix = "pin-"

// maxMountOptions is what mount(2) takes: a page, with its terminating zero.
const maxMountOptions = 4095

// Prepare implements Store.
func (s *Local) Prepare(ctx context.Context, ref, key string) (Mount, error) {
	ctx, done := s.context(ctx)
	defer done()
	if !keyPattern.MatchString(key) {
		return Mount{}, fmt.Errorf("prepare root file system: %q is not a valid name", key)
	}
	r := s.rootfs
	r.mu.Lock()
	chain, exists := r.keys[key]
	r.mu.Unlock()
	if !exists {
		m, err := s.present(ctx, ref)
		if err != nil {
			return Mount{}, err
		}
		chain = m.chainOrNone()
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if was, ok := r.keys[key]; ok {
		chain = was // made meanwhile
	}
	lower, err := s.pin(ctx, chain)
	if errdefs.IsNotFound(err) {
		return Mount{}, fail(ErrNotFound, "%s: its unpacked layers are gone; pull it again", ref)
	}
	if err != nil {
		return Mount{}, fmt.Errorf("prepare root file system of %s: %w", ref, err)
	}
	m, err := s.rootMount(key, lower)
	if err != nil {
		return Mount{}, fmt.Errorf("prepare root file system of %s: %w", ref, err)
	}
	if _, ok := r.keys[key]; !ok {
		if err := r.make(key, chain); err != nil {
			return Mount{}, fmt.Errorf("prepare root file system of %s: %w", ref, err)
		}
	}
	return m, nil
}

// pin makes sure that chain's pin exists and returns its layers' directories,
// topmost first. The caller holds rootfs.mu, so that no collection drops the pin
// before the root file system that needs it exists.
func (s *Local) pin(ctx context.Context, chain string) ([]string, error) {
	if chain == noChain {
		return nil, nil
	}
	if lower, ok := s.pins[chain]; ok {
		return lower, nil
	}
	mounts, err := s.layers.Mounts(ctx, pinPrefix+chain)
	if errdefs.IsNotFound(err) {
		root := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "pin"})
		mounts, err = s.layers.View(ctx, pinPrefix+chain, chain, root)
	}
	if err != nil {
		return nil, err
	}
	lower, err := lowerDirs(mounts)
	if err != nil {
		return nil, err
	}
	s.pins[chain] = lower
	return lower, nil
}

// lowerDirs finds the layers' directories in the mount of a read-only snapshot.
func lowerDirs(mounts []mount.Mount) ([]string, error) {
	if len(mounts) == 1 {
		m := mounts[0]
		if m.Type == "bind" {
			return []string{m.Source}, nil
		}
		for _, o := range m.Options {
			if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
				return strings.Split(dirs, ":"), nil
			}
		}
	}
	return nil, fmt.Errorf("the snapshotter returned a mount of an unknown kind: %v", mounts)
}

func (s *Local) rootMount(key string, lower []string) (Mount, error) {
	upper, work := filepath.Join(s.rootfs.dir, key, "fs"), filepath.Join(s.rootfs.dir, key, "work")
	if len(lower) == 0 {
		return Mount{Type: "bind", Source: upper, Options: []string{"rbind", "rw"}}, nil
	}
	options := func(lower []string) []string {
		return append(slices.Clone(s.mountOptions),
			"lowerdir="+strings.Join(lower, ":"), "upperdir="+upper, "workdir="+work)
	}
	o := options(lower)
	if len(strings.Join(o, ",")) > maxMountOptions {
		short, err := s.shorten(lower)
		if err != nil {
			return Mount{}, err
		}
		if o = options(short); len(strings.Join(o, ",")) > maxMountOptions {
			return Mount{}, fmt.Errorf("its %d layers do not fit the %d bytes that a mount's options may have; choose a data directory with a shorter path than %s",
				len(lower), maxMountOptions, s.opts.Root)
		}
	}
	return Mount{Type: "overlay", Source: "overlay", Options: o}, nil
}

// shorten makes symbolic links with shorter names to layers' directories
// (<root>/layers/snapshots/12/fs becomes <root>/l/12).
func (s *Local) shorten(lower []string) ([]string, error) {
	if err := os.MkdirAll(s.path("l"), 0o700); err != nil {
		return nil, err
	}
	short := make([]string, len(lower))
	for i, dir := range lower {
		short[i] = s.path("l", filepath.Base(filepath.Dir(dir)))
		// Snapshot numbers are never used again, so an existing link is right.
		if err := os.Symlink(dir, short[i]); err != nil && !os.IsExist(err) {
			return nil, err
		}
	}
	return short, nil
}

// Release implements Store.
func (s *Local) Release(_ context.Context, key string) error {
	if !keyPattern.MatchString(key) {
		return fmt.Errorf("release root file system: %q is not a valid name", key)
	}
	r := s.rootfs
	r.mu.Lock()
	chain, exists := r.keys[key]
	var err error
	if exists {
		err = r.discard(key)
	}
	r.mu.Unlock()
	if exists && err == nil {
		s.uses.letGo(chain, s.opts.Now())
	}
	if err != nil {
		return fmt.Errorf("release root file system %s: %w", key, err)
	}
	if exists {
		s.kick()
	}
	return nil
}

// Snapshots implements Store.
func (s *Local) Snapshots(context.Context) ([]string, error) {
	return s.rootfs.list(), nil
}
