package test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestNodeLogsSurviveKills kills the process while a container writes, and
// compares every line. Delivery is at least once, by whole lines: some may be sent
// again. But none may be missing, and the first of each are in order.
func TestNodeLogsSurviveKills(t *testing.T) {
	l := up(t, "--no-sample")
	const lines = 200_000
	c := container("lines", "app", "lines", strconv.Itoa(lines))
	c.LogConfiguration.Options["mode"] = "blocking"
	arn := l.begin(&ecs.RegisterTaskDefinitionInput{Family: aws.String("lines"), ContainerDefinitions: []types.ContainerDefinition{c}})
	for _, wait := range []time.Duration{50, 200, 10, 400, 100} {
		time.Sleep(wait * time.Millisecond)
		l.kill()
		l.start()
	}
	task := l.ended(arn)
	if code := task.Containers[0].ExitCode; code == nil || *code != 0 {
		t.Fatalf("exit code %v: %s", code, aws.ToString(task.StoppedReason))
	}
	next, repeated := 1, 0
	l.eventually("the last line is there", func() error {
		next, repeated = 1, 0
		former := ""
		for line := range strings.Lines(l.written("lines", "app", arn)) {
			n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "line "))
			switch {
			case err != nil:
				t.Fatalf("the log has the line %q after %q, when %d was to come next", line, former, next)
			case n == next:
				next++
			case n > next:
				t.Fatalf("line %d follows line %d", n, next-1)
			default:
				repeated++
			}
			former = line
		}
		if next <= lines {
			return fmt.Errorf("the log ends with line %d", next-1)
		}
		return nil
	})
	t.Logf("%d lines of %d were sent twice", repeated, lines)
}

// TestNodeBurstOfOutput lets a container write far more than is kept, in AWS's
// default mode, and watches what that costs.
func TestNodeBurstOfOutput(t *testing.T) {
	l := up(t, "--no-sample")
	c := container("burst", "app", "lines", "8000000") // 100 MB
	c.LogConfiguration.Options["mode"] = "non-blocking"
	arn := l.begin(&ecs.RegisterTaskDefinitionInput{Family: aws.String("burst"), ContainerDefinitions: []types.ContainerDefinition{c}})
	most := 0
	l.eventually("the container has written all", func() error {
		most = max(most, l.resident())
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
		if err != nil || len(out.Tasks) != 1 {
			return fmt.Errorf("%v %v", out, err)
		}
		if status := aws.ToString(out.Tasks[0].LastStatus); status != "STOPPED" {
			return fmt.Errorf("it is %s", status)
		}
		return nil
	})
	t.Logf("%d MB resident at most", most)
	if most > 400 {
		t.Errorf("%d MB resident while 100 MB were written", most)
	}
}

// resident is the process's memory in MB.
func (l *longshore) resident() int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Process.Pid))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				l.t.Fatal(err)
			}
			return kib / 1024
		}
	}
	l.t.Fatal("no VmRSS")
	return 0
}

// TestNodeProcessesKilled kills what runs a container: its own process, its shim.
func TestNodeProcessesKilled(t *testing.T) {
	l := up(t, "--no-sample")
	top := l
	run := func(family string) (arn string) {
		return l.begin(&ecs.RegisterTaskDefinitionInput{
			Family: &family, ContainerDefinitions: []types.ContainerDefinition{container(family, "app", "sleep", "600")},
		})
	}
	kill := func(t *testing.T, pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("the container's process", func(t *testing.T) {
		l := l.within(t)
		arn := run("victim")
		l.await("", arn, "RUNNING")
		pid, err := strconv.Atoi(l.taskProcess(idOf(arn)))
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pid)
		if code := l.ended(arn).Containers[0].ExitCode; code == nil || *code != 137 {
			t.Fatalf("exit code %v, want 137", code)
		}
	})
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("the shim, node away: %v", away), func(t *testing.T) {
			l := l.within(t)
			arn := run("orphan")
			l.await("", arn, "RUNNING")
			process := l.taskProcess(idOf(arn))
			if away {
				top.kill()
			}
			kill(t, parentOf(t, process))
			if away {
				top.start()
			}
			task := l.ended(arn)
			if c := task.Containers[0]; c.ExitCode != nil || !strings.HasPrefix(aws.ToString(c.Reason), "ContainerRuntimeError: ") {
				t.Errorf("the lost container is reported with %v %q", c.ExitCode, aws.ToString(c.Reason))
			}
			if left := l.processes(idOf(arn)); len(left) > 0 {
				t.Errorf("processes of the task are left: %v", left)
			}
		})
	}
}

func parentOf(t *testing.T, pid string) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}
