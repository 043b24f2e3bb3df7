package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

func TestMissingFeaturesAreNamed(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{unix.EOPNOTSUPP, "this kernel lacks veth"},
		{fmt.Errorf("add: %w", unix.EAFNOSUPPORT), "this kernel lacks veth"},
		{unix.EPERM, "CAP_NET_ADMIN"},
		{unix.ENOMEM, unix.ENOMEM.Error()},
	} {
		got := missing(c.err, "veth")
		if !strings.HasPrefix(got.Error(), c.want) && !strings.Contains(got.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		if !errors.Is(got, errors.Unwrap(c.err)) && !errors.Is(got, c.err) {
			t.Errorf("%v is not wrapped", c.err)
		}
	}
}

// The probes that find a missing nftables feature pass on a kernel that has all,
// fail for a rule that the kernel refuses, and leave nothing.
func TestNftablesProbes(t *testing.T) {
	newHost(t)
	before := snapshot(t)
	s := newRuleset(namesOf("probe"), netip.MustParsePrefix("172.30.0.0/20"),
		netip.MustParseAddrPort("172.30.0.1:51679"), nil)
	must(t, s.open())
	defer s.close()
	if err := s.explain(unix.ENOENT); !errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), "lacks") {
		t.Errorf("on a complete kernel: %v", err)
	}
	if err := s.probe(nftables.ChainTypeFilter, inSet(offSource, "no-such-set", 9, false)); err == nil {
		t.Error("a rule that the kernel refuses passed")
	}
	must(t, s.probe(nftables.ChainTypeNAT, masquerade()))
	wantSame(t, before, snapshot(t))
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Node: "n", StateDir: "/s", RunDir: "/r"}
	if _, err := good.validated(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"node's name":       func(o *Options) { o.Node = "" },
		"absolute paths":    func(o *Options) { o.RunDir = "r" },
		"MTU 100":           func(o *Options) { o.MTU = 100 },
		"no range":          func(o *Options) { o.FirstDynamicPort, o.LastDynamicPort = 10, 9 },
		"bridge subnet":     func(o *Options) { o.BridgeCIDR = netip.MustParsePrefix("10.0.0.0/30") },
		"ENI subnet":        func(o *Options) { o.ENISubnets = []netip.Prefix{netip.MustParsePrefix("fd00::/64")} },
		"1025 ENI subnets,": func(o *Options) { o.ENISubnets = make([]netip.Prefix, 1025) },
	} {
		o := good
		change(&o)
		if _, err := o.validated(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
