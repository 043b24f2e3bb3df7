package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// TestMain doubles as the process that is killed in the middle of a pull.
func TestMain(m *testing.M) {
	if root := os.Getenv("IMAGE_TEST_PULL_ROOT"); root != "" {
		s, err := image.Open(image.Options{Root: root})
		if err == nil {
			_, err = s.Pull(context.Background(), os.Getenv("IMAGE_TEST_PULL_REF"), image.PullOptions{})
		}
		fmt.Println("pulled:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestPullGoesOnAfterKill(t *testing.T) {
	reg, ref, stalled, _, stall := stallingRegistry(t)
	dir := t.TempDir()
	open(t, dir).Close() // skips when not root

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "IMAGE_TEST_PULL_ROOT="+dir, "IMAGE_TEST_PULL_REF="+ref)
	var output bytes.Buffer
	child.Stdout, child.Stderr = &output, &output
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stalled:
	case <-time.After(30 * time.Second):
		t.Error("the child did not get to the layer")
	}
	waitFor(t, "half of the layer on disk", func() bool { return ingested(dir) > 100_000 })
	_ = child.Process.Kill()
	_ = child.Wait()

	stall.Store(false)
	var ranges atomic.Int64
	fault := reg.Fault
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		return fault(w, r)
	}
	s := open(t, dir)
	if err := s.Collect(t.Context()); err != nil { // must not take the partial content
		t.Fatal(err)
	}
	img := pull(t, s, ref)
	if ranges.Load() == 0 {
		t.Errorf("the download began anew instead of continuing; child: %s", output.String())
	}
	if tree := files(t, mount(t, prepare(t, s, ref, "k"))); len(tree) != 1 || img.Size < 1<<20 {
		t.Errorf("%d files, %d bytes", len(tree), img.Size)
	}
	if err := errors.Join(s.Release(t.Context(), "k"), s.Remove(t.Context(), ref)); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, s, dir)
}

// TestHalfUnpackedLayersAreNeverUsed kills the process that unpacks, and looks for
// what it was at.
func TestHalfUnpackedLayersAreNeverUsed(t *testing.T) {
	var entries []imagetest.Entry
	var want []string
	for i := range 6_000 {
		entries = append(entries, imagetest.File(fmt.Sprintf("f%05d", i), "x"))
		want = append(want, fmt.Sprintf("f%05d=x", i))
	}
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("many", "1", imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: entries}}}))
	dir := t.TempDir()
	open(t, dir).Close() // skips when not root

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "IMAGE_TEST_PULL_ROOT="+dir, "IMAGE_TEST_PULL_REF="+ref)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	unpacked := func() int {
		found, _ := filepath.Glob(filepath.Join(dir, "layers/snapshots/*/fs/f*"))
		return len(found)
	}
	waitFor(t, "a part of the layer", func() bool { return unpacked() > 300 })
	_ = child.Process.Kill()
	_ = child.Wait()
	if n := unpacked(); n >= len(want) {
		t.Logf("all %d files were there before the kill: the test shows little", n)
	}

	s := open(t, dir)
	if _, err := s.Prepare(t.Context(), ref, "k"); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("Prepare: %v, want ErrNotFound", err)
	}
	pull(t, s, ref)
	if tree := files(t, mount(t, prepare(t, s, ref, "k"))); !slices.Equal(tree, want) {
		t.Errorf("%d files, want %d", len(tree), len(want))
	}
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "layers/snapshots")); err != nil || len(left) != 2 { // the layer and its pin
		t.Errorf("%d snapshots are left (%v), want 2", len(left), err)
	}
	if err := errors.Join(s.Release(t.Context(), "k"), s.Remove(t.Context(), ref)); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, s, dir)
}

// ingested is how many bytes of unfinished downloads are on disk.
func ingested(dir string) (n int64) {
	names, _ := filepath.Glob(filepath.Join(dir, "content/ingest/*/data"))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestRebootTrustsOnlyWhatIsRecorded: layers of an unfinished pull may be torn by a
// power loss, and are unpacked anew after a reboot; images stay.
func TestRebootTrustsOnlyWhatIsRecorded(t *testing.T) {
	for _, reboot := range []bool{true, false} {
		reg := imagetest.NewRegistry(t)
		base := imagetest.Layer{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("base", "x")}}
		top := imagetest.Layer{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("top", incompressible(100_000))}}
		img := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{base, top}})
		whole, part := reg.Push("whole", "1", plainImage(t, "f", "x")), reg.Push("part", "1", img)
		refuse := true
		reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if refuse && strings.HasSuffix(r.URL.Path, img.Manifest.Layers[1].Digest.String()) {
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			return false
		}
		dir := t.TempDir()
		s := open(t, dir)
		pull(t, s, whole)
		if _, err := s.Pull(t.Context(), part, image.PullOptions{}); !errors.Is(err, image.ErrUnavailable) {
			t.Fatalf("Pull: %v", err)
		}
		s.Close()
		if reboot {
			if err := os.WriteFile(filepath.Join(dir, "boot"), []byte("another\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, dir)
		layers, err := os.ReadDir(filepath.Join(dir, "layers/snapshots"))
		if want := map[bool]int{true: 1, false: 2}[reboot]; err != nil || len(layers) != want {
			t.Errorf("reboot %v: %d layers are unpacked, want %d", reboot, len(layers), want)
		}
		if _, err := s.Get(t.Context(), whole); err != nil {
			t.Errorf("reboot %v: the image that was whole: %v", reboot, err)
		}
		prepare(t, s, whole, "k")
		refuse = false
		pull(t, s, part)
	}
}

func TestAbandonedContentExpires(t *testing.T) {
	_, ref, stalled, _, _ := stallingRegistry(t)
	dir := t.TempDir()
	then := time.Now().Add(-25 * time.Hour)
	s := open(t, dir, func(o *image.Options) { o.Now = func() time.Time { return then } })
	done := make(chan error, 1)
	go func() {
		_, err := s.Pull(t.Context(), ref, image.PullOptions{})
		done <- err
	}()
	<-stalled
	waitFor(t, "a part of the layer on disk", func() bool { return ingested(dir) > 0 })
	if err := s.Close(); err != nil {
		t.Errorf("Close during a pull: %v", err)
	}
	if err := <-done; err == nil {
		t.Error("the pull succeeded")
	}
	if ingested(dir) == 0 {
		t.Fatal("nothing was left behind: the test shows nothing")
	}
	assertEmpty(t, open(t, dir), dir)
}

func TestHalfMadeRootsAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	importNamed(t, s, plainImage(t, "f", "x"), "a")
	prepare(t, s, "a", "whole")
	s.Close()
	for _, d := range []string{".old-8/fs/data", "torn/fs"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	if keys, err := s.Snapshots(t.Context()); err != nil || !slices.Equal(keys, []string{"whole"}) {
		t.Errorf("Snapshots: %v %v", keys, err)
	}
	prepare(t, s, "a", "torn")
	if err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "rootfs"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v, want whole and torn only", entries, err)
	}
}

func TestOpenTellsOfDamage(t *testing.T) {
	for _, file := range []string{"metadata.db", "layers/metadata.db"} {
		for name, damage := range map[string]func(data []byte) []byte{
			"noise":  func(data []byte) []byte { return bytes.Repeat([]byte("x"), len(data)) },
			"zeros":  func(data []byte) []byte { return make([]byte, len(data)) },
			"short":  func(data []byte) []byte { return data[:len(data)/2] },
			"a page": func(data []byte) []byte { return damagePages(data) },
		} {
			t.Run(file+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				importNamed(t, s, plainImage(t, "f", "x"), "a")
				s.Close()
				path := filepath.Join(dir, file)
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
				if s, err = image.Open(image.Options{Root: dir}); err == nil {
					s.Close()
					t.Fatal("a damaged store was opened")
				}
				if !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), "remove the image directory") {
					t.Errorf("Open: %v, want what is damaged and what to do", err)
				}
			})
		}
	}
}

// damagePages overwrites all but the two meta pages.
func damagePages(data []byte) []byte {
	page := os.Getpagesize()
	for i := 2 * page; i < len(data); i++ {
		data[i] ^= 0x5a
	}
	return data
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	lower, upper := t.TempDir(), t.TempDir()
	onOverlay := t.TempDir()
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/u,workdir=%s/w", lower, upper, upper)
	if err := errors.Join(os.Mkdir(upper+"/u", 0o700), os.Mkdir(upper+"/w", 0o700),
		unix.Mount("overlay", onOverlay, "overlay", 0, options)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(onOverlay, 0)
	for _, tc := range []struct{ root, platform, text string }{
		{dir, "", "in use by another process"},
		{"relative", "", "not an absolute path"},
		{"/tmp/a,b", "", "comma"},
		{filepath.Join(onOverlay, "x"), "", "overlayfs does not work in"},
		{t.TempDir(), "linux/", "platform"},
		{"/proc/x", "", "open image store"},
	} {
		s, err := image.Open(image.Options{Root: tc.root, Platform: tc.platform})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("Open(%s): %v, want %s", tc.root, err, tc.text)
		}
	}
}

func TestClosedStoreAnswersWithErrors(t *testing.T) {
	s := open(t, "")
	importNamed(t, s, plainImage(t, "f", "x"), "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), "127.0.0.1:1/b", image.PullOptions{}); err == nil {
		t.Error("Pull succeeded")
	}
	if _, err := s.Get(t.Context(), "a"); err == nil {
		t.Error("Get succeeded")
	}
	if _, err := s.Prepare(t.Context(), "a", "k"); err == nil {
		t.Error("Prepare succeeded")
	}
}

// TestLayerOfAKilledUnpackIsNoObstacle: the process was killed after it had put a
// layer in its place and before that was recorded; the next layers get the same names.
func TestLayerOfAKilledUnpackIsNoObstacle(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1", "2", "3", "4", "new-123"} {
		if err := os.MkdirAll(filepath.Join(dir, "layers", "snapshots", name, "fs", "half"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("team/app", "v1", twoLayers(t, imagetest.Gzip, false))
	pull(t, open(t, dir), ref, image.PullOptions{})
}
