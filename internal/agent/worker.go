package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// event changes a record. Events run one at a time on the worker's goroutine;
// one that returns true is on disk before anything follows from it, but for the
// news that the task runs, which is on its way meanwhile.
type event func(r *record) (durable bool)

// submitting is the busy index of a submission to the control plane.
const submitting = -2

// worker drives one task. Its goroutine alone writes the record; steps run beside
// it and come back as events.
type worker struct {
	parts
	// onHealth tells the telemetry session that a container's health changed.
	onHealth func()

	mu     sync.RWMutex
	record *record

	events chan event
	// steps holds the cancel function of what is being done, by container index.
	steps   map[int]running
	carried logSet
	// holding is held while the holder of shared namespaces is made.
	holding sync.Mutex
	// over is closed when run has returned.
	over  chan struct{}
	group sync.WaitGroup
	// dirty is set while the record on disk is behind.
	dirty bool
	// follow watches container i, and carries its output, from its start on.
	follow func(i int)
}

type running struct {
	step   step
	cancel context.CancelFunc
}

func newWorker(p parts, r *record, onHealth func()) *worker {
	return &worker{parts: p, record: r, onHealth: onHealth, events: make(chan event, 16), steps: map[int]running{}, over: make(chan struct{})}
}

// snapshot returns a copy of the record for other goroutines.
func (w *worker) snapshot() *record {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.record.clone()
}

// requestStop asks the worker to stop the task.
func (w *worker) requestStop(ctx context.Context) {
	w.post(ctx, func(r *record) bool {
		changed := !r.StopRequested
		r.StopRequested = true
		return changed
	})
}

func (w *worker) post(ctx context.Context, e event) {
	select {
	case w.events <- e:
	case <-w.over:
	case <-ctx.Done():
	}
}

// run drives the task until nothing is left of it (true), or ctx ends: then
// containers run on, and a later run with the same record adopts them.
func (w *worker) run(ctx context.Context) (finished bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.group.Wait()
	defer cancel()
	defer close(w.over)
	w.follow = func(i int) {
		w.watch(ctx, i)
		w.carryLogs(ctx, w.record, i)
	}
	w.adopt(ctx)
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		if !w.dirty {
			if w.finished() {
				return true
			}
			w.advance(ctx)
		}
		select {
		case e := <-w.events:
			w.apply(e)
			w.announce(ctx)
		case <-retry.C:
		case <-ctx.Done():
			return false
		}
		if (w.dirty && !w.save()) || w.record.waiting() {
			retry.Reset(time.Second)
		}
	}
}

func (w *worker) apply(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e(w.record) {
		w.dirty = true
	}
	if !w.record.Ran && w.record.allStarted() {
		w.record.Ran, w.dirty = true, true
	}
}

// save writes the record; while that fails the task does not move.
func (w *worker) save() bool {
	if err := w.db.putTask(w.record); err != nil {
		w.log.Error("the task's record could not be written; trying again", "task", w.record.ID, "error", err)
		return false
	}
	w.dirty = false
	return true
}

// finished tells whether the control plane knows the end and all output is delivered.
func (w *worker) finished() bool {
	return w.record.SentStopped && w.record.Released && w.carried.drained() && len(w.steps) == 0
}

// advance starts whatever can be done now.
func (w *worker) advance(ctx context.Context) {
	if w.record.stopping() {
		for _, s := range w.steps {
			if s.step == stepPull || s.step == stepCreate {
				s.cancel()
			}
		}
	} else if err := w.impossible(); err != nil {
		w.apply(func(r *record) bool { r.Failure = err.Error(); return true })
		if !w.save() {
			return
		}
	}
	for _, a := range decide(w.record, func(i int) bool { _, busy := w.steps[i]; return busy }) {
		w.start(ctx, a.step, a.index, w.perform(a))
	}
	w.tellNext(ctx)
}

// announce tells that the task runs before that is on disk. An agent that is killed
// in between starts what it had started again, which changes nothing, and tells it
// again.
func (w *worker) announce(ctx context.Context) {
	if w.dirty && w.record.Ran && !w.record.SentRunning && !w.record.stopping() {
		w.tellNext(ctx)
	}
}

// tellNext submits what the control plane does not know yet, one thing at a time.
func (w *worker) tellNext(ctx context.Context) {
	if _, busy := w.steps[submitting]; busy {
		return
	}
	if s := nextSubmission(w.record); s != nil {
		w.start(ctx, "submit", submitting, func(ctx context.Context) event { return w.submit(ctx, s) })
	}
}

// impossible returns why a container can never start.
func (w *worker) impossible() error {
	for i := range w.record.Containers {
		if w.record.Containers[i].Status == StatusPulled {
			if err := dependenciesHopeless(w.record, i, w.now()); err != nil {
				return err
			}
		}
	}
	return nil
}

// start runs one step beside the worker; its event also marks the step as done.
func (w *worker) start(ctx context.Context, s step, index int, do func(context.Context) event) {
	stepCtx, cancel := context.WithCancel(ctx)
	w.steps[index] = running{s, cancel}
	w.group.Go(func() {
		defer cancel()
		e := do(stepCtx)
		w.post(ctx, func(r *record) bool {
			delete(w.steps, index)
			return e != nil && e(r)
		})
	})
}

// beside runs something that lives as long as a container, and posts its event.
func (w *worker) beside(ctx context.Context, do func(context.Context) event) {
	w.group.Go(func() {
		if e := do(ctx); e != nil {
			w.post(ctx, e)
		}
	})
}

// adopt takes up what a former agent left: containers that run are watched
// again, those that are gone have ended, unread output is carried on.
func (w *worker) adopt(ctx context.Context) {
	r := w.record
	for i := range r.Containers {
		w.carryFormerLogs(ctx, i)
		if r.Containers[i].Status != StatusRunning {
			continue
		}
		if _, err := w.runtime.Status(ctx, r.runtimeID(i)); errors.Is(err, runtime.ErrNotFound) {
			w.apply(exited(i, runtime.Exit{Code: 137, Lost: true, At: w.now()}))
			continue
		}
		w.watch(ctx, i)
	}
	if w.dirty {
		w.save()
	}
}

// watch waits for a running container's exit and checks its health.
func (w *worker) watch(ctx context.Context, i int) {
	id := w.record.runtimeID(i)
	alive, cancel := context.WithCancel(ctx)
	w.beside(ctx, func(ctx context.Context) event {
		defer cancel()
		retry := newBackoff(10 * time.Second)
		for {
			exit, err := w.runtime.Wait(ctx, id)
			switch {
			case err == nil:
				return exited(i, exit)
			case errors.Is(err, runtime.ErrNotFound):
				return exited(i, runtime.Exit{Code: 137, Lost: true, At: w.now()})
			}
			if !retry.sleep(ctx) {
				return nil
			}
		}
	})
	if check := healthCheckOf(&w.record.Task.Containers[i]); check != nil {
		w.beside(alive, func(ctx context.Context) event { w.checkHealth(ctx, i, id, check); return nil })
	}
}

// exited records a container's end, once for each start, or its restart.
func exited(i int, exit runtime.Exit) event {
	return func(r *record) bool {
		c := &r.Containers[i]
		if c.Status == StatusStopped || c.Status.before(StatusRunning) {
			return false
		}
		c.Exit = &exit
		if shouldRestart(r, i) {
			c.Status, c.Health = StatusPulled, HealthUnknown
			c.Starts++
			return true
		}
		c.Status = StatusStopped
		switch {
		case exit.OOMKilled:
			c.Reason = "OutOfMemoryError: Container killed due to memory usage"
		case exit.Lost:
			c.Reason = "ContainerRuntimeError: the container was lost: its process or its node ended without reporting an exit code"
		}
		if r.ExecutionStoppedAt.IsZero() && r.stopping() {
			r.ExecutionStoppedAt = exit.At
		}
		return true
	}
}
