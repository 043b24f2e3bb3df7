package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tests run in a network and a mount namespace of their own: what the host
// and other nodes on it have does not matter, and nothing can be left behind.
const insideEnv = "LONGSHORE_NETWORK_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" && os.Getuid() == 0 {
		os.Exit(runInside())
	}
	if step := os.Getenv(crashEnv); step != "" {
		crashChild(step)
	}
	os.Exit(m.Run())
}

func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start tests in a network namespace:", err)
		return 1
	}
	return 0
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces, links and nftables rules")
	}
}

var testENISubnet = netip.MustParsePrefix("10.77.0.0/24")

// newHost gives a test a host of its own: the calling process's namespace is made
// clean, lo is up and the mounts are private.
func newHost(t testing.TB) {
	t.Helper()
	needRoot(t)
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	inheritedMounts()
	h, err := routeHandle()
	must(t, err)
	defer h.Close()
	must(t, loopbackUp(h))
}

func testOptions(t testing.TB, node string) Options {
	t.Helper()
	dir := t.TempDir()
	return Options{
		Node: node, StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		ENISubnets: []netip.Prefix{testENISubnet, netip.MustParsePrefix("10.77.1.0/24")},
		Log:        slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// newNode starts a node that is torn down and destroyed at the end.
func newNode(t testing.TB, name string) *Linux {
	t.Helper()
	newHost(t)
	return startNode(t, testOptions(t, name))
}

func startNode(t testing.TB, opts Options) *Linux {
	t.Helper()
	l, err := New(opts)
	must(t, err)
	t.Cleanup(func() { destroy(t, l) })
	return l
}

func destroy(t testing.TB, l *Linux) {
	t.Helper()
	all, err := l.Sandboxes(context.Background())
	if errors.Is(err, errClosed) {
		return
	}
	must(t, err)
	for _, s := range all {
		must(t, l.Teardown(context.Background(), s.ID))
	}
	must(t, l.Destroy(context.Background()))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setup(t testing.TB, l *Linux, req Request) Sandbox {
	t.Helper()
	s, err := l.Setup(context.Background(), req)
	if err != nil {
		t.Fatalf("set up %s: %v", req.ID, err)
	}
	return s
}

// inside runs fn on a thread in a namespace ("host" is the test's own).
func inside(t testing.TB, netns string, fn func() error) error {
	t.Helper()
	if netns == "host" {
		return fn()
	}
	host, err := os.Open(threadNetNS)
	must(t, err)
	defer host.Close()
	return inFreshThread(int(host.Fd()), func() error {
		f, err := os.Open(netns)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// listen opens a server in a namespace that answers every connection or datagram
// with its name and whom it sees: "name 172.30.0.3".
func listen(t testing.TB, netns, network, address, name string) {
	t.Helper()
	err := inside(t, netns, func() error {
		if network == "udp" {
			c, err := net.ListenPacket("udp4", address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			go answerPackets(c, name)
			return nil
		}
		ln, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { ln.Close() })
		go answerConns(ln, name)
		return nil
	})
	if err != nil {
		t.Fatalf("listen on %s in %s: %v", address, netns, err)
	}
}

func answerConns(ln net.Listener, name string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s", name, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
		c.Close()
	}
}

func answerPackets(c net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s", name, netip.MustParseAddrPort(from.String()).Addr()), from)
	}
}

const (
	reachTimeout = 3 * time.Second
	// deniedTimeout is how long silence must last to count as no answer.
	deniedTimeout = 300 * time.Millisecond
)

// ask connects from a namespace and returns the answer.
func ask(t testing.TB, netns, network, address string, timeout time.Duration) (string, error) {
	t.Helper()
	var answer string
	err := inside(t, netns, func() error {
		d := net.Dialer{Timeout: timeout}
		c, err := d.Dial(network+"4", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			buf := make([]byte, 128)
			n, err := c.Read(buf)
			answer = string(buf[:n])
			return err
		}
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer, err
}

func wantAnswer(t testing.TB, netns, network, address, want string) {
	t.Helper()
	got, err := ask(t, netns, network, address, reachTimeout)
	if err != nil {
		t.Errorf("%s %s from %s: %v", network, address, filepath.Base(netns), err)
	} else if got != want {
		t.Errorf("%s %s from %s: answer %q, want %q", network, address, filepath.Base(netns), got, want)
	}
}

func wantNoAnswer(t testing.TB, netns, network, address string) {
	t.Helper()
	if got, err := ask(t, netns, network, address, deniedTimeout); err == nil {
		t.Errorf("%s %s from %s: answer %q, want none", network, address, filepath.Base(netns), got)
	}
}

// otherHost is a namespace connected to the test's by a link, as another machine
// on the network is.
type otherHost struct {
	netns   string
	local   netip.Addr // the test host's address on that network
	address netip.Addr
}

func newOtherHost(t testing.TB, name, network string) otherHost {
	t.Helper()
	p := netip.MustParsePrefix(network)
	o := otherHost{netns: filepath.Join(t.TempDir(), name), local: p.Addr().Next(), address: p.Addr().Next().Next()}
	host, err := os.Open(threadNetNS)
	must(t, err)
	defer host.Close()
	in, err := makeNamespace(int(host.Fd()), o.netns)
	must(t, err)
	t.Cleanup(func() { in.Close(); must(t, removeNamespace(o.netns)) })
	h, err := routeHandle()
	must(t, err)
	defer h.Close()
	ns, err := os.Open(o.netns)
	must(t, err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(int(ns.Fd()))
	must(t, h.LinkAdd(veth))
	t.Cleanup(func() {
		must(t, removeLink(name))
	})
	must(t, h.AddrAdd(veth, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(o.local, p.Bits()))}))
	must(t, h.LinkSetUp(veth))
	must(t, loopbackUp(in))
	eth, err := in.LinkByName("eth0")
	must(t, err)
	must(t, in.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(o.address, p.Bits()))}))
	must(t, in.LinkSetUp(eth))
	return o
}

// routeVia makes the other host send a prefix's traffic to the test host.
func (o otherHost) routeVia(t testing.TB, p netip.Prefix) {
	t.Helper()
	must(t, inside(t, o.netns, func() error {
		h, err := routeHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return h.RouteAdd(&netlink.Route{Dst: ipNet(p.Masked()), Gw: o.local.AsSlice()})
	}))
}

func deadline(d time.Duration) time.Time { return time.Now().Add(d) }
