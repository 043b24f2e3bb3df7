package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// logged makes a container write to the log group /test, in a stream of the family's.
func logged(family string) *types.LogConfiguration {
	return &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{
		"awslogs-group": "/test", "awslogs-region": region, "awslogs-stream-prefix": family, "awslogs-create-group": "true",
	}}
}

// container is a container of the sample that writes to the log group /test.
func container(family, name string, command ...string) types.ContainerDefinition {
	return types.ContainerDefinition{
		Name: aws.String(name), Image: aws.String("longshore/sample"), Memory: aws.Int32(64), Command: command,
		LogConfiguration: logged(family), StopTimeout: aws.Int32(2),
	}
}

// define registers a task definition.
func (l *longshore) define(in *ecs.RegisterTaskDefinitionInput) string {
	l.t.Helper()
	out, err := l.ecs().RegisterTaskDefinition(context.Background(), in)
	if err != nil {
		l.t.Fatal(err)
	}
	return aws.ToString(out.TaskDefinition.TaskDefinitionArn)
}

// begin starts a task of a new definition.
func (l *longshore) begin(in *ecs.RegisterTaskDefinitionInput) string {
	l.t.Helper()
	out, err := l.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String(l.define(in))})
	if err != nil {
		l.t.Fatal(err)
	}
	if len(out.Tasks) != 1 {
		l.t.Fatalf("no task was placed: %+v", out.Failures)
	}
	return aws.ToString(out.Tasks[0].TaskArn)
}

// ended waits until a task has stopped.
func (l *longshore) ended(arn string) types.Task {
	l.t.Helper()
	var task types.Task
	l.eventually(arn+" has stopped", func() error {
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
		if err != nil || len(out.Tasks) != 1 {
			return fmt.Errorf("%v %v", out, err)
		}
		if task = out.Tasks[0]; aws.ToString(task.LastStatus) != "STOPPED" {
			return fmt.Errorf("it is %s", aws.ToString(task.LastStatus))
		}
		return nil
	})
	return task
}

func idOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// written is what a container of a task has written to its log.
func (l *longshore) written(family, name, arn string) string {
	l.t.Helper()
	client := cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
	var text strings.Builder
	in := &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: aws.String("/test"), LogStreamName: aws.String(family + "/" + name + "/" + idOf(arn)), StartFromHead: aws.Bool(true),
	}
	for {
		out, err := client.GetLogEvents(context.Background(), in)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, e := range out.Events {
			text.WriteString(aws.ToString(e.Message) + "\n")
		}
		if aws.ToString(out.NextForwardToken) == aws.ToString(in.NextToken) {
			return text.String()
		}
		in.NextToken = out.NextForwardToken
	}
}

// one runs a task of one container to its end, and returns the task and its output.
func (l *longshore) one(family string, change func(*ecs.RegisterTaskDefinitionInput, *types.ContainerDefinition), command ...string) (types.Task, string) {
	l.t.Helper()
	in := &ecs.RegisterTaskDefinitionInput{
		Family: &family, NetworkMode: types.NetworkModeBridge, ContainerDefinitions: []types.ContainerDefinition{container(family, "app", command...)},
	}
	if change != nil {
		change(in, &in.ContainerDefinitions[0])
	}
	arn := l.begin(in)
	task := l.ended(arn)
	if len(task.Containers) != len(in.ContainerDefinitions) {
		l.t.Fatalf("%d containers, want %d", len(task.Containers), len(in.ContainerDefinitions))
	}
	if code := task.Containers[0].ExitCode; code == nil {
		return task, ""
	}
	return task, l.written(family, "app", arn)
}

// TestNodeReasons lets tasks fail in the ways that tasks fail, and reads what
// DescribeTasks says about it.
func TestNodeReasons(t *testing.T) {
	l := up(t, "--no-sample")
	for _, test := range []struct {
		name      string
		change    func(*ecs.RegisterTaskDefinitionInput, *types.ContainerDefinition)
		command   []string
		stop      types.TaskStopCode
		reason    string // regular expressions
		container string
		code      int32 // -1: none
	}{
		{"exit code", nil, []string{"exit", "7"}, types.TaskStopCodeEssentialContainerExited, `^Essential container in task exited$`, `^$`, 7},
		{"out of memory", func(_ *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) { c.Memory = aws.Int32(32) }, []string{"burn", "memory"},
			types.TaskStopCodeEssentialContainerExited, `^(Essential container in task exited|OutOfMemoryError.*)$`, `^OutOfMemoryError: Container killed due to memory usage$`, 137},
		{"no such image", func(_ *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			c.Image = aws.String("127.0.0.1:1/nobody/nothing:latest")
		}, nil, types.TaskStopCodeTaskFailedToStart, `^CannotPullContainerError: .*127\.0\.0\.1:1.*refused`, `^CannotPullContainerError: `, -1},
		{"no such command", func(_ *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			c.EntryPoint = []string{"/no/such/program"}
		}, nil, types.TaskStopCodeTaskFailedToStart, `^Cannot(Start|Create)ContainerError: .*no/such/program`, `^Cannot(Start|Create)ContainerError: `, -1},
		{"no such log group", func(_ *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			c.LogConfiguration.Options["awslogs-group"] = "/missing"
			delete(c.LogConfiguration.Options, "awslogs-create-group")
		}, []string{"echo", "hello"}, types.TaskStopCodeTaskFailedToStart,
			`^CannotStartContainerError: Error response from daemon: failed to initialize logging driver: failed to create Cloudwatch log stream: .*The specified log group does not exist`, `^CannotStartContainerError`, -1},
		{"dependency failed", func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			in.ContainerDefinitions = append(in.ContainerDefinitions, container("d", "init", "exit", "9"))
			in.ContainerDefinitions[1].Essential = aws.Bool(false)
			in.ContainerDefinitions[0].DependsOn = []types.ContainerDependency{{ContainerName: aws.String("init"), Condition: types.ContainerConditionSuccess}}
		}, []string{"echo", "hello"}, types.TaskStopCodeTaskFailedToStart, `init did not exit successfully`, `^$`, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := l.within(t)
			task, _ := l.one(strings.ReplaceAll(test.name, " ", "-"), test.change, test.command...)
			app := task.Containers[0]
			for _, c := range task.Containers {
				if aws.ToString(c.Name) == "app" {
					app = c
				}
			}
			if task.StopCode != test.stop || !regexp.MustCompile(test.reason).MatchString(aws.ToString(task.StoppedReason)) {
				t.Errorf("the task stopped with %s %q, want %s %s", task.StopCode, aws.ToString(task.StoppedReason), test.stop, test.reason)
			}
			if !regexp.MustCompile(test.container).MatchString(aws.ToString(app.Reason)) {
				t.Errorf("the container's reason is %q, want %s", aws.ToString(app.Reason), test.container)
			}
			if test.code >= 0 && (app.ExitCode == nil || *app.ExitCode != test.code) || test.code < 0 && app.ExitCode != nil {
				t.Errorf("the exit code is %v, want %d", app.ExitCode, test.code)
			}
		})
	}
	t.Run("health", func(t *testing.T) {
		l := l.within(t)
		for status, check := range map[types.HealthStatus][]string{
			types.HealthStatusHealthy: {"CMD", "/sample", "exit", "0"}, types.HealthStatusUnhealthy: {"CMD", "/sample", "exit", "1"},
		} {
			c := container("health", "app", "sleep", "600")
			c.HealthCheck = &types.HealthCheck{Command: check, Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1)}
			arn := l.begin(&ecs.RegisterTaskDefinitionInput{Family: aws.String("health"), ContainerDefinitions: []types.ContainerDefinition{c}})
			l.eventually("the task is "+string(status), func() error {
				out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
				if err != nil || len(out.Tasks) != 1 {
					return fmt.Errorf("%v %v", out, err)
				}
				if got := out.Tasks[0]; got.HealthStatus != status || got.Containers[0].HealthStatus != status {
					return fmt.Errorf("it is %s, its container %s", got.HealthStatus, got.Containers[0].HealthStatus)
				}
				return nil
			})
		}
	})
	t.Run("stop while it ignores SIGTERM", func(t *testing.T) {
		l := l.within(t)
		arn := l.begin(&ecs.RegisterTaskDefinitionInput{Family: aws.String("stubborn"), ContainerDefinitions: []types.ContainerDefinition{container("stubborn", "app", "ignore-term")}})
		l.await("", arn, "RUNNING")
		l.eventually("it listens to signals", func() error {
			if out := l.written("stubborn", "app", arn); !strings.Contains(out, "ignoring") {
				return fmt.Errorf("it wrote %q", out)
			}
			return nil
		})
		began := time.Now()
		if _, err := l.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn}); err != nil {
			t.Fatal(err)
		}
		task := l.ended(arn)
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("it was killed after %s, within its stop timeout of 2 s", took)
		}
		if code := task.Containers[0].ExitCode; code == nil || *code != 137 {
			t.Errorf("the exit code is %v, want 137", code)
		}
	})
}

// TestNodeMetadata reads the task metadata endpoint from inside containers, in
// every network mode.
func TestNodeMetadata(t *testing.T) {
	l := up(t, "--no-sample")
	for _, mode := range []types.NetworkMode{types.NetworkModeBridge, types.NetworkModeAwsvpc, types.NetworkModeHost, types.NetworkModeNone} {
		t.Run(string(mode), func(t *testing.T) {
			l := l.within(t)
			family := "metadata-" + string(mode)
			c := container(family, "app", "sleep", "600")
			c.Environment = []types.KeyValuePair{{Name: aws.String("SECRET"), Value: aws.String("hush-hush")}}
			c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/sample", "exit", "0"}, Interval: aws.Int32(5)}
			definition := l.define(&ecs.RegisterTaskDefinitionInput{Family: &family, NetworkMode: mode, ContainerDefinitions: []types.ContainerDefinition{c}})
			in := &ecs.RunTaskInput{TaskDefinition: &definition}
			if mode == types.NetworkModeAwsvpc {
				in.NetworkConfiguration = l.anySubnet()
			}
			task := l.run(in)
			uri := l.metadataURI(idOf(aws.ToString(task.TaskArn)))
			for _, version := range []string{"v3", "v4"} {
				base := strings.Replace(uri, "/v4/", "/"+version+"/", 1)
				for path, names := range map[string][]string{
					"":            {"DockerId", "Name", "DockerName", "Image", "ImageID", "Labels", "DesiredStatus", "KnownStatus", "Limits", "CreatedAt", "StartedAt", "Type", "Networks", "Health"},
					"/task":       {"Cluster", "TaskARN", "Family", "Revision", "DesiredStatus", "KnownStatus", "PullStartedAt", "PullStoppedAt", "Containers", "AvailabilityZone"},
					"/stats":      {"read", "preread", "name", "id", "pids_stats", "cpu_stats", "precpu_stats", "memory_stats"},
					"/task/stats": nil,
				} {
					body := l.inside(idOf(aws.ToString(task.TaskArn)), base+path)
					var got map[string]any
					if err := json.Unmarshal([]byte(body), &got); err != nil {
						t.Fatalf("%s%s answered %q: %v", version, path, body, err)
					}
					if strings.Contains(body, "hush-hush") {
						t.Errorf("%s%s tells the environment: %s", version, path, body)
					}
					for _, name := range names {
						if _, ok := got[name]; !ok {
							t.Errorf("%s%s lacks %s: %s", version, path, name, body)
						}
					}
					if names == nil && len(got) != 1 {
						t.Errorf("%s%s has %d containers: %s", version, path, len(got), body)
					}
				}
			}
			unknown := uri[:strings.LastIndexByte(uri, '/')] + "/00000000-0000-0000-0000-000000000000"
			if status := l.statusInside(idOf(aws.ToString(task.TaskArn)), unknown); status != 404 {
				t.Errorf("an unknown id answered %d, want 404", status)
			}
		})
	}
}

// metadataURI is what a task's container has in its environment.
func (l *longshore) metadataURI(task string) string {
	l.t.Helper()
	return l.environmentOf(task, "ECS_CONTAINER_METADATA_URI_V4")
}

// inside fetches a URL from within a task's network. In host mode 169.254.170.2
// may belong to another node of the machine, which may be away for a moment.
func (l *longshore) inside(task, url string) string {
	l.t.Helper()
	var out []byte
	l.eventually("GET "+url+" inside the task works", func() (err error) {
		out, err = l.curlInside(task, "--fail", url).Output()
		return err
	})
	return string(out)
}

func (l *longshore) statusInside(task, url string) (status int) {
	l.t.Helper()
	out, err := l.curlInside(task, "--output", "/dev/null", "--write-out", "%{http_code}", url).Output()
	if err != nil {
		l.t.Fatalf("GET %s inside the task: %v", url, err)
	}
	if _, err := fmt.Sscan(string(out), &status); err != nil {
		l.t.Fatal(err)
	}
	return status
}

func (l *longshore) curlInside(task string, args ...string) *exec.Cmd {
	l.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		l.t.Skip("curl is not installed: make test installs it")
	}
	args = append([]string{"--target", l.taskProcess(task), "--net", "curl", "--silent", "--max-time", "10"}, args...)
	return exec.Command("nsenter", args...)
}

// stop tells a task to stop.
func (l *longshore) stop(arn string) {
	l.t.Helper()
	if _, err := l.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn}); err != nil {
		l.t.Fatal(err)
	}
}
