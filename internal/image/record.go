package image

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image's record is written last, in one transaction, and holds all that
// finding it again takes, and a reference to all of its content, for the garbage
// collector. What has a record is complete and unpacked.
const (
	labelChain    = "longshore.dev/chain"
	labelManifest = "longshore.dev/manifest"
	labelImported = "longshore.dev/imported"

	gcContent  = "containerd.io/gc.ref.content."
	gcSnapshot = "containerd.io/gc.ref.snapshot." + snapshotter
)

// stored is a source for what is in the content store already.
type stored struct{ s *Local }

func (p stored) fetch(ctx context.Context, desc ocispec.Descriptor) error {
	_, err := p.s.content.Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%s: %w", desc.Digest, errAbsent)
	}
	return err
}

// record makes name mean m.
func (s *Local) record(ctx context.Context, name string, m *manifest, imported bool) error {
	labels := map[string]string{
		labelChain:             m.chainOrNone(),
		labelManifest:          m.desc.Digest.String(),
		labelPulled:            s.opts.Now().UTC().Format(time.RFC3339),
		gcContent + "manifest": m.desc.Digest.String(),
		gcContent + "config":   m.config.Digest.String(),
	}
	for i, l := range m.layers {
		labels[gcContent+"layer."+strconv.Itoa(i)] = l.Digest.String()
	}
	if c := m.chain(); c != "" {
		labels[gcSnapshot] = c
	}
	if imported {
		labels[labelImported] = "true"
	}
	target := ocispec.Descriptor{MediaType: m.target.MediaType, Digest: m.target.Digest, Size: m.target.Size}
	img := images.Image{Name: name, Target: target, Labels: labels}
	_, err := s.images.Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.images.Update(ctx, img) // all fields: labels of the former meaning go
		s.kick()
	}
	if err != nil {
		return fmt.Errorf("record image %s: %w", name, err)
	}
	return nil
}

// find returns the record of a normalized name.
func (s *Local) find(ctx context.Context, name string) (images.Image, error) {
	rec, err := s.images.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return rec, fail(ErrNotFound, "No such image: %s", familiar(name))
	}
	if err != nil {
		return rec, fmt.Errorf("look up image %s: %w", name, err)
	}
	return rec, nil
}

// present returns the manifest of an image that is here.
func (s *Local) present(ctx context.Context, ref string) (*manifest, error) {
	name, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	rec, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	m, _, err := s.load(ctx, rec)
	return m, err
}

// load reads what a record stands for. ErrNotFound when parts of it were lost.
func (s *Local) load(ctx context.Context, rec images.Image) (*manifest, int64, error) {
	key := cacheKey{rec.Target.Digest, digest.Digest(rec.Labels[labelManifest])}
	if m, size, ok := s.cache.get(key); ok {
		return m, size, nil
	}
	m, size, err := s.loadSlow(ctx, rec, key)
	if err != nil {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if errdefs.IsNotFound(err) || errors.Is(err, errAbsent) || errors.Is(err, ErrCorrupt) {
			return nil, 0, fail(ErrNotFound, "image %s is damaged (%w); pull it again", familiar(rec.Name), err)
		}
		return nil, 0, fmt.Errorf("read image %s: %w", familiar(rec.Name), err)
	}
	s.cache.put(key, m, size)
	return m, size, nil
}

func (s *Local) loadSlow(ctx context.Context, rec images.Image, key cacheKey) (*manifest, int64, error) {
	info, err := s.content.Info(ctx, key.manifest)
	if err != nil {
		return nil, 0, err
	}
	m, err := s.resolve(ctx, ocispec.Descriptor{Digest: key.manifest, Size: info.Size}, stored{s})
	if err != nil {
		return nil, 0, err
	}
	m.target = rec.Target
	size, err := s.unpackedSize(ctx, m)
	return m, size, err
}

// unpackedSize sums the layers' use of the disk.
func (s *Local) unpackedSize(ctx context.Context, m *manifest) (int64, error) {
	var size int64
	for _, c := range m.chains {
		u, err := s.layers.Usage(ctx, c.String())
		if err != nil {
			return 0, err
		}
		size += u.Size
	}
	return size, nil
}

func (s *Local) image(ctx context.Context, ref string, rec images.Image) (Image, error) {
	m, size, err := s.load(ctx, rec)
	if err != nil {
		return Image{}, err
	}
	return Image{
		Ref: ref, Digest: m.target.Digest.String(), ID: m.config.Digest.String(),
		Size: size, Config: m.file.config(),
	}.clone(), nil
}

// Get implements Store.
func (s *Local) Get(ctx context.Context, ref string) (Image, error) {
	ctx, done := s.context(ctx)
	defer done()
	name, err := normalize(ref)
	if err != nil {
		return Image{}, err
	}
	rec, err := s.find(ctx, name)
	if err != nil {
		return Image{}, err
	}
	return s.image(ctx, ref, rec)
}

// List implements Store. References are in Docker's short form, in order; images
// that are damaged are left out.
func (s *Local) List(ctx context.Context) ([]Image, error) {
	ctx, done := s.context(ctx)
	defer done()
	recs, err := s.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	list := make([]Image, 0, len(recs))
	for _, rec := range recs {
		img, err := s.image(ctx, familiar(rec.Name), rec)
		if errors.Is(err, ErrNotFound) {
			s.opts.Log.Warn("image left out of the list", "error", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Ref < list[j].Ref })
	return list, nil
}

// Remove implements Store. Root file systems prepared from the image stay.
func (s *Local) Remove(ctx context.Context, ref string) error {
	ctx, done := s.context(ctx)
	defer done()
	name, err := normalize(ref)
	if err != nil {
		return err
	}
	err = s.images.Delete(ctx, name)
	if errdefs.IsNotFound(err) {
		return fail(ErrNotFound, "No such image: %s", familiar(name))
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	s.kick()
	return nil
}

// maxCached bounds the cache; a node rarely has more images.
const maxCached = 1024

type cacheKey struct{ target, manifest digest.Digest }

type cached struct {
	m    *manifest
	size int64
}

// manifestCache spares reading manifests and configurations again. Its entries
// are content-addressed, so they are never wrong, only useless. The zero value is ready.
type manifestCache struct {
	mu  sync.Mutex
	all map[cacheKey]cached
}

func (c *manifestCache) get(k cacheKey) (*manifest, int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.all[k]
	return e.m, e.size, ok
}

func (c *manifestCache) put(k cacheKey, m *manifest, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || len(c.all) >= maxCached {
		c.all = map[cacheKey]cached{}
	}
	c.all[k] = cached{m, size}
}

// reset forgets everything, when something turned out to be missing.
func (c *manifestCache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = nil
}
