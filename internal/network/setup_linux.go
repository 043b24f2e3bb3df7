package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Setup makes a sandbox in steps, each announced by the record that was written
// first. See Network.
func (l *Linux) Setup(ctx context.Context, req Request) (Sandbox, error) {
	if err := req.validate(); err != nil {
		return Sandbox{}, err
	}
	end, err := l.begin(ctx)
	if err != nil {
		return Sandbox{}, err
	}
	defer end()
	unlock, err := l.ids.lock(ctx, req.ID)
	if err != nil {
		return Sandbox{}, err
	}
	defer unlock()
	existing := l.lookup(req.ID)
	if existing != nil && existing.Phase == phaseReady {
		return existing.Sandbox, nil
	}
	if existing != nil { // a removal that did not finish
		if err := l.dismantle(existing); err != nil {
			return Sandbox{}, err
		}
	}
	r, err := l.plan(req)
	if err != nil {
		return Sandbox{}, err
	}
	if err := l.build(ctx, r); err != nil {
		if cerr := l.dismantle(r); cerr != nil {
			err = errors.Join(err, fmt.Errorf("undo: %w", cerr))
		}
		return Sandbox{}, err
	}
	return r.Sandbox, nil
}

func (l *Linux) lookup(id string) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sandboxes[id]
}

// plan reserves the address and the ports, and enters the record into the books.
func (l *Linux) plan(req Request) (*record, error) {
	r := &record{Version: recordVersion, Boot: l.boot, Phase: phaseMaking, Request: req}
	dir := filepath.Join(l.filesDir, req.ID)
	r.Sandbox = Sandbox{
		ID: req.ID, Mode: req.Mode, NetNS: "host",
		ResolvConf:   filepath.Join(dir, "resolv.conf"),
		Hosts:        filepath.Join(dir, "hosts"),
		HostnameFile: filepath.Join(dir, "hostname"),
	}
	if req.Mode != ModeHost {
		r.Sandbox.NetNS = filepath.Join(l.netnsDir, req.ID)
		r.Link = l.names.link(req.Mode, req.ID)
	}
	if err := l.enter(r); err != nil {
		return nil, err
	}
	err := l.planAddress(r)
	if err == nil {
		err = l.planPorts(r)
	}
	if err != nil {
		l.forget(r)
		return nil, err
	}
	return r, nil
}

// enter takes a new sandbox into the books, unless it would share a name or an
// address with another one.
func (l *Linux) enter(r *record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.sandboxes {
		if r.Link != "" && other.Link == r.Link {
			return fmt.Errorf("network: sandboxes %s and %s have the same link name %s: choose another id", r.id(), other.id(), r.Link)
		}
		if e, o := r.Request.ENI, other.Request.ENI; e != nil && o != nil && e.Address.Addr() == o.Address.Addr() {
			return fmt.Errorf("network: sandbox %s: address %s is sandbox %s's", r.id(), e.Address.Addr(), other.id())
		}
	}
	l.sandboxes[r.id()] = r
	return nil
}

func (l *Linux) planAddress(r *record) error {
	switch r.Request.Mode {
	case ModeAWSVPC:
		e := r.Request.ENI
		r.Address, r.Sandbox.Address, r.Sandbox.Gateway = e.Address.Addr(), e.Address, e.Gateway
		mac, _ := net.ParseMAC(e.MAC) // validated
		if mac == nil {
			mac = macFor(r.Address)
		}
		r.Sandbox.MAC = mac.String()
	case ModeBridge, ModeNone:
		a, err := l.takeAddress(r.id())
		if err != nil {
			return err
		}
		r.Address = a
		r.Sandbox.MAC = macFor(a).String()
		if r.Request.Mode == ModeBridge {
			r.Sandbox.Address = netip.PrefixFrom(a, l.pool.subnet.Bits())
			r.Sandbox.Gateway = l.pool.gateway()
		}
	}
	return nil
}

func (l *Linux) planPorts(r *record) error {
	if len(r.Request.Ports) == 0 {
		return nil
	}
	foreign, err := l.rules.foreignPorts()
	if err != nil {
		return err
	}
	r.Sandbox.Ports, err = l.ports.reserve(r.Request.Ports, foreign)
	if err != nil {
		return fmt.Errorf("network: sandbox %s: %w", r.id(), err)
	}
	return nil
}

// forget gives back what plan reserved.
func (l *Linux) forget(r *record) {
	l.ports.release(r.Sandbox.Ports)
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.pooled() && r.Address.IsValid() {
		l.pool.release(r.Address, r.id())
	}
	if l.sandboxes[r.id()] == r {
		delete(l.sandboxes, r.id())
	}
}

// build carries a plan out.
func (l *Linux) build(ctx context.Context, r *record) error {
	step := func(name string, do func() error) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("network: set up sandbox %s: %w", r.id(), err)
		}
		l.atStep(name)
		return do()
	}
	if err := step("record", func() error { return l.records.write(r) }); err != nil {
		return err
	}
	// The files take the disk's time, the links the kernel's: both at once.
	files := make(chan error, 1)
	l.atStep("files")
	go func() { files <- l.writeFiles(r) }()
	var err error
	if r.Link != "" {
		err = l.connect(ctx, r, step)
	}
	if err := errors.Join(err, <-files); err != nil {
		return err
	}
	if r.Link != "" {
		if err := step("elements", func() error { return l.rules.add(r) }); err != nil {
			return err
		}
		l.forgetConnections(r)
	}
	return step("ready", func() error { return l.finish(r) })
}

// finish makes the sandbox ready, on disk first.
func (l *Linux) finish(r *record) error {
	next := *r
	next.Phase = phaseReady
	if err := l.records.write(&next); err != nil {
		return err
	}
	l.setPhase(r, phaseReady)
	return nil
}

func (l *Linux) setPhase(r *record, to phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Phase = to
}

// connect makes the namespace and the link into it.
func (l *Linux) connect(ctx context.Context, r *record, step func(string, func() error) error) error {
	return step("namespace", func() error {
		inside, err := makeNamespace(l.hostNS, r.Sandbox.NetNS)
		if err != nil {
			return err
		}
		defer inside.Close()
		w, err := l.wireFor(r)
		if err != nil {
			return err
		}
		w.netns, err = unix.Open(r.Sandbox.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("network: open %s: %w", r.Sandbox.NetNS, err)
		}
		defer unix.Close(w.netns)
		if err := step("link", func() error { return connectHost(l.host, w) }); err != nil {
			return err
		}
		if err := step("inside", func() error { return connectInside(inside, w) }); err != nil {
			return err
		}
		return step("settle", func() error { return settle(ctx, l.host, w.link) })
	})
}

func (l *Linux) wireFor(r *record) (wire, error) {
	mac, err := net.ParseMAC(r.Sandbox.MAC)
	if err != nil {
		return wire{}, fmt.Errorf("network: record of sandbox %s: %w", r.id(), err)
	}
	w := wire{mode: r.Request.Mode, link: r.Link, address: r.Sandbox.Address, gateway: r.Sandbox.Gateway,
		source: l.pool.gateway(), mac: mac, mtu: l.mtu}
	if r.Request.Mode == ModeNone {
		w.address = netip.PrefixFrom(r.Address, 32)
	}
	return w, nil
}

// writeFiles writes what is mounted over /etc/resolv.conf, hosts and hostname. The
// container may write to them, so they lie on disk, where it cannot fill memory.
func (l *Linux) writeFiles(r *record) error {
	s := r.Sandbox
	if err := os.MkdirAll(filepath.Dir(s.Hosts), 0o755); err != nil {
		return fmt.Errorf("network: files of sandbox %s: %w", r.id(), err)
	}
	resolver := resolverFor(r.Request, hostResolver(r.Request.Mode, hostResolvConfs[:]), l.opts.FallbackDNS)
	if len(resolver.servers) == 0 {
		l.opts.Log.Warn("no name server for a sandbox: the host's are loopback addresses and no fallback is set", "sandbox", r.id())
	}
	hostsFile, hostName := "", ""
	if r.Request.Mode == ModeHost {
		hostsFile = readText("/etc/hosts")
		hostName, _ = os.Hostname()
	}
	name := hostnameFor(r.Request, hostName)
	for path, text := range map[string]string{
		s.ResolvConf:   resolver.String(),
		s.Hosts:        hostsFor(r.Request, name, s.Address.Addr(), l.pool.gateway(), hostsFile),
		s.HostnameFile: name + "\n",
	} {
		if err := writeForAll(path, text); err != nil {
			return fmt.Errorf("network: files of sandbox %s: %w", r.id(), err)
		}
	}
	return nil
}

// writeForAll writes a file that every user of a container may read, whatever this
// process's umask.
func writeForAll(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// Teardown removes a sandbox; an interrupted one is taken up again. See Network.
func (l *Linux) Teardown(ctx context.Context, id string) error {
	if err := validID(id); err != nil {
		return err
	}
	end, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	unlock, err := l.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if r := l.lookup(id); r != nil {
		return l.dismantle(r)
	}
	return nil
}

// dismantle removes all of a sandbox, whatever there is of it. It does not stop
// half way for a cancelled caller: a removal takes milliseconds. The record goes
// last, and says "ready" until then: after a kill, New sees by the link and the
// namespace whether the sandbox still lives.
func (l *Linux) dismantle(r *record) error {
	l.setPhase(r, phaseRemoving)
	l.atStep("remove-elements")
	if err := l.rules.remove(r); err != nil {
		return err
	}
	l.atStep("remove-link")
	for _, m := range []Mode{ModeBridge, ModeNone} { // an unreadable record has lost its mode
		if name := l.names.link(m, r.id()); r.Link == name || r.Request.Mode == "" {
			if err := removeLink(name); err != nil {
				return err
			}
		}
	}
	l.forgetConnections(r)
	l.atStep("remove-namespace")
	if err := removeNamespace(filepath.Join(l.netnsDir, r.id())); err != nil {
		return err
	}
	l.atStep("remove-files")
	if err := os.RemoveAll(filepath.Join(l.filesDir, r.id())); err != nil {
		return fmt.Errorf("network: remove files of sandbox %s: %w", r.id(), err)
	}
	l.atStep("remove-record")
	if err := l.records.remove(r.id()); err != nil {
		return fmt.Errorf("network: remove record of sandbox %s: %w", r.id(), err)
	}
	l.forget(r)
	return nil
}
