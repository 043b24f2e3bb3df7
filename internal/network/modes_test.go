package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func eni(addr string) *ENI {
	return &ENI{Address: netip.MustParsePrefix(addr), Gateway: netip.MustParseAddr("10.77.0.1"), MAC: "0a:01:02:03:04:05"}
}

func TestHostPortsAreReachedFromEverywhere(t *testing.T) {
	l := newNode(t, "n1")
	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	for _, proto := range []string{"tcp", "udp"} {
		s := setup(t, l, Request{ID: "web-" + proto, Mode: ModeBridge, Ports: []PortMapping{
			{Protocol: proto, ContainerPort: 80, HostPort: 8080},
			{Protocol: proto, ContainerPort: 81},
		}})
		peer := setup(t, l, Request{ID: "peer-" + proto, Mode: ModeBridge})
		listen(t, s.NetNS, proto, ":80", "static")
		listen(t, s.NetNS, proto, ":81", "dynamic")
		if s.Ports[0].HostPort != 8080 || s.Ports[1].HostPort < 49153 {
			t.Fatalf("ports %+v", s.Ports)
		}
		gw := l.pool.gateway()
		for i, name := range []string{"static", "dynamic"} {
			port := s.Ports[i].HostPort
			at := func(a netip.Addr) string { return netip.AddrPortFrom(a, port).String() }
			wantAnswer(t, "host", proto, fmt.Sprintf("127.0.0.1:%d", port), name+" "+gw.String())
			wantAnswer(t, "host", proto, at(gw), name+" "+gw.String())
			wantAnswer(t, "host", proto, at(lan.local), name+" "+lan.local.String())
			wantAnswer(t, lan.netns, proto, at(lan.local), name+" "+lan.address.String())
			wantAnswer(t, peer.NetNS, proto, at(gw), name+" "+gw.String())
			wantAnswer(t, peer.NetNS, proto, at(lan.local), name+" "+gw.String())
			// The container itself, by its own host port.
			wantAnswer(t, s.NetNS, proto, at(lan.local), name+" "+gw.String())
		}
	}
}

func TestUnmappedPortsAreNotReachedFromOtherHosts(t *testing.T) {
	l := newNode(t, "n1")
	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	lan.routeVia(t, l.pool.subnet)
	s := setup(t, l, Request{ID: "a", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}}})
	listen(t, s.NetNS, "tcp", ":80", "a")
	listen(t, lan.netns, "tcp", ":90", "lan")
	wantNoAnswer(t, lan.netns, "tcp", s.Address.Addr().String()+":80")
	wantAnswer(t, lan.netns, "tcp", lan.local.String()+":8080", "a "+lan.address.String())
	// The way out is masqueraded.
	wantAnswer(t, s.NetNS, "tcp", lan.address.String()+":90", "lan "+lan.local.String())
}

func TestSameContainerPortInTwoContainers(t *testing.T) {
	l := newNode(t, "n1")
	for i, id := range []string{"a", "b"} {
		s := setup(t, l, Request{ID: id, Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80}}})
		listen(t, s.NetNS, "tcp", ":80", id)
		wantAnswer(t, "host", "tcp", fmt.Sprintf("127.0.0.1:%d", s.Ports[0].HostPort), id+" "+l.pool.gateway().String())
		if want := uint16(49153 + i); s.Ports[0].HostPort != want {
			t.Errorf("host port %d, want %d", s.Ports[0].HostPort, want)
		}
	}
}

func TestStaticPortConflicts(t *testing.T) {
	l := newNode(t, "n1")
	listen(t, "host", "tcp", "127.0.0.1:8081", "unrelated")
	setup(t, l, Request{ID: "first", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}}})
	for _, port := range []uint16{8080, 8081, l.MetadataListenAddr().Port()} {
		_, err := l.Setup(context.Background(), Request{ID: "second", Mode: ModeBridge, Ports: []PortMapping{
			{Protocol: "tcp", ContainerPort: 81, HostPort: 8090}, {Protocol: "tcp", ContainerPort: 80, HostPort: port}}})
		if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
			t.Errorf("port %d: error %v, want ErrPortInUse naming it", port, err)
		}
	}
	// The same number of the other protocol is free, and so is what the failed setups held.
	setup(t, l, Request{ID: "third", Mode: ModeBridge, Ports: []PortMapping{
		{Protocol: "udp", ContainerPort: 80, HostPort: 8080}, {Protocol: "tcp", ContainerPort: 81, HostPort: 8090}}})
	// A reserved port is refused to other processes of the host.
	err := inside(t, "host", func() error { _, err := bindPort(portKey{"tcp", 8090}, true); return err })
	if err == nil {
		t.Error("another process could bind a mapped host port")
	}
	must(t, l.Teardown(context.Background(), "first"))
	setup(t, l, Request{ID: "again", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}}})
}

func TestDynamicPortsRunOut(t *testing.T) {
	newHost(t)
	opts := testOptions(t, "n1")
	opts.FirstDynamicPort, opts.LastDynamicPort = 60000, 60002
	l := startNode(t, opts)
	listen(t, "host", "tcp", ":60001", "unrelated")
	two := []PortMapping{{Protocol: "tcp", ContainerPort: 1}, {Protocol: "tcp", ContainerPort: 2}}
	s := setup(t, l, Request{ID: "a", Mode: ModeBridge, Ports: two})
	if s.Ports[0].HostPort != 60000 || s.Ports[1].HostPort != 60002 {
		t.Errorf("ports %+v, want 60000 and 60002", s.Ports)
	}
	if _, err := l.Setup(context.Background(), Request{ID: "b", Mode: ModeBridge, Ports: two[:1]}); !errors.Is(err, ErrNoPort) {
		t.Errorf("error %v, want ErrNoPort", err)
	}
}

// A run gets consecutive host ports, beyond what is in use; when none are left, nothing
// of it is held.
func TestRunsOfPortsAreConsecutive(t *testing.T) {
	newHost(t)
	opts := testOptions(t, "n1")
	opts.FirstDynamicPort, opts.LastDynamicPort = 60000, 60008
	l := startNode(t, opts)
	listen(t, "host", "tcp", ":60002", "unrelated")
	run := func(n uint16) (ports []PortMapping) {
		for i := range n {
			ports = append(ports, PortMapping{Protocol: "tcp", ContainerPort: 7000 + i})
		}
		ports[0].Run = n
		return ports
	}
	s := setup(t, l, Request{ID: "a", Mode: ModeBridge, Ports: append(run(3), PortMapping{Protocol: "tcp", ContainerPort: 1})})
	for i, want := range []uint16{60003, 60004, 60005, 60000} {
		if s.Ports[i].HostPort != want {
			t.Errorf("port %d is %d, want %d", i, s.Ports[i].HostPort, want)
		}
	}
	listen(t, s.NetNS, "tcp", ":7002", "third")
	wantAnswer(t, "host", "tcp", "127.0.0.1:60005", "third "+l.pool.gateway().String())
	if _, err := l.Setup(context.Background(), Request{ID: "b", Mode: ModeBridge, Ports: run(4)}); !errors.Is(err, ErrNoPort) {
		t.Errorf("error %v, want ErrNoPort", err)
	}
	setup(t, l, Request{ID: "c", Mode: ModeBridge, Ports: run(3)})
	for name, ports := range map[string][]PortMapping{
		"too long":        {{Protocol: "tcp", ContainerPort: 1, Run: 2}},
		"a gap":           {{Protocol: "tcp", ContainerPort: 1, Run: 2}, {Protocol: "tcp", ContainerPort: 3}},
		"a fixed port":    {{Protocol: "tcp", ContainerPort: 1, Run: 2}, {Protocol: "tcp", ContainerPort: 2, HostPort: 80}},
		"runs in a run":   {{Protocol: "tcp", ContainerPort: 1, Run: 2}, {Protocol: "tcp", ContainerPort: 2, Run: 1}},
		"other protocols": {{Protocol: "tcp", ContainerPort: 1, Run: 2}, {Protocol: "udp", ContainerPort: 2}},
	} {
		if _, err := l.Setup(context.Background(), Request{ID: "d", Mode: ModeBridge, Ports: ports}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestAWSVPCAddressIsTheContainers(t *testing.T) {
	l := newNode(t, "n1")
	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	lan.routeVia(t, testENISubnet)
	listen(t, lan.netns, "tcp", ":90", "lan")
	a := setup(t, l, Request{ID: "a", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")})
	b := setup(t, l, Request{ID: "b", Mode: ModeAWSVPC, ENI: eni("10.77.0.11/24")})
	c := setup(t, l, Request{ID: "c", Mode: ModeBridge})
	for _, s := range []Sandbox{a, b, c} {
		listen(t, s.NetNS, "tcp", ":80", s.ID)
	}
	if a.Address.String() != "10.77.0.10/24" || a.Gateway.String() != "10.77.0.1" || a.MAC != "0a:01:02:03:04:05" {
		t.Errorf("sandbox %+v", a)
	}
	must(t, inside(t, a.NetNS, func() error {
		h, err := routeHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := h.AddrList(link, 0)
		if err != nil {
			return err
		}
		if len(addrs) != 1 || addrs[0].IPNet.String() != "10.77.0.10/24" || link.Attrs().HardwareAddr.String() != a.MAC {
			return fmt.Errorf("eth0 has %v, MAC %s", addrs, link.Attrs().HardwareAddr)
		}
		return nil
	}))
	wantAnswer(t, "host", "tcp", "10.77.0.10:80", "a "+l.pool.gateway().String())
	wantAnswer(t, b.NetNS, "tcp", "10.77.0.10:80", "a 10.77.0.11")
	wantAnswer(t, c.NetNS, "tcp", "10.77.0.10:80", "a "+c.Address.Addr().String())
	wantAnswer(t, a.NetNS, "tcp", c.Address.Addr().String()+":80", "c 10.77.0.10")
	wantAnswer(t, a.NetNS, "tcp", "10.77.0.10:80", "a 10.77.0.10")
	wantAnswer(t, a.NetNS, "tcp", lan.address.String()+":90", "lan "+lan.local.String())
	wantAnswer(t, lan.netns, "tcp", "10.77.0.10:80", "a "+lan.address.String())
	// Another node's tasks see the task's own address.
	far := newOtherHost(t, "far", "10.77.1.0/24")
	far.routeVia(t, testENISubnet)
	listen(t, far.netns, "tcp", ":90", "far")
	wantAnswer(t, a.NetNS, "tcp", far.address.String()+":90", "far 10.77.0.10")

	_, err := l.Setup(context.Background(), Request{ID: "d", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")})
	if err == nil {
		t.Error("two sandboxes have one address")
	}
	wantAnswer(t, a.NetNS, "tcp", lan.address.String()+":90", "lan "+lan.local.String())
}

func TestNoneHasNoWayOut(t *testing.T) {
	l := newNode(t, "n1")
	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	listen(t, lan.netns, "tcp", ":90", "lan")
	listen(t, "host", "tcp", ":7000", "host")
	listen(t, "host", "tcp", l.MetadataListenAddr().String(), "metadata")
	other := setup(t, l, Request{ID: "other", Mode: ModeBridge})
	listen(t, other.NetNS, "tcp", ":80", "other")
	s := setup(t, l, Request{ID: "shut", Mode: ModeNone})
	listen(t, s.NetNS, "tcp", ":80", "shut")

	wantAnswer(t, s.NetNS, "tcp", "127.0.0.1:80", "shut 127.0.0.1")
	address := l.sandboxes["shut"].Address
	wantAnswer(t, s.NetNS, "tcp", "169.254.170.2:80", "metadata "+address.String())
	if at, ok := l.SandboxAt(address); !ok || at.ID != "shut" {
		t.Errorf("at %s is the sandbox %q %v", address, at.ID, ok)
	}
	// Also with a default route that a privileged container could add.
	for range 2 {
		wantNoAnswer(t, s.NetNS, "tcp", lan.address.String()+":90")
		wantNoAnswer(t, s.NetNS, "tcp", l.pool.gateway().String()+":7000")
		wantNoAnswer(t, s.NetNS, "tcp", "169.254.170.2:7000")
		wantNoAnswer(t, s.NetNS, "tcp", "169.254.170.2:4566")
		wantNoAnswer(t, s.NetNS, "tcp", other.Address.Addr().String()+":80")
		addDefaultRoute(t, s.NetNS, metadataAddr)
	}
}

func TestMetadataInEveryMode(t *testing.T) {
	l := newNode(t, "n1")
	listen(t, "host", "tcp", l.MetadataListenAddr().String(), "metadata")
	bridge := setup(t, l, Request{ID: "bridge", Mode: ModeBridge})
	vpc := setup(t, l, Request{ID: "vpc", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")})
	host := setup(t, l, Request{ID: "host", Mode: ModeHost})
	wantAnswer(t, bridge.NetNS, "tcp", "169.254.170.2:80", "metadata "+bridge.Address.Addr().String())
	wantAnswer(t, vpc.NetNS, "tcp", "169.254.170.2:80", "metadata 10.77.0.10")
	wantAnswer(t, host.NetNS, "tcp", "169.254.170.2:80", "metadata 169.254.170.2")
	for ns, from := range map[string]string{bridge.NetNS: bridge.Address.Addr().String(), vpc.NetNS: "10.77.0.10", host.NetNS: "169.254.170.2"} {
		wantAnswer(t, ns, "tcp", "169.254.170.2:4566", "metadata "+from)
	}
	listen(t, "host", "tcp", ":7000", "host")
	wantNoAnswer(t, bridge.NetNS, "tcp", "169.254.170.2:7000")
	for _, s := range []Sandbox{bridge, vpc} {
		if at, ok := l.SandboxAt(s.Address.Addr()); !ok || at.ID != s.ID {
			t.Errorf("at %s is the sandbox %q %v", s.Address, at.ID, ok)
		}
	}
	for _, nobody := range []netip.Addr{{}, metadataAddr, l.pool.gateway()} {
		if at, ok := l.SandboxAt(nobody); ok {
			t.Errorf("at %s is the sandbox %q", nobody, at.ID)
		}
	}

	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	lan.routeVia(t, l.pool.subnet)
	lan.routeVia(t, netip.MustParsePrefix("169.254.170.2/32"))
	wantNoAnswer(t, lan.netns, "tcp", l.MetadataListenAddr().String())
	wantNoAnswer(t, lan.netns, "tcp", "169.254.170.2:80")
	wantNoAnswer(t, lan.netns, "tcp", "169.254.170.2:4566")
}

func TestInstanceMetadataIsBlocked(t *testing.T) {
	l := newNode(t, "n1")
	imds := newOtherHost(t, "imds", "169.254.169.252/30") // its address is 169.254.169.254
	listen(t, imds.netns, "tcp", ":80", "imds")
	wantAnswer(t, "host", "tcp", "169.254.169.254:80", "imds "+imds.local.String())
	all := []Sandbox{
		setup(t, l, Request{ID: "bridge", Mode: ModeBridge}),
		setup(t, l, Request{ID: "vpc", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")}),
		setup(t, l, Request{ID: "shut", Mode: ModeNone}),
	}
	for _, s := range all {
		wantNoAnswer(t, s.NetNS, "tcp", "169.254.169.254:80")
	}
	// Nor is a server on the host itself.
	lo, err := l.host.LinkByName("lo")
	must(t, err)
	own := &netlink.Addr{IPNet: hostPrefix(instanceMetadataAddr)}
	must(t, l.host.AddrAdd(lo, own))
	defer func() { must(t, l.host.AddrDel(lo, own)) }()
	listen(t, "host", "tcp", "169.254.169.254:80", "local")
	for _, s := range all {
		wantNoAnswer(t, s.NetNS, "tcp", "169.254.169.254:80")
	}
}
