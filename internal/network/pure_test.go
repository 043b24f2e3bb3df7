package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPoolNeverGivesAnAddressTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(24, 28).Draw(t, "bits")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.1.2.0"), bits)
		p := newPool(subnet)
		usable := 1<<(32-bits) - 3
		taken := map[netip.Addr]string{}
		for i := range rapid.IntRange(1, 600).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "take") {
				a, err := p.take(fmt.Sprint(i))
				if len(taken) == usable {
					if !errors.Is(err, ErrNoAddress) {
						t.Fatalf("full pool: %v, %v", a, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%d of %d taken: %v", len(taken), usable, err)
				}
				if taken[a] != "" || a == p.gateway() || !subnet.Contains(a) || a == lastAddr(subnet) || a == subnet.Addr() {
					t.Fatalf("gave %s", a)
				}
				taken[a] = fmt.Sprint(i)
			} else if len(taken) > 0 {
				for a, id := range taken {
					p.release(a, "someone else")
					p.release(a, id)
					delete(taken, a)
					break
				}
			}
		}
	})
}

func TestPoolRestsReleasedAddresses(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.2.0/28"))
	first, err := p.take("a")
	must(t, err)
	p.release(first, "a")
	for i := range 12 {
		a, err := p.take("b")
		must(t, err)
		if a == first {
			t.Fatalf("%s came back after %d others of 12", a, i)
		}
		p.release(a, "b")
	}
	if a, err := p.take("c"); err != nil || a != first {
		t.Errorf("after a full turn: %s, %v; want %s", a, err, first)
	}
	if err := p.adopt(first, "d"); err == nil {
		t.Error("two sandboxes adopted one address")
	}
	if err := p.adopt(netip.MustParseAddr("10.1.3.2"), "d"); err == nil {
		t.Error("adopted an address of another subnet")
	}
}

func TestChooseBridge(t *testing.T) {
	p := netip.MustParsePrefix
	none := netip.Prefix{}
	for _, c := range []struct {
		name           string
		want, recorded netip.Prefix
		inUse          bool
		taken          []netip.Prefix
		choice         string // "" for an error
	}{
		{"first candidate", none, none, false, nil, "172.30.0.0/20"},
		{"a default route takes nothing", none, none, false, []netip.Prefix{p("0.0.0.0/0")}, "172.30.0.0/20"},
		{"next slice", none, none, false, []netip.Prefix{p("172.30.1.0/24"), p("172.30.16.1/32")}, "172.30.32.0/20"},
		{"next network", none, none, false, []netip.Prefix{p("172.30.0.0/16")}, "172.29.0.0/20"},
		{"all of 172.16/12", none, none, false, []netip.Prefix{p("172.16.0.0/12")}, "10.201.0.0/20"},
		{"everything", none, none, false, []netip.Prefix{p("172.16.0.0/12"), p("10.0.0.0/8")}, ""},
		{"stays", none, p("172.28.0.0/20"), false, nil, "172.28.0.0/20"},
		{"moves away", none, p("172.28.0.0/20"), false, []netip.Prefix{p("172.28.0.0/24")}, "172.30.0.0/20"},
		{"stays while in use", p("10.9.0.0/16"), p("172.28.0.0/20"), true, []netip.Prefix{p("172.28.0.0/24")}, "172.28.0.0/20"},
		{"as configured", p("10.9.0.0/16"), p("172.28.0.0/20"), false, nil, "10.9.0.0/16"},
		{"configured but taken", p("10.9.0.0/16"), none, false, []netip.Prefix{p("10.9.7.0/24")}, ""},
	} {
		got, err := chooseBridge(c.want, c.recorded, c.inUse, c.taken)
		if (err != nil) != (c.choice == "") || (err == nil && got.String() != c.choice) {
			t.Errorf("%s: %s, %v; want %q", c.name, got, err, c.choice)
		}
	}
}

func TestMergePrefixes(t *testing.T) {
	var in []netip.Prefix
	for _, s := range []string{"10.0.0.0/24", "10.0.0.7/16", "10.0.0.0/16", "10.1.0.0/24", "10.1.0.0/24", "255.255.255.0/24"} {
		in = append(in, netip.MustParsePrefix(s))
	}
	if got := fmt.Sprint(mergePrefixes(in)); got != "[10.0.0.0/16 10.1.0.0/24 255.255.255.0/24]" {
		t.Errorf("merged %s", got)
	}
	if n := len(intervals(in)); n != 5 { // the last range ends with the address space
		t.Errorf("%d interval bounds, want 5", n)
	}
}

func TestRequestsAreChecked(t *testing.T) {
	port := func(p PortMapping) Request {
		return Request{ID: "a", Mode: ModeBridge, Ports: []PortMapping{p}}
	}
	vpc := func(address, gateway, mac string) Request {
		e := &ENI{MAC: mac}
		e.Address, _ = netip.ParsePrefix(address)
		e.Gateway, _ = netip.ParseAddr(gateway)
		return Request{ID: "a", Mode: ModeAWSVPC, ENI: e}
	}
	for want, req := range map[string]Request{
		"":                             {ID: "a-1", Mode: ModeBridge, Hostname: "web.example", ExtraHosts: []string{"db:10.0.0.1", "six:::1", "h:host-gateway"}, DNSServers: []string{"10.0.0.2"}, DNSSearch: []string{"."}},
		"must match":                   {ID: "../a", Mode: ModeBridge},
		"network mode":                 {ID: "a", Mode: "default"},
		"in bridge mode only":          {ID: "a", Mode: ModeHost, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 1}}},
		"needs an elastic":             {ID: "a", Mode: ModeAWSVPC},
		"awsvpc mode, and no other":    {ID: "a", Mode: ModeBridge, ENI: eni("10.77.0.2/24")},
		"neither tcp nor udp":          port(PortMapping{Protocol: "sctp", ContainerPort: 1}),
		"no container port":            port(PortMapping{Protocol: "tcp"}),
		"mapped twice":                 {ID: "a", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 1, HostPort: 80}, {Protocol: "tcp", ContainerPort: 2, HostPort: 80}}},
		"port mappings, at most":       {ID: "a", Mode: ModeBridge, Ports: make([]PortMapping, 1001)},
		"address 127.0.0.1/8":          vpc("127.0.0.1/8", "10.0.0.1", ""),
		"address fd00::1/64":           vpc("fd00::1/64", "10.0.0.1", ""),
		"address 169.254.170.2/24":     vpc("169.254.170.2/24", "10.0.0.1", ""),
		"address invalid":              vpc("", "10.0.0.1", ""),
		"gateway 10.0.0.1":             vpc("10.0.0.1/24", "10.0.0.1", ""),
		"gateway invalid":              vpc("10.0.0.2/24", "", ""),
		"MAC \"01:00:5e:00:00:01\"":    vpc("10.0.0.2/24", "10.0.0.1", "01:00:5e:00:00:01"),
		"host name":                    {ID: "a", Mode: ModeBridge, Hostname: "a\n127.0.0.1 evil"},
		"DNS server":                   {ID: "a", Mode: ModeBridge, DNSServers: []string{"dns.example"}},
		"DNS search domain":            {ID: "a", Mode: ModeBridge, DNSSearch: []string{"a b"}},
		"extra host \"db\" is":         {ID: "a", Mode: ModeBridge, ExtraHosts: []string{"db"}},
		"extra host \"db:nowhere\" is": {ID: "a", Mode: ModeBridge, ExtraHosts: []string{"db:nowhere"}},
		"more than 32 DNS":             {ID: "a", Mode: ModeBridge, DNSServers: make([]string, 33)},
	} {
		err := req.validate()
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestNamesFitTheKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := namesOf(rapid.String().Draw(t, "node"))
		id := rapid.StringMatching(idPattern.String()).Draw(t, "id")
		for _, name := range []string{n.bridge, n.link(ModeBridge, id), n.link(ModeNone, id)} {
			if len(name) > 15 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz234567") != "" {
				t.Fatalf("link name %q", name)
			}
		}
		if !n.owns(n.link(ModeBridge, id)) || !n.owns(n.link(ModeNone, id)) || n.owns(n.bridge) {
			t.Fatalf("names %+v do not know their own", n)
		}
	})
}

func TestResolver(t *testing.T) {
	stub := "# by systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n"
	real := "nameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n"
	fallback := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	write := func(texts []string) (paths []string) {
		for _, text := range texts {
			paths = append(paths, t.TempDir()+"/resolv.conf")
			must(t, writeAtomic(paths[len(paths)-1], []byte(text), 0o600, false))
		}
		return paths
	}
	for _, c := range []struct {
		name  string
		files []string
		req   Request
		want  string
	}{
		{"as the host's", []string{real}, Request{Mode: ModeBridge}, "nameserver 10.0.0.53\n"},
		{"behind a stub", []string{stub, real}, Request{Mode: ModeBridge},
			"nameserver 10.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n"},
		{"stub alone", []string{stub}, Request{Mode: ModeAWSVPC},
			"nameserver 192.0.2.53\nsearch corp.example\noptions edns0 trust-ad\n"},
		{"host mode keeps the stub", []string{stub, real}, Request{Mode: ModeHost},
			"nameserver 127.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n"},
		{"as asked", []string{real}, Request{Mode: ModeBridge, DNSServers: []string{"10.0.0.2", "10.0.0.3"}, DNSSearch: []string{"a.example", "b.example"}},
			"nameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch a.example b.example\n"},
		{"no search", []string{stub, real}, Request{Mode: ModeBridge, DNSSearch: []string{"."}},
			"nameserver 10.0.0.53\noptions edns0 trust-ad\n"},
		{"no files", nil, Request{Mode: ModeBridge}, "nameserver 192.0.2.53\n"},
	} {
		if got := resolverFor(c.req, hostResolver(c.req.Mode, write(c.files)), fallback).String(); got != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want)
		}
	}
}

func TestHostsAndHostname(t *testing.T) {
	own, gw := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.1")
	req := Request{ID: "0123456789abcdef", Mode: ModeBridge, Hostname: "web.example",
		ExtraHosts: []string{"db:10.0.0.9", "outside:host-gateway", "six:[2001:db8::1]"}}
	want := baseHosts + "10.0.0.7\tweb.example web\n10.0.0.9\tdb\n10.0.0.1\toutside\n2001:db8::1\tsix\n"
	if got := hostsFor(req, hostnameFor(req, "box"), own, gw, ""); got != want {
		t.Errorf("hosts:\n%swant\n%s", got, want)
	}
	host := Request{ID: "0123456789abcdef", Mode: ModeHost, ExtraHosts: []string{"db:10.0.0.9"}}
	if got := hostsFor(host, hostnameFor(host, "box"), netip.Addr{}, gw, "10.1.1.1 box"); got != "10.1.1.1 box\n10.0.0.9\tdb\n" {
		t.Errorf("host mode:\n%s", got)
	}
	for want, req := range map[string]Request{
		"web": {ID: "a", Hostname: "web"}, "box": {ID: "a", Mode: ModeHost},
		"0123456789ab": {ID: "0123456789abcdef"}, "container": {ID: "----"},
	} {
		if got := hostnameFor(req, "box"); got != want {
			t.Errorf("hostname %q, want %q", got, want)
		}
	}
}
