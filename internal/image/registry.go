package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxAttempts bounds how often in a row a request is tried without progress.
	maxAttempts = 5
	// minProgress is what an attempt must bring to count as progress, and what must
	// arrive within the stall timeout: neither a byte now and then nor a byte before
	// each reset keeps a download alive.
	minProgress = 16 << 10
	// ingestPrefix starts the names of downloads in progress.
	ingestPrefix = "blob-"
)

var errStalled = errors.New("i/o timeout: nothing, or next to nothing, was received for too long")

// registry is the source that downloads one image from its registry, or from a
// mirror of it.
//
// One that stalls, sends next to nothing, resets, redirects or puts us off is tried
// five times without progress, with pauses that double, or that it asks for, up to
// 30 seconds. The texts are those that ECS shows after "CannotPullContainerError: ",
// the only one of its names that can come up: Amazon's agent gives the others
// (CannotPullImageManifestError, CannotPullECRContainerError) to steps that Docker
// and ECR need.
type registry struct {
	s     *Local
	name  string
	creds Credentials
	prog  *progress

	mu       sync.Mutex
	resolver remotes.Resolver
	// admitted: the registry has answered what the name means. If it wants to know who
	// we are after that, a token has expired.
	admitted bool
	// connection counts the resolvers made. A new one forgets tokens, and failures
	// to get one, that the old one has cached.
	connection int
}

func (s *Local) registry(name string, creds Credentials, p *progress) *registry {
	r := &registry{s: s, name: name, creds: creds, prog: p}
	r.reconnect(0)
	return r
}

// reconnect replaces the resolver, unless someone else did so since seen.
func (r *registry) reconnect(seen int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connection != seen {
		return
	}
	r.connection++
	headers := http.Header{"User-Agent": {"longshore"}}
	r.resolver = docker.NewResolver(docker.ResolverOptions{
		Headers: headers,
		Hosts: func(host string) ([]docker.RegistryHost, error) {
			var hosts []docker.RegistryHost
			for _, m := range r.s.mirrors[host] {
				hosts = append(hosts, r.host(m.Host, m.Scheme, strings.TrimSuffix(m.Path, "/")+"/v2", headers, Credentials{}))
			}
			name, err := docker.DefaultHost(host)
			if err != nil {
				return nil, err
			}
			return append(hosts, r.host(name, "https", "/v2", headers, r.creds)), nil
		},
	})
}

// host is a place that the image may be had from.
func (r *registry) host(host, scheme, path string, headers http.Header, creds Credentials) docker.RegistryHost {
	client := r.s.net.client(host)
	return docker.RegistryHost{
		Client: client, Host: host, Scheme: scheme, Path: path,
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		Authorizer: docker.NewDockerAuthorizer(
			docker.WithAuthClient(client), docker.WithAuthHeader(headers),
			docker.WithAuthCreds(func(asking string) (string, string, error) {
				if asking != host { // we were redirected there
					return "", "", nil
				}
				return creds.Username, creds.Password, nil
			})),
	}
}

func (r *registry) current() (remotes.Resolver, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resolver, r.connection
}

// retry runs attempt until it succeeds, fails for good, or has failed too often
// without progress. It returns how many attempts were made.
func (r *registry) retry(ctx context.Context, attempt func(context.Context, remotes.Resolver) (progressed bool, err error)) (int, error) {
	for n, failures := 1, 1; ; n, failures = n+1, failures+1 {
		resolver, seen := r.current()
		progressed, err := attempt(ctx, resolver)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		if progressed {
			failures = 1
		}
		if failures >= maxAttempts || !retryable(err) && !(r.admitted && isExpired(err)) {
			return n, err
		}
		r.reconnect(seen)
		if err := sleep(ctx, r.s.opts.RetryDelay<<(failures-1)); err != nil {
			return n, err
		}
	}
}

// resolve asks the registry what the name means.
func (r *registry) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	var target ocispec.Descriptor
	n, err := r.retry(ctx, func(ctx context.Context, resolver remotes.Resolver) (bool, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, r.s.opts.StallTimeout, errStalled)
		defer cancel()
		var err error
		_, target, err = resolver.Resolve(ctx, r.name)
		return false, causeOf(ctx, err)
	})
	if err != nil {
		return target, pullError(ctx, err, fmt.Sprintf("pull image manifest has been retried %d time(s): failed to resolve ref %s", n, r.name))
	}
	r.admitted = true
	if !images.IsManifestType(target.MediaType) && !images.IsIndexType(target.MediaType) {
		// Some registries do not say; what it is shows in its content.
		target.MediaType = ocispec.MediaTypeImageManifest
	}
	return target, nil
}

// fetch implements source.
func (r *registry) fetch(ctx context.Context, desc ocispec.Descriptor) error {
	s := r.s
	unlock, err := s.blobs.lock(ctx, desc.Digest.String())
	if err != nil {
		return err
	}
	defer unlock()
	here, err := s.holdContent(ctx, desc)
	if err != nil {
		return err
	}
	isLayer := images.IsLayerType(desc.MediaType)
	if here {
		if isLayer {
			r.prog.received(desc.Size)
		}
		return nil
	}
	d := &download{registry: r, desc: desc, counted: isLayer}
	if left, full := s.room(); desc.Size > left {
		return pullError(ctx, storageError(full), fmt.Sprintf("failed to copy %s", desc.Digest))
	}
	d.desc.URLs = nil // "foreign" layers would let an image send us anywhere
	d.desc.Data = nil
	n, err := r.retry(ctx, d.attempt)
	if err != nil {
		return pullError(ctx, err, fmt.Sprintf("ref pull has been retried %d time(s): failed to copy %s", n, desc.Digest))
	}
	return nil
}

// holdContent adds a blob to the context's lease, and tells whether it exists.
func (s *Local) holdContent(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	info, err := s.content.Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", desc.Digest, err)
	}
	if id, ok := leases.FromContext(ctx); ok {
		res := leases.Resource{ID: desc.Digest.String(), Type: "content"}
		if err := s.leases.AddResource(ctx, leases.Lease{ID: id}, res); err != nil {
			return false, fmt.Errorf("hold %s: %w", desc.Digest, err)
		}
	}
	if info.Size != desc.Size {
		return false, fail(ErrCorrupt, "%s has %d bytes and is listed with %d", desc.Digest, info.Size, desc.Size)
	}
	_, err = s.content.Info(ctx, desc.Digest) // a collection may have come between
	return err == nil, nil
}

// download is one blob on its way.
type download struct {
	*registry
	desc    ocispec.Descriptor
	counted bool // its bytes count as progress
	// seen is how much of it was counted, best how much an attempt has had at its end.
	seen, best int64
	// restarted is set when content that an earlier attempt left was thrown away.
	restarted bool
}

// attempt continues the download where the last attempt, or the last process, stopped.
func (d *download) attempt(ctx context.Context, resolver remotes.Resolver) (progressed bool, err error) {
	s, ref := d.s, ingestPrefix+d.desc.Digest.String()
	w, err := content.OpenWriter(ctx, s.content, content.WithRef(ref), content.WithDescriptor(d.desc))
	if errdefs.IsAlreadyExists(err) {
		return true, nil
	}
	if err != nil {
		return false, storageError(err)
	}
	defer w.Close()
	status, err := w.Status()
	if err != nil {
		return false, storageError(err)
	}
	offset := status.Offset
	if offset > d.desc.Size {
		if err := w.Truncate(0); err != nil {
			return false, storageError(err)
		}
		offset = 0
	}
	d.count(offset)
	n, err := d.copy(ctx, resolver, w, offset)
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok && status.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		// The registry will not continue: the next attempt is from the start.
		if e := w.Truncate(0); e != nil {
			return false, storageError(e)
		}
	}
	if isFull(err) {
		// On a full disk even forgetting takes space: give back what we took first.
		if e := w.Truncate(0); e != nil {
			s.opts.Log.Warn("what was downloaded onto a full disk is left for the garbage collection", "error", e)
		}
	}
	if err != nil {
		// What was here before, and was thrown away, is no progress.
		progressed := offset+n >= d.best+minProgress
		d.best = max(d.best, offset+n)
		return progressed, err
	}
	err = w.Commit(ctx, d.desc.Size, d.desc.Digest)
	if err == nil || errdefs.IsAlreadyExists(err) {
		return true, nil
	}
	if !errdefs.IsFailedPrecondition(err) {
		return false, storageError(err)
	}
	if e := s.content.Abort(ctx, ref); e != nil && !errdefs.IsNotFound(e) {
		return false, storageError(e)
	}
	if !d.restarted {
		// What was resumed may have been torn by a power loss, or continued wrongly by
		// the registry: once more, from the start.
		d.restarted = true
		return d.attempt(ctx, resolver)
	}
	return false, fail(ErrCorrupt, "%w", err)
}

// copy copies what is missing after offset and returns how much that was.
func (d *download) copy(ctx context.Context, resolver remotes.Resolver, w io.Writer, offset int64) (int64, error) {
	left := d.desc.Size - offset
	if left == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(d.s.opts.StallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()

	fetcher, err := resolver.Fetcher(ctx, d.name)
	if err != nil {
		return 0, err
	}
	rc, err := fetcher.Fetch(ctx, d.desc)
	if err != nil {
		return 0, causeOf(ctx, err)
	}
	defer rc.Close()
	if offset > 0 {
		seeker, ok := rc.(io.Seeker)
		if !ok {
			return 0, fmt.Errorf("continue the download of %s: the reader cannot seek", d.desc.Digest)
		}
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			return 0, causeOf(ctx, err)
		}
	}
	var copied, noted int64
	buf := make([]byte, 128<<10)
	for copied < left {
		n, err := rc.Read(buf[:min(int64(len(buf)), left-copied)])
		if n > 0 {
			if copied+int64(n)-noted >= minProgress {
				noted = copied + int64(n)
				stall.Reset(d.s.opts.StallTimeout)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return copied, storageError(err)
			}
			copied += int64(n)
			d.count(offset + copied)
		}
		if err == io.EOF && copied < left {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return copied, causeOf(ctx, err)
		}
	}
	return copied, nil
}

// count reports that the first have bytes of the blob are here.
func (d *download) count(have int64) {
	if d.counted && have > d.seen {
		d.prog.received(have - d.seen)
		d.seen = have
	}
}

// causeOf replaces an error that only says that ctx ended by why it ended.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			return cause
		}
	}
	return err
}

// errStorage marks failures of this node's disk, which a registry cannot mend.
type errStorage struct{ error }

func (e errStorage) Unwrap() error { return e.error }

func storageError(err error) error { return errStorage{err} }

var (
	// queries of URLs: those that registries redirect to carry signatures.
	urlQuery = regexp.MustCompile(`(https?://[^\s"?]+)\?[^\s"]*`)
	// maxErrorText bounds a text that a registry had a hand in.
	maxErrorText = 1000
)

// pullError renders an error as ECS shows it, with the kind that the agent needs.
func pullError(ctx context.Context, err error, doing string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[errStorage](err); ok {
		return fmt.Errorf("%s: %w", doing, diskError(e.error))
	}
	text := err.Error()
	if e, ok := errors.AsType[*statusError](err); ok {
		text = e.text
	} else if e, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		if said := serverMessage(e.Body); said != "" {
			text = e.Error() + said
		}
	}
	text = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
	text = strings.ReplaceAll(text, "\n", ": ")
	text = urlQuery.ReplaceAllString(text, "$1")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return &failure{kind: kindOf(err), text: doing + ": " + text, cause: err}
}
