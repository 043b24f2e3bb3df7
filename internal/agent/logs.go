package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/runtime"
)

// logSet counts the outputs that are being carried.
type logSet struct {
	mu     sync.Mutex
	active int
	empty  chan struct{} // closed when active falls to zero
}

func (l *logSet) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == 0 {
		l.empty = make(chan struct{})
	}
	l.active++
}

func (l *logSet) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active--; l.active == 0 {
		close(l.empty)
	}
}

func (l *logSet) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active == 0
}

// wait returns when all output is delivered, limit has passed or ctx ends.
func (l *logSet) wait(ctx context.Context, limit time.Duration) {
	l.mu.Lock()
	empty, active := l.empty, l.active
	l.mu.Unlock()
	if active == 0 {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// driver makes the log driver of container i's present run.
func (w *worker) driver(r *record, i int, config acs.LogConfig) (LogDriver, error) {
	return w.logs.Driver(config, logdriver.Container{
		ID: r.runtimeID(i), Name: r.Containers[i].Name, TaskID: r.ID, Fargate: r.Task.LaunchType == "FARGATE",
	}, w.executionRole(r, i))
}

// carryLogs carries the output of container i's present run until it ends. What
// cannot be delivered, ever, is reported and given up.
func (w *worker) carryLogs(ctx context.Context, r *record, i int) {
	id := r.runtimeID(i)
	_, host, err := r.Task.Containers[i].DockerConfig.Parse()
	if err != nil {
		return // the container was never created
	}
	driver, err := w.driver(r, i, host.LogConfig)
	if err != nil {
		return
	}
	spool, err := w.runtime.OpenSpool(ctx, id)
	if err != nil {
		if !errors.Is(err, runtime.ErrNotFound) {
			w.log.Error("a container's output could not be opened", "container", id, "error", err)
		}
		return
	}
	w.carried.add()
	w.beside(ctx, func(ctx context.Context) event {
		defer w.carried.done()
		defer spool.Close()
		err := driver.Run(ctx, spool)
		if err != nil && ctx.Err() == nil {
			w.log.Error("a container's output cannot be delivered and is dropped", "container", id, "driver", host.LogConfig.Type, "error", err)
			err = drop(ctx, spool)
		}
		if now := w.snapshot(); err == nil && now.runtimeID(i) != id {
			// A former run's output is not needed any more, and there may be many.
			if err := w.runtime.RemoveSpool(ctx, id); err != nil {
				w.log.Error("a former run's output could not be removed", "container", id, "error", err)
			}
		}
		return func(*record) bool { return false } // look again: it may have been the last
	})
}

// drop reads output to its end and throws it away, so that the container, which
// may wait for somebody to read it, runs on.
func drop(ctx context.Context, spool runtime.Spool) error {
	cursor, err := spool.Acked()
	for err == nil {
		var chunk runtime.Chunk
		if chunk, err = spool.Next(ctx, cursor); err == nil {
			cursor = chunk.Cursor
			err = spool.Ack(cursor)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// carryFormerLogs carries on what an earlier agent had not delivered.
func (w *worker) carryFormerLogs(ctx context.Context, i int) {
	if w.record.Containers[i].StartedAt.IsZero() && w.record.Containers[i].Starts == 0 {
		return
	}
	run := w.record.clone()
	for n := range w.record.Containers[i].Starts + 1 {
		run.Containers[i].Starts = n
		w.carryLogs(ctx, run.clone(), i)
	}
}

// dropOutput removes the spools of all runs.
func (w *worker) dropOutput(ctx context.Context) error {
	var errs []error
	run := w.record.clone()
	for i := range run.Containers {
		for n := range w.record.Containers[i].Starts + 1 {
			run.Containers[i].Starts = n
			errs = append(errs, w.runtime.RemoveSpool(ctx, run.runtimeID(i)))
		}
	}
	return errors.Join(errs...)
}
