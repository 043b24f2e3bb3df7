package test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// code is the AWS error code of err.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

// TestFleetThroughTheAPI uses ECS as a team with several machines does, with
// AWS's SDK for Go.
func TestFleetThroughTheAPI(t *testing.T) {
	l := up(t, "--no-sample")
	for name, test := range map[string]func(*longshore){
		"placement": (*longshore).placesTasks, "tokens": (*longshore).runsOncePerToken, "lists": (*longshore).listsTasks,
		"revisions": (*longshore).keepsRevisions, "instances": (*longshore).retiresInstances, "races": (*longshore).sharesTheLastMegabyte,
		"tags": (*longshore).tagsTasks, "reports": (*longshore).ignoresWrongReports,
	} {
		t.Run(name, func(t *testing.T) { test(l.within(t)) })
	}
}

func (l *longshore) placesTasks() {
	const cluster = "placement"
	l.fleet(cluster)
	zones := []string{"us-east-1a", "us-east-1b", "us-east-1c"}
	machines := map[string]*machine{}
	for _, z := range zones {
		m := l.machine(cluster, z, 4096, 4096, map[string]string{"stack": map[bool]string{true: "prod", false: "dev"}[z == zones[0]]})
		machines[m.arn] = m
	}
	l.defineOne("small", 10, 32)
	ask := func(group string, count int32) *ecs.RunTaskInput {
		return &ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("small"), Group: &group, Count: &count}
	}
	for arn, n := range tally(l.runTasks(ask("default", 9))) {
		if n != 3 {
			l.t.Errorf("without a strategy %s has %d of 9 tasks, want 3 in each zone", arn, n)
		}
	}
	in := ask("packed", 10)
	in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeBinpack, Field: aws.String("memory")}}
	if n := tally(l.runTasks(in)); len(n) != 1 {
		l.t.Errorf("binpack used %d machines for 10 small tasks", len(n))
	}
	in = ask("spread", 6)
	in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeSpread, Field: aws.String("instanceId")}}
	if n := tally(l.runTasks(in)); len(n) != 3 {
		l.t.Errorf("spread by instanceId: %v", n)
	}
	in = ask("member", 4)
	in.PlacementConstraints = []types.PlacementConstraint{{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("attribute:stack == prod and not(attribute:ecs.availability-zone in [us-east-1b, us-east-1c])")}}
	for arn := range tally(l.runTasks(in)) {
		if machines[arn] == nil || attribute(machines[arn].describe(), "stack") != "prod" {
			l.t.Errorf("memberOf placed on %s", arn)
		}
	}
	in = ask("near", 2)
	in.PlacementConstraints = []types.PlacementConstraint{{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("task:group == member")}}
	for arn := range tally(l.runTasks(in)) {
		if attribute(machines[arn].describe(), "stack") != "prod" {
			l.t.Errorf("beside the group member: placed on %s", arn)
		}
	}
	in = ask("distinct", 5)
	in.PlacementConstraints = []types.PlacementConstraint{{Type: types.PlacementConstraintTypeDistinctInstance}}
	out, err := l.ecs().RunTask(context.Background(), in)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(out.Tasks) != 3 || len(out.Failures) != 3 {
		l.t.Errorf("distinctInstance: %d tasks, failures %+v", len(out.Tasks), out.Failures)
	}
	for _, f := range out.Failures {
		if machines[aws.ToString(f.Arn)] == nil || aws.ToString(f.Reason) == "" {
			l.t.Errorf("a failure without its instance or reason: %+v", f)
		}
	}
	in = ask("nowhere", 1)
	in.PlacementConstraints = []types.PlacementConstraint{{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("attribute:stack == ")}}
	if _, err := l.ecs().RunTask(context.Background(), in); code(err) != "InvalidParameterException" {
		l.t.Errorf("an expression cut short: %v", err)
	}
}

func attribute(ci types.ContainerInstance, name string) string {
	for _, a := range ci.Attributes {
		if aws.ToString(a.Name) == name {
			return aws.ToString(a.Value)
		}
	}
	return ""
}

func (l *longshore) runsOncePerToken() {
	const cluster = "tokens"
	l.fleet(cluster)
	l.machine(cluster, "us-east-1a", 4096, 4096, nil)
	l.defineOne("once", 10, 16)
	in := &ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("once"), Count: aws.Int32(3), ClientToken: aws.String("token-1")}
	answers := make([][]string, 8)
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() {
			out, err := l.ecs().RunTask(context.Background(), in)
			if err != nil {
				l.t.Errorf("call %d: %v", i, err)
				return
			}
			answers[i] = arns(out.Tasks)
			slices.Sort(answers[i])
		})
	}
	calls.Wait()
	for i, a := range answers {
		if len(a) != 3 || !slices.Equal(a, answers[0]) {
			l.t.Errorf("call %d with the same token made %v, the first %v", i, a, answers[0])
		}
	}
	other := *in
	other.Count = aws.Int32(2)
	_, err := l.ecs().RunTask(context.Background(), &other)
	var conflict *types.ConflictException
	if !errors.As(err, &conflict) || len(conflict.ResourceIds) != 3 {
		l.t.Errorf("another request with the token: %v %+v", err, conflict)
	}
}

func (l *longshore) listsTasks() {
	const cluster = "lists"
	ctx := context.Background()
	l.fleet(cluster)
	m := l.machine(cluster, "us-east-1a", 8192, 65536, nil)
	l.defineOne("many", 10, 16)
	l.defineOne("few", 10, 16)
	var all []string
	for range 11 {
		all = append(all, arns(l.runTasks(&ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("many"), Count: aws.Int32(10), StartedBy: aws.String("me")}))...)
	}
	few := arns(l.runTasks(&ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("few"), Count: aws.Int32(2)}))

	// Pages stay whole while tasks before and after the mark stop and start.
	slices.Sort(all)
	first, err := l.ecs().ListTasks(ctx, &ecs.ListTasksInput{Cluster: aws.String(cluster), Family: aws.String("many"), MaxResults: aws.Int32(40)})
	if err != nil || len(first.TaskArns) != 40 || first.NextToken == nil {
		l.t.Fatalf("first page: %+v %v", first, err)
	}
	stopped := []string{all[0], first.TaskArns[39], all[100]}
	for _, task := range stopped {
		if _, err := l.ecs().StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String(cluster), Task: &task}); err != nil {
			l.t.Fatal(err)
		}
	}
	seen := first.TaskArns
	pages := ecs.NewListTasksPaginator(l.ecs(), &ecs.ListTasksInput{Cluster: aws.String(cluster), Family: aws.String("many"), MaxResults: aws.Int32(40), NextToken: first.NextToken})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			l.t.Fatal(err)
		}
		seen = append(seen, page.TaskArns...)
	}
	for _, task := range all {
		n := 0
		for _, s := range seen {
			if s == task {
				n++
			}
		}
		if n != 1 && !slices.Contains(stopped, task) || n > 1 {
			l.t.Errorf("%s was listed %d times", task, n)
		}
	}
	slices.Sort(few)
	slices.Sort(stopped)
	l.filtersTasks(cluster, m.arn, few, stopped)
	l.describesTasks(cluster, all, few)
}

func (l *longshore) filtersTasks(cluster, instance string, few, stopped []string) {
	ctx := context.Background()
	list := func(in ecs.ListTasksInput) []string {
		in.Cluster = aws.String(cluster)
		out, err := l.ecs().ListTasks(ctx, &in)
		if err != nil {
			l.t.Errorf("%+v: %v", in, err)
			return nil
		}
		slices.Sort(out.TaskArns)
		return out.TaskArns
	}
	if got := list(ecs.ListTasksInput{Family: aws.String("few"), ContainerInstance: &instance}); !slices.Equal(got, few) {
		l.t.Errorf("by family and instance: %v", got)
	}
	if got := list(ecs.ListTasksInput{DesiredStatus: types.DesiredStatusStopped}); !slices.Equal(got, stopped) {
		l.t.Errorf("the stopped: %v, want %v", got, stopped)
	}
	if got := list(ecs.ListTasksInput{StartedBy: aws.String("nobody")}); len(got) != 0 {
		l.t.Errorf("started by nobody: %v", got)
	}
}

func (l *longshore) describesTasks(cluster string, all, few []string) {
	ctx := context.Background()
	described, err := l.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: append(slices.Clone(all[:99]), "00000000000000000000000000000000")})
	if err != nil || len(described.Tasks) != 99 || len(described.Failures) != 1 || aws.ToString(described.Failures[0].Reason) != "MISSING" {
		l.t.Errorf("100 tasks, one unknown: %v, failures %+v", err, described.Failures)
	}
	if _, err := l.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: all[:101]}); code(err) != "InvalidParameterException" {
		l.t.Errorf("101 tasks: %v", err)
	}
	waiter := ecs.NewTasksRunningWaiter(l.ecs(), func(o *ecs.TasksRunningWaiterOptions) { o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second })
	if err := waiter.Wait(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: few}, time.Minute); err != nil {
		l.t.Errorf("the waiter for running tasks: %v", err)
	}
}

func (l *longshore) keepsRevisions() {
	ctx := context.Background()
	const cluster = "revisions"
	l.fleet(cluster)
	l.machine(cluster, "us-east-1a", 4096, 4096, nil)
	for range 12 {
		l.defineOne("rev", 10, 16)
	}
	var got []string
	pages := ecs.NewListTaskDefinitionsPaginator(l.ecs(), &ecs.ListTaskDefinitionsInput{FamilyPrefix: aws.String("rev"), Sort: types.SortOrderDesc, MaxResults: aws.Int32(5)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			l.t.Fatal(err)
		}
		got = append(got, page.TaskDefinitionArns...)
	}
	for i, arn := range got {
		if want := fmt.Sprintf("arn:aws:ecs:us-east-1:000000000000:task-definition/rev:%d", 12-i); arn != want {
			l.t.Errorf("definition %d of the list is %s, want %s", i, arn, want)
		}
	}
	task := l.runTasks(&ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("rev:12")})[0]
	l.awaitStatus(cluster, *task.TaskArn, "RUNNING")
	if _, err := l.ecs().DeregisterTaskDefinition(ctx, &ecs.DeregisterTaskDefinitionInput{TaskDefinition: aws.String("rev:12")}); err != nil {
		l.t.Fatal(err)
	}
	l.awaitStatus(cluster, *task.TaskArn, "RUNNING")
	if _, err := l.ecs().RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("rev:12")}); code(err) != "ClientException" {
		l.t.Errorf("a task of a deregistered revision: %v", err)
	}
	next := l.runTasks(&ecs.RunTaskInput{Cluster: aws.String(cluster), TaskDefinition: aws.String("rev")})[0]
	if arn := aws.ToString(next.TaskDefinitionArn); arn != got[1] {
		l.t.Errorf("the family now means %s, want the latest active one %s", arn, got[1])
	}
	if arn := l.defineOne("rev", 10, 16); arn != "arn:aws:ecs:us-east-1:000000000000:task-definition/rev:13" {
		l.t.Errorf("the next revision is %s: numbers are never used again", arn)
	}
	deleted, err := l.ecs().DeleteTaskDefinitions(ctx, &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{"rev:12", "rev:11"}})
	if err != nil || len(deleted.TaskDefinitions) != 1 || len(deleted.Failures) != 1 {
		l.t.Errorf("deleting a deregistered and an active revision: %+v %v", deleted, err)
	}
}
