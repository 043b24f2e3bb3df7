package image

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"longshore.dev/longshore/internal/boltfile"
)

const (
	// namespace is where our objects live in containerd's metadata.
	namespace = "longshore"
	// snapshotter is the name of the layers' snapshotter in containerd's metadata.
	snapshotter = "overlayfs"
)

// Options are what a Local store is made from.
type Options struct {
	// Root is the absolute path of the store's own directory; it is created. It must
	// be on a file system that overlayfs can use for its upper directories.
	Root string
	// Platform is what images must run on, as "linux/arm64/v8"; "" is this machine.
	Platform string
	// InsecureHosts are registries ("host" or "host:port") that may be spoken to over
	// plain HTTP or TLS without a known certificate. Loopback always may be plain.
	InsecureHosts []string
	// Mirrors are asked before a registry is, by its host ("docker.io", as references
	// name it): base URLs such as "https://mirror:5000". They get no credentials.
	Mirrors map[string][]string
	// RootCAs are the certificates that registries' are checked with; nil means the
	// system's.
	RootCAs *x509.CertPool
	// Limits bound what images may cost.
	Limits Limits
	// Cleanup says what Clean removes.
	Cleanup Cleanup
	// PullPolicy is what "" means in PullOptions (PullDefault).
	PullPolicy PullPolicy
	// SampleProgram stands in for the sample program that is embedded in the binary.
	SampleProgram []byte
	// StallTimeout ends a download attempt that receives nothing (default 1 minute, as
	// ECS_IMAGE_PULL_INACTIVITY_TIMEOUT).
	StallTimeout time.Duration
	// RetryDelay is the pause before the first retry; it doubles (default 500 ms).
	RetryDelay time.Duration

	Now   func() time.Time // default time.Now
	NewID func() string    // default random
	Log   *slog.Logger     // default discards
}

// Local is the Store of this machine. Nobody else may use its directory meanwhile.
type Local struct {
	opts     Options
	platform platforms.MatchComparer
	net      *transport
	mirrors  map[string][]*url.URL

	bolt    *bolt.DB
	layerDB *storage.MetaStore
	db      *metadata.DB
	files   content.Store // where content keeps its bytes
	content content.Store
	images  images.Store
	leases  leases.Manager
	layers  snapshots.Snapshotter

	rootfs *rootfs
	// pins are the layers' directories by chain id, of the pins known to exist.
	// rootfs.mu guards it.
	pins         map[string][]string
	mountOptions []string // of every overlay mount

	blobs  keyedLock // by digest: one download at a time
	chains keyedLock // by chain id: one unpack at a time
	works  keyedLock // by lease's work: one at a time
	pulls  flights
	cache  manifestCache

	deadMu sync.Mutex
	// dead are leases of work that ended and that could not be deleted.
	dead []leases.Lease

	uses     usage
	cleaning sync.Mutex // one Clean at a time
	diskUsed func(dir string) (percent float64, err error)

	// base is what every call's context is joined with: it carries the namespace and
	// ends when the store closes.
	base   context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	kicked chan struct{}
	sample sync.Mutex
}

var _ Store = (*Local)(nil)

// Open opens, or creates, the store in opts.Root. It needs root privileges.
func Open(opts Options) (*Local, error) {
	if !filepath.IsAbs(opts.Root) {
		return nil, fmt.Errorf("open image store: %q is not an absolute path", opts.Root)
	}
	if strings.ContainsAny(opts.Root, `,:\`) {
		return nil, fmt.Errorf("open image store: %q has a comma, a colon or a backslash in it, which overlayfs's mount options cannot hold; choose another data directory", opts.Root)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("open image store: unpacking layers needs root privileges, and this process runs as user %d", os.Geteuid())
	}
	// What the libraries log without a context would go to stderr.
	if err := log.SetLevel("error"); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	spec := platforms.DefaultSpec()
	if opts.Platform != "" {
		var err error
		if spec, err = platforms.Parse(opts.Platform); err != nil {
			return nil, fmt.Errorf("open image store: platform: %w", err)
		}
	}
	opts.Platform = platforms.Format(spec)
	opts = opts.withDefaults()
	s := &Local{
		opts:     opts,
		platform: platforms.Only(spec),
		net:      newTransport(opts),
		kicked:   make(chan struct{}, 1),
		diskUsed: diskUsed,
		pins:     map[string][]string{},
	}
	var err error
	if s.mirrors, err = parseMirrors(opts.Mirrors); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.base = namespaces.WithNamespace(log.WithLogger(s.base, libraryLog(opts.Log)), namespace)
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	s.work.Go(s.janitor)
	s.kick()
	return s, nil
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	o.Cleanup = o.Cleanup.withDefaults()
	if o.PullPolicy == "" {
		o.PullPolicy = PullDefault
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = uuid.NewString
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	return o
}

func (s *Local) open() error {
	if err := os.MkdirAll(s.opts.Root, 0o700); err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	var err error
	if s.bolt, err = openBolt(s.path("metadata.db")); err != nil {
		return err
	}
	// From here on the directory is ours: the lock on metadata.db says so.
	if err := clearProbes(s.path("layers")); err != nil {
		return err
	}
	// It tries with files of its own: a full disk says nothing, and must not keep what
	// runs here from being looked after.
	if err := overlayutils.Supported(s.path("layers")); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("open image store: overlayfs does not work in %s (it cannot lie on another overlay, nor on NFS; choose a data directory on a local disk): %w", s.opts.Root, err)
	}
	layerFile := s.path("layers", "metadata.db")
	if err := checkBolt(layerFile); err != nil {
		return err
	}
	if s.layerDB, err = storage.NewMetaStore(layerFile); err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	layers, err := overlay.NewSnapshotter(s.path("layers"), overlay.WithMetaStore(s.layerDB), overlay.AsynchronousRemove)
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	if err := s.removeHalfMade(layers); err != nil {
		return fmt.Errorf("open image store: remove half-made layers: %w", err)
	}
	s.files, err = contentlocal.NewStore(s.path("content"))
	if err != nil {
		return fmt.Errorf("open image store: %w", err)
	}
	s.db = metadata.NewDB(s.bolt, s.files, map[string]snapshots.Snapshotter{snapshotter: layers})
	if err := s.db.Init(s.base); err != nil {
		return damaged(fmt.Errorf("%s is %w: %w", s.bolt.Path(), boltfile.ErrDamaged, err))
	}
	s.content = s.db.ContentStore()
	s.layers = s.db.Snapshotter(snapshotter)
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		// With an index, a directory cannot be mounted again while an old mount lingers.
		s.mountOptions = []string{"index=off"}
	}
	if s.rootfs, err = openRootFS(s.path("rootfs")); err != nil {
		return err
	}
	return s.distrust()
}

func (s *Local) path(elem ...string) string {
	return filepath.Join(append([]string{s.opts.Root}, elem...)...)
}

// Close cancels what runs, waits for it, and closes the store.
func (s *Local) Close() error {
	s.cancel()
	s.pulls.close()
	s.work.Wait()
	return s.close()
}

func (s *Local) close() error {
	s.cancel()
	s.net.close()
	var err error
	if s.layerDB != nil {
		err = s.layerDB.Close()
	}
	if s.bolt != nil {
		if e := s.bolt.Close(); err == nil {
			err = e
		}
	}
	return err
}

// context gives ctx what the containerd libraries need in it, and ends it when
// the store closes.
func (s *Local) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.base, cancel)
	ctx = namespaces.WithNamespace(log.WithLogger(ctx, log.G(s.base)), namespace)
	return ctx, func() { stop(); cancel() }
}
