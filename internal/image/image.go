package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of the contract. Implementations wrap them with %w; the agent maps them
// to ECS's CannotPullContainerError texts.
var (
	ErrNotFound     = errors.New("image not found")
	ErrUnauthorized = errors.New("registry refused the credentials")
	ErrUnavailable  = errors.New("registry cannot be reached")
	ErrCorrupt      = errors.New("image content does not match its digest")
	ErrPlatform     = errors.New("image has no manifest for this platform")
	// ErrInvalid: a reference, an archive or an image that is malformed or too large.
	ErrInvalid = errors.New("image is not valid")
)

// HealthCheck is an image's own health check, in OCI/Docker terms.
type HealthCheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// Config is the part of an image's configuration that running it needs.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string
	WorkingDir   string
	User         string
	ExposedPorts []string // "80/tcp"
	Volumes      []string
	Labels       map[string]string
	StopSignal   string
	HealthCheck  *HealthCheck
}

// Image is an image that is present and unpacked on this node.
type Image struct {
	// Ref as it was asked for ("nginx", "registry:5000/a/b:tag", "…@sha256:…").
	Ref string
	// Digest is what the registry answers for the reference, as in Docker's
	// RepoDigests: for a multi-platform image the digest of the index, otherwise that
	// of the manifest. For an imported image it is that of the archive's manifest.
	Digest string
	// ID is the digest of the configuration, Docker's image id.
	ID string
	// Size is what the image's layers take unpacked, in bytes.
	Size   int64
	Config Config
}

// Credentials for a registry; zero means anonymous.
type Credentials struct {
	Username, Password string
}

// Progress tells how far a pull is.
type Progress struct {
	LayersDone, LayersTotal int
	BytesDone, BytesTotal   int64
}

// PullPolicy tells when a registry is asked.
type PullPolicy string

// The pull policies: ECS's ECS_IMAGE_PULL_BEHAVIOR values.
const (
	// PullDefault asks the registry, and falls back to what is present.
	PullDefault PullPolicy = "default"
	// PullPreferCached pulls only what is missing; so does PullOnce, because an image
	// that was pulled once is here until it is cleaned up.
	PullPreferCached PullPolicy = "prefer-cached"
	PullOnce         PullPolicy = "once"
	// PullAlways fails when the registry cannot be asked.
	PullAlways PullPolicy = "always"
)

// Validate refuses what is no policy.
func (p PullPolicy) Validate() error {
	switch p {
	case PullDefault, PullPreferCached, PullOnce, PullAlways:
		return nil
	}
	return fmt.Errorf("unknown pull policy %q; use default, always, once or prefer-cached", string(p))
}

// PullOptions are the options of a pull.
type PullOptions struct {
	Credentials Credentials
	Policy      PullPolicy // "" means the store's own
	// OnProgress is called, one call at a time, while layers arrive. It must not block.
	OnProgress func(Progress)
}

// Mount is how a prepared root file system is mounted: type, source and options
// as mount(8) knows them ("overlay" with lowerdir/upperdir/workdir, or "bind").
type Mount struct {
	Type    string
	Source  string
	Options []string
}

// Store is the node's images. All methods may be called concurrently.
type Store interface {
	// Pull makes the image present and unpacked. References to images that were
	// imported (the sample among them) never need a registry.
	Pull(ctx context.Context, ref string, opts PullOptions) (Image, error)
	// Get returns a present image, or ErrNotFound.
	Get(ctx context.Context, ref string) (Image, error)
	List(ctx context.Context) ([]Image, error)
	// Import reads a docker-save or OCI-layout tar archive (plain or compressed)
	// and returns the images it named.
	Import(ctx context.Context, archive io.Reader) ([]Image, error)
	// Remove forgets an image; its content goes with the next garbage collection.
	Remove(ctx context.Context, ref string) error

	// Clean removes images that nobody uses, by age and when the disk is too full, and
	// returns their references; call it every few minutes. What was imported, is being
	// pulled, lies under a root file system, or is among the references that inUse
	// returns, stays. inUse may be called several times and must not call the store.
	Clean(ctx context.Context, inUse func() []string) ([]string, error)

	// Prepare makes a writable snapshot named key ([A-Za-z0-9][A-Za-z0-9_.-]{0,127})
	// over the image and returns its mount, which the caller mounts. The same key
	// again returns the same mount, whatever the reference has come to mean since.
	Prepare(ctx context.Context, ref, key string) (Mount, error)
	// Release removes the snapshot named key. Removing what does not exist is nil.
	Release(ctx context.Context, key string) error
	// Snapshots returns the keys of all prepared snapshots.
	Snapshots(ctx context.Context) ([]string, error)
	Close() error
}
