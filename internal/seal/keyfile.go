package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"

	"longshore.dev/longshore/internal/atomicfile"
)

// File is a file of root keys: the one in use, and behind it those of rotations that
// have not come to their end. It holds them as they are, 32 bytes each, or sealed by a
// passphrase.
type File struct {
	Path string
	// Passphrase protects the file; empty: nothing but its mode does.
	Passphrase []byte
}

// ErrPassphrase: the file is protected by another passphrase, or none was given.
var ErrPassphrase = errors.New("seal: the passphrase does not open the root key")

// A protected file is: a mark, the costs of Argon2id, its salt, and the keys sealed by
// what that makes of the passphrase.
var fileMark = []byte("LSROOT\x00\x01")

const (
	saltSize     = 16
	fileHead     = 8 + 4 + 4 + saltSize
	fileContext  = "seal/rootkeys"
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 2
	// What a file may ask for, at most.
	maxArgonTime, maxArgonMemory = 64, 1 << 20
)

// OpenFile returns a Sealer for the root key in a file, which is made with a
// new random key if there is none. A file that others than its owner may read
// is refused: the key in it has to be considered known.
func OpenFile(path string) (*Sealer, error) {
	f := File{Path: path}
	keys, err := f.Load()
	if errors.Is(err, fs.ErrNotExist) {
		keys, err = f.Create()
	}
	if err != nil {
		return nil, err
	}
	defer wipe(keys)
	return New(keys[0])
}

func wipe(keys [][]byte) {
	for _, key := range keys {
		clear(key)
	}
}

// Load reads the keys. The error is fs.ErrNotExist when there is no file, and
// ErrPassphrase when it does not open.
func (f File) Load() ([][]byte, error) {
	raw, err := f.read()
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(raw, fileMark) {
		if raw, err = f.unprotect(raw); err != nil {
			return nil, err
		}
	}
	defer clear(raw)
	if len(raw) == 0 || len(raw)%KeySize != 0 || len(raw) > maxKeys*KeySize {
		return nil, fmt.Errorf("seal: the root key %s does not have exactly %d bytes (or a few times as many): restore it from a backup; without it nothing that it sealed can be read", f.Path, KeySize)
	}
	var keys [][]byte
	for n := 0; n < len(raw); n += KeySize {
		keys = append(keys, bytes.Clone(raw[n:n+KeySize]))
	}
	return keys, nil
}

// Protected tells whether the file asks for a passphrase.
func (f File) Protected() (bool, error) {
	raw, err := f.read()
	defer clear(raw)
	return bytes.HasPrefix(raw, fileMark), err
}

func (f File) read() ([]byte, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("seal: the root key %s is not a regular file", f.Path)
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("seal: the root key %s can be used by others than its owner (mode %04o): chmod 600 it, and consider every secret sealed by it known if strangers use this machine", f.Path, mode)
	}
	raw, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return nil, fmt.Errorf("seal: read the root key: %w", err)
	}
	return raw, nil
}

// Save replaces the file's keys; a crash leaves either the former or these.
func (f File) Save(keys [][]byte) error {
	raw, err := f.content(keys)
	if err != nil {
		return err
	}
	defer clear(raw)
	if err := atomicfile.Write(f.Path, raw); err != nil {
		return fmt.Errorf("seal: keep the root key: %w", err)
	}
	return nil
}

// Create makes the file with a new key, or returns those of one that is there by then:
// of two processes that start at once, both use the key of the first.
func (f File) Create() ([][]byte, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	raw, err := f.content([][]byte{key})
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	if err := createFile(f.Path, raw); err != nil {
		return nil, fmt.Errorf("seal: make the root key %s: %w", f.Path, err)
	}
	return f.Load()
}

// NewKey draws a root key.
func NewKey() ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("seal: no randomness: %w", err)
	}
	return key, nil
}

func (f File) content(keys [][]byte) ([]byte, error) {
	raw := bytes.Join(keys, nil)
	if len(f.Passphrase) == 0 {
		return raw, nil
	}
	defer clear(raw)
	head := make([]byte, fileHead)
	copy(head, fileMark)
	binary.BigEndian.PutUint32(head[8:], argonTime)
	binary.BigEndian.PutUint32(head[12:], argonMemory)
	if _, err := rand.Read(head[16:]); err != nil {
		return nil, fmt.Errorf("seal: no randomness: %w", err)
	}
	s, err := f.stretched(head)
	if err != nil {
		return nil, err
	}
	sealed, err := s.Seal(fileContext, raw)
	return append(head, sealed...), err
}

func (f File) unprotect(raw []byte) ([]byte, error) {
	if len(f.Passphrase) == 0 {
		return nil, fmt.Errorf("%w: %s is protected by one: give it with --root-passphrase-file or in LONGSHORE_ROOT_PASSPHRASE", ErrPassphrase, f.Path)
	}
	if len(raw) < fileHead {
		return nil, fmt.Errorf("seal: the root key %s was cut off: restore it from a backup", f.Path)
	}
	s, err := f.stretched(raw[:fileHead])
	if err != nil {
		return nil, err
	}
	plain, err := s.Open(fileContext, raw[fileHead:])
	if err != nil {
		return nil, fmt.Errorf("%w: %s is protected by another, or was changed", ErrPassphrase, f.Path)
	}
	return plain, nil
}

// stretched is what the passphrase becomes by the costs and the salt of a file.
func (f File) stretched(head []byte) (*Sealer, error) {
	passes, memory := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if passes == 0 || passes > maxArgonTime || memory == 0 || memory > maxArgonMemory {
		return nil, fmt.Errorf("seal: the root key %s asks for %d passes over %d KiB, which no version of this program does: it was changed", f.Path, passes, memory)
	}
	key := argon2.IDKey(f.Passphrase, head[16:fileHead], passes, memory, argonThreads, KeySize)
	defer clear(key)
	return New(key)
}

// createFile leaves either no file or a whole one, and never replaces one.
func createFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".rootkey.*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
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
