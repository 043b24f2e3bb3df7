package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// TestLayersCannotReachOutside unpacks archives that try to write, link or delete
// outside of their root, and looks for traces around it.
func TestLayersCannotReachOutside(t *testing.T) {
	s := open(t, "")
	victimDir := t.TempDir()
	victim := filepath.Join(victimDir, "victim")
	up := strings.Repeat("../", 20)
	for name, entries := range map[string][]imagetest.Entry{
		"dot dot":              {imagetest.File(up+victim[1:], "evil")},
		"absolute":             {imagetest.File(victim, "evil")},
		"through a symlink":    {imagetest.Symlink("out", victimDir), imagetest.File("out/victim", "evil")},
		"through two":          {imagetest.Symlink("a", "b"), imagetest.Symlink("b", up+victimDir[1:]), imagetest.File("a/victim", "evil")},
		"over a symlink":       {imagetest.Symlink("out", victim), imagetest.File("out", "evil")},
		"hard link":            {imagetest.Hardlink("out", victim), imagetest.File("out", "evil")},
		"hard link dot dot":    {imagetest.Hardlink("out", up+victim[1:]), imagetest.File("out", "evil")},
		"hard link by symlink": {imagetest.Symlink("s", victimDir), imagetest.Hardlink("out", "s/victim"), imagetest.File("out", "evil")},
		"whiteout":             {imagetest.Symlink("out", victimDir), imagetest.Whiteout("out", "victim")},
		"whiteout dot dot":     {imagetest.Whiteout(up+victimDir[1:], "victim")},
		"whiteout of ..":       {imagetest.Dir("d"), imagetest.File("d/.wh...", "")},
		"opaque":               {imagetest.Symlink("out", victimDir), imagetest.File("out/.wh..wh..opq", "")},
		"chmod by symlink":     {imagetest.Symlink("out", victim), {Name: "out/", Type: tar.TypeDir, Mode: 0o777}},
	} {
		for _, layers := range [][]imagetest.Layer{
			{{Entries: entries}},
			{{Entries: []imagetest.Entry{imagetest.File("base", "x")}}, {Entries: entries}},
			// The links in one layer, their use in the next.
			{{Entries: entries[:len(entries)-1]}, {Entries: entries[len(entries)-1:]}},
		} {
			t.Run(fmt.Sprintf("%s/%d", name, len(layers)), func(t *testing.T) {
				if err := os.WriteFile(victim, []byte("innocent"), 0o600); err != nil {
					t.Fatal(err)
				}
				img := imagetest.Build(t, imagetest.Spec{Layers: layers})
				// Refusing and confining are both fine.
				_, err := s.Import(t.Context(), bytes.NewReader(imagetest.OCIArchive(t, imagetest.Named{Image: img, Names: []string{"a"}})))
				if err != nil && !errors.Is(err, image.ErrInvalid) {
					t.Errorf("Import: %v, want success or ErrInvalid", err)
				}
				got, readErr := os.ReadFile(victim)
				info, statErr := os.Stat(victim)
				if readErr != nil || statErr != nil || string(got) != "innocent" || info.Mode() != 0o600 {
					t.Fatalf("the file outside is %q %v (%v); Import: %v", got, info, readErr, err)
				}
				if entries, _ := os.ReadDir(victimDir); len(entries) != 1 {
					t.Fatalf("something appeared outside: %v", entries)
				}
			})
		}
	}
}

func TestLayersKeepOwnersModesAndDevices(t *testing.T) {
	s := open(t, "")
	img := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: []imagetest.Entry{
		{Name: "suid", Body: "x", Mode: 0o4755, UID: 1000, GID: 1001},
		{Name: "null", Type: tar.TypeChar, Major: 1, Minor: 3, Mode: 0o666},
		{Name: "fifo", Type: tar.TypeFifo, Mode: 0o600},
		{Name: "cap", Body: "x", PAX: map[string]string{"SCHILY.xattr.user.note": "kept"}},
		imagetest.File("one", "linked"), imagetest.Hardlink("two", "one"),
	}}}})
	importNamed(t, s, img, "a")
	dir := mount(t, prepare(t, s, "a", "k"))
	want := []string{"cap=x", "fifo p---------", "null Dc---------", "one=linked", "suid=x", "two=linked"}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("root file system %q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, "suid"))
	if err != nil || info.Mode() != os.ModeSetuid|0o755 {
		t.Errorf("suid: %v %v", info.Mode(), err)
	}
	if uid, gid := owner(info); uid != 1000 || gid != 1001 {
		t.Errorf("owner %d:%d, want 1000:1001", uid, gid)
	}
	if v := xattr(t, filepath.Join(dir, "cap"), "user.note"); v != "kept" {
		t.Errorf("extended attribute %q, want kept", v)
	}
}

func TestOversizedImagesAreRefused(t *testing.T) {
	small := image.Limits{
		ManifestBytes: 4096, ConfigBytes: 2048, Layers: 3, IndexEntries: 3, LayerBytes: 100_000,
		UnpackedBytes: 1 << 20, Files: 10, ArchiveBytes: 1 << 20, ArchiveFiles: 20,
	}
	zeros := strings.Repeat("\x00", 2<<20)
	layer := func(e ...imagetest.Entry) imagetest.Layer {
		return imagetest.Layer{Compression: imagetest.Gzip, Entries: e}
	}
	many := func(n int) (e []imagetest.Entry) {
		for i := range n {
			e = append(e, imagetest.File(fmt.Sprint("f", i), ""))
		}
		return e
	}
	spec := func(layers ...imagetest.Layer) imagetest.Spec { return imagetest.Spec{Layers: layers} }
	one := spec(layer(imagetest.File("f", "x")))
	with := func(change func(*imagetest.Spec)) *imagetest.Image {
		s := one
		change(&s)
		return imagetest.Build(t, s)
	}
	for name, tc := range map[string]struct {
		img  *imagetest.Image
		text string
	}{
		"bomb":          {imagetest.Build(t, spec(layer(imagetest.File("f", zeros)))), "unpacks to more than 1048576 bytes"},
		"zstd bomb":     {imagetest.Build(t, spec(imagetest.Layer{Compression: imagetest.Zstd, Entries: []imagetest.Entry{imagetest.File("f", zeros)}})), "unpacks to more than 1048576 bytes"},
		"claimed size":  {imagetest.Build(t, spec(layer(imagetest.Entry{Name: "f", Size: 1 << 50}))), "unpacks to more than"},
		"files":         {imagetest.Build(t, spec(layer(many(11)...))), "more than 10 files"},
		"layers":        {imagetest.Build(t, spec(layer(), layer(), layer(), layer())), "has 4 layers"},
		"layer size":    {imagetest.Build(t, spec(layer(imagetest.File("f", incompressible(200_000))))), "at most 100000 are supported"},
		"configuration": {with(func(s *imagetest.Spec) { s.Config.Env = []string{strings.Repeat("x", 4096)} }), "at most 2048 are read"},
		"manifest": {with(func(s *imagetest.Spec) {
			s.Change = func(m *ocispec.Manifest) { m.Annotations = map[string]string{"a": strings.Repeat("x", 8192)} }
		}), "at most 4096 are read"},
		"negative layer": {with(func(s *imagetest.Spec) { s.Change = func(m *ocispec.Manifest) { m.Layers[0].Size = -1 } }), "claims to have -1 bytes"},
		"bad digest": {with(func(s *imagetest.Spec) {
			s.Change = func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:../../x" }
		}), "sha256:../../x"},
		"bad diff id": {with(func(s *imagetest.Spec) {
			s.ChangeConfig = func(c *ocispec.Image) { c.RootFS.DiffIDs = []digest.Digest{"x"} }
		}), `lists the layer "x"`},
		"diff ids":   {with(func(s *imagetest.Spec) { s.ChangeConfig = func(c *ocispec.Image) { c.RootFS.DiffIDs = nil } }), "1 layers and its configuration 0"},
		"layer type": {with(func(s *imagetest.Spec) { s.Layers[0].MediaType = "application/x-other" }), `unsupported type "application/x-other"`},
		"not an image": {with(func(s *imagetest.Spec) {
			s.Layers[0].MediaType = ""
			s.Change = func(m *ocispec.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }
		}), "is not a container image"},
		"index entries":   {imagetest.Index(t, false, with(func(*imagetest.Spec) {}), with(func(*imagetest.Spec) {}), with(func(*imagetest.Spec) {}), with(func(*imagetest.Spec) {})), "lists 4 manifests"},
		"index of itself": {nested(t, 5), "indexes deep"},
		"ambiguous":       {raw(t, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[],"manifests":[]}`), "both an index and a manifest"},
		"schema 1":        {raw(t, `{"schemaVersion":1,"mediaType":"application/vnd.oci.image.manifest.v1+json","fsLayers":[]}`), "schema version 1"},
		"nothing":         {raw(t, `{}`), "neither an index nor a manifest"},
		"not JSON":        {raw(t, `<html>`), "not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := imagetest.NewRegistry(t)
			ref := reg.Push("a", "1", tc.img)
			dir := t.TempDir()
			s := open(t, dir, func(o *image.Options) { o.Limits = small })
			_, err := s.Pull(t.Context(), ref, image.PullOptions{})
			if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Pull: %v\nwant ErrInvalid: %s", err, tc.text)
			}
			assertEmpty(t, s, dir)
		})
	}
}

// nested is an index in an index …, depth levels deep.
func nested(t testing.TB, depth int) *imagetest.Image {
	img := plainImage(t, "f", "x")
	for range depth {
		img.Descriptor.Platform = nil
		img = imagetest.Index(t, false, img)
	}
	return img
}

// raw is a manifest of any text.
func raw(t testing.TB, text string) *imagetest.Image {
	t.Helper()
	d := digest.FromBytes([]byte(text))
	return &imagetest.Image{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(text))},
		Blobs:      map[digest.Digest][]byte{d: []byte(text)},
	}
}

// TestTrailingDataIsBounded: a layer's digest covers what follows the tar's end,
// so that has to be read, but not for ever.
func TestTrailingDataIsBounded(t *testing.T) {
	plain := append(imagetest.Tar(t, imagetest.File("f", "x")), make([]byte, 2<<20)...)
	img := plainImage(t, "f", "x")
	packed := imagetest.Compress(t, plain, imagetest.Gzip)
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(packed), Size: int64(len(packed))}
	config, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	if err != nil {
		t.Fatal(err)
	}
	m := img.Manifest
	m.Layers = []ocispec.Descriptor{layer}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	bomb := raw(t, string(text))
	bomb.Blobs[layer.Digest], bomb.Blobs[m.Config.Digest] = packed, config
	reg := imagetest.NewRegistry(t)
	ref := reg.Push("a", "1", bomb)
	s := open(t, "", func(o *image.Options) { o.Limits.UnpackedBytes = 1 << 20 })
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, image.ErrInvalid) {
		t.Errorf("Pull: %v, want ErrInvalid", err)
	}
	s = open(t, "")
	pull(t, s, ref) // harmless padding is fine
}

func TestWrongDiffIDIsRefused(t *testing.T) {
	img := imagetest.Build(t, imagetest.Spec{
		Layers: []imagetest.Layer{{Entries: []imagetest.Entry{imagetest.File("f", "x")}}},
		ChangeConfig: func(c *ocispec.Image) {
			c.RootFS.DiffIDs = []digest.Digest{digest.FromBytes([]byte("another"))}
		},
	})
	reg := imagetest.NewRegistry(t)
	if _, err := open(t, "").Pull(t.Context(), reg.Push("a", "1", img), image.PullOptions{}); !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("Pull: %v, want ErrCorrupt", err)
	}
}

func TestBrokenArchivesAreRefused(t *testing.T) {
	whole := imagetest.OCIArchive(t, imagetest.Named{Image: plainImage(t, "f", incompressible(10_000)), Names: []string{"a"}})
	var many []imagetest.Entry
	for i := range 50 {
		many = append(many, imagetest.File(fmt.Sprint("f", i), ""))
	}
	for name, tc := range map[string]struct {
		archive []byte
		text    string
	}{
		"empty":        {nil, "unrecognized image format"},
		"noise":        {[]byte(incompressible(5000)), "not a tar archive"},
		"cut":          {whole[:len(whole)/2], ""},
		"cut gzip":     {imagetest.Compress(t, whole, imagetest.Gzip)[:5000], ""},
		"no image":     {imagetest.Tar(t, imagetest.File("a", "b")), "unrecognized image format"},
		"many files":   {imagetest.Tar(t, many...), "more than 20 files"},
		"large":        {imagetest.Tar(t, imagetest.File("a", strings.Repeat("x", 2<<20))), "more than 1048576 bytes"},
		"no name":      {imagetest.OCIArchive(t, imagetest.Named{Image: plainImage(t, "f", "x")}), "names no image"},
		"bad name":     {imagetest.OCIArchive(t, imagetest.Named{Image: plainImage(t, "f", "x"), Names: []string{"../../UP"}}), "invalid reference format"},
		"lacks a blob": {imagetest.Tar(t, imagetest.File("manifest.json", `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l"]}]`)), `"c.json" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir, func(o *image.Options) { o.Limits.ArchiveFiles, o.Limits.ArchiveBytes = 20, 1<<20 })
			_, err := s.Import(t.Context(), bytes.NewReader(tc.archive))
			if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Import: %v\nwant ErrInvalid: %s", err, tc.text)
			}
			if list, err := s.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("List: %v %v, want none", list, err)
			}
			assertEmpty(t, s, dir)
		})
	}
}

func TestArchiveOfSeveralPlatforms(t *testing.T) {
	other := imagetest.Build(t, imagetest.Spec{Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	ours := plainImage(t, "f", "ours")
	index := imagetest.Index(t, false, other, ours)
	s := open(t, "")
	importNamed(t, s, index, "a")
	img, err := s.Get(t.Context(), "a")
	if err != nil || img.ID != ours.Manifest.Config.Digest.String() || img.Digest != index.Digest() {
		t.Errorf("Get: %+v %v", img, err)
	}
	// Only another platform's image is in the archive, although the index lists ours.
	for d := range ours.Blobs {
		delete(index.Blobs, d)
	}
	s = open(t, "")
	_, err = s.Import(t.Context(), bytes.NewReader(imagetest.OCIArchive(t, imagetest.Named{Image: index, Names: []string{"b"}})))
	if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "lacks a part") {
		t.Errorf("Import: %v, want ErrInvalid: lacks a part", err)
	}
}

func TestPrepareChecksItsKey(t *testing.T) {
	s := open(t, "")
	importNamed(t, s, plainImage(t, "f", "x"), "a")
	for _, key := range []string{"", ".", "..", "a/b", "../x", ".new-1", strings.Repeat("k", 129), "a\x00b", "a:b"} {
		if m, err := s.Prepare(t.Context(), "a", key); err == nil {
			t.Errorf("Prepare(%q) = %v, want an error", key, m)
		}
		if err := s.Release(t.Context(), key); err == nil {
			t.Errorf("Release(%q) succeeded", key)
		}
	}
}

func TestImageWithoutLayers(t *testing.T) {
	s := open(t, "")
	importNamed(t, s, imagetest.Build(t, imagetest.Spec{}), "empty")
	dir := mount(t, prepare(t, s, "empty", "k"))
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := prepare(t, s, "empty", "k"); again.Type != "bind" || len(files(t, again.Source)) != 1 {
		t.Errorf("the same key gave another root: %+v", again)
	}
}

func TestManyLayersInADeepDirectory(t *testing.T) {
	var layers []imagetest.Layer
	var want []string
	for i := range 110 {
		layers = append(layers, imagetest.Layer{Entries: []imagetest.Entry{imagetest.File(fmt.Sprintf("f%03d", i), fmt.Sprint(i))}})
		want = append(want, fmt.Sprintf("f%03d=%d", i, i))
	}
	dir, err := os.MkdirTemp("", "ls-") // t.TempDir's is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := open(t, dir)
	importNamed(t, s, imagetest.Build(t, imagetest.Spec{Layers: layers}), "deep")
	if got := files(t, mount(t, prepare(t, s, "deep", "k"))); !slices.Equal(got, want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	if err := errors.Join(s.Release(t.Context(), "k"), s.Remove(t.Context(), "deep")); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, s, dir)

	long := filepath.Join(t.TempDir(), strings.Repeat("d", 60))
	s = open(t, long)
	importNamed(t, s, imagetest.Build(t, imagetest.Spec{Layers: layers[:40]}), "deep")
	if _, err := s.Prepare(t.Context(), "deep", "k"); err == nil || !strings.Contains(err.Error(), "shorter path") {
		t.Errorf("Prepare: %v, want advice to choose a shorter path", err)
	}
}
