package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/shimrpc"
	"longshore.dev/longshore/internal/runtime/spool"
)

const (
	// createTimeout bounds making a container.
	createTimeout = time.Minute
	// buryTimeout bounds killing and removing what a dead shim has left.
	buryTimeout = 30 * time.Second
	// endTimeout is how long a shim may take to end once it has said so.
	endTimeout = 5 * time.Second
)

// errNoShim: the group's shim is not running, and nothing of it is left.
var errNoShim = errors.New("no shim is running")

var errClosed = errors.New("the runtime is closed")

// group is what this process holds of one group's shim.
type group struct {
	r    *Runtime
	name string
	dir  string

	users int // under the Runtime's mu

	// mu serialises starting, finding and burying the shim.
	mu sync.Mutex
	// client is written under mu and read without: a container being created or
	// deleted must not hold up what is asked about its neighbours.
	client atomic.Pointer[shimrpc.Client]
}

// living returns the connection unless it has ended.
func (g *group) living() *shimrpc.Client {
	client := g.client.Load()
	if client == nil {
		return nil
	}
	select {
	case <-client.Done():
		return nil
	default:
		return client
	}
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
	idle := g.client.Load() == nil
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
	r.mu.Lock()
	g := r.groups[name]
	r.mu.Unlock()
	if g != nil {
		if client := g.living(); client != nil {
			return client, nil
		}
	}
	g = r.acquire(name)
	defer g.release()
	if r.ctx.Err() != nil {
		return nil, errClosed
	}
	return g.connect(ctx)
}

// connect returns the living connection, makes one, or buries the dead shim.
func (g *group) connect(ctx context.Context) (*shimrpc.Client, error) {
	if client := g.living(); client != nil {
		return client, nil
	}
	g.client.Store(nil)
	within := time.NewTimer(connectWithin)
	defer within.Stop()
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
			g.client.Store(client)
			return client, nil
		}
		// It lives but takes no connection: it is ending.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the shim of group %s does not answer: %w", g.name, errors.Join(err, ctx.Err()))
		case <-within.C:
			return nil, fmt.Errorf("connect to the shim of group %s: %w", g.name, errors.Join(err, errHung))
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
	// A group without a directory is a new one: New has settled the older ones.
	if _, err := os.Stat(g.dir); g.living() != nil || !errors.Is(err, fs.ErrNotExist) {
		client, err := g.connect(ctx)
		if err == nil || !errors.Is(err, errNoShim) {
			return client, err
		}
	}
	if client := g.r.takeSpare(g.dir); client != nil {
		g.client.Store(client)
		return client, nil
	}
	if err := g.r.spawn(g.dir, g.name); err != nil {
		return nil, fmt.Errorf("start the shim of group %s: %w", g.name, err)
	}
	// It is connected to whether the caller waits or not: only so can it be ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	return g.connect(ctx)
}

// finish waits for a shim that is ending and removes its directory.
func (g *group) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if client := g.client.Load(); client != nil {
		select {
		case <-client.Done():
		case <-ctx.Done():
			return fmt.Errorf("the shim of group %s does not end: %w", g.name, ctx.Err())
		}
		g.client.Store(nil)
	}
	return g.r.awaitEnd(ctx, g.dir)
}
