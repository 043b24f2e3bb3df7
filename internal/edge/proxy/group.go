package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// group is a target group over all tables that have it.
type group struct {
	server   *Server
	id       string
	turn     atomic.Uint64
	pool     atomic.Pointer[pool]
	counters groupCounters

	// mu guards what follows; requests take the pool instead.
	mu         sync.Mutex
	config     *balance.TargetGroup
	used       bool
	registered map[targetKey]*target
	// draining are those that the table says are, also after their end.
	draining map[targetKey]*target
}

// pool is what a request sees of a group: it is never changed, but replaced.
type pool struct {
	config *balance.TargetGroup
	// targets are all that are registered, routable those that may be chosen: the healthy
	// ones, or all where none is (AWS calls this fail open).
	targets, routable []*target
	byKey             map[string]*target
}

// targetKey is what makes a target another one when it changes.
type targetKey struct {
	id, ip            string
	port              int
	protocol, version string
}

func (k targetKey) String() string { return k.id + ":" + strconv.Itoa(k.port) }

// target is one registration of a target.
type target struct {
	group   *group
	key     targetKey
	address string
	// transport holds its connections; nil for TCP and TLS.
	transport *http.Transport
	// outstanding requests and flows.
	outstanding atomic.Int64
	// healthySince is when it became healthy, for its slow start, in Unix nanoseconds.
	healthySince atomic.Int64
	// again asks for a check at once.
	again chan struct{}

	// Guarded by the group's mu.
	health     balance.Health
	stopChecks context.CancelFunc

	// mu guards what it has in flight, and its end.
	mu       sync.Mutex
	flights  map[*flight]bool
	draining bool
	gone     bool
	end      *time.Timer
}

// Outstanding and Share make it a balance.Candidate.
func (t *target) Outstanding() int { return int(t.outstanding.Load()) }

// Share is below 1 in its slow start.
func (t *target) Share() float64 {
	slow := t.group.pool.Load().config.SlowStart()
	if slow == 0 {
		return 1
	}
	return balance.SlowShare(time.Since(time.Unix(0, t.healthySince.Load())), slow)
}

func keyOf(g *balance.TargetGroup, t *balance.Target) targetKey {
	return targetKey{t.ID, t.IP, t.Port, g.Protocol, g.Version()}
}

// apply brings the group to its configuration. used: a listener forwards to it.
func (g *group) apply(config *balance.TargetGroup, used bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	checksChanged := g.config != nil && g.config.HealthCheck != config.HealthCheck
	begins := used && !g.used
	g.config, g.used = config, used
	registered, draining := map[targetKey]*target{}, map[targetKey]*target{}
	for i := range config.Targets {
		key := keyOf(config, &config.Targets[i])
		if !config.Targets[i].Draining {
			if registered[key] = g.registered[key]; registered[key] == nil {
				registered[key] = g.newTarget(key)
			}
			continue
		}
		t := g.draining[key]
		if t == nil {
			if t = g.registered[key]; t == nil {
				t = g.newTarget(key)
			}
		}
		draining[key] = t
	}
	before := g.registered
	g.registered, g.draining = registered, draining
	// First the pool without them, then the draining: whoever is refused by a target finds
	// another one.
	g.publish()
	for key, t := range before {
		if registered[key] != t {
			g.stopChecking(t)
			t.drain(config.DeregistrationDelay())
		}
	}
	for _, t := range draining {
		t.drain(config.DeregistrationDelay())
	}
	for _, t := range registered {
		switch {
		case !used:
			g.stopChecking(t)
		case t.stopChecks == nil:
			if begins {
				t.health = balance.NewHealth()
			}
			g.check(t)
		case checksChanged:
			select {
			case t.again <- struct{}{}:
			default:
			}
		}
	}
}

// remove drains all targets: the group is not in the table any more.
func (g *group) remove() {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.registered
	g.registered, g.draining = nil, nil
	g.publish()
	for _, t := range before {
		g.stopChecking(t)
		t.drain(g.config.DeregistrationDelay())
	}
}

// publish makes the pool anew; with the lock held.
func (g *group) publish() {
	p := &pool{config: g.config, byKey: make(map[string]*target, len(g.registered))}
	// In the order of the table, so that turns go round.
	for i := range g.config.Targets {
		t := g.registered[keyOf(g.config, &g.config.Targets[i])]
		if t == nil || g.config.Targets[i].Draining {
			continue
		}
		p.byKey[t.key.String()] = t
		p.targets = append(p.targets, t)
		if t.health.State == balance.Healthy {
			p.routable = append(p.routable, t)
		}
	}
	if len(p.routable) == 0 {
		p.routable = p.targets
	}
	g.pool.Store(p)
}

// may tells whether a client may stay with a target.
func (p *pool) may(t *target) bool {
	for _, other := range p.routable {
		if other == t {
			return true
		}
	}
	return false
}

func (g *group) health(all []TargetHealth) []TargetHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.config.Targets {
		config := &g.config.Targets[i]
		key := keyOf(g.config, config)
		t, h := g.registered[key], balance.Gone
		switch {
		case config.Draining:
			if t = g.draining[key]; t != nil && !t.isGone() {
				h = balance.BeingDrained
			}
		case !g.used:
			h = balance.InUnusedGroup
		case t != nil:
			h = t.health
		}
		line := TargetHealth{GroupID: g.id, TargetID: config.ID, Port: config.Port, CheckPort: g.config.CheckPort(config),
			State: h.State, Reason: h.Reason, Description: h.Description}
		if t != nil {
			line.InFlight = t.Outstanding()
		}
		all = append(all, line)
	}
	return all
}

func (g *group) newTarget(key targetKey) *target {
	t := &target{group: g, key: key, address: net.JoinHostPort(key.ip, strconv.Itoa(key.port)), health: balance.NewHealth(),
		again: make(chan struct{}, 1), flights: map[*flight]bool{}}
	if !g.config.Layer4() {
		t.transport = g.server.newTransport(key.version)
		t.transport.MaxIdleConnsPerHost = 512
		t.transport.IdleConnTimeout = 60 * time.Second
	}
	return t
}

// Bounds of what targets answer, as AWS has them.
const (
	dialTimeout      = 10 * time.Second
	maxAnswerHeaders = 32 << 10
)

// newTransport speaks one protocol version, over TLS where the URL's scheme says so.
// Targets' certificates are not verified, as in AWS.
func (s *Server) newTransport(version string) *http.Transport {
	protocols := new(http.Protocols)
	if version == balance.HTTP1 {
		protocols.SetHTTP1(true)
	} else {
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Transport{
		DialContext:            s.dial,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHeaders,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		WriteBufferSize:        8 << 10,
		ReadBufferSize:         8 << 10,
	}
}

// dialError says that nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := s.options.Dial(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

// begin takes a flight up, unless the target drains.
func (t *target) begin(f *flight) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return false
	}
	t.flights[f] = true
	t.outstanding.Add(1)
	return true
}

func (t *target) done(f *flight) {
	t.mu.Lock()
	draining := t.draining
	delete(t.flights, f)
	t.mu.Unlock()
	t.outstanding.Add(-1)
	if draining && t.transport != nil {
		t.transport.CloseIdleConnections()
	}
}

// drain lets nothing new come, and ends what is there after the delay.
func (t *target) drain(delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return
	}
	t.draining = true
	t.group.server.leaving.add(t)
	t.end = time.AfterFunc(delay, t.cut)
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
}

// cut ends what a draining target still has.
func (t *target) cut() {
	t.mu.Lock()
	t.gone = true
	t.end.Stop()
	t.mu.Unlock()
	if t.transport != nil || !t.group.pool.Load().config.KeepConnections {
		t.cutFlights(errDrained)
	}
	if t.transport != nil {
		t.transport.CloseIdleConnections()
	}
	t.group.server.leaving.drop(t)
	t.group.server.options.Changed()
}

func (t *target) cutFlights(cause error) {
	t.mu.Lock()
	cut := make([]*flight, 0, len(t.flights))
	for f := range t.flights {
		cut = append(cut, f)
	}
	t.mu.Unlock()
	for _, f := range cut {
		f.cut(cause)
	}
}

func (t *target) isGone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone
}

// targetSet is the targets that drain.
type targetSet struct {
	mu  sync.Mutex
	all map[*target]bool
}

func (s *targetSet) add(t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*target]bool{}
	}
	s.all[t] = true
}

func (s *targetSet) drop(t *target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, t)
}

// cutAll ends all of them at once.
func (s *targetSet) cutAll() {
	s.mu.Lock()
	var all []*target
	for t := range s.all {
		all = append(all, t)
	}
	s.mu.Unlock()
	for _, t := range all {
		t.cut()
	}
}
