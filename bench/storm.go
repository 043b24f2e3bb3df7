package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"
)

const (
	stormTasks   = 500
	stormBatch   = 10 // tasks of one RunTask call, the API's most
	stormMemory  = 16 // MiB a task
	stormCallers = 4
	stormLimit   = 4 * time.Minute
	// describeMost is how many tasks are asked about at once: the answer costs time
	// that the tasks need.
	describeMost = 25
)

// storm is many tasks at once on one node.
type storm struct {
	b      *bench
	server *server
	ecs    *ecs.Client
	n      int
	tasks  []string
}

// measureStorm starts many tasks as fast as the API takes them, kills the node's
// process and starts it again while they run, and stops them all.
func measureStorm(ctx context.Context, b *bench) (err error) {
	if os.Geteuid() != 0 {
		b.add(row{Name: "storm", Note: "needs root"})
		return nil
	}
	s := storm{b: b, n: b.samples(stormTasks, 40)}
	command := []string{"up", "--no-sample", "--stop-tasks"}
	if s.server, err = b.open(ctx, "storm", command...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.server.stop()) }()
	s.ecs = s.server.ecs()
	if err := awaitNode(ctx, s.ecs); err != nil {
		return err
	}
	before, err := residentOf(s.server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.memory(ctx, before); err != nil {
		return err
	}
	if err := s.adopt(ctx, command); err != nil {
		return err
	}
	return s.stop(ctx)
}

// start measures the time from the first call to all tasks RUNNING.
func (s *storm) start(ctx context.Context) error {
	definition, err := s.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("storm"), NetworkMode: types.NetworkModeBridge,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(stormMemory), Cpu: 2, Essential: aws.Bool(true),
			Command: []string{"sleep", "600"},
		}},
	})
	if err != nil {
		return err
	}
	began := time.Now()
	var mu sync.Mutex
	if err := s.each(ctx, s.n/stormBatch, func(ctx context.Context, _ int) error {
		out, err := s.ecs.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: definition.TaskDefinition.TaskDefinitionArn, Count: aws.Int32(stormBatch)})
		if err != nil {
			return err
		}
		if len(out.Tasks) != stormBatch {
			return fmt.Errorf("RunTask placed %d of %d tasks: %s", len(out.Tasks), stormBatch, failures(out.Failures))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, t := range out.Tasks {
			s.tasks = append(s.tasks, aws.ToString(t.TaskArn))
		}
		return nil
	}); err != nil {
		return err
	}
	accepted := time.Since(began)
	if err := s.await(ctx, "RUNNING"); err != nil {
		return err
	}
	took := time.Since(began)
	main, err := s.server.cpu()
	if err != nil {
		return err
	}
	s.b.add(row{
		Name: fmt.Sprintf("storm of %d tasks → all RUNNING", s.n), Unit: "tasks/s", Samples: s.n, Median: float64(s.n) / took.Seconds(), Budget: 50, Goal: 150,
		Note: fmt.Sprintf("bridge mode, %d callers, count=%d; the calls took %s of %s; CPU a task: %s ms in the server and agent, %s ms in shims and containers",
			stormCallers, stormBatch, accepted.Round(10*time.Millisecond), took.Round(10*time.Millisecond),
			figure(milliseconds(main)/float64(s.n)), figure(milliseconds(descendantsCPU(s.server.cmd.Process.Pid))/float64(s.n))),
	})
	return nil
}

// memory is what a task costs the node: its shim, and its share of the agent.
func (s *storm) memory(ctx context.Context, before resident) error {
	if err := pause(ctx, 5*time.Second); err != nil { // shims give memory back when they have settled
		return err
	}
	own, err := ownMemory(s.server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	var shim, anonymous float64
	children := childrenOf(s.server.cmd.Process.Pid)
	for _, pid := range children {
		r, err := ownMemory(pid)
		if err != nil {
			return err
		}
		shim, anonymous = shim+r.pss, anonymous+r.anonymous
	}
	n := float64(max(1, len(children)))
	s.b.add(row{
		Name: "memory of a task's shim, PSS", Unit: "MB", Samples: len(children), Median: shim / n,
		Note: fmt.Sprintf("of it anonymous %s; besides, server and agent grew by %s a task; the container's own is its task's", figure(anonymous/n), figure((own.rss-before.rss)/float64(s.n))),
	})
	return nil
}

// adopt kills the process of server and agent and starts it again.
func (s *storm) adopt(ctx context.Context, command []string) error {
	if err := s.server.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.server.ended
	began := time.Now()
	next, err := s.b.open(ctx, "storm", command...)
	if err != nil {
		return err
	}
	s.server, s.ecs = next, next.ecs()
	answered := time.Since(began)
	err = pollFor(ctx, stormLimit, 5*time.Millisecond, "every task is watched again", func(context.Context) (bool, error) {
		n, err := connections(s.server.cmd.Process.Pid)
		return n >= s.n, err
	})
	if err != nil {
		return err
	}
	watched := time.Since(began)
	if err := awaitNode(ctx, s.ecs); err != nil {
		return err
	}
	s.b.add(row{
		Name: fmt.Sprintf("kill -9 and start → %d tasks watched again", s.n), Unit: "ms", Samples: 1, Median: milliseconds(watched),
		Note: fmt.Sprintf("one process of server and agent; first answer after %s, node connected after %s",
			answered.Round(time.Millisecond), time.Since(began).Round(time.Millisecond)),
	})
	return s.await(ctx, "RUNNING")
}

func (s *storm) stop(ctx context.Context) error {
	began := time.Now()
	if err := s.each(ctx, len(s.tasks), func(ctx context.Context, i int) error {
		_, err := s.ecs.StopTask(ctx, &ecs.StopTaskInput{Task: &s.tasks[i]})
		return err
	}); err != nil {
		return err
	}
	accepted := time.Since(began)
	if err := s.await(ctx, "STOPPED"); err != nil {
		return err
	}
	took := time.Since(began)
	s.b.add(row{
		Name: fmt.Sprintf("StopTask × %d → all STOPPED", s.n), Unit: "tasks/s", Samples: s.n, Median: float64(s.n) / took.Seconds(),
		Note: fmt.Sprintf("the calls took %s of %s, with the API's throttle", accepted.Round(10*time.Millisecond), took.Round(10*time.Millisecond)),
	})
	return nil
}

// each makes n calls from a few callers; a throttled one is made again.
func (s *storm) each(ctx context.Context, n int, call func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(stormCallers)
	for i := range n {
		group.Go(func() error {
			for {
				err := call(ctx, i)
				var api smithy.APIError
				if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" {
					return err
				}
				if err := pause(ctx, 50*time.Millisecond); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// await returns when DescribeTasks shows all tasks with a status. Tasks that have
// it are not asked about again.
func (s *storm) await(ctx context.Context, status string) error {
	left := s.tasks
	return pollFor(ctx, stormLimit, 50*time.Millisecond, "all tasks are "+status, func(ctx context.Context) (bool, error) {
		// The first ones tell whether it is worth asking about the others.
		out, err := s.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: left[:min(len(left), describeMost)]})
		if err != nil {
			return false, err
		}
		var still []string
		for _, t := range out.Tasks {
			switch last := aws.ToString(t.LastStatus); {
			case last == "STOPPED" && status != last:
				return false, fmt.Errorf("a task stopped: %s", aws.ToString(t.StoppedReason))
			case last != status:
				still = append(still, aws.ToString(t.TaskArn))
			}
		}
		left = append(still, left[min(len(left), describeMost):]...)
		return len(left) == 0, nil
	})
}

// connections counts a process's connected Unix sockets: a node's to its shims.
func connections(pid int) (int, error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	own := map[string]bool{}
	for _, link := range links {
		target, _ := os.Readlink(link) // a descriptor that has just been closed
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	raw, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		const connected, state, inode = "03", 5, 6
		if fields := strings.Fields(line); len(fields) > inode && fields[state] == connected && own[fields[inode]] {
			n++
		}
	}
	return n, nil
}

// descendantsCPU is the processor time of a process's living descendants and of
// what they have waited for.
func descendantsCPU(pid int) (total time.Duration) {
	for _, child := range childrenOf(pid) {
		own, waited, err := processCPU(child)
		if err != nil {
			continue // it has just ended
		}
		total += own + waited + descendantsCPU(child)
	}
	return total
}
