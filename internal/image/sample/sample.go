package sample

import (
	"archive/tar"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Name is the reference under which the image is imported.
const Name = "docker.io/longshore/sample:latest"

// ErrNotBuilt is returned where the binary was built without the program.
var ErrNotBuilt = errors.New("the sample program was not built in: run make build")

//go:embed all:embedded
var embedded embed.FS

// Program returns the embedded program, or ErrNotBuilt.
func Program() ([]byte, error) {
	data, err := embedded.ReadFile("embedded/sample")
	if err != nil {
		return nil, ErrNotBuilt
	}
	return data, nil
}

// Image is an image in the form of an archive. The same program gives the same
// bytes.
type Image struct {
	// Digest of the manifest.
	Digest string
	blobs  map[string][]byte // by path in the archive
	order  []string
}

// Build makes the image of a program for this machine's architecture.
func Build(program []byte) (*Image, error) {
	plain, err := layer(program)
	if err != nil {
		return nil, fmt.Errorf("build sample image: %w", err)
	}
	img := &Image{blobs: map[string][]byte{}}
	// Not compressed: it would cost every start more than it saves on disk.
	layerDesc := img.add(ocispec.MediaTypeImageLayer, plain)
	config, err := img.addJSON(ocispec.MediaTypeImageConfig, imageConfig(layerDesc.Digest))
	if err != nil {
		return nil, err
	}
	manifest, err := img.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layerDesc},
	})
	if err != nil {
		return nil, err
	}
	img.Digest = manifest.Digest.String()
	manifest.Annotations = map[string]string{images.AnnotationImageName: Name}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{manifest},
	})
	if err != nil {
		return nil, fmt.Errorf("build sample image: %w", err)
	}
	img.put(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`))
	img.put(ocispec.ImageIndexFile, index)
	return img, nil
}

func imageConfig(diffID digest.Digest) ocispec.Image {
	created := time.Unix(0, 0).UTC()
	return ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config: ocispec.ImageConfig{
			Entrypoint:   []string{"/sample"},
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			WorkingDir:   "/",
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
			Labels:       map[string]string{ocispec.AnnotationTitle: "longshore/sample"},
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	}
}

// layer is the root file system as a tar archive.
func layer(program []byte) ([]byte, error) {
	const (
		passwd = "root:x:0:0:root:/root:/sample\napp:x:1000:1000:app:/home/app:/sample\n"
		group  = "root:x:0:\napp:x:1000:app\n"
	)
	entries := []struct {
		name    string
		mode    int64
		owner   int
		content []byte
	}{
		{"etc/", 0o755, 0, nil},
		{"etc/group", 0o644, 0, []byte(group)},
		{"etc/passwd", 0o644, 0, []byte(passwd)},
		{"home/", 0o755, 0, nil},
		{"home/app/", 0o755, 1000, nil},
		{"root/", 0o700, 0, nil},
		{"sample", 0o755, 0, program},
		{"tmp/", 0o1777, 0, nil},
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner,
			Size: int64(len(e.content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if e.content == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (i *Image) put(path string, data []byte) {
	i.blobs[path] = data
	i.order = append(i.order, path)
}

func (i *Image) add(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	i.put(ocispec.ImageBlobsDir+"/"+d.Algorithm().String()+"/"+d.Encoded(), data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (i *Image) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("build sample image: %w", err)
	}
	return i.add(mediaType, data), nil
}

// WriteTo writes the image as an OCI archive.
func (i *Image) WriteTo(to io.Writer) (int64, error) {
	count := &counter{w: to}
	w := tar.NewWriter(count)
	for _, path := range i.order {
		data := i.blobs[path]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(h); err != nil {
			return count.n, err
		}
		if _, err := w.Write(data); err != nil {
			return count.n, err
		}
	}
	return count.n, w.Close()
}

// Archive returns a reader of the OCI archive.
func (i *Image) Archive() (io.Reader, error) {
	var buf bytes.Buffer
	if _, err := i.WriteTo(&buf); err != nil {
		return nil, fmt.Errorf("write sample image: %w", err)
	}
	return &buf, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
