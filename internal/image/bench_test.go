package image_test

import (
	"fmt"
	"testing"

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

func BenchmarkPullAndUnpack(b *testing.B) {
	reg := imagetest.NewRegistry(b)
	img := fiveMB(b)
	ref := reg.Push("a", "1", img)
	var size int64
	for _, l := range img.Manifest.Layers {
		size += l.Size
	}
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		s := open(b, "")
		b.StartTimer()
		pull(b, s, ref)
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
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
