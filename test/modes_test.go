package test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// web registers the sample web service in a network mode and returns the definition's ARN.
func (l *longshore) web(family string, mode types.NetworkMode, change func(*ecs.RegisterTaskDefinitionInput)) string {
	l.t.Helper()
	in := &ecs.RegisterTaskDefinitionInput{
		Family: aws.String(family), NetworkMode: mode,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("web"), Image: aws.String("longshore/sample"), Memory: aws.Int32(64),
			PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}},
		}},
	}
	if change != nil {
		change(in)
	}
	out, err := l.ecs().RegisterTaskDefinition(context.Background(), in)
	if err != nil {
		l.t.Fatal(err)
	}
	return aws.ToString(out.TaskDefinition.TaskDefinitionArn)
}

// run runs one task and returns it when it is RUNNING.
func (l *longshore) run(in *ecs.RunTaskInput) types.Task {
	l.t.Helper()
	out, err := l.ecs().RunTask(context.Background(), in)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(out.Tasks) != 1 {
		l.t.Fatalf("no task was placed: %+v", out.Failures)
	}
	return l.await(aws.ToString(in.Cluster), aws.ToString(out.Tasks[0].TaskArn), "RUNNING")
}

// await waits for a task's status and returns the task.
func (l *longshore) await(cluster, arn, status string) types.Task {
	l.t.Helper()
	var task types.Task
	l.eventually(arn+" is "+status, func() error {
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Cluster: optional(cluster), Tasks: []string{arn}})
		if err != nil {
			return err
		}
		if len(out.Tasks) != 1 {
			return fmt.Errorf("it is not there: %+v", out.Failures)
		}
		if task = out.Tasks[0]; aws.ToString(task.LastStatus) != status {
			if aws.ToString(task.LastStatus) == "STOPPED" {
				l.t.Fatalf("%s stopped: %s %s", arn, task.StopCode, aws.ToString(task.StoppedReason))
			}
			return fmt.Errorf("it is %s", aws.ToString(task.LastStatus))
		}
		return nil
	})
	return task
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// metadata is the container metadata that the sample at the URL has read at
// 169.254.170.2.
func (l *longshore) metadata(url string) map[string]any {
	l.t.Helper()
	var page struct {
		Metadata map[string]any `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(l.get(url)), &page); err != nil {
		l.t.Fatalf("the page of %s: %v", url, err)
	}
	if page.Metadata["Name"] != "web" {
		l.t.Fatalf("%s shows the metadata %v, want those of the container web", url, page.Metadata)
	}
	return page.Metadata
}

func TestNetworkModes(t *testing.T) {
	l := up(t, "--no-sample")
	t.Run("bridge, two tasks with the same port", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("bridge", types.NetworkModeBridge, nil)
		ports := map[int32]bool{}
		for range 2 {
			task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
			port := aws.ToInt32(task.Containers[0].NetworkBindings[0].HostPort)
			ports[port] = true
			l.metadata(fmt.Sprintf("http://127.0.0.1:%d/", port))
		}
		if len(ports) != 2 {
			t.Fatalf("two tasks share the host port: %v", ports)
		}
	})
	t.Run("static port, and its conflict", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("static", types.NetworkModeBridge, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].PortMappings[0].HostPort = aws.Int32(23456)
		})
		l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
		l.metadata("http://127.0.0.1:23456/")
		out, err := l.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &definition})
		if err != nil || len(out.Failures) != 1 || aws.ToString(out.Failures[0].Reason) != "RESOURCE:PORTS" {
			t.Fatalf("a second task on the port: %+v, %v; want the failure RESOURCE:PORTS", out, err)
		}
	})
	t.Run("host", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("host", types.NetworkModeHost, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(23457)}}
			in.ContainerDefinitions[0].Command = []string{"listen", "23457"}
		})
		l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
		l.metadata("http://127.0.0.1:23457/")
	})
	t.Run("awsvpc: the attachment's address is the container's", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("awsvpc", types.NetworkModeAwsvpc, nil)
		task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition, NetworkConfiguration: l.anySubnet()})
		address := detail(task, "privateIPv4Address")
		got := l.metadata("http://" + address + "/")
		networks := fmt.Sprint(got["Networks"])
		if !strings.Contains(networks, address) {
			t.Fatalf("the container sees %s, its attachment says %s", networks, address)
		}
	})
	t.Run("fargate", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("fargate", types.NetworkModeAwsvpc, func(in *ecs.RegisterTaskDefinitionInput) {
			in.RequiresCompatibilities = []types.Compatibility{types.CompatibilityFargate}
			in.Cpu, in.Memory = aws.String("256"), aws.String("512")
		})
		task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition, LaunchType: types.LaunchTypeFargate, NetworkConfiguration: l.anySubnet()})
		if task.LaunchType != types.LaunchTypeFargate || task.ContainerInstanceArn != nil {
			t.Fatalf("launch type %s on %v, want FARGATE on no instance of the user's", task.LaunchType, task.ContainerInstanceArn)
		}
		l.metadata("http://" + detail(task, "privateIPv4Address") + "/")
	})
	t.Run("none", func(t *testing.T) {
		l := l.within(t)
		definition := l.web("none", types.NetworkModeNone, func(in *ecs.RegisterTaskDefinitionInput) {
			in.ContainerDefinitions[0].PortMappings = nil
			in.ContainerDefinitions[0].Command = []string{"sleep", "600"}
		})
		if task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition}); len(task.Containers[0].NetworkBindings) != 0 {
			t.Fatalf("bindings in mode none: %+v", task.Containers[0].NetworkBindings)
		}
	})
}

// anySubnet is a network configuration in the subnet of the node.
func (l *longshore) anySubnet() *types.NetworkConfiguration {
	l.t.Helper()
	return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{l.subnet()}}}
}

func detail(task types.Task, name string) string {
	for _, a := range task.Attachments {
		for _, d := range a.Details {
			if aws.ToString(d.Name) == name {
				return aws.ToString(d.Value)
			}
		}
	}
	return ""
}

// subnet is the id of the first subnet of the built-in VPC, as the node's
// attributes tell it.
func (l *longshore) subnet() string {
	l.t.Helper()
	out, err := l.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: l.instances()})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, a := range out.ContainerInstances[0].Attributes {
		if aws.ToString(a.Name) == "ecs.subnet-id" {
			return aws.ToString(a.Value)
		}
	}
	l.t.Fatal("the container instance has no attribute ecs.subnet-id")
	return ""
}
