package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/cgroup"
	"longshore.dev/longshore/internal/runtime/shimrpc"
	"longshore.dev/longshore/internal/runtime/spool"
)

// mostMaking is how many containers may be made at once. Each takes two processes
// and all of a processor: of more at once none is ready sooner, and all cost more.
// One that hangs gives its place up after createTimeout.
func mostMaking() int64 { return max(4, 2*int64(goruntime.NumCPU())) }

// lockName is no group's id.
const lockName = ".lock"

// Options are what a Runtime needs.
type Options struct {
	// StateDir, on disk, keeps records and output; RunDir, best on tmpfs, sockets.
	// Both are made when missing, 0700, and belong to one Runtime at a time.
	StateDir, RunDir string
	// Node names this node's cgroup, /longshore/<Node>: [a-z0-9-]{1,64}, unique on
	// the machine.
	Node string
	// Runner is the path of longshore-runner; empty takes the embedded one.
	Runner string
	// Prestart keeps one shim ready for the next group, which makes a group's first
	// container start sooner, at the price of one idle process.
	Prestart bool
	// Logger receives what an operator should know; nil discards it.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Runtime runs containers; it implements runtime.Runtime.
type Runtime struct {
	opts    Options
	log     *slog.Logger
	now     func() time.Time
	runner  string
	layout  cgroup.Layout
	watcher *spool.Watcher // nil: readers poll
	lock    *os.File

	// reapers waits for the goroutines that collect the shims we have started.
	reapers sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc

	// making bounds how many containers are made at once.
	making *semaphore.Weighted

	preparers sync.WaitGroup // waits for what starts the spare shim

	mu        sync.Mutex
	groups    map[string]*group
	spare     *spare
	spares    int // how many there were, for their names
	preparing bool
	closed    bool
}

var _ runtime.Runtime = (*Runtime)(nil)

// New takes over the two directories: it finds the shims that run and buries
// those that died meanwhile. Close releases it.
func New(ctx context.Context, opts Options) (*Runtime, error) {
	r := &Runtime{opts: opts, log: opts.Logger, now: opts.Now, groups: map[string]*group{}, making: semaphore.NewWeighted(mostMaking())}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("running containers needs root")
	}
	if !shimrpc.ValidID(opts.Node) {
		return nil, fmt.Errorf("node name %q is not of the form [a-z0-9-]{1,64}", opts.Node)
	}
	if !filepath.IsAbs(opts.StateDir) || !filepath.IsAbs(opts.RunDir) {
		return nil, fmt.Errorf("state directory %q and run directory %q must be absolute paths", opts.StateDir, opts.RunDir)
	}
	for _, dir := range []string{opts.RunDir, shimrpc.RecordsDir(opts.StateDir), filepath.Join(opts.StateDir, "spool")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the runtime's directories: %w", err)
		}
	}
	var err error
	if r.layout, err = cgroup.Detect(); err != nil {
		return nil, err
	}
	if r.runner = opts.Runner; r.runner == "" {
		if r.runner, err = extract(filepath.Join(opts.StateDir, "bin")); err != nil {
			return nil, err
		}
	}
	// A killed process's lock may outlive it for a moment, in a shim that it was just
	// starting: the child has it until it runs its own program.
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r.lock, err = tryLock(filepath.Join(opts.RunDir, lockName)); err != nil {
			return nil, fmt.Errorf("take %s: %w", opts.RunDir, err)
		}
		if r.lock != nil || time.Now().After(deadline) {
			break
		}
	}
	if r.lock == nil {
		return nil, fmt.Errorf("%s is in use by another longshore", opts.RunDir)
	}
	if err := r.layout.Ensure(shimrpc.NodeCgroup(opts.Node)); err != nil {
		_ = r.lock.Close()
		return nil, err
	}
	r.limitProcesses()
	if r.watcher, err = spool.NewWatcher(); err != nil {
		r.log.Warn("output is polled for", "reason", err)
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.adopt(ctx); err != nil {
		_ = r.Close()
		return nil, err
	}
	r.prepareSpare()
	return r, nil
}

// adopt settles every container that is not running under a living shim. The
// shims come first: what they have is on record then, whatever became of the
// records meanwhile.
func (r *Runtime) adopt(ctx context.Context) error {
	entries, err := os.ReadDir(r.opts.RunDir)
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	r.removeSpares(ctx, entries)
	settled := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() && shimrpc.ValidID(e.Name()) {
			settled[e.Name()] = true
			if err := r.settle(ctx, e.Name()); err != nil {
				return err
			}
		}
	}
	records, err := shimrpc.Records(r.opts.StateDir)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.Phase == runtime.PhaseExited || settled[rec.Group] {
			continue
		}
		settled[rec.Group] = true
		if err := r.settle(ctx, rec.Group); err != nil {
			return err
		}
	}
	return nil
}

// settle connects to a group's shim, or buries it. One without containers, whose
// starter was killed before it used it, ends.
func (r *Runtime) settle(ctx context.Context, name string) error {
	g := r.acquire(name)
	defer g.release()
	client, err := g.connect(ctx)
	if err == nil {
		err = r.restore(ctx, name, client)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		r.log.Error("a shim does not answer; its task runs on, and can only be stopped", "group", name)
		return nil
	}
	if errors.Is(err, errNoShim) && onlyNoShim(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if client.Call(ctx, shimrpc.MethodShutdown, struct{}{}, nil) != nil {
		return nil
	}
	return g.finish(ctx)
}

// restore returns once the shim has done what its former caller had asked for, and
// has put every container that it has on record: it answers one after the other.
func (r *Runtime) restore(ctx context.Context, name string, client *shimrpc.Client) error {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	err := client.Call(ctx, shimrpc.MethodRestore, struct{}{}, nil)
	if errors.Is(err, shimrpc.ErrDisconnected) {
		return nil
	}
	if answered := (*shimrpc.Error)(nil); errors.As(err, &answered) {
		r.log.Warn("a shim could not put its containers on record", "group", name, "reason", err)
		return nil
	}
	return err
}

// Close implements runtime.Runtime.
func (r *Runtime) Close() error {
	err := r.endSpare()
	r.cancel()
	r.mu.Lock()
	groups := r.groups
	r.groups = map[string]*group{}
	r.mu.Unlock()
	for _, g := range groups {
		g.mu.Lock()
		if client := g.client.Load(); client != nil {
			_ = client.Close()
		}
		g.mu.Unlock()
	}
	r.reapers.Wait()
	if r.watcher != nil {
		_ = r.watcher.Close()
	}
	r.layout.RemoveIfEmpty(shimrpc.NodeCgroup(r.opts.Node))
	r.layout.RemoveIfEmpty(filepath.Dir(shimrpc.NodeCgroup(r.opts.Node)))
	return errors.Join(err, r.lock.Close())
}

// tryLock locks a file, made when missing; nil when another process has it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
