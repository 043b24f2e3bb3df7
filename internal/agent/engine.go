package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// sweepEvery is how often the node looks for what belongs to no task, sweepFirst
// how long a start waits for that.
const (
	sweepEvery = 5 * time.Minute
	sweepFirst = 10 * time.Second
)

// engine holds the node's tasks: a worker for each that is not finished.
type engine struct {
	parts
	onHealth func()

	ctx   context.Context // ends with the engine; workers run under it
	group sync.WaitGroup

	mu       sync.Mutex
	workers  map[string]*worker // by task id
	finished *finished
	// asking are the tasks that are being asked to stop.
	asking map[string]bool
	// metadata finds containers by the ids in their metadata URLs.
	metadata map[string]metadataOf
	// refused are the tasks that the node was given and could not take: the control
	// plane sends them again.
	refused map[string]bool
	// draining: the node takes no more tasks.
	draining bool
	// idle is closed and replaced whenever a worker ends.
	idle chan struct{}

	// capacity is what the node registers with; zero: not known.
	capacity Resources
	// attaching bounds the attachments that are being confirmed.
	attaching chan struct{}
}

// metadataOf is the container that a metadata URL names.
type metadataOf struct {
	worker *worker
	index  int
}

func newEngine(p parts, onHealth func()) *engine {
	p.submitting = make(chan struct{}, maxSubmitting)
	p.vault = newVault(p.now)
	return &engine{
		parts: p, onHealth: onHealth, workers: map[string]*worker{}, finished: newFinished(), asking: map[string]bool{},
		metadata: map[string]metadataOf{}, refused: map[string]bool{}, idle: make(chan struct{}), attaching: make(chan struct{}, maxAttaching),
	}
}

// start takes up the tasks on disk, and removes what belongs to none of them.
func (e *engine) start(ctx context.Context) error {
	e.ctx = ctx
	records, err := e.readRecords(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(records, func(a, b *record) int { return a.FinishedAt.Compare(b.FinishedAt) })
	e.mu.Lock()
	for _, r := range records {
		if r.FinishedAt.IsZero() {
			e.launch(r)
		} else {
			e.finished.add(r.ID, r.FinishedAt)
		}
	}
	e.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, sweepFirst)
	defer cancel()
	e.sweep(limited)
	e.group.Go(func() { e.sweepLoop(ctx) })
	e.group.Go(func() { e.cleanLoop(ctx) })
	return nil
}

// wait returns when every worker has ended, after ctx of start has.
func (e *engine) wait() { e.group.Wait() }

// launch starts a worker; e.mu is held.
func (e *engine) launch(r *record) {
	w := newWorker(e.parts, r, e.onHealth)
	e.workers[r.ID] = w
	e.vault.expect(r)
	for i := range r.Containers {
		e.metadata[r.Containers[i].MetadataID] = metadataOf{w, i}
	}
	e.group.Go(func() {
		if !w.run(e.ctx) {
			return
		}
		for retry := newBackoff(time.Minute); ; {
			err := e.finish(w)
			if err == nil {
				return
			}
			e.log.Error("a finished task could not be forgotten; trying again", "task", r.ID, "error", err)
			if !retry.sleep(e.ctx) {
				return
			}
		}
	})
}

// finish forgets a task of which nothing is left but its output.
func (e *engine) finish(w *worker) error {
	id, now := w.record.ID, e.now()
	if err := w.dropOutput(e.ctx); err != nil {
		return fmt.Errorf("remove its output: %w", err)
	}
	if err := e.db.putTask(&record{ID: id, Task: acs.Task{ARN: w.record.Task.ARN}, FinishedAt: now}); err != nil {
		return fmt.Errorf("record its end: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.workers, id)
	e.vault.drop(id, acs.RoleTask, acs.RoleExecution)
	for i := range w.record.Containers {
		delete(e.metadata, w.record.Containers[i].MetadataID)
	}
	e.finished.add(id, now)
	close(e.idle)
	e.idle = make(chan struct{})
	return nil
}

// stopAll asks every task to stop, takes no more, and waits until all are gone
// and reported.
func (e *engine) stopAll(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	for _, w := range e.workers {
		e.group.Go(func() { w.requestStop(e.ctx) })
	}
	e.mu.Unlock()
	for {
		e.mu.Lock()
		left, idle := len(e.workers), e.idle
		e.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("%d tasks have not stopped yet: %w", left, ctx.Err())
		}
	}
}

// records returns copies of all tasks' records.
func (e *engine) records() []*record {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*record, 0, len(e.workers))
	for _, w := range e.workers {
		all = append(all, w.snapshot())
	}
	return all
}

// byMetadataID finds the container that a metadata URL names.
func (e *engine) byMetadataID(id string) (*record, int, bool) {
	e.mu.Lock()
	found, ok := e.metadata[id]
	e.mu.Unlock()
	if !ok {
		return nil, 0, false
	}
	return found.worker.snapshot(), found.index, true
}

func (e *engine) hasMetadataID(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.metadata[id]
	return ok
}

func (e *engine) sweepLoop(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		e.forget()
		e.sweep(ctx)
	}
}

// forget drops the memory of tasks that finished long ago.
func (e *engine) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := slices.DeleteFunc(e.finished.takeOld(e.now()), func(id string) bool { return e.workers[id] != nil })
	if len(old) == 0 {
		return
	}
	if err := e.db.deleteTasks(old); err != nil {
		e.log.Error("finished tasks' records could not be removed; they go at the agent's next start", "tasks", len(old), "error", err)
	}
}
