package ecs

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The statuses of a task, in the order in which it passes them. It may skip
// some, and never goes back.
const (
	taskProvisioning   = "PROVISIONING"
	taskPending        = "PENDING"
	taskActivating     = "ACTIVATING"
	taskRunning        = "RUNNING"
	taskDeactivating   = "DEACTIVATING"
	taskStopping       = "STOPPING"
	taskDeprovisioning = "DEPROVISIONING"
	taskStopped        = "STOPPED"
)

var taskOrder = []string{
	taskProvisioning, taskPending, taskActivating, taskRunning,
	taskDeactivating, taskStopping, taskDeprovisioning, taskStopped,
}

// containerOrder are the statuses of a container. PULLED and
// RESOURCES_PROVISIONED may come from agents; they are shown as PENDING.
var containerOrder = []string{taskPending, taskRunning, taskStopped}

// Statuses of an attachment, in order.
const (
	attachmentPrecreated = "PRECREATED"
	attachmentAttached   = "ATTACHED"
	attachmentDeleted    = "DELETED"
)

var attachmentOrder = []string{attachmentPrecreated, "CREATED", "ATTACHING", attachmentAttached, "DETACHING", "DETACHED", attachmentDeleted}

// forward moves *status to next if next comes later in order. Unknown statuses
// move nothing.
func forward(order []string, status *string, next string) bool {
	from, to := slices.Index(order, *status), slices.Index(order, next)
	if to < 0 || to <= from {
		return false
	}
	*status = next
	return true
}

// advance moves the task's lastStatus forward and stamps the moment. It is the
// only place that writes LastStatus. It reports whether anything moved.
func (t *Task) advance(status string, now time.Time) bool {
	if !forward(taskOrder, &t.LastStatus, status) {
		return false
	}
	stamp := func(at *time.Time) {
		if at.IsZero() {
			*at = now
		}
	}
	switch status {
	case taskRunning:
		stamp(&t.StartedAt)
	case taskStopping, taskDeprovisioning:
		stamp(&t.StoppingAt)
	case taskStopped:
		stamp(&t.StoppingAt)
		stamp(&t.StoppedAt)
		t.DesiredStatus = taskStopped
		for i := range t.Containers {
			forward(containerOrder, &t.Containers[i].LastStatus, taskStopped)
		}
		if t.ENI != nil {
			forward(attachmentOrder, &t.ENI.Status, attachmentDeleted)
		}
	}
	return true
}

// requestStop asks for the task's stop. The first request's code and reason stay.
func (t *Task) requestStop(code types.TaskStopCode, reason string, now time.Time) bool {
	if t.DesiredStatus == taskStopped {
		return false
	}
	t.DesiredStatus, t.StopCode, t.StoppedReason = taskStopped, code, reason
	if t.StoppingAt.IsZero() {
		t.StoppingAt = now
	}
	if t.serves() {
		t.advance(taskDeactivating, now) // its agent stops it when its targets have drained
	}
	return true
}

// stopNow ends a task whose node is given up: nobody will report on it any more.
func (t *Task) stopNow(code types.TaskStopCode, reason string, now time.Time) {
	t.requestStop(code, reason, now)
	if t.advance(taskStopped, now) {
		t.Version++
	}
}

// report is what an agent says of a task.
type report struct {
	// Status is RUNNING, STOPPED or empty.
	Status             string
	Reason             string
	Containers         []types.ContainerStateChange
	Attachments        []types.AttachmentStateChange
	PullStartedAt      *time.Time
	PullStoppedAt      *time.Time
	ExecutionStoppedAt *time.Time
}

// apply takes a report in: late, repeated and reordered reports change nothing
// that is already known. It reports whether anything changed.
func (t *Task) apply(r report, now time.Time) bool {
	if t.LastStatus == taskStopped {
		return false
	}
	changed := t.applyAttachments(r.Attachments, now)
	changed = once(&t.PullStartedAt, r.PullStartedAt) || changed
	changed = once(&t.PullStoppedAt, r.PullStoppedAt) || changed
	for i := range r.Containers {
		changed = t.applyContainer(&r.Containers[i]) || changed
	}
	if t.ran() && r.Status == taskStopped && t.StartedAt.IsZero() && r.Reason == "" {
		// It ran and ended between two reports.
		changed = t.advance(taskRunning, now) || changed
	}
	switch r.Status {
	case taskRunning:
		changed = t.advance(taskRunning, now) || changed
		if t.ENI != nil {
			changed = forward(attachmentOrder, &t.ENI.Status, attachmentAttached) || changed
		}
	case taskStopped:
		once(&t.ExecutionStoppedAt, r.ExecutionStoppedAt)
		if t.DesiredStatus != taskStopped {
			code, reason := t.conclusion(r.Reason)
			t.requestStop(code, reason, now)
		}
		changed = t.advance(taskStopped, now) || changed
	default:
		changed = once(&t.ExecutionStoppedAt, r.ExecutionStoppedAt) || changed
		changed = t.essentialExited(now) || changed
	}
	if changed {
		t.Version++
	}
	return changed
}

func once(field *time.Time, v *time.Time) bool {
	if v == nil || v.IsZero() || !field.IsZero() {
		return false
	}
	*field = v.UTC()
	return true
}

func (t *Task) applyAttachments(changes []types.AttachmentStateChange, now time.Time) (changed bool) {
	if t.ENI == nil {
		return false
	}
	for _, a := range changes {
		if attachmentID(deref(a.AttachmentArn)) == t.ENI.AttachmentID {
			changed = forward(attachmentOrder, &t.ENI.Status, deref(a.Status)) || changed
		}
	}
	if changed && t.ENI.Status == attachmentAttached {
		t.advance(taskPending, now)
	}
	return changed
}

// applyContainer takes one container's report in. What a stopped container was
// reported with stays; details of a running one may be completed.
func (t *Task) applyContainer(c *types.ContainerStateChange) bool {
	i := slices.IndexFunc(t.Containers, func(k TaskContainer) bool { return k.Name == deref(c.ContainerName) })
	if i < 0 {
		return false
	}
	k := &t.Containers[i]
	if k.LastStatus == taskStopped && k.ExitCode != nil {
		return false
	}
	changed := forward(containerOrder, &k.LastStatus, deref(c.Status))
	fill := func(field *string, v *string) {
		if *field == "" && deref(v) != "" {
			*field, changed = *v, true
		}
	}
	fill(&k.RuntimeID, c.RuntimeId)
	fill(&k.ImageDigest, c.ImageDigest)
	fill(&k.Reason, c.Reason)
	if len(k.NetworkBindings) == 0 && len(c.NetworkBindings) > 0 {
		k.NetworkBindings, changed = c.NetworkBindings, true
	}
	if k.ExitCode == nil && c.ExitCode != nil && deref(c.Status) == taskStopped {
		code := *c.ExitCode
		k.ExitCode, changed = &code, true
	}
	return changed
}

// ran tells whether a container of the task ever ran.
func (t *Task) ran() bool {
	return slices.ContainsFunc(t.Containers, func(c TaskContainer) bool {
		return c.ExitCode != nil || c.LastStatus == taskRunning
	})
}

// essentialExited wants the rest of a task stopped once an essential container
// has ended; the agent does so by itself.
func (t *Task) essentialExited(now time.Time) bool {
	for _, c := range t.Containers {
		if c.Essential && c.LastStatus == taskStopped && t.DesiredStatus != taskStopped {
			code, reason := t.conclusion("")
			return t.requestStop(code, reason, now)
		}
	}
	return false
}

// conclusion says why a task that nobody asked to stop has stopped.
func (t *Task) conclusion(agentReason string) (types.TaskStopCode, string) {
	if agentReason != "" && t.StartedAt.IsZero() {
		return types.TaskStopCodeTaskFailedToStart, agentReason // though some of its containers may have run
	}
	if agentReason != "" {
		return types.TaskStopCodeEssentialContainerExited, agentReason // the agent knows better than the rule
	}
	if !t.StartedAt.IsZero() || t.ran() {
		return types.TaskStopCodeEssentialContainerExited, "Essential container in task exited"
	}
	for _, c := range t.Containers {
		if c.Reason != "" {
			return types.TaskStopCodeTaskFailedToStart, c.Reason
		}
	}
	return types.TaskStopCodeTaskFailedToStart, "Task failed to start"
}

// setHealth takes the containers' health in and derives the task's: UNHEALTHY if
// an essential container is, HEALTHY if all essential ones with a check are.
func (t *Task) setHealth(byName map[string]types.HealthStatus) bool {
	changed, checked, healthy, unhealthy := false, 0, 0, 0
	for i := range t.Containers {
		c := &t.Containers[i]
		if h, ok := byName[c.Name]; ok && c.Health != "" && h != c.Health {
			c.Health, changed = h, true
		}
		if c.Health == "" || !c.Essential {
			continue
		}
		checked++
		switch c.Health {
		case types.HealthStatusHealthy:
			healthy++
		case types.HealthStatusUnhealthy:
			unhealthy++
		}
	}
	overall := types.HealthStatusUnknown
	switch {
	case unhealthy > 0:
		overall = types.HealthStatusUnhealthy
	case checked > 0 && healthy == checked:
		overall = types.HealthStatusHealthy
	}
	if t.Health != overall {
		t.Health, changed = overall, true
	}
	if changed {
		t.Version++
	}
	return changed
}
