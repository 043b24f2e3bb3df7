package network

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// cursorStride is how many addresses are handed out before the cursor is saved:
// after a crash at most so many are passed over.
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

// placeBridge gives the bridge its subnet. Two nodes that start at the same moment
// may choose the same one: each looks again once its choice is visible, and the
// one whose bridge is younger gives way.
func (l *Linux) placeBridge(live []*record) error {
	inUse := false
	for _, r := range live {
		inUse = inUse || r.pooled()
	}
	var refused []netip.Prefix
	for range 16 {
		taken, err := takenSubnets(l.host, l.names, 0)
		if err != nil {
			return err
		}
		taken = append(append(taken, l.opts.ENISubnets...), refused...)
		subnet, err := chooseBridge(l.opts.BridgeCIDR, l.node.Bridge, inUse, taken)
		if err != nil {
			return err
		}
		link, err := ensureBridge(l.host, l.names, l.opts.Node, subnet)
		if err != nil {
			return err
		}
		elders, err := takenSubnets(l.host, l.names, link.Attrs().Index)
		if err != nil {
			return err
		}
		if !inUse && overlapsAny(subnet, elders) {
			refused = append(refused, subnet)
			continue
		}
		if l.opts.BridgeCIDR.IsValid() && l.opts.BridgeCIDR != subnet {
			l.opts.Log.Warn("the bridge keeps its subnet while sandboxes use it", "subnet", subnet, "configured", l.opts.BridgeCIDR)
		}
		l.node.Bridge = subnet
		l.pool = newPool(subnet)
		l.pool.next = l.node.Cursor
		return nil
	}
	return errors.New("network: no subnet for the bridge stays free; set one")
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
	if off, _ := l.pool.offset(a); off < l.node.Cursor && off+cursorStride >= l.node.Cursor {
		return a, nil
	}
	return a, l.saveCursorLocked(id, a)
}

func (l *Linux) saveCursorLocked(id string, a netip.Addr) error {
	off, _ := l.pool.offset(a)
	l.node.Cursor = min(off+cursorStride, l.pool.last()+1)
	if err := l.node.write(l.nodePath); err != nil {
		l.pool.release(a, id)
		return err
	}
	return nil
}

func (l *Linux) saveNode() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	off := max(l.pool.next, 2)
	l.node.Cursor = min(off+cursorStride, l.pool.last()+1)
	return l.node.write(l.nodePath)
}
