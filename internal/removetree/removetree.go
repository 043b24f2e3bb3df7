package removetree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth bounds the descriptors: what is deeper is moved up first.
	maxDepth = 32
	// The flags of a file that keep it from being removed or written: chattr +i and +a.
	immutable, appendOnly = 0x10, 0x20
	// movedPrefix begins the names of directories that were moved up.
	movedPrefix = ".removed-"
	// maxAgain bounds how often a directory that has been filled again is emptied.
	maxAgain = 100
	// readNames is how many names are read at a time.
	readNames = 256
)

// All removes path and, when it is a directory, all that is below it. What does not
// exist, or is removed by another at the same time, is no error. It goes on after an
// error, and returns the first.
func All(path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer parent.Close()
	r := &remover{}
	if err := r.entry(parent, filepath.Base(path), 0); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// remover is one removal.
type remover struct {
	top   *os.File // the uppermost directory
	moved int
}

// entry removes one name of a directory. Who removes the same tree may move another
// directory to that name meanwhile: then it is done again.
func (r *remover) entry(parent *os.File, name string, depth int) error {
	for range maxAgain {
		if err := r.entryOnce(parent, name, depth); !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	// Not ENOTEMPTY, which the directory above would take for its own.
	return fmt.Errorf("directory %s is filled again and again", name)
}

func (r *remover) entryOnce(parent *os.File, name string, depth int) error {
	err := unlink(parent, name, 0)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	dir, opened := openDir(parent, name)
	switch {
	case errors.Is(opened, unix.ENOENT):
		return nil
	case errors.Is(opened, unix.ENOTDIR), errors.Is(opened, unix.ELOOP):
		return err // a file that resists
	case opened != nil:
		return &os.PathError{Op: "open", Path: name, Err: opened}
	}
	defer dir.Close()
	if depth == 0 {
		r.top = dir
	}
	unprotect(dir)
	if depth >= maxDepth {
		return r.moveUp(parent, name)
	}
	if err := r.content(dir, depth); err != nil {
		return err
	}
	return unlink(parent, name, unix.AT_REMOVEDIR)
}

// content removes what is in a directory, also what is moved up into it meanwhile.
func (r *remover) content(dir *os.File, depth int) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		removed := false
		var first error
		for {
			names, err := dir.Readdirnames(readNames)
			for _, name := range names {
				if err := r.entry(dir, name, depth+1); err == nil {
					removed = true
				} else if first == nil {
					first = err
				}
			}
			if errors.Is(err, unix.ENOENT) {
				return nil // somebody else removes it as well
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if len(names) == 0 {
				break
			}
		}
		if first != nil || !removed {
			return first
		}
	}
}

// moveUp gives a directory that is too deep a place in the uppermost one.
func (r *remover) moveUp(parent *os.File, name string) error {
	for {
		r.moved++
		to := fmt.Sprint(movedPrefix, r.moved)
		err := unix.Renameat2(int(parent.Fd()), name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.LinkError{Op: "rename", Old: name, New: to, Err: err}
		}
		return nil
	}
}

// unlink removes a name, and takes away what protects it.
func unlink(parent *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(parent.Fd()), name, flags)
	if errors.Is(err, unix.EPERM) && flags == 0 {
		// A directory, on some file systems, or a file that is immutable.
		if fd, opened := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); opened == nil {
			f := os.NewFile(uintptr(fd), name)
			unprotect(f)
			_ = f.Close()
		}
		err = unix.Unlinkat(int(parent.Fd()), name, flags)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &os.PathError{Op: "unlink", Path: name, Err: err}
}

func openDir(parent *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// unprotect takes away the flags of a file or directory that keep it as it is. Only
// those two kinds can have them; where there are none, nothing happens.
func unprotect(f *os.File) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(immutable|appendOnly) == 0 {
		return
	}
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^(immutable|appendOnly))
}
