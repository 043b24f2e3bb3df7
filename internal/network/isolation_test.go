package network

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func addDefaultRoute(t *testing.T, netns string, gateway netip.Addr) {
	t.Helper()
	must(t, inside(t, netns, func() error {
		h, err := routeHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		eth, err := h.LinkByName(insideLink)
		if err != nil {
			return err
		}
		return h.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	}))
}

// A privileged container sends packets for 127.0.0.1 out of its link, as in
// CVE-2020-8558.
func TestHostLoopbackIsNotReached(t *testing.T) {
	l := newNode(t, "n1")
	listen(t, "host", "tcp", "127.0.0.1:7000", "secret")
	listen(t, "host", "udp", "127.0.0.1:7000", "secret")
	for _, s := range []Sandbox{
		setup(t, l, Request{ID: "bridge", Mode: ModeBridge}),
		setup(t, l, Request{ID: "vpc", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")}),
		setup(t, l, Request{ID: "shut", Mode: ModeNone}),
	} {
		must(t, inside(t, s.NetNS, func() error { return routeLoopbackOut(s.Gateway) }))
		wantNoAnswer(t, s.NetNS, "tcp", "127.0.0.1:7000")
		wantNoAnswer(t, s.NetNS, "udp", "127.0.0.1:7000")
		if got := received(t, "host", "127.0.0.1:7001", func() {
			must(t, inside(t, s.NetNS, func() error { return send("127.0.0.1:7001", netip.Addr{}) }))
		}); got != "" {
			t.Errorf("the host's loopback received a datagram from %s", s.ID)
		}
	}
}

// routeLoopbackOut lets the namespace's packets for 127/8 leave by eth0.
func routeLoopbackOut(gateway netip.Addr) error {
	h, err := routeHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	eth, err := h.LinkByName(insideLink)
	if err != nil {
		return err
	}
	if !gateway.IsValid() {
		gateway = metadataAddr
	}
	for _, s := range []string{"ipv4/conf/all/route_localnet", "ipv4/conf/eth0/route_localnet"} {
		if err := sysctl(s, "1"); err != nil {
			return err
		}
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.AddrDel(lo, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("127.0.0.1/8"))}); err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(loopback),
		Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
}

func TestSourceAddressesCannotBeSpoofed(t *testing.T) {
	l := newNode(t, "n1")
	a := setup(t, l, Request{ID: "a", Mode: ModeBridge})
	b := setup(t, l, Request{ID: "b", Mode: ModeBridge})
	vpc := setup(t, l, Request{ID: "vpc", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")})
	to := netip.AddrPortFrom(b.Address.Addr(), 9000).String()
	for _, from := range []Sandbox{a, vpc} {
		for source, want := range map[netip.Addr]bool{
			from.Address.Addr():                 true,
			l.pool.gateway():                    false,
			b.Address.Addr().Next():             false,
			netip.MustParseAddr("10.77.0.99"):   false,
			netip.MustParseAddr("198.51.100.7"): false,
			netip.MustParseAddr("127.0.0.1"):    false,
		} {
			got := received(t, b.NetNS, to, func() {
				must(t, inside(t, from.NetNS, func() error { return send(to, source) }))
			})
			if (got != "") != want {
				t.Errorf("datagram from %s with source %s: received %q, want received %v", from.ID, source, got, want)
			}
		}
	}
}

// received tells who a datagram that do sends comes from; "" when none arrives.
func received(t *testing.T, netns, address string, do func()) string {
	t.Helper()
	var c net.PacketConn
	must(t, inside(t, netns, func() (err error) { c, err = net.ListenPacket("udp4", address); return err }))
	defer c.Close()
	do()
	must(t, c.SetReadDeadline(deadline(deniedTimeout)))
	buf := make([]byte, 64)
	_, from, err := c.ReadFrom(buf)
	if err != nil {
		return ""
	}
	return from.String()
}

// send sends one datagram by a raw socket, with any source.
func send(to string, source netip.Addr) error {
	dst := netip.MustParseAddrPort(to)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	p := make([]byte, 20+8+1)
	p[0], p[3], p[8], p[9] = 0x45, byte(len(p)), 64, unix.IPPROTO_UDP
	if source.IsValid() {
		copy(p[12:], source.AsSlice())
	}
	copy(p[16:], dst.Addr().AsSlice())
	p[21], p[22], p[23], p[25] = 7, byte(dst.Port()>>8), byte(dst.Port()), 9
	return unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: dst.Addr().As4()})
}
