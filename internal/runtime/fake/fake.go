package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

const (
	sigKill     = 9
	execTimeout = time.Minute
	execOutput  = 4 << 10
)

// Options are the clock and faults of a Runtime. The zero value uses real time
// and injects nothing.
type Options struct {
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Programs are added to the built-in ones, by name.
	Programs map[string]Program
	// FailCreate and FailStart, when set and not nil for a container, are the answer
	// of Create and Start.
	FailCreate func(runtime.Spec) error
	FailStart  func(id string) error
}

// Runtime is a runtime.Runtime in memory.
type Runtime struct {
	opts     Options
	programs map[string]Program

	mu         sync.Mutex
	containers map[string]*container
	spools     map[string]*spool
}

var _ runtime.Runtime = (*Runtime)(nil)

type container struct {
	spec   runtime.Spec
	status runtime.Status
	proc   *Process
	cancel context.CancelFunc
	exited chan struct{}
}

// New returns an empty Runtime.
func New(opts Options) *Runtime {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.After == nil {
		opts.After = time.After
	}
	r := &Runtime{opts: opts, programs: builtins(), containers: map[string]*container{}, spools: map[string]*spool{}}
	for name, p := range opts.Programs {
		r.programs[name] = p
	}
	return r
}

// Spec returns what a container was created with.
func (r *Runtime) Spec(id string) (runtime.Spec, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil {
		return runtime.Spec{}, err
	}
	return c.spec, nil
}

// Exit ends a container that has not exited in the way given. At defaults to now.
func (r *Runtime) Exit(id string, exit runtime.Exit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil {
		return err
	}
	r.end(c, exit)
	return nil
}

func (r *Runtime) get(id string) (*container, error) {
	c := r.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	return c, nil
}

// end records an exit once.
func (r *Runtime) end(c *container, exit runtime.Exit) {
	if c.status.Phase == runtime.PhaseExited {
		return
	}
	if exit.At.IsZero() {
		exit.At = r.opts.Now()
	}
	c.status.Phase, c.status.Exit = runtime.PhaseExited, &exit
	c.cancel()
	c.proc.out.finish()
	close(c.exited)
}

func validID(s string) bool {
	return len(s) > 0 && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Create implements runtime.Runtime.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !validID(spec.ID) || !validID(spec.Group) {
		return fmt.Errorf("container id %q or group %q is not of the form [a-z0-9-]{1,64}", spec.ID, spec.Group)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.containers[spec.ID] != nil {
		return fmt.Errorf("container %s: %w", spec.ID, runtime.ErrAlreadyExists)
	}
	if r.opts.FailCreate != nil {
		if err := r.opts.FailCreate(spec); err != nil {
			return err
		}
	}
	if len(spec.Args) == 0 {
		return errors.New("no command specified")
	}
	program := r.programs[spec.Args[0]]
	if program == nil {
		return fmt.Errorf("create container %s: exec: %q: executable file not found in $PATH", spec.ID, spec.Args[0])
	}
	out := newSpool(spec.Output, r.opts.Now)
	runCtx, cancel := context.WithCancel(context.Background())
	r.spools[spec.ID] = out
	r.containers[spec.ID] = &container{
		spec: spec, cancel: cancel, exited: make(chan struct{}),
		proc: &Process{Args: spec.Args[1:], Env: spec.Env, Now: r.opts.Now, After: r.opts.After, out: out, ctx: runCtx, run: program},
		status: runtime.Status{
			ID: spec.ID, Group: spec.Group, Phase: runtime.PhaseCreated, PID: len(r.spools), CreatedAt: r.opts.Now(),
		},
	}
	return nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil || c.status.Phase != runtime.PhaseCreated {
		return err
	}
	if r.opts.FailStart != nil {
		if err := r.opts.FailStart(id); err != nil {
			return err
		}
	}
	c.status.Phase, c.status.StartedAt = runtime.PhaseRunning, r.opts.Now()
	go func() {
		code := c.proc.run(c.proc.ctx, c.proc)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.end(c, runtime.Exit{Code: code})
	}()
	return nil
}

// Signal implements runtime.Runtime. A signal that the program has not asked for
// with Notify ends it, as any but a container's first process would be.
func (r *Runtime) Signal(ctx context.Context, id string, signal int, _ bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil {
		return err
	}
	if c.status.Phase == runtime.PhaseExited {
		return fmt.Errorf("signal container %s: %w", id, runtime.ErrNotRunning)
	}
	if signal == 0 || signal != sigKill && c.proc.deliver(signal) {
		return nil
	}
	r.end(c, runtime.Exit{Code: 128 + signal, Signal: signal})
	return nil
}

// Wait implements runtime.Runtime.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	r.mu.Lock()
	c, err := r.get(id)
	r.mu.Unlock()
	if err != nil {
		return runtime.Exit{}, err
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return *c.status.Exit, nil
}

// Status implements runtime.Runtime.
func (r *Runtime) Status(_ context.Context, id string) (runtime.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil {
		return runtime.Status{}, err
	}
	return c.status, nil
}

// Stats implements runtime.Runtime. The use of resources is a constant.
func (r *Runtime) Stats(_ context.Context, id string) (runtime.Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.get(id)
	if err != nil {
		return runtime.Stats{}, err
	}
	if c.status.Phase == runtime.PhaseExited {
		return runtime.Stats{}, fmt.Errorf("read usage of container %s: %w", id, runtime.ErrNotRunning)
	}
	return runtime.Stats{
		At: r.opts.Now(), CPUNanos: 1e6, CPUUserNanos: 5e5, CPUSystemNanos: 5e5, MemoryBytes: 1 << 20,
		MemoryLimitBytes: uint64(max(0, c.spec.Resources.MemoryBytes)), PIDs: 1,
	}, nil
}

// List implements runtime.Runtime; the order is that of the ids.
func (r *Runtime) List(context.Context) ([]runtime.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []runtime.Status
	for _, c := range r.containers {
		all = append(all, c.status)
	}
	slices.SortFunc(all, func(a, b runtime.Status) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Delete implements runtime.Runtime.
func (r *Runtime) Delete(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil
	}
	r.end(c, runtime.Exit{Code: 128 + sigKill, Signal: sigKill})
	delete(r.containers, id)
	return nil
}

// Exec implements runtime.Runtime.
func (r *Runtime) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (runtime.ExecResult, error) {
	r.mu.Lock()
	c, err := r.get(id)
	running := err == nil && c.status.Phase == runtime.PhaseRunning
	r.mu.Unlock()
	if err != nil {
		return runtime.ExecResult{}, err
	}
	if !running {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: %w", id, runtime.ErrNotRunning)
	}
	if len(spec.Args) == 0 {
		return runtime.ExecResult{}, errors.New("exec: no command specified")
	}
	program := r.programs[spec.Args[0]]
	if program == nil {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: exec: %q: executable file not found in $PATH", id, spec.Args[0])
	}
	return r.runExec(ctx, c, program, spec)
}

func (r *Runtime) runExec(ctx context.Context, c *container, program Program, spec runtime.ExecSpec) (runtime.ExecResult, error) {
	runCtx, cancel := context.WithCancel(c.proc.ctx)
	defer cancel()
	out := newSpool(runtime.Output{NonBlocking: true}, r.opts.Now)
	p := &Process{
		Args: spec.Args[1:], Env: append(slices.Clone(c.spec.Env), spec.Env...),
		Now: r.opts.Now, After: r.opts.After, out: out, ctx: runCtx,
	}
	exited := make(chan int, 1)
	go func() { exited <- program(runCtx, p) }()
	timeout := spec.Timeout
	if timeout <= 0 {
		timeout = execTimeout
	}
	var result runtime.ExecResult
	select {
	case result.Code = <-exited:
	case <-r.opts.After(timeout):
		result.TimedOut, result.Code = true, 128+sigKill
	case <-c.exited:
		result.Code = 128 + sigKill
	case <-ctx.Done():
		return result, ctx.Err()
	}
	limit := spec.OutputLimit
	if limit <= 0 {
		limit = execOutput
	}
	result.Output = out.all()
	result.Output = result.Output[:min(len(result.Output), limit)]
	return result, nil
}

// OpenSpool implements runtime.Runtime.
func (r *Runtime) OpenSpool(_ context.Context, id string) (runtime.Spool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.spools[id]
	if s == nil {
		return nil, fmt.Errorf("open the output of container %s: %w", id, runtime.ErrNotFound)
	}
	return s, nil
}

// RemoveSpool implements runtime.Runtime.
func (r *Runtime) RemoveSpool(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.spools, id)
	return nil
}

// Close implements runtime.Runtime. The containers run on, as they would.
func (r *Runtime) Close() error { return nil }
