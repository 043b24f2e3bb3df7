package ecs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/bulk/membulk"
)

func TestLifeOfATask(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 128, 128, 0))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})

	r.advanceClock(time.Second)
	up := running("main")
	up.NetworkBindings = []types.NetworkBinding{{BindIP: aws.String("0.0.0.0"), ContainerPort: aws.Int32(80), HostPort: aws.Int32(49153), Protocol: types.TransportProtocolTcp}}
	r.report("n1", arn, "RUNNING", up)
	task := r.describe("default", arn)
	if *task.LastStatus != "RUNNING" || task.StartedAt.Sub(*task.CreatedAt) != time.Second || *task.Containers[0].NetworkBindings[0].HostPort != 49153 || *task.Containers[0].RuntimeId != "rt-main" {
		t.Errorf("the running task is %+v", task)
	}

	// The dynamic port counts as taken.
	r.define(simple("fixed", 1, 6, 49153))
	if out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("fixed")}); len(out.Tasks) != 0 || *out.Failures[0].Reason != "RESOURCE:PORTS" {
		t.Errorf("port 49153 was given twice")
	}

	r.advanceClock(time.Second)
	stop, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &arn, Reason: aws.String("enough")})
	if err != nil {
		t.Fatal(err)
	}
	if *stop.Task.DesiredStatus != "STOPPED" || *stop.Task.StoppedReason != "enough" || stop.Task.StopCode != types.TaskStopCodeUserInitiated || stop.Task.StoppingAt == nil {
		t.Errorf("the stopping task is %+v", stop.Task)
	}
	if list := r.assignments("n1"); len(list) != 1 || list[0].Desired != acs.DesiredStopped {
		t.Errorf("the agent is told %+v", list)
	}
	r.report("n1", arn, "STOPPED", stopped("main", 137))
	task = r.describe("default", arn)
	if *task.LastStatus != "STOPPED" || *task.StoppedReason != "enough" || *task.Containers[0].ExitCode != 137 || *task.Containers[0].LastStatus != "STOPPED" {
		t.Errorf("the stopped task is %+v", task)
	}
	again, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &arn, Reason: aws.String("other")})
	if err != nil || *again.Task.StoppedReason != "enough" || again.Task.Version != task.Version {
		t.Errorf("stopping it again: %v, %+v", err, again)
	}
	if list := r.assignments("n1"); len(list) != 0 {
		t.Errorf("the agent is told of a stopped task: %+v", list)
	}
}

func TestReportsComeTwiceLateAndForNothing(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("job", 128, 128))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("job")})
	r.report("n1", arn, "STOPPED", running("main"), stopped("main", 3))
	first := r.describe("default", arn)
	r.advanceClock(time.Minute)
	r.report("n1", arn, "RUNNING", running("main"))
	r.report("n1", arn, "STOPPED", stopped("main", 4))
	after := r.describe("default", arn)
	if *after.LastStatus != "STOPPED" || *after.Containers[0].ExitCode != 3 || after.Version != first.Version || !after.StoppedAt.Equal(*first.StoppedAt) {
		t.Errorf("late reports changed %+v to %+v", first, after)
	}
	unknown := taskARN(testScope, "default", strings.Repeat("e", 32))
	r.report("n1", unknown, "STOPPED") // acknowledged, so that the agent forgets it

	if _, err := r.SubmitContainerStateChange(asNode("n1"), &ecs.SubmitContainerStateChangeInput{
		Task: &arn, ContainerName: aws.String("main"), Status: aws.String("RUNNING"),
	}); err != nil {
		t.Error(err)
	}
}

func TestAnAgentReportsOnItsOwnTasksOnly(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 128, 128))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	_, err := r.SubmitTaskStateChange(asNode("n2"), &ecs.SubmitTaskStateChangeInput{Task: &arn, Status: aws.String("STOPPED")})
	wantError(t, err, "AccessDeniedException", "")
	if task := r.describe("default", arn); *task.LastStatus != "PENDING" {
		t.Errorf("another node's report made the task %s", *task.LastStatus)
	}
}

func TestListTasksFilters(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024)
	r.join("n2", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	r.define(simple("job", 1, 6))
	start := func(family, by, instance string) string {
		in := &ecs.StartTaskInput{TaskDefinition: &family, ContainerInstances: []string{instance}}
		if by != "" {
			in.StartedBy = &by
		}
		out, err := r.StartTask(asRoot(), in)
		if err != nil || len(out.Tasks) != 1 {
			t.Fatalf("%v %v", err, out)
		}
		return *out.Tasks[0].TaskArn
	}
	b, _ := r.node(r.db.Snapshot(), testScope, "n2")
	web1, web2 := start("web", "me", *a.ContainerInstanceArn), start("web", "", b.HomeInstance)
	job1, job2 := start("job", "me", *a.ContainerInstanceArn), start("job", "you", b.HomeInstance)
	if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &job2}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   ecs.ListTasksInput
		want []string
	}{
		{"all that should run", ecs.ListTasksInput{}, []string{web1, web2, job1}},
		{"a family", ecs.ListTasksInput{Family: aws.String("web")}, []string{web1, web2}},
		{"an instance", ecs.ListTasksInput{ContainerInstance: a.ContainerInstanceArn}, []string{web1, job1}},
		{"an instance and a family", ecs.ListTasksInput{ContainerInstance: a.ContainerInstanceArn, Family: aws.String("job")}, []string{job1}},
		{"a starter", ecs.ListTasksInput{StartedBy: aws.String("me")}, []string{web1, job1}},
		{"stopped", ecs.ListTasksInput{DesiredStatus: types.DesiredStatusStopped}, []string{job2}},
		{"stopped, of a family", ecs.ListTasksInput{DesiredStatus: types.DesiredStatusStopped, Family: aws.String("web")}, nil},
		{"pending", ecs.ListTasksInput{DesiredStatus: types.DesiredStatusPending}, nil},
		{"a launch type", ecs.ListTasksInput{LaunchType: types.LaunchTypeFargate}, nil},
		{"a service", ecs.ListTasksInput{ServiceName: aws.String("s")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := r.ListTasks(asRoot(), &c.in)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(c.want)
			slices.Sort(out.TaskArns)
			if !slices.Equal(out.TaskArns, c.want) || out.NextToken != nil {
				t.Errorf("%v, want %v", out.TaskArns, c.want)
			}
		})
	}
}

func TestListTasksPages(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1<<20, 1<<20)
	r.define(simple("web", 1, 6))
	all := map[string]bool{}
	for range 3 {
		for _, task := range r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Count: aws.Int32(10)}).Tasks {
			all[*task.TaskArn] = true
		}
	}
	in, pages := &ecs.ListTasksInput{MaxResults: aws.Int32(7)}, 0
	for {
		out, err := r.ListTasks(asRoot(), in)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, arn := range out.TaskArns {
			if !all[arn] {
				t.Errorf("%s is listed twice or was never made", arn)
			}
			delete(all, arn)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if pages != 5 || len(all) != 0 {
		t.Errorf("%d pages, %d tasks missing", pages, len(all))
	}
	_, err := r.ListTasks(asRoot(), &ecs.ListTasksInput{NextToken: aws.String("bogus")})
	wantError(t, err, "InvalidParameterException", "Invalid token.")
	_, err = r.ListTasks(asRoot(), &ecs.ListTasksInput{MaxResults: aws.Int32(101)})
	wantError(t, err, "InvalidParameterException", "")
}

func TestDescribeTasksNamesWhatIsMissing(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	id := strings.Repeat("a", 32)
	out, err := r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{Tasks: []string{id}})
	if err != nil || len(out.Tasks) != 0 || !slices.Equal(failures(out.Failures), []string{taskARN(testScope, "default", id) + " MISSING"}) {
		t.Errorf("%v %+v", err, out)
	}
	_, err = r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{Tasks: []string{"xyz"}})
	wantError(t, err, "InvalidParameterException", "taskId length should be one of [32,36]")
	_, err = r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{Tasks: []string{taskARN(testScope, "demo", id)}})
	wantError(t, err, "InvalidParameterException", "Invalid identifier: Identifier is for cluster demo. Your cluster is default")
	_, err = r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{Tasks: make([]string, 101)})
	wantError(t, err, "InvalidParameterException", "")
	_, err = r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &id})
	wantError(t, err, "InvalidParameterException", "The referenced task was not found.")
	_, err = r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &id, Reason: aws.String(strings.Repeat("x", 256))})
	wantError(t, err, "InvalidParameterException", "")
}

func TestAStoppedTaskMovesToHistoryAfterAnHour(t *testing.T) {
	history := membulk.NewHistory()
	r := newRoom(t, func(d *Deps) { d.History = history })
	r.join("n1", "default", 1024, 1024)
	r.define(simple("job", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("job")})
	other := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("job")})
	r.report("n1", arn, "STOPPED", stopped("main", 0))
	sweep := func() {
		if err := r.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	r.advanceClock(59 * time.Minute)
	sweep()
	r.describe("default", arn)
	r.advanceClock(time.Minute)
	sweep()
	out, err := r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{Tasks: []string{arn, other}})
	if err != nil || len(out.Tasks) != 1 || len(out.Failures) != 1 {
		t.Errorf("%v, %d tasks, failures %v; want the other one only", err, len(out.Tasks), failures(out.Failures))
	}
	record, err := history.Get(context.Background(), testAccount, testRegion, HistoryTask, "default/"+lastPart(arn))
	if err != nil || !strings.Contains(string(record.Data), `"lastStatus":"STOPPED"`) {
		t.Errorf("history has %q, %v", record.Data, err)
	}
}

func TestSubscribersHearOfTheirNodeOnly(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024)
	b := r.join("n2", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	wakes := func(node string, ci types.ContainerInstance) chan struct{} {
		woken := make(chan struct{}, 100)
		t.Cleanup(r.Subscribe(r.session(node, *ci.ContainerInstanceArn), func(string) { woken <- struct{}{} }))
		return woken
	}
	one, two := wakes("n1", a), wakes("n2", b)
	start := func(ci types.ContainerInstance) {
		out, err := r.StartTask(asRoot(), &ecs.StartTaskInput{TaskDefinition: aws.String("web"), ContainerInstances: []string{*ci.ContainerInstanceArn}})
		if err != nil || len(out.Tasks) != 1 {
			t.Fatalf("%v %+v", err, out)
		}
	}
	start(a)
	<-one
	start(b) // notifications come in order: had n2 been woken for n1's task, it would have two
	<-two
	if len(two) != 0 || len(one) != 0 {
		t.Errorf("%d and %d wakes too many", len(one), len(two))
	}
}

func ExampleService_Subnets() {
	s := &Service{}
	_ = s.deps.VPC.complete()
	for _, subnet := range s.Subnets("123456789012", "eu-west-1") {
		fmt.Println(subnet.Zone, subnet.CIDR, subnet.Gateway)
	}
	// Output:
	// eu-west-1a 172.31.0.0/20 172.31.0.1
	// eu-west-1b 172.31.16.0/20 172.31.16.1
	// eu-west-1c 172.31.32.0/20 172.31.32.1
}
