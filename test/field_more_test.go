package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestFieldsThatTakeMore shows the fields that take more than one run of a container.
func TestFieldsThatTakeMore(t *testing.T) {
	l := up(t, "--no-sample")
	for name, show := range map[string]func(l *longshore){
		"interactive":             (*longshore).showsInteractive,
		"port ranges and UDP":     (*longshore).showsPorts,
		"the task's own size":     (*longshore).showsTaskSize,
		"IPC namespaces":          (*longshore).showsIPC,
		"placement constraints":   (*longshore).showsConstraints,
		"volumes of Docker":       (*longshore).showsVolumes,
		"start period":            (*longshore).showsStartPeriod,
		"without log destination": (*longshore).showsOtherLogs,
	} {
		t.Run(name, func(t *testing.T) { show(l.within(t)) })
	}
}

// An interactive container's input stays open; another's is at its end.
func (l *longshore) showsInteractive() {
	task, _ := l.one("closed-input", nil, "cat", "/proc/self/fd/0")
	if code := task.Containers[0].ExitCode; code == nil || *code != 0 {
		l.t.Errorf("without interactive, reading ends with %v", code)
	}
	in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("interactive"), ContainerDefinitions: []types.ContainerDefinition{container("interactive", "app", "cat", "/proc/self/fd/0")}}
	in.ContainerDefinitions[0].Interactive = aws.Bool(true)
	arn := l.begin(in)
	l.await("", arn, "RUNNING")
	time.Sleep(time.Second)
	if got := l.await("", arn, "RUNNING"); aws.ToString(got.LastStatus) != "RUNNING" {
		l.t.Errorf("an interactive container is %s", aws.ToString(got.LastStatus))
	}
	l.stop(arn)
	l.ended(arn)
}

func (l *longshore) showsPorts() {
	in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("ports"), NetworkMode: types.NetworkModeBridge, ContainerDefinitions: []types.ContainerDefinition{container("ports", "app", "sleep", "600")}}
	in.ContainerDefinitions[0].PortMappings = []types.PortMapping{
		{ContainerPortRange: aws.String("7000-7002")},
		{ContainerPort: aws.Int32(53), Protocol: types.TransportProtocolUdp},
	}
	definition := l.define(in)
	task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
	ranged, udp := "", int32(0)
	for _, b := range task.Containers[0].NetworkBindings {
		if b.ContainerPortRange != nil {
			ranged = aws.ToString(b.ContainerPortRange) + " at " + aws.ToString(b.HostPortRange)
		}
		if b.Protocol == types.TransportProtocolUdp {
			udp = aws.ToInt32(b.HostPort)
		}
	}
	if !regexp.MustCompile(`^7000-7002 at \d+-\d+$`).MatchString(ranged) || udp == 0 {
		l.t.Errorf("the bindings are %q and UDP %d", ranged, udp)
	}
	// The node holds the UDP port against others.
	if conn, err := net.ListenPacket("udp", fmt.Sprintf("0.0.0.0:%d", udp)); err == nil {
		conn.Close()
		l.t.Errorf("the UDP port %d is free", udp)
	}
}

// groupFile is a file of a task's own cgroup.
func (l *longshore) groupFile(task, controller, v1, v2 string) string {
	l.t.Helper()
	for _, path := range []string{
		filepath.Join("/sys/fs/cgroup", controller, "longshore", l.name, task, v1), filepath.Join("/sys/fs/cgroup/longshore", l.name, task, v2),
	} {
		if raw, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(raw))
		}
	}
	l.t.Fatalf("the task %s has no cgroup with %s or %s", task, v1, v2)
	return ""
}

func (l *longshore) showsTaskSize() {
	in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("size"), Cpu: aws.String("512"), Memory: aws.String("128"), ContainerDefinitions: []types.ContainerDefinition{container("size", "app", "sleep", "600")}}
	definition := l.define(in)
	task := l.run(&ecs.RunTaskInput{TaskDefinition: &definition})
	id := idOf(aws.ToString(task.TaskArn))
	if got := l.groupFile(id, "memory", "memory.limit_in_bytes", "memory.max"); got != "134217728" {
		l.t.Errorf("the task's memory is limited to %s", got)
	}
	if got := l.groupFile(id, "cpu", "cpu.cfs_quota_us", "cpu.max"); got != "50000" && got != "50000 100000" {
		l.t.Errorf("the task's CPU quota is %s", got)
	}
	if aws.ToString(task.Cpu) != "512" || aws.ToString(task.Memory) != "128" {
		l.t.Errorf("DescribeTasks says %s and %s", aws.ToString(task.Cpu), aws.ToString(task.Memory))
	}
}

func (l *longshore) showsIPC() {
	own, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		l.t.Fatal(err)
	}
	for mode, distinct := range map[types.IpcMode]int{types.IpcModeHost: 1, types.IpcModeTask: 1, types.IpcModeNone: 2} {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("ipc"), IpcMode: mode, ContainerDefinitions: []types.ContainerDefinition{container("ipc", "app", "sleep", "600"), container("ipc", "other", "sleep", "600")}}
		definition := l.define(in)
		arn := aws.ToString(l.run(&ecs.RunTaskInput{TaskDefinition: &definition}).TaskArn)
		seen := map[string]bool{}
		l.eventually("the containers have their processes", func() error {
			seen = map[string]bool{}
			n := 0
			for _, pid := range l.processes(idOf(arn)) {
				raw, err := os.ReadFile("/proc/" + pid + "/cmdline")
				if err != nil || !strings.Contains(string(raw), "sleep\x00600") {
					continue
				}
				ns, err := os.Readlink("/proc/" + pid + "/ns/ipc")
				if err != nil {
					return err
				}
				n++
				seen[ns] = true
			}
			if n != 2 {
				return fmt.Errorf("%d processes", n)
			}
			return nil
		})
		if len(seen) != distinct || seen[own] != (mode == types.IpcModeHost) {
			l.t.Errorf("%s: %d namespaces, the host's among them: %v", mode, len(seen), seen[own])
		}
		l.stop(arn)
		l.ended(arn)
	}
}

func (l *longshore) showsConstraints() {
	for expression, placed := range map[string]bool{"attribute:ecs.os-type == linux": true, "attribute:ecs.os-type == plan9": false} {
		in := &ecs.RegisterTaskDefinitionInput{
			Family: aws.String("constrained"), ContainerDefinitions: []types.ContainerDefinition{container("constrained", "app", "exit", "0")},
			PlacementConstraints: []types.TaskDefinitionPlacementConstraint{{Type: types.TaskDefinitionPlacementConstraintTypeMemberOf, Expression: aws.String(expression)}},
		}
		out, err := l.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String(l.define(in))})
		if err != nil {
			l.t.Fatal(err)
		}
		if (len(out.Tasks) == 1) != placed {
			l.t.Errorf("%s: %d tasks, %+v", expression, len(out.Tasks), out.Failures)
		}
	}
}

func (l *longshore) showsVolumes() {
	volume := func(scope types.Scope, autoprovision bool, options map[string]string) func(*ecs.RegisterTaskDefinitionInput, *types.ContainerDefinition) {
		return func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			v := &types.DockerVolumeConfiguration{Scope: scope, Driver: aws.String("local"), DriverOpts: options}
			if scope == types.ScopeShared {
				v.Autoprovision = &autoprovision
			}
			in.Volumes = []types.Volume{{Name: aws.String("data"), DockerVolumeConfiguration: v}}
			c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("data"), ContainerPath: aws.String("/data")}}
		}
	}
	if task, _ := l.one("missing", volume(types.ScopeShared, false, nil), "echo"); !strings.Contains(aws.ToString(task.StoppedReason), "does not exist on this node, and autoprovision is off") {
		l.t.Errorf("a shared volume that is not there: %s", aws.ToString(task.StoppedReason))
	}
	l.one("writes", volume(types.ScopeShared, true, nil), "write", "/data/file", "3")
	if _, out := l.one("reads", volume(types.ScopeShared, false, nil), "cat", "/data/file"); out != "\x00\x00\x00\n" {
		l.t.Errorf("another task reads %q of the shared volume", out)
	}
	l.one("writes-its-own", volume(types.ScopeTask, false, nil), "write", "/data/file", "3")
	if _, out := l.one("reads-its-own", volume(types.ScopeTask, false, nil), "cat", "/data/file"); !strings.Contains(out, "no such file") {
		l.t.Errorf("another task reads %q of a task's own volume", out)
	}
	if task, _ := l.one("options", volume(types.ScopeTask, false, map[string]string{"type": "tmpfs"}), "echo"); !strings.Contains(aws.ToString(task.StoppedReason), "has driver options, which this node does not support") {
		l.t.Errorf("driver options: %s", aws.ToString(task.StoppedReason))
	}
}

// Within its start period a container that fails its checks is not unhealthy yet.
func (l *longshore) showsStartPeriod() {
	begin := func(family string, period int32) string {
		c := container(family, "app", "sleep", "600")
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/sample", "exit", "1"}, Interval: aws.Int32(5), Timeout: aws.Int32(2), Retries: aws.Int32(1), StartPeriod: &period}
		return l.begin(&ecs.RegisterTaskDefinitionInput{Family: &family, ContainerDefinitions: []types.ContainerDefinition{c}})
	}
	patient, hasty := begin("patient", 300), begin("hasty", 0)
	health := func(arn string) types.HealthStatus {
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
		if err != nil || len(out.Tasks) != 1 {
			l.t.Fatalf("%v %v", out, err)
		}
		return out.Tasks[0].HealthStatus
	}
	l.eventually("the hasty one is unhealthy", func() error {
		if h := health(hasty); h != types.HealthStatusUnhealthy {
			return fmt.Errorf("it is %s", h)
		}
		return nil
	})
	if h := health(patient); h != types.HealthStatusUnknown {
		l.t.Errorf("within its start period it is %s", h)
	}
}

func (l *longshore) showsOtherLogs() {
	for _, driver := range []types.LogDriver{types.LogDriverJsonFile} {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("logs"), ContainerDefinitions: []types.ContainerDefinition{container("logs", "app", "echo", "hello")}}
		in.ContainerDefinitions[0].LogConfiguration = &types.LogConfiguration{LogDriver: driver}
		if task := l.ended(l.begin(in)); task.Containers[0].ExitCode == nil || *task.Containers[0].ExitCode != 0 {
			l.t.Errorf("%s: %s", driver, aws.ToString(task.StoppedReason))
		}
	}
}

// TestOverriddenFields shows what RunTask's overrides change, from the inside.
func TestOverriddenFields(t *testing.T) {
	l := up(t, "--no-sample")
	in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("plain"), ContainerDefinitions: []types.ContainerDefinition{container("plain", "app", "echo", "as defined"), container("plain", "other", "sleep", "600")}}
	in.ContainerDefinitions[0].Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: aws.String("1")}, {Name: aws.String("B"), Value: aws.String("2")}}
	definition := l.define(in)
	for name, c := range map[string]struct {
		override types.ContainerOverride
		command  []string
		want     string
	}{
		"command":            {command: []string{"echo", "as overridden"}, want: `^as overridden$`},
		"environment":        {override: types.ContainerOverride{Environment: []types.KeyValuePair{{Name: aws.String("B"), Value: aws.String("3")}, {Name: aws.String("C"), Value: aws.String("4")}}}, command: []string{"env"}, want: `(?s)A=1\n.*B=3\n.*C=4\n`},
		"cpu":                {override: types.ContainerOverride{Cpu: aws.Int32(512)}, command: cgroup("cpu", "cpu.shares", "cpu.weight"), want: `^(512|20)$`},
		"memory":             {override: types.ContainerOverride{Memory: aws.Int32(70)}, command: cgroup("memory", "memory.limit_in_bytes", "memory.max"), want: `^73400320$`},
		"memory reservation": {override: types.ContainerOverride{MemoryReservation: aws.Int32(33)}, command: cgroup("memory", "memory.soft_limit_in_bytes", "memory.low"), want: `^34603008$`},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.within(t)
			c.override.Name, c.override.Command = aws.String("app"), c.command
			arn := l.launchOne(&ecs.RunTaskInput{TaskDefinition: &definition, Overrides: &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{c.override}}})
			l.ended(arn)
			if out := l.written("plain", "app", arn); !regexp.MustCompile("(?m)" + c.want).MatchString(out) {
				t.Errorf("it wrote\n%s\nwant %s", out, c.want)
			}
		})
	}
	t.Run("the task's size", func(t *testing.T) {
		l := l.within(t)
		sized := *in
		sized.Family, sized.Cpu, sized.Memory = aws.String("sized"), aws.String("256"), aws.String("256")
		arn := aws.ToString(l.run(&ecs.RunTaskInput{
			TaskDefinition: aws.String(l.define(&sized)),
			Overrides:      &types.TaskOverride{Cpu: aws.String("512"), Memory: aws.String("192"), ContainerOverrides: []types.ContainerOverride{{Name: aws.String("app"), Command: []string{"sleep", "600"}}}},
		}).TaskArn)
		if got := l.groupFile(idOf(arn), "memory", "memory.limit_in_bytes", "memory.max"); got != "201326592" {
			t.Errorf("the task's memory is limited to %s", got)
		}
		if got := l.groupFile(idOf(arn), "cpu", "cpu.cfs_quota_us", "cpu.max"); got != "50000" && got != "50000 100000" {
			t.Errorf("the task's CPU quota is %s", got)
		}
	})
}
