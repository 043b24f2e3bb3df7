package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
)

func everyMode() []Request {
	return []Request{
		{ID: "bridge", Mode: ModeBridge, Ports: []PortMapping{
			{Protocol: "tcp", ContainerPort: 80, HostPort: 8080}, {Protocol: "udp", ContainerPort: 53}}},
		{ID: "vpc", Mode: ModeAWSVPC, ENI: eni("10.77.0.10/24")},
		{ID: "shut", Mode: ModeNone},
		{ID: "host", Mode: ModeHost},
	}
}

func TestTeardownLeavesNothing(t *testing.T) {
	newHost(t)
	opts := testOptions(t, "n1")
	empty := snapshot(t)
	l := startNode(t, opts)
	before := snapshot(t)
	for _, req := range everyMode() {
		first := setup(t, l, req)
		if again := setup(t, l, req); fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("second setup: %+v, first %+v", again, first)
		}
		for range 2 {
			must(t, l.Teardown(context.Background(), req.ID))
		}
		wantSame(t, before, snapshot(t))
		wantEmpty(t, filepath.Join(opts.StateDir, "sandboxes"))
		wantEmpty(t, filepath.Join(opts.RunDir, "sandboxes"))
		wantEmpty(t, filepath.Join(opts.RunDir, "netns"))
	}
	destroy(t, l)
	wantSame(t, empty, snapshot(t))
	wantEmpty(t, opts.StateDir)
	wantEmpty(t, opts.RunDir)
}

func TestFailedSetupLeavesNothing(t *testing.T) {
	l := newNode(t, "n1")
	before := snapshot(t)
	for _, at := range []string{"record", "files", "namespace", "link", "inside", "elements", "ready"} {
		ctx, cancel := context.WithCancel(context.Background())
		l.atStep = func(step string) {
			if step == at {
				cancel()
			}
		}
		_, err := l.Setup(ctx, everyMode()[0])
		l.atStep = func(string) {}
		if at != "ready" && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: error %v", at, err)
		}
		if err == nil { // the last step finished first
			must(t, l.Teardown(context.Background(), "bridge"))
		}
		wantSame(t, before, snapshot(t))
		if all, err := l.Sandboxes(context.Background()); err != nil || len(all) > 0 {
			t.Errorf("cancelled at %s: sandboxes %v, %v", at, all, err)
		}
	}
}

func TestRestartAdopts(t *testing.T) {
	newHost(t)
	opts := testOptions(t, "n1")
	l, err := New(opts)
	must(t, err)
	listenAddr := l.MetadataListenAddr()
	made := map[string]Sandbox{}
	for _, req := range everyMode() {
		made[req.ID] = setup(t, l, req)
	}
	listen(t, made["bridge"].NetNS, "tcp", ":80", "bridge")
	listen(t, made["vpc"].NetNS, "tcp", ":80", "vpc")
	during := snapshot(t)
	if _, err := New(opts); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second process on the node: error %v", err)
	}
	must(t, l.Close())
	wantAnswer(t, "host", "tcp", "127.0.0.1:8080", "bridge "+l.pool.gateway().String())

	// What the sandboxes share disappears meanwhile: the bridge with its address,
	// which takes the routes with it, and the table.
	must(t, removeLink(l.names.bridge))
	conn, err := nftables.New()
	must(t, err)
	conn.DelTable(&nftables.Table{Name: l.names.table, Family: nftables.TableFamilyIPv4})
	must(t, conn.Flush())

	l = startNode(t, opts)
	all, err := l.Sandboxes(context.Background())
	must(t, err)
	if len(all) != len(made) {
		t.Errorf("adopted %d sandboxes of %d", len(all), len(made))
	}
	for _, s := range all {
		if fmt.Sprint(s) != fmt.Sprint(made[s.ID]) {
			t.Errorf("adopted %+v, made %+v", s, made[s.ID])
		}
	}
	if l.MetadataListenAddr() != listenAddr {
		t.Errorf("metadata moved from %s to %s", listenAddr, l.MetadataListenAddr())
	}
	wantSame(t, during, snapshot(t))
	listen(t, "host", "tcp", l.MetadataListenAddr().String(), "metadata")
	wantAnswer(t, "host", "tcp", "127.0.0.1:8080", "bridge "+l.pool.gateway().String())
	wantAnswer(t, made["bridge"].NetNS, "tcp", "10.77.0.10:80", "vpc "+made["bridge"].Address.Addr().String())
	wantAnswer(t, made["shut"].NetNS, "tcp", "169.254.170.2:80", "metadata "+l.sandboxes["shut"].Address.String())
	next := setup(t, l, Request{ID: "next", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "udp", ContainerPort: 53}}})
	if next.Address == made["bridge"].Address || next.Ports[0].HostPort == made["bridge"].Ports[1].HostPort {
		t.Errorf("new sandbox took an adopted one's address or port: %+v", next)
	}
	_, err = l.Setup(context.Background(), Request{ID: "clash", Mode: ModeBridge, Ports: made["bridge"].Ports[:1]})
	if !errors.Is(err, ErrPortInUse) {
		t.Errorf("an adopted sandbox's port: error %v", err)
	}
}

func TestRebootForgetsSandboxes(t *testing.T) {
	newHost(t)
	opts := testOptions(t, "n1")
	l, err := New(opts)
	must(t, err)
	for _, req := range everyMode() {
		setup(t, l, req)
	}
	must(t, os.WriteFile(string(l.records.path("torn")), []byte(`{"version":1,"pha`), 0o600))
	must(t, l.Close())
	// As if the machine had started again with RunDir on disk: the records are
	// there, the kernel's objects are not.
	for _, id := range []string{"bridge", "vpc", "shut"} {
		r := l.sandboxes[id]
		must(t, removeLink(r.Link))
		must(t, removeNamespace(r.Sandbox.NetNS))
		must(t, os.WriteFile(r.Sandbox.NetNS, nil, 0o600))
	}
	l.boot = "another boot"
	must(t, l.records.write(l.sandboxes["host"]))

	r := l.records.read("host")
	r.Boot = "another boot"
	must(t, l.records.write(r))
	l = startNode(t, opts)
	if all, err := l.Sandboxes(context.Background()); err != nil || len(all) > 0 {
		t.Errorf("after a reboot: sandboxes %+v, %v", all, err)
	}
	wantEmpty(t, filepath.Join(opts.RunDir, "netns"))
	wantEmpty(t, filepath.Join(opts.RunDir, "sandboxes"))
	wantEmpty(t, filepath.Join(opts.StateDir, "sandboxes"))
}

func TestManyAtOnce(t *testing.T) {
	l := newNode(t, "n1")
	before := snapshot(t)
	var mu sync.Mutex
	addresses, ports := map[netip.Addr]bool{}, map[uint16]bool{}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			id := fmt.Sprint("s", i)
			s, err := l.Setup(context.Background(), Request{ID: id, Mode: ModeBridge,
				Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80}}})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			addresses[s.Address.Addr()], ports[s.Ports[0].HostPort] = true, true
			mu.Unlock()
			if i%2 == 0 { // also: teardown among setups
				if err := l.Teardown(context.Background(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(addresses) != 50 {
		t.Errorf("%d addresses for 50 sandboxes", len(addresses))
	}
	all, err := l.Sandboxes(context.Background())
	must(t, err)
	if len(all) != 25 {
		t.Errorf("%d sandboxes, want 25", len(all))
	}
	for _, s := range all {
		wg.Go(func() {
			if err := l.Teardown(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantSame(t, before, snapshot(t))
}

func TestTwoNodesOnOneMachine(t *testing.T) {
	newHost(t)
	optsA, optsB := testOptions(t, "a"), testOptions(t, "b")
	a, err := New(optsA)
	must(t, err)
	listen(t, "host", "tcp", a.MetadataListenAddr().String(), "metadata-a")
	b := startNode(t, optsB)
	if a.pool.subnet.Overlaps(b.pool.subnet) || a.MetadataListenAddr() == b.MetadataListenAddr() {
		t.Fatalf("subnets %s, %s; metadata %s, %s", a.pool.subnet, b.pool.subnet, a.MetadataListenAddr(), b.MetadataListenAddr())
	}
	listen(t, "host", "tcp", b.MetadataListenAddr().String(), "metadata-b")
	req := Request{ID: "web", Mode: ModeBridge, Ports: []PortMapping{{Protocol: "tcp", ContainerPort: 80}, {Protocol: "tcp", ContainerPort: 81, HostPort: 8080}}}
	sa := setup(t, a, req)
	// Node a's agent is away: its containers keep their ports although no socket
	// holds them.
	must(t, a.Close())
	if _, err := b.Setup(context.Background(), req); !errors.Is(err, ErrPortInUse) {
		t.Errorf("port of a stopped node: error %v, want ErrPortInUse", err)
	}
	req.Ports[1].HostPort = 80
	sb := setup(t, b, req)
	if sa.Ports[0].HostPort == sb.Ports[0].HostPort {
		t.Errorf("both nodes map port %d", sa.Ports[0].HostPort)
	}
	listen(t, sa.NetNS, "tcp", ":80", "web-a")
	listen(t, sb.NetNS, "tcp", ":80", "web-b")
	wantAnswer(t, "host", "tcp", fmt.Sprintf("127.0.0.1:%d", sa.Ports[0].HostPort), "web-a "+a.pool.gateway().String())
	wantAnswer(t, "host", "tcp", fmt.Sprintf("127.0.0.1:%d", sb.Ports[0].HostPort), "web-b "+b.pool.gateway().String())
	// Although node b maps port 80, each node's containers reach their own metadata.
	wantAnswer(t, sa.NetNS, "tcp", "169.254.170.2:80", "metadata-a "+sa.Address.Addr().String())
	wantAnswer(t, sb.NetNS, "tcp", "169.254.170.2:80", "metadata-b "+sb.Address.Addr().String())
	wantNoAnswer(t, sb.NetNS, "tcp", a.MetadataListenAddr().String())
	// Host mode: the first node answers, the next one when it has left.
	wantAnswer(t, "host", "tcp", "169.254.170.2:80", "metadata-a 169.254.170.2")
	a, err = New(optsA)
	must(t, err)
	listen(t, "host", "tcp", a.MetadataListenAddr().String(), "metadata-a")
	wantAnswer(t, "host", "tcp", "169.254.170.2:80", "metadata-a 169.254.170.2")
	destroy(t, a)
	wantAnswer(t, "host", "tcp", "169.254.170.2:80", "metadata-b 169.254.170.2")
	wantAnswer(t, sb.NetNS, "tcp", "169.254.170.2:80", "metadata-b "+sb.Address.Addr().String())
}

// TestHostModeIsNotLeftToADeadNode: a killed node leaves its table, and no server
// behind it.
func TestHostModeIsNotLeftToADeadNode(t *testing.T) {
	newHost(t)
	dead, err := New(testOptions(t, "dead"))
	must(t, err)
	must(t, dead.Close()) // as a kill does, it leaves the table
	b := startNode(t, testOptions(t, "b"))
	listen(t, "host", "tcp", b.MetadataListenAddr().String(), "metadata-b")
	wantAnswer(t, "host", "tcp", "169.254.170.2:80", "metadata-b 169.254.170.2")
	third := startNode(t, testOptions(t, "third"))
	listen(t, "host", "tcp", third.MetadataListenAddr().String(), "metadata-third")
	got, err := ask(t, "host", "tcp", "169.254.170.2:80", reachTimeout)
	if err != nil || !strings.HasPrefix(got, "metadata-") {
		t.Errorf("after a third node's start host mode is left with %q, %v", got, err)
	}
}

func TestNodesStartingTogetherChooseDifferentSubnets(t *testing.T) {
	newHost(t)
	const n = 6
	nodes := make([]*Linux, n)
	opts := make([]Options, n)
	for i := range n {
		opts[i] = testOptions(t, fmt.Sprint("node", i))
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if nodes[i], err = New(opts[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, l := range nodes {
		if l == nil {
			continue
		}
		t.Cleanup(func() { destroy(t, l) })
		for _, other := range nodes[:i] {
			if other != nil && other.pool.subnet.Overlaps(l.pool.subnet) {
				t.Errorf("subnets %s and %s overlap", other.pool.subnet, l.pool.subnet)
			}
		}
	}
}

func TestSubnetAvoidsTheHosts(t *testing.T) {
	newHost(t)
	newOtherHost(t, "lan", "172.30.3.0/24")
	opts := testOptions(t, "n1")
	l := startNode(t, opts)
	if got := l.pool.subnet.String(); got != "172.30.16.0/20" {
		t.Errorf("subnet %s, want 172.30.16.0/20", got)
	}
	opts = testOptions(t, "n2")
	opts.BridgeCIDR = netip.MustParsePrefix("172.30.0.0/16")
	if _, err := New(opts); err == nil || !strings.Contains(err.Error(), "meets a route") {
		t.Errorf("colliding subnet: error %v", err)
	}
}

func TestCountersAreTheContainers(t *testing.T) {
	l := newNode(t, "n1")
	s := setup(t, l, Request{ID: "a", Mode: ModeBridge})
	sink := received(t, s.NetNS, s.Address.Addr().String()+":9000", func() {
		for range 10 {
			must(t, send(s.Address.Addr().String()+":9000", netip.Addr{}))
		}
	})
	if sink == "" {
		t.Fatal("no datagram arrived")
	}
	c, err := l.Counters(context.Background(), "a")
	must(t, err)
	if c.RxPackets < 10 || c.RxBytes < 10*29 || c.TxPackets >= c.RxPackets {
		t.Errorf("counters %+v after 10 datagrams to the container", c)
	}
	if _, err := l.Counters(context.Background(), "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown sandbox: error %v", err)
	}
	setup(t, l, Request{ID: "h", Mode: ModeHost})
	if c, err := l.Counters(context.Background(), "h"); err != nil || c != (Counters{}) {
		t.Errorf("host mode: %+v, %v", c, err)
	}
}

func TestWaitForAnIDEndsWithTheContext(t *testing.T) {
	l := newNode(t, "n1")
	unlock, err := l.ids.lock(context.Background(), "a")
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Setup(ctx, Request{ID: "a", Mode: ModeBridge}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want deadline exceeded", err)
	}
	unlock()
	setup(t, l, Request{ID: "a", Mode: ModeBridge})
	must(t, l.Close())
	if _, err := l.Setup(context.Background(), Request{ID: "b", Mode: ModeBridge}); !errors.Is(err, errClosed) {
		t.Errorf("after Close: error %v", err)
	}
	opts := l.opts
	must(t, destroyAgain(opts))
}

func destroyAgain(opts Options) error {
	l, err := New(opts)
	if err != nil {
		return err
	}
	if err := l.Destroy(context.Background()); err == nil {
		return errors.New("destroyed a node that has a sandbox")
	}
	if err := l.Teardown(context.Background(), "a"); err != nil {
		return err
	}
	return l.Destroy(context.Background())
}
