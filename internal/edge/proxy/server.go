package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// Options of a server; all may stay zero.
type Options struct {
	Log *slog.Logger
	// Listen opens sockets; net.Listen by default. Who hands sockets over from another
	// process gives them here.
	Listen func(network, address string) (net.Listener, error)
	// Dial connects to targets; a net.Dialer's by default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// StickyKey is 32 bytes that seal the cookies of stickiness. Servers with the same
	// one understand each other's; by default it is made up.
	StickyKey []byte
	// DrainTimeout bounds how long requests may go on after their listener is gone, or
	// after the server's end. 0: five minutes.
	DrainTimeout time.Duration
	// IdleGrace is how long connections without a request are kept when their listener is
	// gone, or at the server's end, so that a request that is on its way is answered, and
	// with that the client told that this was the last one. Who hands sockets over sets it
	// to the clients' own idle time. 0: they are closed at once.
	IdleGrace time.Duration
	// MaxConnections of each listener, beyond which new ones are closed. 0: 65536.
	MaxConnections int
	// Changed is called after a target's health has changed, with no lock held. It must
	// not block.
	Changed func()
	// Random gives 64 random bits, for choices and trace ids.
	Random func() uint64
}

// Server is the data plane.
type Server struct {
	options Options
	sealer  *sealer

	// ctx ends with the server; running are its goroutines.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// mu guards what follows, for Apply and the end. Requests do not take it.
	mu sync.Mutex
	// closed: the sockets are, what is left of the fronts is drained. ended: nothing is left.
	closed, ended bool
	ports         map[string]*port
	// fronts are all that still have connections, those of ports that are gone included.
	fronts   map[*front]bool
	groups   map[string]*group
	counters map[string]*balancerCounters

	// leaving are targets that drain.
	leaving targetSet
}

// New makes a server with no listeners; its goroutines end with Run.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 5*time.Minute)
	o.MaxConnections = cmp.Or(o.MaxConnections, 65536)
	s := &Server{options: o, sealer: newSealer(o.StickyKey), ports: map[string]*port{}, fronts: map[*front]bool{},
		groups: map[string]*group{}, counters: map[string]*balancerCounters{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// ErrClosed is what Apply returns after the end of Run.
var ErrClosed = errors.New("the load balancer has been shut down: no table is applied any more")

// Apply serves a table from now on. A table that is wrong changes nothing. A listener
// whose socket cannot be opened is in the error, and everything else is applied: applying
// the same table again tries it again. While Run drains, connections that are left follow
// the table, and no socket is opened.
func (s *Server) Apply(t balance.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrClosed
	}
	if err := t.Validate(); err != nil {
		return fmt.Errorf("the table is not applied, the one before stays: %w", err)
	}
	wanted, err := s.compile(&t)
	if err != nil {
		return fmt.Errorf("the table is not applied, the one before stays: %w", err)
	}
	before := s.groups
	s.groups = s.applyGroups(&t)
	for _, c := range wanted {
		c.groups = s.groups
	}
	if s.closed {
		s.followLeft(wanted)
	} else {
		err = s.applyListeners(wanted)
	}
	// Only now does no listener forward to them any more.
	for id, g := range before {
		if s.groups[id] == nil {
			g.remove()
		}
	}
	return err
}

// applyGroups brings target groups and their targets to the table. The map is made anew:
// requests that run look up in the one that they have.
func (s *Server) applyGroups(t *balance.Table) map[string]*group {
	used := map[string]bool{}
	for _, lb := range t.LoadBalancers {
		for _, l := range lb.Listeners {
			for _, id := range forwardedTo(&l) {
				used[id] = true
			}
		}
	}
	groups := make(map[string]*group, len(t.TargetGroups))
	for i := range t.TargetGroups {
		config := &t.TargetGroups[i]
		g := s.groups[config.ID]
		if g == nil {
			g = &group{server: s, id: config.ID}
		}
		g.apply(config, used[config.ID])
		groups[config.ID] = g
	}
	return groups
}

func forwardedTo(l *balance.Listener) (ids []string) {
	lists := [][]balance.Action{l.DefaultActions}
	for i := range l.Rules {
		lists = append(lists, l.Rules[i].Actions)
	}
	for _, actions := range lists {
		for _, a := range actions {
			if a.Forward == nil {
				continue
			}
			for _, g := range a.Forward.Groups {
				ids = append(ids, g.ID)
			}
		}
	}
	return ids
}

// Run serves until the context ends, and then drains: sockets are closed at once,
// requests that run have the drain timeout.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	ports, fronts := s.ports, make([]*front, 0, len(s.fronts))
	s.ports = map[string]*port{}
	for f := range s.fronts {
		fronts = append(fronts, f)
	}
	s.mu.Unlock()

	for _, p := range ports {
		p.close()
	}
	var draining sync.WaitGroup
	for _, f := range fronts {
		draining.Go(func() { f.drain(s.options.DrainTimeout) })
	}
	draining.Wait()
	s.mu.Lock()
	s.ended = true
	groups := s.groups
	s.mu.Unlock()
	s.cancel()
	for _, g := range groups {
		g.remove()
	}
	s.leaving.cutAll()
	s.running.Wait()
	return nil
}

// Addr is where a listener listens, nil if it does not.
func (s *Server) Addr(listenerID string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ports {
		if p.front.Load().compiled.Load().listener.ID == listenerID {
			return p.listener.Addr()
		}
	}
	return nil
}

// Sockets are the listeners' sockets by address and port, to be handed to a process that
// takes over: there, Options.Listen gives them back. They stay this server's until the
// end of Run, which closes its own hold of them only.
func (s *Server) Sockets() map[string]net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]net.Listener, len(s.ports))
	for _, p := range s.ports {
		l := p.front.Load().compiled.Load().listener
		all[net.JoinHostPort(l.Address, strconv.Itoa(l.Port))] = p.listener
	}
	return all
}

// TargetHealth is what is known of one target of the table.
type TargetHealth struct {
	GroupID, TargetID string
	Port, CheckPort   int
	// State, Reason and Description are AWS's.
	State, Reason, Description string
	// InFlight counts the requests and flows that it has.
	InFlight int
}

// Health is a snapshot of all targets of the table, in order of their groups' ids, their
// own and their ports. A target that drains is draining until the deregistration delay
// is over, and unused from then on.
func (s *Server) Health() []TargetHealth {
	s.mu.Lock()
	groups := s.groups
	s.mu.Unlock()
	var all []TargetHealth
	for _, g := range groups {
		all = g.health(all)
	}
	slices.SortFunc(all, func(a, b TargetHealth) int {
		return cmp.Or(cmp.Compare(a.GroupID, b.GroupID), cmp.Compare(a.TargetID, b.TargetID), cmp.Compare(a.Port, b.Port))
	})
	return all
}
