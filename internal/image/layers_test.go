package image_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/image/imagetest"
)

// over builds an image of two layers, the lower with a few files.
func over(t testing.TB, upper ...imagetest.Entry) *imagetest.Image {
	return imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{
		{Compression: imagetest.Gzip, Entries: []imagetest.Entry{
			imagetest.Dir("d"), imagetest.File("d/a", "1"), imagetest.File("d/b", "2"), imagetest.File("e", "3"),
		}},
		{Compression: imagetest.Gzip, Entries: upper},
	}})
}

// TestWhiteouts: what a layer takes away is gone, and only that.
func TestWhiteouts(t *testing.T) {
	for name, tc := range map[string]struct {
		upper []imagetest.Entry
		want  []string
	}{
		"a file":                    {[]imagetest.Entry{imagetest.Whiteout("d", "a")}, []string{"d/", "d/b=2", "e=3"}},
		"a directory":               {[]imagetest.Entry{imagetest.File(".wh.d", "")}, []string{"e=3"}},
		"nothing":                   {[]imagetest.Entry{imagetest.Whiteout("d", "none")}, []string{"d/", "d/a=1", "d/b=2", "e=3"}},
		"opaque first":              {[]imagetest.Entry{imagetest.Dir("d"), imagetest.File("d/.wh..wh..opq", ""), imagetest.File("d/c", "4")}, []string{"d/", "d/c=4", "e=3"}},
		"opaque last":               {[]imagetest.Entry{imagetest.Dir("d"), imagetest.File("d/c", "4"), imagetest.File("d/.wh..wh..opq", "")}, []string{"d/", "d/c=4", "e=3"}},
		"and put back":              {[]imagetest.Entry{imagetest.Whiteout("d", "a"), imagetest.File("d/a", "new")}, []string{"d/", "d/a=new", "d/b=2", "e=3"}},
		"a directory replaced":      {[]imagetest.Entry{imagetest.File("d", "file now")}, []string{"d=file now", "e=3"}},
		"a file replaced":           {[]imagetest.Entry{imagetest.Dir("e"), imagetest.File("e/x", "5")}, []string{"d/", "d/a=1", "d/b=2", "e/", "e/x=5"}},
		"a directory by a symlink":  {[]imagetest.Entry{imagetest.Symlink("d", "/etc")}, []string{"d->/etc", "e=3"}},
		"duplicates":                {[]imagetest.Entry{imagetest.File("e", "x"), imagetest.File("e", "y"), imagetest.Dir("e"), imagetest.File("e", "z")}, []string{"d/", "d/a=1", "d/b=2", "e=z"}},
		"an implied parent":         {[]imagetest.Entry{imagetest.File("d/sub/x", "6")}, []string{"d/", "d/a=1", "d/b=2", "d/sub/", "d/sub/x=6", "e=3"}},
		"a hard link to its parent": {[]imagetest.Entry{imagetest.File("f", "7"), imagetest.Hardlink("g", "f")}, []string{"d/", "d/a=1", "d/b=2", "e=3", "f=7", "g=7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "")
			importNamed(t, s, over(t, tc.upper...), "a")
			if got := files(t, mount(t, prepare(t, s, "a", "k"))); !slices.Equal(got, tc.want) {
				t.Errorf("root file system %q, want %q", got, tc.want)
			}
		})
	}
}

// TestLayersOddNames: names that a layer may hold are kept as they are, and those
// that no file system takes are the image's fault.
func TestLayersOddNames(t *testing.T) {
	deep := strings.Repeat("d/", 300)
	for name, tc := range map[string]struct {
		entry imagetest.Entry
		ok    bool
	}{
		"newline":           {imagetest.File("a\nb", "x"), true},
		"not UTF-8":         {imagetest.File("a\xff\xfeb", "x"), true},
		"escape":            {imagetest.File("\x1b[31m", "x"), true},
		"255 bytes":         {imagetest.File(strings.Repeat("n", 255), "x"), true},
		"256 bytes":         {imagetest.File(strings.Repeat("n", 256), "x"), false},
		"deep":              {imagetest.File(deep+"f", "x"), true},
		"longer than path":  {imagetest.File(strings.Repeat("dddd/", 1000)+"f", "x"), false},
		"a long target":     {imagetest.Symlink("l", strings.Repeat("t", 5000)), false},
		"whiteout only":     {imagetest.File(".wh.", ""), false},
		"whiteout of dot":   {imagetest.File("d/.wh..", ""), false},
		"whiteout of up":    {imagetest.File("d/.wh...", ""), false},
		"a kind of its own": {imagetest.Entry{Name: "c", Type: tar.TypeCont}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			reg := imagetest.NewRegistry(t)
			ref := reg.Push("a", "1", over(t, tc.entry))
			_, err := s.Pull(t.Context(), ref, image.PullOptions{})
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, image.ErrInvalid) {
				t.Fatalf("Pull: %v, want success: %v", err, tc.ok)
			}
			if err == nil {
				mounted := mount(t, prepare(t, s, ref, "k"))
				if got, err := os.ReadFile(filepath.Join(mounted, tc.entry.Name)); err != nil || string(got) != tc.entry.Body {
					t.Errorf("it holds %q, %v", got, err)
				}
				return
			}
			assertEmpty(t, s, dir)
		})
	}
}

// TestLayersCannotSpeakToOverlayfs: attributes with which overlayfs finds the
// layers below, and whiteouts as it keeps them, are not taken from an image.
func TestLayersCannotSpeakToOverlayfs(t *testing.T) {
	xattr := func(name, value string) map[string]string { return map[string]string{"SCHILY.xattr." + name: value} }
	s := open(t, "")
	img := over(t,
		imagetest.Entry{Name: "d/", Type: tar.TypeDir, PAX: xattr("trusted.overlay.opaque", "y")},
		imagetest.Entry{Name: "moved/", Type: tar.TypeDir, PAX: xattr("trusted.overlay.redirect", "/d")},
		imagetest.Entry{Name: "meta", PAX: xattr("trusted.overlay.metacopy", "")},
		imagetest.Entry{Name: "bin", Body: "x", PAX: xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
	)
	importNamed(t, s, img, "a")
	dir := mount(t, prepare(t, s, "a", "k"))
	want := []string{"bin=x", "d/", "d/a=1", "d/b=2", "e=3", "meta=", "moved/"}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("root file system %q, want %q", got, want)
	}
	buf := make([]byte, 64)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "bin"), "security.capability", buf); err != nil || n != 20 {
		t.Errorf("the file capability: %d bytes, %v", n, err)
	}
}

// TestLayerOfManyFiles has 100,000 of them in 100 directories.
func TestLayerOfManyFiles(t *testing.T) {
	var entries []imagetest.Entry
	for i := range 100_000 {
		entries = append(entries, imagetest.File(fmt.Sprintf("d%02d/f%d", i%100, i), ""))
	}
	s := open(t, smallDisk(t, "size=1g"))
	importNamed(t, s, imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: entries}}}), "a")
	n := 0
	err := filepath.WalkDir(mount(t, prepare(t, s, "a", "k")), func(_ string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil || n != 100_000 {
		t.Errorf("%d files, %v", n, err)
	}
}

// TestBrokenLayersAreRefused: the layer's digest is right and its content is not.
func TestBrokenLayersAreRefused(t *testing.T) {
	plain := imagetest.Tar(t, imagetest.File("f", incompressible(100_000)))
	packed := imagetest.Compress(t, plain, imagetest.Gzip)
	zstd := imagetest.Compress(t, plain, imagetest.Zstd)
	flipped := slices.Clone(packed)
	flipped[len(flipped)/2] ^= 0xff
	for name, tc := range map[string]struct {
		layer []byte
		kind  error
	}{
		"truncated gzip":   {packed[:len(packed)/2], image.ErrInvalid},
		"no gzip trailer":  {packed[:len(packed)-8], image.ErrInvalid},
		"damaged gzip":     {flipped, image.ErrInvalid},
		"truncated zstd":   {zstd[:len(zstd)/2], image.ErrInvalid},
		"gzip header only": {packed[:10], image.ErrInvalid},
		"truncated tar":    {plain[:len(plain)/2], image.ErrInvalid},
		"noise":            {[]byte(incompressible(5000)), image.ErrInvalid},
		"empty":            {[]byte{0}, image.ErrInvalid},
		"another's tar":    {imagetest.Tar(t, imagetest.File("g", "x")), image.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := plainImage(t, "f", "x")
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(tc.layer), Size: int64(len(tc.layer))}
			broken := imagetest.Build(t, imagetest.Spec{
				Layers:       []imagetest.Layer{{Entries: []imagetest.Entry{imagetest.File("f", "x")}}},
				Change:       func(m *ocispec.Manifest) { m.Layers[0] = desc },
				ChangeConfig: func(c *ocispec.Image) { c.RootFS.DiffIDs = []digest.Digest{digest.FromBytes(plain)} },
			})
			broken.Blobs[desc.Digest] = tc.layer
			reg := imagetest.NewRegistry(t)
			dir := t.TempDir()
			s := open(t, dir)
			good, bad := reg.Push("a", "good", img), reg.Push("a", "bad", broken)
			if _, err := s.Pull(t.Context(), bad, image.PullOptions{}); !errors.Is(err, tc.kind) {
				t.Errorf("Pull: %v, want %v", err, tc.kind)
			}
			assertEmpty(t, s, dir)
			pull(t, s, good)
		})
	}
}

// TestWrongSizesAreRefused: a manifest that lists a layer with another size than
// it has.
func TestWrongSizesAreRefused(t *testing.T) {
	for name, change := range map[string]int64{"more": 1000, "less": -1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := imagetest.Build(t, imagetest.Spec{
				Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("f", incompressible(50_000))}}},
				Change: func(m *ocispec.Manifest) { m.Layers[0].Size += change },
			})
			reg := imagetest.NewRegistry(t)
			dir := t.TempDir()
			s := open(t, dir)
			if _, err := s.Pull(t.Context(), reg.Push("a", "1", img), image.PullOptions{}); err == nil {
				t.Error("Pull succeeded")
			}
			if err := s.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Prepare(t.Context(), reg.Host+"/a:1", "k"); !errors.Is(err, image.ErrNotFound) {
				t.Errorf("Prepare: %v, want ErrNotFound", err)
			}
		})
	}
}

// TestForeignLayersAreFetchedFromTheRegistry, never from the URLs that the image
// names: it could send us anywhere.
func TestForeignLayersAreFetchedFromTheRegistry(t *testing.T) {
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	img := imagetest.Build(t, imagetest.Spec{
		Layers: []imagetest.Layer{{Compression: imagetest.Gzip, Entries: []imagetest.Entry{imagetest.File("f", "x")},
			MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"}},
		Change: func(m *ocispec.Manifest) { m.Layers[0].URLs = []string{elsewhere.URL + "/layer"} },
	})
	reg := imagetest.NewRegistry(t)
	pull(t, open(t, ""), reg.Push("a", "1", img))
	if n := asked.Load(); n > 0 {
		t.Errorf("the URL in the image was asked %d times", n)
	}
}

// TestOldManifestsAreRefusedByName, as Docker's schema 1 announces itself.
func TestOldManifestsAreRefusedByName(t *testing.T) {
	for _, mediaType := range []string{"application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws"} {
		old := raw(t, `{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[{"blobSum":"sha256:`+strings.Repeat("0", 64)+`"}],"history":[]}`)
		old.Descriptor.MediaType = mediaType
		reg := imagetest.NewRegistry(t)
		_, err := open(t, "").Pull(t.Context(), reg.Push("a", "1", old), image.PullOptions{})
		if !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "schema version 1") {
			t.Errorf("Pull of %s: %v, want schema version 1 refused", mediaType, err)
		}
	}
}

// TestIndexOfManyIndexesEnds: an index cannot list itself, whose digest it would
// have to know, but a few can span a tree of thousands.
func TestIndexOfManyIndexesEnds(t *testing.T) {
	reg := imagetest.NewRegistry(t)
	level := []*imagetest.Image{plainImage(t, "f", "x")}
	level[0].Descriptor.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	for depth := range 3 {
		var next []*imagetest.Image
		for i := range 8 {
			idx := imagetest.Index(t, false, append(slices.Clone(level), raw(t, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"n":"%d-%d"}`, depth, i)))...)
			idx.Descriptor.Platform = nil
			next = append(next, idx)
		}
		level = next
	}
	_, err := open(t, "").Pull(t.Context(), reg.Push("a", "1", imagetest.Index(t, false, level...)), image.PullOptions{})
	if err == nil {
		t.Fatal("Pull succeeded")
	}
	if n := reg.Requests("GET /v2/a/manifests/"); n > 600 {
		t.Errorf("%d manifests were read", n)
	}
}
