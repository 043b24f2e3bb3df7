package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// sampleTask registers a task definition of one container that runs the sample's
// command, and returns its ARN.
func (l *longshore) sampleTask(family string, mode types.NetworkMode, command ...string) string {
	l.t.Helper()
	return l.web(family, mode, func(in *ecs.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].Command = command
		if mode == types.NetworkModeHost || mode == types.NetworkModeNone {
			in.ContainerDefinitions[0].PortMappings = nil
		}
		in.ContainerDefinitions[0].StopTimeout = aws.Int32(2)
	})
}

// kill ends the process with SIGKILL.
func (l *longshore) kill() {
	l.t.Helper()
	if err := l.signal(syscall.SIGKILL); err == nil {
		l.t.Fatal("longshore ended well on SIGKILL")
	}
}

// groupsOnMachine lists the ids of the tasks that have a cgroup on this machine.
func (l *longshore) groupsOnMachine() []string {
	l.t.Helper()
	ids := map[string]bool{}
	roots := []string{"/sys/fs/cgroup/longshore/" + l.name}
	more, err := filepath.Glob("/sys/fs/cgroup/*/longshore/" + l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, root := range append(roots, more...) {
		entries, err := os.ReadDir(root)
		if err != nil && !os.IsNotExist(err) {
			l.t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() && len(e.Name()) == 32 {
				ids[e.Name()] = true
			}
		}
	}
	all := make([]string, 0, len(ids))
	for id := range ids {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// campaign is a user who starts and stops tasks while the process is killed.
type campaign struct {
	l           *longshore
	random      *rand.Rand
	definitions map[string]string // by kind
	network     *types.NetworkConfiguration
	kinds       map[string]string // of the tasks that RunTask returned, by ARN
	stopped     map[string]bool   // those that StopTask was answered for
}

// act starts and stops a few tasks; calls that the kill cuts off have no say.
func (c *campaign) act(ctx context.Context) {
	for ctx.Err() == nil {
		if live := c.running(); len(live) > 10 || len(live) > 0 && c.random.IntN(3) == 0 {
			arn := live[c.random.IntN(len(live))]
			if _, err := c.l.ecs().StopTask(ctx, &ecs.StopTaskInput{Task: &arn}); err == nil {
				c.stopped[arn] = true
			}
			continue
		}
		kinds := []string{"sleeper", "quick", "short", "vpc", "pair"}
		kind := kinds[c.random.IntN(len(kinds))]
		in := &ecs.RunTaskInput{TaskDefinition: aws.String(c.definitions[kind])}
		if kind == "vpc" {
			in.NetworkConfiguration = c.network
		}
		out, err := c.l.ecs().RunTask(ctx, in)
		if err != nil {
			continue
		}
		for _, task := range out.Tasks {
			c.kinds[aws.ToString(task.TaskArn)] = kind
		}
	}
}

// running are the tasks that nobody has stopped and that do not end by themselves.
func (c *campaign) running() []string {
	var live []string
	for arn, kind := range c.kinds {
		if (kind == "sleeper" || kind == "vpc" || kind == "pair") && !c.stopped[arn] {
			live = append(live, arn)
		}
	}
	slices.Sort(live)
	return live
}

// TestNodeSurvivesKills kills server and node at random moments, then compares
// what DescribeTasks says, what runs, and what the user did. Kills at chosen moments
// are TestKillsAtEveryStage's.
func TestNodeSurvivesKills(t *testing.T) {
	l := up(t, "--no-sample")
	kills, limit := 10, 20*time.Second
	if soaking() {
		kills, limit = 500, 20*time.Minute
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &campaign{
		l: l, random: rand.New(rand.NewPCG(seed, 0)), kinds: map[string]string{}, stopped: map[string]bool{}, network: l.anySubnet(),
		definitions: map[string]string{
			"sleeper": l.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600"),
			"quick":   l.sampleTask("quick", types.NetworkModeBridge, "exit", "3"),
			"short":   l.sampleTask("short", types.NetworkModeNone, "sleep", "0.3"),
			"vpc":     l.sampleTask("vpc", types.NetworkModeAwsvpc, "sleep", "3600"),
			"pair":    l.pair("pair"),
		},
	}
	began, n := time.Now(), 0
	for ; n < kills && time.Since(began) < limit; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.random.IntN(700))*time.Millisecond)
		c.act(ctx)
		cancel()
		l.kill()
		if c.random.IntN(2) == 0 { // and again while it starts
			l.launch()
			time.Sleep(time.Duration(c.random.IntN(800)) * time.Millisecond)
			l.kill()
			n++
		}
		l.start()
	}
	t.Logf("%d kills, %d tasks, %d of them stopped", n, len(c.kinds), len(c.stopped))
	c.converges()
}

// pair registers a task whose second container starts after its first has ended well.
func (l *longshore) pair(family string) string {
	return l.web(family, types.NetworkModeBridge, func(in *ecs.RegisterTaskDefinitionInput) {
		web := &in.ContainerDefinitions[0]
		web.Command, web.StopTimeout = []string{"sleep", "3600"}, aws.Int32(2)
		web.DependsOn = []types.ContainerDependency{{ContainerName: aws.String("init"), Condition: types.ContainerConditionSuccess}}
		web.MountPoints = []types.MountPoint{{SourceVolume: aws.String("scratch"), ContainerPath: aws.String("/scratch")}}
		in.ContainerDefinitions = append(in.ContainerDefinitions, types.ContainerDefinition{
			Name: aws.String("init"), Image: aws.String("longshore/sample"), Memory: aws.Int32(32), Essential: aws.Bool(false),
			Command: []string{"write", "/scratch/made", "10"}, MountPoints: web.MountPoints,
		})
		in.Volumes = []types.Volume{{Name: aws.String("scratch"), Host: &types.HostVolumeProperties{}}}
	})
}

// converges waits until every task is where its user wants it, and nothing else runs.
func (c *campaign) converges() {
	c.l.t.Helper()
	c.l.eventually("all tasks have converged", func() error {
		var running []string
		for _, arn := range c.all() {
			out, err := c.l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
			if err != nil {
				return err
			}
			if len(out.Tasks) != 1 {
				c.l.t.Fatalf("the task %s, which RunTask returned, is gone: %+v", arn, out.Failures)
			}
			if err := c.settled(&out.Tasks[0]); err != nil {
				return err
			}
			if aws.ToString(out.Tasks[0].LastStatus) == "RUNNING" {
				running = append(running, arn[strings.LastIndexByte(arn, '/')+1:])
			}
		}
		slices.Sort(running)
		if got := c.l.groupsOnMachine(); !slices.Equal(got, running) {
			return fmt.Errorf("%d tasks run on the machine, the API says %d: %v, %v", len(got), len(running), got, running)
		}
		return nil
	})
}

// all are the tasks that the user knows of, and those that the API lists beyond.
func (c *campaign) all() []string {
	known := map[string]bool{}
	for arn := range c.kinds {
		known[arn] = true
	}
	for _, status := range []types.DesiredStatus{types.DesiredStatusRunning, types.DesiredStatusStopped} {
		out, err := c.l.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{DesiredStatus: status})
		if err != nil {
			c.l.t.Fatal(err)
		}
		for _, arn := range out.TaskArns {
			known[arn] = true
		}
	}
	var all []string
	for arn := range known {
		all = append(all, arn)
	}
	return all
}

// settled tells what keeps a task from being where it should be. A task that the
// user did not learn of may be anywhere but between.
func (c *campaign) settled(task *types.Task) error {
	arn, status := aws.ToString(task.TaskArn), aws.ToString(task.LastStatus)
	if status != aws.ToString(task.DesiredStatus) {
		return fmt.Errorf("%s is %s and shall be %s", arn, status, aws.ToString(task.DesiredStatus))
	}
	kind, stopped := c.kinds[arn], c.stopped[arn]
	want := map[string]int32{"quick": 3, "short": 0}
	switch code, ends := want[kind]; {
	case kind == "":
	case ends && status != "STOPPED":
		return fmt.Errorf("%s (%s) is %s", arn, kind, status)
	case ends && (task.Containers[0].ExitCode == nil || *task.Containers[0].ExitCode != code):
		c.l.t.Fatalf("%s (%s) ended with %v %q, %q; want exit code %d", arn, kind, task.Containers[0].ExitCode,
			aws.ToString(task.Containers[0].Reason), aws.ToString(task.StoppedReason), code)
	case !ends && stopped && status != "STOPPED":
		return fmt.Errorf("%s (%s) was told to stop and is %s", arn, kind, status)
	case !ends && !stopped && status == "STOPPED" && !c.maybeStopped(task):
		c.l.t.Fatalf("%s (%s) was not told to stop and ended: %s %q", arn, kind, task.StopCode, aws.ToString(task.StoppedReason))
	}
	return nil
}

// maybeStopped tells that a StopTask whose answer the kill cut off has worked.
func (c *campaign) maybeStopped(task *types.Task) bool {
	return task.StopCode == types.TaskStopCodeUserInitiated
}

// processes are the pids of a task's containers on this machine, shims aside.
func (l *longshore) processes(task string) []string {
	l.t.Helper()
	ids := map[string]bool{}
	for _, root := range []string{"/sys/fs/cgroup/longshore/", "/sys/fs/cgroup/pids/longshore/"} {
		err := filepath.WalkDir(filepath.Join(root, l.name, task), func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Base(path) != "cgroup.procs" {
				return nil // it may go meanwhile
			}
			raw, _ := os.ReadFile(path)
			for _, pid := range strings.Fields(string(raw)) {
				ids[pid] = true
			}
			return nil
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	var all []string
	for id := range ids {
		all = append(all, id)
	}
	return all
}

// process is the pid of the one process of a task.
func (l *longshore) taskProcess(task string) string {
	l.t.Helper()
	pid := ""
	l.eventually("the task "+task+" has one process", func() error {
		all := l.processes(task)
		if len(all) != 1 {
			return fmt.Errorf("it has %v", all)
		}
		pid = all[0]
		return nil
	})
	return pid
}
