package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime/shimrpc"
)

const (
	// pingAfter is when a call that has no answer yet makes us doubt its shim, and
	// then how often; pingWithin is how long a shim that lives may take for a ping.
	pingAfter  = 3 * time.Second
	pingWithin = 5 * time.Second
	// connectWithin bounds waiting for a shim that lives but takes no connection.
	connectWithin = 10 * time.Second
)

// errHung: the group's shim lives and does nothing (somebody has stopped it, or the
// machine keeps it from running).
var errHung = errors.New("the shim does not answer")

// ask calls the shim. However long the answer takes, a shim that answers a ping
// meanwhile is waited for; with one that does not, the error is errHung.
func ask(ctx context.Context, client *shimrpc.Client, method string, body, reply any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(pingAfter, func() { doubt(ctx, cancel, client) })
	defer timer.Stop()
	err := client.Call(ctx, method, body, reply)
	if errors.Is(err, os.ErrDeadlineExceeded) || err != nil && errors.Is(context.Cause(ctx), errHung) {
		return fmt.Errorf("%s: %w", method, errHung)
	}
	return err
}

// doubt pings the shim until ctx ends, and ends it when a ping is not answered.
func doubt(ctx context.Context, hung context.CancelCauseFunc, client *shimrpc.Client) {
	for ctx.Err() == nil {
		ping, cancel := context.WithTimeout(ctx, pingWithin)
		err := client.Call(ping, shimrpc.MethodPing, struct{}{}, nil)
		cancel()
		if ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)) {
			hung(errHung)
			return
		}
		select {
		case <-ctx.Done():
		case <-client.Done():
			return
		case <-time.After(pingAfter):
		}
	}
}

// endHung kills the group's hung shim, so that the group can be buried: its
// containers end with it, as when it dies by itself. The caller holds mu.
func (g *group) endHung(ctx context.Context) error {
	g.r.log.Error("a shim does not answer and is killed; its containers end with it", "group", g.name)
	pids, err := shimsOf(g.dir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill the shim of group %s: %w", g.name, err)
		}
	}
	if client := g.client.Load(); client != nil {
		_ = client.Close()
		g.client.Store(nil)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	for {
		lock, err := tryLock(filepath.Join(g.dir, shimrpc.LockName))
		if lock != nil {
			_ = lock.Close()
		}
		if lock != nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shim of group %s does not end: %w", g.name, errors.Join(err, ctx.Err()))
		case <-time.After(time.Millisecond):
		}
	}
}

// shimsOf finds the processes that serve a group's directory: the shim's standard
// error is its log there. Looked for only when one is hung; compared by what the
// file is, for a container can give its own files any name.
func shimsOf(dir string) ([]int, error) {
	log, err := os.Stat(filepath.Join(dir, shimrpc.LogName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the shim of %s: %w", dir, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the shim of %s: %w", dir, err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		name, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if !strings.HasPrefix(string(name), "longshore-runner\x00shim\x00") {
			continue
		}
		if stderr, err := os.Stat(filepath.Join("/proc", e.Name(), "fd", "2")); err == nil && os.SameFile(log, stderr) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// signalDirectly sends a signal without the shim, which hangs: to the container's
// init, or to all of its processes. The exit cannot be known until the shim goes on.
func (r *Runtime) signalDirectly(rec shimrpc.Record, signal int, all bool) error {
	pids, err := r.layout.Procs(shimrpc.Cgroup(r.opts.Node, rec.Group, rec.ID))
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if !all && pid != rec.PID {
			continue
		}
		if err := unix.Kill(pid, unix.Signal(signal)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// limitProcesses keeps containers, all together, from taking every process id of
// the machine: a quarter is left to the rest of it.
func (r *Runtime) limitProcesses() {
	most := int64(1) << 22
	for _, name := range []string{"pid_max", "threads-max"} {
		data, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			most = min(most, n)
		}
	}
	if err := r.layout.LimitPIDs(shimrpc.NodeCgroup(r.opts.Node), most/4*3); err != nil {
		r.log.Warn("containers are not kept from using up the machine's process ids", "reason", err)
	}
}
