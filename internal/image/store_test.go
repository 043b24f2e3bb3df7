package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
	"longshore.dev/longshore/internal/image/sample"
)

// open opens a store in dir, or in a new directory.
func open(t testing.TB, dir string, change ...func(*image.Options)) *image.Local {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: layers are unpacked with their owners, and mounted")
	}
	if dir == "" {
		dir = t.TempDir()
	}
	opts := image.Options{
		Root: dir, RetryDelay: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&opts)
	}
	s, err := image.Open(opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// mount mounts m for the test's time.
func mount(t testing.TB, m image.Mount) string {
	t.Helper()
	dir := t.TempDir()
	flags, data := uintptr(0), []string{}
	for _, o := range m.Options {
		switch o {
		case "rbind":
			flags |= unix.MS_BIND | unix.MS_REC
		case "rw":
		default:
			data = append(data, o)
		}
	}
	if err := unix.Mount(m.Source, dir, m.Type, flags, strings.Join(data, ",")); err != nil {
		t.Fatalf("mount %+v: %v", m, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// files lists a tree as "path" or "path=content".
func files(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.Type().IsRegular():
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name += "=" + string(body)
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += "->" + to
		case d.IsDir():
			name += "/"
		default:
			name += " " + d.Type().String()
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func prepare(t testing.TB, s *image.Local, ref, key string) image.Mount {
	t.Helper()
	m, err := s.Prepare(t.Context(), ref, key)
	if err != nil {
		t.Fatalf("Prepare(%s): %v", ref, err)
	}
	return m
}

// twoLayers is an image whose upper layer changes, hides and adds.
func twoLayers(t testing.TB, c imagetest.Compression, docker bool) *imagetest.Image {
	return imagetest.Build(t, imagetest.Spec{
		Docker: docker,
		Layers: []imagetest.Layer{
			{Compression: c, Entries: []imagetest.Entry{
				imagetest.Dir("etc"), imagetest.File("etc/keep", "1"), imagetest.File("etc/gone", "2"),
				imagetest.Dir("old"), imagetest.File("old/a", "3"), imagetest.File("change", "before"),
			}},
			{Compression: c, Entries: []imagetest.Entry{
				imagetest.Whiteout("etc", "gone"), imagetest.Dir("old"), imagetest.File("old/.wh..wh..opq", ""),
				imagetest.File("old/b", "4"), imagetest.File("change", "after"), imagetest.Symlink("link", "/etc/keep"),
			}},
		},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{"/run"}, Cmd: []string{"x"}, Env: []string{"A=b"}, User: "app", WorkingDir: "/w",
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/v": {}},
			Labels: map[string]string{"l": "m"}, StopSignal: "SIGINT",
		},
	})
}

var twoLayersTree = []string{"change=after", "etc/", "etc/keep=1", "link->/etc/keep", "old/", "old/b=4"}

func TestImportedImagesAreComplete(t *testing.T) {
	for _, c := range []imagetest.Compression{imagetest.Plain, imagetest.Gzip, imagetest.Zstd} {
		for _, docker := range []bool{false, true} {
			for _, outer := range []imagetest.Compression{imagetest.Plain, imagetest.Gzip, imagetest.Zstd} {
				if outer != imagetest.Plain && c != imagetest.Gzip {
					continue // the archive's compression does not depend on the layers'
				}
				t.Run(fmt.Sprintf("layers=%s docker=%v archive=%s", c, docker, outer), func(t *testing.T) {
					t.Parallel()
					img := twoLayers(t, c, docker && c != imagetest.Zstd)
					named := imagetest.Named{Image: img, Names: []string{"a/b:1", "docker.io/library/c:latest"}}
					archive := imagetest.OCIArchive(t, named)
					if docker {
						archive = imagetest.DockerArchive(t, named)
					}
					s := open(t, "")
					got, err := s.Import(t.Context(), bytes.NewReader(imagetest.Compress(t, archive, outer)))
					if err != nil {
						t.Fatal(err)
					}
					if len(got) != 2 || got[0].Ref != "a/b:1" || got[1].Ref != "c:latest" {
						t.Fatalf("imported %+v", got)
					}
					one, err := s.Get(t.Context(), "c")
					if err != nil {
						t.Fatal(err)
					}
					if one.ID != img.Manifest.Config.Digest.String() {
						t.Errorf("ID %s, want the configuration's digest", one.ID)
					}
					if !docker && one.Digest != img.Digest() {
						t.Errorf("Digest %s, want %s", one.Digest, img.Digest())
					}
					cfg := one.Config
					if !slices.Equal(cfg.Entrypoint, []string{"/run"}) || !slices.Equal(cfg.ExposedPorts, []string{"53/udp", "80/tcp"}) ||
						cfg.User != "app" || cfg.StopSignal != "SIGINT" || cfg.Labels["l"] != "m" || !slices.Equal(cfg.Volumes, []string{"/v"}) {
						t.Errorf("config %+v", cfg)
					}
					dir := mount(t, prepare(t, s, "c", "k"))
					if tree := files(t, dir); !slices.Equal(tree, twoLayersTree) {
						t.Errorf("root file system %q, want %q", tree, twoLayersTree)
					}
				})
			}
		}
	}
}

func TestSampleRunsFromItsImage(t *testing.T) {
	s := open(t, "", func(o *image.Options) { o.SampleProgram = imagetest.SampleProgram(t) })
	for range 2 {
		if err := s.EnsureSample(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"longshore/sample", "longshore/sample:latest", "docker.io/longshore/sample"} {
		img, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: image.PullAlways})
		if err != nil {
			t.Fatalf("Pull(%s) of the imported image: %v", ref, err)
		}
		if !slices.Equal(img.Config.Entrypoint, []string{"/sample"}) || !slices.Equal(img.Config.ExposedPorts, []string{"80/tcp"}) {
			t.Errorf("config %+v", img.Config)
		}
	}
	dir := mount(t, prepare(t, s, "longshore/sample", "task-1"))
	cmd := exec.Command("/sample", "cat", "/etc/passwd")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "app:x:1000:1000") {
		t.Fatalf("/sample cat /etc/passwd: %v: %s", err, out)
	}
	if fi, err := os.Stat(filepath.Join(dir, "tmp")); err != nil || fi.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp: %v %v", fi.Mode(), err)
	}
}

func TestSampleIsImportedAgainOnlyWhenItChanged(t *testing.T) {
	dir := t.TempDir()
	ensure := func(program string) image.Image {
		s := open(t, dir, func(o *image.Options) { o.SampleProgram = []byte(program) })
		defer s.Close()
		if err := s.EnsureSample(t.Context()); err != nil {
			t.Fatal(err)
		}
		img, err := s.Get(t.Context(), "longshore/sample")
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	first, again, changed := ensure("one"), ensure("one"), ensure("two")
	if first.Digest != again.Digest || first.Digest == changed.Digest {
		t.Errorf("digests %s, %s, %s: want the first two alike and the third different", first.Digest, again.Digest, changed.Digest)
	}
}

func TestSampleNotBuilt(t *testing.T) {
	if _, err := sample.Program(); err == nil {
		t.Skip("the sample program is built in")
	}
	s := open(t, "")
	if err := s.EnsureSample(t.Context()); !errors.Is(err, sample.ErrNotBuilt) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("EnsureSample: %v, want a hint at make build", err)
	}
}

func TestPreparedRootsAreSeparateAndStay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	importNamed(t, s, twoLayers(t, imagetest.Gzip, false), "a")
	one, two := prepare(t, s, "a", "one"), prepare(t, s, "a", "two")
	if again := prepare(t, s, "a", "one"); !slices.Equal(again.Options, one.Options) {
		t.Errorf("the same key gave another mount: %v, %v", one, again)
	}
	if err := os.WriteFile(filepath.Join(mount(t, one), "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if tree := files(t, mount(t, two)); !slices.Equal(tree, twoLayersTree) {
		t.Errorf("what one wrote shows in two: %q", tree)
	}

	// The image goes, then the process; the root file systems stay.
	if err := s.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := s.Snapshots(t.Context())
	if err != nil || !slices.Equal(keys, []string{"one", "two"}) {
		t.Fatalf("Snapshots: %v %v", keys, err)
	}
	if again := prepare(t, s, "a", "two"); !slices.Equal(again.Options, two.Options) {
		t.Errorf("after a restart, the same key gave another mount: %v, %v", two, again)
	}
	if tree := files(t, mount(t, two)); !slices.Equal(tree, twoLayersTree) {
		t.Errorf("layers under a root file system were collected: %q", tree)
	}
	for _, key := range []string{"one", "two", "two", "never"} {
		if err := s.Release(t.Context(), key); err != nil {
			t.Errorf("Release(%s): %v", key, err)
		}
	}
	if _, err := s.Prepare(t.Context(), "a", "three"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("Prepare of a removed image: %v, want ErrNotFound", err)
	}
	assertEmpty(t, s, dir)
}

func importNamed(t testing.TB, s *image.Local, img *imagetest.Image, name string) {
	t.Helper()
	if _, err := s.Import(t.Context(), bytes.NewReader(imagetest.OCIArchive(t, imagetest.Named{Image: img, Names: []string{name}}))); err != nil {
		t.Fatalf("Import: %v", err)
	}
}

// assertEmpty collects and expects that nothing is left on disk.
func assertEmpty(t testing.TB, s *image.Local, dir string) {
	t.Helper()
	if err := s.Collect(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"content/blobs/sha256", "content/ingest", "layers/snapshots", "rootfs", "l"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("left behind: %s/%s", sub, e.Name())
		}
	}
}
