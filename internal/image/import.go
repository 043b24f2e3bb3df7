package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxImported bounds the names in one archive.
const maxImported = 256

// Import implements Store. An archive whose images carry no name is refused: they
// could never be asked for.
func (s *Local) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	ctx, cancel := s.context(ctx)
	defer cancel()
	ctx, done, err := s.lease(ctx, "import "+s.opts.NewID())
	if err != nil {
		return nil, err
	}
	defer done(false)
	imported, err := s.importArchive(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import image archive: %w", err)
	}
	return imported, nil
}

func (s *Local) importArchive(ctx context.Context, r io.Reader) ([]Image, error) {
	index, err := s.readArchive(ctx, r)
	if err != nil {
		return nil, err
	}
	named, err := s.namedManifests(ctx, index)
	if err != nil {
		return nil, err
	}
	var list []Image
	for _, n := range named {
		m, err := s.install(ctx, n.name, n.desc, stored{s}, true, nil)
		if errors.Is(err, errAbsent) {
			err = fail(ErrInvalid, "the archive lacks a part of it: %w", err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", familiar(n.name), err)
		}
		rec, err := s.find(ctx, n.name)
		if err != nil {
			return nil, err
		}
		img, err := s.image(ctx, familiar(n.name), rec)
		if err != nil {
			return nil, err
		}
		s.opts.Log.Info("image imported", "image", img.Ref, "digest", m.target.Digest.String())
		list = append(list, img)
	}
	return list, nil
}

// readArchive brings the archive's blobs into the content store and returns its
// index's descriptor.
func (s *Local) readArchive(ctx context.Context, r io.Reader) (ocispec.Descriptor, error) {
	plain, err := decompress(&contextReader{ctx, r})
	if err != nil {
		return ocispec.Descriptor{}, archiveError(ctx, err)
	}
	defer plain.Close()

	// A goroutine checks the entries and hands on a clean archive.
	pr, pw := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := copyArchive(pw, plain, s.opts.Limits)
		pw.CloseWithError(err)
		checked <- err
	}()
	index, err := archive.ImportIndex(ctx, s.content, pr)
	_ = pr.CloseWithError(io.ErrClosedPipe) // ends the goroutine after an error
	if e := <-checked; e != nil && !errors.Is(e, io.ErrClosedPipe) {
		err = e
	}
	if err != nil {
		return ocispec.Descriptor{}, archiveError(ctx, err)
	}
	return index, nil
}

func archiveError(ctx context.Context, err error) error {
	return layerError(ctx, err)
}

// copyArchive copies the entries that an image archive consists of, within limits.
// Paths are only looked up by name, never written to, so they need no more check.
func copyArchive(w io.Writer, r io.Reader, limits Limits) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	var files int
	var bytes int64
	for {
		h, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return fail(ErrInvalid, "it is not a tar archive: %w", err)
		}
		if files++; files > limits.ArchiveFiles {
			return fail(ErrInvalid, "it has more than %d files", limits.ArchiveFiles)
		}
		if h.Size < 0 || h.Size > limits.ArchiveBytes-bytes {
			return fail(ErrInvalid, "it has more than %d bytes", limits.ArchiveBytes)
		}
		bytes += h.Size
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeSymlink:
		default:
			continue
		}
		clean := &tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: 0o600}
		if err := out.WriteHeader(clean); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

type namedManifest struct {
	name string
	desc ocispec.Descriptor
}

// namedManifests reads the archive's index: its entries by name. Of several with
// one name, the one that suits our platform best.
func (s *Local) namedManifests(ctx context.Context, index ocispec.Descriptor) ([]namedManifest, error) {
	data, err := s.readBlob(ctx, index.Digest, s.opts.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	var idx ocispec.Index
	if err := json.Unmarshal(data, &idx); err != nil {
		return nil, fail(ErrInvalid, "its index is not valid JSON: %w", err)
	}
	byName := map[string][]ocispec.Descriptor{}
	var names []string
	for _, d := range idx.Manifests {
		if !images.IsManifestType(d.MediaType) && !images.IsIndexType(d.MediaType) {
			continue
		}
		name := annotatedName(d)
		if name == "" {
			continue
		}
		if name, err = normalize(name); err != nil {
			return nil, err
		}
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], d)
	}
	if len(names) == 0 {
		return nil, fail(ErrInvalid, "it names no image; save it by name (docker save NAME:TAG)")
	}
	if len(names) > maxImported {
		return nil, fail(ErrInvalid, "it names %d images; at most %d are imported", len(names), maxImported)
	}
	named := make([]namedManifest, 0, len(names))
	for _, name := range names {
		candidates := s.candidates(byName[name])
		if len(candidates) == 0 {
			return nil, fail(ErrPlatform, "%s: no matching manifest for %s in the archive", familiar(name), s.opts.Platform)
		}
		named = append(named, namedManifest{name, candidates[0]})
	}
	return slices.Clip(named), nil
}

// annotatedName finds an image's full name in its descriptor: containerd's and
// Docker's annotation, or OCI's when it is a name and not a mere tag.
func annotatedName(d ocispec.Descriptor) string {
	if n := d.Annotations[images.AnnotationImageName]; n != "" {
		return n
	}
	if n := d.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(n, "/:") {
		return n
	}
	return ""
}
