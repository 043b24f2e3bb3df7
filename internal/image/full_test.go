package image_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/disktest"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// smallExt4 mounts a small ext4 for the test's time.
func smallExt4(t testing.TB, megabytes, inodes int) string {
	t.Helper()
	dir := disktest.Ext4(t, megabytes, inodes)
	t.Cleanup(func() { unmountDisk(t, dir) })
	return dir
}

// fill leaves only this many bytes of dir's disk free.
func fill(t testing.TB, dir string, leave int64) (free func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 64<<10)
	for left := int64(fs.Bavail)*fs.Bsize - leave; left > 0; left -= int64(len(chunk)) {
		if _, err := f.Write(chunk[:min(left, int64(len(chunk)))]); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk: a pull onto a disk without space or inodes says so, leaves
// nothing, and works when there is room again.
func TestFullDisk(t *testing.T) {
	large := incompressible(8 << 20)
	var many []imagetest.Entry
	for i := range 3000 {
		many = append(many, imagetest.File(fmt.Sprint("f", i), "x"))
	}
	bytes := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{
		{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("large", large)}},
	}})
	files := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: many}}})
	tmpfs := func(options string) func(testing.TB) string {
		return func(t testing.TB) string { return smallDisk(t, options) }
	}
	ext4 := func(t testing.TB) string { return smallExt4(t, 64, 2000) }
	for name, tc := range map[string]struct {
		disk  func(testing.TB) string
		leave int64 // bytes
		img   *imagetest.Image
		doing string
		fits  bool // once there is room
	}{
		"while downloading, tmpfs":     {tmpfs("size=64m"), 2 << 20, bytes, "ref pull has been retried 1 time(s): failed to copy", true},
		"while downloading, ext4":      {ext4, 2 << 20, bytes, "ref pull has been retried 1 time(s): failed to copy", true},
		"while unpacking, tmpfs":       {tmpfs("size=64m"), 8 << 20, bytes, "failed to extract layer", true},
		"while unpacking, ext4":        {ext4, 8 << 20, bytes, "failed to extract layer", true},
		"without a byte left, ext4":    {ext4, 0, bytes, "", true},
		"without a byte left, tmpfs":   {tmpfs("size=64m"), 0, bytes, "", true},
		"without inodes left, tmpfs":   {tmpfs("size=64m,nr_inodes=2000"), 50 << 20, files, "failed to extract layer", false},
		"without inodes left, of ext4": {ext4, 50 << 20, files, "failed to extract layer", false},
	} {
		t.Run(strings.ReplaceAll(name, ",", ""), func(t *testing.T) {
			t.Parallel()
			dir := tc.disk(t)
			root := filepath.Join(dir, "images")
			// Without a reserve, so that the disk itself says no.
			s := open(t, root, func(o *image.Options) { o.Limits.KeepFree = -1 })
			reg := imagetest.NewRegistry(t)
			ref, other := reg.Push("a", "1", tc.img), reg.Push("b", "1", plainImage(t, "f", "x"))
			pull(t, s, other)
			free := fill(t, dir, tc.leave)
			for range 2 {
				_, err := s.Pull(t.Context(), ref, image.PullOptions{})
				if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), tc.doing) || errors.Is(err, image.ErrInvalid) {
					t.Fatalf("Pull: %v, want %q, no space left on device", err, tc.doing)
				}
			}
			if _, err := s.Get(t.Context(), ref); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("Get: %v, want ErrNotFound", err)
			}
			pull(t, s, other) // what is here serves on
			free()
			if err := s.Collect(t.Context()); err != nil {
				t.Errorf("Collect: %v", err)
			}
			if n := ingested(root); n > 0 {
				t.Errorf("%d bytes of the download are left", n)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			s = open(t, root) // which checks the databases page by page
			if tc.fits {
				pull(t, s, ref)
				if err := s.Remove(t.Context(), ref); err != nil {
					t.Error(err)
				}
			}
			if err := s.Remove(t.Context(), other); err != nil {
				t.Error(err)
			}
			assertEmpty(t, s, root)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBombsDoNotFillTheDisk: layers that unpack to more than the disk has, or are
// said to be larger, leave others their share of it.
func TestBombsDoNotFillTheDisk(t *testing.T) {
	dir := smallDisk(t, "size=64m")
	s := open(t, dir)
	reg := imagetest.NewRegistry(t)
	zeros := strings.Repeat("\x00", 70<<20)
	for name, img := range map[string]*imagetest.Image{
		"gzip":   imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("f", zeros)}}}}),
		"zstd":   imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Zstd, Entries: []imagetest.Entry{imagetest.File("f", zeros)}}}}),
		"claims": imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Entries: []imagetest.Entry{{Name: "f", Size: 1 << 30}}}}}),
		"large": imagetest.Build(t, imagetest.Spec{
			Layers: []imagetest.Layer{{Entries: []imagetest.Entry{imagetest.File("f", "x")}}},
			Change: func(m *ocispec.Manifest) { m.Layers[0].Size = 63 << 20 },
		}),
	} {
		var least atomic.Int64
		least.Store(100 << 20)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				var fs unix.Statfs_t
				if err := unix.Statfs(dir, &fs); err == nil {
					least.Store(min(least.Load(), int64(fs.Bavail)*fs.Bsize))
				}
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		_, err := s.Pull(t.Context(), reg.Push(name, "1", img), image.PullOptions{})
		close(stop)
		<-stopped
		if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "5% of the disk stay free") {
			t.Errorf("%s: %v, want no space left on device", name, err)
		}
		if least.Load() < 2<<20 {
			t.Errorf("%s: only %d bytes were left to others", name, least.Load())
		}
		assertEmpty(t, s, dir)
	}
}
