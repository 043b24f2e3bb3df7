package agent

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"longshore.dev/longshore/internal/acs"
)

func itoa(n int) string { return strconv.Itoa(n) }

// step is one thing that a worker does to one container.
type step string

// The steps of a container's life, and the last one of the task's.
const (
	stepPull    step = "pull"
	stepCreate  step = "create"
	stepStart   step = "start"
	stepStop    step = "stop"
	stepDiscard step = "discard"
	stepRelease step = "release" // of the whole task
)

// action is a step and the container's index (-1: the task).
type action struct {
	step  step
	index int
}

// decide returns what can be done now to bring the task forward, given what is
// being done already. It looks at nothing but the record.
func decide(r *record, busy func(index int) bool) []action {
	if r.stopping() {
		return decideStop(r, busy)
	}
	var actions []action
	for i := range r.Containers {
		c := &r.Containers[i]
		if busy(i) {
			continue
		}
		switch c.Status {
		case StatusNone:
			actions = append(actions, action{stepPull, i})
		case StatusPulled:
			if ready, _ := dependenciesMet(r, i); ready {
				actions = append(actions, action{stepCreate, i})
			}
		case StatusCreated:
			actions = append(actions, action{stepStart, i})
		}
	}
	return actions
}

// decideStop stops containers before those that they depend on, and releases
// the task's resources when all have stopped.
func decideStop(r *record, busy func(index int) bool) []action {
	var actions []action
	all := true
	for i := range r.Containers {
		c := &r.Containers[i]
		if c.Status == StatusStopped {
			continue
		}
		all = false
		if busy(i) || dependentRuns(r, i) {
			continue
		}
		if c.Status == StatusRunning {
			actions = append(actions, action{stepStop, i})
		} else {
			actions = append(actions, action{stepDiscard, i})
		}
	}
	if all && !r.Released && !busy(-1) {
		actions = append(actions, action{stepRelease, -1})
	}
	return actions
}

// stopping tells whether the task is on its way down.
func (r *record) stopping() bool {
	if r.StopRequested || r.Failure != "" {
		return true
	}
	alive := false
	for i := range r.Containers {
		stopped := r.Containers[i].Status == StatusStopped
		if stopped && r.Task.Containers[i].Essential {
			return true
		}
		alive = alive || !stopped
	}
	return !alive
}

// status is the task's own: RUNNING when every container has started (and none
// that is essential has ended), STOPPED when nothing of it is left.
func (r *record) status() Status {
	switch {
	case r.Released:
		return StatusStopped
	case r.Ran:
		return StatusRunning
	default:
		return StatusPending
	}
}

// allStarted tells whether every container is running or has ended after a
// start; one that is not essential may also have failed to start. A task without
// containers, known only to be stopped, never started.
func (r *record) allStarted() bool {
	if len(r.Containers) == 0 {
		return false
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		ended := c.Status == StatusStopped && (!c.StartedAt.IsZero() || !r.Task.Containers[i].Essential)
		if c.Status != StatusRunning && !ended {
			return false
		}
	}
	return true
}

// waiting tells whether a container waits for others, so that time matters.
func (r *record) waiting() bool {
	for i := range r.Containers {
		if r.Containers[i].Status == StatusPulled && len(dependencies(&r.Task.Containers[i])) > 0 {
			return true
		}
	}
	return false
}

// dependenciesHopeless returns why container i can't start any more: a dependency
// ended in the wrong way, or did not get there within its start timeout.
func dependenciesHopeless(r *record, i int, now time.Time) error {
	met, err := dependenciesMet(r, i)
	if err != nil || met {
		return err
	}
	for _, d := range dependencies(&r.Task.Containers[i]) {
		j := r.index(d.ContainerName)
		timeout := time.Duration(r.Task.Containers[j].StartTimeout) * time.Second
		started := r.Containers[j].StartedAt
		if ok, _ := dependencyMet(&r.Containers[j], d.Condition); !ok && timeout > 0 && !started.IsZero() && now.Sub(started) > timeout {
			return fmt.Errorf("container %s can't start: its dependency %s did not reach %s within its start timeout of %s",
				r.Containers[i].Name, d.ContainerName, d.Condition, timeout)
		}
	}
	return nil
}

// dependencies of a container: dependsOn, and START on what it links to or takes
// volumes from.
func dependencies(c *acs.Container) []acs.Dependency {
	deps := slices.Clone(c.DependsOn)
	add := func(name string) {
		if !slices.ContainsFunc(deps, func(d acs.Dependency) bool { return d.ContainerName == name }) {
			deps = append(deps, acs.Dependency{ContainerName: name, Condition: "START"})
		}
	}
	for _, link := range c.Links {
		name, _ := splitLink(link)
		add(name)
	}
	for _, v := range c.VolumesFrom {
		add(v.SourceContainer)
	}
	return deps
}

// dependenciesMet tells whether container i may be created. A dependency that can
// never be met any more is an error, which ends the task.
func dependenciesMet(r *record, i int) (bool, error) {
	met := true
	for _, d := range dependencies(&r.Task.Containers[i]) {
		j := r.index(d.ContainerName)
		if j < 0 {
			return false, fmt.Errorf("container %s depends on %s, which the task does not have", r.Containers[i].Name, d.ContainerName)
		}
		ok, err := dependencyMet(&r.Containers[j], d.Condition)
		if err != nil {
			return false, fmt.Errorf("container %s can't start: %w", r.Containers[i].Name, err)
		}
		met = met && ok
	}
	return met, nil
}

func dependencyMet(dep *container, condition string) (bool, error) {
	stopped := dep.Status == StatusStopped
	switch condition {
	case "START":
		if stopped && dep.StartedAt.IsZero() {
			return false, fmt.Errorf("its dependency %s did not start", dep.Name)
		}
		return !dep.StartedAt.IsZero(), nil
	case "COMPLETE":
		return stopped, nil
	case "SUCCESS":
		if stopped && (dep.Exit == nil || dep.Exit.Code != 0) {
			return false, fmt.Errorf("its dependency %s did not exit successfully", dep.Name)
		}
		return stopped, nil
	case "HEALTHY":
		if stopped || dep.Health == HealthUnhealthy {
			return false, fmt.Errorf("its dependency %s did not become healthy", dep.Name)
		}
		return dep.Health == HealthHealthy, nil
	default:
		return false, fmt.Errorf("unknown dependency condition %q", condition)
	}
}

// dependentRuns tells whether a container that depends on i is still running, so
// that i must wait with its stop.
func dependentRuns(r *record, i int) bool {
	for j := range r.Containers {
		if r.Containers[j].Status != StatusRunning || j == i {
			continue
		}
		for _, d := range dependencies(&r.Task.Containers[j]) {
			if d.ContainerName == r.Containers[i].Name {
				return true
			}
		}
	}
	return false
}

// shouldRestart tells whether container i's restart policy starts it again.
func shouldRestart(r *record, i int) bool {
	p := r.Task.Containers[i].RestartPolicy
	c := &r.Containers[i]
	if p == nil || !p.Enabled || c.Exit == nil || r.StopRequested || r.Failure != "" {
		return false
	}
	if slices.Contains(p.IgnoredExitCodes, int64(c.Exit.Code)) {
		return false
	}
	period := p.RestartAttemptPeriod
	if period == 0 {
		period = 300
	}
	return c.Exit.At.Sub(c.StartedAt).Seconds() >= float64(period)
}
