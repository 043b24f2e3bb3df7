package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/netdump"
)

const insideLink = "eth0"

// hostMAC is the address of every sandbox's neighbour, the host's end of its veth
// pair. Each pair is a link of its own, so that one address serves all.
var hostMAC = net.HardwareAddr{0x0a, 0x4c, 0x53, 0x00, 0x00, 0x01}

// macFor derives a sandbox's MAC from its address.
func macFor(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// wire is what a sandbox's link needs to know.
type wire struct {
	mode    Mode
	link    string       // host end
	address netip.Prefix // as the sandbox sees it
	gateway netip.Addr   // next hop, as the sandbox sees it
	source  netip.Addr   // from which the host speaks to the sandbox
	mac     net.HardwareAddr
	mtu     int
	netns   int // file descriptor
}

func hostPrefix(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// connectHost makes the veth pair and the host's side of the connection.
func connectHost(host *netlink.Handle, w wire) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = w.link, w.mtu, hostMAC
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = insideLink, w.mac, uint32(w.mtu)
	veth.PeerNamespace = netlink.NsFd(w.netns)
	if err := host.LinkAdd(veth); err != nil {
		return fmt.Errorf("network: make veth pair %s: %w", w.link, missing(err, "veth (CONFIG_VETH)"))
	}
	if err := sysctlIfPresent("ipv6/conf/"+w.link+"/disable_ipv6", "1"); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if w.mode == ModeBridge {
		// For packets from 127.0.0.1 to a mapped port.
		if err := sysctl("ipv4/conf/"+w.link+"/route_localnet", "1"); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	return routeToSandbox(host, veth, w)
}

// routeToSandbox brings the host's end up and routes the sandbox's address to it.
// It may be repeated.
func routeToSandbox(host *netlink.Handle, link netlink.Link, w wire) error {
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("network: set %s up: %w", w.link, err)
	}
	index := link.Attrs().Index
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, Family: unix.AF_INET,
		IP: w.address.Addr().AsSlice(), HardwareAddr: w.mac}
	if err := host.NeighSet(neigh); err != nil {
		return fmt.Errorf("network: neighbour %s on %s: %w", w.address.Addr(), w.link, err)
	}
	route := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK,
		Dst: hostPrefix(w.address.Addr()), Src: w.source.AsSlice()}
	err := host.RouteAdd(route)
	if errors.Is(err, unix.EEXIST) {
		return routeIsOurs(host, route, w)
	}
	if err != nil {
		return fmt.Errorf("network: route %s to %s: %w", w.address.Addr(), w.link, err)
	}
	return nil
}

// routeIsOurs accepts a route that is already there if it leads to this sandbox.
func routeIsOurs(host *netlink.Handle, want *netlink.Route, w wire) error {
	found, err := netdump.Whole(func() ([]netlink.Route, error) {
		return host.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: want.Dst}, netlink.RT_FILTER_DST)
	})
	if err != nil {
		return fmt.Errorf("network: look at the routes to %s: %w", w.address.Addr(), err)
	}
	for _, r := range found {
		if r.LinkIndex == want.LinkIndex {
			return nil
		}
	}
	return fmt.Errorf("network: address %s already has a route on this machine (another node's task, or the host's)", w.address.Addr())
}

// connectInside configures the sandbox's own side: loopback, address, static
// neighbour, and the default route, or in none only the way to metadata.
func connectInside(inside *netlink.Handle, w wire) error {
	if err := loopbackUp(inside); err != nil {
		return err
	}
	eth, err := inside.LinkByName(insideLink)
	if err != nil {
		return fmt.Errorf("network: %s in the namespace: %w", insideLink, err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return fmt.Errorf("network: set %s up: %w", insideLink, err)
	}
	index := eth.Attrs().Index
	// Without a prefix route everything, also the subnet's other addresses, goes
	// through the host.
	addr := &netlink.Addr{IPNet: ipNet(w.address), Flags: unix.IFA_F_NOPREFIXROUTE}
	if w.mode == ModeNone {
		addr.IPNet = hostPrefix(w.address.Addr())
	}
	if err := inside.AddrAdd(eth, addr); err != nil {
		return fmt.Errorf("network: address %s: %w", w.address, err)
	}
	hop, route := w.gateway, &netlink.Route{LinkIndex: index, Gw: w.gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if w.mode == ModeNone {
		hop = metadataAddr
		route = &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: hostPrefix(hop)}
	}
	neigh := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, Family: unix.AF_INET,
		IP: hop.AsSlice(), HardwareAddr: hostMAC}
	if err := inside.NeighSet(neigh); err != nil {
		return fmt.Errorf("network: neighbour %s: %w", hop, err)
	}
	if err := inside.RouteAdd(route); err != nil {
		return fmt.Errorf("network: route by %s: %w", hop, err)
	}
	return nil
}

const (
	settleTimeout = 2 * time.Second
	settlePoll    = time.Millisecond
)

// settle waits until the host's end sends. The kernel starts its queue some time
// after the sandbox's end has come up, and drops what comes before; kernels since
// 6.8 start it at once when asked for the link's state.
func settle(ctx context.Context, host *netlink.Handle, name string) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		link, err := host.LinkByName(name)
		if err != nil {
			return fmt.Errorf("network: look at %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("network: link %s does not come up (state %s): %w", name, link.Attrs().OperState, ctx.Err())
		case <-time.After(settlePoll):
		}
	}
}

func loopbackUp(h *netlink.Handle) error {
	// The loopback link is the first of every namespace.
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("network: set lo up: %w", err)
	}
	return nil
}

// removeLink deletes a link if it exists; its routes and its peer go with it. The
// kernel answers after a grace period, some 20 ms, in which it serves others: hence
// a socket for each removal.
func removeLink(name string) error {
	h, err := routeHandle()
	if err != nil {
		return fmt.Errorf("network: open a route socket: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("network: remove link %s: %w", name, err)
	}
	return nil
}

// ensureBridge makes the node's bridge what it must be. It has no ports: it holds
// the gateway's address and keeps the subnet from other users' choice.
func ensureBridge(h *netlink.Handle, n names, node string, subnet netip.Prefix) error {
	link, err := bridgeLink(h, n.bridge, node)
	if err != nil {
		return err
	}
	if err := sysctlIfPresent("ipv6/conf/"+n.bridge+"/disable_ipv6", "1"); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	want := map[string]*netlink.Addr{}
	gateway := netip.PrefixFrom(newPool(subnet).gateway(), subnet.Bits())
	want[gateway.String()] = &netlink.Addr{IPNet: ipNet(gateway)}
	// Local, so that host mode reaches metadata also on a host without a default route.
	md := netip.PrefixFrom(metadataAddr, 32)
	want[md.String()] = &netlink.Addr{IPNet: ipNet(md), Scope: unix.RT_SCOPE_HOST}

	have, err := addresses(h, link)
	if err != nil {
		return fmt.Errorf("network: addresses of %s: %w", n.bridge, err)
	}
	for _, a := range have {
		if key := a.IPNet.String(); want[key] != nil {
			delete(want, key)
		} else if err := h.AddrDel(link, &a); err != nil {
			return fmt.Errorf("network: remove address %s of %s: %w", key, n.bridge, err)
		}
	}
	for key, a := range want {
		if err := h.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("network: address %s of %s: %w", key, n.bridge, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("network: set %s up: %w", n.bridge, err)
	}
	return nil
}

// bridgeLink finds or makes the bridge; its alias tells whose it is.
func bridgeLink(h *netlink.Handle, name, node string) (netlink.Link, error) {
	alias := aliasFor(node)
	link, err := h.LinkByName(name)
	if err == nil {
		if a := link.Attrs().Alias; a != "" && a != alias {
			return nil, fmt.Errorf("network: link %s belongs to %q: choose another node name", name, a)
		}
		return link, nil
	}
	if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("network: look for bridge %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("network: make bridge %s: %w", name, missing(err, "bridge (CONFIG_BRIDGE)"))
	}
	if err := h.LinkSetAlias(bridge, alias); err != nil {
		return nil, fmt.Errorf("network: alias of %s: %w", name, err)
	}
	return bridge, nil
}

func aliasFor(node string) string { return "longshore node " + node[:min(len(node), 200)] }

// takenSubnets are the destinations this host already has routes or addresses for,
// but for its default route and the node's own links.
func takenSubnets(h *netlink.Handle, n names) ([]netip.Prefix, error) {
	links, err := netdump.Whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("network: list links: %w", err)
	}
	skip := map[int]bool{}
	for _, l := range links {
		a := l.Attrs()
		skip[a.Index] = a.Name == n.bridge || n.owns(a.Name)
	}
	routes, err := routes(h)
	if err != nil {
		return nil, fmt.Errorf("network: list routes: %w", err)
	}
	addrs, err := addresses(h, nil)
	if err != nil {
		return nil, fmt.Errorf("network: list addresses: %w", err)
	}
	var out []netip.Prefix
	add := func(index int, p *net.IPNet) {
		if p == nil || skip[index] {
			return
		}
		if a, ok := netip.AddrFromSlice(p.IP.To4()); ok {
			ones, _ := p.Mask.Size()
			out = append(out, netip.PrefixFrom(a, ones).Masked())
		}
	}
	for _, r := range routes {
		add(r.LinkIndex, r.Dst)
	}
	for _, a := range addrs {
		add(a.LinkIndex, a.IPNet)
	}
	return out, nil
}

func routes(h *netlink.Handle) ([]netlink.Route, error) {
	return netdump.Whole(func() ([]netlink.Route, error) { return h.RouteList(nil, netlink.FAMILY_V4) })
}

// addresses of a link, nil for all.
func addresses(h *netlink.Handle, link netlink.Link) ([]netlink.Addr, error) {
	return netdump.Whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V4) })
}

// defaultMTUOf is the MTU of the link that the default route leaves by.
func defaultMTUOf(h *netlink.Handle) int {
	routes, err := routes(h)
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if link, err := h.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU >= minMTU {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}
