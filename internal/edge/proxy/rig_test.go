package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"longshore.dev/longshore/internal/edge/balance"
)

// rig is a server that runs, on loopback.
type rig struct {
	*Server
	t       *testing.T
	changed chan struct{}
	stop    func()
}

// start runs a server until the test ends, or stop.
func start(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{t: t, changed: make(chan struct{}, 1)}
	o.Changed = func() {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
	r.Server = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-ended }
	t.Cleanup(r.stop)
	return r
}

func (r *rig) apply(table balance.Table) {
	r.t.Helper()
	if err := r.Apply(table); err != nil {
		r.t.Fatal(err)
	}
}

// await waits for a change of health that makes it true.
func (r *rig) await(what string, true func() bool) {
	r.t.Helper()
	for !true() {
		select {
		case <-r.changed:
		case <-r.t.Context().Done():
			r.t.Fatalf("%s: never", what)
		}
	}
}

// healthy applies the table and waits until each target has been checked once, which
// makes a healthy one healthy.
func (r *rig) healthy(table balance.Table) {
	r.t.Helper()
	r.apply(table)
	r.await("all checked", func() bool {
		for _, h := range r.Health() {
			if h.Reason == balance.RegistrationInProgress {
				return false
			}
		}
		return true
	})
}

// url of a listener.
func (r *rig) url(listener string) string {
	r.t.Helper()
	a := r.Addr(listener)
	if a == nil {
		r.t.Fatalf("listener %s does not listen", listener)
	}
	return "http://" + a.String()
}

// reply is a response with its body read.
type reply struct {
	*http.Response
	text string
}

// send sends a request to the listener l, over connections of the client's own.
func (r *rig) send(c *http.Client, method, path string, body io.Reader, headers ...string) (reply, error) {
	q, err := http.NewRequest(method, r.url("l")+path, body)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Add(headers[i], headers[i+1])
	}
	if host := q.Header.Get("Host"); host != "" {
		q.Host = host
	}
	res, err := c.Do(q)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{res, string(text)}, err
}

// get is send that must succeed.
func (r *rig) get(path string, headers ...string) reply {
	r.t.Helper()
	res, err := r.send(newClient(r.t), http.MethodGet, path, nil, headers...)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// backend is an HTTP server on loopback, as a target.
func backend(t *testing.T, h http.HandlerFunc) balance.Target {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return targetAt(s.Listener.Addr())
}

func targetAt(a net.Addr) balance.Target {
	at := netip.MustParseAddrPort(a.String())
	return balance.Target{ID: at.Addr().String(), IP: at.Addr().String(), Port: int(at.Port())}
}

// refusing is a target where nothing listens.
func refusing(t *testing.T) balance.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return targetAt(l.Addr())
}

// named answers with a name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }
}

func forwardTo(groups ...string) []balance.Action {
	f := &balance.Forward{}
	for _, id := range groups {
		f.Groups = append(f.Groups, balance.WeightedGroup{ID: id, Weight: 1})
	}
	return []balance.Action{{Type: balance.ForwardAction, Forward: f}}
}

// simple is one listener l on loopback that forwards to one group g.
func simple(targets ...balance.Target) balance.Table {
	return balance.Table{
		LoadBalancers: []balance.LoadBalancer{{ID: "lb", Listeners: []balance.Listener{
			{ID: "l", Address: "127.0.0.1", Protocol: balance.HTTP, DefaultActions: forwardTo("g")}}}},
		TargetGroups: []balance.TargetGroup{{ID: "g", Protocol: balance.HTTP, Targets: targets}},
	}
}

// memory is a network in memory, for tests in virtual time.
type memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	next      int
}

type memoryListener struct {
	network *memory
	address memoryAddr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }

type memoryConn struct {
	net.Conn
	local, remote memoryAddr
}

func (c memoryConn) LocalAddr() net.Addr  { return c.local }
func (c memoryConn) RemoteAddr() net.Addr { return c.remote }

func (m *memory) Listen(_, address string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners == nil {
		m.listeners = map[string]*memoryListener{}
	}
	if strings.HasSuffix(address, ":0") {
		m.next++
		address = strings.TrimSuffix(address, "0") + fmt.Sprint(m.next)
	}
	l := &memoryListener{network: m, address: memoryAddr(address), conns: make(chan net.Conn), closed: make(chan struct{})}
	m.listeners[address] = l
	return l, nil
}

func (m *memory) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listeners[address]
	m.next++
	from := memoryAddr(fmt.Sprint("192.0.2.1:", 10000+m.next))
	m.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	near, far := net.Pipe()
	select {
	case l.conns <- memoryConn{far, l.address, from}:
		return memoryConn{near, from, l.address}, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, string(l.address))
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.address }

// serve runs an HTTP server at an address of the network until the test ends.
func (m *memory) serve(t *testing.T, address string, h http.HandlerFunc) *http.Server {
	l, _ := m.Listen("tcp", address)
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	go func() { s.Serve(l); close(ended) }()
	t.Cleanup(func() { s.Close(); <-ended })
	return s
}

// client dials over the network.
func (m *memory) client(t *testing.T) *http.Client {
	c := newClient(t)
	c.Transport.(*http.Transport).DialContext = m.Dial
	return c
}
