package ecs

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"
)

// event is anything that may happen to a task, in any order.
func event(t *rapid.T) report {
	pick := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	r := report{
		Status: pick("status", "", "RUNNING", "STOPPED", "PENDING", "nonsense"),
		Reason: pick("reason", "", "CannotPullContainerError: no such image"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "containers") {
		name, status := pick("container", "main", "side", "unknown"), pick("containerStatus", "PENDING", "PULLED", "RUNNING", "STOPPED")
		c := types.ContainerStateChange{ContainerName: &name, Status: &status}
		if rapid.Bool().Draw(t, "exited") {
			code := rapid.Int32Range(0, 3).Draw(t, "code")
			c.ExitCode = &code
		}
		r.Containers = append(r.Containers, c)
	}
	if rapid.Bool().Draw(t, "attachment") {
		arn, status := "arn:aws:ecs:r:a:attachment/att-1", pick("attachmentStatus", "ATTACHED", "PRECREATED", "DELETED", "x")
		r.Attachments = []types.AttachmentStateChange{{AttachmentArn: &arn, Status: &status}}
	}
	return r
}

func TestATaskNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		task := &Task{
			LastStatus: rapid.SampledFrom([]string{taskProvisioning, taskPending}).Draw(rt, "first"), DesiredStatus: taskRunning, Version: 1,
			Containers: []TaskContainer{{Name: "main", LastStatus: taskPending, Essential: true}, {Name: "side", LastStatus: taskPending}},
			ENI:        &ENI{AttachmentID: "att-1", Status: attachmentPrecreated},
		}
		for i := range rapid.IntRange(1, 15).Draw(rt, "events") {
			before, containers, eni := *task, slices.Clone(task.Containers), task.ENI.Status
			now := start.Add(time.Duration(i+1) * time.Second)
			changed := false
			if rapid.IntRange(0, 4).Draw(rt, "kind") == 0 {
				if changed = task.requestStop(types.TaskStopCodeUserInitiated, "enough", now); changed {
					task.Version++
				}
			} else {
				changed = task.apply(event(rt), now)
			}
			checkForward(rt, &before, containers, eni, task)
			if changed != (task.Version == before.Version+1) || !changed && task.Version != before.Version {
				rt.Fatalf("changed %v, version %d → %d", changed, before.Version, task.Version)
			}
		}
		if task.LastStatus == taskStopped && (task.StopCode == "" || task.StoppedReason == "" || task.StoppedAt.IsZero()) {
			rt.Fatalf("stopped without code, reason or time: %+v", task)
		}
	})
}

func checkForward(rt *rapid.T, before *Task, containers []TaskContainer, eni string, after *Task) {
	at := func(order []string, s string) int { return slices.Index(order, s) }
	if at(taskOrder, after.LastStatus) < at(taskOrder, before.LastStatus) {
		rt.Fatalf("the task went from %s to %s", before.LastStatus, after.LastStatus)
	}
	if before.DesiredStatus == taskStopped && (after.DesiredStatus != taskStopped || after.StopCode != before.StopCode || after.StoppedReason != before.StoppedReason) {
		rt.Fatalf("a stop was taken back or explained anew: %+v → %+v", before, after)
	}
	if after.LastStatus == taskStopped && after.DesiredStatus != taskStopped {
		rt.Fatalf("STOPPED, but %s is desired", after.DesiredStatus)
	}
	if before.LastStatus == taskStopped && after.Version != before.Version {
		rt.Fatalf("a stopped task changed")
	}
	if at(attachmentOrder, after.ENI.Status) < at(attachmentOrder, eni) {
		rt.Fatalf("the attachment went from %s to %s", eni, after.ENI.Status)
	}
	for i, c := range containers {
		now := after.Containers[i]
		if at(containerOrder, now.LastStatus) < at(containerOrder, c.LastStatus) {
			rt.Fatalf("container %s went from %s to %s", c.Name, c.LastStatus, now.LastStatus)
		}
		if c.ExitCode != nil && *now.ExitCode != *c.ExitCode {
			rt.Fatalf("container %s changed its exit code from %d to %d", c.Name, *c.ExitCode, *now.ExitCode)
		}
	}
	for _, pair := range [][2]time.Time{{before.StartedAt, after.StartedAt}, {before.StoppedAt, after.StoppedAt}, {before.StoppingAt, after.StoppingAt}} {
		if !pair[0].IsZero() && !pair[0].Equal(pair[1]) {
			rt.Fatalf("a timestamp changed from %s to %s", pair[0], pair[1])
		}
	}
}

func TestWhyATaskStopped(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	main, two := "main", int32(2)
	stop := func(c types.ContainerStateChange, reason string) report {
		stopped := taskStopped
		c.ContainerName, c.Status = &main, &stopped
		return report{Status: taskStopped, Reason: reason, Containers: []types.ContainerStateChange{c}}
	}
	pull := "CannotPullContainerError: no such image"
	for _, c := range []struct {
		name    string
		reports []report
		code    types.TaskStopCode
		reason  string
		started bool
	}{
		{"it exited", []report{{Status: taskRunning}, stop(types.ContainerStateChange{ExitCode: &two}, "")},
			types.TaskStopCodeEssentialContainerExited, "Essential container in task exited", true},
		{"it exited between two reports", []report{stop(types.ContainerStateChange{ExitCode: &two}, "")},
			types.TaskStopCodeEssentialContainerExited, "Essential container in task exited", true},
		{"the agent says why a task that ran has stopped", []report{{Status: taskRunning}, {Status: taskStopped, Reason: "it was lost"}},
			types.TaskStopCodeEssentialContainerExited, "it was lost", true},
		{"the task failed to start", []report{stop(types.ContainerStateChange{}, pull)}, types.TaskStopCodeTaskFailedToStart, pull, false},
		{"its container failed to start", []report{stop(types.ContainerStateChange{Reason: &pull}, "")}, types.TaskStopCodeTaskFailedToStart, pull, false},
		{"nobody knows why", []report{{Status: taskStopped}}, types.TaskStopCodeTaskFailedToStart, "Task failed to start", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			task := &Task{LastStatus: taskPending, DesiredStatus: taskRunning, Containers: []TaskContainer{{Name: main, LastStatus: taskPending, Essential: true}}}
			for _, r := range c.reports {
				task.apply(r, now)
			}
			if task.StopCode != c.code || task.StoppedReason != c.reason || task.StartedAt.IsZero() == c.started {
				t.Errorf("%s: %q, started at %s; want %s: %q", task.StopCode, task.StoppedReason, task.StartedAt, c.code, c.reason)
			}
		})
	}
}

func TestHealthOfATask(t *testing.T) {
	const healthy, unhealthy, unknown = types.HealthStatusHealthy, types.HealthStatusUnhealthy, types.HealthStatusUnknown
	for _, c := range []struct {
		main, side, want types.HealthStatus
	}{
		{healthy, healthy, healthy}, {healthy, unhealthy, unhealthy}, {healthy, unknown, unknown}, {unhealthy, unknown, unhealthy},
	} {
		task := &Task{Health: unknown, Containers: []TaskContainer{
			{Name: "main", Essential: true, Health: unknown}, {Name: "side", Essential: true, Health: unknown}, {Name: "unchecked", Essential: true},
		}}
		task.setHealth(map[string]types.HealthStatus{"main": c.main, "side": c.side, "unchecked": unhealthy})
		if task.Health != c.want {
			t.Errorf("main %s and side %s make the task %s, want %s", c.main, c.side, task.Health, c.want)
		}
	}
}
