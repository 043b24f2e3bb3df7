package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the length of a root key in bytes.
const KeySize = 32

// A sealed value is: one byte of format version, the id of the root key, a
// random nonce, and the ciphertext of XChaCha20-Poly1305 with its tag. The
// version and the key's id make room for other ciphers and for rotation.
const (
	version   = 1
	idSize    = 4
	nonceSize = chacha20poly1305.NonceSizeX
	headSize  = 1 + idSize + nonceSize
)

var (
	// ErrKey: the value was sealed by another root key.
	ErrKey = errors.New("seal: sealed by another root key")
	// ErrTampered: the value was changed, cut off, or belongs to another context.
	ErrTampered = errors.New("seal: not authentic")
)

// Sealer seals and opens with one root key. It is safe for concurrent use.
type Sealer struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New returns a Sealer for a root key of KeySize bytes.
func New(rootKey []byte) (*Sealer, error) {
	if len(rootKey) != KeySize {
		return nil, fmt.Errorf("seal: a root key has %d bytes, this one has %d", KeySize, len(rootKey))
	}
	key, err := hkdf.Key(sha256.New, rootKey, nil, "longshore seal key 1", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive the key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, rootKey, nil, "longshore seal key id", idSize)
	if err != nil {
		return nil, fmt.Errorf("seal: derive the key's id: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Sealer{id: [idSize]byte(id), aead: aead}, nil
}

// KeyID names the root key; it tells nothing about it.
func (s *Sealer) KeyID() string { return hex.EncodeToString(s.id[:]) }

// Seal encrypts plaintext for the context, usually the record's key. Only Open
// with the same context returns it.
func (s *Sealer) Seal(context string, plaintext []byte) ([]byte, error) {
	sealed := make([]byte, headSize, headSize+len(plaintext)+s.aead.Overhead())
	sealed[0] = version
	copy(sealed[1:], s.id[:])
	nonce := sealed[1+idSize : headSize]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("seal: no randomness: %w", err)
	}
	return s.aead.Seal(sealed, nonce, plaintext, bound(sealed[:1+idSize], context)), nil
}

// Open returns what was sealed for the context. Its errors wrap ErrKey or
// ErrTampered and never contain any of the secret.
func (s *Sealer) Open(context string, sealed []byte) ([]byte, error) {
	if len(sealed) < headSize+s.aead.Overhead() {
		return nil, fmt.Errorf("%w: %q holds %d bytes, too few for a sealed value", ErrTampered, context, len(sealed))
	}
	if sealed[0] != version {
		return nil, fmt.Errorf("%w: %q is sealed in format %d, this program knows format %d", ErrTampered, context, sealed[0], version)
	}
	if id := sealed[1 : 1+idSize]; !bytes.Equal(id, s.id[:]) {
		return nil, fmt.Errorf("%w: %q was sealed by key %x, the key in use is %s: put the root key file with that id back",
			ErrKey, context, id, s.KeyID())
	}
	plaintext, err := s.aead.Open(nil, sealed[1+idSize:headSize], sealed[headSize:], bound(sealed[:1+idSize], context))
	if err != nil {
		return nil, fmt.Errorf("%w: the value of %q, sealed by key %s, was changed or belongs elsewhere", ErrTampered, context, s.KeyID())
	}
	return plaintext, nil
}

// bound is the data that is authenticated with the ciphertext.
func bound(head []byte, context string) []byte {
	return append(append(make([]byte, 0, len(head)+len(context)), head...), context...)
}
