package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// port is a socket that is open. Its connections go to the front that it has then.
type port struct {
	server   *Server
	listener net.Listener
	front    atomic.Pointer[front]
	closed   chan struct{}
	// done is closed when every connection that was accepted has a front.
	done chan struct{}
}

// front serves the connections of one listener; it follows the table, as long as its kind
// stays.
type front struct {
	server *Server
	kind   kind
	// compiled is shared with the fronts whose place this one has taken, so that what is
	// left of them follows the table too.
	compiled *atomic.Pointer[compiled]
	address  net.Addr
	// open counts connections.
	open atomic.Int64
	// leaving: another front has taken its place; its connections end with their next
	// response.
	leaving atomic.Bool
	// http is nil for TCP and TLS.
	http *http.Server
	// conns hands connections to the HTTP server, until ended.
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once

	// mu guards what follows.
	mu      sync.Mutex
	flights map[*flight]bool
	// unserved are connections of HTTP that have not had a request yet.
	unserved map[net.Conn]bool
	// moved is closed, and made anew, when a connection was served, or has gone.
	moved chan struct{}
	// landed is closed when the last flight has landed; drain makes it.
	landed chan struct{}
}

// applyListeners brings sockets and fronts to what is wanted; with the lock held.
func (s *Server) applyListeners(wanted []*compiled) error {
	var failed []error
	ports, owners := make(map[string]*port, len(wanted)), make(map[string]string, len(wanted))
	var fresh []*compiled
	for _, c := range wanted {
		address := c.address()
		if owner := owners[address]; owner != "" {
			failed = append(failed, fmt.Errorf("listener %s is not served: listener %s has the address %s already; give one of them another port",
				c.listener.ID, owner, address))
			continue
		}
		owners[address] = c.listener.ID
		if p := s.ports[address]; p != nil {
			s.follow(p, c)
			ports[address] = p
		} else {
			fresh = append(fresh, c)
		}
	}
	// What goes first frees what comes: 0.0.0.0:80 may become 10.0.0.1:80.
	for address, p := range s.ports {
		if ports[address] == nil {
			s.abandon(p)
		}
	}
	for _, c := range fresh {
		p, err := s.open(c)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		ports[c.address()] = p
	}
	s.ports = ports
	return errors.Join(failed...)
}

// followLeft brings fronts whose sockets are closed to a new table; with the lock held.
func (s *Server) followLeft(wanted []*compiled) {
	for f := range s.fronts {
		for _, c := range wanted {
			if c.listener.ID == f.compiled.Load().listener.ID && c.kind() == f.kind {
				f.compiled.Store(c)
			}
		}
	}
}

// follow brings an open port to a new table.
func (s *Server) follow(p *port, c *compiled) {
	f := p.front.Load()
	if f.kind == c.kind() {
		f.compiled.Store(c)
		return
	}
	next := s.newFront(c, p.listener.Addr())
	if f.kind.balancer != next.kind.balancer || (f.http == nil) != (next.http == nil) {
		// Another one's socket now: as if the listener had gone.
		p.front.Store(next)
		s.running.Go(func() { f.drain(s.options.DrainTimeout) })
		return
	}
	f.compiled.Store(c)
	next.compiled = f.compiled
	p.front.Store(next)
	f.leaving.Store(true)
	s.running.Go(func() {
		timer := time.NewTimer(s.options.DrainTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			f.drain(0)
		case <-f.ended:
		case <-s.ctx.Done():
		}
	})
}

// abandon closes a port; its requests may end within the drain timeout.
func (s *Server) abandon(p *port) {
	p.close()
	f := p.front.Load()
	s.running.Go(func() { f.drain(s.options.DrainTimeout) })
}

func (s *Server) open(c *compiled) (*port, error) {
	l := c.listener
	listener, err := s.options.Listen("tcp", net.JoinHostPort(l.Address, strconv.Itoa(l.Port)))
	if err != nil {
		return nil, fmt.Errorf("listener %s of load balancer %s is not served: %w; free the port, or give the listener another one", l.ID, c.balancer.ID, err)
	}
	p := &port{server: s, listener: listener, closed: make(chan struct{}), done: make(chan struct{})}
	p.front.Store(s.newFront(c, listener.Addr()))
	s.running.Go(p.accept)
	return p, nil
}

// close accepts nothing any more, and drops nothing that was accepted.
func (p *port) close() {
	close(p.closed)
	p.listener.Close()
	<-p.done
}

// mostBackoff bounds the wait after an accept that failed, for want of descriptors mostly.
const mostBackoff = time.Second

func (p *port) accept() {
	defer close(p.done)
	backoff := 5 * time.Millisecond
	for {
		c, err := p.listener.Accept()
		if err == nil {
			backoff = 5 * time.Millisecond
			p.hand(c)
			continue
		}
		timer := time.NewTimer(backoff)
		select {
		case <-p.closed:
			timer.Stop()
			return
		case <-timer.C:
		}
		p.server.options.Log.Warn("a connection could not be accepted", "address", p.listener.Addr().String(), "error", err)
		backoff = min(2*backoff, mostBackoff)
	}
}

// hand gives a connection to the front that is there now.
func (p *port) hand(c net.Conn) {
	for {
		f := p.front.Load()
		if f.open.Load() >= int64(p.server.options.MaxConnections) {
			f.compiled.Load().counters.rejected.Add(1)
			c.Close()
			return
		}
		// It is false when another front has just taken the place of this one.
		if f.take(c) {
			return
		}
	}
}

// take is false when the front has ended.
func (f *front) take(c net.Conn) bool {
	if f.http == nil {
		return f.flow(c)
	}
	f.mu.Lock()
	f.unserved[c] = true
	f.mu.Unlock()
	select {
	case f.conns <- c:
		return true
	case <-f.ended:
		f.served(c)
		return false
	}
}

// served says that a connection has had a request, or will not have one.
func (f *front) served(c net.Conn) {
	f.mu.Lock()
	delete(f.unserved, c)
	f.mu.Unlock()
	f.move()
}

// move tells all that wait.
func (f *front) move() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.moved)
	f.moved = make(chan struct{})
}

// until waits for a condition that changes with connections, or for the end of the time.
// It is asked with the lock held.
func (f *front) until(patience time.Duration, true func() bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		f.mu.Lock()
		is, moved := true(), f.moved
		f.mu.Unlock()
		if is {
			return
		}
		select {
		case <-moved:
		case <-timer.C:
			return
		}
	}
}

func (s *Server) newFront(c *compiled, address net.Addr) *front {
	f := &front{server: s, kind: c.kind(), compiled: new(atomic.Pointer[compiled]), address: address, ended: make(chan struct{}),
		flights: map[*flight]bool{}, unserved: map[net.Conn]bool{}, moved: make(chan struct{})}
	f.compiled.Store(c)
	s.fronts[f] = true
	if c.layer4() {
		return f
	}
	f.conns = make(chan net.Conn)
	f.http = &http.Server{
		Handler:                      f,
		Protocols:                    f.kind.protocols(),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            f.kind.idle,
		IdleTimeout:                  f.kind.idle,
		MaxHeaderBytes:               maxHeaders,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 128},
		ConnState:                    f.connState,
		ConnContext:                  withConnection,
		ErrorLog:                     quiet(s.options.Log),
	}
	if f.kind.protocol == balance.HTTPS {
		f.http.TLSConfig = f.tls()
	}
	// Both return when the front ends, and say nothing else.
	s.running.Go(func() {
		if f.kind.protocol == balance.HTTPS {
			f.http.ServeTLS(f, "", "")
		} else {
			f.http.Serve(f)
		}
	})
	return f
}

// tls asks the table for a certificate at each handshake.
func (f *front) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return f.compiled.Load().certificate(hello)
	}}
}

// quiet is for what net/http says about clients: anybody can make it talk.
func quiet(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// Accept, Close and Addr make the front a listener for its HTTP server.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.ended:
		return nil, net.ErrClosed
	}
}

// Close lets no connection come any more.
func (f *front) Close() error {
	f.end.Do(func() { close(f.ended) })
	return nil
}

// Addr is the socket's.
func (f *front) Addr() net.Addr { return f.address }

func (f *front) connState(c net.Conn, state http.ConnState) {
	counters := f.compiled.Load().counters
	switch state {
	case http.StateNew:
		f.open.Add(1)
		counters.newConnections.Add(1)
		counters.active.Add(1)
	case http.StateClosed: // An upgraded connection is counted to its end.
		f.left(counters)
		f.served(raw(c))
	}
}

func (f *front) left(counters *balancerCounters) {
	f.open.Add(-1)
	counters.active.Add(-1)
	f.move()
}

// connection is what a request knows of the one that it came over.
type connection struct {
	raw    net.Conn
	birth  time.Time
	served atomic.Bool
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{raw: raw(c), birth: time.Now()})
}

// raw is the connection as it was accepted.
func raw(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// lastWords is how long answers to requests that were cut may take.
const lastWords = time.Second

// newPatience is how long a connection may take to send its first request, when its
// front is being drained.
const newPatience = 5 * time.Second

// drain ends the front: what runs may end within the timeout, and is ended then.
func (f *front) drain(timeout time.Duration) {
	f.leaving.Store(true)
	f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// net/http's Shutdown drops a request that it reads from then on, and so:
	f.until(min(timeout, newPatience), func() bool { return len(f.unserved) == 0 })
	f.until(min(timeout, f.server.options.IdleGrace), func() bool { return f.open.Load() == 0 })
	var late error
	if f.http != nil {
		late = f.http.Shutdown(ctx)
	}
	// Flows and upgraded connections are not the HTTP server's any more.
	landed := f.allLanded()
	if late == nil {
		select {
		case <-landed:
		case <-ctx.Done():
			late = ctx.Err()
		}
	}
	if late != nil {
		f.cutAll()
	}
	if f.http != nil {
		// Those that were cut are told so.
		last, cancel := context.WithTimeout(context.Background(), lastWords)
		f.http.Shutdown(last)
		cancel()
		f.http.Close()
	}
	<-landed
	f.server.mu.Lock()
	delete(f.server.fronts, f)
	f.server.mu.Unlock()
}

// allLanded is closed when there are no flights.
func (f *front) allLanded() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.landed == nil {
		f.landed = make(chan struct{})
		if len(f.flights) == 0 {
			close(f.landed)
		}
	}
	return f.landed
}

func (f *front) cutAll() {
	f.mu.Lock()
	var all []*flight
	for fl := range f.flights {
		all = append(all, fl)
	}
	f.mu.Unlock()
	for _, fl := range all {
		fl.cut(errShutdown)
	}
}
