package seal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func rootKey(fill byte) []byte { return bytes.Repeat([]byte{fill}, KeySize) }

func TestKeyringOpensWhatItsKeysSealed(t *testing.T) {
	ring, err := NewKeyring()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Seal("ctx", nil); !errors.Is(err, ErrLocked) {
		t.Errorf("without a key: %v", err)
	}
	old := newSealer(t, 1)
	sealed, err := old.Seal("ctx", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open("ctx", sealed); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), old.KeyID()) {
		t.Errorf("without a key: %v, want ErrLocked that names %s", err, old.KeyID())
	}
	if err := ring.Set([][]byte{rootKey(2), rootKey(1)}); err != nil {
		t.Fatal(err)
	}
	if got, err := ring.Open("ctx", sealed); err != nil || string(got) != "secret" {
		t.Errorf("by a former key: %q, %v", got, err)
	}
	if _, err := ring.Open("other", sealed); !errors.Is(err, ErrTampered) {
		t.Errorf("of another context: %v", err)
	}
	fresh, changed, err := ring.Reseal("ctx", sealed)
	if err != nil || !changed || KeyIDOf(fresh) != newSealer(t, 2).KeyID() {
		t.Fatalf("sealed again by %s, %v %v", KeyIDOf(fresh), changed, err)
	}
	if _, changed, err := ring.Reseal("ctx", fresh); changed || err != nil {
		t.Errorf("sealed again without a need: %v %v", changed, err)
	}
	if err := ring.Set([][]byte{rootKey(2)}); err != nil {
		t.Fatal(err)
	}
	if got, err := ring.Open("ctx", fresh); err != nil || string(got) != "secret" {
		t.Errorf("after the former key is gone: %q, %v", got, err)
	}
	if _, err := ring.Open("ctx", sealed); !errors.Is(err, ErrKey) {
		t.Errorf("what the former key sealed: %v", err)
	}
	if !ring.Knows(newSealer(t, 2).KeyID()) || ring.Knows(old.KeyID()) || !slices.Equal(ring.KeyIDs(), []string{newSealer(t, 2).KeyID()}) {
		t.Errorf("keys %v", ring.KeyIDs())
	}
	if KeyIDOf(nil) != "" || KeyIDOf([]byte("garbage that is long enough to hold a whole head")) != "" {
		t.Error("garbage has a key")
	}
}

func TestKeyFiles(t *testing.T) {
	for name, passphrase := range map[string]string{"plain": "", "protected": "correct horse"} {
		t.Run(name, func(t *testing.T) {
			f := File{Path: filepath.Join(t.TempDir(), "root.key"), Passphrase: []byte(passphrase)}
			if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("no file: %v", err)
			}
			made, err := f.Create()
			if err != nil || len(made) != 1 {
				t.Fatalf("%d keys, %v", len(made), err)
			}
			if again, err := f.Create(); err != nil || !bytes.Equal(again[0], made[0]) {
				t.Errorf("made twice: %v", err)
			}
			if err := f.Save([][]byte{rootKey(9), made[0]}); err != nil {
				t.Fatal(err)
			}
			keys, err := f.Load()
			if err != nil || len(keys) != 2 || !bytes.Equal(keys[0], rootKey(9)) || !bytes.Equal(keys[1], made[0]) {
				t.Errorf("%d keys were kept, %v", len(keys), err)
			}
			raw, err := os.ReadFile(f.Path)
			if err != nil || bytes.Contains(raw, rootKey(9)) != (passphrase == "") {
				t.Errorf("the file shows its key: %v, %v", bytes.Contains(raw, rootKey(9)), err)
			}
			if is, err := f.Protected(); err != nil || is != (passphrase != "") {
				t.Errorf("protected: %v %v", is, err)
			}
			if passphrase == "" {
				return
			}
			for _, wrong := range []string{"", "wrong"} {
				if _, err := (File{Path: f.Path, Passphrase: []byte(wrong)}).Load(); !errors.Is(err, ErrPassphrase) {
					t.Errorf("with the passphrase %q: %v", wrong, err)
				}
			}
			// The mark, both costs, the salt, the sealed keys.
			for _, i := range []int{0, 8, 12, 20, fileHead, len(raw) - 1} {
				changed := bytes.Clone(raw)
				changed[i] ^= 0x80
				if err := os.WriteFile(f.Path, changed, 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Load(); err == nil {
					t.Errorf("byte %d was changed, and it opens", i)
				}
			}
			if err := os.WriteFile(f.Path, raw[:20], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Load(); err == nil || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("cut off: %v", err)
			}
		})
	}
}

func sealedStream(t *testing.T, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, newSealer(t, 1), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, iotest.OneByteReader(bytes.NewReader(content[:min(len(content), 10)]))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content[min(len(content), 10):]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a closed stream is written to")
	}
	return out.Bytes()
}

func openStream(t *testing.T, raw []byte, purpose string) ([]byte, error) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(raw), newSealer(t, 1), purpose)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestStreams(t *testing.T) {
	for _, size := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 3*pieceSize + 7} {
		content := bytes.Repeat([]byte("0123456789abcdef secret "), size/24+1)[:size]
		raw := sealedStream(t, content)
		if bytes.Contains(raw, []byte("secret")) {
			t.Errorf("%d bytes: the stream shows its content", size)
		}
		if got, err := openStream(t, raw, "test"); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		if _, err := openStream(t, raw, "other"); !errors.Is(err, ErrTampered) {
			t.Errorf("%d bytes: opened for another purpose: %v", size, err)
		}
	}
}

func TestStreamsThatWereChangedAreNoticed(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 2*pieceSize+100)
	raw, other := sealedStream(t, content), sealedStream(t, content)
	head, piece := len(streamMark)+streamID, 4+headSize+pieceSize+16
	swapped := slices.Concat(raw[:head], raw[head+piece:head+2*piece], raw[head:head+piece], raw[head+2*piece:])
	for name, bad := range map[string][]byte{
		"cut in a piece":        raw[:len(raw)-1],
		"cut after a piece":     raw[:head+piece],
		"cut after the head":    raw[:head],
		"cut in the head":       raw[:5],
		"longer":                append(bytes.Clone(raw), 0),
		"pieces swapped":        swapped,
		"a piece left out":      slices.Concat(raw[:head], raw[head+piece:]),
		"a piece of another":    slices.Concat(raw[:head], other[head:head+piece], raw[head+piece:]),
		"another stream's head": slices.Concat(other[:head], raw[head:]),
		"an endless piece":      slices.Concat(raw[:head], []byte{0xff, 0xff, 0xff, 0xff}, raw[head+4:]),
		"nothing":               nil,
	} {
		if got, err := openStream(t, bad, "test"); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for _, i := range []int{0, head - 1, head + 5, head + piece/2, len(raw) - 1} {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := openStream(t, bad, "test"); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrKey) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}
