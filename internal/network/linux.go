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
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/netdump"
)

// Linux is the Network of a Linux host.
type Linux struct {
	opts     Options
	names    names
	records  recordDir
	netnsDir string
	filesDir string
	nodePath string
	cursor   string // path of the pool's saved cursor
	boot     string
	mtu      int
	metadata netip.AddrPort

	lockFile *os.File // held: one process at a time works on a node
	hostNS   int
	host     *netlink.Handle
	rules    *ruleset
	ports    *portHolds
	ids      keyLock

	// atStep is called before each step of Setup and Teardown with the step's name.
	// Tests end the process there.
	atStep func(step string)

	node nodeRecord

	mu        sync.Mutex
	pool      *pool
	reserved  uint32 // the saved cursor: offsets below it may be handed out
	sandboxes map[string]*record
	closed    bool
	active    sync.WaitGroup // operations that Close waits for
}

var _ Network = (*Linux)(nil)

var errClosed = errors.New("network: closed")

// New makes or restores what the node's sandboxes share, adopts the sandboxes that
// exist, and removes what is half made. It fails when another process has the node
// open, when the kernel lacks something (the error names it), or when it is not
// privileged.
func New(opts Options) (*Linux, error) {
	opts, err := opts.validated()
	if err != nil {
		return nil, err
	}
	l := &Linux{
		opts: opts, names: namesOf(opts.Node),
		records:   recordDir(filepath.Join(opts.RunDir, "sandboxes")),
		netnsDir:  filepath.Join(opts.RunDir, "netns"),
		filesDir:  filepath.Join(opts.StateDir, "sandboxes"),
		nodePath:  filepath.Join(opts.StateDir, "node.json"),
		cursor:    filepath.Join(opts.RunDir, "cursor"),
		hostNS:    -1,
		ports:     newPortHolds(opts.FirstDynamicPort, opts.LastDynamicPort),
		sandboxes: map[string]*record{},
		atStep:    func(string) {},
	}
	if err := l.start(); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

func (l *Linux) start() error {
	if err := l.open(); err != nil {
		return err
	}
	live, stale, err := l.survey()
	if err != nil {
		return err
	}
	if err := enableForwarding(); err != nil {
		return err
	}
	if err := l.placeBridge(live); err != nil {
		return err
	}
	if err := l.placeMetadata(); err != nil {
		return err
	}
	if err := l.saveNode(); err != nil {
		return err
	}
	l.rules = newRuleset(l.names, l.node.Bridge, l.metadata, l.opts.ENISubnets)
	if err := l.rules.open(); err != nil {
		return err
	}
	if err := l.rules.build(live); err != nil {
		return err
	}
	for _, r := range live {
		if err := l.adopt(r); err != nil {
			return err
		}
	}
	for _, r := range stale {
		if err := l.dismantle(r); err != nil {
			return fmt.Errorf("network: clean up after sandbox %s: %w", r.id(), err)
		}
	}
	if err := l.removeOrphans(); err != nil {
		return err
	}
	l.openOtherFirewalls()
	return nil
}

// lockSoon locks f. A killed process's lock may outlive it for a moment, in a child
// that it was just starting: the child has it until it runs its own program.
func lockSoon(f *os.File) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

// open makes the directories, takes the node's lock and opens the kernel's handles.
func (l *Linux) open() error {
	for _, d := range []string{l.opts.StateDir, l.opts.RunDir, string(l.records), l.netnsDir, l.filesDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	var err error
	if l.lockFile, err = os.OpenFile(filepath.Join(l.opts.RunDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := lockSoon(l.lockFile); err != nil {
		return fmt.Errorf("network: another process runs node %q (%s is locked): %w", l.opts.Node, l.lockFile.Name(), err)
	}
	l.boot = strings.TrimSpace(readText("/proc/sys/kernel/random/boot_id"))
	if l.hostNS, err = unix.Open(threadNetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("network: open the host's network namespace: %w", err)
	}
	if l.host, err = routeHandle(); err != nil {
		return fmt.Errorf("network: open a route socket: %w", err)
	}
	if l.mtu = l.opts.MTU; l.mtu == 0 {
		l.mtu = defaultMTUOf(l.host)
	}
	l.node, err = readNodeRecord(l.nodePath, l.opts.Node)
	return err
}

// survey sorts the records into sandboxes that live on and remains.
func (l *Linux) survey() (live, stale []*record, err error) {
	all, err := l.records.load()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		if l.alive(r) {
			live = append(live, r)
		} else {
			stale = append(stale, r)
		}
	}
	return live, stale, nil
}

func (l *Linux) alive(r *record) bool {
	if r.Phase != phaseReady || r.Boot != l.boot {
		return false
	}
	if r.Request.Mode == ModeHost {
		return true
	}
	_, err := l.host.LinkByName(r.Link)
	return err == nil && isNamespace(r.Sandbox.NetNS)
}

// adopt takes a living sandbox into the books and restores its route, which went
// if the bridge's address did.
func (l *Linux) adopt(r *record) error {
	l.sandboxes[r.id()] = r
	if r.Link == "" {
		return nil
	}
	if r.pooled() {
		if err := l.pool.adopt(r.Address, r.id()); err != nil {
			return err
		}
	}
	for _, p := range l.ports.adopt(r.Sandbox.Ports) {
		l.opts.Log.Warn("another process has bound a host port of a running container; the container keeps it",
			"sandbox", r.id(), "port", p.HostPort, "protocol", p.Protocol)
	}
	link, err := l.host.LinkByName(r.Link)
	if err != nil {
		return fmt.Errorf("network: adopt sandbox %s: %w", r.id(), err)
	}
	w, err := l.wireFor(r)
	if err != nil {
		return err
	}
	if err := routeToSandbox(l.host, link, w); err != nil {
		return fmt.Errorf("network: adopt sandbox %s: %w", r.id(), err)
	}
	return nil
}

// removeOrphans removes links, namespaces and files that no record speaks of.
func (l *Linux) removeOrphans() error {
	known := map[string]bool{}
	for _, r := range l.sandboxes {
		known[r.Link] = true
	}
	links, err := netdump.Whole(l.host.LinkList)
	if err != nil {
		return fmt.Errorf("network: list links: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if !l.names.owns(name) || known[name] {
			continue
		}
		l.opts.Log.Warn("removing a link that belongs to no sandbox", "link", name)
		if err := removeLink(name); err != nil {
			return err
		}
	}
	return errors.Join(
		l.eachUnknown(l.netnsDir, removeNamespace),
		l.eachUnknown(l.filesDir, os.RemoveAll),
	)
}

func (l *Linux) eachUnknown(dir string, remove func(string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	for _, e := range entries {
		if l.sandboxes[e.Name()] != nil {
			continue
		}
		if err := remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("network: remove remains: %w", err)
		}
	}
	return nil
}

// begin counts an operation in, so that Close waits for its end.
func (l *Linux) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	l.active.Add(1)
	return l.active.Done, nil
}

// MetadataListenAddr is the gateway's address on the node's bridge. It may change
// with a restart, when another process has taken the port; sandboxes do not notice.
// They and the host reach it, other hosts and other nodes' sandboxes do not.
//
// In host mode nothing tells one node's tasks from another's: of several nodes on a
// machine one answers 169.254.170.2, the first whose server was there when the
// others started, and the next takes over when Destroy removes it. A host-mode task
// of another node meets a server that does not know its id, and has to pass the
// request on.
func (l *Linux) MetadataListenAddr() netip.AddrPort { return l.metadata }

// Sandboxes returns the sandboxes that are ready, and those whose removal was
// interrupted, so that it is tried again.
func (l *Linux) Sandboxes(ctx context.Context) ([]Sandbox, error) {
	end, err := l.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Sandbox, 0, len(l.sandboxes))
	for _, r := range l.sandboxes {
		if r.Phase != phaseMaking {
			out = append(out, r.Sandbox)
		}
	}
	return out, nil
}

// SandboxAt implements Network. In mode none, too, a sandbox has an address that it
// asks for metadata from.
func (l *Linux) SandboxAt(from netip.Addr) (Sandbox, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.sandboxes {
		if r.Address == from && from.IsValid() {
			return r.Sandbox, true
		}
	}
	return Sandbox{}, false
}

// Counters reads the host's end of the sandbox's link, where what the sandbox
// received was sent.
func (l *Linux) Counters(ctx context.Context, id string) (Counters, error) {
	end, err := l.begin(ctx)
	if err != nil {
		return Counters{}, err
	}
	defer end()
	l.mu.Lock()
	r := l.sandboxes[id]
	ready := r != nil && r.Phase == phaseReady
	l.mu.Unlock()
	switch {
	case !ready:
		return Counters{}, fmt.Errorf("network: sandbox %.80q: %w", id, ErrNotFound)
	case r.Request.Mode == ModeHost || r.Request.Mode == ModeNone:
		return Counters{}, nil
	}
	link, err := l.host.LinkByName(r.Link)
	if err != nil {
		return Counters{}, fmt.Errorf("network: counters of sandbox %s: %w", id, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Counters{}, fmt.Errorf("network: the kernel gives no counters for sandbox %s", id)
	}
	return Counters{
		RxBytes: s.TxBytes, RxPackets: s.TxPackets, RxErrors: s.TxErrors, RxDropped: s.TxDropped,
		TxBytes: s.RxBytes, TxPackets: s.RxPackets, TxErrors: s.RxErrors, TxDropped: s.RxDropped,
	}, nil
}

// Close waits for operations that are under way, lets go of the node and keeps its
// sandboxes running.
func (l *Linux) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if !closed {
		l.active.Wait()
		l.release()
	}
	return nil
}

// Destroy removes what the sandboxes share, and closes. It refuses while a sandbox
// exists. IP forwarding stays on.
func (l *Linux) Destroy(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	n, closed := len(l.sandboxes), l.closed
	if n == 0 {
		l.closed = true
	}
	l.mu.Unlock()
	switch {
	case closed:
		return errClosed
	case n > 0:
		return fmt.Errorf("network: %d sandboxes exist; tear them down first", n)
	}
	l.active.Wait()
	err := errors.Join(
		l.rules.closeDocker(),
		l.rules.delete(),
		removeLink(l.names.bridge),
		os.RemoveAll(l.netnsDir), os.RemoveAll(string(l.records)), os.RemoveAll(l.filesDir),
		os.RemoveAll(l.cursor), os.Remove(l.nodePath), os.Remove(l.lockFile.Name()),
	)
	l.release()
	return err
}

// release closes what the process holds.
func (l *Linux) release() {
	l.ports.close()
	if l.rules != nil {
		l.rules.close()
	}
	if l.host != nil {
		l.host.Close()
	}
	if l.hostNS >= 0 {
		_ = unix.Close(l.hostNS)
	}
	if l.lockFile != nil {
		_ = l.lockFile.Close()
	}
}
