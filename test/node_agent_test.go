package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/image/imagetest"
	"longshore.dev/longshore/internal/leakcheck"
)

// child is a process of the binary that a test ends itself.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan error
}

func spawn(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	return spawnCommand(t, cmd)
}

func spawnCommand(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{t: t, cmd: cmd, exited: make(chan error, 1)}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.exited <- c.cmd.Wait() }()
	return c
}

// end signals the process, if there is a signal to send, and waits for its end.
func (c *child) end(s syscall.Signal) error {
	c.t.Helper()
	if s != 0 {
		if err := c.cmd.Process.Signal(s); err != nil {
			c.t.Fatal(err)
		}
	}
	select {
	case err := <-c.exited:
		return err
	case <-time.After(30 * time.Second):
		_ = c.cmd.Process.Kill()
		c.t.Fatalf("it has not ended within 30 seconds; it wrote\n%s", c.output.String())
		return nil
	}
}

// nodeName is what the node of a data directory is called on the machine.
func nodeName(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:4])
}

// networkHash is in the names of what the network of a data directory's node makes.
func networkHash(data string) string {
	sum := sha256.Sum256([]byte(nodeName(data)))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:6]
}

// checkLeaks compares the machine at the test's end with now, as far as the node
// of a data directory goes.
func checkLeaks(t *testing.T, data string) {
	t.Helper()
	name, hash := nodeName(data), networkHash(data)
	leakcheck.Check(t, leakcheck.Scope{
		Node: name, Paths: []string{"/run/longshore/" + name}, LinkPrefix: "lb" + hash, TablePrefix: "longshore-" + hash,
	})
	leakcheck.Check(t, leakcheck.Scope{LinkPrefix: "lv" + hash})
}

// TestNodeOfItsOwn runs server and agent as two processes: the node joins with a
// registration token once and has credentials of its own from then on, goes away
// and comes back.
func TestNodeOfItsOwn(t *testing.T) {
	needRoot(t)
	serverData, data := t.TempDir(), t.TempDir()
	checkLeaks(t, data)
	l := &longshore{t: t, name: nodeName(data), listen: freeAddress(t), output: &bytes.Buffer{}}
	l.endpoint = "http://" + l.listen
	root := []string{"LONGSHORE_ROOT_ACCESS_KEY_ID=" + keyID, "LONGSHORE_ROOT_SECRET_ACCESS_KEY=" + secret}
	server := spawn(t, root, "server", "--data", serverData, "--listen", l.listen)
	l.exited = server.exited
	defer func() {
		if err := server.end(syscall.SIGINT); err != nil {
			t.Errorf("the server ended with %v:\n%s", err, server.output.String())
		}
	}()
	l.eventually("the server answers", func() error {
		response, err := http.Get(l.endpoint + "/_longshore/health")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
	connected := func(want bool) {
		t.Helper()
		l.eventually(fmt.Sprintf("agentConnected is %v", want), func() error {
			out, err := l.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: l.instances()})
			if err != nil || len(out.ContainerInstances) != 1 {
				return fmt.Errorf("%v %v", out, err)
			}
			if out.ContainerInstances[0].AgentConnected != want {
				return fmt.Errorf("it is %v", !want)
			}
			return nil
		})
	}
	args := []string{"agent", "--data", data, "--join", l.endpoint}
	if c := spawn(t, nil, args...); c.end(0) == nil || !strings.Contains(c.output.String(), "longshore token create") {
		t.Fatalf("a node joined without a token:\n%s", c.output.String())
	}
	token := makeToken(t, serverData)
	forged := strings.Replace(token, token[22:30], "AAAAAAAA", 1)
	if c := spawn(t, []string{"LONGSHORE_TOKEN=" + forged}, args...); c.end(0) == nil || !strings.Contains(c.output.String(), "the registration token is not valid") {
		t.Fatalf("a node joined with a forged token:\n%s", c.output.String())
	}
	agent := spawn(t, []string{"LONGSHORE_TOKEN=" + token}, args...)
	connected(true)
	second := spawn(t, nil, args...)
	if err := second.end(0); err == nil || !strings.Contains(second.output.String(), fmt.Sprintf("process %d runs the node", agent.cmd.Process.Pid)) {
		t.Fatalf("a second agent on the directory: %v\n%s", err, second.output.String())
	}
	definition := l.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
	task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
	arn := aws.ToString(task.TaskArn)
	before := l.taskProcess(idOf(arn))

	if err := agent.end(syscall.SIGKILL); err == nil {
		t.Fatal("the agent ended well on SIGKILL")
	}
	connected(false)
	if _, err := l.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn, Reason: aws.String("while away")}); err != nil {
		t.Fatal(err)
	}
	if after := l.taskProcess(idOf(arn)); after != before {
		t.Fatalf("the task's process was %s and is %s: nobody was there to touch it", before, after)
	}
	agent = spawn(t, nil, args...)
	connected(true)
	if ended := l.ended(arn); aws.ToString(ended.StoppedReason) != "while away" {
		t.Fatalf("the task stopped with %q", aws.ToString(ended.StoppedReason))
	}
	if err := agent.end(syscall.SIGINT); err != nil {
		t.Fatalf("the agent ended with %v:\n%s", err, agent.output.String())
	}
	connected(false)

	former := l.instances()
	if _, err := l.ecs().DeregisterContainerInstance(context.Background(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: &former[0]}); err != nil {
		t.Fatal(err)
	}
	agent = spawn(t, nil, args...)
	connected(true)
	if now := l.instances(); now[0] == former[0] {
		t.Errorf("the deregistered node came back as the same instance %s", now[0])
	}
	if err := agent.end(syscall.SIGINT); err != nil {
		t.Fatalf("the agent ended with %v:\n%s", err, agent.output.String())
	}
	for _, dir := range []string{data, serverData} {
		if raw, err := exec.Command("grep", "-r", "-l", strings.Split(token, ".")[2], dir).Output(); err == nil {
			t.Errorf("the token's secret is in %s", raw)
		}
	}
}

// makeToken makes a registration token at the server of a data directory.
func makeToken(t *testing.T, data string, flags ...string) string {
	t.Helper()
	c := exec.Command(binary(t), append([]string{"token", "create", "--data", data}, flags...)...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	raw, err := c.Output()
	if err != nil {
		t.Fatalf("token create: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(raw))
}

// TestNodeCommandLine is what a user at one machine does: two Longshores side by
// side, a second start on the same directory, imports, and an end with the tasks.
func TestNodeCommandLine(t *testing.T) {
	l := up(t, "--no-sample")
	t.Run("a second start on the same directory", func(t *testing.T) {
		again := spawn(t, nil, "up", "--data", l.data, "--listen", freeAddress(t), "--no-sample")
		if err := again.end(0); err == nil || !strings.Contains(again.output.String(), fmt.Sprintf("process %d uses", l.process.Process.Pid)) {
			t.Fatalf("it ended with %v and wrote\n%s", err, again.output.String())
		}
	})
	t.Run("host mode metadata of two side by side", func(t *testing.T) {
		other := up(t, "--no-sample")
		for _, l := range []*longshore{l.within(t), other} {
			definition := l.sampleTask("host", types.NetworkModeHost, "sleep", "600")
			task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
			id := idOf(aws.ToString(task.TaskArn))
			if got := l.inside(id, l.metadataURI(id)+"/task"); !strings.Contains(got, id) {
				t.Errorf("the metadata of task %s is %s", id, got)
			}
		}
	})
	t.Run("import", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "image.tar")
		built := imagetest.Build(t, imagetest.Spec{Layers: []imagetest.Layer{{Entries: []imagetest.Entry{imagetest.File("hello", "hello")}}}})
		if err := os.WriteFile(archive, imagetest.DockerArchive(t, imagetest.Named{Names: []string{"example/hello:1"}, Image: built}), 0o600); err != nil {
			t.Fatal(err)
		}
		list := func() string {
			c := spawn(t, nil, "image", "list", "--data", l.data)
			if err := c.end(0); err != nil {
				t.Fatalf("%v\n%s", err, c.output.String())
			}
			return c.output.String()
		}
		top := l
		for _, running := range []bool{true, false} {
			if !running {
				if err := top.signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}
			c := spawn(t, nil, "image", "import", "--data", l.data, archive)
			if err := c.end(0); err != nil {
				t.Fatalf("node running: %v: %v\n%s", running, err, c.output.String())
			}
			if !strings.Contains(list(), "example/hello:1") {
				t.Fatalf("node running: %v: the image is not in the list:\n%s", running, list())
			}
		}
		broken := spawn(t, nil, "image", "import", "--data", l.data, "/etc/hostname")
		if err := broken.end(0); err == nil {
			t.Fatalf("what is no archive was imported:\n%s", broken.output.String())
		}
		top.start()
	})
	t.Run("end with the tasks", func(t *testing.T) {
		definition := l.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
		l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
		l.flags = append(l.flags, "--stop-tasks")
		if err := l.signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if len(l.groupsOnMachine()) == 0 {
			t.Fatal("Ctrl-C took the tasks with it, though nobody asked for that")
		}
		l.start()
		if err := l.signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if left := l.groupsOnMachine(); len(left) > 0 {
			t.Fatalf("tasks are left after --stop-tasks: %v", left)
		}
		l.start()
	})
}
