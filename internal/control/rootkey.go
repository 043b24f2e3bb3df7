package control

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"longshore.dev/longshore/internal/seal"
)

// RootKey says where the root key is, by which all secrets are sealed. The zero value
// is a file of its own in the data directory.
type RootKey struct {
	// File holds the key; empty: root.key in the data directory.
	File string
	// Passphrase protects the file, or is the first line of PassphraseFile.
	Passphrase, PassphraseFile string
	// Value is the key itself, in base64 or hex, and behind commas earlier ones: no file
	// is read, or made.
	Value string
}

// String hides the key from whatever prints a configuration.
func (k RootKey) String() string { return "root key (redacted)" }

// GoString hides it from %#v.
func (k RootKey) GoString() string { return k.String() }

const maxPassphrase = 1024

func (k RootKey) check() error {
	switch {
	case k.Value != "" && (k.File != "" || k.Passphrase != "" || k.PassphraseFile != ""):
		return errors.New("LONGSHORE_ROOT_KEY is the root key itself: leave out its file and passphrase")
	case k.Passphrase != "" && k.PassphraseFile != "":
		return errors.New("give the root key's passphrase either in LONGSHORE_ROOT_PASSPHRASE or by --root-passphrase-file")
	case len(k.Passphrase) > maxPassphrase:
		return fmt.Errorf("the root key's passphrase has more than %d bytes", maxPassphrase)
	}
	if k.Value != "" {
		_, err := parseKeys(k.Value)
		return err
	}
	return nil
}

// where tells a person where the key has to be.
func (k RootKey) where(dataDir string) string {
	if k.Value != "" {
		return "LONGSHORE_ROOT_KEY"
	}
	return k.path(dataDir)
}

func (k RootKey) path(dataDir string) string {
	if k.File != "" {
		return k.File
	}
	return filepath.Join(dataDir, "root.key")
}

// file is the file of keys; its passphrase is read now.
func (k RootKey) file(dataDir string) (seal.File, error) {
	f := seal.File{Path: k.path(dataDir), Passphrase: []byte(k.Passphrase)}
	if k.PassphraseFile == "" {
		return f, nil
	}
	raw, err := os.ReadFile(k.PassphraseFile)
	if err != nil {
		return f, fmt.Errorf("read the root key's passphrase: %w", err)
	}
	f.Passphrase, _, _ = bytes.Cut(raw, []byte("\n"))
	f.Passphrase = bytes.TrimSuffix(f.Passphrase, []byte("\r"))
	if len(f.Passphrase) == 0 || len(f.Passphrase) > maxPassphrase {
		return f, fmt.Errorf("the root key's passphrase, the first line of %s, must have 1 to %d bytes", k.PassphraseFile, maxPassphrase)
	}
	return f, nil
}

// load reads the keys, the one in use first. It makes none.
func (k RootKey) load(dataDir string) ([][]byte, error) {
	if k.Value != "" {
		return parseKeys(k.Value)
	}
	f, err := k.file(dataDir)
	if err != nil {
		return nil, err
	}
	return f.Load()
}

func parseKeys(value string) ([][]byte, error) {
	var keys [][]byte
	for text := range strings.SplitSeq(value, ",") {
		text = strings.TrimSpace(text)
		key, err := base64.StdEncoding.DecodeString(text)
		if len(text) == hex.EncodedLen(seal.KeySize) {
			key, err = hex.DecodeString(text)
		}
		if err != nil || len(key) != seal.KeySize {
			return nil, fmt.Errorf("LONGSHORE_ROOT_KEY must be %d random bytes in base64 or hex, and behind commas those of earlier keys: `head -c %[1]d /dev/urandom | base64` makes one", seal.KeySize)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// protect brings the file under a passphrase that was given and that it does not have yet.
func (k RootKey) protect(dataDir string, keys [][]byte) error {
	if k.Value != "" || k.Passphrase == "" && k.PassphraseFile == "" {
		return nil
	}
	f, err := k.file(dataDir)
	if err != nil {
		return err
	}
	if is, err := f.Protected(); is || err != nil {
		return err
	}
	return f.Save(keys)
}

// ring is a keyring of the keys that are there.
func (k RootKey) ring(dataDir string) (*seal.Keyring, error) {
	keys, err := k.load(dataDir)
	if err != nil {
		return nil, err
	}
	return seal.NewKeyring(keys...)
}
