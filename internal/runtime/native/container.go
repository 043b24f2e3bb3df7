package native

import (
	"context"
	"errors"
	"fmt"
	"os"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/shimrpc"
	"longshore.dev/longshore/internal/runtime/spool"
)

// Create implements runtime.Runtime.
func (r *Runtime) Create(ctx context.Context, spec runtime.Spec) error {
	if !shimrpc.ValidID(spec.ID) {
		return fmt.Errorf("container id %q is not of the form [a-z0-9-]{1,64}", spec.ID)
	}
	if !shimrpc.ValidID(spec.Group) {
		return fmt.Errorf("group id %q is not of the form [a-z0-9-]{1,64}", spec.Group)
	}
	g := r.acquire(spec.Group)
	defer g.release()
	if r.ctx.Err() != nil {
		return errClosed
	}
	// Ids are unique on the node, not only in the group.
	if _, err := shimrpc.ReadRecord(r.opts.StateDir, spec.ID); !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("container %s: %w", spec.ID, runtime.ErrAlreadyExists)
	}
	if err := r.making.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	defer r.making.Release(1)
	client, err := g.ensure(ctx)
	if errors.Is(err, errNoShim) && onlyNoShim(err) {
		return fmt.Errorf("create container %s: %w: its shim ended as it began", spec.ID, runtime.ErrCutOff)
	}
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(fmt.Errorf("create container %s: %w", spec.ID, err), g.abandon(ctx, spec.ID, err))
	}
	// Once asked, the shim makes the container, whether its caller waits or not. So
	// wait: only what is there can be removed.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	err = ask(call, client, shimrpc.MethodCreate, shimrpc.CreateRequest{Spec: spec}, nil)
	r.prepareSpare()
	if err == nil && ctx.Err() == nil {
		return nil
	}
	if err == nil {
		return errors.Join(fmt.Errorf("create container %s: %w", spec.ID, ctx.Err()), g.abandon(ctx, spec.ID, ctx.Err()))
	}
	left := g.abandon(ctx, spec.ID, err)
	if left == nil && errors.Is(err, shimrpc.ErrDisconnected) {
		err = fmt.Errorf("%w: its shim ended (%w)", runtime.ErrCutOff, err)
	}
	return errors.Join(fmt.Errorf("create container %s: %w", spec.ID, err), left)
}

// abandon leaves nothing of a container whose creation failed, nor of a shim that
// was started for it alone.
func (g *group) abandon(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buryTimeout)
	defer cancel()
	var answered *shimrpc.Error
	if !errors.As(cause, &answered) {
		// The shim may have died, or go on creating what the caller gave up on. Either
		// way delete waits for its turn and removes what came of it.
		if err := g.delete(ctx, id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
			return err
		}
		return os.RemoveAll(shimrpc.SpoolDir(g.r.opts.StateDir, id))
	}
	client := g.living()
	if client == nil {
		return nil
	}
	err := client.Call(ctx, shimrpc.MethodShutdown, struct{}{}, nil)
	switch {
	case err == nil:
		return g.finish(ctx)
	case errors.Is(err, shimrpc.ErrDisconnected):
		<-client.Done()
		if _, err := g.connect(ctx); err != nil && (!errors.Is(err, errNoShim) || !onlyNoShim(err)) {
			return err
		}
	}
	return nil
}

// call asks the container's shim. When the container has no shim any more the
// error is errNoShim and its record says how it ended.
func (r *Runtime) call(ctx context.Context, id, method string, body, reply any) error {
	for {
		rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
		if err != nil {
			return err
		}
		client, err := r.shim(ctx, rec.Group)
		if err != nil {
			return err
		}
		// Ask again when the connection breaks: either the shim lives, or it is buried.
		// What waits for the container may take as long as that does.
		if method == shimrpc.MethodWait {
			err = client.Call(ctx, method, body, reply)
		} else {
			err = ask(ctx, client, method, body, reply)
		}
		if !errors.Is(err, shimrpc.ErrDisconnected) {
			return err
		}
		<-client.Done()
	}
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, id string) error {
	rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
	if err != nil {
		return err
	}
	if rec.Phase == runtime.PhaseExited {
		return nil
	}
	err = r.call(ctx, id, shimrpc.MethodStart, shimrpc.IDRequest{ID: id}, nil)
	if errors.Is(err, errNoShim) {
		return nil // lost: it has exited
	}
	return err
}

// Signal implements runtime.Runtime.
func (r *Runtime) Signal(ctx context.Context, id string, signal int, all bool) error {
	rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
	if err != nil {
		return err
	}
	if rec.Phase != runtime.PhaseExited {
		err = r.call(ctx, id, shimrpc.MethodSignal, shimrpc.SignalRequest{ID: id, Signal: signal, All: all}, nil)
		if errors.Is(err, errHung) {
			return r.signalDirectly(rec, signal, all)
		}
		if !errors.Is(err, errNoShim) {
			return err
		}
	}
	return fmt.Errorf("signal container %s: %w", id, runtime.ErrNotRunning)
}

// Wait implements runtime.Runtime.
func (r *Runtime) Wait(ctx context.Context, id string) (runtime.Exit, error) {
	for {
		rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
		if err != nil {
			return runtime.Exit{}, err
		}
		if rec.Exit != nil {
			return *rec.Exit, nil
		}
		var exit runtime.Exit
		err = r.call(ctx, id, shimrpc.MethodWait, shimrpc.IDRequest{ID: id}, &exit)
		if errors.Is(err, errNoShim) && onlyNoShim(err) {
			continue // buried: the record now has the exit
		}
		return exit, err
	}
}

// onlyNoShim tells that burying went well.
func onlyNoShim(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return !ok || len(joined.Unwrap()) == 1
}

// Status implements runtime.Runtime.
func (r *Runtime) Status(ctx context.Context, id string) (runtime.Status, error) {
	rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
	if err != nil {
		return runtime.Status{}, err
	}
	if rec.Phase == runtime.PhaseExited {
		return rec.Status(), nil
	}
	if _, err := r.shim(ctx, rec.Group); err != nil && (!errors.Is(err, errNoShim) || !onlyNoShim(err)) {
		return runtime.Status{}, err
	}
	// Read again: it may have been buried just now, or have exited.
	if rec, err = shimrpc.ReadRecord(r.opts.StateDir, id); err != nil {
		return runtime.Status{}, err
	}
	return rec.Status(), nil
}

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Status, error) {
	records, err := shimrpc.Records(r.opts.StateDir)
	if err != nil {
		return nil, err
	}
	statuses := make([]runtime.Status, 0, len(records))
	for _, rec := range records {
		status, err := r.Status(ctx, rec.ID)
		if errors.Is(err, runtime.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		statuses = append(statuses, status)
	}
	return statuses, nil
}

// Stats implements runtime.Runtime. It reads the cgroup, without the shim.
func (r *Runtime) Stats(ctx context.Context, id string) (runtime.Stats, error) {
	status, err := r.Status(ctx, id)
	if err != nil {
		return runtime.Stats{}, err
	}
	if status.Phase == runtime.PhaseExited {
		return runtime.Stats{}, fmt.Errorf("read usage of container %s: %w", id, runtime.ErrNotRunning)
	}
	return r.layout.Stats(shimrpc.Cgroup(r.opts.Node, status.Group, id), r.now())
}

// Exec implements runtime.Runtime.
func (r *Runtime) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (runtime.ExecResult, error) {
	status, err := r.Status(ctx, id)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	notRunning := fmt.Errorf("exec in container %s: %w", id, runtime.ErrNotRunning)
	if status.Phase != runtime.PhaseRunning {
		return runtime.ExecResult{}, notRunning
	}
	client, err := r.shim(ctx, status.Group)
	if errors.Is(err, errNoShim) {
		return runtime.ExecResult{}, notRunning
	}
	if err != nil {
		return runtime.ExecResult{}, err
	}
	// Never asked twice: it may have run.
	var result runtime.ExecResult
	err = ask(ctx, client, shimrpc.MethodExec, shimrpc.ExecRequest{ID: id, Spec: spec}, &result)
	if errors.Is(err, shimrpc.ErrDisconnected) {
		err = fmt.Errorf("exec in container %s: %w", id, err)
	}
	return result, err
}

// Delete implements runtime.Runtime.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	rec, err := shimrpc.ReadRecord(r.opts.StateDir, id)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	g := r.acquire(rec.Group)
	defer g.release()
	return g.delete(ctx, id)
}

// delete removes a container with its shim, or what is left of one without.
func (g *group) delete(ctx context.Context, id string) error {
	client, err := g.connect(ctx)
	if errors.Is(err, errHung) {
		if err := g.endHung(ctx); err != nil {
			return err
		}
		client, err = g.connect(ctx)
	}
	if err == nil {
		var reply shimrpc.DeleteReply
		err = ask(ctx, client, shimrpc.MethodDelete, shimrpc.IDRequest{ID: id}, &reply)
		if errors.Is(err, errHung) {
			if err := g.endHung(ctx); err != nil {
				return err
			}
			err = shimrpc.ErrDisconnected
		}
		switch {
		case err == nil && reply.Last:
			return g.finish(ctx)
		case err == nil:
			return nil
		case errors.Is(err, shimrpc.ErrDisconnected):
			<-client.Done()
			if _, err := g.connect(ctx); err != nil && (!errors.Is(err, errNoShim) || !onlyNoShim(err)) {
				return err
			}
		case !errors.Is(err, runtime.ErrNotFound):
			return fmt.Errorf("delete container %s: %w", id, err)
		}
	} else if !errors.Is(err, errNoShim) || !onlyNoShim(err) {
		return err
	}
	// No shim knows it: it was lost, or left by one that died.
	path := shimrpc.Cgroup(g.r.opts.Node, g.name, id)
	if err := g.r.layout.Kill(ctx, path); err != nil {
		return err
	}
	if err := g.r.layout.Remove(ctx, path); err != nil {
		return err
	}
	if err := shimrpc.RemoveRecord(g.r.opts.StateDir, id); err != nil {
		return err
	}
	if client := g.living(); client != nil && client.Call(ctx, shimrpc.MethodShutdown, struct{}{}, nil) == nil {
		return g.finish(ctx) // it had no other
	}
	return nil
}

// OpenSpool implements runtime.Runtime.
func (r *Runtime) OpenSpool(_ context.Context, id string) (runtime.Spool, error) {
	if !shimrpc.ValidID(id) {
		return nil, fmt.Errorf("container id %q: %w", id, runtime.ErrNotFound)
	}
	over := func() bool {
		_, err := shimrpc.ReadRecord(r.opts.StateDir, id)
		return errors.Is(err, runtime.ErrNotFound)
	}
	s, err := spool.Open(shimrpc.SpoolDir(r.opts.StateDir, id), r.watcher, over)
	if err != nil {
		return nil, fmt.Errorf("open the output of container %s: %w", id, err)
	}
	return s, nil
}

// RemoveSpool implements runtime.Runtime.
func (r *Runtime) RemoveSpool(_ context.Context, id string) error {
	if !shimrpc.ValidID(id) {
		return nil
	}
	if err := os.RemoveAll(shimrpc.SpoolDir(r.opts.StateDir, id)); err != nil {
		return fmt.Errorf("remove the output of container %s: %w", id, err)
	}
	return nil
}
