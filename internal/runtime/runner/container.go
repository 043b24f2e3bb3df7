//go:build linux && cgo

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/oci"
	"longshore.dev/longshore/internal/runtime/shimrpc"
	"longshore.dev/longshore/internal/runtime/spool"
)

const (
	// outputGrace is how long a pipe that a leftover process holds is read after
	// the container's exit.
	outputGrace = 2 * time.Second
	killTimeout = 20 * time.Second
	// exitNotice is how long the end of an init that would not start may take to be
	// noticed.
	exitNotice = time.Second
)

// container is one container of this shim.
type container struct {
	shim   *shim
	spec   runtime.Spec
	env    []string
	cgroup string

	libc    *libcontainer.Container
	process *libcontainer.Process
	output  *output

	exited   chan struct{} // closed after the exit is recorded
	startMu  sync.Mutex
	removeMu sync.Mutex

	removed bool // under removeMu

	mu     sync.Mutex
	record shimrpc.Record
}

// newContainer creates the container, its init waiting to be started.
func (s *shim) newContainer(spec runtime.Spec) (*container, error) {
	c := &container{
		shim: s, spec: spec, exited: make(chan struct{}),
		cgroup: shimrpc.Cgroup(s.cfg.Node, spec.Group, spec.ID),
		record: shimrpc.Record{ID: spec.ID, Group: spec.Group, Phase: runtime.PhaseCreated, CreatedAt: s.now()},
	}
	if err := c.make(); err != nil {
		return nil, errors.Join(err, c.undo())
	}
	go c.watch()
	return c, nil
}

func (c *container) make() error {
	// On disk before anything else exists, so that a crash leaves no unknown traces.
	if err := shimrpc.WriteRecord(c.shim.cfg.StateDir, c.record); err != nil {
		return err
	}
	root, err := c.prepare()
	if err != nil {
		return err
	}
	defer root.namespace.Close()
	if err := c.launch(root); err != nil {
		return err
	}
	if c.record.PID, err = c.process.Pid(); err != nil {
		return err
	}
	return shimrpc.WriteRecord(c.shim.cfg.StateDir, c.record)
}

// undo removes what a failed create has left.
func (c *container) undo() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	err := c.shim.layout.Kill(ctx, c.cgroup)
	if c.process != nil {
		_, _ = c.process.Wait()
	}
	if c.libc != nil {
		err = errors.Join(err, c.libc.Destroy())
	}
	if c.output != nil {
		c.output.abort()
	}
	return errors.Join(err,
		c.shim.layout.Remove(ctx, c.cgroup),
		os.RemoveAll(shimrpc.SpoolDir(c.shim.cfg.StateDir, c.spec.ID)),
		shimrpc.RemoveRecord(c.shim.cfg.StateDir, c.spec.ID))
}

func (s *shim) groupPath(name string) string {
	return filepath.Join(shimrpc.GroupDir(s.cfg.RunDir, s.groupName()), name)
}

// prepare makes the mount namespace with the root file system.
func (c *container) prepare() (prepared, error) {
	target := c.shim.groupPath("rootfs")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return prepared{}, fmt.Errorf("make the mount point: %w", err)
	}
	shmOf, shmTarget := 0, ""
	if strings.HasPrefix(c.spec.IPCMode, "container:") {
		var err error
		if shmOf, err = c.shim.pidOf(c.spec.IPCMode); err != nil {
			return prepared{}, err
		}
		shmTarget = c.shim.groupPath("shm")
		if err := os.MkdirAll(shmTarget, 0o700); err != nil {
			return prepared{}, fmt.Errorf("make the mount point: %w", err)
		}
	}
	return prepareRoot(c.spec, target, shmOf, shmTarget)
}

// pidOf returns the process of the container that a mode "container:ID" names.
func (s *shim) pidOf(mode string) (int, error) {
	id := strings.TrimPrefix(mode, "container:")
	s.mu.Lock()
	other := s.containers[id]
	s.mu.Unlock()
	if other == nil {
		return 0, fmt.Errorf("share namespaces with container %s of the same group: %w", id, runtime.ErrNotFound)
	}
	r := other.status()
	if r.Phase == runtime.PhaseExited {
		return 0, fmt.Errorf("share namespaces with container %s: %w", id, runtime.ErrNotRunning)
	}
	return r.PID, nil
}

// namespacePath is the namespace a mode names: "" when private.
func (s *shim) namespacePath(mode, kind string) (string, error) {
	if mode == "" || mode == "host" {
		return "", nil
	}
	if !strings.HasPrefix(mode, "container:") {
		return "", fmt.Errorf("%s mode %q is not one of host, container:ID", kind, mode)
	}
	pid, err := s.pidOf(mode)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/ns/%s", pid, kind), nil
}

// launch runs libcontainer's init up to the point where it waits to be started.
func (c *container) launch(root prepared) error {
	host, err := c.hostFor(root)
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.spec.IPCMode, "container:") {
		c.spec.Mounts = append(c.spec.Mounts, runtime.Mount{
			Destination: "/dev/shm", Source: c.shim.groupPath("shm"), Options: []string{"bind", "nosuid", "noexec", "nodev"},
		})
	}
	spec, notes, err := oci.Build(c.spec, host)
	if err != nil {
		return err
	}
	for _, note := range notes {
		logrus.WithField("container", c.spec.ID).Warn(note)
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: c.spec.ID, Spec: spec})
	if err != nil {
		return fmt.Errorf("configure the container: %w", err)
	}
	c.env = spec.Process.Env
	if c.libc, err = libcontainer.Create(c.shim.groupPath("c"), c.spec.ID, config); err != nil {
		return fmt.Errorf("create the container: %w", err)
	}
	process, err := newProcess(spec.Process)
	if err != nil {
		return err
	}
	process.Init = true
	writer, err := spool.NewWriter(shimrpc.SpoolDir(c.shim.cfg.StateDir, c.spec.ID), c.spec.Output, c.shim.now)
	if err != nil {
		return err
	}
	if c.output, err = connect(process, c.spec, writer); err != nil {
		return err
	}
	err = c.startProcess(process)
	c.output.closeChild()
	if err != nil {
		return err
	}
	c.process = process
	return c.output.run()
}

func (c *container) hostFor(root prepared) (oci.Host, error) {
	s := c.shim
	pid, err := s.namespacePath(c.spec.PIDMode, "pid")
	if err != nil {
		return oci.Host{}, err
	}
	ipc, err := s.namespacePath(c.spec.IPCMode, "ipc")
	if err != nil {
		return oci.Host{}, err
	}
	if s.layout.V2 && c.spec.Resources.Swappiness != nil {
		return oci.Host{}, errors.New("swappiness can't be set on this machine: its kernel uses cgroup v2, which has none; leave swappiness out of the task definition")
	}
	devices, rules, err := findDevices(c.spec)
	if err != nil {
		return oci.Host{}, err
	}
	return oci.Host{
		Arch: goruntime.GOARCH, Compat: root.compat, RootFSPath: s.groupPath("rootfs"), CgroupPath: c.cgroup,
		MountNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), root.namespace.Fd()),
		PIDNS:   pid, IPCNS: ipc, User: root.user,
		Capabilities: s.host.capabilities, HardLimits: s.host.hardLimits, SwapAccounting: s.host.swapAccounting, SparedByOOM: s.host.sparedByOOM,
		CgroupV2: s.layout.V2, CountsPIDs: s.layout.Has("pids"), Runner: s.cfg.Runner, Devices: devices, DeviceRules: rules,
	}, nil
}

// start lets the init run the container's command.
func (c *container) start() error {
	c.startMu.Lock()
	defer c.startMu.Unlock()
	if c.status().Phase != runtime.PhaseCreated {
		return nil
	}
	if err := c.libc.Exec(); err != nil {
		// An init that was killed says so in its exit, which may be about to be recorded.
		select {
		case <-c.exited:
			return nil
		case <-time.After(exitNotice):
			return fmt.Errorf("start container %s: %w", c.spec.ID, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.StartedAt = c.shim.now()
	if c.record.Phase == runtime.PhaseCreated {
		c.record.Phase = runtime.PhaseRunning
	}
	return shimrpc.WriteRecord(c.shim.cfg.StateDir, c.record)
}

// watch waits for the init's end, records it, and ends the output.
func (c *container) watch() {
	pid := c.status().PID
	waitExit(pid)
	state, err := c.process.Wait()
	exit := runtime.Exit{At: c.shim.now(), Code: exitCode(state)}
	if state != nil {
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			exit.Signal = int(ws.Signal())
		}
	} else {
		logrus.WithError(err).Error("wait for the container's process")
	}
	exit.OOMKilled = c.shim.layout.OOMKills(c.cgroup) > 0
	if c.spec.PIDMode != "" {
		// In a shared pid namespace the kernel does not end the others with the first.
		ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
		if err := c.shim.layout.Kill(ctx, c.cgroup); err != nil {
			logrus.WithError(err).Error("end the container's processes")
		}
		cancel()
	}
	c.mu.Lock()
	c.record.Phase, c.record.Exit = runtime.PhaseExited, &exit
	err = shimrpc.WriteRecord(c.shim.cfg.StateDir, c.record)
	c.mu.Unlock()
	if err != nil {
		// Report it all the same: an exit nobody hears of would be worse.
		logrus.WithError(err).Error("record the exit; trying again")
		go c.recordLater()
	}
	close(c.exited)
	c.output.finish(outputGrace)
}

// recordLater writes an exit that the disk had no room for, as soon as it has.
func (c *container) recordLater() {
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		select {
		case <-time.After(wait):
		case <-c.shim.end:
			return
		}
		if c.restore() == nil {
			return
		}
	}
}

// exitCode is the exit status or 128+signal, 255 when it is not known.
func exitCode(state *os.ProcessState) int {
	if state == nil {
		return 255
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return 255
	case ws.Signaled():
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func (c *container) status() shimrpc.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// restore writes the record again unless it is on disk. One that is removed just
// now is left alone.
func (c *container) restore() error {
	c.removeMu.Lock()
	defer c.removeMu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	if on, err := shimrpc.ReadRecord(c.shim.cfg.StateDir, c.spec.ID); err == nil && on.Phase == c.record.Phase && on.PID == c.record.PID && on.Group == c.record.Group {
		return nil
	}
	return shimrpc.WriteRecord(c.shim.cfg.StateDir, c.record)
}

func (c *container) wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-c.exited:
		return *c.status().Exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

func (c *container) signal(signal int, all bool) error {
	if signal < 0 || signal > 64 {
		return fmt.Errorf("signal %d does not exist", signal)
	}
	if c.status().Phase == runtime.PhaseExited {
		return fmt.Errorf("signal container %s: %w", c.spec.ID, runtime.ErrNotRunning)
	}
	if !all {
		err := c.process.Signal(unix.Signal(signal))
		if errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("signal container %s: %w", c.spec.ID, runtime.ErrNotRunning)
		}
		return err
	}
	pids, err := c.shim.layout.Procs(c.cgroup)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.Signal(signal)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// remove kills the container and removes everything of it but the spool. Called
// again after an error, it goes on where it failed.
func (c *container) remove(ctx context.Context) error {
	c.removeMu.Lock()
	defer c.removeMu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	if err := c.shim.layout.Kill(ctx, c.cgroup); err != nil {
		return err
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
		return fmt.Errorf("container %s does not end: %w", c.spec.ID, ctx.Err())
	}
	c.output.finish(0)
	if err := c.shim.layout.Remove(ctx, c.cgroup); err != nil {
		return err
	}
	if err := c.libc.Destroy(); err != nil {
		return fmt.Errorf("remove container %s: %w", c.spec.ID, err)
	}
	c.removed = true
	return shimrpc.RemoveRecord(c.shim.cfg.StateDir, c.spec.ID)
}

// waitExit waits until a child has ended, without holding a thread as waitid does.
func waitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return // an older kernel: the caller's wait holds a thread
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}
