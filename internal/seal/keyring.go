package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrLocked: there is no root key.
var ErrLocked = errors.New("seal: the root key is not there")

// maxKeys bounds the root keys that are there at once: the one in use, and those of
// rotations that have not come to their end.
const maxKeys = 8

// Keyring seals with one root key, and opens what that or one of its predecessors has
// sealed. It is safe for concurrent use; without a key it answers ErrLocked.
type Keyring struct {
	sealers atomic.Pointer[[]*Sealer] // the one in use first
}

// NewKeyring returns a Keyring of root keys, the one in use first.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	k := &Keyring{}
	return k, k.Set(keys)
}

// Set replaces the root keys; the first is the one in use.
func (k *Keyring) Set(keys [][]byte) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("seal: %d root keys, at most %d are possible", len(keys), maxKeys)
	}
	sealers := make([]*Sealer, 0, len(keys))
	for _, key := range keys {
		s, err := New(key)
		if err != nil {
			return err
		}
		sealers = append(sealers, s)
	}
	k.sealers.Store(&sealers)
	return nil
}

func (k *Keyring) all() []*Sealer {
	if s := k.sealers.Load(); s != nil {
		return *s
	}
	return nil
}

// KeyIDs names the root keys, the one in use first.
func (k *Keyring) KeyIDs() []string {
	ids := []string{}
	for _, s := range k.all() {
		ids = append(ids, s.KeyID())
	}
	return ids
}

// Knows tells whether what a key of this id has sealed can be opened.
func (k *Keyring) Knows(id string) bool {
	for _, s := range k.all() {
		if s.KeyID() == id {
			return true
		}
	}
	return false
}

// Seal is Sealer.Seal with the key in use.
func (k *Keyring) Seal(context string, plaintext []byte) ([]byte, error) {
	all := k.all()
	if len(all) == 0 {
		return nil, ErrLocked
	}
	return all[0].Seal(context, plaintext)
}

// Open is Sealer.Open with the key that sealed the value.
func (k *Keyring) Open(context string, sealed []byte) ([]byte, error) {
	all := k.all()
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %q was sealed by key %s", ErrLocked, context, KeyIDOf(sealed))
	}
	for _, s := range all[1:] {
		if s.KeyID() == KeyIDOf(sealed) {
			return s.Open(context, sealed)
		}
	}
	return all[0].Open(context, sealed)
}

// Reseal seals a value with the key in use, if it was sealed with an earlier one:
// false when there is nothing to do.
func (k *Keyring) Reseal(context string, sealed []byte) ([]byte, bool, error) {
	all := k.all()
	if len(all) > 0 && KeyIDOf(sealed) == all[0].KeyID() {
		return sealed, false, nil
	}
	plaintext, err := k.Open(context, sealed)
	if err != nil {
		return nil, false, err
	}
	defer clear(plaintext)
	fresh, err := k.Seal(context, plaintext)
	return fresh, err == nil, err
}

// KeyIDOf names the root key that sealed a value; "" when it is none.
func KeyIDOf(sealed []byte) string {
	if len(sealed) < headSize || sealed[0] != version {
		return ""
	}
	return hex.EncodeToString(sealed[1 : 1+idSize])
}
