package network

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

type portKey struct {
	protocol string
	port     uint16
}

func (k portKey) String() string { return fmt.Sprintf("%d/%s", k.port, k.protocol) }

// portHolds reserves host ports. A reserved port is a bound socket: the kernel
// then refuses it to every other process, keeps it out of the ephemeral ports, and
// settles races between nodes.
type portHolds struct {
	first, last uint16

	mu   sync.Mutex
	held map[portKey]int // file descriptor, or -1 where only the map entry holds it
	next uint16
}

const unheld = -1

func newPortHolds(first, last uint16) *portHolds {
	return &portHolds{first: first, last: last, held: map[portKey]int{}, next: first}
}

// reserve returns ports with every host port filled in and held. foreign tells
// of ports that another node maps although it holds no socket, being stopped.
func (h *portHolds) reserve(ports []PortMapping, foreign map[portKey]bool) ([]PortMapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]PortMapping, len(ports))
	copy(out, ports)
	done := make([]PortMapping, 0, len(ports))
	// Static ports first, so that a dynamic one does not take one of them.
	for _, static := range []bool{true, false} {
		for i := range out {
			if (ports[i].HostPort != 0) != static {
				continue
			}
			var err error
			switch {
			case static:
				err = h.holdStatic(portKey{out[i].Protocol, out[i].HostPort}, foreign)
			case out[i].HostPort != 0: // of a run
				continue
			case out[i].Run > 1:
				err = h.holdRun(out[i:i+int(out[i].Run)], foreign)
				done = append(done, out[i+1:i+int(out[i].Run)]...)
			default:
				out[i].HostPort, err = h.holdDynamic(out[i].Protocol, foreign)
			}
			if err != nil {
				h.drop(done)
				return nil, err
			}
			done = append(done, out[i])
		}
	}
	return out, nil
}

func (h *portHolds) holdStatic(k portKey, foreign map[portKey]bool) error {
	inUse := fmt.Errorf("network: host port %s: %w", k, ErrPortInUse)
	if _, ours := h.held[k]; ours || foreign[k] {
		return inUse
	}
	fd, err := bindPort(k, false)
	if errors.Is(err, unix.EADDRINUSE) && k.protocol == "tcp" {
		// Connections of a server that is gone linger; they are no reason to refuse.
		var probe int
		if probe, err = bindPort(k, true); err == nil {
			_ = unix.Close(probe)
			fd = unheld
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return inUse
	}
	if err != nil {
		return fmt.Errorf("network: reserve host port %s: %w", k, err)
	}
	h.held[k] = fd
	return nil
}

func (h *portHolds) holdDynamic(protocol string, foreign map[portKey]bool) (uint16, error) {
	for range int(h.last) - int(h.first) + 1 {
		k := portKey{protocol, h.next}
		if h.next == h.last {
			h.next = h.first
		} else {
			h.next++
		}
		if _, ours := h.held[k]; ours || foreign[k] {
			continue
		}
		fd, err := bindPort(k, false)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("network: reserve host port %s: %w", k, err)
		}
		h.held[k] = fd
		return k.port, nil
	}
	return 0, fmt.Errorf("network: every %s port of %d–%d is taken: %w", protocol, h.first, h.last, ErrNoPort)
}

// holdRun gives consecutive host ports to mappings of one protocol.
func (h *portHolds) holdRun(run []PortMapping, foreign map[portKey]bool) error {
	protocol := run[0].Protocol
	for start := int(h.first); start+len(run)-1 <= int(h.last); {
		taken, err := h.holdFrom(start, len(run), protocol, foreign)
		if err != nil {
			return err
		}
		if taken == 0 {
			for i := range run {
				run[i].HostPort = uint16(start + i)
			}
			return nil
		}
		start = taken + 1
	}
	for i := range run {
		run[i].HostPort = 0
	}
	return fmt.Errorf("network: no %d consecutive %s ports of %d–%d are free: %w", len(run), protocol, h.first, h.last, ErrNoPort)
}

// holdFrom holds n ports from start on, or none: then it returns the first that is taken.
func (h *portHolds) holdFrom(start, n int, protocol string, foreign map[portKey]bool) (taken int, err error) {
	var held []PortMapping
	for port := start; port < start+n; port++ {
		k := portKey{protocol, uint16(port)}
		_, ours := h.held[k]
		fd := unheld
		if !ours && !foreign[k] {
			if fd, err = bindPort(k, false); err == nil {
				h.held[k] = fd
				held = append(held, PortMapping{Protocol: protocol, HostPort: k.port})
				continue
			}
		}
		h.drop(held)
		if err != nil && !errors.Is(err, unix.EADDRINUSE) {
			return 0, fmt.Errorf("network: reserve host port %s: %w", k, err)
		}
		return port, nil
	}
	return 0, nil
}

// adopt holds the ports of a sandbox that survived its agent. Another process may
// have bound one meanwhile; the mapping still comes first for arriving packets.
func (h *portHolds) adopt(ports []PortMapping) (shadowed []PortMapping) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range ports {
		k := portKey{p.Protocol, p.HostPort}
		fd, err := bindPort(k, false)
		if err != nil {
			fd = unheld
			shadowed = append(shadowed, p)
		}
		h.held[k] = fd
	}
	return shadowed
}

// block keeps a port from being mapped without holding a socket, because a server
// of this node listens there.
func (h *portHolds) block(k portKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[k] = unheld
}

func (h *portHolds) release(ports []PortMapping) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(ports)
}

func (h *portHolds) drop(ports []PortMapping) {
	for _, p := range ports {
		k := portKey{p.Protocol, p.HostPort}
		if fd, ok := h.held[k]; ok {
			if fd != unheld {
				_ = unix.Close(fd)
			}
			delete(h.held, k)
		}
	}
}

func (h *portHolds) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, fd := range h.held {
		if fd != unheld {
			_ = unix.Close(fd)
		}
		delete(h.held, k)
	}
}

// bindPort binds a port on every IPv4 address without listening.
func bindPort(k portKey, reuse bool) (int, error) {
	kind := unix.SOCK_STREAM
	if k.protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	return bindAddr(kind, [4]byte{}, k.port, reuse)
}

func bindAddr(kind int, addr [4]byte, port uint16, reuse bool) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return unheld, err
	}
	if reuse {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: addr})
	}
	if err != nil {
		_ = unix.Close(fd)
		return unheld, err
	}
	return fd, nil
}
