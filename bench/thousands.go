package main

import (
	"context"
	"errors"
	"fmt"

	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// fleetTasks is how many tasks are run on the whole fleet, ten with each call.
const fleetTasks = 5000

// thousands measures one server with a whole fleet of simulated agents, which run
// in a process of their own: each has its two websockets, acknowledges what it is
// told, reports tasks RUNNING without starting them, and publishes idle telemetry.
type thousands struct {
	b      *bench
	server *server
	agents *agents
	count  int
	tasks  int
	task   string // definition
}

func measureFleet(ctx context.Context, b *bench) (err error) {
	t := &thousands{b: b, count: b.samples(5000, 300), tasks: b.samples(fleetTasks, 300)}
	if t.server, err = b.open(ctx, "fleet", "server"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.server.stop()) }()
	definition, err := defineFleet(ctx, t.server.ecs())
	if err != nil {
		return err
	}
	t.task = aws.ToString(definition.TaskDefinitionArn)
	empty, err := settledMemory(ctx, t.server)
	if err != nil {
		return err
	}
	t.agents, err = startAgents(ctx, agentsConfig{Endpoint: t.server.endpoint, Count: t.count, Requires: definition.RequiresAttributes})
	if err != nil {
		return err
	}
	defer t.agents.close()
	for _, step := range []func(context.Context) error{
		t.join, func(ctx context.Context) error { return t.idle(ctx, empty) }, t.describe, t.run, t.reconnect,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *thousands) name(what string) string { return fmt.Sprintf("%d agents: %s", t.count, what) }

// join times the registrations and the first connections.
func (t *thousands) join(ctx context.Context) error {
	began, before, err := t.start()
	if err != nil {
		return err
	}
	if err := t.agents.until(ctx, "all are registered", func(r agentsReport) bool { return r.Registered == t.count }); err != nil {
		return err
	}
	took, used, err := t.since(began, before)
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("RegisterContainerInstance, 64 at once"), Unit: "calls/s", Samples: t.count, Median: float64(t.count) / took.Seconds(),
		Note: fmt.Sprintf("each call is on disk when it is answered; of the server's CPU %s ms a call", figure(milliseconds(used)/float64(t.count))),
	})
	if began, before, err = t.start(); err != nil {
		return err
	}
	if err := t.connected(ctx); err != nil {
		return err
	}
	took, used, err = t.since(began, before)
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("first connection of all"), Unit: "s", Samples: 1, Median: took.Seconds(),
		Note: fmt.Sprintf("two websockets each, all at once; of the server's CPU %s s", figure(used.Seconds())),
	})
	return nil
}

// connected waits until every agent has both of its sessions.
func (t *thousands) connected(ctx context.Context) error {
	return t.agents.until(ctx, "all are connected", func(r agentsReport) bool {
		return int(r.Assigned) == t.count && int(r.Telemetry) == t.count
	})
}

// idle measures what the connected fleet costs while nothing happens.
func (t *thousands) idle(ctx context.Context, empty resident) error {
	full, err := settledMemory(ctx, t.server)
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("memory of the server for one"), Unit: "kB", Samples: 1, Median: (full.rss - empty.rss) * 1e3 / float64(t.count),
		Note: fmt.Sprintf("its RSS went from %s to %s MB, of it anonymous from %s to %s MB; with its records and two websockets",
			figure(empty.rss), figure(full.rss), figure(empty.anonymous), figure(full.anonymous)),
	})
	period := 60 * time.Second
	if t.b.quick {
		period = 20 * time.Second
	}
	began, before, err := t.start()
	if err != nil {
		return err
	}
	if err := pause(ctx, period); err != nil {
		return err
	}
	took, used, err := t.since(began, before)
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("CPU of the server, idle"), Unit: "% of a core", Samples: 1, Median: 100 * used.Seconds() / took.Seconds(),
		Note: fmt.Sprintf("heartbeats every 25 s on both sockets and a signed telemetry frame every 20 s from each, over %s", period),
	})
	return nil
}

// describe times the calls that look at the fleet.
func (t *thousands) describe(ctx context.Context) error {
	client := t.server.ecs()
	list, err := client.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{Cluster: aws.String(fleetCluster), MaxResults: aws.Int32(100)})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"ListContainerInstances with a filter", func() error {
			_, err := client.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{
				Cluster: aws.String(fleetCluster), Filter: aws.String("agentConnected == true and attribute:ecs.os-type == none"),
			})
			return err
		}},
		{"DescribeContainerInstances of 100", func() error {
			_, err := client.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{Cluster: aws.String(fleetCluster), ContainerInstances: list.ContainerInstanceArns})
			return err
		}},
		{"DescribeClusters", func() error {
			_, err := client.DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{fleetCluster}})
			return err
		}},
	} {
		var samples times
		for range t.b.samples(40, 10) {
			if err := samples.take(c.call); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		t.b.add(latency(t.name(c.name), samples, true))
	}
	return nil
}

// run times tasks from the first call to the last RUNNING that the server shows.
func (t *thousands) run(ctx context.Context) error {
	client := t.server.ecs()
	began, before, err := t.start()
	if err != nil {
		return err
	}
	_, _, err = burst(ctx, apiCallers, t.tasks/10, func(ctx context.Context) error {
		out, err := client.RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String(fleetCluster), TaskDefinition: &t.task, Count: aws.Int32(10)})
		if err == nil && len(out.Tasks) != 10 {
			err = fmt.Errorf("RunTask placed %d of 10 tasks: %s", len(out.Tasks), failures(out.Failures))
		}
		return err
	})
	if err != nil {
		return err
	}
	called := time.Since(began)
	err = poll(ctx, 5*time.Millisecond, "all tasks run", func(ctx context.Context) (bool, error) {
		out, err := client.DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{fleetCluster}})
		return err == nil && len(out.Clusters) == 1 && int(out.Clusters[0].RunningTasksCount) == t.tasks, err
	})
	if err != nil {
		return err
	}
	took, used, err := t.since(began, before)
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("RunTask → RUNNING"), Unit: "tasks/s", Samples: t.tasks, Median: float64(t.tasks) / took.Seconds(), Budget: 1500, Goal: 3750,
		Note: fmt.Sprintf("%d callers, count=10; every transition on disk before it is answered; the calls took %s s, all tasks ran after %s s; of the server's CPU %s ms a task; the agents share the cores",
			apiCallers, figure(called.Seconds()), figure(took.Seconds()), figure(milliseconds(used)/float64(t.tasks))),
	})
	return nil
}

// reconnect kills the server and times how long the fleet takes to come back.
func (t *thousands) reconnect(ctx context.Context) error {
	listen := strings.TrimPrefix(t.server.endpoint, "http://")
	if err := t.server.kill(); err != nil {
		return err
	}
	began := time.Now()
	next, err := t.b.launchAt(listen, "fleet", "server")
	if err != nil {
		return err
	}
	t.server = next
	if err := next.ready(ctx); err != nil {
		return err
	}
	ready := time.Since(began)
	if err := t.connected(ctx); err != nil {
		return err
	}
	err = poll(ctx, 20*time.Millisecond, "the server counts on all agents", func(ctx context.Context) (bool, error) {
		connected, token := 0, (*string)(nil)
		for {
			out, err := next.ecs().ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{
				Cluster: aws.String(fleetCluster), Filter: aws.String("agentConnected == true"), NextToken: token,
			})
			if err != nil {
				return false, err
			}
			if connected += len(out.ContainerInstanceArns); out.NextToken == nil {
				return connected == t.count, nil
			}
			token = out.NextToken
		}
	})
	if err != nil {
		return err
	}
	used, err := next.cpu()
	if err != nil {
		return err
	}
	t.b.add(row{
		Name: t.name("kill -9 of the server → all reconnected"), Unit: "s", Samples: 1, Median: time.Since(began).Seconds(),
		Note: fmt.Sprintf("it answered after %s s; the agents pause as Amazon's (250 ms × 1.5); of the new server's CPU %s s", figure(ready.Seconds()), figure(used.Seconds())),
	})
	return nil
}

// settledMemory is what the server holds once it has settled.
func settledMemory(ctx context.Context, s *server) (resident, error) {
	if err := pause(ctx, 5*time.Second); err != nil {
		return resident{}, err
	}
	return residentOf(s.cmd.Process.Pid)
}

func (t *thousands) start() (time.Time, time.Duration, error) {
	used, err := t.server.cpu()
	return time.Now(), used, err
}

func (t *thousands) since(began time.Time, before time.Duration) (took, used time.Duration, err error) {
	took = time.Since(began)
	after, err := t.server.cpu()
	return took, after - before, err
}
