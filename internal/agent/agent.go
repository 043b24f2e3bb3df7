package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// Options are what an agent is made of.
type Options struct {
	// DataDir holds what survives a reboot: records, volumes.
	DataDir string
	// RunDir holds what a reboot ends; the run directories of the machine's other
	// nodes are beside it. Empty: there are none.
	RunDir string
	// Cluster to register in, "default" when empty; Region and Zone of the node.
	Cluster, Region, Zone string
	// Attributes beyond the capabilities that the agent announces itself; a name
	// without a value maps to "".
	Attributes map[string]string
	// Resources that the node offers; zero asks the machine.
	Resources Resources
	Version   string

	Images   image.Store
	Networks network.Network
	Runtime  runtime.Runtime
	Logs     LogDrivers
	// CleanImages is how often unused images are looked for (default 5 minutes).
	CleanImages time.Duration
	// Control is the ECS API under the node's credentials, Sign signs the websockets'.
	Control    controlPlane
	Sign       acs.Signer
	HTTPClient *http.Client
	// API is where tasks' own requests go; without an endpoint they have none.
	API API

	Now   func() time.Time
	NewID func() string
	Log   *slog.Logger
}

// Agent is one node.
type Agent struct {
	parts
	options   Options
	engine    *engine
	stats     *sampler
	peers     *peers
	checkup   *checkup
	endpoints endpoints
	limits    *requestLimits
	health    chan struct{} // wakes the telemetry session
	// connected: an assignments session is open; hadSession: one was.
	connected, hadSession atomic.Bool
	// listen opens the metadata server's socket.
	listen func(netip.AddrPort) (net.Listener, error)

	mu         sync.Mutex
	registered identity
	// zone is the node's, as the control plane has it.
	zone string
}

// New opens the node's records. It starts nothing.
func New(o Options) (*Agent, error) {
	if err := ensureDir(o.DataDir); err != nil {
		return nil, err
	}
	db, err := openDB(o.DataDir)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		parts: parts{
			images: o.Images, networks: o.Networks, runtime: o.Runtime, logs: o.Logs, control: o.Control, db: db,
			volumes: filepath.Join(o.DataDir, "volumes"), region: o.Region, cleanImages: o.CleanImages, now: o.Now, newID: o.NewID, log: o.Log,
		},
		options: o, checkup: newCheckup(), limits: newRequestLimits(), health: make(chan struct{}, 1), zone: o.Zone,
		listen: func(at netip.AddrPort) (net.Listener, error) { return net.Listen("tcp", at.String()) },
	}
	a.engine = newEngine(a.parts, func() { wake(a.health) })
	if a.engine.capacity, err = a.resources(); err != nil {
		return nil, errors.Join(err, db.close())
	}
	a.peers = newPeers(o.RunDir)
	a.stats = newSampler(a.parts, a.engine)
	if a.registered, err = db.identity(); err != nil {
		return nil, errors.Join(err, db.close())
	}
	return a, nil
}

// Run is the node's life: it takes up its tasks, registers, serves metadata and
// keeps its sessions until ctx ends. Containers run on.
func (a *Agent) Run(ctx context.Context) error {
	listener, err := a.listen(a.networks.MetadataListenAddr())
	if err != nil {
		return errors.Join(fmt.Errorf("listen for task metadata: %w", err), a.db.close())
	}
	if err := a.peers.announce(a.networks.MetadataListenAddr()); err != nil {
		return errors.Join(err, listener.Close(), a.db.close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serveMetadata(ctx, listener) })
	if err := a.engine.start(ctx); err != nil {
		stop()
		return errors.Join(err, group.Wait(), a.db.close())
	}
	group.Go(func() error {
		if err := a.registerUntilDone(ctx); err != nil {
			return err
		}
		group.Go(func() error { return a.runSession(ctx, "acs", a.openAssignments) })
		group.Go(func() error { return a.runSession(ctx, "tcs", a.openTelemetry) })
		group.Go(func() error { return a.runCheckup(ctx) })
		group.Go(func() error { return a.stats.run(ctx) })
		return nil
	})
	err = group.Wait()
	a.engine.wait()
	return errors.Join(err, a.db.close())
}

// StopTasks stops every task of the node, and returns when all are gone and the
// control plane knows it. Run must be running.
func (a *Agent) StopTasks(ctx context.Context) error { return a.engine.stopAll(ctx) }

// Connected tells whether the control plane's assignments reach the node.
func (a *Agent) Connected() bool { return a.connected.Load() }

func (a *Agent) identity() identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.registered
}

// zoneName is the node's availability zone.
func (a *Agent) zoneName() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.zone
}

// advanceTimeline takes the timeline of a manifest; false when it is not newer.
func (a *Agent) advanceTimeline(timeline int64) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if timeline <= a.registered.Timeline {
		return false, nil
	}
	next := a.registered
	next.Timeline = timeline
	if err := a.db.putIdentity(next); err != nil {
		return false, err
	}
	a.registered = next
	return true, nil
}

// sawSequence takes the sequence number of a payload, which makes older manifests
// stale. It is on disk with the payload's tasks.
func (a *Agent) sawSequence(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.registered.Timeline {
		a.registered.Timeline = n
		a.db.sequence.Store(n)
	}
}
