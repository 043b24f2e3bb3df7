package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memoryNet carries connections within one process, so that a synctest bubble's
// clock runs on while they are idle.
type memoryNet struct {
	mu     sync.Mutex
	down   bool
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	conns  []*memoryConn // the clients' ends
}

func newMemoryNet() *memoryNet {
	return &memoryNet{accept: make(chan net.Conn), closed: make(chan struct{})}
}

// setDown refuses new connections.
func (n *memoryNet) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// each calls do with the clients' end of every connection made so far.
func (n *memoryNet) each(do func(*memoryConn)) {
	n.mu.Lock()
	conns := append([]*memoryConn(nil), n.conns...)
	n.mu.Unlock()
	for _, c := range conns {
		do(c)
	}
}

func (n *memoryNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return n.dialFrom(ctx, "127.0.0.1")
}

// dialFrom connects from an address.
func (n *memoryNet) dialFrom(ctx context.Context, from string) (net.Conn, error) {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	there, back := newMemoryStream(), newMemoryStream()
	here := &memoryConn{in: back, out: there}
	select {
	case n.accept <- &memoryConn{in: there, out: back, from: memoryAddr(from + ":9")}:
	case <-n.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.conns = append(n.conns, here)
	n.mu.Unlock()
	return here, nil
}

func (n *memoryNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *memoryNet) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *memoryNet) Addr() net.Addr { return memoryAddr("127.0.0.1:80") }

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

// streamLimit is what a connection holds of what its reader has not taken.
const streamLimit = 256 << 10

// memoryStream is one direction of a connection.
type memoryStream struct {
	mu            sync.Mutex
	changed       *sync.Cond
	data          []byte
	ended, broken bool // by the writer; by the reader
	frozen        bool // nothing arrives any more, and nobody is told
	stalled       bool // the reader takes nothing
	read, write   deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newMemoryStream() *memoryStream {
	s := &memoryStream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *memoryStream) set(d *deadline, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	// One that is over already needs no timer, and must have none: in a synctest
	// bubble it would run at once, and two that do so at the same moment can crash
	// the race detector's runtime (go1.26).
	if left := time.Until(at); !at.IsZero() && left > 0 {
		d.timer = time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (s *memoryStream) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

type memoryConn struct {
	in, out *memoryStream
	from    memoryAddr
}

func (c *memoryConn) Read(p []byte) (int, error) {
	s := c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken:
			return 0, net.ErrClosed
		case len(s.data) > 0 && !s.frozen && !s.stalled:
			n := copy(p, s.data)
			s.data = s.data[n:]
			s.changed.Broadcast()
			return n, nil
		case s.ended && !s.frozen:
			return 0, io.EOF
		case s.read.over():
			return 0, os.ErrDeadlineExceeded
		}
		s.changed.Wait()
	}
}

func (c *memoryConn) Write(p []byte) (int, error) {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended, s.broken:
			return 0, net.ErrClosed
		case s.frozen:
			return len(p), nil // into the void, as on a half-open connection
		case s.write.over():
			return 0, os.ErrDeadlineExceeded
		case len(s.data) < streamLimit:
			s.data = append(s.data, p...)
			s.changed.Broadcast()
			return len(p), nil
		}
		s.changed.Wait()
	}
}

func (c *memoryConn) Close() error {
	c.in.update(func() { c.in.broken = true })
	c.out.update(func() { c.out.ended = true })
	c.SetDeadline(time.Time{})
	return nil
}

// freeze makes the connection half-open: neither side hears the other again.
func (c *memoryConn) freeze() {
	c.in.update(func() { c.in.frozen = true })
	c.out.update(func() { c.out.frozen = true })
}

func (c *memoryConn) LocalAddr() net.Addr  { return memoryAddr("127.0.0.1:80") }
func (c *memoryConn) RemoteAddr() net.Addr { return c.from }

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.read, t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.write, t)
	return nil
}

// freezeOut blocks the client's writes once the connection is full: its peer has
// stopped reading.
func (c *memoryConn) freezeOut() {
	c.out.update(func() { c.out.stalled = true })
}
