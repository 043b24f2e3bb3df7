package removetree_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/removetree"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s: %v", path, err)
	}
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestAll(t *testing.T) {
	base := t.TempDir()
	tree := filepath.Join(base, "tree")
	outside := filepath.Join(base, "outside")
	must(t, os.MkdirAll(filepath.Join(outside, "kept"), 0o755))
	for i := range 40 {
		dir := filepath.Join(tree, fmt.Sprint("d", i), "a", "b")
		must(t, os.MkdirAll(dir, 0o700))
		for j := range 20 {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(j)), nil, 0))
		}
		must(t, os.Symlink(outside, filepath.Join(dir, "link")))
		must(t, os.Symlink(".", filepath.Join(dir, ".removed-1")))
		must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	}
	before := openFiles(t)
	must(t, removetree.All(tree))
	gone(t, tree)
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	must(t, removetree.All(tree))
	must(t, removetree.All(filepath.Join(tree, "not", "there")))
	link := filepath.Join(base, "link")
	must(t, os.Symlink(outside, link))
	must(t, removetree.All(link))
	gone(t, link)
	must(t, removetree.All(outside))
}

// TestDeeperThanDescriptors: os.RemoveAll fails on this, and takes every descriptor
// that the process may have until then.
func TestDeeperThanDescriptors(t *testing.T) {
	const depth = 1000
	base := t.TempDir()
	tree := filepath.Join(base, "tree")
	must(t, os.Mkdir(tree, 0o755))
	dir, err := unix.Open(tree, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(dir, "d", 0o755))
		must(t, unix.Mkdirat(dir, ".removed-1", 0o755))
		next, err := unix.Openat(dir, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(dir))
		dir = next
	}
	must(t, unix.Close(dir))
	var former unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &former))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: former.Max}))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &former)) }()
	must(t, removetree.All(tree))
	gone(t, tree)
}

// TestSeveralAtOnce: a tree that several remove at the same time.
func TestSeveralAtOnce(t *testing.T) {
	for range 4 {
		tree := filepath.Join(t.TempDir(), "tree")
		for i := range 8 {
			must(t, os.MkdirAll(filepath.Join(tree, fmt.Sprint(i), strings.Repeat("d/", 40)), 0o755))
		}
		var removing sync.WaitGroup
		for range 4 {
			removing.Go(func() {
				if err := removetree.All(tree); err != nil {
					t.Error(err)
				}
			})
		}
		removing.Wait()
		gone(t, tree)
	}
}

// TestImmutable: files and directories that nobody may change, root included.
func TestImmutable(t *testing.T) {
	tree := filepath.Join(t.TempDir(), "tree")
	dir := filepath.Join(tree, "dir")
	must(t, os.MkdirAll(filepath.Join(dir, "inner"), 0o755))
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for _, name := range []string{file, filepath.Join(dir, "inner"), dir} {
		f, err := os.Open(name)
		must(t, err)
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10)
		_ = f.Close()
		if err != nil {
			t.Skipf("needs root and a file system with immutable files: %v", err)
		}
	}
	if err := os.RemoveAll(tree); err == nil {
		t.Error("the files are not immutable: the test shows nothing")
	}
	must(t, removetree.All(tree))
	gone(t, tree)
}

// TestOtherFileSystem: a mount below is not removed, and is reported.
func TestOtherFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	tree := t.TempDir()
	mounted := filepath.Join(tree, "a", "mounted")
	must(t, os.MkdirAll(mounted, 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "file"), nil, 0o600))
	must(t, unix.Mount("tmpfs", mounted, "tmpfs", 0, ""))
	err := removetree.All(tree)
	must(t, unix.Unmount(mounted, unix.MNT_DETACH))
	if err == nil {
		t.Error("what is mounted was removed")
	}
	gone(t, filepath.Join(tree, "file"))
	must(t, removetree.All(filepath.Join(tree, "a")))
}
