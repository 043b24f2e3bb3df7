package ecs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

func TestRegisterGivesEveryAttributeBack(t *testing.T) {
	r := newRoom(t)
	sent := []types.Attribute{
		attribute("ecs.capability.privileged-container", ""), attribute("com.amazonaws.ecs.capability.logging-driver.awslogs", ""),
		attribute("ecs.os-type", "linux"), attribute("stack", "prod"), attribute("ecs.availability-zone", "eu-west-1b"),
	}
	ci := r.join("n1", "default", 1024, 2048, sent...)
	for _, a := range sent {
		if !slices.ContainsFunc(ci.Attributes, func(b types.Attribute) bool { return *b.Name == *a.Name && deref(b.Value) == deref(a.Value) }) {
			t.Errorf("attribute %s did not come back", *a.Name)
		}
	}
	if *ci.Status != "ACTIVE" || *ci.Ec2InstanceId != "n1" || ci.RegisteredAt == nil {
		t.Errorf("instance %+v", ci)
	}
	task := simple("web", 1, 6)
	r.define(task)
	if out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")}); *out.Tasks[0].AvailabilityZone != "eu-west-1b" {
		t.Errorf("zone %s", *out.Tasks[0].AvailabilityZone)
	}
}

func TestRegisteringAgainIsTheSameInstance(t *testing.T) {
	r := newRoom(t)
	first := r.join("n1", "default", 1024, 2048, attribute("stack", "prod"), attribute("ecs.capability.old", ""))
	for name, in := range map[string]*ecs.RegisterContainerInstanceInput{
		"by its ARN":              {ContainerInstanceArn: first.ContainerInstanceArn},
		"by its node credentials": {},
	} {
		t.Run(name, func(t *testing.T) {
			in.TotalResources = resources(512, 1024)
			in.Attributes = []types.Attribute{attribute("ecs.capability.new", "")}
			out, err := r.RegisterContainerInstance(asNode("n1"), in)
			if err != nil {
				t.Fatal(err)
			}
			names := []string{}
			for _, a := range out.ContainerInstance.Attributes {
				names = append(names, *a.Name)
			}
			if *out.ContainerInstance.ContainerInstanceArn != *first.ContainerInstanceArn {
				t.Errorf("another instance")
			}
			if !slices.Contains(names, "stack") || !slices.Contains(names, "ecs.capability.new") || slices.Contains(names, "ecs.capability.old") {
				t.Errorf("attributes %v; want the custom one kept and the capabilities replaced", names)
			}
			if out.ContainerInstance.RegisteredResources[0].IntegerValue != 512 {
				t.Errorf("resources were not updated")
			}
		})
	}
	_, err := r.RegisterContainerInstance(asNode("n2"), &ecs.RegisterContainerInstanceInput{
		ContainerInstanceArn: first.ContainerInstanceArn, TotalResources: resources(1, 1),
	})
	wantError(t, err, "AccessDeniedException", "")
}

func TestRegisterRefuses(t *testing.T) {
	r := newRoom(t)
	for name, in := range map[string]*ecs.RegisterContainerInstanceInput{
		"no resources":         {},
		"no memory":            {TotalResources: resources(1024, 0)},
		"attribute's bad name": {TotalResources: resources(1, 1), Attributes: []types.Attribute{attribute("a b", "")}},
		"attribute twice":      {TotalResources: resources(1, 1), Attributes: []types.Attribute{attribute("a", ""), attribute("a", "b")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.RegisterContainerInstance(asNode("n1"), in)
			wantError(t, err, "InvalidParameterException", "")
		})
	}
	_, err := r.RegisterContainerInstance(asNode("n1"), &ecs.RegisterContainerInstanceInput{
		Cluster: aws.String("nope"), TotalResources: resources(1, 1),
	})
	wantError(t, err, "ClusterNotFoundException", "Cluster not found.")
}

func TestAUniversalNodeServesEveryClusterFromOneLedger(t *testing.T) {
	r := newRoom(t)
	r.addClusterNamed("before")
	r.joinUniversal("n1", 1000, 8192)
	r.addClusterNamed("after")
	r.define(simple("web", 300, 128))
	for i, cluster := range []string{"default", "before", "after"} {
		arn := r.runOne(&ecs.RunTaskInput{Cluster: &cluster, TaskDefinition: aws.String("web")})
		if i == 2 && r.describe(cluster, arn).ContainerInstanceArn == nil {
			t.Error("no container instance is shown")
		}
	}
	out := r.run(&ecs.RunTaskInput{Cluster: aws.String("before"), TaskDefinition: aws.String("web")})
	if len(out.Tasks) != 0 || *out.Failures[0].Reason != "RESOURCE:CPU" {
		t.Errorf("a fourth task of 300 CPU was placed on 1000: %v", failures(out.Failures))
	}
	list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Cluster: aws.String("after")})
	if err != nil || len(list.ContainerInstanceArns) != 1 {
		t.Fatalf("%v %+v", err, list)
	}
	described, err := r.DescribeContainerInstances(asRoot(), &ecs.DescribeContainerInstancesInput{
		Cluster: aws.String("after"), ContainerInstances: list.ContainerInstanceArns,
	})
	if err != nil {
		t.Fatal(err)
	}
	ci := described.ContainerInstances[0]
	if !ci.AgentConnected || ci.PendingTasksCount != 1 || ci.RemainingResources[0].IntegerValue != 100 {
		t.Errorf("the instance in the third cluster: connected %v, %d pending, %d CPU left; want true, 1, 100",
			ci.AgentConnected, ci.PendingTasksCount, ci.RemainingResources[0].IntegerValue)
	}
	if n := len(r.assignments("n1")); n != 3 {
		t.Errorf("the node's agent is told %d tasks, want 3", n)
	}
	// Registering again makes no second instance anywhere.
	r.joinUniversal("n1", 1000, 8192)
	if n := r.instancesByNode.Count(r.db.Snapshot(), testScope, "n1"); n != 3 {
		t.Errorf("the node has %d instances in 3 clusters", n)
	}
}

func TestOnlyATrustedNodeIsUniversal(t *testing.T) {
	r := newRoom(t)
	r.addClusterNamed("demo")
	r.join("n1", "default", 1024, 1024, attribute(AttributeUniversal, "true"), attribute(AttributeFargate, "true"))
	list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Cluster: aws.String("demo")})
	if err != nil || len(list.ContainerInstanceArns) != 0 {
		t.Errorf("%v: a node without the flag joined cluster demo: %v", err, list)
	}
	r.define(fargate("web"))
	out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), LaunchType: types.LaunchTypeFargate,
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{r.Subnets(testAccount, testRegion)[0].ID}}}})
	if len(out.Tasks) != 0 || len(out.Failures) != 1 {
		t.Errorf("a node without the flag took a Fargate task")
	}
}

func TestDeregister(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	_, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: ci.ContainerInstanceArn})
	wantError(t, err, "InvalidParameterException", "Found running tasks on the instance.")
	out, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: ci.ContainerInstanceArn, Force: aws.Bool(true)})
	if err != nil || *out.ContainerInstance.Status != "INACTIVE" {
		t.Fatalf("%v %+v", err, out)
	}
	task := r.describe("default", arn)
	if *task.LastStatus != "STOPPED" || *task.StoppedReason != "Container instance deregistration forced by user" {
		t.Errorf("the task is %s: %s", *task.LastStatus, *task.StoppedReason)
	}
	session := r.session("n1", *ci.ContainerInstanceArn)
	if _, err := r.Opened(context.Background(), session); !errors.Is(err, acs.ErrInactiveInstance) {
		t.Errorf("its agent's session: %v", err)
	}
	if _, err := r.Assignments(context.Background(), session); !errors.Is(err, acs.ErrInactiveInstance) {
		t.Errorf("its agent's open session goes on: %v", err)
	}
	_, err = r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	wantError(t, err, "InvalidParameterException", "No Container Instances were found in your cluster.")
	list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{})
	if err != nil || len(list.ContainerInstanceArns) != 0 {
		t.Errorf("%v: an inactive instance is listed", err)
	}
	again := r.join("n1", "default", 1024, 1024)
	if *again.ContainerInstanceArn == *ci.ContainerInstanceArn {
		t.Error("a deregistered instance came back to life")
	}
}

func TestDeregisteringOneClusterOfAUniversalNode(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 1024, 1024)
	r.addClusterNamed("demo")
	r.define(simple("web", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{Cluster: aws.String("demo"), TaskDefinition: aws.String("web")})
	list, _ := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Cluster: aws.String("demo")})
	_, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{
		Cluster: aws.String("demo"), ContainerInstance: &list.ContainerInstanceArns[0], Force: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if assigned := r.assignments("n1"); len(assigned) != 1 || assigned[0].TaskARN != arn || assigned[0].Desired != acs.DesiredStopped {
		t.Errorf("the agent is told %+v; want to stop the task", assigned)
	}
	r.joinUniversal("n1", 1024, 1024) // an agent's restart brings nothing back
	if list, _ = r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Cluster: aws.String("demo")}); len(list.ContainerInstanceArns) != 0 {
		t.Error("the deregistered instance is back")
	}
}

func TestADrainingInstanceTakesNoTasks(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024)
	b := r.join("n2", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	set := func(status types.ContainerInstanceStatus) {
		out, err := r.UpdateContainerInstancesState(asRoot(), &ecs.UpdateContainerInstancesStateInput{
			ContainerInstances: []string{*a.ContainerInstanceArn}, Status: status,
		})
		if err != nil || len(out.ContainerInstances) != 1 || *out.ContainerInstances[0].Status != string(status) {
			t.Fatalf("%v %+v", err, out)
		}
	}
	set(types.ContainerInstanceStatusDraining)
	for _, task := range r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Count: aws.Int32(4)}).Tasks {
		if *task.ContainerInstanceArn != *b.ContainerInstanceArn {
			t.Error("a task went to a draining instance")
		}
	}
	list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Status: types.ContainerInstanceStatusDraining})
	if err != nil || !slices.Equal(list.ContainerInstanceArns, []string{*a.ContainerInstanceArn}) {
		t.Errorf("%v: draining are %v", err, list.ContainerInstanceArns)
	}
	set(types.ContainerInstanceStatusActive)
	_, err = r.UpdateContainerInstancesState(asRoot(), &ecs.UpdateContainerInstancesStateInput{
		ContainerInstances: []string{*a.ContainerInstanceArn}, Status: types.ContainerInstanceStatusRegistering,
	})
	wantError(t, err, "InvalidParameterException", "Container instance status should be one of [ACTIVE,DRAINING].")
}

func TestListContainerInstancesFilters(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024, attribute("stack", "prod"))
	b := r.join("n2", "default", 1024, 1024, attribute("stack", "test"))
	r.define(simple("web", 1, 6))
	out, err := r.StartTask(asRoot(), &ecs.StartTaskInput{TaskDefinition: aws.String("web"), ContainerInstances: []string{*a.ContainerInstanceArn}})
	if err != nil {
		t.Fatal(err)
	}
	r.report("n1", *out.Tasks[0].TaskArn, "RUNNING", running("main"))
	r.Closed(context.Background(), r.session("n2", *b.ContainerInstanceArn))
	for filter, want := range map[string]*string{
		"attribute:stack == prod":       a.ContainerInstanceArn,
		"attribute:stack != prod":       b.ContainerInstanceArn,
		"task:group == family:web":      a.ContainerInstanceArn,
		"runningTasksCount > 0":         a.ContainerInstanceArn,
		"agentConnected == false":       b.ContainerInstanceArn,
		"ec2InstanceId in ['n2', 'n9']": b.ContainerInstanceArn,
	} {
		list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Filter: &filter})
		if err != nil || !slices.Equal(list.ContainerInstanceArns, []string{*want}) {
			t.Errorf("%s: %v %v, want %s", filter, err, list, *want)
		}
	}
	_, err = r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Filter: aws.String("what is this")})
	wantError(t, err, "InvalidParameterException", "")
}

func TestSessionsOfANode(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	connected := func() bool {
		out, err := r.DescribeContainerInstances(asRoot(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{*ci.ContainerInstanceArn}})
		if err != nil {
			t.Fatal(err)
		}
		return out.ContainerInstances[0].AgentConnected
	}
	older, newer := r.session("n1", *ci.ContainerInstanceArn), r.session("n1", *ci.ContainerInstanceArn)
	newer.ID = "newer"
	if _, err := r.Opened(context.Background(), newer); err != nil {
		t.Fatal(err)
	}
	r.Closed(context.Background(), older)
	if !connected() {
		t.Error("the end of an older session disconnected the newer one")
	}
	r.Closed(context.Background(), newer)
	if connected() {
		t.Error("connected after the last session's end")
	}
	foreign := r.session("n2", *ci.ContainerInstanceArn)
	if _, err := r.Opened(context.Background(), foreign); err == nil {
		t.Error("another node opened the session")
	}
	if _, err := r.Opened(context.Background(), newer); err != nil {
		t.Fatal(err)
	}
	if err := r.ResetConnectivity(context.Background()); err != nil || !connected() {
		t.Errorf("%v: a session of this very process was reset", err)
	}
	r.sessions.Clear() // as a process that has just started
	if err := r.ResetConnectivity(context.Background()); err != nil || connected() {
		t.Errorf("%v: connected after a restart of the server", err)
	}
}

func TestHealthReports(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	d := simple("web", 1, 6)
	d.ContainerDefinitions[0].HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}}
	r.define(d)
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	report := &acs.PublishHealth{Tasks: []acs.TaskHealth{{TaskARN: arn, Containers: []acs.ContainerHealth{{ContainerName: "main", HealthStatus: "HEALTHY"}}}}}
	if err := r.Health(context.Background(), r.session("n1", *ci.ContainerInstanceArn), report); err != nil {
		t.Fatal(err)
	}
	if task := r.describe("default", arn); task.HealthStatus != types.HealthStatusHealthy || task.Containers[0].HealthStatus != types.HealthStatusHealthy {
		t.Errorf("health %s, container's %s", task.HealthStatus, task.Containers[0].HealthStatus)
	}
	other := r.join("n2", "default", 1024, 1024)
	report.Tasks[0].Containers[0].HealthStatus = "UNHEALTHY"
	if err := r.Health(context.Background(), r.session("n2", *other.ContainerInstanceArn), report); err != nil {
		t.Fatal(err)
	}
	if task := r.describe("default", arn); task.HealthStatus != types.HealthStatusHealthy {
		t.Error("another node's agent changed the task's health")
	}
}

func TestAPlacementSeesADeregistrationAtTheSameTime(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	l := newLaunch(r.Service, asRoot(), 1)
	runs := 0
	err := r.db.Update(context.Background(), func(tx *store.Tx) error {
		if runs++; runs == 1 {
			if _, err := r.runTask(tx, l, &ecs.RunTaskInput{TaskDefinition: aws.String("web")}); err != nil {
				return err
			}
			_, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: ci.ContainerInstanceArn})
			return err
		}
		_, err := r.runTask(tx, l, &ecs.RunTaskInput{TaskDefinition: aws.String("web")})
		return err
	})
	wantError(t, err, "InvalidParameterException", "No Container Instances were found in your cluster.")
	if runs != 2 {
		t.Errorf("the placement ran %d times, want again after the deregistration", runs)
	}
}

func TestADeregistrationSeesAPlacementAtTheSameTime(t *testing.T) {
	r := newRoom(t)
	r.define(simple("web", 1, 6))
	for i := range 40 {
		node := fmt.Sprintf("n%d", i)
		r.addClusterNamed(node)
		ci := r.join(node, node, 1024, 1024)
		var wg sync.WaitGroup
		var run, deregister error
		wg.Go(func() {
			_, run = r.RunTask(asRoot(), &ecs.RunTaskInput{Cluster: &node, TaskDefinition: aws.String("web")})
		})
		wg.Go(func() {
			_, deregister = r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{Cluster: &node, ContainerInstance: ci.ContainerInstanceArn})
		})
		wg.Wait()
		if (run == nil) == (deregister == nil) {
			t.Fatalf("a task was placed (%v) on an instance that was deregistered (%v)", run, deregister)
		}
	}
}
