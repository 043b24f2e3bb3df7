package test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// choose returns the processes that a victim's name stands for, and whether the
// target's own shim or init is among them.
func (o *onslaught) choose(victim, arn string) (pids []int, ofTarget string) {
	o.t.Helper()
	server, agent := o.server.cmd.Process.Pid, o.agent.cmd.Process.Pid
	shim := func() {
		pid := o.shimOf(idOf(arn))
		if ofTarget = "shim"; pid == 0 {
			ofTarget, pid = "", o.shimOf(idOf(o.spareTask))
			o.spareHit = "shim"
		}
		pids = append(pids, pid)
	}
	init := func(task string) {
		if r, _ := o.onRecord(task); r.PID > 0 && r.Phase != "exited" {
			pids = append(pids, r.PID)
			if task == idOf(o.spareTask) {
				o.spareHit = "init"
			} else {
				ofTarget = "init"
			}
		}
	}
	switch victim {
	case "server":
		pids = append(pids, server)
	case "agent":
		pids = append(pids, agent)
	case "both":
		pids = append(pids, server, agent)
	case "shim":
		shim()
	case "init":
		if init(idOf(arn)); len(pids) == 0 {
			init(idOf(o.spareTask))
		}
	case "spare":
		pids = append(pids, o.spare())
	case "several":
		if init(idOf(o.spareTask)); o.random.IntN(2) == 0 {
			pids = append(pids, server)
		}
		pids = append(pids, agent)
		if o.shimOf(idOf(arn)) > 0 {
			shim()
		}
	}
	slices.Sort(pids)
	return slices.DeleteFunc(slices.Compact(pids), func(pid int) bool { return pid <= 0 }), ofTarget
}

// settle waits until the target is where it should be, and removes it.
func (o *onslaught) settle(target target, arn, hit, ofTarget string, before onRecord) {
	o.t.Helper()
	id := idOf(arn)
	if ofTarget != "" {
		o.settleHurt(target, arn, hit, ofTarget, before)
		return
	}
	want := int32(143)
	if target.ignores {
		want = 137
	}
	if !target.stops {
		o.await("", arn, "RUNNING")
		pid := o.taskProcess(id)
		if before.Phase == "running" && pid != strconv.Itoa(before.PID) {
			o.t.Errorf("the task ran as process %d and runs as process %s", before.PID, pid)
		}
		o.listens(arn, target)
		o.longshore.stop(arn)
	}
	o.expect(o.ended(arn), types.TaskStopCodeUserInitiated, want, "")
}

// settleHurt waits for the end of a task whose shim or init was killed. Before it
// had begun to run, it may also have been made once more.
func (o *onslaught) settleHurt(target target, arn, hit, ofTarget string, before onRecord) {
	o.t.Helper()
	if o.either(arn) == "RUNNING" {
		if hit == "run" || target.stops {
			o.t.Errorf("the task's %s was killed and it goes on", ofTarget)
		}
		o.listens(arn, target)
		o.longshore.stop(arn)
		o.expect(o.ended(arn), types.TaskStopCodeUserInitiated, 143, "")
		return
	}
	task := o.ended(arn)
	switch {
	case before.Phase == "exited": // that end stays
		o.expect(task, types.TaskStopCodeUserInitiated, 143, "")
	case target.stops && hit == "clean-up": // it was just ending
	case target.stops && ofTarget == "init":
		o.expect(task, types.TaskStopCodeUserInitiated, 137, "")
	case target.stops:
		o.expect(task, types.TaskStopCodeUserInitiated, -1, "was lost")
	case before.Phase == "running" && ofTarget == "init":
		o.expect(task, types.TaskStopCodeEssentialContainerExited, 137, "")
	case before.Phase == "running":
		o.expect(task, types.TaskStopCodeEssentialContainerExited, -1, "was lost")
	default:
		reason := aws.ToString(task.StoppedReason) + aws.ToString(task.Containers[0].Reason)
		o.t.Logf("%s killed at %s: %s %q", ofTarget, hit, task.StopCode, reason)
		if reason == "" {
			o.t.Error("the task ended without a reason")
		}
	}
}

// either waits until the task runs with its process, or has stopped.
func (o *onslaught) either(arn string) (status string) {
	o.t.Helper()
	since := time.Now()
	o.eventually("the task runs or has stopped", func() error {
		task, err := o.describe(arn)
		if err != nil {
			return err
		}
		status = aws.ToString(task.LastStatus)
		// RUNNING may be what the API showed before the kill.
		alive := len(o.processes(idOf(arn))) == 1 && time.Since(since) > 500*time.Millisecond
		if status == "STOPPED" || status == "RUNNING" && alive {
			return nil
		}
		return fmt.Errorf("it is %s", status)
	})
	return status
}

// expect compares how a task ended; the code -1 stands for none.
func (o *onslaught) expect(task types.Task, stop types.TaskStopCode, code int32, reason string) {
	o.t.Helper()
	c := task.Containers[0]
	got := int32(-1)
	if c.ExitCode != nil {
		got = *c.ExitCode
	}
	if code == 143 && got == 2 {
		got = 143 // a Go program that is told to stop before it has asked to hear of it
	}
	if task.StopCode != stop || got != code || !strings.Contains(aws.ToString(c.Reason), reason) {
		o.t.Errorf("the task %s ended with %s %q, exit code %d, %q; want %s, exit code %d, %q", aws.ToString(task.TaskArn),
			task.StopCode, aws.ToString(task.StoppedReason), got, aws.ToString(c.Reason), stop, code, reason)
	}
}

// settleOthers waits for the tasks beside the target, and looks for what is left.
func (o *onslaught) settleOthers(victim string) {
	o.t.Helper()
	if o.spareHit != "" {
		code, reason := int32(137), ""
		if o.spareHit == "shim" {
			code, reason = -1, "was lost"
		}
		o.expect(o.ended(o.spareTask), types.TaskStopCodeEssentialContainerExited, code, reason)
		o.spareTask, o.spareHit = "", ""
	}
	for _, arn := range o.others {
		task := o.ended(arn)
		if c := task.Containers[0]; victim == "spare" && c.ExitCode == nil && strings.Contains(aws.ToString(c.Reason), "was lost") {
			continue // the spare shim had become its own that very moment
		}
		o.expect(task, types.TaskStopCodeEssentialContainerExited, 3, "")
	}
	o.others = nil
	running := []string{o.web}
	if o.spareTask != "" {
		running = append(running, idOf(o.spareTask))
		o.await("", o.spareTask, "RUNNING")
	}
	o.nothingBut(running)
	if pid := o.taskProcess(o.web); pid != o.webPID {
		o.t.Errorf("the web server was process %s and is process %s", o.webPID, pid)
	}
	if _, err := o.requests.state(); err != nil {
		o.t.Errorf("the web server did not answer: %v", err)
	}
}

var requestLine = regexp.MustCompile(`/(\d+)\b`)

// finish stops what runs, and looks for the line of each request that was answered.
func (o *onslaught) finish() {
	o.t.Helper()
	o.requests.stop()
	answered, err := o.requests.state()
	if err != nil {
		o.t.Errorf("the web server did not answer: %v", err)
	}
	o.eventually("all requests are logged", func() error {
		found := map[string]bool{}
		for _, m := range requestLine.FindAllStringSubmatch(o.written("web", "web", o.web), -1) {
			found[m[1]] = true
		}
		for n := range answered {
			if !found[strconv.Itoa(n+1)] {
				return fmt.Errorf("the line of request %d of %d is missing", n+1, answered)
			}
		}
		return nil
	})
}
