package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// flow takes a connection of a network load balancer up; it is false when the front is
// being drained.
func (f *front) flow(client net.Conn) bool {
	c := f.compiled.Load()
	ctx, cancel := context.WithCancelCause(f.server.ctx)
	fl := f.takeOff(c.idle, cancel, func(*flight) { client.Close() })
	if fl == nil {
		cancel(nil)
		return false
	}
	f.open.Add(1)
	c.counters.newConnections.Add(1)
	c.counters.active.Add(1)
	f.server.running.Go(func() {
		defer f.left(c.counters)
		defer fl.land()
		defer client.Close()
		f.pass(ctx, c, fl, client)
	})
	return true
}

// pass shakes hands where TLS ends here, and finds the flow a target.
func (f *front) pass(ctx context.Context, c *compiled, fl *flight, client net.Conn) {
	if f.kind.protocol == balance.TLS {
		shaken := tls.Server(client, f.tls())
		within, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if shaken.HandshakeContext(within) != nil {
			return
		}
		client = shaken
	}
	for range mostTables {
		if f.connect(ctx, c, fl, client) {
			return
		}
		c = f.compiled.Load()
	}
}

// connect is false when the table has changed under the flow, and no target was tried.
func (f *front) connect(ctx context.Context, c *compiled, fl *flight, client net.Conn) bool {
	action, _ := c.router.Route(&balance.Request{Source: sourceAddress(client)})
	g := c.groups[action.Forward.PickGroup(f.server.options.Random())]
	if g == nil {
		return true
	}
	p := g.pool.Load()
	flow := client.RemoteAddr().String()
	if p.config.StickySource {
		flow = sourceAddress(client).String()
	}
	names := make([]string, len(p.routable))
	for i, t := range p.routable {
		names[i] = t.address
	}
	tried := 0
	for _, at := range balance.ByFlow(names, flow) {
		t := p.routable[at]
		if !t.begin(fl) {
			continue
		}
		if tried++; f.through(ctx, c, fl, client, t) || tried == mostAttempts || ctx.Err() != nil {
			return true
		}
	}
	return tried > 0 || g.pool.Load() == p && f.compiled.Load() == c
}

// through is false when the target cannot be reached.
func (f *front) through(ctx context.Context, c *compiled, fl *flight, client net.Conn, t *target) bool {
	defer t.done(fl)
	began := time.Now()
	conn, err := f.server.dial(ctx, "tcp", t.address)
	if err != nil {
		c.counters.dialErrors.Add(1)
		t.group.counters.dialErrors.Add(1)
		return false
	}
	defer conn.Close()
	t.group.counters.times.add(time.Since(began))
	c.counters.requests.Add(1)
	t.group.counters.requests.Add(1)
	config := t.group.pool.Load().config
	if config.ProxyProtocol {
		if _, err := conn.Write(proxyHeader(client.RemoteAddr(), client.LocalAddr())); err != nil {
			return false
		}
	}
	if t.key.protocol == balance.TLS {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	raw := client
	fl.mu.Lock()
	cut := fl.cause != nil
	fl.onCut = func(*flight) { raw.Close(); conn.Close() }
	fl.mu.Unlock()
	if !cut {
		c.counters.bytes.Add(pipe(fl, client, client, conn))
	}
	return true
}

func sourceAddress(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// proxyHeader is that of PROXY protocol, version 2.
func proxyHeader(source, destination net.Addr) []byte {
	h := []byte("\r\n\r\n\x00\r\nQUIT\n")
	from, err := netip.ParseAddrPort(source.String())
	to, other := netip.ParseAddrPort(destination.String())
	if err != nil || other != nil {
		return append(h, 0x20, 0, 0, 0) // LOCAL: nothing is known.
	}
	a, b, family := from.Addr().Unmap(), to.Addr().Unmap(), byte(0x11)
	if !a.Is4() || !b.Is4() {
		a, b, family = netip.AddrFrom16(a.As16()), netip.AddrFrom16(b.As16()), 0x21
	}
	h = append(h, 0x21, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(a.AsSlice())*2+4))
	h = append(append(h, a.AsSlice()...), b.AsSlice()...)
	h = binary.BigEndian.AppendUint16(h, from.Port())
	return binary.BigEndian.AppendUint16(h, to.Port())
}
