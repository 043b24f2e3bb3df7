package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	taskMemory = 64 // MiB
	// taskCPU is a weight like that of any other process. With none given, a task
	// has next to no claim to the CPU, and neither has the making of its container.
	taskCPU = 1024
	// pollEvery is how often the client looks at a task.
	pollEvery = 2 * time.Millisecond
	taskLimit = 20 * time.Second
	// handlerWait is what the sample gets to install its signal handler.
	handlerWait = 100 * time.Millisecond
)

// contender starts containers in its own way. All take their samples in turns, so
// that what else the machine does meets all of them.
type contender struct {
	name string
	// once takes one sample for each of its rows.
	once func(context.Context) error
	rows func() []row
	// failed is why it takes no (more) part.
	failed error
	close  func() error // may be nil
}

// measureContainers times tasks on a node, with the peers beside them.
func measureContainers(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		b.add(row{Name: "containers", Note: "needs root"})
		return nil
	}
	s, err := b.open(ctx, "containers", "up", "--no-sample", "--stop-tasks")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	client := s.ecs()
	if err := awaitNode(ctx, client); err != nil {
		return err
	}
	all, err := b.peers()
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range all {
			if c.close != nil {
				err = errors.Join(err, c.close())
			}
		}
	}()
	for _, mode := range []types.NetworkMode{types.NetworkModeBridge, types.NetworkModeHost, types.NetworkModeNone, types.NetworkModeAwsvpc} {
		all = append(all, b.tasks(ctx, client, mode))
	}
	for range b.samples(40, 5) {
		for i := range all {
			if all[i].failed == nil && ctx.Err() == nil {
				all[i].failed = all[i].once(ctx)
			}
		}
	}
	for _, c := range all {
		if c.failed != nil {
			b.add(row{Name: c.name, Note: clip(c.failed.Error(), 160)})
			continue
		}
		for _, r := range c.rows() {
			b.add(r)
		}
	}
	return ctx.Err()
}

// runner runs one task after the other.
type runner struct {
	ecs        *ecs.Client
	definition string
	network    *types.NetworkConfiguration
}

// stages are the times since the RunTask call at which a task got somewhere; the
// server's own are by its clock, which is this machine's.
type stages struct {
	answered, pulling, pulled, started, seen time.Duration
	// stopping is the time from the StopTask call to STOPPED seen.
	stopping time.Duration
}

func awaitNode(ctx context.Context, client *ecs.Client) error {
	return poll(ctx, pollEvery, "the node is connected", func(ctx context.Context) (bool, error) {
		out, err := client.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{Filter: aws.String("agentConnected == true")})
		return err == nil && len(out.ContainerInstanceArns) == 1, err
	})
}

// tasks are tasks of one network mode, one after the other.
func (b *bench) tasks(ctx context.Context, client *ecs.Client, mode types.NetworkMode) contender {
	r := runner{ecs: client}
	var all []stages
	c := contender{name: "RunTask → RUNNING, " + string(mode), failed: r.prepare(ctx, mode)}
	c.once = func(ctx context.Context) error {
		one, err := r.life(ctx)
		all = append(all, one)
		return err
	}
	c.rows = func() []row {
		pick := func(of func(stages) time.Duration) (samples times) {
			for _, s := range all {
				samples = append(samples, of(s))
			}
			return samples
		}
		started := latency(c.name, pick(func(s stages) time.Duration { return s.seen }), true)
		started.Budget, started.P99Budget, started.Goal, started.Floor, started.Peer = 60, 200, 15, floorRow, runcRow
		started.Note = "warm image, one task at a time; seen by DescribeTasks every ~2 ms"
		rows := []row{started}
		if b.steps {
			rows = append(rows,
				since("RunTask answered", pick(func(s stages) time.Duration { return s.answered })),
				since("pullStartedAt", pick(func(s stages) time.Duration { return s.pulling })),
				since("pullStoppedAt", pick(func(s stages) time.Duration { return s.pulled })),
				since("startedAt", pick(func(s stages) time.Duration { return s.started })),
			)
		}
		stopped := latency("StopTask → STOPPED, "+string(mode), pick(func(s stages) time.Duration { return s.stopping }), true)
		stopped.Note = "a program that ends on SIGTERM"
		return append(rows, stopped)
	}
	return c
}

func since(what string, samples times) row {
	r := latency("  … "+what, samples, true)
	r.Note = "since the call"
	return r
}

// prepare registers the task definition and runs it a few times, unmeasured.
func (r *runner) prepare(ctx context.Context, mode types.NetworkMode) error {
	out, err := r.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("bench-" + string(mode)), NetworkMode: mode,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(taskMemory), Cpu: taskCPU, Essential: aws.Bool(true),
			Command: []string{"sleep", "600"},
		}},
	})
	if err != nil {
		return err
	}
	r.definition = aws.ToString(out.TaskDefinition.TaskDefinitionArn)
	if r.network, err = r.networkOf(ctx, mode); err != nil {
		return err
	}
	for range 3 {
		if _, err := r.life(ctx); err != nil {
			return err
		}
	}
	return nil
}

// networkOf is the configuration that awsvpc tasks need: the node's own subnet,
// which is an attribute of its container instance.
func (r *runner) networkOf(ctx context.Context, mode types.NetworkMode) (*types.NetworkConfiguration, error) {
	if mode != types.NetworkModeAwsvpc {
		return nil, nil
	}
	listed, err := r.ecs.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{})
	if err != nil {
		return nil, err
	}
	out, err := r.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{ContainerInstances: listed.ContainerInstanceArns})
	if err != nil {
		return nil, err
	}
	for _, instance := range out.ContainerInstances {
		for _, a := range instance.Attributes {
			if aws.ToString(a.Name) == "ecs.subnet-id" {
				return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{aws.ToString(a.Value)}}}, nil
			}
		}
	}
	return nil, errors.New("the container instance has no attribute ecs.subnet-id")
}

// life runs a task, waits until it is seen running, stops it and waits until it
// is seen stopped.
func (r *runner) life(ctx context.Context) (stages, error) {
	var s stages
	began := time.Now()
	out, err := r.ecs.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: &r.definition, NetworkConfiguration: r.network})
	if err != nil {
		return s, err
	}
	if len(out.Tasks) != 1 {
		return s, fmt.Errorf("RunTask placed nothing: %s", failures(out.Failures))
	}
	s.answered = time.Since(began)
	task := aws.ToString(out.Tasks[0].TaskArn)
	seen, err := r.await(ctx, task, "RUNNING")
	if err != nil {
		return s, err
	}
	s.seen = time.Since(began)
	s.pulling, s.pulled, s.started = after(began, seen.PullStartedAt), after(began, seen.PullStoppedAt), after(began, seen.StartedAt)
	// A program that is process 1 and has no handler yet does not get SIGTERM.
	if err := pause(ctx, handlerWait); err != nil {
		return s, err
	}
	began = time.Now()
	if _, err := r.ecs.StopTask(ctx, &ecs.StopTaskInput{Task: &task}); err != nil {
		return s, err
	}
	if _, err := r.await(ctx, task, "STOPPED"); err != nil {
		return s, err
	}
	s.stopping = time.Since(began)
	return s, nil
}

func after(began time.Time, at *time.Time) time.Duration {
	if at == nil {
		return 0
	}
	return at.Sub(began)
}

func failures(all []types.Failure) string {
	if len(all) == 0 {
		return "no reason given"
	}
	return aws.ToString(all[0].Reason) + " " + aws.ToString(all[0].Detail)
}

// await polls until the task has a status. Another end than STOPPED is an error.
func (r *runner) await(ctx context.Context, task, status string) (seen *types.Task, err error) {
	err = poll(ctx, pollEvery, "the task is "+status, func(ctx context.Context) (bool, error) {
		out, err := r.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: []string{task}})
		if err != nil {
			return false, err
		}
		if len(out.Tasks) != 1 {
			return false, fmt.Errorf("DescribeTasks: %s", failures(out.Failures))
		}
		seen = &out.Tasks[0]
		last := aws.ToString(seen.LastStatus)
		if last == "STOPPED" && status != last {
			return false, fmt.Errorf("the task stopped: %s", aws.ToString(seen.StoppedReason))
		}
		return last == status, nil
	})
	return seen, err
}

// poll asks until the answer is yes, with a pause in between.
func poll(ctx context.Context, every time.Duration, what string, ask func(context.Context) (bool, error)) error {
	return pollFor(ctx, taskLimit, every, what, ask)
}

// pollFor is poll with another limit.
func pollFor(ctx context.Context, limit, every time.Duration, what string, ask func(context.Context) (bool, error)) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, err := ask(limited)
		if done || (err != nil && limited.Err() == nil) {
			return err
		}
		if err := pause(limited, every); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("waited %s in vain until %s", limit, what)
		}
	}
}
