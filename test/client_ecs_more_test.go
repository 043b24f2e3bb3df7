package test

import (
	"context"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (l *longshore) retiresInstances() {
	ctx := context.Background()
	const cluster = "instances"
	l.fleet(cluster)
	old, young := l.machine(cluster, "us-east-1a", 4096, 4096, nil), l.machine(cluster, "us-east-1b", 4096, 4096, nil)
	l.defineOne("lodger", 10, 16)
	ask := func() *ecs.RunTaskInput {
		return &ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("lodger"), Count: aws.Int32(4)}
	}
	tasks := l.runTasks(ask())
	if n := tally(tasks); n[old.arn] != 2 || n[young.arn] != 2 {
		l.t.Fatalf("the machines have %v", n)
	}
	for _, task := range arns(tasks) {
		l.awaitStatus(cluster, task, "RUNNING")
	}
	if _, err := l.ecs().DeleteCluster(ctx, &ecs.DeleteClusterInput{Cluster: aws.String(cluster)}); code(err) != "ClusterContainsTasksException" && code(err) != "ClusterContainsContainerInstancesException" {
		l.t.Errorf("deleting a cluster in use: %v", err)
	}
	state := func(m *machine, status types.ContainerInstanceStatus) {
		l.t.Helper()
		if _, err := l.ecs().UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateInput{Cluster: aws.String(cluster), ContainerInstances: []string{m.arn}, Status: status}); err != nil {
			l.t.Fatal(err)
		}
	}
	state(old, types.ContainerInstanceStatusDraining)
	more := l.runTasks(ask())
	if n := tally(more); n[old.arn] != 0 {
		l.t.Errorf("a draining machine was given %d tasks", n[old.arn])
	}
	state(old, types.ContainerInstanceStatusActive)
	if n := tally(l.runTasks(ask())); n[old.arn] == 0 {
		l.t.Error("an ACTIVE machine again is given none, though it has fewer tasks")
	}

	deregister := func(m *machine, force bool) (*ecs.DeregisterContainerInstanceOutput, error) {
		return l.ecs().DeregisterContainerInstance(ctx, &ecs.DeregisterContainerInstanceInput{Cluster: aws.String(cluster), ContainerInstance: &m.arn, Force: &force})
	}
	if _, err := deregister(young, false); code(err) != "InvalidParameterException" {
		l.t.Errorf("deregistering a machine with tasks: %v", err)
	}
	for _, m := range []*machine{old, young} {
		out, err := deregister(m, true)
		if err != nil || aws.ToString(out.ContainerInstance.Status) != "INACTIVE" {
			l.t.Fatalf("by force: %+v %v", out, err)
		}
	}
	l.awaitStopped(cluster, arns(tasks))
	if out, err := l.ecs().RunTask(ctx, ask()); err == nil && len(out.Tasks) > 0 {
		l.t.Errorf("tasks were placed on deregistered machines: %+v", out.Tasks)
	}
	if _, err := l.ecs().DeleteCluster(ctx, &ecs.DeleteClusterInput{Cluster: aws.String(cluster)}); err != nil {
		l.t.Errorf("deleting the empty cluster: %v", err)
	}
	if _, err := l.ecs().RunTask(ctx, ask()); code(err) != "ClusterNotFoundException" {
		l.t.Errorf("a task in the deleted cluster: %v", err)
	}
}

// sharesTheLastMegabyte lets more ask at once than there is room for.
func (l *longshore) sharesTheLastMegabyte() {
	const cluster, room = "races", 24
	l.fleet(cluster)
	machines := []*machine{l.machine(cluster, "us-east-1a", 12*100, 12*64, nil), l.machine(cluster, "us-east-1b", 12*100, 12*64, nil)}
	l.defineOne("contender", 100, 64)
	var mu sync.Mutex
	placed, refused := 0, 0
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 3 {
				out, err := l.ecs().RunTask(context.Background(), &ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("contender"), Count: aws.Int32(2)})
				if err != nil {
					l.t.Error(err)
					return
				}
				mu.Lock()
				placed += len(out.Tasks)
				refused += 2 - len(out.Tasks)
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	if placed != room || refused != 48-room {
		l.t.Errorf("%d tasks were placed and %d refused, want %d and %d", placed, refused, room, 48-room)
	}
	for _, m := range machines {
		if cpu, memory := m.remaining("CPU"), m.remaining("MEMORY"); cpu != 0 || memory != 0 {
			l.t.Errorf("a full machine has %d CPU units and %d MiB left", cpu, memory)
		}
	}
}

func (l *longshore) tagsTasks() {
	ctx := context.Background()
	const cluster = "tags"
	l.fleet(cluster)
	l.machine(cluster, "us-east-1a", 4096, 4096, nil).mute.Store(true)
	l.defineOne("tagged", 10, 16)
	task := l.runTasks(&ecs.RunTaskInput{
		Cluster: aws.String(cluster), TaskDefinition: aws.String("tagged"), PropagateTags: types.PropagateTagsTaskDefinition, EnableECSManagedTags: true,
		Tags: []types.Tag{{Key: aws.String("own"), Value: aws.String("1")}},
	})[0]
	tags := func() map[string]string {
		out, err := l.ecs().ListTagsForResource(ctx, &ecs.ListTagsForResourceInput{ResourceArn: task.TaskArn})
		if err != nil {
			l.t.Fatal(err)
		}
		all := map[string]string{}
		for _, tag := range out.Tags {
			all[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
		return all
	}
	if got := tags(); got["own"] != "1" || got["origin"] != "definition" || got["aws:ecs:clusterName"] != cluster || len(got) != 3 {
		l.t.Errorf("the task's tags are %v", got)
	}
	if _, err := l.ecs().TagResource(ctx, &ecs.TagResourceInput{ResourceArn: task.TaskArn, Tags: []types.Tag{{Key: aws.String("own"), Value: aws.String("2")}, {Key: aws.String("new"), Value: aws.String("")}}}); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.ecs().UntagResource(ctx, &ecs.UntagResourceInput{ResourceArn: task.TaskArn, TagKeys: []string{"origin", "never"}}); err != nil {
		l.t.Fatal(err)
	}
	if got := tags(); got["own"] != "2" || got["origin"] != "" || len(got) != 3 {
		l.t.Errorf("after the changes the task's tags are %v", got)
	}
	// A task that its machine never starts can be stopped, twice.
	first, err := l.ecs().StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String(cluster), Task: task.TaskArn, Reason: aws.String("first")})
	if err != nil {
		l.t.Fatal(err)
	}
	again, err := l.ecs().StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String(cluster), Task: task.TaskArn, Reason: aws.String("second")})
	if err != nil {
		l.t.Fatal(err)
	}
	if aws.ToString(first.Task.LastStatus) != "PENDING" || aws.ToString(again.Task.StoppedReason) != "first" {
		l.t.Errorf("stopping twice: %s, then %q", aws.ToString(first.Task.LastStatus), aws.ToString(again.Task.StoppedReason))
	}
}

// ignoresWrongReports lets an agent say what cannot be of its task.
func (l *longshore) ignoresWrongReports() {
	ctx := context.Background()
	const cluster = "reports"
	l.fleet(cluster)
	m := l.machine(cluster, "us-east-1a", 4096, 4096, nil)
	m.mute.Store(true)
	l.defineOne("reported", 10, 16)
	task := l.runTasks(&ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("reported")})[0]
	report := func(status string, containers ...types.ContainerStateChange) error {
		_, err := l.ecs().SubmitTaskStateChange(ctx, &ecs.SubmitTaskStateChangeInput{Cluster: aws.String(cluster), Task: task.TaskArn,
			Status: &status, Reason: aws.String(strings.Repeat("r", 5000)), Containers: containers})
		return err
	}
	described := func() types.Task {
		l.t.Helper()
		out, err := l.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: []string{*task.TaskArn}})
		if err != nil || len(out.Tasks) != 1 {
			l.t.Fatalf("%+v %v", out, err)
		}
		return out.Tasks[0]
	}
	main := func(status string, port int32) types.ContainerStateChange {
		return types.ContainerStateChange{ContainerName: aws.String("main"), Status: &status,
			NetworkBindings: []types.NetworkBinding{{ContainerPort: aws.Int32(80), HostPort: &port, BindIP: aws.String("0.0.0.0")}}}
	}
	// Acknowledged, so that the agent forgets it, and without effect.
	for _, containers := range [][]types.ContainerStateChange{nil, {main("BOGUS", 80)}, {{ContainerName: aws.String("nobody"), Status: aws.String("BOGUS")}}} {
		if err := report("BOGUS", containers...); err != nil {
			l.t.Errorf("a status that is none: %v", err)
		}
	}
	if status := aws.ToString(described().LastStatus); status != "PENDING" {
		l.t.Errorf("after a bogus report the task is %s", status)
	}
	if err := report("STOPPED", main("STOPPED", 8080)); err != nil {
		l.t.Fatal(err)
	}
	if err := report("RUNNING", main("RUNNING", 8080)); err != nil {
		l.t.Errorf("a late report: %v", err)
	}
	if end := described(); aws.ToString(end.LastStatus) != "STOPPED" || len(aws.ToString(end.StoppedReason)) > 1024 {
		l.t.Errorf("a stopped task is %s again, with a reason of %d bytes", aws.ToString(end.LastStatus), len(aws.ToString(end.StoppedReason)))
	}
	if cpu := m.remaining("CPU"); cpu != 4096 {
		l.t.Errorf("a stopped task keeps %d CPU units", 4096-cpu)
	}
}
