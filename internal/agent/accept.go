package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"longshore.dev/longshore/internal/acs"
)

// maxContainers bounds a task; ECS allows ten.
const maxContainers = 100

// errDraining refuses tasks while the node stops its own.
var errDraining = errors.New("this node is stopping its tasks")

// readTask reads a task of a payload. One that is invalid comes with the reason,
// and with as much as names it.
func readTask(raw json.RawMessage) (acs.Task, error) {
	var t acs.Task
	err := json.Unmarshal(raw, &t)
	if err == nil && t.DesiredStatus != acs.DesiredStopped {
		err = checkTask(&t)
	}
	if err == nil {
		return t, nil
	}
	named := acs.Task{ARN: t.ARN, TaskClusterARN: t.TaskClusterARN, DesiredStatus: t.DesiredStatus}
	return named, fmt.Errorf("the task as it was sent to its container instance is not valid: %w", err)
}

// checkTask returns why a task can never run, and applies the overrides that came
// with its containers.
func checkTask(t *acs.Task) error {
	switch {
	case t.DesiredStatus != acs.DesiredRunning:
		return fmt.Errorf("desiredStatus %q is not known", t.DesiredStatus)
	case len(t.Containers) == 0:
		return errors.New("it has no containers")
	case len(t.Containers) > maxContainers:
		return fmt.Errorf("it has %d containers, at most %d can be run", len(t.Containers), maxContainers)
	case !(t.CPU >= 0 && t.CPU < 1<<20) || t.Memory < 0:
		return fmt.Errorf("cpu %v and memory %d are not possible", t.CPU, t.Memory)
	}
	byName := map[string]*acs.Container{}
	for i := range t.Containers {
		c := &t.Containers[i]
		if c.Name == "" || byName[c.Name] != nil {
			return fmt.Errorf("the container name %q is empty or given twice", c.Name)
		}
		byName[c.Name] = c
		if c.CPU < 0 || c.Memory < 0 {
			return fmt.Errorf("container %s: cpu %d and memory %d are not possible", c.Name, c.CPU, c.Memory)
		}
		if _, _, err := c.DockerConfig.Parse(); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
		if err := applyOverrides(c); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return checkOrder(t, byName)
}

// applyOverrides takes a container's overrides in: only its command can be one.
func applyOverrides(c *acs.Container) error {
	if c.Overrides == "" {
		return nil
	}
	var overrides struct {
		Command []string `json:"command"`
	}
	decoder := json.NewDecoder(strings.NewReader(c.Overrides))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&overrides); err != nil {
		return fmt.Errorf("overrides: %w", err)
	}
	if len(overrides.Command) > 0 {
		c.Command = overrides.Command
	}
	return nil
}

// checkOrder refuses dependencies on nothing and in a circle: neither would ever end.
func checkOrder(t *acs.Task, byName map[string]*acs.Container) error {
	const visiting, visited = 1, 2
	state := map[string]int{}
	var visit func(c *acs.Container) error
	visit = func(c *acs.Container) error {
		switch state[c.Name] {
		case visited:
			return nil
		case visiting:
			return fmt.Errorf("container %s depends on itself", c.Name)
		}
		state[c.Name] = visiting
		for _, d := range dependencies(c) {
			on := byName[d.ContainerName]
			if on == nil {
				return fmt.Errorf("container %s depends on %s, which the task does not have", c.Name, d.ContainerName)
			}
			if err := visit(on); err != nil {
				return err
			}
		}
		state[c.Name] = visited
		return nil
	}
	for i := range t.Containers {
		if err := visit(&t.Containers[i]); err != nil {
			return err
		}
	}
	return nil
}

// accept takes a task of a payload. When it returns nil, the task is on disk and
// may be acknowledged; a task that is known already only learns what is desired.
func (e *engine) accept(_ context.Context, task acs.Task) error {
	if id := taskID(task.ARN); !validTaskID(id) {
		return fmt.Errorf("task ARN %q does not end in a task id", task.ARN)
	}
	var problem error
	if task.DesiredStatus != acs.DesiredStopped {
		problem = checkTask(&task)
	}
	return e.take(task, problem)
}

// take is accept for a task that was checked. One with a problem is reported
// stopped, with the problem as its reason, unless it runs already.
func (e *engine) take(task acs.Task, problem error) error {
	id, stop := taskID(task.ARN), task.DesiredStatus == acs.DesiredStopped
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finished.has(id) {
		return nil
	}
	if w := e.workers[id]; w != nil {
		e.keepCredentials(id, &task)
		if stop {
			e.askStop(w)
		}
		return nil
	}
	if e.draining && !stop {
		e.refused[id] = true
		return errDraining
	}
	if problem == nil && !stop {
		problem = e.tooLarge(&task)
	}
	if problem != nil {
		task = acs.Task{ARN: task.ARN, TaskClusterARN: task.TaskClusterARN}
	}
	r := newRecord(task, e.now(), e.newID)
	r.StopRequested = stop
	if problem != nil {
		r.Failure = problem.Error()
	}
	if err := e.db.putTask(r); err != nil {
		e.refused[id] = true
		return fmt.Errorf("record task %s: %w", id, err)
	}
	delete(e.refused, id)
	e.keepCredentials(id, &task)
	e.launch(r)
	return nil
}

// tooLarge refuses a task that the whole node could not hold. What several tasks
// take together is the control plane's ledger alone: a task that came is run.
func (e *engine) tooLarge(t *acs.Task) error {
	cpu, memory := t.CPU*1024, t.Memory
	var ofContainers, memoryOfContainers int64
	for i := range t.Containers {
		c := &t.Containers[i]
		ofContainers += c.CPU
		reserved := c.Memory
		if _, host, err := c.DockerConfig.Parse(); err == nil && host.MemoryReservation > 0 {
			reserved = host.MemoryReservation / mib
		}
		memoryOfContainers += reserved
	}
	if cpu == 0 {
		cpu = float64(ofContainers)
	}
	if memory == 0 {
		memory = memoryOfContainers
	}
	if has := e.capacity; has.CPU > 0 && cpu > float64(has.CPU) || has.Memory > 0 && memory > has.Memory {
		return fmt.Errorf("the task is larger than its container instance: it needs %.0f CPU units and %d MiB, the instance has %d and %d",
			cpu, memory, has.CPU, has.Memory)
	}
	return nil
}

// validTaskID keeps ids within what file names, cgroups and links can hold.
func validTaskID(id string) bool {
	return id != "" && len(id) <= 40 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// askStop asks a worker to stop its task, once at a time. e.mu is held.
func (e *engine) askStop(w *worker) {
	id := w.record.ID
	if e.asking[id] {
		return
	}
	e.asking[id] = true
	e.group.Go(func() {
		w.requestStop(e.ctx)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.asking, id)
	})
}

// compare holds a manifest against what the node runs: it returns the tasks that
// the manifest lacks, and those that it names and the node does not have.
func (e *engine) compare(m *acs.Manifest) (extra, missing []acs.ManifestTask) {
	wanted := map[string]bool{}
	for _, t := range m.Tasks {
		if t.DesiredStatus == acs.DesiredRunning {
			wanted[taskID(t.TaskARN)] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, w := range e.workers {
		r := w.snapshot()
		if !wanted[id] && !r.stopping() {
			extra = append(extra, acs.ManifestTask{TaskARN: r.Task.ARN, TaskClusterARN: r.Task.TaskClusterARN, DesiredStatus: acs.DesiredStopped})
		}
	}
	for id := range e.refused {
		if !wanted[id] {
			delete(e.refused, id)
		}
	}
	for _, t := range m.Tasks {
		if id := taskID(t.TaskARN); wanted[id] && e.workers[id] == nil && validTaskID(id) {
			missing = append(missing, t)
		}
	}
	return extra, missing
}

// reportMissing reports tasks as stopped that a manifest named and that have not
// come since.
func (e *engine) reportMissing(tasks []acs.ManifestTask) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range tasks {
		id := taskID(t.TaskARN)
		if e.workers[id] != nil || e.refused[id] {
			continue
		}
		r := newRecord(acs.Task{ARN: t.TaskARN, TaskClusterARN: t.TaskClusterARN}, e.now(), e.newID)
		r.Failure = "the task's container instance lost its records: the task is not running there"
		if e.finished.has(id) {
			r.Failure = "the task had ended on its container instance"
		}
		if err := e.db.putTask(r); err != nil {
			e.log.Error("a lost task could not be recorded", "task", id, "error", err)
			continue
		}
		e.launch(r)
	}
}
