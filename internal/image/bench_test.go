package image_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// fiveMB is an image of 5 MB (compressed) in three layers of many files.
func fiveMB(b *testing.B) *imagetest.Image {
	text := incompressible(3_600_000)
	var layers []imagetest.Layer
	for l := range 3 {
		var e []imagetest.Entry
		for i := range 100 {
			e = append(e, imagetest.File(fmt.Sprintf("d/%d-%d", l, i), text[i*36_000:(i+1)*36_000]))
		}
		layers = append(layers, imagetest.Layer{Compression: imagetest.Gzip, Entries: e})
	}
	return imagetest.Build(b, imagetest.Spec{Layers: layers})
}

// halfGB is an image whose files have 500 MB, and half of that compressed.
func halfGB(b *testing.B) *imagetest.Image {
	random := rand.NewChaCha8([32]byte{5})
	body := make([]byte, 1<<20)
	var layers []imagetest.Layer
	for l := range 4 {
		var e []imagetest.Entry
		for i := range 125 {
			_, _ = random.Read(body)
			for j := range body {
				body[j] = 'a' + body[j]&15
			}
			e = append(e, imagetest.File(fmt.Sprintf("d%d/%d", l, i), string(body)))
		}
		layers = append(layers, imagetest.Layer{Compression: imagetest.Gzip, Entries: e})
	}
	return imagetest.Build(b, imagetest.Spec{Layers: layers})
}

// cpu is what this process and its children have used.
func cpu() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// BenchmarkPullAndUnpack has its floor beside it: tar's -xz of the same layers,
// whose files are then forced to disk.
func BenchmarkPullAndUnpack(b *testing.B) {
	b.Run("5MB", func(b *testing.B) { benchPull(b, fiveMB(b)) })
	b.Run("5MB/tar", func(b *testing.B) { benchTar(b, fiveMB(b)) })
	if os.Getenv("LONGSHORE_SOAK") == "" {
		b.Log("set LONGSHORE_SOAK=1 for the image of 500 MB")
		return
	}
	large := halfGB(b)
	b.Run("500MB", func(b *testing.B) { benchPull(b, large) })
	b.Run("500MB/tar", func(b *testing.B) { benchTar(b, large) })
}

func benchTar(b *testing.B, img *imagetest.Image) {
	from := b.TempDir()
	for i, l := range img.Manifest.Layers {
		if err := os.WriteFile(filepath.Join(from, fmt.Sprint(i)), img.Blobs[l.Digest], 0o600); err != nil {
			b.Fatal(err)
		}
	}
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		to := b.TempDir()
		began := cpu()
		b.StartTimer()
		for i := range img.Manifest.Layers {
			if out, err := exec.Command("tar", "-xzf", filepath.Join(from, fmt.Sprint(i)), "-C", to).CombinedOutput(); err != nil {
				b.Fatalf("tar: %v: %s", err, out)
			}
		}
		dir, err := os.Open(to)
		if err == nil {
			err = unix.Syncfs(int(dir.Fd()))
			dir.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		used += cpu() - began
		_ = os.RemoveAll(to)
		b.StartTimer()
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
}

func benchPull(b *testing.B, img *imagetest.Image) {
	reg := imagetest.NewRegistry(b)
	ref := reg.Push("a", "1", img)
	var used time.Duration
	var size int64
	for _, l := range img.Manifest.Layers {
		size += l.Size
	}
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		s := open(b, dir)
		began := cpu()
		b.StartTimer()
		pull(b, s, ref)
		b.StopTimer()
		used += cpu() - began
		s.Close()
		_ = os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
}

func BenchmarkWarmPull(b *testing.B) {
	reg := imagetest.NewRegistry(b)
	ref := reg.Push("a", "1", fiveMB(b))
	s := open(b, "")
	pull(b, s, ref)
	for b.Loop() {
		pull(b, s, ref)
	}
}

func BenchmarkPrepareAndRelease(b *testing.B) {
	reg := imagetest.NewRegistry(b)
	ref := reg.Push("a", "1", fiveMB(b))
	s := open(b, "")
	pull(b, s, ref)
	i := 0
	for b.Loop() {
		i++
		key := fmt.Sprint("k", i)
		prepare(b, s, ref, key)
		if err := s.Release(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnsureSampleWarm(b *testing.B) {
	s := open(b, "", func(o *image.Options) { o.SampleProgram = imagetest.SampleProgram(b) })
	for b.Loop() {
		if err := s.EnsureSample(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	reg := imagetest.NewRegistry(b)
	ref := reg.Push("a", "1", fiveMB(b))
	dir := b.TempDir()
	s := open(b, dir)
	pull(b, s, ref)
	s.Close()
	for b.Loop() {
		s, err := image.Open(image.Options{Root: dir})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
