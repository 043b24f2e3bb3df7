package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func newSealer(t testing.TB, fill byte) *Sealer {
	t.Helper()
	s, err := New(bytes.Repeat([]byte{fill}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	s := newSealer(t, 1)
	for _, plaintext := range []string{"", "x", strings.Repeat("secret ", 10000)} {
		sealed, err := s.Seal("ctx", []byte(plaintext))
		if err != nil {
			t.Fatal(err)
		}
		if plaintext != "" && len(plaintext) > 5 && bytes.Contains(sealed, []byte("secret")) {
			t.Error("the sealed value shows the secret")
		}
		got, err := s.Open("ctx", sealed)
		if err != nil || string(got) != plaintext {
			t.Errorf("opened %d bytes, %v; want %d", len(got), err, len(plaintext))
		}
	}
	a, _ := s.Seal("ctx", []byte("same"))
	b, _ := s.Seal("ctx", []byte("same"))
	if bytes.Equal(a, b) {
		t.Error("sealing twice gives the same bytes")
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	s := newSealer(t, 1)
	sealed, err := s.Seal("ctx", []byte("the secret"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 0x40
		if got, err := s.Open("ctx", changed); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrKey) {
			t.Errorf("byte %d changed: opened %q, %v", i, got, err)
		}
	}
	for n := range sealed {
		if got, err := s.Open("ctx", sealed[:n]); !errors.Is(err, ErrTampered) {
			t.Errorf("cut to %d bytes: opened %q, %v", n, got, err)
		}
	}
}

func TestContextIsBound(t *testing.T) {
	s := newSealer(t, 1)
	sealed, err := s.Seal("account 1", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open("account 2", sealed); !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), "account 2") {
		t.Errorf("opened for another context: %v", err)
	}
}

func TestAnotherKeyIsNamed(t *testing.T) {
	one, two := newSealer(t, 1), newSealer(t, 2)
	sealed, err := one.Seal("ctx", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.Open("ctx", sealed)
	if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), one.KeyID()) || !strings.Contains(err.Error(), two.KeyID()) {
		t.Errorf("error %v, want one that names keys %s and %s", err, one.KeyID(), two.KeyID())
	}
}

// TestFormatIsStable: a value sealed by the first version opens for as long as
// its format is supported.
func TestFormatIsStable(t *testing.T) {
	sealed, err := hex.DecodeString("012f57860d41e1ba70a139a342c75f20823524fa29bfb548dae076e48991a0f4d3dfa68d8c002914c60384f3ed85a6facef14c7521093395674a24")
	if err != nil {
		t.Fatal(err)
	}
	s := newSealer(t, 7)
	got, err := s.Open("table/record", sealed)
	if err != nil || string(got) != "kept for years" {
		t.Errorf("opened %q, %v", got, err)
	}
	if got := s.KeyID(); got != "2f57860d" {
		t.Errorf("key id %s", got)
	}
}

func TestKeyFileIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	sealers := make([]*Sealer, 8)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() {
			s, err := OpenFile(path)
			if err != nil {
				t.Error(err)
			}
			sealers[i] = s
		})
	}
	wg.Wait()
	again, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sealers {
		if s == nil || s.KeyID() != again.KeyID() {
			t.Fatal("processes that start at once use different keys")
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 || st.Size() != KeySize {
		t.Errorf("key file: %v, %v", st, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("files are left behind: %v", left)
	}
}

func TestBadKeyFilesAreRefused(t *testing.T) {
	tests := []struct {
		name string
		size int
		mode os.FileMode
		want string
	}{
		{"group-readable", KeySize, 0o640, "mode 0640"},
		{"world-readable", KeySize, 0o604, "chmod 600"},
		{"short", KeySize - 1, 0o600, "exactly 32 bytes"},
		{"long", KeySize + 1, 0o600, "exactly 32 bytes"},
		{"empty", 0, 0o600, "exactly 32 bytes"},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "root.key")
		if err := os.WriteFile(path, make([]byte, tt.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(path)
		if _, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.want)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed", tt.name)
		}
	}
	if _, err := OpenFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

func BenchmarkSeal(b *testing.B) {
	s := newSealer(b, 1)
	for _, n := range []int{64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			plaintext := make([]byte, n)
			for b.Loop() {
				if _, err := s.Seal("ctx", plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
