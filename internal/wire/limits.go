package wire

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what clients can make a server hold, whoever they are. The zero
// value of a field means no limit of that kind.
type Limits struct {
	// Connections is how many there may be at once, and ConnectionsPerSource how many
	// of them from one address (one /64 of IPv6). A session of an agent, which has
	// been authenticated, does not count.
	Connections, ConnectionsPerSource int64
	// BodyBytes is how many bytes of bodies may be in memory at once, and
	// BodyBytesPerSource how many of them from one address. The first BodyFree bytes of
	// each body do not count, so that small calls pass while large ones fill the rest.
	BodyBytes, BodyBytesPerSource, BodyFree int64
	// HeaderTime is how long a request's head may take, and a TLS handshake.
	HeaderTime time.Duration
	// BodyTime is how long a body may take, and a second more for each BodyRate bytes.
	BodyTime time.Duration
	BodyRate int64
	// RequestTime is how long a request may take from its head to the end of its answer.
	RequestTime time.Duration
	// IdleTime is how long a connection may wait for its next request.
	IdleTime time.Duration
	// HeaderBytes bounds a request's head.
	HeaderBytes int
}

// DefaultLimits are for a server that others can reach.
func DefaultLimits() Limits {
	return Limits{
		Connections: 16_384, ConnectionsPerSource: 8_192,
		BodyBytes: 256 << 20, BodyBytesPerSource: 128 << 20, BodyFree: 16 << 10,
		HeaderTime: 10 * time.Second,
		BodyTime:   20 * time.Second, BodyRate: 64 << 10,
		RequestTime: 5 * time.Minute,
		IdleTime:    3 * time.Minute,
		HeaderBytes: 64 << 10,
	}
}

// NewHTTPServer returns an http.Server for h with limits. Bodies are bounded per
// service too, by the handler.
func NewHTTPServer(h http.Handler, limits Limits) *http.Server {
	g := &guard{
		limits:      limits,
		connections: shares{most: limits.Connections, mostEach: limits.ConnectionsPerSource},
		bodies:      shares{most: limits.BodyBytes, mostEach: limits.BodyBytesPerSource},
		open:        map[net.Conn]netip.Addr{},
	}
	return &http.Server{
		Handler:           g.bound(h),
		ConnState:         g.connState,
		ReadHeaderTimeout: limits.HeaderTime,
		WriteTimeout:      limits.RequestTime,
		IdleTimeout:       limits.IdleTime,
		MaxHeaderBytes:    limits.HeaderBytes,
	}
}

// guard holds a server's clients to its limits.
type guard struct {
	limits      Limits
	connections shares
	bodies      shares

	mu sync.Mutex
	// open has the connections that count, with their source.
	open map[net.Conn]netip.Addr
}

// connState counts connections. One too many is closed before a byte of it is read.
func (g *guard) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		source := sourceOf(c.RemoteAddr().String())
		if !g.connections.take(source, 1) {
			_ = c.Close() // its reader finds out
			return
		}
		g.mu.Lock()
		g.open[c] = source
		g.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		g.mu.Lock()
		source, counted := g.open[c]
		delete(g.open, c)
		g.mu.Unlock()
		if counted {
			g.connections.give(source, 1)
		}
	}
}

// bound makes h's requests' bodies count, and end in time.
func (g *guard) bound(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			b := &boundBody{ReadCloser: r.Body, guard: g, control: http.NewResponseController(w), source: sourceOf(r.RemoteAddr)}
			if g.limits.BodyTime > 0 {
				b.began = time.Now()
			}
			r.Body = b
			defer b.release()
		}
		h.ServeHTTP(w, r)
	})
}

// boundBody is a body under limits. What has been read of it counts until the
// request has been answered, as its handler still holds it.
type boundBody struct {
	io.ReadCloser
	guard   *guard
	control *http.ResponseController
	source  netip.Addr
	began   time.Time
	read    int64
	taken   int64
	// discarding tells that nobody keeps what is read.
	discarding bool
}

// errBodiesFull is read of a body for which there is no room.
var errBodiesFull = &Error{
	Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable,
	Message: "The server holds as much of requests' bodies as it may. Try again.",
}

// Read implements io.Reader.
func (b *boundBody) Read(p []byte) (int, error) {
	if !b.began.IsZero() && !b.discarding {
		due := b.guard.limits.BodyTime
		if rate := b.guard.limits.BodyRate; rate > 0 {
			due += time.Duration(b.read/rate) * time.Second
		}
		// Without deadlines (a recorder in a test) there is no slow client either.
		_ = b.control.SetReadDeadline(b.began.Add(due))
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if over := b.read - b.guard.limits.BodyFree - b.taken; over > 0 && !b.discarding {
		if !b.guard.bodies.take(b.source, over) {
			return n, errBodiesFull
		}
		b.taken += over
	}
	if errors.Is(err, io.EOF) && !b.began.IsZero() {
		// The deadline would end the request, not only its body.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *boundBody) release() {
	if b.taken > 0 {
		b.guard.bodies.give(b.source, b.taken)
	}
}

// discard makes a body count no more: what is still read of it is thrown away.
func discard(body io.ReadCloser) {
	if b, ok := body.(*boundBody); ok {
		b.discarding = true
	}
}

// shares are an amount that sources share, of which none may have more than its part.
type shares struct {
	most, mostEach int64 // 0: no limit

	mu    sync.Mutex
	taken int64
	each  map[netip.Addr]int64 // none is 0
}

// take takes n for a source, or nothing.
func (s *shares) take(source netip.Addr, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && s.taken+n > s.most || s.mostEach > 0 && s.each[source]+n > s.mostEach {
		return false
	}
	if s.each == nil {
		s.each = map[netip.Addr]int64{}
	}
	s.taken += n
	s.each[source] += n
	return true
}

// give gives back what was taken.
func (s *shares) give(source netip.Addr, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.each[source] -= n; s.each[source] <= 0 {
		delete(s.each, source)
	}
}

// sourceOf is what counts as one source: an address of IPv4, and of IPv6 the /64
// that one customer has to choose addresses from.
func sourceOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := at.Addr().Unmap().WithZone("")
	if a.Is6() {
		prefix, _ := a.Prefix(64) // 64 bits fit any address of IPv6
		a = prefix.Addr()
	}
	return a
}
