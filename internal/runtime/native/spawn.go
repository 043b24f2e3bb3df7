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
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime/shimrpc"
)

// spawn starts a shim for dir. It is handed the locked lock and the listening
// socket, so that it counts as alive, and can be connected to, from its first
// moment. Without a group it is a spare.
func (r *Runtime) spawn(dir, group string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := tryLock(filepath.Join(dir, shimrpc.LockName))
	if err != nil {
		return err
	}
	if lock == nil {
		return errors.New("its lock is held")
	}
	defer lock.Close()
	listener, err := listen(dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	log, err := os.OpenFile(filepath.Join(dir, shimrpc.LogName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
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
		Group: group, Node: r.opts.Node, RunDir: r.opts.RunDir, StateDir: r.opts.StateDir, Runner: r.runner,
	})
	if err != nil {
		return err
	}
	process, err := os.StartProcess(r.runner, []string{"longshore-runner", "shim", string(config)}, &os.ProcAttr{
		Dir: "/",
		// One processor: more threads only make a start slower.
		Env:   []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1"},
		Files: []*os.File{null, log, log, listener, lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	r.reapers.Go(func() { r.reap(process) })
	return nil
}

// listen makes a shim's socket. Its path may be longer than an address can be.
func listen(dir string) (*os.File, error) {
	if err := os.Remove(filepath.Join(dir, shimrpc.SocketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	address, release, err := shimrpc.SocketAddress(dir)
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
	if err := os.Chmod(filepath.Join(dir, shimrpc.SocketName), 0o600); err != nil {
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

// sparePrefix begins the directory of a spare shim; no group's id does.
const sparePrefix = ".spare-"

// spare is a shim that waits for its first container. It ends by itself when its
// connection does.
type spare struct {
	dir    string
	client *shimrpc.Client
}

// takeSpare gives the spare shim, if there is one, to the group whose directory
// is dir: its lock and its socket move there with its directory.
func (r *Runtime) takeSpare(dir string) *shimrpc.Client {
	r.mu.Lock()
	s := r.spare
	r.spare = nil
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	select {
	case <-s.client.Done():
	default:
		err := os.Rename(s.dir, dir)
		if err == nil {
			return s.client
		}
		r.log.Warn("the spare shim cannot be used", "reason", err)
		_ = s.client.Close()
	}
	_ = os.RemoveAll(s.dir)
	return nil
}

// prepareSpare starts a spare shim in the background, unless there is one.
func (r *Runtime) prepareSpare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.opts.Prestart || r.closed || r.preparing || r.spare != nil {
		return
	}
	r.preparing = true
	r.spares++
	dir := filepath.Join(r.opts.RunDir, fmt.Sprint(sparePrefix, r.spares))
	r.preparers.Go(func() {
		client, err := r.startSpare(dir)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.preparing = false
		if err != nil {
			r.log.Warn("no spare shim could be started", "reason", err)
			return
		}
		r.spare = &spare{dir: dir, client: client}
	})
}

func (r *Runtime) startSpare(dir string) (*shimrpc.Client, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := r.spawn(dir, ""); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, endTimeout)
	defer cancel()
	return shimrpc.Dial(ctx, dir)
}

// endSpare ends the spare shim for good.
func (r *Runtime) endSpare() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.preparers.Wait()
	r.mu.Lock()
	s := r.spare
	r.spare = nil
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	_ = s.client.Close()
	return r.awaitEnd(context.Background(), s.dir)
}

// awaitEnd waits for the shim of dir to end and removes the directory.
func (r *Runtime) awaitEnd(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	for {
		lock, err := tryLock(filepath.Join(dir, shimrpc.LockName))
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
			return fmt.Errorf("the shim of %s does not end: %w", dir, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the directory of a shim: %w", err)
	}
	return nil
}

// removeSpares removes the spare shims of an earlier process. They end because
// their connection has; one that never had any waits for it, and is told. A spare
// that does not end costs a process, but must not keep the node from its tasks.
func (r *Runtime) removeSpares(ctx context.Context, entries []os.DirEntry) {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), sparePrefix) {
			continue
		}
		dir := filepath.Join(r.opts.RunDir, e.Name())
		r.endUnused(ctx, dir)
		if err := r.awaitEnd(ctx, dir); err != nil {
			r.log.Warn("a former spare shim is left", "reason", err)
		}
	}
}

// endUnused tells the shim of dir, if there is one, to end unless it has containers.
func (r *Runtime) endUnused(ctx context.Context, dir string) (ended bool) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	client, err := shimrpc.Dial(ctx, dir)
	if err != nil {
		return false
	}
	defer client.Close()
	return client.Call(ctx, shimrpc.MethodShutdown, struct{}{}, nil) == nil
}
