package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/shimrpc"
	"longshore.dev/longshore/internal/runtime/spool"
)

const (
	// buryTimeout bounds killing and removing what a dead shim has left.
	buryTimeout = 30 * time.Second
	// endTimeout is how long a shim may take to end once it has said so.
	endTimeout = 5 * time.Second
)

// errNoShim: the group's shim is not running, and nothing of it is left.
var errNoShim = errors.New("no shim is running")

// group is what this process holds of one group's shim.
type group struct {
	r    *Runtime
	name string
	dir  string

	users int // under the Runtime's mu

	// mu serialises starting, finding and burying the shim.
	mu     sync.Mutex
	client *shimrpc.Client
}

// acquire locks a group; release ends that, and forgets it when it has no shim.
func (r *Runtime) acquire(name string) *group {
	r.mu.Lock()
	g := r.groups[name]
	if g == nil {
		g = &group{r: r, name: name, dir: shimrpc.GroupDir(r.opts.RunDir, name)}
		r.groups[name] = g
	}
	g.users++
	r.mu.Unlock()
	g.mu.Lock()
	return g
}

func (g *group) release() {
	idle := g.client == nil
	g.mu.Unlock()
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	if g.users--; g.users == 0 && idle && g.r.groups[g.name] == g {
		delete(g.r.groups, g.name)
	}
}

// shim returns a connection to the group's shim. With errNoShim its containers
// have been recorded as lost.
func (r *Runtime) shim(ctx context.Context, name string) (*shimrpc.Client, error) {
	g := r.acquire(name)
	defer g.release()
	return g.connect(ctx)
}

// connect returns the living connection, makes one, or buries the dead shim.
func (g *group) connect(ctx context.Context) (*shimrpc.Client, error) {
	if g.client != nil {
		select {
		case <-g.client.Done():
			g.client = nil
		default:
			return g.client, nil
		}
	}
	for {
		lock, err := tryLock(filepath.Join(g.dir, shimrpc.LockName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for the shim of group %s: %w", g.name, err)
		}
		if lock != nil || errors.Is(err, fs.ErrNotExist) {
			err := g.bury(ctx)
			if lock != nil {
				_ = lock.Close()
			}
			return nil, errors.Join(err, errNoShim)
		}
		client, err := shimrpc.Dial(ctx, g.dir)
		if err == nil {
			g.client = client
			return client, nil
		}
		// It lives but takes no connection: it is ending.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the shim of group %s does not answer: %w", g.name, errors.Join(err, ctx.Err()))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// bury ends what a dead shim has left: processes, cgroups, files. Containers that
// had not exited are recorded as lost. Doing it again is harmless.
func (g *group) bury(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buryTimeout)
	defer cancel()
	r, path := g.r, shimrpc.GroupCgroup(g.r.opts.Node, g.name)
	if said := lastWords(filepath.Join(g.dir, shimrpc.LogName)); said != "" {
		r.log.Warn("a shim died", "group", g.name, "said", said)
	}
	if err := r.layout.Kill(ctx, path); err != nil {
		return err
	}
	records, err := shimrpc.Records(r.opts.StateDir)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.Group != g.name || rec.Phase == runtime.PhaseExited {
			continue
		}
		if err := r.lose(rec); err != nil {
			return err
		}
	}
	if err := r.layout.Remove(ctx, path); err != nil {
		return err
	}
	if err := os.RemoveAll(g.dir); err != nil {
		return fmt.Errorf("remove the directory of group %s: %w", g.name, err)
	}
	return nil
}

// lastWords is the end of a shim's log.
func lastWords(path string) string {
	const most = 4 << 10
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	said := make([]byte, min(most, info.Size()))
	n, _ := f.ReadAt(said, info.Size()-int64(len(said)))
	return string(said[:n])
}

// lose records the end of a container whose shim died.
func (r *Runtime) lose(rec shimrpc.Record) error {
	r.log.Warn("a container was lost with its shim", "container", rec.ID, "group", rec.Group)
	if err := spool.Cut(shimrpc.SpoolDir(r.opts.StateDir, rec.ID), r.now()); err != nil {
		// Its output ends all the same: readers see that no writer is left.
		r.log.Warn("the output of a lost container may be damaged", "container", rec.ID, "reason", err)
	}
	rec.Phase = runtime.PhaseExited
	rec.Exit = &runtime.Exit{Code: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL), At: r.now(), Lost: true}
	return shimrpc.WriteRecord(r.opts.StateDir, rec)
}

// ensure returns a connection to the group's shim, starting it when needed.
func (g *group) ensure(ctx context.Context) (*shimrpc.Client, error) {
	client, err := g.connect(ctx)
	if err == nil || !errors.Is(err, errNoShim) {
		return client, err
	}
	if err := g.spawn(); err != nil {
		return nil, fmt.Errorf("start the shim of group %s: %w", g.name, err)
	}
	return g.connect(ctx)
}

// spawn starts the shim. It is handed the locked lock and the listening socket,
// so that it counts as alive, and can be connected to, from its first moment.
func (g *group) spawn() error {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return err
	}
	lock, err := tryLock(filepath.Join(g.dir, shimrpc.LockName))
	if err != nil {
		return err
	}
	if lock == nil {
		return errors.New("its lock is held")
	}
	defer lock.Close()
	listener, err := g.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	log, err := os.OpenFile(filepath.Join(g.dir, shimrpc.LogName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	config, err := json.Marshal(shimrpc.Config{
		Group: g.name, Node: g.r.opts.Node, RunDir: g.r.opts.RunDir, StateDir: g.r.opts.StateDir, Runner: g.r.runner,
	})
	if err != nil {
		return err
	}
	process, err := os.StartProcess(g.r.runner, []string{"longshore-runner", "shim", string(config)}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1"},
		Files: []*os.File{null, log, log, listener, lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	g.r.reapers.Go(func() { g.r.reap(process) })
	return nil
}

// listen makes the group's socket. Its path may be longer than an address can be.
func (g *group) listen() (*os.File, error) {
	if err := os.Remove(filepath.Join(g.dir, shimrpc.SocketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	address, release, err := shimrpc.SocketAddress(g.dir)
	if err != nil {
		return nil, err
	}
	defer release()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(filepath.Join(g.dir, shimrpc.SocketName), 0o600); err != nil {
		return nil, err
	}
	return listener.File()
}

// reap collects a shim that we have started when it ends, without a thread of
// its own; when we close first, it is left to init.
func (r *Runtime) reap(p *os.Process) {
	defer p.Release()
	fd, err := unix.PidfdOpen(p.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		_, _ = p.Wait()
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	stop := context.AfterFunc(r.ctx, func() { _ = f.Close() })
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	exited := false
	_ = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(poll, 0)
		exited = n > 0
		return exited
	})
	if exited {
		_, _ = p.Wait()
	}
}

// finish waits for a shim that is ending and removes its directory.
func (g *group) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if g.client != nil {
		select {
		case <-g.client.Done():
		case <-ctx.Done():
			return fmt.Errorf("the shim of group %s does not end: %w", g.name, ctx.Err())
		}
		g.client = nil
	}
	for {
		lock, err := tryLock(filepath.Join(g.dir, shimrpc.LockName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if lock != nil {
			defer lock.Close()
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shim of group %s does not end: %w", g.name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	if err := os.RemoveAll(g.dir); err != nil {
		return fmt.Errorf("remove the directory of group %s: %w", g.name, err)
	}
	return nil
}
