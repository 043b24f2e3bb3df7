package backup

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
)

func sealer(t *testing.T, fill byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// example is a backup of many entries and two files.
func example(t *testing.T) (raw []byte, entries []store.Entry) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"000004.log": "events", "sub/MANIFEST": strings.Repeat("m", 300_000)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2500 {
		entries = append(entries, store.Entry{Key: "key/" + strings.Repeat("k", i%50+1), Value: bytes.Repeat([]byte{byte(i)}, i), ModRevision: 7})
	}
	entries[3].Value = []byte{}
	var out bytes.Buffer
	m := Manifest{CreatedAt: time.Unix(1700000000, 0).UTC(), Account: "000000000000", Region: "us-east-1", Revision: 42}
	if err := Write(&out, sealer(t, 1), m, entries, dir); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), entries
}

func TestBackupComesBackAsItWas(t *testing.T) {
	raw, want := example(t)
	if bytes.Contains(raw, []byte("000000000000")) || bytes.Contains(raw, []byte("events")) {
		t.Error("the backup shows what is in it")
	}
	var got []store.Entry
	files := map[string]int{}
	m, err := Read(bytes.NewReader(raw), sealer(t, 1), Parts{
		Entries: func(batch []store.Entry) error { got = append(got, batch...); return nil },
		File: func(name string, content io.Reader) error {
			raw, err := io.ReadAll(content)
			files[name] = len(raw)
			return err
		},
	})
	if err != nil || m.Entries != len(want) || m.Revision != 42 || m.Account != "000000000000" || m.Format != Format {
		t.Fatalf("%+v, %v", m, err)
	}
	for i := range want {
		want[i].ModRevision = 0
	}
	if len(got) != len(want) || !reflect.DeepEqual(got, want) {
		t.Errorf("%d entries came back of %d, or others", len(got), len(want))
	}
	if files["000004.log"] != 6 || files["sub/MANIFEST"] != 300_000 || len(files) != 2 {
		t.Errorf("files %v", files)
	}
}

func TestBackupThatIsNotWholeIsRefused(t *testing.T) {
	raw, _ := example(t)
	for _, n := range []int{0, 10, 100, len(raw) / 2, len(raw) - 1} {
		if _, err := Read(bytes.NewReader(raw[:n]), sealer(t, 1), Parts{}); err == nil {
			t.Errorf("cut to %d of %d bytes, and it was read", n, len(raw))
		}
	}
	for _, i := range []int{30, 500, len(raw) / 2, len(raw) - 5} {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := Read(bytes.NewReader(bad), sealer(t, 1), Parts{}); err == nil {
			t.Errorf("byte %d was changed, and it was read", i)
		}
	}
	if _, err := Read(bytes.NewReader(raw), sealer(t, 2), Parts{}); !errors.Is(err, seal.ErrKey) || !strings.Contains(err.Error(), sealer(t, 1).KeyID()) {
		t.Errorf("with another key: %v, want one that names %s", err, sealer(t, 1).KeyID())
	}
}

// Who has the root key can make any archive: it still writes nowhere else.
func TestArchivesThatReachElsewhereAreRefused(t *testing.T) {
	for _, name := range []string{"bulk/../../etc/passwd", "bulk//x", "/bulk/x", "bulk/.", "other", "bulk/a/../b", manifestName} {
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, sealer(t, 1), purpose)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		a := tar.NewWriter(z)
		if err := errors.Join(writeManifest(a, Manifest{Format: Format}), writeEntries(a, nil),
			a.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg}), a.Close(), z.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = Read(&out, sealer(t, 1), Parts{File: func(name string, _ io.Reader) error { t.Errorf("%s was handed out", name); return nil }})
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
