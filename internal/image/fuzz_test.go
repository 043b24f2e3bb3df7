package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image/imagetest"
)

func FuzzReference(f *testing.F) {
	for _, seed := range []string{"nginx", "a/b:1", "localhost:5000/a@sha256:" + string(digest.FromString("x").Encoded()), "A", "a:b:c", "[::1]:5000/a", "\x00", "a//b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		name, err := normalize(ref)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("normalize(%q): %v", ref, err)
			}
			return
		}
		for _, same := range []string{name, familiar(name)} {
			if again, err := normalize(same); err != nil || again != name {
				t.Fatalf("normalize(%q) = %q, but normalize(%q) = %q, %v", ref, name, same, again, err)
			}
		}
	})
}

// FuzzManifest reads any bytes as index, manifest and configuration.
func FuzzManifest(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"schemaVersion":1,"fsLayers":[]}`, `{"manifests":[{"digest":"sha256:0","size":-1,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`,
		`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"x"},"layers":[{}]}`,
		`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:x"]},"config":{"Healthcheck":{"Test":["CMD"]},"ExposedPorts":{"80/tcp":{}}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument(data)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("parseDocument: %v", err)
		}
		if err == nil && doc.Manifests == nil && doc.Config == nil {
			t.Fatal("what is neither an index nor a manifest was accepted")
		}
		config, err := parseConfig(data)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("parseConfig: %v", err)
		}
		if err == nil {
			Image{Config: config.config()}.clone()
		}
		_ = serverMessage(data)
	})
}

// FuzzChallenge reads any header as a demand for a token, as the library does.
func FuzzChallenge(f *testing.F) {
	for _, seed := range []string{`Bearer realm="https://a/token",service="s",scope="repository:a:pull"`, `Basic realm="x"`, `Bearer`, `Bearer realm="`, `Bearer a=b,,c="\"`, `Negotiate x`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range auth.ParseAuthHeader(http.Header{"Www-Authenticate": {header}}) {
			if c.Scheme != auth.BearerAuth {
				continue
			}
			if _, err := auth.GenerateTokenOptions(t.Context(), "host", "u", "p", c); err != nil {
				continue
			}
		}
	})
}

// FuzzLayer unpacks any bytes, and looks whether anything beside the directory
// was touched.
func FuzzLayer(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root: layers are unpacked with their owners")
	}
	for _, entries := range [][]imagetest.Entry{
		{imagetest.File("a", "x"), imagetest.Dir("d"), imagetest.Whiteout("d", "b"), imagetest.File("d/.wh..wh..opq", "")},
		{imagetest.Symlink("l", "../victim"), imagetest.File("l/f", "evil"), imagetest.Hardlink("h", "l/innocent")},
		{imagetest.File("../victim/innocent", "evil"), imagetest.File("/a/b", "x")},
		{{Name: "x", PAX: map[string]string{"SCHILY.xattr.user.a": "b"}}},
	} {
		plain := imagetest.Tar(f, entries...)
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(plain)
		_ = w.Close()
		f.Add(plain)
		f.Add(packed.Bytes())
	}
	limits := Limits{UnpackedBytes: 1 << 20, Files: 100}.withDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		base, err := os.MkdirTemp("", "fuzz-layer-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(base)
		victim, dir := filepath.Join(base, "victim"), filepath.Join(base, "dir")
		if err := errors.Join(os.Mkdir(victim, 0o700), os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(victim, "innocent"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		var diffID digest.Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
		if plain, err := decompress(bytes.NewReader(data)); err == nil {
			all, _ := io.ReadAll(io.LimitReader(plain, 1<<20))
			diffID = digest.FromBytes(all)
			_ = plain.Close()
		}
		opts := []archive.ApplyOpt{archive.WithConvertWhiteout(archive.OverlayConvertWhiteout)}
		err = unpackInto(t.Context(), dir, bytes.NewReader(data), diffID, limits, fail(ErrInvalid, "too large"), opts)
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("unpackInto: %v", err)
		}
		got, readErr := os.ReadFile(filepath.Join(victim, "innocent"))
		beside, dirErr := os.ReadDir(base)
		inside, victimErr := os.ReadDir(victim)
		if err := errors.Join(readErr, dirErr, victimErr); err != nil || string(got) != "x" || len(beside) != 2 || len(inside) != 1 {
			t.Fatalf("outside of the directory: %q %v %v %v", got, beside, inside, err)
		}
	})
}
