package ecs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

func TestRunTaskOfANewTask(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 2048, 4096)
	definition := r.define(simple("web", 256, 128, 8080))

	out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), StartedBy: aws.String("me")})
	task := out.Tasks[0]
	for _, check := range []struct{ what, got, want string }{
		{"task definition", *task.TaskDefinitionArn, definition},
		{"container instance", deref(task.ContainerInstanceArn), *ci.ContainerInstanceArn},
		{"cluster", *task.ClusterArn, "arn:aws:ecs:eu-west-1:123456789012:cluster/default"},
		{"lastStatus", *task.LastStatus, "PENDING"},
		{"desiredStatus", *task.DesiredStatus, "RUNNING"},
		{"launchType", string(task.LaunchType), "EC2"},
		{"group", *task.Group, "family:web"},
		{"startedBy", *task.StartedBy, "me"},
		{"zone", deref(task.AvailabilityZone), "eu-west-1a"},
		{"connectivity", string(task.Connectivity), "CONNECTED"},
		{"container", *task.Containers[0].LastStatus + " " + *task.Containers[0].Cpu + " " + *task.Containers[0].Memory, "PENDING 256 128"},
	} {
		if check.got != check.want {
			t.Errorf("%s is %q, want %q", check.what, check.got, check.want)
		}
	}
	if !strings.HasPrefix(*task.TaskArn, "arn:aws:ecs:eu-west-1:123456789012:task/default/") || len(lastPart(*task.TaskArn)) != 32 {
		t.Errorf("task ARN %s", *task.TaskArn)
	}

	described, err := r.DescribeContainerInstances(asRoot(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{*ci.ContainerInstanceArn}})
	if err != nil {
		t.Fatal(err)
	}
	left := described.ContainerInstances[0]
	if left.PendingTasksCount != 1 || left.RunningTasksCount != 0 {
		t.Errorf("%d tasks pending, %d running; want 1 and 0", left.PendingTasksCount, left.RunningTasksCount)
	}
	for _, res := range left.RemainingResources {
		switch *res.Name {
		case "CPU":
			if res.IntegerValue != 2048-256 {
				t.Errorf("remaining CPU %d", res.IntegerValue)
			}
		case "MEMORY":
			if res.IntegerValue != 4096-128 {
				t.Errorf("remaining MEMORY %d", res.IntegerValue)
			}
		case "PORTS":
			if !slices.Equal(res.StringSetValue, []string{"22", "8080", "51678"}) {
				t.Errorf("PORTS %v", res.StringSetValue)
			}
		}
	}
}

func TestRunTaskRefuses(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.addClusterNamed("empty")
	r.define(simple("web", 128, 128))
	vpc := simple("vpc", 128, 128)
	vpc.NetworkMode = types.NetworkModeAwsvpc
	r.define(vpc)
	inactive := simple("old", 128, 128)
	r.define(inactive)
	r.update(func(tx *store.Tx) {
		d, _ := r.definitions.Get(tx, testScope, definitionID("old", 1))
		d = r.definitions.Clone(d)
		d.Definition.Status = types.TaskDefinitionStatusInactive
		r.definitions.Put(tx, testScope, definitionID("old", 1), d)
	})
	subnet := r.Subnets(testAccount, testRegion)[0].ID
	network := func(subnets, groups []string) *types.NetworkConfiguration {
		return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: subnets, SecurityGroups: groups}}
	}
	override := func(o types.ContainerOverride) *types.TaskOverride {
		return &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{o}}
	}
	strategy := []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE"), Weight: 1}}
	for _, c := range []struct {
		name, code, message string
		in                  ecs.RunTaskInput
	}{
		{"unknown cluster", "ClusterNotFoundException", "Cluster not found.", ecs.RunTaskInput{Cluster: aws.String("nope")}},
		{"cluster of another account", "ClusterNotFoundException", "Cluster not found.",
			ecs.RunTaskInput{Cluster: aws.String("arn:aws:ecs:eu-west-1:999999999999:cluster/default")}},
		{"unknown definition", "ClientException", "TaskDefinition not found.", ecs.RunTaskInput{TaskDefinition: aws.String("nope")}},
		{"unknown revision", "ClientException", "TaskDefinition not found.", ecs.RunTaskInput{TaskDefinition: aws.String("web:9")}},
		{"inactive definition", "ClientException", "TaskDefinition is inactive", ecs.RunTaskInput{TaskDefinition: aws.String("old:1")}},
		{"no tasks", "InvalidParameterException", "", ecs.RunTaskInput{Count: aws.Int32(0)}},
		{"eleven tasks", "InvalidParameterException", "", ecs.RunTaskInput{Count: aws.Int32(11)}},
		{"cluster without instances", "InvalidParameterException", "No Container Instances were found in your cluster.", ecs.RunTaskInput{Cluster: aws.String("empty")}},
		{"unknown container", "InvalidParameterException", "Override for container named x is not a container in the TaskDefinition.",
			ecs.RunTaskInput{Overrides: override(types.ContainerOverride{Name: aws.String("x")})}},
		{"override without a name", "InvalidParameterException", "", ecs.RunTaskInput{Overrides: override(types.ContainerOverride{Command: []string{"x"}})}},
		{"network without awsvpc", "InvalidParameterException", "Network Configuration is not valid for the given networkMode of this task definition.",
			ecs.RunTaskInput{NetworkConfiguration: network([]string{subnet}, nil)}},
		{"awsvpc without network", "InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
			ecs.RunTaskInput{TaskDefinition: aws.String("vpc")}},
		{"unknown subnet", "InvalidParameterException", "The subnet ID 'subnet-x' does not exist",
			ecs.RunTaskInput{TaskDefinition: aws.String("vpc"), NetworkConfiguration: network([]string{"subnet-x"}, nil)}},
		{"unknown security group", "InvalidParameterException", "",
			ecs.RunTaskInput{TaskDefinition: aws.String("vpc"), NetworkConfiguration: network([]string{subnet}, []string{"sg-x"})}},
		{"fargate without compatibility", "InvalidParameterException", "Task definition does not support launch_type FARGATE.",
			ecs.RunTaskInput{LaunchType: types.LaunchTypeFargate}},
		{"launch type and strategy", "InvalidParameterException",
			"Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
			ecs.RunTaskInput{LaunchType: types.LaunchTypeEc2, CapacityProviderStrategy: strategy}},
		{"provider not of the cluster", "InvalidParameterException",
			"The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster. Associate the capacity provider with the cluster and try again.",
			ecs.RunTaskInput{CapacityProviderStrategy: strategy}},
		{"managed instances", "InvalidParameterException", "", ecs.RunTaskInput{LaunchType: types.LaunchTypeManagedInstances}},
		{"platform version on EC2", "InvalidParameterException", "The platform version must be null when specifying an EC2 launch type.",
			ecs.RunTaskInput{PlatformVersion: aws.String("LATEST")}},
		{"bad expression", "InvalidParameterException", "", ecs.RunTaskInput{PlacementConstraints: []types.PlacementConstraint{
			{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("nonsense ==")}}}},
		{"control character in startedBy", "InvalidParameterException", "", ecs.RunTaskInput{StartedBy: aws.String("a\x01")}},
		{"long startedBy", "InvalidParameterException", "", ecs.RunTaskInput{StartedBy: aws.String(strings.Repeat("x", 129))}},
		{"control character in group", "InvalidParameterException", "", ecs.RunTaskInput{Group: aws.String("a\x00b")}},
		{"long overrides", "InvalidParameterException", "Overrides length must be at most 8192.",
			ecs.RunTaskInput{Overrides: override(types.ContainerOverride{Name: aws.String("x"), Command: []string{strings.Repeat("x", 8150)}})}},
		{"six strategies", "InvalidParameterException", "", ecs.RunTaskInput{PlacementStrategy: slices.Repeat([]types.PlacementStrategy{{Type: types.PlacementStrategyTypeRandom}}, 6)}},
		{"eleven constraints", "InvalidParameterException", "", ecs.RunTaskInput{PlacementConstraints: slices.Repeat([]types.PlacementConstraint{{Type: types.PlacementConstraintTypeDistinctInstance}}, 11)}},
		{"tag of AWS", "InvalidParameterException", "", ecs.RunTaskInput{Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("y")}}}},
		{"exec", "UnsupportedFeatureException", "", ecs.RunTaskInput{EnableExecuteCommand: true}},
		{"tags of a service", "InvalidParameterException", "", ecs.RunTaskInput{PropagateTags: types.PropagateTagsService}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.in.TaskDefinition == nil {
				c.in.TaskDefinition = aws.String("web")
			}
			_, err := r.RunTask(asRoot(), &c.in)
			wantError(t, err, c.code, c.message)
		})
	}
	if n := r.tasksByStatus.Count(r.db.Snapshot(), testScope, "live"); n != 0 {
		t.Errorf("%d tasks were made by refused calls", n)
	}
}

func TestRunTaskPlacesWhatFits(t *testing.T) {
	r := newRoom(t)
	small := r.join("n1", "default", 300, 4096)
	r.join("n2", "default", 600, 4096)
	r.define(simple("web", 256, 128))
	out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), Count: aws.Int32(5)})
	if len(out.Tasks) != 3 {
		t.Errorf("%d tasks were placed on room for three", len(out.Tasks))
	}
	if !slices.Contains(failures(out.Failures), *small.ContainerInstanceArn+" RESOURCE:CPU") || len(out.Failures) != 2 {
		t.Errorf("failures %v; want RESOURCE:CPU for both instances", failures(out.Failures))
	}
}

func TestRunTaskFailureReasons(t *testing.T) {
	attr := simple("attr", 1, 6)
	attr.RequiresAttributes = []types.Attribute{attribute("ecs.capability.gpu-magic", "")}
	for _, c := range []struct {
		name, reason string
		definition   types.TaskDefinition
		prepare      func(*room, types.ContainerInstance)
		in           ecs.RunTaskInput
	}{
		{name: "cpu", reason: "RESOURCE:CPU", definition: simple("d", 2000, 128)},
		{name: "memory", reason: "RESOURCE:MEMORY", definition: simple("d", 1, 8000)},
		{name: "the agent's port", reason: "RESOURCE:PORTS", definition: simple("d", 1, 6, 22)},
		{name: "attribute", reason: "ATTRIBUTE", definition: attr},
		{name: "agent", reason: "AGENT", definition: simple("d", 1, 6), prepare: func(r *room, ci types.ContainerInstance) {
			r.Closed(context.Background(), r.session("n1", *ci.ContainerInstanceArn))
		}},
		{name: "memberOf", reason: "MemberOf placement constraint unsatisfied.", definition: simple("d", 1, 6),
			in: ecs.RunTaskInput{PlacementConstraints: []types.PlacementConstraint{
				{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("attribute:stack == prod")}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t)
			ci := r.join("n1", "default", 1024, 1024)
			r.define(c.definition)
			if c.prepare != nil {
				c.prepare(r, ci)
			}
			c.in.TaskDefinition = c.definition.Family
			out := r.run(&c.in)
			if want := *ci.ContainerInstanceArn + " " + c.reason; len(out.Tasks) != 0 || !slices.Equal(failures(out.Failures), []string{want}) {
				t.Errorf("%d tasks, failures %v; want %s", len(out.Tasks), failures(out.Failures), want)
			}
		})
	}
}

func TestRunTaskOfTheSameClientToken(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 4096, 4096)
	r.define(simple("web", 128, 128))
	in := &ecs.RunTaskInput{TaskDefinition: aws.String("web"), ClientToken: aws.String("token"), Count: aws.Int32(2)}
	first := r.run(in)
	again := r.run(in)
	if len(again.Tasks) != 2 || *again.Tasks[0].TaskArn != *first.Tasks[0].TaskArn || *again.Tasks[1].TaskArn != *first.Tasks[1].TaskArn {
		t.Errorf("the same token made other tasks")
	}
	_, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web"), ClientToken: aws.String("token")})
	var conflict *types.ConflictException
	if !errors.As(err, &conflict) || !slices.Equal(conflict.ResourceIds, []string{*first.Tasks[0].TaskArn, *first.Tasks[1].TaskArn}) {
		t.Fatalf("another request with the token: %v; want a ConflictException with both tasks", err)
	}
	r.advanceClock(tokenLife)
	if fresh := r.run(in); *fresh.Tasks[0].TaskArn == *first.Tasks[0].TaskArn {
		t.Errorf("the token still answers after %s", tokenLife)
	}
}

func TestConcurrentRunTaskNeverOverAllocates(t *testing.T) {
	r := newRoom(t)
	const nodes, room = 3, 8
	for i := range nodes {
		r.join(fmt.Sprintf("n%d", i), "default", 128*room, 1<<20)
	}
	r.define(simple("web", 128, 6, 8080)) // one for each node, by its port
	r.define(simple("batch", 128, 6))     // as many as there is cpu
	var wg sync.WaitGroup
	var mu sync.Mutex
	placed := map[string]int{}
	for i := range 24 {
		wg.Go(func() {
			family := []string{"web", "batch"}[i%2]
			out, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: &family, Count: aws.Int32(4)})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			placed[family] += len(out.Tasks)
			mu.Unlock()
		})
	}
	wg.Wait()
	if placed["web"] > nodes || placed["web"]+placed["batch"] != nodes*room {
		t.Errorf("placed %v; want at most %d web and %d in all", placed, nodes, nodes*room)
	}
	snap := r.db.Snapshot()
	for i := range nodes {
		n, _ := r.node(snap, testScope, fmt.Sprintf("n%d", i))
		u := r.usage(snap, testScope, n.ID)
		if u.cpu > n.Resources.CPU || len(u.tcp) > 1 {
			t.Errorf("node %s: %d of %d CPU and host ports %v", n.ID, u.cpu, n.Resources.CPU, u.tcp)
		}
	}
}

func TestStartTask(t *testing.T) {
	r := newRoom(t)
	a := r.join("n1", "default", 1024, 1024)
	b := r.join("n2", "default", 100, 1024)
	r.define(simple("web", 128, 128))
	missing := instanceARN(testScope, "default", strings.Repeat("f", 32))
	out, err := r.StartTask(asRoot(), &ecs.StartTaskInput{
		TaskDefinition: aws.String("web"), ContainerInstances: []string{*a.ContainerInstanceArn, *b.ContainerInstanceArn, missing},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Tasks) != 1 || *out.Tasks[0].ContainerInstanceArn != *a.ContainerInstanceArn {
		t.Errorf("tasks %v", out.Tasks)
	}
	if want := []string{*b.ContainerInstanceArn + " RESOURCE:CPU", missing + " MISSING"}; !slices.Equal(failures(out.Failures), want) {
		t.Errorf("failures %v, want %v", failures(out.Failures), want)
	}
}

func TestFargateTask(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 4096, 8192)
	r.addClusterNamed("demo")
	r.define(fargate("web"))
	subnet := r.Subnets(testAccount, testRegion)[1]
	arn := r.runOne(&ecs.RunTaskInput{
		Cluster: aws.String("demo"), TaskDefinition: aws.String("web"), LaunchType: types.LaunchTypeFargate,
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{subnet.ID}}},
	})
	task := r.describe("demo", arn)
	if task.ContainerInstanceArn != nil || task.LaunchType != types.LaunchTypeFargate || deref(task.PlatformVersion) != "1.4.0" ||
		deref(task.LastStatus) != "PROVISIONING" || deref(task.Cpu) != "256" || deref(task.Memory) != "512" {
		t.Errorf("task %+v", task)
	}
	details := map[string]string{}
	for _, d := range task.Attachments[0].Details {
		details[*d.Name] = *d.Value
	}
	address := *task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address
	if details["privateIPv4Address"] != address || details["subnetId"] != subnet.ID || details["macAddress"] == "" || details["networkInterfaceId"] == "" {
		t.Errorf("attachment details %v, container's address %s", details, address)
	}
	assigned := r.assignments("n1")
	if len(assigned) != 1 || assigned[0].TaskARN != arn || assigned[0].ClusterARN != clusterARN(testScope, "demo") {
		t.Errorf("assignments %v", assigned)
	}
	r.report("n1", arn, "RUNNING", running("main"))
	if task = r.describe("demo", arn); *task.Attachments[0].Status != "ATTACHED" {
		t.Errorf("a running task's attachment is %s", *task.Attachments[0].Status)
	}
}

func TestAddressesAreNeverGivenTwice(t *testing.T) {
	r := newRoom(t, func(d *Deps) { d.VPC = smallVPC })
	r.define(fargate("web"))
	subnet := r.Subnets(testAccount, testRegion)[0]
	network := &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{subnet.ID}}}
	free := 1<<(32-subnet.CIDR.Bits()) - 5
	seen, refused := map[string]string{}, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range free + 4 {
		// Each on a node of its own, so that only the address can be in dispute.
		node := fmt.Sprintf("n%d", i)
		ci := r.join(node, "default", 1024, 1024)
		wg.Go(func() {
			out, err := r.StartTask(asRoot(), &ecs.StartTaskInput{
				TaskDefinition: aws.String("web"), ContainerInstances: []string{*ci.ContainerInstanceArn}, NetworkConfiguration: network,
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, task := range out.Tasks {
				address := *task.Containers[0].NetworkInterfaces[0].PrivateIpv4Address
				if seen[address] != "" {
					t.Errorf("%s has the address of %s", *task.TaskArn, seen[address])
				}
				seen[address] = *task.TaskArn
			}
			for _, f := range out.Failures {
				if refused++; *f.Reason != "RESOURCE:ENI" {
					t.Errorf("failure %s", *f.Reason)
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != free || refused != 4 {
		t.Errorf("%d tasks have addresses and %d have none; the subnet has %d addresses", len(seen), refused, free)
	}

	// An address rests after its task, and then serves again.
	run := &ecs.RunTaskInput{TaskDefinition: aws.String("web"), NetworkConfiguration: network}
	for address, arn := range seen {
		task, _ := r.tasks.Get(r.db.Snapshot(), testScope, "default/"+lastPart(arn))
		r.report(task.NodeID, arn, "STOPPED", stopped("main", 0))
		if out := r.run(run); len(out.Tasks) != 0 {
			t.Error("an address was given out at once after its task")
		}
		r.advanceClock(addressRest)
		if out := r.run(run); len(out.Tasks) != 1 || *out.Tasks[0].Containers[0].NetworkInterfaces[0].PrivateIpv4Address != address {
			t.Errorf("the rested address %s was not given out: %v", address, failures(out.Failures))
		}
		break
	}
}

func TestCapacityProviderStrategyDivides(t *testing.T) {
	item := func(name string, base, weight int32) types.CapacityProviderStrategyItem {
		return types.CapacityProviderStrategyItem{CapacityProvider: &name, Base: base, Weight: weight}
	}
	for _, c := range []struct {
		strategy []types.CapacityProviderStrategyItem
		count    int
		want     []int
	}{
		{[]types.CapacityProviderStrategyItem{item("A", 0, 1), item("B", 0, 4)}, 5, []int{1, 4}},
		{[]types.CapacityProviderStrategyItem{item("A", 2, 1), item("B", 0, 1)}, 6, []int{4, 2}},
		{[]types.CapacityProviderStrategyItem{item("A", 0, 0), item("B", 0, 1)}, 3, []int{0, 3}},
		{[]types.CapacityProviderStrategyItem{item("A", 10, 1), item("B", 0, 9)}, 4, []int{4, 0}},
	} {
		if got := divide(c.strategy, c.count); !slices.Equal(got, c.want) {
			t.Errorf("%d tasks are divided %v, want %v", c.count, got, c.want)
		}
	}
}

func TestTheClustersDefaultStrategyApplies(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 4096, 8192)
	r.define(fargate("web"))
	item := func(name string, base, weight int32) types.CapacityProviderStrategyItem {
		return types.CapacityProviderStrategyItem{CapacityProvider: &name, Base: base, Weight: weight}
	}
	r.update(func(tx *store.Tx) {
		r.addCluster(tx, testScope, &Cluster{
			Name: "spot", Generation: "g", Status: statusActive, CreatedAt: r.now(),
			CapacityProviders:               []string{"FARGATE", "FARGATE_SPOT"},
			DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE", 1, 0), item("FARGATE_SPOT", 0, 1)},
		})
	})
	out := r.run(&ecs.RunTaskInput{Cluster: aws.String("spot"), TaskDefinition: aws.String("web"), Count: aws.Int32(3),
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{r.Subnets(testAccount, testRegion)[0].ID}}}})
	providers := map[string]int{}
	for _, task := range out.Tasks {
		if task.LaunchType != types.LaunchTypeFargate {
			t.Errorf("launch type %s", task.LaunchType)
		}
		providers[*task.CapacityProviderName]++
	}
	if providers["FARGATE"] != 1 || providers["FARGATE_SPOT"] != 2 {
		t.Errorf("providers %v, failures %v", providers, failures(out.Failures))
	}
}

func TestTagsOfATask(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	r.update(func(tx *store.Tx) {
		d, _ := r.definitions.Get(tx, testScope, definitionID("web", 1))
		d = r.definitions.Clone(d)
		d.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}, {Key: aws.String("tier"), Value: aws.String("web")}}
		r.definitions.Put(tx, testScope, definitionID("web", 1), d)
	})
	task := r.describe("default", r.runOne(&ecs.RunTaskInput{
		TaskDefinition: aws.String("web"), PropagateTags: types.PropagateTagsTaskDefinition, EnableECSManagedTags: true,
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("b")}},
	}))
	tags := map[string]string{}
	for _, tag := range task.Tags {
		tags[*tag.Key] = *tag.Value
	}
	if len(tags) != 3 || tags["team"] != "b" || tags["tier"] != "web" || tags["aws:ecs:clusterName"] != "default" {
		t.Errorf("tags %v", tags)
	}
}
