package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// parallelDownloads is how many layers of one image are downloaded at a time.
const parallelDownloads = 4

// unpackPrefix starts the names of snapshots into which a layer is being unpacked.
const unpackPrefix = "unpack-"

// install makes name mean target: it fetches and unpacks what is missing. ctx
// carries a lease that keeps what is made from being collected.
func (s *Local) install(ctx context.Context, name string, target ocispec.Descriptor, src source, imported bool, p *progress) (*manifest, error) {
	m, err := s.resolve(ctx, target, src)
	if err != nil {
		return nil, err
	}
	if err := s.unpack(ctx, m, src, p); err != nil {
		return nil, err
	}
	// Once for all layers: what has a record survives a power loss. Layers without one
	// are not trusted after a reboot (distrust).
	if err := syncFS(s.opts.Root); err != nil {
		return nil, err
	}
	if err := s.record(ctx, name, m, imported); err != nil {
		return nil, err
	}
	return m, nil
}

// unpack fetches m's layers in parallel and unpacks each as soon as it and those
// below it are there.
func (s *Local) unpack(ctx context.Context, m *manifest, src source, p *progress) error {
	first, err := s.firstMissing(ctx, m)
	if err != nil {
		return err
	}
	p.begin(m.layers[first:])
	group, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, parallelDownloads)
	fetched := make([]chan struct{}, len(m.layers))
	for i := first; i < len(m.layers); i++ {
		fetched[i] = make(chan struct{})
		group.Go(func() error {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-slots }()
			if err := src.fetch(ctx, m.layers[i]); err != nil {
				return err
			}
			close(fetched[i])
			return nil
		})
	}
	group.Go(func() error {
		for i := first; i < len(m.layers); i++ {
			select {
			case <-fetched[i]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := s.unpackLayer(ctx, m, i); err != nil {
				return err
			}
			p.layerDone()
		}
		return nil
	})
	return group.Wait()
}

// firstMissing returns the index of the lowest layer that has to be unpacked. The
// ones below it are held by the lease from here on.
func (s *Local) firstMissing(ctx context.Context, m *manifest) (int, error) {
	for i := len(m.chains) - 1; i >= 0; i-- {
		ok, err := s.hold(ctx, m.chains[i].String())
		if err != nil {
			return 0, err
		}
		if ok {
			return i + 1, nil
		}
	}
	return 0, nil
}

// hold adds an unpacked layer to the context's lease, and tells whether it exists.
func (s *Local) hold(ctx context.Context, chain string) (bool, error) {
	_, err := s.layers.Stat(ctx, chain)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up unpacked layer: %w", err)
	}
	if id, ok := leases.FromContext(ctx); ok {
		res := leases.Resource{ID: chain, Type: "snapshots/" + snapshotter}
		if err := s.leases.AddResource(ctx, leases.Lease{ID: id}, res); err != nil {
			return false, fmt.Errorf("hold unpacked layer: %w", err)
		}
	}
	// A collection may have come between.
	_, err = s.layers.Stat(ctx, chain)
	return err == nil, nil
}

// unpackLayer unpacks one layer whose content is present, over the ones below it.
func (s *Local) unpackLayer(ctx context.Context, m *manifest, i int) error {
	chain := m.chains[i].String()
	unlock, err := s.chains.lock(ctx, chain)
	if err != nil {
		return err
	}
	defer unlock()
	if ok, err := s.hold(ctx, chain); ok || err != nil {
		return err // another image has it too
	}
	parent := ""
	if i > 0 {
		parent = m.chains[i-1].String()
	}
	key := unpackPrefix + s.opts.NewID()
	mounts, err := s.layers.Prepare(ctx, key, parent)
	if err != nil {
		return fmt.Errorf("failed to extract layer %s: %w", m.layers[i].Digest, diskError(err))
	}
	err = s.apply(ctx, m.layers[i], m.file.RootFS.DiffIDs[i], mounts)
	if err == nil {
		err = s.layers.Commit(ctx, chain, key)
		if err == nil {
			return nil
		}
	}
	if dir, _, e := target(mounts); e == nil && isFull(err) {
		// On a full disk even forgetting takes space: give back what we took first.
		if e := emptyDir(dir); e != nil {
			s.opts.Log.Warn("what was unpacked onto a full disk is left for the garbage collection", "error", e)
		}
	}
	if e := s.layers.Remove(context.WithoutCancel(ctx), key); e != nil && !errdefs.IsNotFound(e) {
		s.opts.Log.Warn("layer that could not be unpacked is left for the garbage collection", "error", e)
	}
	s.kick()
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrInvalid) || errors.Is(err, unix.EIO) {
		// Whose fault is it? If the disk's, the next pull fetches the layer again.
		if e := s.dropRotten(ctx, m.layers[i].Digest); e != nil {
			err = errors.Join(err, e)
		}
	}
	return fmt.Errorf("failed to extract layer %s: %w", m.layers[i].Digest, diskError(err))
}

// emptyDir removes what is in dir.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// apply unpacks a layer into the upper directory of a fresh snapshot, without
// mounting it. Decompressing and checking run ahead of writing files.
func (s *Local) apply(ctx context.Context, layer ocispec.Descriptor, diffID digest.Digest, mounts []mount.Mount) error {
	dir, opts, err := target(mounts)
	if err != nil {
		return err
	}
	blob, err := s.content.ReaderAt(ctx, layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	limits := s.opts.Limits
	tooLarge := fail(ErrInvalid, "it unpacks to more than %d bytes", limits.UnpackedBytes)
	if left, full := s.room(); left < limits.UnpackedBytes {
		limits.UnpackedBytes, tooLarge = left, full
	}
	return unpackInto(ctx, dir, content.NewReader(blob), diffID, limits, tooLarge, opts)
}

// unpackInto unpacks a layer, which may be compressed, into dir, and checks that
// it has the digest diffID when it is not. tooLarge is the error of more than
// limits.UnpackedBytes.
func unpackInto(ctx context.Context, dir string, layer io.Reader, diffID digest.Digest, limits Limits, tooLarge error, opts []archive.ApplyOpt) error {
	plain, err := decompress(layer)
	if err != nil {
		return fail(ErrInvalid, "decompress: %w", err)
	}
	defer plain.Close()
	digester := diffID.Algorithm().Digester()
	tee := io.TeeReader(&cappedReader{r: plain, left: limits.UnpackedBytes, err: tooLarge}, digester.Hash())
	opts = append(opts, archive.WithFilter(limitFiles(limits, tooLarge)))
	ahead := readAhead(&contextReader{ctx, tee})
	defer ahead.Close()
	if _, err := archive.Apply(ctx, dir, ahead, opts...); err != nil {
		return layerError(ctx, err)
	}
	// The digest covers what follows the archive's end too.
	if _, err := io.Copy(io.Discard, ahead); err != nil {
		return layerError(ctx, err)
	}
	ahead.Close()
	if got := digester.Digest(); got != diffID {
		return fail(ErrCorrupt, "its content has the digest %s; the image's configuration says %s", got, diffID)
	}
	return nil
}

// limitFiles counts entries and the bytes that they claim: a sparse file may
// claim more than the stream has.
func limitFiles(limits Limits, tooLarge error) archive.Filter {
	files, bytes := 0, int64(0)
	return func(h *tar.Header) (bool, error) {
		if files++; files > limits.Files {
			return false, fail(ErrInvalid, "it has more than %d files", limits.Files)
		}
		if h.Size < 0 || h.Size > limits.UnpackedBytes-bytes {
			return false, tooLarge
		}
		bytes += h.Size
		return true, nil
	}
}

// layerError sorts the errors of unpacking: the disk's and the caller's are not
// the image's fault.
func layerError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, ErrInvalid) {
		return err
	}
	return fail(ErrInvalid, "%w", err)
}

// target finds the directory to unpack into. Over other layers whiteouts become
// overlayfs's; the lowest layer has nothing to hide.
func target(mounts []mount.Mount) (string, []archive.ApplyOpt, error) {
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		return mounts[0].Source, nil, nil
	}
	if len(mounts) == 1 && mounts[0].Type == "overlay" {
		opts := []archive.ApplyOpt{archive.WithConvertWhiteout(archive.OverlayConvertWhiteout)}
		upper := ""
		for _, o := range mounts[0].Options {
			if v, ok := strings.CutPrefix(o, "upperdir="); ok {
				upper = v
			} else if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
				opts = append(opts, archive.WithParents(strings.Split(v, ":")))
			}
		}
		if upper != "" {
			return upper, opts, nil
		}
	}
	return "", nil, fmt.Errorf("the snapshotter returned a mount of an unknown kind: %v", mounts)
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// contextReader ends a read loop with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// progress counts what a pull has done. A nil progress counts nothing.
type progress struct {
	layers, layersTotal atomic.Int64
	bytes, bytesTotal   atomic.Int64
	// changed is called after each change; it must be safe for concurrent use.
	changed func()
}

func (p *progress) begin(layers []ocispec.Descriptor) {
	if p == nil {
		return
	}
	var bytes int64
	for _, l := range layers {
		bytes += l.Size
	}
	p.layersTotal.Store(int64(len(layers)))
	p.bytesTotal.Store(bytes)
	p.changed()
}

func (p *progress) layerDone() {
	if p != nil {
		p.layers.Add(1)
		p.changed()
	}
}

// received counts bytes of layers that have arrived.
func (p *progress) received(n int64) {
	if p != nil {
		p.bytes.Add(n)
		p.changed()
	}
}

func (p *progress) snapshot() Progress {
	return Progress{
		LayersDone: int(p.layers.Load()), LayersTotal: int(p.layersTotal.Load()),
		BytesDone: p.bytes.Load(), BytesTotal: p.bytesTotal.Load(),
	}
}
