package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression of a layer.
type Compression string

// The compressions of layers.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// Layer is a layer to be built: entries in order, exactly as they go into the tar.
type Layer struct {
	Entries     []Entry
	Compression Compression
	// MediaType overrides what Compression implies.
	MediaType string
}

// Entry is one tar entry. Only Name is needed: a regular, empty file of root's,
// mode 0644 (0755 for a directory, whose name ends in a slash).
type Entry struct {
	Name     string
	Body     string
	Type     byte
	Link     string
	Mode     int64
	UID, GID int
	Major    int64
	Minor    int64
	PAX      map[string]string
	// Size overrides the size in the header (hostile archives).
	Size int64
}

// File is a regular file.
func File(name, body string) Entry { return Entry{Name: name, Body: body} }

// Dir is a directory.
func Dir(name string) Entry { return Entry{Name: name + "/", Type: tar.TypeDir} }

// Symlink is a symbolic link.
func Symlink(name, to string) Entry { return Entry{Name: name, Type: tar.TypeSymlink, Link: to} }

// Hardlink is a hard link.
func Hardlink(name, to string) Entry { return Entry{Name: name, Type: tar.TypeLink, Link: to} }

// Whiteout removes name of the layers below.
func Whiteout(dir, name string) Entry { return Entry{Name: dir + "/.wh." + name} }

// Spec says what image to build.
type Spec struct {
	Layers []Layer
	Config ocispec.ImageConfig
	// Platform defaults to this machine's.
	Platform ocispec.Platform
	// Docker makes Docker's media types instead of OCI's.
	Docker bool
	// Change edits the manifest before it is written (hostile images).
	Change func(*ocispec.Manifest)
	// ChangeConfig edits the configuration before it is written.
	ChangeConfig func(*ocispec.Image)
}

// Image is a built image: a manifest, or an index, with all blobs that it needs.
type Image struct {
	Descriptor ocispec.Descriptor
	Manifest   ocispec.Manifest // zero for an index
	Blobs      map[digest.Digest][]byte
	// DiffIDs are the digests of the uncompressed layers.
	DiffIDs []digest.Digest
}

// Digest of the manifest or index.
func (i *Image) Digest() string { return i.Descriptor.Digest.String() }

func (i *Image) add(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	i.Blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// Build builds an image.
func Build(t testing.TB, spec Spec) *Image {
	t.Helper()
	img := &Image{Blobs: map[digest.Digest][]byte{}}
	manifestType, configType, layerType := ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer
	if spec.Docker {
		manifestType, configType, layerType = dockerManifest, dockerConfig, dockerLayer
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType}
	for _, l := range spec.Layers {
		plain := Tar(t, l.Entries...)
		img.DiffIDs = append(img.DiffIDs, digest.FromBytes(plain))
		mediaType := layerType
		switch {
		case l.Compression == Gzip && spec.Docker:
			mediaType += ".gzip"
		case l.Compression != Plain:
			mediaType += "+" + string(l.Compression)
		}
		if l.MediaType != "" {
			mediaType = l.MediaType
		}
		m.Layers = append(m.Layers, img.add(mediaType, Compress(t, plain, l.Compression)))
	}
	if spec.Platform.OS == "" {
		spec.Platform = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	config := ocispec.Image{
		Platform: spec.Platform, Config: spec.Config,
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: img.DiffIDs},
	}
	if spec.ChangeConfig != nil {
		spec.ChangeConfig(&config)
	}
	m.Config = img.add(configType, mustJSON(t, config))
	if spec.Change != nil {
		spec.Change(&m)
	}
	img.Manifest = m
	img.Descriptor = img.add(manifestType, mustJSON(t, m))
	img.Descriptor.Platform = &spec.Platform
	return img
}

// Index builds a multi-platform image.
func Index(t testing.TB, docker bool, of ...*Image) *Image {
	t.Helper()
	all := &Image{Blobs: map[digest.Digest][]byte{}}
	mediaType := ocispec.MediaTypeImageIndex
	if docker {
		mediaType = dockerList
	}
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType}
	for _, img := range of {
		idx.Manifests = append(idx.Manifests, img.Descriptor)
		for d, b := range img.Blobs {
			all.Blobs[d] = b
		}
	}
	all.Descriptor = all.add(mediaType, mustJSON(t, idx))
	return all
}

// Tar builds a tar archive.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: e.Type, Name: e.Name, Linkname: e.Link, Mode: e.Mode, Uid: e.UID, Gid: e.GID,
			Devmajor: e.Major, Devminor: e.Minor, Size: int64(len(e.Body)), PAXRecords: e.PAX,
			ModTime: time.Unix(1_000_000_000, 0),
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if e.Size > 0 {
			h.Size = e.Size
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("build layer: %s: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.Body)); err != nil {
			t.Fatalf("build layer: %s: %v", e.Name, err)
		}
		if e.Size > 0 {
			return buf.Bytes() // the rest is missing on purpose
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("build layer: %v", err)
	}
	return buf.Bytes()
}

// Compress compresses data.
func Compress(t testing.TB, data []byte, c Compression) []byte {
	t.Helper()
	var buf bytes.Buffer
	var err error
	switch c {
	case Plain:
		return data
	case Gzip:
		w := gzip.NewWriter(&buf)
		_, err = w.Write(data)
		if err == nil {
			err = w.Close()
		}
	case Zstd:
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&buf); err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			err = w.Close()
		}
	default:
		err = fmt.Errorf("unknown compression %q", c)
	}
	if err != nil {
		t.Fatalf("compress: %v", err)
	}
	return buf.Bytes()
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
