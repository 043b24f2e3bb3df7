package test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
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
)

const (
	region    = "us-east-1"
	keyID     = "AKIAEXAMPLEEXAMPLE00"
	secret    = "example/secret/of/the/end/to/end/tests00"
	debianCLI = "/usr/bin/aws"
)

// longshore is one running `longshore up`.
type longshore struct {
	t        *testing.T
	binary   string
	data     string
	name     string // of the node, in the names of all that it makes on the machine
	listen   string
	flags    []string
	process  *exec.Cmd
	output   *bytes.Buffer
	exited   chan error
	endpoint string
	client   aws.HTTPClient // nil: the SDK's own
}

// binary returns the built binary, or skips. LONGSHORE_BINARY names another.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(cmp.Or(os.Getenv("LONGSHORE_BINARY"), "../bin/longshore"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("bin/longshore is not built: run make build")
	}
	return path
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("running containers needs root")
	}
}

// up starts a Longshore and waits until it answers. Its tasks are stopped, and
// the machine compared with before, at the test's end.
func up(t *testing.T, flags ...string) *longshore {
	t.Helper()
	needRoot(t)
	l := &longshore{t: t, binary: binary(t), data: t.TempDir(), listen: freeAddress(t), flags: flags}
	l.endpoint = "http://" + l.listen
	l.name = nodeName(l.data)
	checkLeaks(t, l.data)
	l.start()
	t.Cleanup(l.end)
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// launch starts the process over whatever its data directory holds.
func (l *longshore) launch() {
	l.t.Helper()
	args := append([]string{"up", "--data", l.data, "--listen", l.listen}, l.flags...)
	l.process = exec.Command(l.binary, args...)
	l.process.Env = append(os.Environ(), "LONGSHORE_ROOT_ACCESS_KEY_ID="+keyID, "LONGSHORE_ROOT_SECRET_ACCESS_KEY="+secret)
	l.output = &bytes.Buffer{}
	l.process.Stdout, l.process.Stderr = l.output, l.output
	if err := l.process.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.exited = make(chan error, 1)
	go func(p *exec.Cmd, exited chan error) { exited <- p.Wait() }(l.process, l.exited)
}

// start launches the process and waits until server and node are up.
func (l *longshore) start() {
	l.t.Helper()
	l.launch()
	l.eventually("the server answers", func() error {
		response, err := http.Get(l.endpoint + "/_longshore/health")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
	l.eventually("the node is connected", func() error {
		out, err := l.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: l.instances()})
		if err != nil {
			return err
		}
		for _, i := range out.ContainerInstances {
			if i.AgentConnected {
				return nil
			}
		}
		return errors.New("no container instance is connected")
	})
}

func (l *longshore) instances() []string {
	out, err := l.ecs().ListContainerInstances(context.Background(), &ecs.ListContainerInstancesInput{})
	if err != nil || len(out.ContainerInstanceArns) == 0 {
		return []string{"none"}
	}
	return out.ContainerInstanceArns
}

// signal sends the process a signal and waits for its end.
func (l *longshore) signal(s syscall.Signal) error {
	l.t.Helper()
	if err := l.process.Process.Signal(s); err != nil {
		l.t.Fatal(err)
	}
	select {
	case err := <-l.exited:
		l.process = nil
		return err
	case <-time.After(time.Minute):
		l.t.Fatalf("longshore has not ended a minute after %s:\n%s", s, l.output)
		return nil
	}
}

// end stops every task and the process.
func (l *longshore) end() {
	if l.process == nil {
		l.start()
	}
	for _, cluster := range l.clusters() {
		out, err := l.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{Cluster: aws.String(cluster)})
		if err != nil {
			l.t.Error(err)
			continue
		}
		for _, task := range out.TaskArns {
			if _, err := l.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Cluster: aws.String(cluster), Task: aws.String(task)}); err != nil {
				l.t.Error(err)
			}
		}
		l.awaitStopped(cluster, out.TaskArns)
	}
	if err := l.signal(syscall.SIGINT); err != nil {
		l.t.Errorf("longshore ended with %v", err)
	}
	if l.t.Failed() {
		l.t.Logf("longshore wrote:\n%s", l.output)
	}
}

func (l *longshore) clusters() []string {
	out, err := l.ecs().ListClusters(context.Background(), &ecs.ListClustersInput{})
	if err != nil {
		l.t.Error(err)
		return nil
	}
	return out.ClusterArns
}

func (l *longshore) awaitStopped(cluster string, tasks []string) {
	if len(tasks) == 0 {
		return
	}
	l.eventually("all tasks have stopped", func() error {
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: tasks})
		if err != nil {
			return err
		}
		for _, task := range out.Tasks {
			if aws.ToString(task.LastStatus) != "STOPPED" {
				return errors.New(aws.ToString(task.TaskArn) + " is " + aws.ToString(task.LastStatus))
			}
		}
		return nil
	})
}

// eventually repeats check until it is nil, for at most a minute.
func (l *longshore) eventually(what string, check func() error) {
	l.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case end := <-l.exited:
			l.exited <- end
			l.t.Fatalf("longshore ended (%v) instead; it wrote:\n%s", end, l.output)
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("waiting until %s: %v\nlongshore wrote:\n%s", what, err, l.output)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func credentials(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
}

func (l *longshore) ecs() *ecs.Client {
	return ecs.New(ecs.Options{Region: region, BaseEndpoint: &l.endpoint, HTTPClient: l.client, Credentials: aws.CredentialsProviderFunc(credentials)})
}

// command is Debian's AWS CLI, pointed at this Longshore.
func (l *longshore) command(args ...string) *exec.Cmd {
	l.t.Helper()
	if _, err := os.Stat(debianCLI); err != nil {
		l.t.Skip("Debian's awscli is not installed: make test installs it")
	}
	c := exec.Command(debianCLI, append([]string{"--endpoint-url", l.endpoint, "--output", "json"}, args...)...)
	c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+keyID, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_DEFAULT_REGION="+region, "AWS_PAGER=")
	return c
}

// aws runs the CLI and decodes its answer into out, which may be nil.
func (l *longshore) aws(out any, args ...string) {
	l.t.Helper()
	c := l.command(args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	raw, err := c.Output()
	if err != nil {
		l.t.Fatalf("aws %s: %v\n%s\nlongshore wrote:\n%s", strings.Join(args, " "), err, stderr.String(), l.output)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(raw, out); err != nil {
		l.t.Fatalf("aws %s answered %q: %v", strings.Join(args, " "), raw, err)
	}
}

// get fetches a URL of a task, as `curl --retry-connrefused` would: a task is
// RUNNING when its process was started, and that listens a moment later.
func (l *longshore) get(url string) (page string) {
	l.t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	l.eventually(url+" answers", func() error {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			l.t.Fatalf("GET %s: %s %v", url, response.Status, err)
		}
		page = string(body)
		return nil
	})
	return page
}

// within returns the same Longshore for a subtest.
func (l *longshore) within(t *testing.T) *longshore {
	sub := *l
	sub.t = t
	return &sub
}
