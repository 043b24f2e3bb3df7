package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// keepFinished is how long a finished task is remembered.
const keepFinished = 3 * time.Hour

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
	finished map[string]time.Time
	// metadata finds containers by the ids in their metadata URLs.
	metadata map[string]metadataOf
	// draining: the node takes no more tasks.
	draining bool
	// idle is closed and replaced whenever a worker ends.
	idle chan struct{}
}

// metadataOf is the container that a metadata URL names.
type metadataOf struct {
	worker *worker
	index  int
}

func newEngine(p parts, onHealth func()) *engine {
	return &engine{
		parts: p, onHealth: onHealth, workers: map[string]*worker{}, finished: map[string]time.Time{},
		metadata: map[string]metadataOf{}, idle: make(chan struct{}),
	}
}

// start takes up the tasks on disk, and removes what belongs to none of them.
func (e *engine) start(ctx context.Context) error {
	e.ctx = ctx
	records, err := e.db.tasks()
	if err != nil {
		return err
	}
	e.mu.Lock()
	for _, r := range records {
		if r.FinishedAt.IsZero() {
			e.launch(r)
		} else {
			e.finished[r.ID] = r.FinishedAt
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
	for i := range w.record.Containers {
		delete(e.metadata, w.record.Containers[i].MetadataID)
	}
	e.finished[id] = now
	close(e.idle)
	e.idle = make(chan struct{})
	return nil
}

// errDraining refuses tasks while the node stops its own.
var errDraining = errors.New("this node is stopping its tasks")

// accept takes a task of a payload. When it returns nil, the task is on disk and
// may be acknowledged; a task that is known already only learns what is desired.
func (e *engine) accept(ctx context.Context, task acs.Task) error {
	id := taskID(task.ARN)
	if !validTaskID(id) {
		return fmt.Errorf("task ARN %q does not end in a task id", task.ARN)
	}
	stop := task.DesiredStatus == acs.DesiredStopped
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, done := e.finished[id]; done {
		return nil
	}
	if w := e.workers[id]; w != nil {
		if stop {
			e.group.Go(func() { w.requestStop(e.ctx) })
		}
		return nil
	}
	if e.draining && !stop {
		return errDraining
	}
	r := newRecord(task, e.now(), e.newID)
	r.StopRequested = stop
	if !stop && len(task.Containers) == 0 {
		r.Failure = "the task came without containers"
	}
	if err := e.db.putTask(r); err != nil {
		return fmt.Errorf("record task %s: %w", id, err)
	}
	e.launch(r)
	return nil
}

// validTaskID keeps ids within what file names, cgroups and links can hold.
func validTaskID(id string) bool {
	return id != "" && len(id) <= 40 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// compare holds a manifest against what the node runs: it returns the tasks that
// the manifest lacks, and reports as ended those that the node has lost.
func (e *engine) compare(ctx context.Context, m *acs.Manifest) []acs.ManifestTask {
	wanted := map[string]bool{}
	for _, t := range m.Tasks {
		if t.DesiredStatus == acs.DesiredRunning {
			wanted[taskID(t.TaskARN)] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var extra []acs.ManifestTask
	for id, w := range e.workers {
		r := w.snapshot()
		if !wanted[id] && !r.stopping() {
			extra = append(extra, acs.ManifestTask{TaskARN: r.Task.ARN, TaskClusterARN: r.Task.TaskClusterARN, DesiredStatus: acs.DesiredStopped})
		}
	}
	for _, t := range m.Tasks {
		id := taskID(t.TaskARN)
		if !wanted[id] || e.workers[id] != nil || !validTaskID(id) {
			continue
		}
		r := newRecord(acs.Task{ARN: t.TaskARN, TaskClusterARN: t.TaskClusterARN}, e.now(), e.newID)
		r.Failure = "the task's container instance lost its records: the task is not running there"
		if err := e.db.putTask(r); err != nil {
			e.log.Error("a lost task could not be recorded", "task", id, "error", err)
			continue
		}
		e.launch(r)
	}
	return extra
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
	for id, at := range e.finished {
		if e.now().Sub(at) > keepFinished {
			if err := e.db.deleteTask(id); err != nil {
				e.log.Error("a finished task's record could not be removed", "task", id, "error", err)
				continue
			}
			delete(e.finished, id)
		}
	}
}
