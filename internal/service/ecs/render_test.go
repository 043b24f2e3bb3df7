package ecs

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
)

// rendered runs a task of a definition and returns what its agent gets.
func (r *room) rendered(d types.TaskDefinition, in *ecs.RunTaskInput) acs.Task {
	r.t.Helper()
	r.define(d)
	in.TaskDefinition = d.Family
	r.runOne(in)
	list := r.assignments("n1")
	task, err := list[len(list)-1].Render()
	if err != nil {
		r.t.Fatal(err)
	}
	return task
}

func TestRenderedTaskHasItsOverrides(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 4096, 4096)
	d := simple("web", 128, 256, 8080)
	c := &d.ContainerDefinitions[0]
	c.Command, c.EntryPoint = []string{"serve"}, []string{"/bin/sample"}
	c.Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: aws.String("1")}, {Name: aws.String("B"), Value: aws.String("2")}}
	task := r.rendered(d, &ecs.RunTaskInput{Overrides: &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{
		Name: aws.String("main"), Command: []string{"sleep", "5"}, Memory: aws.Int32(64),
		Environment: []types.KeyValuePair{{Name: aws.String("B"), Value: aws.String("3")}},
	}}}})
	got := task.Containers[0]
	if !slices.Equal(got.Command, []string{"sleep", "5"}) || !slices.Equal(*got.EntryPoint, []string{"/bin/sample"}) || got.Memory != 64 || got.CPU != 128 || !got.Essential {
		t.Errorf("container %+v", got)
	}
	if want := map[string]string{"A": "1", "B": "3", "AWS_EXECUTION_ENV": "AWS_ECS_EC2", "AWS_ENDPOINT_URL": "http://cp:4566"}; !reflect.DeepEqual(got.Environment, want) {
		t.Errorf("environment %v, want %v", got.Environment, want)
	}
	if want := []acs.PortMapping{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}}; !reflect.DeepEqual(got.PortMappings, want) {
		t.Errorf("ports %v", got.PortMappings)
	}
	if task.CPU != 0 || task.Memory != 0 || task.NetworkMode != "bridge" || task.Version != "1" || task.DesiredStatus != "RUNNING" {
		t.Errorf("task %+v", task)
	}
	if got.Overrides != "" || task.Overrides != "" {
		t.Errorf("overrides are left to the agent: %q %q", got.Overrides, task.Overrides)
	}
}

func TestRenderedDockerConfig(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 4096, 4096, attribute(AttributeAgent, ""))
	d := simple("web", 1, 256)
	d.NetworkMode = types.NetworkModeHost
	c := &d.ContainerDefinitions[0]
	c.MemoryReservation, c.User, c.WorkingDirectory = aws.Int32(128), aws.String("1000:1000"), aws.String("/srv")
	c.PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(81)}}
	c.DockerLabels = map[string]string{"team": "a"}
	c.HealthCheck = &types.HealthCheck{Command: []string{"CMD-SHELL", "true"}, Timeout: aws.Int32(2)}
	c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{"awslogs-group": "g"}}
	c.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: 10, HardLimit: 20}}
	c.LinuxParameters = &types.LinuxParameters{
		InitProcessEnabled: aws.Bool(true), SharedMemorySize: aws.Int32(64), MaxSwap: aws.Int32(100),
		Capabilities: &types.KernelCapabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"MKNOD"}},
		Tmpfs:        []types.Tmpfs{{ContainerPath: aws.String("/tmp"), Size: 16, MountOptions: []string{"noexec"}}},
	}
	task := r.rendered(d, &ecs.RunTaskInput{})
	config, host, err := task.Containers[0].DockerConfig.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if config.User != "1000:1000" || config.WorkingDir != "/srv" || config.Labels["team"] != "a" || config.Labels["com.amazonaws.ecs.task-arn"] != task.ARN {
		t.Errorf("config %+v", config)
	}
	wantCheck := &acs.Healthcheck{Test: []string{"CMD-SHELL", "true"}, Interval: 30e9, Timeout: 2e9, Retries: 3}
	if !reflect.DeepEqual(config.Healthcheck, wantCheck) || task.Containers[0].HealthCheckType != "docker" {
		t.Errorf("health check %+v", config.Healthcheck)
	}
	on := true
	want := acs.HostConfig{
		NetworkMode: "host", LogConfig: acs.LogConfig{Type: "awslogs", Config: map[string]string{"awslogs-group": "g"}},
		MemoryReservation: 128 << 20, MemorySwap: 356 << 20, Ulimits: []acs.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}},
		CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"MKNOD"}, ShmSize: 64 << 20, Init: &on,
		Tmpfs: map[string]string{"/tmp": "size=16m,noexec"},
	}
	if !reflect.DeepEqual(host, want) {
		t.Errorf("host config %+v\nwant        %+v", host, want)
	}
	if p := task.Containers[0].PortMappings[0]; p.HostPort != 81 {
		t.Errorf("host mode's port is %d, want the container's", p.HostPort)
	}
}

func TestRenderedENI(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 4096, 4096)
	subnet := r.Subnets(testAccount, testRegion)[0]
	task := r.rendered(fargate("web"), &ecs.RunTaskInput{
		LaunchType: types.LaunchTypeFargate, NetworkConfiguration: &types.NetworkConfiguration{
			AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{subnet.ID}}},
	})
	if task.CPU != 0.25 || task.Memory != 512 || task.LaunchType != "FARGATE" || len(task.ENIs) != 1 {
		t.Fatalf("task %+v", task)
	}
	eni := task.ENIs[0]
	address := eni.IPv4Addresses[0].PrivateAddress
	if eni.SubnetGatewayIPv4Address != "172.31.0.1/20" || eni.MACAddress == "" || !eni.IPv4Addresses[0].Primary || address == "" {
		t.Errorf("ENI %+v", eni)
	}
	if got := r.describe("default", task.ARN).Containers[0].NetworkInterfaces[0]; *got.PrivateIpv4Address != address {
		t.Errorf("the agent is told %s, the API shows %s", address, *got.PrivateIpv4Address)
	}
	if task.Containers[0].Environment["AWS_EXECUTION_ENV"] != "AWS_ECS_FARGATE" {
		t.Errorf("environment %v", task.Containers[0].Environment)
	}
}
