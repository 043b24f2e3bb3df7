package edge

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/edge/proxy"
	"longshore.dev/longshore/internal/nodestate"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/tcp"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// Paths at the server.
const (
	StatePath  = "/_longshore/state"
	HealthPath = "/_longshore/health"
)

// Config is what a process is told by who starts it, on its standard input.
type Config struct {
	// Server is the control plane's base URL; the credentials are the node's.
	Server          string `json:"server"`
	Region          string `json:"region"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	// CA is the authority that vouches for the server, in PEM; empty: the machine's own.
	CA string `json:"ca,omitempty"`
	// RunDir is where the control socket is, StateDir where the last state is kept.
	RunDir   string `json:"runDir"`
	StateDir string `json:"stateDir"`
	// Identity names the executable and what it was started with: a process with another
	// one takes over.
	Identity string `json:"identity"`
}

// String hides the secret from whatever prints a configuration.
func (c Config) String() string { return "configuration of the edge at " + c.Server }

// GoString hides it from %#v.
func (c Config) GoString() string { return c.String() }

// Times of the process.
const (
	// reportEvery is how often the targets' health is told when nothing changes.
	reportEvery = 5 * time.Second
	// reportGather is how long changes are gathered before they are told.
	reportGather = 20 * time.Millisecond
	// lastReport bounds the last of them.
	lastReport = 2 * time.Second
	// retryApply is when a listener is tried again whose socket could not be opened.
	retryApply = 2 * time.Second
	// drainTimeout bounds what goes on after the end, idleGrace keeps connections that may
	// have a request on its way.
	drainTimeout, idleGrace = 5 * time.Minute, 10 * time.Second
	// tableLimit is how long a process that takes over waits for a table.
	tableLimit = 5 * time.Second
)

// edge is the running process.
type edge struct {
	log     *slog.Logger
	proxy   *proxy.Server
	config  atomic.Pointer[Config]
	client  atomic.Pointer[http.Client]
	changed chan struct{}
	// process names this process to the server: of a node's, one serves, and those that it
	// has taken over from drain. alone: there was none before it.
	process string
	alone   bool
	// ended: nobody takes over. leaving: another process may have addresses and names.
	ended, leaving atomic.Bool
	// inherited are the sockets of the process before, by address.
	inherited *sockets

	mu        sync.Mutex // guards what follows
	table     balance.Table
	retry     *time.Timer
	addresses addresses
}

// Run serves until ctx ends, or another process takes over.
func Run(ctx context.Context, c Config, log *slog.Logger) error {
	e := &edge{log: log, changed: make(chan struct{}, 1), process: rand.Text()}
	if err := e.configure(c); err != nil {
		return err
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		return fmt.Errorf("make the edge's run directory: %w", err)
	}
	before, err := takeOver(c.RunDir)
	if err != nil {
		return fmt.Errorf("take over from the edge that runs: %w", err)
	}
	defer before.close()
	e.inherited, e.alone = before.sockets, !before.there
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sticky := sha256.Sum256([]byte("stickiness\x00" + c.SecretAccessKey))
	e.proxy = proxy.New(proxy.Options{
		Log: log, Listen: e.inherited.listen, StickyKey: sticky[:], DrainTimeout: drainTimeout, IdleGrace: idleGrace, Changed: e.healthChanged,
	})
	follower, err := e.follower(c)
	if err != nil {
		return err
	}
	follower.Load()
	left, drained := context.WithCancel(context.WithoutCancel(ctx))
	defer drained()
	var group errgroup.Group
	group.Go(func() error { defer drained(); return e.proxy.Run(ctx) })
	group.Go(func() error { return e.follow(ctx, left, follower) })
	e.awaitTable(ctx, follower)
	control, err := before.replace(c)
	if err != nil {
		stop()
		return errors.Join(fmt.Errorf("open the edge's control socket: %w", err), group.Wait())
	}
	group.Go(func() error { e.report(left); return nil })
	group.Go(func() error { return e.serveControl(ctx, control, stop) })
	before.end()
	log.Info("the edge serves", "state", c.StateDir)
	err = group.Wait()
	if e.ended.Load() {
		err = errors.Join(err, e.furnish(balance.Table{}), os.RemoveAll(c.RunDir))
	}
	return err
}

// follow follows the server's tables until ctx ends; from then on, until nothing is left,
// what is drained follows them too, and no file is written: it is the next process's.
func (e *edge) follow(ctx, left context.Context, f *nodestate.Follower) error {
	if err := f.Run(ctx); err != nil {
		return err
	}
	e.leaving.Store(true)
	return nodestate.NewFollower(e.following()).Run(left)
}

// awaitTable waits until this process serves what the one before does: every socket that was
// handed over has its listener. If the server has told a table without them, or tells
// nothing for long, so be it.
func (e *edge) awaitTable(ctx context.Context, f *nodestate.Follower) {
	limit := time.NewTimer(tableLimit)
	defer limit.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for e.inherited.left() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-f.Told():
			return
		case <-limit.C:
			return
		case <-ticker.C:
		}
	}
}

// follower follows the server's tables. What is kept, private keys included, is sealed by a
// key of the edge's own: it must be there before any server answers.
func (e *edge) follower(c Config) (*nodestate.Follower, error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the edge's state directory: %w", err)
	}
	sealer, err := seal.OpenFile(filepath.Join(c.StateDir, "key"))
	if err != nil {
		return nil, fmt.Errorf("open the key of the edge's state: %w", err)
	}
	const purpose = "edge/state"
	o := e.following()
	o.File = filepath.Join(c.StateDir, "balancers")
	o.Seal = func(b []byte) ([]byte, error) { return sealer.Seal(purpose, b) }
	o.Open = func(b []byte) ([]byte, error) { return sealer.Open(purpose, b) }
	return nodestate.NewFollower(o), nil
}

// following is what a follower needs, but for a file.
func (e *edge) following() nodestate.FollowerOptions {
	return nodestate.FollowerOptions{
		URL: e.config.Load().Server + StatePath, Kind: Kind, Client: &http.Client{Transport: clientOf(&e.client)},
		Sign: func(r *http.Request) error { return e.sign(r, nil) },
		Apply: func(entries nodestate.Entries) error {
			t, err := tableOf(entries)
			if err != nil {
				return err
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.table = t
			return e.apply()
		},
		Log: e.log,
	}
}

// apply serves the table. A listener whose socket is taken is tried again.
func (e *edge) apply() error {
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
	var furnished error
	if !e.leaving.Load() {
		furnished = e.furnish(e.table)
	}
	err := errors.Join(furnished, e.proxy.Apply(e.table))
	if err != nil && !errors.Is(err, proxy.ErrClosed) {
		e.retry = time.AfterFunc(retryApply, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			_ = e.apply() // it was told of
		})
	}
	e.healthChanged()
	return err
}

// furnish gives the machine the addresses and names of a table's load balancers. A name
// that can't be given is told of, and no reason not to serve.
func (e *edge) furnish(t balance.Table) error {
	wanted, names := map[netip.Addr]bool{}, map[string]string{}
	for _, b := range t.LoadBalancers {
		if a, err := netip.ParseAddr(b.Address); err == nil {
			wanted[a] = true
			if b.Name != "" {
				names[b.Name] = b.Address
			}
		}
	}
	if err := setHosts(hostsFile, filepath.Base(e.config.Load().RunDir), names); err != nil && len(names) > 0 {
		e.log.Warn("load balancers are reached by their addresses only", "error", err)
	}
	if len(wanted) == 0 && len(e.addresses.mine) == 0 {
		return nil
	}
	return e.addresses.set(wanted)
}

// configure takes new credentials, or another server.
func (e *edge) configure(c Config) error {
	trust, err := pki.Trusting([]byte(c.CA))
	if err != nil {
		return fmt.Errorf("the server's authority: %w", err)
	}
	e.client.Store(&http.Client{Transport: &http.Transport{
		TLSClientConfig: trust, DialContext: tcp.Dialer().DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
	}})
	e.config.Store(&c)
	return nil
}

// clientOf is a transport that uses the client of the moment.
type clientTransport struct{ client *atomic.Pointer[http.Client] }

func clientOf(p *atomic.Pointer[http.Client]) http.RoundTripper { return clientTransport{p} }

func (t clientTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.client.Load().Transport.RoundTrip(r)
}

func (e *edge) sign(r *http.Request, body []byte) error {
	c := e.config.Load()
	return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}, c.Region, "ecs", sigv4.Hash(body), time.Now())
}

func (e *edge) healthChanged() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Health is what an edge tells of its targets.
type Health struct {
	// Process names the process: what it says replaces what it said before. Of a node's
	// several, one serves, and the others drain.
	Process string `json:"process"`
	// Alone: no other process of the node has requests.
	Alone bool `json:"alone,omitempty"`
	// Ends: it has no requests any more, and says nothing more.
	Ends    bool                 `json:"ends,omitempty"`
	Targets []proxy.TargetHealth `json:"targets"`
}

// report tells the server how the targets are, at each change and every while, until the
// last request has been answered.
func (e *edge) report(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastReport)
		defer cancel()
		if err := e.tell(last, Health{Process: e.process, Ends: true, Targets: []proxy.TargetHealth{}}); err != nil {
			e.log.Debug("the end could not be told; the server notices it", "error", err)
		}
	}()
	for alone := e.alone; ; {
		err := e.tell(ctx, Health{Process: e.process, Alone: alone, Targets: e.proxy.Health()})
		if err != nil && ctx.Err() == nil {
			e.log.Debug("the targets' health could not be told; it is told again", "error", err)
		}
		alone = alone && err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(reportGather):
			}
		}
	}
}

func (e *edge) tell(ctx context.Context, h Health) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.config.Load().Server+HealthPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if err := e.sign(r, body); err != nil {
		return err
	}
	response, err := e.client.Load().Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s: %s", response.Status, said)
	}
	return nil
}

// sockets are listening sockets that were handed over, each taken once.
type sockets struct {
	mu  sync.Mutex
	all map[string]net.Listener
}

// listen gives the socket that was handed over for an address, or opens one.
func (s *sockets) listen(network, address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.all[address]; ok {
		delete(s.all, address)
		return l, nil
	}
	return net.Listen(network, address)
}

func (s *sockets) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all {
		_ = l.Close()
	}
	s.all = nil
}
