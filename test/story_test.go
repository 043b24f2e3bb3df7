package test

import (
	"bufio"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

const webDefinition = `[{
  "name": "web", "image": "longshore/sample", "memory": 64, "essential": true,
  "portMappings": [{"containerPort": 80, "hostPort": 0}],
  "logConfiguration": {"logDriver": "awslogs", "options": {
    "awslogs-group": "/story/web", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "story", "awslogs-create-group": "true"}}
}]`

// describedTask is what the story reads of a task.
type describedTask struct {
	TaskArn       string
	LastStatus    string
	StopCode      string
	StoppedReason string
	Containers    []struct {
		LastStatus      string
		ExitCode        *int
		NetworkBindings []struct{ ContainerPort, HostPort int }
	}
}

// TestStoryOfATask is the walking skeleton's: an unmodified AWS CLI runs a real
// container and reads its logs, and the server's death in between changes nothing.
func TestStoryOfATask(t *testing.T) {
	l := up(t, "--no-sample")
	l.aws(nil, "ecs", "register-task-definition", "--family", "web", "--network-mode", "bridge", "--container-definitions", webDefinition)
	var ran struct {
		Tasks    []describedTask
		Failures []struct{ Reason string }
	}
	l.aws(&ran, "ecs", "run-task", "--task-definition", "web")
	if len(ran.Tasks) != 1 || len(ran.Failures) != 0 {
		t.Fatalf("run-task answered %+v", ran)
	}
	arn := ran.Tasks[0].TaskArn
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	l.aws(nil, "ecs", "wait", "tasks-running", "--tasks", arn)
	var described struct{ Tasks []describedTask }
	l.aws(&described, "ecs", "describe-tasks", "--tasks", arn)
	bindings := described.Tasks[0].Containers[0].NetworkBindings
	if len(bindings) != 1 || bindings[0].ContainerPort != 80 || bindings[0].HostPort < 32768 {
		t.Fatalf("network bindings = %+v, want one dynamic host port for port 80", bindings)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", bindings[0].HostPort)
	if page := l.get(url + "before"); !strings.Contains(page, id) {
		t.Fatalf("the page does not say which task it is (%s):\n%s", id, page)
	}
	follow := l.follow("/story/web")
	follow.await("/before")
	follow.stop()

	if err := l.signal(syscall.SIGKILL); err == nil {
		t.Fatal("the server ended well on SIGKILL")
	}
	l.get(url + "while-away") // still serving
	l.start()
	follow = l.follow("/story/web")
	follow.await("/while-away")
	l.get(url + "after")
	follow.await("/after")
	follow.stop()

	l.aws(nil, "ecs", "stop-task", "--task", arn, "--reason", "the story ends")
	l.aws(nil, "ecs", "wait", "tasks-stopped", "--tasks", arn)
	l.aws(&described, "ecs", "describe-tasks", "--tasks", arn)
	end := described.Tasks[0]
	if end.StopCode != "UserInitiated" || end.StoppedReason != "the story ends" {
		t.Fatalf("the task ended with %s %q", end.StopCode, end.StoppedReason)
	}
	if code := end.Containers[0].ExitCode; code == nil || *code != 0 {
		t.Fatalf("exit code = %v, want 0: the sample ends well on SIGTERM", code)
	}
	l.linesInOrder(t, "/story/web", "story/web/"+id, "/before", "/while-away", "/after")
}

// linesInOrder checks that each request was logged once, in order.
func (l *longshore) linesInOrder(t *testing.T, group, stream string, paths ...string) {
	t.Helper()
	var events struct{ Events []struct{ Message string } }
	l.aws(&events, "logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream, "--start-from-head")
	var seen []string
	for _, e := range events.Events {
		for _, p := range paths {
			if strings.Contains(e.Message, p) {
				seen = append(seen, p)
			}
		}
	}
	if strings.Join(seen, " ") != strings.Join(paths, " ") {
		t.Fatalf("the log has the requests %v, want %v", seen, paths)
	}
}

// follower is a running `aws logs tail --follow`.
type follower struct {
	t     *testing.T
	lines chan string
	stop  func()
}

func (l *longshore) follow(group string) *follower {
	l.t.Helper()
	c := l.command("logs", "tail", group, "--follow", "--since", "10m", "--format", "short")
	c.Env = append(c.Env, "PYTHONUNBUFFERED=1")
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	f := &follower{t: l.t, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	ended := false
	f.stop = func() {
		if ended {
			return
		}
		ended = true
		_ = c.Process.Signal(syscall.SIGINT)
		<-done
		_ = c.Wait() // it ends by our signal
	}
	l.t.Cleanup(f.stop)
	return f
}

// await reads until a line contains the text.
func (f *follower) await(text string) {
	f.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case line := <-f.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-limit:
			f.t.Fatalf("logs tail --follow never showed %q", text)
		}
	}
}
