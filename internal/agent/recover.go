package agent

import (
	"context"
	"fmt"

	"longshore.dev/longshore/internal/runtime"
)

// readRecords returns the tasks on disk. A record that cannot be read costs its
// task, and no other; one whose task runs without its network ends that.
func (e *engine) readRecords(ctx context.Context) ([]*record, error) {
	records, damaged, err := e.db.tasks()
	if err != nil {
		return nil, err
	}
	for _, id := range damaged {
		e.log.Error("the record of a task is damaged; what is left of the task is removed, and the control plane will hear that it was lost", "task", id)
	}
	if len(damaged) > 0 {
		if err := e.db.deleteTasks(damaged); err != nil {
			return nil, fmt.Errorf("remove damaged records of tasks: %w", err)
		}
	}
	return records, e.noteLostNetworks(ctx, records)
}

// noteLostNetworks ends tasks that run and whose network is gone: its record was
// damaged, or somebody removed it. They would run on unheard.
func (e *engine) noteLostNetworks(ctx context.Context, records []*record) error {
	sandboxes, err := e.networks.Sandboxes(ctx)
	if err != nil {
		return fmt.Errorf("list the tasks' networks: %w", err)
	}
	there := make(map[string]bool, len(sandboxes))
	for _, s := range sandboxes {
		there[s.ID] = true
	}
	for _, r := range records {
		if r.FinishedAt.IsZero() && !r.stopping() && e.lostNetwork(ctx, r, there) {
			r.Failure = "ContainerRuntimeError: the task's network was lost"
			if err := e.db.putTask(r); err != nil {
				return fmt.Errorf("record the end of task %s: %w", r.ID, err)
			}
		}
	}
	return nil
}

// lostNetwork tells whether a container of the task runs without its sandbox.
func (e *engine) lostNetwork(ctx context.Context, r *record, there map[string]bool) bool {
	for i := range r.Containers {
		if r.Containers[i].Status != StatusRunning || there[r.sandboxID(i)] {
			continue
		}
		if status, err := e.runtime.Status(ctx, r.runtimeID(i)); err == nil && status.Phase == runtime.PhaseRunning {
			return true
		}
	}
	return false
}
