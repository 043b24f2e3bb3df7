package ecs

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
)

// hostResources counts a payload as Amazon's agent does before it lets a task
// begin. What it counts beyond what is left waits, and all that comes after it.
func hostResources(t *testing.T, payload acs.Task) Allocation {
	t.Helper()
	var a Allocation
	for _, c := range payload.Containers {
		a.CPU += c.CPU
		var host struct{ MemoryReservation int64 }
		if err := json.Unmarshal([]byte(c.DockerConfig.HostConfig), &host); err != nil {
			t.Fatal(err)
		}
		if host.MemoryReservation > 0 {
			a.Memory += host.MemoryReservation / 1024 / 1024
		} else {
			a.Memory += c.Memory
		}
		for _, p := range c.PortMappings {
			switch {
			case p.HostPort <= 0 || payload.NetworkMode == "awsvpc":
			case p.Protocol == "udp":
				a.UDP = append(a.UDP, uint16(p.HostPort))
			case p.Protocol == "tcp":
				a.TCP = append(a.TCP, uint16(p.HostPort))
			}
		}
	}
	if payload.CPU > 0 {
		a.CPU = int64(payload.CPU * 1024)
	}
	if payload.Memory > 0 {
		a.Memory = payload.Memory
	}
	for _, x := range payload.Associations {
		if x.Type == "gpu" && len(x.Containers) == 1 {
			a.GPUs = append(a.GPUs, x.Name)
		}
	}
	return a
}

func TestCapacityIsCountedAsAmazonsAgentCountsIt(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1<<24, 1<<24, attribute(capabilityLong+"docker-remote-api.1.21", ""))
	rnd := rand.New(rand.NewPCG(3, 1))
	counted := 0
	for i := range 400 {
		in := randomDefinition(rnd, fmt.Sprintf("family-%d", i))
		if _, err := r.RegisterTaskDefinition(asRoot(), in); err != nil {
			continue // not every combination is one
		}
		counted++
		run := &ecs.RunTaskInput{TaskDefinition: in.Family}
		if rnd.IntN(2) == 0 {
			run.Overrides = randomOverride(rnd)
		}
		arn := r.runOne(run)
		list := r.assignments("n1")
		payload, err := list[len(list)-1].Render()
		if err != nil || payload.ARN != arn {
			t.Fatalf("payload %s %v", payload.ARN, err)
		}
		key, _ := taskKeyOf(testScope, arn)
		task, _ := r.tasks.Get(r.db.Snapshot(), testScope, key)
		got, want := hostResources(t, payload), task.Allocation
		slices.Sort(got.TCP)
		slices.Sort(got.UDP)
		slices.Sort(want.TCP)
		slices.Sort(want.UDP)
		if got.CPU != want.CPU || got.Memory != want.Memory || !slices.Equal(got.TCP, want.TCP) || !slices.Equal(got.UDP, want.UDP) {
			raw, _ := json.Marshal(in)
			t.Fatalf("the agent counts %+v, placement counted %+v, of %s", got, want, raw)
		}
		r.report("n1", arn, "STOPPED")
	}
	if counted < 200 {
		t.Fatalf("only %d definitions were valid", counted)
	}
}

func randomDefinition(rnd *rand.Rand, family string) *ecs.RegisterTaskDefinitionInput {
	modes := []types.NetworkMode{"", types.NetworkModeBridge, types.NetworkModeHost, types.NetworkModeNone}
	in := &ecs.RegisterTaskDefinitionInput{Family: &family, NetworkMode: modes[rnd.IntN(len(modes))]}
	if rnd.IntN(3) == 0 {
		in.Cpu = aws.String([]string{"128", "0.5 vcpu", "1 vCPU", "3000"}[rnd.IntN(4)])
	}
	if rnd.IntN(3) == 0 {
		in.Memory = aws.String([]string{"4096", "6GB", "8192"}[rnd.IntN(3)])
	}
	for i := range 1 + rnd.IntN(3) {
		c := types.ContainerDefinition{Name: aws.String(fmt.Sprint("c", i)), Image: aws.String("i"), Cpu: int32(rnd.IntN(100))}
		switch rnd.IntN(3) {
		case 0:
			c.Memory = aws.Int32(int32(6 + rnd.IntN(900)))
		case 1:
			c.MemoryReservation = aws.Int32(int32(6 + rnd.IntN(900)))
		case 2:
			c.MemoryReservation = aws.Int32(int32(6 + rnd.IntN(900)))
			c.Memory = aws.Int32(*c.MemoryReservation + int32(rnd.IntN(100)+1))
		}
		for p := range rnd.IntN(4) {
			if in.NetworkMode == types.NetworkModeNone {
				break
			}
			port := int32(1000 + 10*i + p)
			m := types.PortMapping{ContainerPort: &port, Protocol: []types.TransportProtocol{"", "tcp", "udp"}[rnd.IntN(3)]}
			switch rnd.IntN(3) {
			case 0:
				m.HostPort = aws.Int32(0)
			case 1:
				m.HostPort = aws.Int32(port)
			}
			c.PortMappings = append(c.PortMappings, m)
		}
		in.ContainerDefinitions = append(in.ContainerDefinitions, c)
	}
	return in
}

func randomOverride(rnd *rand.Rand) *types.TaskOverride {
	c := types.ContainerOverride{Name: aws.String("c0"), Cpu: aws.Int32(int32(rnd.IntN(300)))}
	if rnd.IntN(2) == 0 {
		c.MemoryReservation = aws.Int32(int32(6 + rnd.IntN(100)))
	}
	o := &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{c}}
	if rnd.IntN(3) == 0 {
		o.Cpu = aws.String("2048")
	}
	if rnd.IntN(3) == 0 {
		o.Memory = aws.String("9216")
	}
	return o
}

func TestGPUsAreAssociatedWithTheirContainers(t *testing.T) {
	r := newRoom(t)
	_, err := r.RegisterContainerInstance(asNode("n1"), &ecs.RegisterContainerInstanceInput{
		TotalResources:  resources(4096, 4096),
		PlatformDevices: []types.PlatformDevice{{Id: aws.String("GPU-1"), Type: types.PlatformDeviceTypeGpu}, {Id: aws.String("GPU-2"), Type: types.PlatformDeviceTypeGpu}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := r.node(r.db.Snapshot(), testScope, "n1")
	if _, err := r.Opened(t.Context(), r.session("n1", instanceARN(testScope, "default", n.HomeInstance))); err != nil {
		t.Fatal(err)
	}
	d := simple("gpu", 128, 128)
	d.ContainerDefinitions[0].ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1")}}
	payload := r.rendered(d, &ecs.RunTaskInput{})
	if len(payload.Associations) != 1 || payload.Associations[0].Type != "gpu" || !slices.Equal(payload.Associations[0].Containers, []string{"main"}) {
		t.Fatalf("associations %+v", payload.Associations)
	}
	if got := hostResources(t, payload).GPUs; len(got) != 1 || got[0] != "GPU-1" {
		t.Fatalf("the agent counts the devices %v", got)
	}
	second := r.run(&ecs.RunTaskInput{TaskDefinition: d.Family, Count: aws.Int32(2)})
	if len(second.Tasks) != 1 || len(second.Failures) == 0 {
		t.Fatalf("%d tasks on the one device that is left", len(second.Tasks))
	}
}

// Docker's own awslogs driver does the logging there.
func TestOtherAgentsGetLogOptionsThatDockerKnows(t *testing.T) {
	for _, c := range []struct {
		name          string
		options, want map[string]string
	}{
		{"prefix", map[string]string{"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p", "mode": "blocking"},
			map[string]string{"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream": "p/main/TASK", "awslogs-endpoint": "http://cp:4566", "mode": "blocking"}},
		{"no prefix", map[string]string{"awslogs-group": "g"},
			map[string]string{"awslogs-group": "g", "awslogs-stream": "TASK-main", "awslogs-endpoint": "http://cp:4566"}},
		{"own endpoint", map[string]string{"awslogs-group": "g", "awslogs-endpoint": "https://logs.example"},
			map[string]string{"awslogs-group": "g", "awslogs-stream": "TASK-main", "awslogs-endpoint": "https://logs.example"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t)
			r.join("n1", "default", 4096, 4096, attribute(capabilityLong+"logging-driver.awslogs", ""), attribute(capabilityLong+"docker-remote-api.1.19", ""))
			d := simple("web", 1, 128)
			given := maps.Clone(c.options)
			d.ContainerDefinitions[0].LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: given}
			payload := r.rendered(d, &ecs.RunTaskInput{})
			_, host, err := payload.Containers[0].DockerConfig.Parse()
			if err != nil {
				t.Fatal(err)
			}
			id := payload.ARN[strings.LastIndexByte(payload.ARN, '/')+1:]
			for k, v := range c.want {
				c.want[k] = strings.ReplaceAll(v, "TASK", id)
			}
			if !maps.Equal(host.LogConfig.Config, c.want) {
				t.Errorf("options %v\nwant    %v", host.LogConfig.Config, c.want)
			}
			if !maps.Equal(given, c.options) {
				t.Errorf("the definition's own options were changed: %v", given)
			}
			if payload.Containers[0].DockerConfig.Version != "" {
				t.Errorf("the agent is told to use Docker's API %s", payload.Containers[0].DockerConfig.Version)
			}
		})
	}
}

// Amazon's agent announces what it could do with all of AWS behind it.
func TestOtherAgentsGetNoTaskThatNeedsWhatIsNotServed(t *testing.T) {
	for _, name := range []string{
		"ecs.capability.execution-role-ecr-pull", "ecs.capability.secrets.ssm.environment-variables",
		"ecs.capability.efs", "ecs.capability.firelens.fluentbit", "ecs.capability.task-eni", "ecs.capability.env-files.s3",
	} {
		r := newRoom(t)
		r.join("amazon", "default", 4096, 4096, attribute(name, ""))
		d := simple("web", 1, 128)
		d.RequiresAttributes = []types.Attribute{{Name: &name}}
		r.define(d)
		out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
		if len(out.Tasks) != 0 || len(out.Failures) != 1 || deref(out.Failures[0].Reason) != "ATTRIBUTE" || !strings.Contains(deref(out.Failures[0].Detail), name) {
			t.Errorf("%s: %d tasks, failures %v", name, len(out.Tasks), out.Failures)
		}
		r.join("ours", "default", 4096, 4096, attribute(name, ""), attribute(AttributeAgent, ""))
		if out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")}); len(out.Tasks) != 1 {
			t.Errorf("%s: not placed on an agent of ours that announces it: %v", name, out.Failures)
		}
	}
}

func TestImpossibleReportsAreTakenForWhatIsPossibleInThem(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 128, 128))
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	binding := func(container, host int32, protocol types.TransportProtocol, ip string) types.NetworkBinding {
		return types.NetworkBinding{ContainerPort: &container, HostPort: &host, Protocol: protocol, BindIP: &ip}
	}
	ports := func(container, host string) types.NetworkBinding {
		return types.NetworkBinding{ContainerPortRange: &container, HostPortRange: &host, Protocol: "tcp", BindIP: aws.String("::")}
	}
	main := running("main")
	main.NetworkBindings = []types.NetworkBinding{
		binding(80, 70000, "tcp", "0.0.0.0"), binding(80, -1, "tcp", "0.0.0.0"), binding(0, 8080, "tcp", "0.0.0.0"),
		binding(80, 0, "tcp", "0.0.0.0"), binding(80, 8080, "icmp", "0.0.0.0"), binding(80, 8080, "tcp", "somewhere"), {},
		ports("80-70", "80-70"), ports("80", "80"), ports("0-9", "0-9"), ports("1-99999", "1-99999"), ports("a-b", "1-2"),
		binding(80, 8080, "tcp", "0.0.0.0"), binding(53, 5353, "udp", "::"), ports("8000-8002", "49000-49002"),
	}
	long := r.now().AddDate(40000, 0, 0)
	_, err := r.SubmitTaskStateChange(asNode("n1"), &ecs.SubmitTaskStateChangeInput{
		Task: &arn, Status: aws.String("RUNNING"), Containers: []types.ContainerStateChange{main}, PullStartedAt: &long,
	})
	if err != nil {
		t.Fatal(err)
	}
	task := r.describe("default", arn)
	if got := task.Containers[0].NetworkBindings; len(got) != 3 || *got[0].HostPort != 8080 || *got[1].HostPort != 5353 || *got[2].HostPortRange != "49000-49002" {
		t.Errorf("bindings %+v", got)
	}
	if *task.LastStatus != "RUNNING" || task.PullStartedAt != nil {
		t.Errorf("the task is %s, its pull began at %v", *task.LastStatus, task.PullStartedAt)
	}
}

func TestAttributesThatAgentsRepeat(t *testing.T) {
	r := newRoom(t)
	twice := []types.Attribute{attribute("ecs.capability.docker-plugin.vieux/sshfs.latest", ""), attribute("ecs.capability.docker-plugin.vieux/sshfs.latest", ""), attribute("rack", "1"), attribute("rack", "1")}
	ci := r.join("n1", "default", 1024, 1024, twice...)
	names := map[string]int{}
	for _, a := range ci.Attributes {
		names[*a.Name]++
	}
	if names["rack"] != 1 || names["ecs.capability.docker-plugin.vieux/sshfs.latest"] != 1 {
		t.Errorf("attributes %v", names)
	}
	_, err := r.RegisterContainerInstance(asNode("n2"), &ecs.RegisterContainerInstanceInput{
		TotalResources: resources(1024, 1024), Attributes: []types.Attribute{attribute("rack", "1"), attribute("rack", "2")},
	})
	wantError(t, err, "InvalidParameterException", "The attribute rack is given twice, with different values.")
	d := types.TaskDefinition{Volumes: []types.Volume{{DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Driver: aws.String("vieux/sshfs:latest")}}}}
	if !slices.ContainsFunc(requiredAttributes(&d), func(a types.Attribute) bool { return *a.Name == "ecs.capability.docker-plugin.vieux/sshfs.latest" }) {
		t.Errorf("a volume's plugin requires %v", requiredAttributes(&d))
	}
}

func TestRuntimeHealthIsShown(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	session := r.session("n1", *ci.ContainerInstanceArn)
	say := func(status string) {
		t.Helper()
		at := acs.TimestampOf(r.now())
		if err := r.InstanceStatus(t.Context(), session, &acs.PublishInstanceStatus{Statuses: []acs.InstanceStatus{
			{Type: "Elsewhere", Status: "IMPAIRED"}, {Type: "ContainerRuntime", Status: status, LastUpdated: at, LastStatusChange: at},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		said string
		want types.InstanceHealthCheckState
	}{{"OK", "OK"}, {"IMPAIRED", "IMPAIRED"}, {"nonsense", "IMPAIRED"}, {"OK", "OK"}} {
		say(c.said)
		out, err := r.DescribeContainerInstances(asRoot(), &ecs.DescribeContainerInstancesInput{
			ContainerInstances: []string{*ci.ContainerInstanceArn}, Include: []types.ContainerInstanceField{types.ContainerInstanceFieldContainerInstanceHealth},
		})
		if err != nil {
			t.Fatal(err)
		}
		h := out.ContainerInstances[0].HealthStatus
		if h.OverallStatus != c.want || len(h.Details) != 1 || h.Details[0].Type != types.InstanceHealthCheckTypeContainerRuntime || h.Details[0].LastUpdated == nil {
			t.Errorf("after %s: %+v", c.said, h)
		}
		r.advanceClock(1e9)
	}
	if err := r.InstanceStatus(t.Context(), session, &acs.PublishInstanceStatus{Statuses: make([]acs.InstanceStatus, maxStatuses+1)}); err == nil {
		t.Error("a report without bounds was taken")
	}
}

func TestTaskThatCannotBeRenderedIsStoppedWithTheReason(t *testing.T) {
	r := newRoom(t)
	ci := r.join("n1", "default", 1024, 1024)
	d := simple("web", 128, 128)
	d.Volumes = []types.Volume{{Name: aws.String("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: aws.String("fs-1")}}}
	r.define(d)
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	_, cause := r.assignments("n1")[0].Render()
	if cause == nil {
		t.Fatal("an EFS volume was rendered")
	}
	if err := r.Unfit(t.Context(), r.session("n1", *ci.ContainerInstanceArn), arn, cause); err != nil {
		t.Fatal(err)
	}
	task := r.describe("default", arn)
	if *task.DesiredStatus != "STOPPED" || task.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.Contains(*task.StoppedReason, "volume v") {
		t.Errorf("the task is to be %s: %s %s", *task.DesiredStatus, task.StopCode, deref(task.StoppedReason))
	}
	// Its agent may have it from an earlier session: it is told to stop it.
	if list := r.assignments("n1"); len(list) != 1 || list[0].Desired != "STOPPED" {
		t.Errorf("the agent is told %+v", list)
	}
	r.report("n1", arn, "STOPPED")
	if task := r.describe("default", arn); *task.LastStatus != "STOPPED" || task.StopCode != types.TaskStopCodeTaskFailedToStart {
		t.Errorf("the task is %s: %s", *task.LastStatus, task.StopCode)
	}
}
