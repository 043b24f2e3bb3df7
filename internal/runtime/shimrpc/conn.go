package shimrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDisconnected is returned when the connection ends before the answer.
var ErrDisconnected = errors.New("the shim is gone")

// sendWithin is how long a shim may take to read a request.
const sendWithin = 5 * time.Second

// maxConcurrent bounds the requests that one connection has under way.
const maxConcurrent = 512

// Client is one connection to a shim. Its methods may be called concurrently.
type Client struct {
	conn net.Conn
	done chan struct{}

	writeMu sync.Mutex

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]chan envelope
}

// Dial connects to the shim whose directory is dir.
func Dial(ctx context.Context, dir string) (*Client, error) {
	address, release, err := SocketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the shim: %w", err)
	}
	c := &Client{conn: conn, done: make(chan struct{}), pending: map[uint64]chan envelope{}}
	go c.receive()
	return c, nil
}

// SocketAddress is an address for the shim's socket that is short enough for any
// directory (the kernel allows 107 bytes), valid until release is called.
func SocketAddress(dir string) (address string, release func(), err error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("open %s: %w", dir, err)
	}
	address = filepath.Join("/proc/self/fd", strconv.Itoa(fd), SocketName)
	return address, func() { _ = unix.Close(fd) }, nil
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection; calls under way return ErrDisconnected.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func (c *Client) receive() {
	defer close(c.done)
	defer c.conn.Close()
	for {
		e, err := readFrame(c.conn)
		if err != nil {
			return
		}
		c.mu.Lock()
		ch := c.pending[e.ID]
		delete(c.pending, e.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- e
		}
	}
}

// send writes a frame. A shim that does not take it in time hangs: the connection,
// on which a part of the frame may be, is given up.
func (c *Client) send(e envelope) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(sendWithin))
	err := writeFrame(c.conn, e)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.conn.Close()
	}
	return err
}

// Call sends a request and decodes the answer into reply, unless that is nil. The
// error wraps os.ErrDeadlineExceeded when the shim does not even read.
func (c *Client) Call(ctx context.Context, method string, body, reply any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", method, err)
	}
	answer := make(chan envelope, 1)
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.pending[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()

	if err = c.send(envelope{ID: id, Method: method, Body: data}); err != nil {
		if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return ErrDisconnected
		}
		return fmt.Errorf("send %s to the shim: %w", method, err)
	}
	var e envelope
	select {
	case e = <-answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		// The answer may have come just before the end.
		select {
		case e = <-answer:
		default:
			return ErrDisconnected
		}
	}
	if e.Err != nil {
		return e.Err
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(e.Body, reply); err != nil {
		return fmt.Errorf("decode the shim's answer to %s: %w", method, err)
	}
	return nil
}

// Handler serves one request; its result is encoded as the answer's body.
type Handler func(ctx context.Context, method string, body json.RawMessage) (any, error)

// Serve answers the requests of one connection until it ends, and returns when
// every handler has. It calls answered after each answer, with the request's method. Only a peer of the same
// user, or root, is served.
func Serve(ctx context.Context, conn *net.UnixConn, handle Handler, answered func(method string)) error {
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var writeMu sync.Mutex
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	slots := make(chan struct{}, maxConcurrent)
	for {
		e, err := readFrame(conn)
		if err != nil {
			return err
		}
		slots <- struct{}{}
		handlers.Go(func() {
			defer func() { <-slots }()
			answer := respond(ctx, e, handle)
			writeMu.Lock()
			defer writeMu.Unlock()
			if err := writeFrame(conn, answer); err != nil {
				cancel()
			}
			answered(e.Method)
		})
	}
}

func respond(ctx context.Context, e envelope, handle Handler) envelope {
	result, err := handle(ctx, e.Method, e.Body)
	if err != nil {
		return envelope{ID: e.ID, Err: wireError(err)}
	}
	body, err := json.Marshal(result)
	if err != nil {
		return envelope{ID: e.ID, Err: wireError(err)}
	}
	return envelope{ID: e.ID, Body: body}
}

func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("ask who connects: %w", err)
	}
	if uid := int(cred.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("user %d may not use this socket", uid)
	}
	return nil
}
