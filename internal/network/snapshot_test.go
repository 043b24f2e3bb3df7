package network

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// snapshot lists everything that this package could leave behind on the host:
// links, addresses, routes, neighbours, nftables, mounts, bound ports.
func snapshot(t testing.TB) []string {
	t.Helper()
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	h, err := routeHandle()
	must(t, err)
	defer h.Close()
	links, err := h.LinkList()
	must(t, err)
	for _, l := range links {
		add("link %s", l.Attrs().Name)
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_V4)
	must(t, err)
	for _, a := range addrs {
		add("address %s", a.IPNet)
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		add("route %s", r.Dst)
	}
	neighs, err := h.NeighList(0, netlink.FAMILY_V4)
	must(t, err)
	for _, n := range neighs {
		if n.State == netlink.NUD_PERMANENT {
			add("neighbour %s", n.IP)
		}
	}
	out = append(out, nftSnapshot(t)...)
	inherited := inheritedMounts()
	for id, path := range mountsByID() {
		if inherited[id] == "" {
			add("mount %s", path)
		}
	}
	for _, proto := range []string{"tcp", "udp"} {
		text, err := os.ReadFile("/proc/self/net/" + proto)
		must(t, err)
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
			if f := strings.Fields(line); f[3] == "07" || f[3] == "0A" { // bound, listening
				add("%s %s", proto, f[1])
			}
		}
	}
	slices.Sort(out)
	return out
}

// inheritedMounts are those of the namespace that the tests' own one was copied
// from. They go away by themselves when another process removes their directories.
var inheritedMounts = sync.OnceValue(mountsByID)

func mountsByID() map[string]string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		panic(err)
	}
	mounts := map[string]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		mounts[fields[0]] = fields[4]
	}
	return mounts
}

func nftSnapshot(t testing.TB) []string {
	t.Helper()
	var out []string
	conn, err := nftables.New()
	must(t, err)
	tables, err := conn.ListTables()
	must(t, err)
	for _, table := range tables {
		out = append(out, "table "+table.Name)
		chains, err := conn.ListChains()
		must(t, err)
		for _, c := range chains {
			if c.Table.Name != table.Name {
				continue
			}
			rules, err := conn.GetRules(table, c)
			must(t, err)
			out = append(out, fmt.Sprintf("chain %s %s: %d rules", table.Name, c.Name, len(rules)))
		}
		sets, err := conn.GetSets(table)
		must(t, err)
		for _, s := range sets {
			elems, err := conn.GetSetElements(s)
			must(t, err)
			for _, e := range elems {
				out = append(out, fmt.Sprintf("element %s %s %x %x", table.Name, s.Name, e.Key, e.Val))
			}
		}
	}
	return out
}

func wantSame(t testing.TB, before, after []string) {
	t.Helper()
	count := map[string]int{}
	for _, s := range before {
		count[s]--
	}
	for _, s := range after {
		count[s]++
	}
	for s, n := range count {
		switch {
		case n > 0:
			t.Errorf("left behind: %s", s)
		case n < 0:
			t.Errorf("gone: %s", s)
		}
	}
}
