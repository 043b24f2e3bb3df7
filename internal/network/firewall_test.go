package network

import (
	"context"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// dockerLike makes the tables that Docker's daemon makes by iptables-nft.
func dockerLike(t *testing.T) (*nftables.Conn, *nftables.Table, *nftables.Chain) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	user := conn.AddChain(&nftables.Chain{Name: "DOCKER-USER", Table: table})
	forward := conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: jump("DOCKER-USER")})
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: rule(ctBits(expr.CtKeySTATE, ctEstablishedRelated), accept())})
	must(t, conn.Flush())
	t.Cleanup(func() { conn.DelTable(table); must(t, conn.Flush()) })
	return conn, table, user
}

func TestRoomInDockersFirewall(t *testing.T) {
	newHost(t)
	conn, table, user := dockerLike(t)
	opts := testOptions(t, "n1")
	l, err := New(opts)
	must(t, err)
	must(t, l.Close())
	l = startNode(t, opts) // a second start adds nothing
	rules, err := conn.GetRules(table, user)
	must(t, err)
	if len(rules) != 2 {
		t.Errorf("%d rules in DOCKER-USER, want 2", len(rules))
	}
	lan := newOtherHost(t, "lan", "198.51.100.0/24")
	docker := newOtherHost(t, "br-0123", "172.20.0.0/24")
	listen(t, lan.netns, "tcp", ":90", "lan")
	listen(t, docker.netns, "tcp", ":90", "docker")
	a := setup(t, l, Request{ID: "a", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}}})
	b := setup(t, l, Request{ID: "b", Mode: ModeBridge})
	listen(t, a.NetNS, "tcp", ":80", "a")
	wantAnswer(t, a.NetNS, "tcp", lan.address.String()+":90", "lan "+lan.local.String())
	wantAnswer(t, lan.netns, "tcp", lan.local.String()+":8080", "a "+lan.address.String())
	wantAnswer(t, b.NetNS, "tcp", a.Address.Addr().String()+":80", "a "+b.Address.Addr().String())
	wantNoAnswer(t, a.NetNS, "tcp", docker.address.String()+":90")

	must(t, l.Teardown(context.Background(), "a"))
	must(t, l.Teardown(context.Background(), "b"))
	must(t, l.Destroy(context.Background()))
	if rules, err = conn.GetRules(table, user); err != nil || len(rules) != 0 {
		t.Errorf("%d rules left in DOCKER-USER, %v", len(rules), err)
	}
}

func TestForwardingIsTurnedOn(t *testing.T) {
	newHost(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0))
	startNode(t, testOptions(t, "n1"))
	if got := readText("/proc/sys/net/ipv4/ip_forward"); got != "1\n" {
		t.Errorf("ip_forward is %q", got)
	}
}
