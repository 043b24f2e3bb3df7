package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"

	"longshore.dev/longshore/internal/removetree"
)

// rootfs is the directory of the writable root file systems. It is kept apart
// from the snapshotter because it needs no durability: a container's files die
// with it, and a few directories cost a fraction of two fsynced transactions.
//
//	<dir>/<key>/chain   symbolic link whose text is the chain id of the layers below
//	<dir>/<key>/fs      upper directory
//	<dir>/<key>/work    overlayfs's work directory
//	<dir>/.old-*        being removed
type rootfs struct {
	dir string

	mu sync.Mutex
	// keys maps each existing key to its chain id.
	keys map[string]string
	// seq makes the names of .old-* unique.
	seq int
}

var keyPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

const (
	oldPrefix = ".old-"
	// noChain stands for the chain id of an image without layers.
	noChain = "scratch"
)

// openRootFS reads what exists. What was half made or half removed when the
// process died is left for sweep.
func openRootFS(dir string) (*rootfs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	r := &rootfs{dir: dir, keys: map[string]string{}}
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), oldPrefix); ok {
			if seq, err := strconv.Atoi(n); err == nil && seq > r.seq {
				r.seq = seq
			}
			continue
		}
		chain, err := os.Readlink(filepath.Join(dir, e.Name(), "chain"))
		if err != nil {
			// Torn by a power loss: nothing can run on it.
			if err := r.discard(e.Name()); err != nil {
				return nil, err
			}
			continue
		}
		r.keys[e.Name()] = chain
	}
	return r, nil
}

// make creates the directories of key over chain. The link comes last: what has
// none is not whole. The caller holds mu and knows that key does not exist.
func (r *rootfs) make(key, chain string) error {
	dir := filepath.Join(r.dir, key)
	upper := filepath.Join(dir, "fs")
	err := os.Mkdir(dir, 0o700)
	for _, step := range []func() error{
		func() error { return os.Mkdir(upper, 0o755) },
		func() error { return traversable(upper) },
		func() error { return os.Mkdir(filepath.Join(dir, "work"), 0o700) },
		func() error { return os.Symlink(chain, filepath.Join(dir, "chain")) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	r.keys[key] = chain
	return nil
}

// traversable lets all users of a container pass its root, whatever our umask.
func traversable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() == 0o755 {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// discard takes key out of sight; sweep removes it. The caller holds mu or is alone.
func (r *rootfs) discard(key string) error {
	r.seq++
	err := os.Rename(filepath.Join(r.dir, key), filepath.Join(r.dir, oldPrefix+strconv.Itoa(r.seq)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	delete(r.keys, key)
	return nil
}

// sweep removes what was discarded.
func (r *rootfs) sweep() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	var first error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), oldPrefix) {
			if err := removetree.All(filepath.Join(r.dir, e.Name())); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}

// list returns the keys in order.
func (r *rootfs) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]string, 0, len(r.keys))
	for k := range r.keys {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
