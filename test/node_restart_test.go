package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestNodeRestartChangesNothingForTasks looks at running tasks before and after
// the process was killed: ports, addresses, metadata, processes. Once, another
// process has taken the port of the metadata server meanwhile.
func TestNodeRestartChangesNothingForTasks(t *testing.T) {
	l := up(t, "--no-sample")
	bridge, vpc := l.web("bridge", types.NetworkModeBridge, nil), l.web("vpc", types.NetworkModeAwsvpc, nil)
	first := l.run(&ecs.RunTaskInput{TaskDefinition: &bridge})
	second := l.run(&ecs.RunTaskInput{TaskDefinition: &vpc, NetworkConfiguration: l.anySubnet()})
	urls := []string{
		fmt.Sprintf("http://127.0.0.1:%d/", aws.ToInt32(first.Containers[0].NetworkBindings[0].HostPort)),
		"http://" + detail(second, "privateIPv4Address") + "/",
	}
	ids := []string{idOf(aws.ToString(first.TaskArn)), idOf(aws.ToString(second.TaskArn))}
	look := func() string {
		t.Helper()
		var seen strings.Builder
		for i, id := range ids {
			// The API answers a moment before the node is back.
			l.eventually("the metadata server of "+id+" is back", func() error {
				return l.curlInside(id, "--fail", l.metadataURI(id)).Run()
			})
			fmt.Fprintln(&seen, id, l.taskProcess(id), l.metadata(urls[i])["DockerId"], l.inside(id, l.metadataURI(id)))
		}
		return seen.String()
	}
	before := look()
	l.kill()
	l.start()
	if after := look(); after != before {
		t.Fatalf("before the restart:\n%s\nafter:\n%s", before, after)
	}
	l.kill()
	address, err := os.ReadFile("/run/longshore/" + l.name + "/metadata")
	if err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", strings.TrimSpace(string(address)))
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	l.start()
	t.Log("the port of the metadata server is taken")
	if after := look(); after != before {
		t.Fatalf("before the metadata port was taken:\n%s\nafter:\n%s", before, after)
	}
}

// TestNodeVolumesAndLinks runs tasks whose containers share volumes and find each
// other by links.
func TestNodeVolumesAndLinks(t *testing.T) {
	l := up(t, "--no-sample")
	after := func(name string) []types.ContainerDependency {
		return []types.ContainerDependency{{ContainerName: &name, Condition: types.ContainerConditionSuccess}}
	}
	// pair runs writer, then reader, and returns the task.
	pair := func(t *testing.T, l *longshore, family string, volume types.Volume, change func(writer, reader *types.ContainerDefinition)) types.Task {
		writer, reader := container(family, "writer", "write", "/data/file", "10"), container(family, "app", "cat", "/data/file")
		writer.Essential = aws.Bool(false)
		writer.MountPoints = []types.MountPoint{{SourceVolume: volume.Name, ContainerPath: aws.String("/data")}}
		reader.MountPoints, reader.DependsOn = writer.MountPoints, after("writer")
		if change != nil {
			change(&writer, &reader)
		}
		return l.ended(l.begin(&ecs.RegisterTaskDefinitionInput{
			Family: &family, Volumes: []types.Volume{volume}, ContainerDefinitions: []types.ContainerDefinition{reader, writer},
		}))
	}
	exit := func(t *testing.T, task types.Task, name string, want int32) {
		t.Helper()
		for _, c := range task.Containers {
			if aws.ToString(c.Name) == name && (c.ExitCode == nil || *c.ExitCode != want) {
				t.Errorf("%s ended with %v %q, want %d; %s", name, c.ExitCode, aws.ToString(c.Reason), want, aws.ToString(task.StoppedReason))
			}
		}
	}
	data := aws.String("data")
	shared := types.Volume{Name: data, DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Scope: types.ScopeShared, Autoprovision: aws.Bool(true)}}
	for family, volume := range map[string]types.Volume{
		"anonymous": {Name: data, Host: &types.HostVolumeProperties{}},
		"task":      {Name: data, DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Scope: types.ScopeTask}},
		"shared":    shared,
	} {
		t.Run(family, func(t *testing.T) {
			exit(t, pair(t, l.within(t), family, volume, nil), "app", 0)
		})
	}
	t.Run("shared outlives its task", func(t *testing.T) {
		task, _ := l.within(t).one("later", func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			in.Volumes = []types.Volume{shared}
			c.MountPoints = []types.MountPoint{{SourceVolume: data, ContainerPath: aws.String("/data"), ReadOnly: aws.Bool(true)}}
		}, "cat", "/data/file")
		exit(t, task, "app", 0)
	})
	t.Run("volumes from another container, read-only", func(t *testing.T) {
		task := pair(t, l.within(t), "from", types.Volume{Name: data, Host: &types.HostVolumeProperties{}}, func(_, reader *types.ContainerDefinition) {
			reader.MountPoints = nil
			reader.VolumesFrom = []types.VolumeFrom{{SourceContainer: aws.String("writer"), ReadOnly: aws.Bool(true)}}
			reader.Command = []string{"write", "/data/other", "1"}
		})
		exit(t, task, "writer", 0)
		exit(t, task, "app", 1)
	})
	t.Run("links", func(t *testing.T) {
		l := l.within(t)
		server, client := container("links", "server"), container("links", "app", "get", "http://db/hello")
		server.Essential = aws.Bool(false)
		server.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/sample", "get", "http://127.0.0.1/"}, Interval: aws.Int32(5)}
		client.Links = []string{"server:db"}
		client.DependsOn = []types.ContainerDependency{{ContainerName: aws.String("server"), Condition: types.ContainerConditionHealthy}}
		task := l.ended(l.begin(&ecs.RegisterTaskDefinitionInput{
			Family: aws.String("links"), NetworkMode: types.NetworkModeBridge, ContainerDefinitions: []types.ContainerDefinition{client, server},
		}))
		exit(t, task, "app", 0)
	})
	t.Run("stop during a pull", func(t *testing.T) {
		l := l.within(t)
		silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		c := container("pull", "app")
		c.Image = aws.String(silent.Addr().String() + "/some/image:1")
		arn := l.begin(&ecs.RegisterTaskDefinitionInput{Family: aws.String("pull"), ContainerDefinitions: []types.ContainerDefinition{c}})
		conn, err := silent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		l.stop(arn)
		if task := l.ended(arn); task.StopCode != types.TaskStopCodeUserInitiated {
			t.Errorf("it stopped with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
		}
	})
}
