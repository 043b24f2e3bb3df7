package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxIndexDepth bounds indexes that list indexes, maxManifests how many documents
	// are read to find one image: a few small indexes can span a tree without end.
	maxIndexDepth = 3
	maxManifests  = 64
)

// errAbsent is a source's answer for content that it does not hold, where holding
// a part of an index is usual (archives of one platform).
var errAbsent = errors.New("not in the archive")

// source makes content present in the content store: it downloads it, or knows
// that it is there already.
type source interface {
	fetch(ctx context.Context, desc ocispec.Descriptor) error
}

// manifest is an image for our platform: what its index, manifest and
// configuration say. It is immutable.
type manifest struct {
	target ocispec.Descriptor // what the reference means: index or manifest
	desc   ocispec.Descriptor // the platform's manifest
	config ocispec.Descriptor
	layers []ocispec.Descriptor
	file   configFile
	chains []digest.Digest // of each layer with those below it
}

// chain names the unpacked layers; "" when the image has none.
func (m *manifest) chain() string {
	if len(m.chains) == 0 {
		return ""
	}
	return m.chains[len(m.chains)-1].String()
}

func (m *manifest) chainOrNone() string {
	if c := m.chain(); c != "" {
		return c
	}
	return noChain
}

// document is an index or a manifest, before it is known which.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	FSLayers      json.RawMessage      `json:"fsLayers"`
}

// resolve reads target down to the configuration for our platform.
func (s *Local) resolve(ctx context.Context, target ocispec.Descriptor, src source) (*manifest, error) {
	r := &resolution{Local: s, src: src, seen: map[digest.Digest]bool{}}
	m, err := r.at(ctx, target, 0)
	if err != nil {
		return nil, err
	}
	m.target = target
	return m, nil
}

// resolution is one search for an image below an index or a manifest.
type resolution struct {
	*Local
	src source
	// seen are the documents that were read: none is read twice.
	seen map[digest.Digest]bool
}

func (s *resolution) at(ctx context.Context, desc ocispec.Descriptor, depth int) (*manifest, error) {
	if s.seen[desc.Digest] {
		return nil, fail(ErrPlatform, "image Manifest does not contain descriptor matching platform '%s'", s.opts.Platform)
	}
	if len(s.seen) >= maxManifests {
		return nil, fail(ErrInvalid, "more than %d manifests were read, and none was for %s", maxManifests, s.opts.Platform)
	}
	s.seen[desc.Digest] = true
	src := s.src
	data, err := s.read(ctx, desc, src, s.opts.Limits.ManifestBytes, "manifest")
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(data)
	if err != nil {
		return nil, fail(ErrInvalid, "manifest %s %w", desc.Digest, err)
	}
	if doc.Manifests != nil {
		return s.choose(ctx, desc, doc, depth)
	}
	return s.readManifest(ctx, desc, doc, src)
}

// parseDocument reads an index or a manifest: one of Manifests and Config is set.
func parseDocument(data []byte) (document, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return doc, fail(ErrInvalid, "is not valid JSON: %w", err)
	}
	switch {
	case doc.SchemaVersion == 1 || doc.FSLayers != nil:
		return doc, fail(ErrInvalid, "has Docker's schema version 1, which is no longer supported; push the image again with a current tool")
	case doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil):
		// What it means would depend on who reads it.
		return doc, fail(ErrInvalid, "is both an index and a manifest")
	case doc.Manifests == nil && doc.Config == nil:
		return doc, fail(ErrInvalid, "is neither an index nor a manifest")
	}
	return doc, nil
}

// choose descends into the index's best entry for our platform.
func (s *resolution) choose(ctx context.Context, desc ocispec.Descriptor, doc document, depth int) (*manifest, error) {
	if depth >= maxIndexDepth {
		return nil, fail(ErrInvalid, "index %s lies %d indexes deep", desc.Digest, depth)
	}
	if n := len(doc.Manifests); n > s.opts.Limits.IndexEntries {
		return nil, fail(ErrInvalid, "index %s lists %d manifests; at most %d are read", desc.Digest, n, s.opts.Limits.IndexEntries)
	}
	candidates := s.candidates(doc.Manifests)
	var absent error
	for _, c := range candidates {
		m, err := s.at(ctx, c, depth+1)
		switch {
		case err == nil:
			return m, nil
		case errors.Is(err, errAbsent):
			absent = err
		case !errors.Is(err, ErrPlatform):
			return nil, err
		}
	}
	if absent != nil {
		return nil, absent
	}
	return nil, fail(ErrPlatform, "image Manifest does not contain descriptor matching platform '%s'", s.opts.Platform)
}

// candidates orders an index's entries that may run here, the best first; those
// that do not tell their platform come last.
func (s *Local) candidates(entries []ocispec.Descriptor) []ocispec.Descriptor {
	var known, unknown []ocispec.Descriptor
	for _, e := range entries {
		if !images.IsManifestType(e.MediaType) && !images.IsIndexType(e.MediaType) {
			continue
		}
		if e.Platform == nil || e.Platform.OS == "" {
			unknown = append(unknown, e)
		} else if s.platform.Match(platforms.Normalize(*e.Platform)) {
			known = append(known, e)
		}
	}
	slices.SortStableFunc(known, func(a, b ocispec.Descriptor) int {
		pa, pb := platforms.Normalize(*a.Platform), platforms.Normalize(*b.Platform)
		switch {
		case s.platform.Less(pa, pb):
			return -1
		case s.platform.Less(pb, pa):
			return 1
		}
		return 0
	})
	return append(known, unknown...)
}

func (s *Local) readManifest(ctx context.Context, desc ocispec.Descriptor, doc document, src source) (*manifest, error) {
	if !images.IsConfigType(doc.Config.MediaType) {
		return nil, fail(ErrInvalid, "%s is not a container image: its configuration has the type %q", desc.Digest, doc.Config.MediaType)
	}
	if n := len(doc.Layers); n > s.opts.Limits.Layers {
		return nil, fail(ErrInvalid, "image has %d layers; at most %d are supported", n, s.opts.Limits.Layers)
	}
	for _, l := range doc.Layers {
		if err := l.Digest.Validate(); err != nil {
			return nil, fail(ErrInvalid, "image lists the layer %q: %w", l.Digest, err)
		}
		if !images.IsLayerType(l.MediaType) {
			return nil, fail(ErrInvalid, "layer %s has the unsupported type %q", l.Digest, l.MediaType)
		}
		if l.Size <= 0 || l.Size > s.opts.Limits.LayerBytes {
			return nil, fail(ErrInvalid, "layer %s claims to have %d bytes; at most %d are supported", l.Digest, l.Size, s.opts.Limits.LayerBytes)
		}
	}
	data, err := s.read(ctx, *doc.Config, src, s.opts.Limits.ConfigBytes, "configuration")
	if err != nil {
		return nil, err
	}
	file, err := parseConfig(data)
	if err != nil {
		return nil, err
	}
	if !file.runs(s.platform) {
		return nil, fail(ErrPlatform, "image Manifest does not contain descriptor matching platform '%s': the image is for %s", s.opts.Platform, platforms.Format(file.Platform))
	}
	if len(file.RootFS.DiffIDs) != len(doc.Layers) {
		return nil, fail(ErrInvalid, "image manifest lists %d layers and its configuration %d", len(doc.Layers), len(file.RootFS.DiffIDs))
	}
	return &manifest{
		target: desc, desc: desc, config: *doc.Config, layers: doc.Layers, file: file,
		chains: identity.ChainIDs(slices.Clone(file.RootFS.DiffIDs)),
	}, nil
}

// read makes a small blob present and returns it.
func (s *Local) read(ctx context.Context, desc ocispec.Descriptor, src source, limit int64, what string) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fail(ErrInvalid, "%s digest %q: %w", what, desc.Digest, err)
	}
	if desc.Size <= 0 || desc.Size > limit {
		return nil, fail(ErrInvalid, "%s %s claims to have %d bytes; at most %d are read", what, desc.Digest, desc.Size, limit)
	}
	if err := src.fetch(ctx, desc); err != nil {
		return nil, err
	}
	data, err := s.readBlob(ctx, desc.Digest, limit)
	if errors.Is(err, ErrCorrupt) {
		if err := s.dropRotten(ctx, desc.Digest); err != nil {
			return nil, err
		}
		if err := src.fetch(ctx, desc); err != nil {
			return nil, err
		}
		data, err = s.readBlob(ctx, desc.Digest, limit)
	}
	return data, err
}

// readBlob returns a blob that is present, having checked its digest again: disks rot.
func (s *Local) readBlob(ctx context.Context, dgst digest.Digest, limit int64) ([]byte, error) {
	info, err := s.content.Info(ctx, dgst)
	if err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, fail(ErrInvalid, "%s has %d bytes; at most %d are read", dgst, info.Size, limit)
	}
	data, err := content.ReadBlob(ctx, s.content, ocispec.Descriptor{Digest: dgst, Size: info.Size})
	if err != nil {
		return nil, err
	}
	if got := dgst.Algorithm().FromBytes(data); got != dgst {
		return nil, fail(ErrCorrupt, "stored content has the digest %s instead of %s", got, dgst)
	}
	return data, nil
}

// dropRotten removes a blob whose bytes no longer match its digest, so that it is
// fetched again. What matches stays.
func (s *Local) dropRotten(ctx context.Context, dgst digest.Digest) error {
	blob, err := s.content.ReaderAt(ctx, ocispec.Descriptor{Digest: dgst})
	if err == nil {
		verifier := dgst.Verifier()
		_, err = io.Copy(verifier, &contextReader{ctx, content.NewReader(blob)})
		_ = blob.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && verifier.Verified() {
			return nil
		}
	}
	s.opts.Log.Warn("stored image content is damaged and is removed", "digest", dgst.String(), "error", err)
	// Both: the metadata store would find the bytes again in the other.
	for _, store := range []content.Store{s.content, s.files} {
		if err := store.Delete(ctx, dgst); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove damaged content: %w", err)
		}
	}
	return nil
}
