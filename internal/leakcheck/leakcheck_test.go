package leakcheck

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestEveryKindIsSeen makes one thing of each kind and expects it to be named.
func TestEveryKindIsSeen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make mounts, links and tables")
	}
	dir := t.TempDir()
	scope := Scope{
		Node: "leakcheck-test", Paths: []string{dir}, LinkPrefix: "lktest", TablePrefix: "lktest",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.213.214.0/24")}, NetNSPrefix: "lktest", Ports: true,
	}
	before, err := take(scope)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 0 {
		t.Fatalf("there before: %v", before)
	}
	makeOneOfEach(t, dir)
	after, err := take(scope)
	if err != nil {
		t.Fatal(err)
	}
	leaked := strings.Join(diff(before, after), "\n")
	for _, want := range []string{
		"process ", "cgroup ", "mount ", "file " + dir + "/file", "network link lktest0 (bridge)",
		"address 10.213.214.1/24 on lktest0", "nftables table lktest", "nftables element",
		"listening port tcp/", "network namespace /run/netns/lktest",
	} {
		if !strings.Contains(leaked, want) {
			t.Errorf("not seen: %s", want)
		}
	}
	if t.Failed() {
		t.Log(leaked)
	}
}

func makeOneOfEach(t *testing.T, dir string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(os.Mkdir(filepath.Join(dir, "mnt"), 0o700))
	must(unix.Mount("tmpfs", filepath.Join(dir, "mnt"), "tmpfs", 0, ""))
	t.Cleanup(func() { must(unix.Unmount(filepath.Join(dir, "mnt"), 0)) })

	base := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(base); err != nil {
		base = "/sys/fs/cgroup"
	}
	group := filepath.Join(base, "longshore/leakcheck-test")
	must(os.MkdirAll(group, 0o755))
	child := exec.Command("sleep", "600")
	must(child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
		_ = os.Remove(group)
		_ = os.Remove(filepath.Dir(group))
	})
	must(os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(child.Process.Pid)), 0))

	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lktest0"}}
	must(netlink.LinkAdd(link))
	t.Cleanup(func() { must(netlink.LinkDel(link)) })
	address, err := netlink.ParseAddr("10.213.214.1/24")
	must(err)
	must(netlink.AddrAdd(link, address))

	conn, err := nftables.New()
	must(err)
	table := conn.AddTable(&nftables.Table{Name: "lktest", Family: nftables.TableFamilyIPv4})
	set := &nftables.Set{Table: table, Name: "s", KeyType: nftables.TypeInetService}
	must(conn.AddSet(set, []nftables.SetElement{{Key: []byte{0, 80}}}))
	must(conn.Flush())
	t.Cleanup(func() {
		conn.DelTable(table)
		must(conn.Flush())
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	t.Cleanup(func() { _ = listener.Close() })

	must(os.MkdirAll("/run/netns", 0o755))
	must(os.WriteFile("/run/netns/lktest-file", nil, 0o600))
	t.Cleanup(func() { must(os.Remove("/run/netns/lktest-file")) })
}

// recorder stands in for a test that leaks.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) { r.errors = append(r.errors, format) }

func TestWhatWasThereBeforeIsNoLeak(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &recorder{TB: t}
	Check(r, Scope{Paths: []string{dir}})
	for _, f := range r.cleanups {
		f()
	}
	if len(r.errors) != 0 {
		t.Errorf("reported: %v", r.errors)
	}
	Check(r, Scope{Paths: []string{dir}})
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.cleanups[1]()
	if len(r.errors) != 1 {
		t.Errorf("a new file was reported %d times", len(r.errors))
	}
}
