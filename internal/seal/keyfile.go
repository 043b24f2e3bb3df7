package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenFile returns a Sealer for the root key in a file, which is made with a
// new random key if there is none. A file that others than its owner may read
// is refused: the key in it has to be considered known.
func OpenFile(path string) (*Sealer, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, fmt.Errorf("seal: make the root key %s: %w", path, err)
		}
		key, err = readKey(path)
	}
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return New(key)
}

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("seal: the root key %s is not a regular file", path)
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("seal: the root key %s can be used by others than its owner (mode %04o): chmod 600 it, and consider every secret sealed by it known if strangers use this machine", path, mode)
	}
	key, err := io.ReadAll(io.LimitReader(f, KeySize+1))
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	if len(key) != KeySize {
		return nil, fmt.Errorf("seal: the root key %s does not have exactly %d bytes: restore it from a backup; without it nothing that it sealed can be read", path, KeySize)
	}
	return key, nil
}

// createKey leaves either no file or a whole one, and never replaces one:
// of two processes that start at once, both use the key of the first.
func createKey(path string) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".rootkey.*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	key := make([]byte, KeySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	_, err = tmp.Write(key)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
