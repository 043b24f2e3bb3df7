package etcdkv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/store"
)

const (
	lockFile   = "LOCK"
	formatFile = "FORMAT"
	memberDir  = "etcd"

	formatName    = "longshore-store"
	formatVersion = 1

	// lockPatience is how long a held lock is tried.
	lockPatience = time.Second

	// etcd reserves two log segments of 64 MB at its first start.
	spaceFirstStart = 160 << 20
	spaceLaterStart = 80 << 20
	// spaceRunning is kept free while it runs: below it only reads are served. The
	// next log segment and the database's growth fit in, and a start, after a crash.
	spaceRunning = spaceLaterStart
	// inodesRunning likewise: log segments and snapshots are files.
	inodesRunning = 64
)

// dataDir is a data directory that this process has locked.
type dataDir struct {
	path string
	lock *os.File
	// endedWell: the last process that used it closed it.
	endedWell bool
}

// openDataDir creates the directory if need be, locks it and checks that this
// program can use it.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, dirError(path, err)
	}
	d := &dataDir{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) member() string { return filepath.Join(d.path, memberDir) }

// lockSoon locks f. A killed process's lock may outlive it for a moment, in a child
// that it was just starting: the child has it until it runs its own program.
func lockSoon(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

func (d *dataDir) acquire() error {
	f, err := os.OpenFile(filepath.Join(d.path, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return dirError(d.path, err)
	}
	if err := lockSoon(f); err != nil {
		holder, _ := os.ReadFile(f.Name())
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: process %s uses %s: stop it, or give another data directory",
				store.ErrLocked, orUnknown(strings.TrimSpace(string(holder))), d.path)
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	// The pid is for people, and tells the next start whether this process
	// closed the store; the lock itself ends with the process.
	before, err := f.Stat()
	if err != nil {
		f.Close()
		return dirError(d.path, err)
	}
	d.endedWell = before.Size() == 0
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := errors.Join(f.Truncate(0), writeAt(f, pid)); err != nil {
		f.Close()
		return dirError(d.path, err)
	}
	d.lock = f
	return nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func (d *dataDir) close() {
	_ = d.lock.Truncate(0)
	d.lock.Close()
}

// check compares the format, writes it on first use, and asks for the space
// that a start needs.
func (d *dataDir) check() error {
	first := false
	text, err := os.ReadFile(filepath.Join(d.path, formatFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(d.member()); err == nil {
			return fmt.Errorf("%w: %s has data but no %s file: restore the directory from a backup", store.ErrDamaged, d.path, formatFile)
		}
		first = true
	case err != nil:
		return dirError(d.path, err)
	default:
		if err := checkFormat(d.path, string(text)); err != nil {
			return err
		}
	}
	need := uint64(spaceLaterStart)
	if first {
		need = spaceFirstStart
	}
	if err := checkSpace(d.path, need); err != nil {
		return err
	}
	if first {
		return writeFormat(d.path)
	}
	return nil
}

func checkFormat(path, text string) error {
	name, version, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.Atoi(version)
	if name != formatName || err != nil || n < 1 {
		return fmt.Errorf("%w: %s is not a store's data directory, or its %s file was changed: it says %.60q", store.ErrDamaged, path, formatFile, text)
	}
	if n > formatVersion {
		return fmt.Errorf("%w: %s has format %d, this program knows format %d: run the version that wrote it, or a later one",
			store.ErrNewerFormat, path, n, formatVersion)
	}
	return nil
}

func checkSpace(path string, need uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", path, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("%w: the disk of %s has %d MB free, the store needs %d MB: free some, or give another data directory",
			store.ErrNoSpace, path, free>>20, need>>20)
	}
	if st.Files > 0 && st.Ffree < inodesRunning { // some file systems do not count them
		return fmt.Errorf("%w: the disk of %s has room for %d more files, the store needs %d: remove some, or give another data directory",
			store.ErrNoSpace, path, st.Ffree, inodesRunning)
	}
	return nil
}

// writeFormat leaves either no format file or a whole one.
func writeFormat(path string) error {
	tmp, err := os.CreateTemp(path, formatFile+".*")
	if err != nil {
		return dirError(path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = fmt.Fprintf(tmp, "%s %d\n", formatName, formatVersion)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return dirError(path, err)
	}
	if err := os.Rename(tmp.Name(), filepath.Join(path, formatFile)); err != nil {
		return dirError(path, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return dirError(path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func dirError(path string, err error) error {
	switch {
	case isPermission(err):
		return fmt.Errorf("store: user %d may not write to the data directory %s: change its owner or mode, or give another one: %w", os.Geteuid(), path, err)
	case isDiskFull(err):
		return fmt.Errorf("%w: the disk of %s is full: free some space, or give another data directory: %w", store.ErrNoSpace, path, err)
	}
	return fmt.Errorf("store: data directory %s: %w", path, err)
}

func orUnknown(s string) string {
	if s == "" {
		return "(pid unknown)"
	}
	return s
}
