package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// socketName is the control socket in the run directory; who may open that is trusted.
const socketName = "edge.sock"

// controlLimit bounds one exchange on the control socket, maxAsked its request.
const (
	controlLimit = 10 * time.Second
	maxAsked     = 1 << 20
	// maxSockets is how many descriptors one message carries.
	maxSockets = 200
)

// Operations of the control socket.
const (
	opConfigure = "configure" // take the configuration; answers who runs
	opSockets   = "sockets"   // answers with the listening sockets
	opDrain     = "drain"     // another process, of the configuration given, has them: finish what runs, and end
	opStop      = "stop"      // end
)

type asked struct {
	Op     string  `json:"op"`
	Config *Config `json:"config,omitempty"`
}

// Status is who answers on a control socket.
type Status struct {
	PID      int    `json:"pid"`
	Identity string `json:"identity"`
	// Addresses are of the sockets that come with the answer, in their order.
	Addresses []string `json:"addresses,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// ErrNone is returned when no edge answers in a run directory.
var ErrNone = errors.New("no edge runs")

// Configure gives the edge in a run directory a configuration, and returns who it is.
func Configure(runDir string, c Config) (Status, error) {
	status, listeners, err := ask(runDir, asked{Op: opConfigure, Config: &c})
	closeAll(listeners)
	return status, err
}

// Stop ends the edge in a run directory, if one runs.
func Stop(runDir string) error {
	_, listeners, err := ask(runDir, asked{Op: opStop})
	closeAll(listeners)
	if errors.Is(err, ErrNone) {
		return nil
	}
	return err
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// ask is one exchange. The answer is length-less JSON up to the end of the connection, the
// descriptors come with its first byte.
func ask(runDir string, request asked) (Status, []net.Listener, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(runDir, socketName), controlLimit)
	if err != nil {
		return Status{}, nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlLimit)); err != nil {
		return Status{}, nil, err
	}
	raw, err := json.Marshal(request)
	if err != nil {
		return Status{}, nil, err
	}
	c := conn.(*net.UnixConn)
	if _, err := c.Write(raw); err != nil {
		return Status{}, nil, fmt.Errorf("ask the edge: %w", err)
	}
	if err := c.CloseWrite(); err != nil {
		return Status{}, nil, fmt.Errorf("ask the edge: %w", err)
	}
	var answer []byte
	var listeners []net.Listener
	buffer, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*maxSockets))
	for {
		n, m, _, _, err := c.ReadMsgUnix(buffer, control)
		answer = append(answer, buffer[:max(n, 0)]...)
		more, fdErr := listenersIn(control[:max(m, 0)])
		listeners = append(listeners, more...)
		if fdErr != nil || len(answer) > maxAsked {
			closeAll(listeners)
			return Status{}, nil, errors.Join(errors.New("the edge's answer can't be read"), fdErr)
		}
		if err == io.EOF || n == 0 {
			break
		}
		if err != nil {
			closeAll(listeners)
			return Status{}, nil, fmt.Errorf("hear the edge: %w", err)
		}
	}
	var status Status
	if err := json.Unmarshal(answer, &status); err != nil {
		closeAll(listeners)
		return Status{}, nil, fmt.Errorf("the edge's answer can't be read: %w", err)
	}
	if status.Error != "" {
		closeAll(listeners)
		return status, nil, errors.New(status.Error)
	}
	return status, listeners, nil
}

// listenersIn are the sockets that came with a message.
func listenersIn(control []byte) (all []net.Listener, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(control) == 0 {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return all, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			file := os.NewFile(uintptr(fd), "listener")
			l, err := net.FileListener(file)
			_ = file.Close() // the listener has a descriptor of its own
			if err != nil {
				return all, fmt.Errorf("a socket that was handed over: %w", err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// predecessor is the edge that ran before in the run directory, if one did.
type predecessor struct {
	runDir  string
	there   bool
	sockets *sockets
}

// takeOver gets the sockets of the edge that runs in the run directory.
func takeOver(runDir string) (*predecessor, error) {
	p := &predecessor{runDir: runDir, sockets: &sockets{all: map[string]net.Listener{}}}
	status, listeners, err := ask(runDir, asked{Op: opSockets})
	if errors.Is(err, ErrNone) {
		return p, nil
	}
	if err == nil && len(status.Addresses) != len(listeners) {
		closeAll(listeners)
		err = fmt.Errorf("it has %d listeners and handed %d sockets over", len(status.Addresses), len(listeners))
	}
	if err != nil {
		return nil, err
	}
	p.there = true
	for i, address := range status.Addresses {
		p.sockets.all[address] = listeners[i]
	}
	return p, nil
}

// replace puts this process's control socket in place of the predecessor's.
func (p *predecessor) replace(c Config) (*net.UnixListener, error) {
	path := filepath.Join(c.RunDir, socketName)
	fresh := path + fmt.Sprintf(".%d", os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if p.there {
		// The predecessor is told over its own socket, before nobody finds it any more.
		// What it still has follows the same server.
		_, listeners, err := ask(c.RunDir, asked{Op: opDrain, Config: &c})
		closeAll(listeners)
		if err != nil && !errors.Is(err, ErrNone) {
			return nil, errors.Join(err, l.Close(), os.Remove(fresh))
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(fresh))
	}
	return l, nil
}

// end lets go of sockets that no listener of the table has taken.
func (p *predecessor) end() { p.sockets.close() }

func (p *predecessor) close() { p.sockets.close() }

// serveControl answers on the control socket until ctx ends.
func (e *edge) serveControl(ctx context.Context, l *net.UnixListener, stop func()) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the edge's control socket: %w", err)
		}
		if err := e.answer(c, stop); err != nil {
			e.log.Warn("a request on the control socket was not answered", "error", err)
		}
	}
}

func (e *edge) answer(c *net.UnixConn, stop func()) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(controlLimit)); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(c, maxAsked))
	if err != nil {
		return err
	}
	var in asked
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	status := Status{PID: os.Getpid(), Identity: e.config.Load().Identity}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	switch in.Op {
	case opConfigure:
		if in.Config == nil || in.Config.Identity != status.Identity {
			break // another is to take over
		}
		if err := e.configure(*in.Config); err != nil {
			status.Error = err.Error()
		}
	case opSockets:
		if status.Addresses, files, err = e.handed(); err != nil {
			status = Status{Error: err.Error()}
		}
	case opDrain:
		if in.Config != nil {
			if err := e.configure(*in.Config); err != nil {
				e.log.Warn("what is drained follows the server of before", "error", err)
			}
		}
		defer stop()
	case opStop:
		e.ended.Store(true)
		defer stop()
	default:
		status.Error = fmt.Sprintf("the operation %q is unknown", in.Op)
	}
	return reply(c, status, files)
}

// handed are the listening sockets, to be given away.
func (e *edge) handed() (addresses []string, files []*os.File, err error) {
	for address, l := range e.proxy.Sockets() {
		f, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			return nil, files, fmt.Errorf("the socket of %s can't be handed over", address)
		}
		file, err := f.File()
		if err != nil {
			return nil, files, fmt.Errorf("the socket of %s: %w", address, err)
		}
		addresses, files = append(addresses, address), append(files, file)
	}
	return addresses, files, nil
}

// reply sends an answer with descriptors, as many with each message as one carries.
func reply(c *net.UnixConn, status Status, files []*os.File) error {
	raw, err := json.Marshal(status)
	if err != nil {
		return err
	}
	for first := true; first || len(files) > 0; first = false {
		n := min(len(files), maxSockets)
		var fds []int
		for _, f := range files[:n] {
			fds = append(fds, int(f.Fd()))
		}
		files = files[n:]
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		body := []byte(" ") // JSON allows blanks before it
		if len(files) == 0 {
			body = raw
		}
		if _, _, err := c.WriteMsgUnix(body, rights, nil); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}
