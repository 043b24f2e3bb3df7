package test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// serviceNow is a service as DescribeServices has it.
func (l *longshore) serviceNow(name string) types.Service {
	l.t.Helper()
	out, err := l.ecs().DescribeServices(context.Background(), &ecs.DescribeServicesInput{Services: []string{name}})
	if err != nil || len(out.Services) != 1 {
		l.t.Fatalf("%v %v", out, err)
	}
	return out.Services[0]
}

// tasksOf are the ARNs of a service's tasks.
func (l *longshore) tasksOf(service string) []string {
	l.t.Helper()
	out, err := l.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{ServiceName: &service})
	if err != nil {
		l.t.Fatal(err)
	}
	return out.TaskArns
}

// A team runs a service with AWS's CLI alone: it is made, loses tasks, rolls to a good
// version and back from a bad one, while server and node are killed, and goes.
func TestStoryOfAService(t *testing.T) {
	l := up(t, "--no-sample")
	version := func(command ...string) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{container("web", "app", command...)}}
		in.ContainerDefinitions[0].LogConfiguration = nil
		return l.define(in)
	}
	good := version("sleep", "100000")
	l.aws(nil, "ecs", "create-service", "--service-name", "web", "--task-definition", good, "--desired-count", "4",
		"--deployment-configuration", "deploymentCircuitBreaker={enable=true,rollback=true}")
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "web")
	if s := l.serviceNow("web"); s.RunningCount != 4 {
		t.Fatalf("%d tasks run", s.RunningCount)
	}

	// Tasks that are killed from outside are replaced.
	for _, task := range l.tasksOf("web")[:2] {
		l.killTask(idOf(task))
	}
	l.eventually("four tasks run again, two of them new", func() error {
		s := l.serviceNow("web")
		if events := fmt.Sprint(eventsOf(s)); s.RunningCount != 4 || s.PendingCount != 0 || strings.Count(events, "has started") < 2 {
			return fmt.Errorf("%d run: %s", s.RunningCount, events)
		}
		return nil
	})

	// A good version, with the server and the node killed on the way. There are always
	// four tasks.
	better := version("sleep", "200000")
	watch := l.watchHealthy("web", 4)
	l.aws(nil, "ecs", "update-service", "--service", "web", "--task-definition", better)
	time.Sleep(500 * time.Millisecond)
	l.kill()
	l.start()
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "web")
	watch()
	if s := l.serviceNow("web"); aws.ToString(s.TaskDefinition) != better || len(s.Deployments) != 1 {
		t.Errorf("it has %s in %d deployments", aws.ToString(s.TaskDefinition), len(s.Deployments))
	}

	// One that exits at once is rolled back.
	watch = l.watchHealthy("web", 4)
	l.aws(nil, "ecs", "update-service", "--service", "web", "--task-definition", version("exit", "1"))
	l.eventually("the bad version is given up", func() error {
		s := l.serviceNow("web")
		if events := fmt.Sprint(eventsOf(s)); !strings.Contains(events, "rolling back to deployment") {
			return fmt.Errorf("%s", events)
		}
		return nil
	})
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "web")
	watch()
	if s := l.serviceNow("web"); aws.ToString(s.TaskDefinition) != better {
		t.Errorf("it is back at %s", aws.ToString(s.TaskDefinition))
	}

	// So is one that runs and is never healthy.
	sick := &ecs.RegisterTaskDefinitionInput{Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{container("web", "app", "sleep", "300000")}}
	sick.ContainerDefinitions[0].LogConfiguration = nil
	sick.ContainerDefinitions[0].HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/sample", "exit", "1"}, Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1)}
	watch = l.watchHealthy("web", 4)
	l.aws(nil, "ecs", "update-service", "--service", "web", "--task-definition", l.define(sick))
	l.eventually("the sick version is given up", func() error {
		s := l.serviceNow("web")
		if events := fmt.Sprint(eventsOf(s)); strings.Count(events, "rolling back to deployment") != 2 {
			return fmt.Errorf("%s", events)
		}
		return nil
	})
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "web")
	watch()

	l.aws(nil, "ecs", "update-service", "--service", "web", "--desired-count", "1")
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "web")
	l.aws(nil, "ecs", "delete-service", "--service", "web", "--force")
	l.aws(nil, "ecs", "wait", "services-inactive", "--services", "web")
	if left := l.tasksOf("web"); len(left) != 0 {
		t.Errorf("tasks are left: %v", left)
	}
}

func eventsOf(s types.Service) (all []string) {
	for _, e := range s.Events {
		all = append(all, aws.ToString(e.Message))
	}
	return all
}

// killTask ends a task's process from outside.
func (l *longshore) killTask(id string) {
	l.t.Helper()
	pid, err := strconv.Atoi(l.taskProcess(id))
	if err != nil {
		l.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
}

// sleepers counts the sample's processes that sleep, in all tasks of the node.
func (l *longshore) sleepers() (n int) {
	for _, pid := range l.processes("") {
		raw, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil && strings.Contains(string(raw), "sleep\x00") {
			n++
		}
	}
	return n
}

// watchHealthy looks, until it is told to end, that a service has so many containers
// that run, whatever the server says: their processes are counted.
func (l *longshore) watchHealthy(service string, least int) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	fewest := least
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if n := l.sleepers(); n < fewest {
				fewest = n
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-done
		if fewest < least {
			l.t.Errorf("for a moment the service %s had %d of %d tasks", service, fewest, least)
		}
	})
}

// A DAEMON service has its task on the machine; a version that fits nowhere says what it
// lacks, and is taken back.
func TestStoryOfADaemon(t *testing.T) {
	l := up(t, "--no-sample")
	version := func(memory int32) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("agent"), ContainerDefinitions: []types.ContainerDefinition{container("agent", "app", "sleep", "100000")}}
		c := &in.ContainerDefinitions[0]
		c.LogConfiguration, c.Memory = nil, &memory
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/sample", "exit", "0"}, Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1)}
		return l.define(in)
	}
	explain := func(want string) {
		t.Helper()
		var said string
		l.eventually("longshore explain says "+want, func() (err error) {
			if said, err = l.longshoreCLI("explain", "service/agent"); err != nil || !strings.Contains(string(said), want) {
				return fmt.Errorf("%v: %s", err, said)
			}
			return nil
		})
	}
	l.aws(nil, "ecs", "create-service", "--service-name", "agent", "--task-definition", version(32), "--scheduling-strategy", "DAEMON",
		"--deployment-configuration", "minimumHealthyPercent=0,maximumPercent=100")
	explain("waiting  for tasks of the wanted deployment to be healthy")
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "agent")
	explain("it has the 1 tasks that it wants")

	l.aws(nil, "ecs", "update-service", "--service", "agent", "--task-definition", version(64_000_000))
	explain("MiB of memory more")
	stuck := l.serviceNow("agent").CurrentServiceDeployment
	if _, err := l.ecs().StopServiceDeployment(context.Background(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: stuck}); err != nil {
		t.Fatal(err)
	}
	l.eventually("the former version is back", func() error {
		out, err := l.ecs().DescribeServiceDeployments(context.Background(), &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{*stuck}})
		if err != nil || out.ServiceDeployments[0].Status != types.ServiceDeploymentStatusRollbackSuccessful {
			return fmt.Errorf("%+v %w", out, err)
		}
		return nil
	})
	if s := l.serviceNow("agent"); s.RunningCount != 1 || s.DesiredCount != 1 || !strings.HasSuffix(*s.TaskDefinition, ":1") {
		t.Errorf("%d of %d run, %s", s.RunningCount, s.DesiredCount, *s.TaskDefinition)
	}
	l.aws(nil, "ecs", "delete-service", "--service", "agent")
	l.aws(nil, "ecs", "wait", "services-inactive", "--services", "agent")
}
