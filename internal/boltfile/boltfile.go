package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checkedBytes is the size up to which a database is checked page by page:
// larger ones would delay the start.
const checkedBytes = 64 << 20

// Errors of Open.
var (
	// ErrDamaged: the file is not a database, or not a whole one.
	ErrDamaged = errors.New("damaged")
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another process")
)

// Open opens the database at path, made when missing, with mode 0600. The options
// are bbolt's; a timeout must be set.
func Open(path string, options *bolt.Options) (*bolt.DB, error) {
	if err := Check(path); err != nil {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, options)
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w", path, ErrInUse)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%s is %w: %w", path, ErrDamaged, err)
	}
	return nil, fmt.Errorf("open %s: %w", path, err)
}

// Check returns ErrDamaged unless the file is a whole database, or there is none.
// A process that writes to it meanwhile may make it seem damaged: a lock that
// somebody holds is ErrInUse.
func Check(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tryLock(f); err != nil {
		return fmt.Errorf("%s is %w", path, ErrInUse)
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || info.Size() > checkedBytes {
		return err
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := verify(data); err != nil {
		return fmt.Errorf("%s is %w: %w", path, ErrDamaged, err)
	}
	return nil
}
