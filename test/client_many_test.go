package test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestTwoHundredAgentsComeBackAndAgree kills the server twice while tasks are run
// on two hundred agents. All must come back; every call that is repeated with its
// token must have made its tasks once; and each agent must have been told of
// exactly the tasks that the server shows on it.
func TestTwoHundredAgentsComeBackAndAgree(t *testing.T) {
	l := up(t, "--no-sample")
	l.fleet("many")
	var machines []*machine
	for range 200 {
		m := l.machine("many", "us-east-1a", 1000, 1000, nil)
		m.patient.Store(true)
		machines = append(machines, m)
	}
	l.defineOne("many", 100, 100)
	const calls = 60
	var group sync.WaitGroup
	var made atomic.Int32
	run := make(chan int)
	for range 8 {
		group.Go(func() {
			for i := range run {
				made.Add(int32(l.runOnce(fmt.Sprintf("many-%d", i))))
			}
		})
	}
	for i := range calls {
		if i == calls/3 || i == 2*calls/3 {
			if err := l.signal(syscall.SIGKILL); err == nil {
				t.Fatal("the server ended well on SIGKILL")
			}
			l.start()
		}
		run <- i
	}
	close(run)
	group.Wait()
	l.eventually("all agents are back and all tasks run", func() error {
		out, err := l.ecs().DescribeClusters(context.Background(), &ecs.DescribeClustersInput{Clusters: []string{"many"}})
		if err != nil {
			return err
		}
		if c := out.Clusters[0]; c.RunningTasksCount != made.Load() || c.PendingTasksCount != 0 {
			return errNotYet(fmt.Sprintf("%d run, %d are pending, of %d", c.RunningTasksCount, c.PendingTasksCount, made.Load()))
		}
		connected := 0
		pages := ecs.NewListContainerInstancesPaginator(l.ecs(), &ecs.ListContainerInstancesInput{Cluster: aws.String("many"), Filter: aws.String("agentConnected == true")})
		for pages.HasMorePages() {
			page, err := pages.NextPage(context.Background())
			if err != nil {
				return err
			}
			connected += len(page.ContainerInstanceArns)
		}
		if connected < len(machines) {
			return errNotYet(fmt.Sprint(connected, " agents are connected"))
		}
		return nil
	})
	for _, m := range machines {
		m.agrees()
	}
}

// runOnce runs up to ten tasks, asking again with the same token until some are
// made, and returns how many.
func (l *longshore) runOnce(token string) int {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := l.ecs().RunTask(context.Background(), &ecs.RunTaskInput{
			Cluster: aws.String("many"), TaskDefinition: aws.String("many"), Count: aws.Int32(10), ClientToken: &token,
		})
		switch {
		case err == nil && len(out.Tasks) > 0:
			return len(out.Tasks)
		case time.Since(began) < time.Minute:
			continue // the server is away, or no agent is back yet
		case err != nil:
			l.t.Errorf("%s: %v", token, err)
		default:
			l.t.Errorf("%s made no tasks: %s", token, aws.ToString(out.Failures[0].Reason))
		}
		return 0
	}
}

// agrees compares what the machine was told with what the server shows on it.
func (m *machine) agrees() {
	m.l.t.Helper()
	shown, err := m.l.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{
		Cluster: &m.cluster, ContainerInstance: &m.arn, DesiredStatus: types.DesiredStatusRunning})
	if err != nil {
		m.l.t.Fatal(err)
	}
	var told []string
	m.mu.Lock()
	for arn, status := range m.seen {
		if status == "RUNNING" {
			told = append(told, arn)
		}
	}
	m.mu.Unlock()
	slices.Sort(told)
	slices.Sort(shown.TaskArns)
	if !slices.Equal(told, shown.TaskArns) {
		m.l.t.Errorf("%s was told to run %v, the server shows %v", m.arn, told, shown.TaskArns)
	}
	// 10 tasks fit on each: never more, whatever raced.
	if left := m.remaining("CPU"); left < 0 || left != int32(1000-100*len(told)) {
		m.l.t.Errorf("%s has %d CPU units left beside %d tasks", m.arn, left, len(told))
	}
}
