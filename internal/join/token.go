package join

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// form begins every token and names its form.
const form = "lsj1"

// noPin stands for an absent pin.
const noPin = "-"

// maxToken bounds a token's text, in bytes.
const maxToken = 256

const idBytes, secretBytes = 8, 32

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ErrNoToken says that a text is not a token.
var ErrNoToken = errors.New("it is not a registration token: one begins with " + form + ", and `longshore token create` on the server's machine prints one")

// Token is a registration token taken apart.
type Token struct {
	// ID names the token's record: 16 hex digits.
	ID string
	// Secret is 32 random bytes.
	Secret []byte
	// Pin is the authority's pin (pki.Pin), empty when there is none.
	Pin string
}

// New draws a token.
func New(random io.Reader, pin string) (Token, error) {
	raw := make([]byte, idBytes+secretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Token{}, fmt.Errorf("draw a registration token: %w", err)
	}
	return Token{ID: hex.EncodeToString(raw[:idBytes]), Secret: raw[idBytes:], Pin: pin}, nil
}

// Text is the token as it is handed over. It is a secret.
func (t Token) Text() string {
	pin := t.Pin
	if pin == "" {
		pin = noPin
	}
	return strings.Join([]string{form, t.ID, base64.RawURLEncoding.EncodeToString(t.Secret), pin}, ".")
}

// String hides the secret from whatever prints a Token.
func (t Token) String() string { return form + "." + t.ID + ".…" }

// GoString hides it from %#v.
func (t Token) GoString() string { return t.String() }

// Hash is what the server keeps of the secret. The secret is random, so that a
// plain hash is enough.
func (t Token) Hash() []byte {
	sum := sha256.Sum256(append([]byte("longshore registration token "+t.ID+" "), t.Secret...))
	return sum[:]
}

// Parse takes a token's text apart. The error never holds the text.
func Parse(text string) (Token, error) {
	text = strings.TrimSpace(text)
	parts := strings.Split(text, ".")
	if len(text) > maxToken || len(parts) != 4 || parts[0] != form || !idPattern.MatchString(parts[1]) {
		return Token{}, ErrNoToken
	}
	secret, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(secret) != secretBytes {
		return Token{}, ErrNoToken
	}
	t := Token{ID: parts[1], Secret: secret}
	if parts[3] != noPin {
		if pin, err := base64.RawURLEncoding.DecodeString(parts[3]); err != nil || len(pin) != sha256.Size {
			return Token{}, ErrNoToken
		}
		t.Pin = parts[3]
	}
	return t, nil
}
