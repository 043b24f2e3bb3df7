package agent

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// Limits of the metadata endpoint: requests per second and at once for each
// container, as ECS has them, the same for all requests that name no container of
// this node together, and open connections for each address and in all.
const (
	requestRate, requestBurst = 40, 60
	strangerRate              = 4 * requestRate
	strangerBurst             = 4 * requestBurst
	connectionsPerAddress     = 128
	connectionsInAll          = 2048
)

// requestLimits holds one bucket for each container that asks; it goes with the
// container.
type requestLimits struct {
	strangers *rate.Limiter

	mu         sync.Mutex
	containers map[string]*rate.Limiter // by metadata id
}

func newRequestLimits() *requestLimits {
	return &requestLimits{strangers: rate.NewLimiter(strangerRate, strangerBurst), containers: map[string]*rate.Limiter{}}
}

// allow takes a request of a container that is known; known tells which still are.
func (l *requestLimits) allow(id string, known func(id string) bool) bool {
	l.mu.Lock()
	limiter := l.containers[id]
	if limiter == nil {
		for former := range l.containers {
			if !known(former) {
				delete(l.containers, former)
			}
		}
		limiter = rate.NewLimiter(requestRate, requestBurst)
		l.containers[id] = limiter
	}
	l.mu.Unlock()
	return limiter.Allow()
}

// boundedListener closes connections beyond the limits as they come.
type boundedListener struct {
	net.Listener

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func newBoundedListener(l net.Listener) *boundedListener {
	return &boundedListener{Listener: l, open: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := remoteAddress(conn)
		l.mu.Lock()
		full := l.open[from] >= connectionsPerAddress || l.all >= connectionsInAll
		if !full {
			l.open[from]++
			l.all++
		}
		l.mu.Unlock()
		if !full {
			return &boundedConn{Conn: conn, release: func() { l.release(from) }}, nil
		}
		conn.Close()
	}
}

func (l *boundedListener) release(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

func remoteAddress(conn net.Conn) netip.Addr {
	address, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap()
}

// boundedConn gives its place back once, when it is closed.
type boundedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}
