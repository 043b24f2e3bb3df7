package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cursorStride is how many addresses are handed out before the cursor, an offset
// that the pool has not reached, is saved again: a restarted process goes on from
// there, and passes over at most so many.
const cursorStride = 256

// chooseBridge decides the bridge's subnet. While sandboxes have addresses of the
// recorded one it stays, whatever else was configured or has appeared.
func chooseBridge(want, recorded netip.Prefix, inUse bool, taken []netip.Prefix) (netip.Prefix, error) {
	switch {
	case inUse && recorded.IsValid():
		return recorded, nil
	case want.IsValid():
		if overlapsAny(want, taken) {
			return want, fmt.Errorf("network: bridge subnet %s meets a route or address of this host", want)
		}
		return want, nil
	case recorded.IsValid() && !overlapsAny(recorded, taken):
		return recorded, nil
	}
	return chooseSubnet(taken)
}

// placeBridge gives the bridge its subnet.
func (l *Linux) placeBridge(live []*record) error {
	inUse := false
	for _, r := range live {
		inUse = inUse || r.pooled()
	}
	unlock, err := lockMachine()
	if err != nil {
		l.opts.Log.Warn("choosing a subnet without the machine's lock", "error", err)
	}
	defer unlock()
	taken, err := takenSubnets(l.host, l.names)
	if err != nil {
		return err
	}
	subnet, err := chooseBridge(l.opts.BridgeCIDR, l.node.Bridge, inUse, append(taken, l.opts.ENISubnets...))
	if err != nil {
		return err
	}
	if l.opts.BridgeCIDR.IsValid() && l.opts.BridgeCIDR != subnet {
		l.opts.Log.Warn("the bridge keeps its subnet while sandboxes use it", "subnet", subnet, "configured", l.opts.BridgeCIDR)
	}
	if err := ensureBridge(l.host, l.names, l.opts.Node, subnet); err != nil {
		return err
	}
	l.node.Bridge = subnet
	l.pool = newPool(subnet)
	if n, err := strconv.ParseUint(readText(l.cursor), 10, 32); err == nil {
		l.pool.next = uint32(n)
	}
	return nil
}

// machineLockName is an abstract socket: one per network namespace, which is just
// where subnets collide, and gone with the process that holds it.
const (
	machineLockName = "@longshore-network"
	machineLockWait = 5 * time.Second
)

// lockMachine keeps nodes that start together from choosing the same subnet. Any
// process could hold the name, so that the wait ends and the caller goes on.
func lockMachine() (func(), error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}, err
	}
	unlock := func() { _ = unix.Close(fd) }
	for end := time.Now().Add(machineLockWait); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: machineLockName})
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) {
			return unlock, fmt.Errorf("network: take the lock %s: %w", machineLockName, err)
		}
	}
}

// placeMetadata chooses where the metadata server listens.
func (l *Linux) placeMetadata() error {
	gateway := l.pool.gateway()
	var candidates []uint16
	if l.opts.MetadataPort != 0 {
		candidates = []uint16{l.opts.MetadataPort}
	} else {
		candidates = append(candidates, l.node.MetadataPort)
		for p := uint16(agentPort); p < agentPort+1000; p++ {
			candidates = append(candidates, p)
		}
	}
	for _, p := range candidates {
		if p == 0 {
			continue
		}
		fd, err := bindAddr(unix.SOCK_STREAM, gateway.As4(), p, true)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return fmt.Errorf("network: try metadata address %s:%d: %w", gateway, p, err)
		}
		_ = unix.Close(fd)
		l.metadata = netip.AddrPortFrom(gateway, p)
		l.node.MetadataPort = p
		l.ports.block(portKey{"tcp", p})
		return nil
	}
	return fmt.Errorf("network: metadata port %d on %s: %w", candidates[len(candidates)-1], gateway, ErrPortInUse)
}

// takeAddress takes an address from the pool, and keeps the saved cursor ahead.
func (l *Linux) takeAddress(id string) (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, err := l.pool.take(id)
	if err != nil {
		return a, err
	}
	off, _ := l.pool.offset(a)
	if off < l.reserved && off+cursorStride >= l.reserved {
		return a, nil
	}
	l.reserved = off + cursorStride
	if err := writeAtomic(l.cursor, strconv.AppendUint(nil, uint64(l.reserved), 10), 0o600, false); err != nil {
		l.pool.release(a, id)
		return a, fmt.Errorf("network: save the address cursor: %w", err)
	}
	return a, nil
}

// saveNode writes the node's record if it has changed.
func (l *Linux) saveNode() error {
	saved, err := readNodeRecord(l.nodePath, l.opts.Node)
	if err != nil || saved == l.node {
		return err
	}
	return l.node.write(l.nodePath)
}
