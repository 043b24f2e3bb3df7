package test

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// unruly is a Longshore whose containers can run the runtime's test program, which
// knows every way to misbehave: its commands are in a volume over /bin.
type unruly struct {
	*longshore
	programs string
}

func newUnruly(t *testing.T, flags ...string) *unruly {
	t.Helper()
	l := up(t, append([]string{"--no-sample"}, flags...)...)
	return &unruly{l, filepath.Join(runtimetest.RootFS(t), "bin")}
}

func (u *unruly) within(t *testing.T) *unruly { return &unruly{u.longshore.within(t), u.programs} }

// definition is a task of one container that runs a command of the test program.
func (u *unruly) definition(family string, command ...string) *ecs.RegisterTaskDefinitionInput {
	c := container(family, "app")
	c.EntryPoint, c.StopTimeout = command, aws.Int32(2)
	c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("programs"), ContainerPath: aws.String("/bin"), ReadOnly: aws.Bool(true)}}
	return &ecs.RegisterTaskDefinitionInput{
		Family: &family, NetworkMode: types.NetworkModeBridge, ContainerDefinitions: []types.ContainerDefinition{c},
		Volumes: []types.Volume{{Name: aws.String("programs"), Host: &types.HostVolumeProperties{SourcePath: &u.programs}}},
	}
}

// awaitWritten waits until the container has written a text.
func (u *unruly) awaitWritten(family, arn, text string) {
	u.t.Helper()
	u.await("", arn, "RUNNING")
	u.eventually("the container writes "+text, func() error {
		if out := u.written(family, "app", arn); !strings.Contains(out, text) {
			return fmt.Errorf("it wrote %q", out)
		}
		return nil
	})
}

// vanished expects that nothing of the task is on the machine.
func (u *unruly) vanished(arn string) {
	u.t.Helper()
	for _, id := range u.groupsOnMachine() {
		if id == idOf(arn) {
			u.t.Errorf("the task has stopped, and has a cgroup on the machine")
		}
	}
}

// app describes the task's container after its end.
func app(task types.Task) (code int32, reason string) {
	c := task.Containers[0]
	if c.ExitCode == nil {
		return -1, aws.ToString(c.Reason)
	}
	return *c.ExitCode, aws.ToString(c.Reason)
}

// TestMisbehavingTasksAreStopped starts tasks that do what they can to go on, and
// stops them: each ends as AWS says it does, and nothing of it is left.
func TestMisbehavingTasksAreStopped(t *testing.T) {
	u := newUnruly(t)
	for _, c := range []struct {
		name    string
		command []string
		wait    string // for this in its log, before it is stopped
		code    int32
		change  func(*ecs.RegisterTaskDefinitionInput)
	}{
		{"ignores-sigterm", []string{"ignore"}, "ready", 137, nil},
		{"hundred-children", []string{"brood", "100"}, "ready", 137, func(in *ecs.RegisterTaskDefinitionInput) { in.ContainerDefinitions[0].Memory = aws.Int32(512) }},
		{"hundred-children-of-the-host", []string{"brood", "100"}, "ready", 137, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].Memory, in.PidMode = aws.Int32(512), types.PidModeHost
		}},
		{"named-dead", []string{"rename", ") Z 1 ("}, "renamed", 137, nil},
		{"stopped-and-traced", []string{"stopped"}, "ready", 137, nil},
		{"without-files", []string{"rmroot"}, "removed", 143, func(in *ecs.RegisterTaskDefinitionInput) {}},
		{"zombies", []string{"zombies", "100"}, "zombies 100", 143, nil},
		{"another-user", []string{"setid", "4711"}, "ready", 143, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := u.within(t)
			in := u.definition(c.name, c.command...)
			if c.change != nil {
				c.change(in)
			}
			arn := u.begin(in)
			u.awaitWritten(c.name, arn, c.wait)
			began := time.Now()
			u.stop(arn)
			task := u.ended(arn)
			code, reason := app(task)
			// A Go program ends with 2 on a SIGTERM that it does not handle, as the first process.
			if code != c.code && !(c.code == 143 && (code == 137 || code == 2)) {
				t.Errorf("exit code %d (%s), want %d", code, reason, c.code)
			}
			if task.StopCode != types.TaskStopCodeUserInitiated {
				t.Errorf("it stopped with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("its end took %s", took)
			}
			u.vanished(arn)
		})
	}
}

// TestMisbehavingTasksEnd runs tasks that end by themselves, each in its way.
func TestMisbehavingTasksEnd(t *testing.T) {
	t.Parallel()
	u := newUnruly(t)
	const outOfMemory = `^OutOfMemoryError: Container killed due to memory usage$`
	const runc = `^CannotStartContainerError: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: `
	for _, c := range []struct {
		name    string
		command []string
		code    int32  // -1: none
		reason  string // the container's, a regular expression
		change  func(*ecs.RegisterTaskDefinitionInput)
	}{
		{"at-once", []string{"exit", "42"}, 42, `^$`, nil},
		{"daemon", []string{"daemon"}, 0, `^$`, nil},
		{"closes-its-output", []string{"shut"}, 5, `^$`, nil},
		{"shared-memory", []string{"fill", "/dev/shm/x"}, 137, outOfMemory, nil}, // counts as memory
		{"child-out-of-memory", []string{"oomchild", "300"}, 3, outOfMemory, nil},
		{"task-out-of-memory", []string{"alloc", "300"}, 137, outOfMemory, func(in *ecs.RegisterTaskDefinitionInput) {
			in.Memory, in.ContainerDefinitions[0].Memory = aws.String("64"), nil
		}},
		{"no-command", []string{"no-such-program"}, -1, runc + `error during container init: exec: "no-such-program": executable file not found in \$PATH: unknown$`, nil},
		{"no-path", []string{"/no/such/program"}, -1, runc + `error during container init: exec: "/no/such/program": stat /no/such/program: no such file or directory: unknown$`, nil},
		{"directory", []string{"/etc"}, -1, runc + `error during container init: exec: "/etc": is a directory: unknown$`, nil},
		{"no-user", []string{"id"}, -1, `^CannotStartContainerError: Error response from daemon: unable to find user nobody-knows: no matching entries in passwd file$`,
			func(in *ecs.RegisterTaskDefinitionInput) {
				in.ContainerDefinitions[0].User = aws.String("nobody-knows")
			}},
		{"no-directory", []string{"cwd"}, 0, `^$`, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].WorkingDirectory = aws.String("/made/for/it") // as Docker does
		}},
		{"directory-is-a-file", []string{"cwd"}, -1, `^CannotStartContainerError: .*not a directory`, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].WorkingDirectory = aws.String("/etc/hosts")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := u.within(t)
			in := u.definition(c.name, c.command...)
			if c.change != nil {
				c.change(in)
			}
			arn := u.begin(in)
			task := u.ended(arn)
			code, reason := app(task)
			if code != c.code || !regexp.MustCompile(c.reason).MatchString(reason) {
				t.Errorf("exit code %d, reason %q; want %d, %s", code, reason, c.code, c.reason)
			}
			want := types.TaskStopCodeEssentialContainerExited
			if c.code < 0 {
				want = types.TaskStopCodeTaskFailedToStart
			}
			if task.StopCode != want {
				t.Errorf("it stopped with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
			}
			u.vanished(arn)
		})
	}
}

// TestMisbehavingForkBomb: a bomb with nothing but its memory limit: the node answers,
// runs another task meanwhile, and ends the bomb.
func TestMisbehavingForkBomb(t *testing.T) {
	u := newUnruly(t)
	in := u.definition("bomb", "bomb")
	in.ContainerDefinitions[0].Memory = aws.Int32(256)
	arn := u.begin(in)
	u.await("", arn, "RUNNING")
	time.Sleep(time.Second) // of its going off
	if task, _ := u.one("neighbour", nil, "echo", "hello"); *task.Containers[0].ExitCode != 0 {
		t.Errorf("a task beside it ended with %+v", task.Containers[0])
	}
	u.stop(arn)
	if code, reason := app(u.ended(arn)); code != 137 {
		t.Errorf("exit code %d, %s", code, reason)
	}
	u.vanished(arn)
}

// TestMisbehavingShim: the task's shim is stopped by somebody. The task can be stopped
// all the same, and says that its end is not known.
func TestMisbehavingShim(t *testing.T) {
	t.Parallel()
	u := newUnruly(t)
	arn := u.begin(u.definition("hung", "ignore"))
	u.awaitWritten("hung", arn, "ready")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	stopped := 0
	for _, e := range entries {
		line, _ := os.ReadFile("/proc/" + e.Name() + "/fd/../cmdline")
		log, _ := os.Readlink("/proc/" + e.Name() + "/fd/2")
		if strings.HasPrefix(string(line), "longshore-runner\x00shim\x00") && strings.Contains(log, "/"+u.name+"/") && strings.Contains(log, "/"+idOf(arn)+"/") {
			pid, _ := strconv.Atoi(e.Name())
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped++
		}
	}
	if stopped != 1 {
		t.Fatalf("%d shims of the task were found", stopped)
	}
	u.stop(arn)
	task := u.ended(arn)
	if code, reason := app(task); code != -1 || !strings.Contains(reason, "was lost") { // nobody saw its exit code
		t.Errorf("exit code %d, reason %q", code, reason)
	}
	u.vanished(arn)
}

// TestMisbehavingNamespaceHolder: a task gives its network namespace to another one,
// which keeps it. The first stops all the same; links and rules of it are gone.
func TestMisbehavingNamespaceHolder(t *testing.T) {
	t.Parallel()
	u := newUnruly(t)
	shared := t.TempDir()
	definition := func(family string, command ...string) *ecs.RegisterTaskDefinitionInput {
		in := u.definition(family, command...)
		in.Volumes = append(in.Volumes, types.Volume{Name: aws.String("shared"), Host: &types.HostVolumeProperties{SourcePath: &shared}})
		in.ContainerDefinitions[0].MountPoints = append(in.ContainerDefinitions[0].MountPoints,
			types.MountPoint{SourceVolume: aws.String("shared"), ContainerPath: aws.String("/shared")})
		return in
	}
	holder := u.begin(definition("holder", "holdns", "/shared/socket"))
	u.awaitWritten("holder", holder, "listening")
	giver := u.begin(definition("giver", "givens", "/shared/socket"))
	u.awaitWritten("giver", giver, "given")
	u.awaitWritten("holder", holder, "holding")
	u.stop(giver)
	u.ended(giver)
	u.vanished(giver)
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, link := range links {
		if strings.HasPrefix(link.Name(), u.linkPrefix()) {
			own++
		}
	}
	if own != 1 {
		t.Errorf("%d links of the node's tasks are there, want the holder's alone", own)
	}
}

// linkPrefix begins the names of the links that the node makes.
func (l *longshore) linkPrefix() string {
	sum := sha256.Sum256([]byte(l.name))
	return "lv" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:6]
}

// events reads a whole log stream, in order.
func (u *unruly) events(family, arn string, see func(message string)) {
	u.t.Helper()
	client := cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &u.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
	in := &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: aws.String("/test"), LogStreamName: aws.String(family + "/app/" + idOf(arn)), StartFromHead: aws.Bool(true),
	}
	for {
		out, err := client.GetLogEvents(context.Background(), in)
		if err != nil {
			u.t.Fatal(err)
		}
		for _, e := range out.Events {
			see(aws.ToString(e.Message))
		}
		if aws.ToString(out.NextForwardToken) == aws.ToString(in.NextToken) {
			return
		}
		in.NextToken = out.NextForwardToken
	}
}

// delivered waits until the task's whole output has arrived.
func (u *unruly) delivered(family, arn string, isLast func(message string) bool) {
	u.t.Helper()
	client := cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &u.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
	u.eventually("the output has arrived", func() error {
		out, err := client.GetLogEvents(context.Background(), &cloudwatchlogs.GetLogEventsInput{
			LogGroupName: aws.String("/test"), LogStreamName: aws.String(family + "/app/" + idOf(arn)), Limit: aws.Int32(1),
		})
		if err != nil {
			return err
		}
		if len(out.Events) == 0 || !isLast(aws.ToString(out.Events[0].Message)) {
			return errors.New("the last event has not")
		}
		return nil
	})
}

func isEnd(message string) bool { return message == "end" }

// peak is the most memory that the process has had since it started.
func (l *longshore) peak() (kib int) {
	l.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Process.Pid))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
		}
	}
	return kib
}

// TestMisbehavingLogs: 100 MB in one line, many lines, and what is no text at all
// arrive whole and in order, in events of the size that Docker's driver makes, and
// the process does not grow with them.
func TestMisbehavingLogs(t *testing.T) {
	u := newUnruly(t)
	before := u.peak()
	blocking := func(in *ecs.RegisterTaskDefinitionInput) *ecs.RegisterTaskDefinitionInput {
		in.ContainerDefinitions[0].LogConfiguration.Options["mode"] = "blocking"
		return in
	}
	t.Run("one line", func(t *testing.T) {
		u := u.within(t)
		const size, event = 100_000_000, 256<<10 - 26
		arn := u.begin(blocking(u.definition("one-line", "oneline", strconv.Itoa(size))))
		if code, reason := app(u.ended(arn)); code != 0 {
			t.Fatalf("exit code %d, %s", code, reason)
		}
		u.delivered("one-line", arn, func(last string) bool { return len(last) == size%event })
		const pattern = "0123456789abcdef"
		total, events := 0, 0
		u.events("one-line", arn, func(message string) {
			events++
			if len(message) != event && total+len(message) != size {
				t.Errorf("event %d has %d bytes", events, len(message))
			}
			for i := 0; i < len(message); i += 997 {
				if message[i] != pattern[(total+i)%16] {
					t.Fatalf("byte %d is %q", total+i, message[i])
				}
			}
			total += len(message)
		})
		if total != size {
			t.Errorf("%d bytes in %d events, want %d", total, events, size)
		}
	})
	t.Run("many lines", func(t *testing.T) {
		u := u.within(t)
		lines := 150_000
		if os.Getenv("LONGSHORE_SOAK") != "" {
			lines = 1_000_000
		}
		arn := u.begin(blocking(u.definition("lines", "numbered", strconv.Itoa(lines))))
		if code, reason := app(u.ended(arn)); code != 0 {
			t.Fatalf("exit code %d, %s", code, reason)
		}
		u.delivered("lines", arn, isEnd)
		next := 0
		u.events("lines", arn, func(message string) {
			if n, err := strconv.Atoi(message[:min(9, len(message))]); message != "end" && (err != nil || n != next) {
				t.Fatalf("line %d is %q", next, message)
			}
			next++
		})
		if next != lines+1 {
			t.Errorf("%d lines, want %d", next, lines+1)
		}
	})
	t.Run("faster than it can be sent", func(t *testing.T) {
		u := u.within(t)
		const lines = 1_000_000
		in := u.definition("fast", "numbered", strconv.Itoa(lines))
		in.ContainerDefinitions[0].LogConfiguration.Options["mode"] = "non-blocking"
		in.ContainerDefinitions[0].LogConfiguration.Options["max-buffer-size"] = "2m"
		arn := u.begin(in)
		if code, reason := app(u.ended(arn)); code != 0 {
			t.Fatalf("exit code %d, %s", code, reason)
		}
		u.delivered("fast", arn, isEnd)
		came, last, told := 0, -1, 0
		u.events("fast", arn, func(message string) {
			n, err := strconv.Atoi(message[:min(9, len(message))])
			switch {
			case strings.HasPrefix(message, "longshore: about "):
				told++
			case err == nil && n > last && len(message) == 99:
				if n != last+1 && told == 0 {
					t.Errorf("line %d follows %d, and nothing is said of it", n, last)
				}
				came, last = came+1, n
			}
		})
		if came == 0 || came == lines || told == 0 {
			t.Errorf("%d lines of %d came, %d times it was told that some are missing", came, lines, told)
		}
	})
	t.Run("no text", func(t *testing.T) {
		u := u.within(t)
		arn := u.begin(u.definition("garbage", "garbage"))
		u.ended(arn)
		u.delivered("garbage", arn, isEnd)
		out := u.written("garbage", "app", arn)
		for _, want := range []string{"nul \x00 in the middle", "\ufffd\ufffd\ufffd( invalid", "\u20ac joined", "\x1b[2J"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q lacks %q", out, want)
			}
		}
	})
	grown := (u.peak() - before) >> 10
	t.Logf("the process's peak grew by %d MiB, from %d", grown, before>>10)
	if grown > 400 {
		t.Errorf("the process grew by %d MiB", grown)
	}
}
