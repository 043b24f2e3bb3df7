package ecs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/wire"
)

func (r *room) register(in *ecs.RegisterTaskDefinitionInput) types.TaskDefinition {
	r.t.Helper()
	out, err := r.RegisterTaskDefinition(asRoot(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return *out.TaskDefinition
}

func (r *room) deregister(ref string) error {
	_, err := r.DeregisterTaskDefinition(asRoot(), &ecs.DeregisterTaskDefinitionInput{TaskDefinition: &ref})
	return err
}

func (r *room) describeDefinition(ref string) (*ecs.DescribeTaskDefinitionOutput, error) {
	return r.DescribeTaskDefinition(asRoot(), &ecs.DescribeTaskDefinitionInput{
		TaskDefinition: &ref, Include: []types.TaskDefinitionField{types.TaskDefinitionFieldTags},
	})
}

func names(attributes []types.Attribute) (list []string) {
	for _, a := range attributes {
		name := *a.Name
		if a.Value != nil {
			name += "=" + *a.Value
		}
		list = append(list, name)
	}
	return list
}

// The lists are those that AWS gives for such definitions, but for the
// architecture, which AWS does not require.
func TestRequiresAttributes(t *testing.T) {
	const long, short = "com.amazonaws.ecs.capability.", "ecs.capability."
	on := func(f func(c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
		return plain(container(f))
	}
	ecr := container(func(c *types.ContainerDefinition) {
		c.Image = aws.String("123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1")
	})
	logs := func(options ...string) change {
		return container(func(c *types.ContainerDefinition) { c.LogConfiguration = awslogs(options...) })
	}
	for _, c := range []struct {
		name string
		in   *ecs.RegisterTaskDefinitionInput
		want []string
	}{
		{"bridge", plain(), nil},
		{"bridge, awslogs", plain(logs()), []string{long + "docker-remote-api.1.19", long + "logging-driver.awslogs"}},
		{"bridge, awslogs, execution role", plain(role, logs()), []string{long + "docker-remote-api.1.19", long + "logging-driver.awslogs", short + "execution-role-awslogs"}},
		{"execution role alone", plain(role), nil},
		{"ECR", plain(ecr), []string{long + "ecr-auth"}},
		{
			"Fargate, ECR, awslogs with options, environment file, storage",
			onFargate(role, ecr, logs("awslogs-stream-prefix", "ecs", "awslogs-create-group", "true", "mode", "non-blocking", "max-buffer-size", "25m"),
				container(func(c *types.ContainerDefinition) {
					c.EnvironmentFiles = []types.EnvironmentFile{{Type: "s3", Value: aws.String("arn:aws:s3:::bucket/a.env")}}
				}), func(in *ecs.RegisterTaskDefinitionInput) {
					in.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: 21}
				}),
			[]string{
				long + "docker-remote-api.1.18", long + "docker-remote-api.1.19", long + "docker-remote-api.1.28", long + "docker-remote-api.1.29",
				long + "ecr-auth", long + "logging-driver.awslogs", short + "env-files.s3", short + "execution-role-awslogs",
				short + "execution-role-ecr-pull", short + "extensible-ephemeral-storage", short + "task-eni",
			},
		},
		{"Fargate", onFargate(), []string{long + "docker-remote-api.1.18", short + "task-eni"}},
		{"task role", plain(func(in *ecs.RegisterTaskDefinitionInput) { in.TaskRoleArn = aws.String("app") }), []string{long + "task-iam-role"}},
		{"task role, host network", plain(ports(types.NetworkModeHost), func(in *ecs.RegisterTaskDefinitionInput) { in.TaskRoleArn = aws.String("app") }), []string{long + "task-iam-role", long + "task-iam-role-network-host"}},
		{"memory reservation", on(func(c *types.ContainerDefinition) { c.MemoryReservation = aws.Int32(64) }), []string{long + "docker-remote-api.1.21"}},
		{"health check", plain(health(types.HealthCheck{})), []string{long + "docker-remote-api.1.24", short + "container-health-check"}},
		{"health check with start period", plain(health(types.HealthCheck{StartPeriod: aws.Int32(10)})), []string{long + "docker-remote-api.1.29", short + "container-health-check"}},
		{"privileged", on(func(c *types.ContainerDefinition) { c.Privileged = aws.Bool(true) }), []string{long + "privileged-container"}},
		{"tmpfs and a label for SELinux", plain(linux(types.LinuxParameters{Tmpfs: []types.Tmpfs{{ContainerPath: aws.String("/run"), Size: 50}}}), container(func(c *types.ContainerDefinition) {
			c.DockerSecurityOptions = []string{"label:seccomp:unconfined"}
		})), []string{long + "docker-remote-api.1.22", long + "selinux"}},
		{"secrets", plain(role, container(func(c *types.ContainerDefinition) {
			c.Secrets = []types.Secret{
				{Name: aws.String("A"), ValueFrom: aws.String("param")},
				{Name: aws.String("B"), ValueFrom: aws.String("arn:aws:secretsmanager:eu-west-1:123456789012:secret:b")},
			}
		})), []string{short + "secrets.asm.environment-variables", short + "secrets.ssm.environment-variables"}},
		{"log secrets", plain(role, container(func(c *types.ContainerDefinition) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverSplunk, SecretOptions: []types.Secret{{Name: aws.String("splunk-token"), ValueFrom: aws.String("param")}}}
		})), []string{long + "docker-remote-api.1.22", long + "logging-driver.splunk", short + "secrets.ssm.bootstrap.log-driver"}},
		{"registry credentials", plain(role, container(func(c *types.ContainerDefinition) {
			c.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: aws.String("s")}
		})), []string{short + "private-registry-authentication.secretsmanager"}},
		{"ordering", plain(container(dependsOn("b", types.ContainerConditionStart)), beside("b", nothing)), []string{short + "container-ordering"}},
		{"processes and IPC", plain(func(in *ecs.RegisterTaskDefinitionInput) {
			in.PidMode, in.IpcMode = types.PidModeTask, types.IpcModeHost
		}), []string{short + "pid-ipc-namespace-sharing"}},
		{"Docker volume", plain(volume(types.Volume{Name: aws.String("v"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Driver: aws.String("rexray")}})), []string{long + "docker-remote-api.1.25", short + "docker-plugin.rexray"}},
		{"EFS", plain(volume(types.Volume{Name: aws.String("v"), EfsVolumeConfiguration: &types.EFSVolumeConfiguration{FileSystemId: aws.String("fs-12345678"), TransitEncryption: "ENABLED"}})), []string{long + "docker-remote-api.1.25", short + "efs", short + "efsAuth"}},
		{"EBS", plain(volume(types.Volume{Name: aws.String("v"), ConfiguredAtLaunch: aws.Bool(true)})), []string{short + "storage.ebs-task-volume-attach"}},
		{"restart policy, port range", plain(ports("", types.PortMapping{ContainerPortRange: aws.String("80-90")}), container(func(c *types.ContainerDefinition) {
			c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: aws.Bool(true)}
		})), []string{short + "container-restart-policy", short + "network.container-port-range"}},
		{"FireLens", plain(beside("router", func(c *types.ContainerDefinition) {
			c.FirelensConfiguration = &types.FirelensConfiguration{Type: "fluentbit", Options: map[string]string{"config-file-type": "file", "config-file-value": "/f"}}
		}), container(func(c *types.ContainerDefinition) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwsfirelens}
		})), []string{long + "logging-driver.awsfirelens", short + "firelens.fluentbit", short + "firelens.options.config.file"}},
		{"ARM, fault injection", plain(func(in *ecs.RegisterTaskDefinitionInput) {
			in.RuntimePlatform, in.EnableFaultInjection = &types.RuntimePlatform{CpuArchitecture: types.CPUArchitectureArm64}, aws.Bool(true)
		}), []string{short + "fault-injection", "ecs.cpu-architecture=arm64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := names(newRoom(t).register(c.in).RequiresAttributes); !slices.Equal(got, c.want) {
				t.Errorf("requires %q, want %q", got, c.want)
			}
		})
	}
}

// What the nodes can't do is not placed, whatever the launch type.
func TestWhatNoNodeCanDoIsNotPlaced(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 8192, 16384)
	r.register(plain(func(in *ecs.RegisterTaskDefinitionInput) { in.TaskRoleArn = aws.String("app") }))
	out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	if len(out.Tasks) != 0 || len(out.Failures) != 1 || !strings.Contains(deref(out.Failures[0].Reason), "ATTRIBUTE") {
		t.Errorf("EC2: %d tasks, failures %v; want one failure for the attribute", len(out.Tasks), failures(out.Failures))
	}
	vpc := &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{r.Subnets(testAccount, testRegion)[0].ID}}}
	r.register(onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.TaskRoleArn = aws.String("app") }))
	out = r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web"), LaunchType: types.LaunchTypeFargate, NetworkConfiguration: vpc})
	if len(out.Tasks) != 0 || len(out.Failures) != 1 || !strings.Contains(deref(out.Failures[0].Detail), "task-iam-role") {
		t.Errorf("Fargate: %d tasks, failures %v, detail %q; want one that names task-iam-role", len(out.Tasks), failures(out.Failures), deref(out.Failures[0].Detail))
	}
}

func TestDefinitionsAreShownAsAWSShowsThem(t *testing.T) {
	r := newRoom(t)
	in := plain(ports("", types.PortMapping{ContainerPort: aws.Int32(80)}), health(types.HealthCheck{}), volume(types.Volume{Name: aws.String("v")}))
	in.Cpu, in.Memory, in.TaskRoleArn = aws.String("1 vCPU"), aws.String("0.5GB"), aws.String("app")
	ctx := as(wire.Principal{Kind: wire.PrincipalRoot, ARN: "arn:aws:iam::123456789012:root"})
	out, err := r.RegisterTaskDefinition(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	want := types.TaskDefinition{
		TaskDefinitionArn: aws.String("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:1"),
		Family:            aws.String("web"), Revision: 1, Status: types.TaskDefinitionStatusActive,
		Cpu: aws.String("1024"), Memory: aws.String("512"), TaskRoleArn: aws.String("arn:aws:iam::123456789012:role/app"),
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("nginx:1.27"), Memory: aws.Int32(128), Essential: aws.Bool(true),
			PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: aws.Int32(0), Protocol: types.TransportProtocolTcp}},
			Environment:  []types.KeyValuePair{}, MountPoints: []types.MountPoint{}, VolumesFrom: []types.VolumeFrom{}, SystemControls: []types.SystemControl{},
			HealthCheck: &types.HealthCheck{Command: []string{"CMD-SHELL", "true"}, Interval: aws.Int32(30), Timeout: aws.Int32(5), Retries: aws.Int32(3)},
		}},
		Volumes:              []types.Volume{{Name: aws.String("v"), Host: &types.HostVolumeProperties{}}},
		PlacementConstraints: []types.TaskDefinitionPlacementConstraint{},
		Compatibilities:      []types.Compatibility{types.CompatibilityExternal, types.CompatibilityEc2},
		RegisteredAt:         aws.Time(r.now()), RegisteredBy: aws.String("arn:aws:iam::123456789012:root"),
	}
	want.RequiresAttributes = out.TaskDefinition.RequiresAttributes // TestRequiresAttributes
	if !reflect.DeepEqual(*out.TaskDefinition, want) {
		t.Errorf("registered\n%+v, want\n%+v", *out.TaskDefinition, want)
	}
	if in.ContainerDefinitions[0].Essential != nil || in.ContainerDefinitions[0].PortMappings[0].HostPort != nil {
		t.Error("the caller's input was changed")
	}
	described, err := r.describeDefinition("web")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*described.TaskDefinition, want) {
		t.Errorf("described\n%+v, want\n%+v", *described.TaskDefinition, want)
	}
	d := r.register(onFargate(func(in *ecs.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80)}}
	}))
	if p := d.ContainerDefinitions[0].PortMappings[0]; deref(p.HostPort) != 80 {
		t.Errorf("awsvpc: host port %d, want the container's", deref(p.HostPort))
	}
	if want := []types.Compatibility{types.CompatibilityEc2, types.CompatibilityFargate}; !slices.Equal(d.Compatibilities, want) {
		t.Errorf("compatible with %v, want %v", d.Compatibilities, want)
	}
}

func TestDefinitionsHaveALimitOfSize(t *testing.T) {
	r := newRoom(t)
	value := strings.Repeat("x", 64<<10)
	_, err := r.RegisterTaskDefinition(asRoot(), plain(container(func(c *types.ContainerDefinition) {
		c.Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: &value}}
	})))
	if wantError(t, err, "ClientException", ""); !strings.HasSuffix(err.Error(), "Max allowed length is '65536' bytes.") {
		t.Error(err)
	}
	value = value[:63<<10]
	r.register(plain(container(func(c *types.ContainerDefinition) {
		c.Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: &value}}
	})))
}

func TestFargatePairs(t *testing.T) {
	r := newRoom(t)
	for cpu, memories := range map[string][]string{
		"256": {"512", "1 GB", "2048"}, ".5 vCPU": {"1024", "4GB"}, "1 vCPU": {"2048", "8192"},
		"2048": {"4096", "16 GB"}, "4096": {"8192", "30 GB"}, "8 vCPU": {"16 GB", "20 GB", "60 GB"}, "16vcpu": {"32 GB", "120GB"},
	} {
		for _, memory := range memories {
			in := onFargate()
			in.Cpu, in.Memory = &cpu, &memory
			if _, err := r.RegisterTaskDefinition(asRoot(), in); err != nil {
				t.Errorf("cpu %s, memory %s: %v", cpu, memory, err)
			}
		}
	}
	for cpu, memories := range map[string][]string{
		"256": {"4096"}, "300": {"512"}, "512": {"512", "1500"}, "1024": {"1024", "9216"}, "8192": {"18 GB"}, "16384": {"36 GB", "128 GB"}, "32768": {"64 GB"},
	} {
		for _, memory := range memories {
			in := onFargate()
			in.Cpu, in.Memory = &cpu, &memory
			if _, err := r.RegisterTaskDefinition(asRoot(), in); err == nil || !strings.Contains(err.Error(), "No Fargate configuration exists") {
				t.Errorf("cpu %s, memory %s: %v, want that there is no such configuration", cpu, memory, err)
			}
		}
	}
}

func TestRevisionsAreNeverUsedAgain(t *testing.T) {
	r := newRoom(t)
	const n = 16
	var wg sync.WaitGroup
	revisions := make(chan int32, n)
	for range n {
		wg.Go(func() {
			out, err := r.RegisterTaskDefinition(asRoot(), plain())
			if err != nil {
				t.Error(err)
				return
			}
			revisions <- out.TaskDefinition.Revision
		})
	}
	wg.Wait()
	close(revisions)
	seen := map[int32]bool{}
	for revision := range revisions {
		if seen[revision] || revision < 1 || revision > n {
			t.Errorf("revision %d was given twice or is none of 1 to %d", revision, n)
		}
		seen[revision] = true
	}
	for i := int32(1); i <= n; i++ {
		ref := fmt.Sprint("web:", i)
		if err := r.deregister(ref); err != nil {
			t.Fatal(err)
		}
		if out, err := r.DeleteTaskDefinitions(asRoot(), &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{ref}}); err != nil || len(out.Failures) != 0 {
			t.Fatal(err, failures(out.Failures))
		}
	}
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := r.register(plain()); d.Revision != n+1 {
		t.Errorf("after all were deleted: revision %d, want %d", d.Revision, n+1)
	}
}

func TestDefinitionLifecycle(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 4096, 4096)
	for range 3 {
		r.register(plain(func(in *ecs.RegisterTaskDefinitionInput) {
			in.Tags = []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}
		}))
	}
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web:3")})
	if err := r.deregister("web:3"); err != nil {
		t.Fatal(err)
	}
	latest, err := r.describeDefinition("web")
	if err != nil || latest.TaskDefinition.Revision != 2 || len(latest.Tags) != 1 {
		t.Errorf("latest active: %+v, %v; want revision 2 with its tag", latest, err)
	}
	inactive, err := r.describeDefinition(taskDefinitionARN(testScope, "web", 3))
	if err != nil || inactive.TaskDefinition.Status != types.TaskDefinitionStatusInactive || inactive.TaskDefinition.DeregisteredAt == nil {
		t.Errorf("deregistered: %+v, %v", inactive, err)
	}
	out, err := r.DeleteTaskDefinitions(asRoot(), &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{"web:2", "web:3", "web:9"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		taskDefinitionARN(testScope, "web", 2) + " The specified task definition is still in ACTIVE status. Please deregister the target and try again.",
		taskDefinitionARN(testScope, "web", 9) + " The specified task definition does not exist. Specify a valid account, family, revision and try again.",
	}
	if got := failures(out.Failures); !slices.Equal(got, want) || len(out.TaskDefinitions) != 1 || out.TaskDefinitions[0].Status != types.TaskDefinitionStatusDeleteInProgress {
		t.Errorf("deleted %+v, failures %q; want %q", out.TaskDefinitions, got, want)
	}
	wantError(t, r.deregister("web:3"), "ClientException", "The specified task definition is in DELETE_IN_PROGRESS status.")
	// It goes when its task has stopped.
	for _, gone := range []bool{false, true} {
		if gone {
			r.report("n1", arn, "STOPPED", stopped("main", 0))
		}
		if err := r.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.describeDefinition("web:3"); (err != nil) != gone {
			t.Errorf("task stopped: %v, described: %v", gone, err)
		}
	}
}

func TestDefinitionReferencesAreChecked(t *testing.T) {
	r := newRoom(t)
	r.register(plain())
	for ref, message := range map[string]string{
		"none": "Unable to describe task definition.", "web:2": "Unable to describe task definition.",
		"web:x": "Invalid revision number. Number: x", "web:0": "Invalid revision number. Number: 0",
		"a b": "Invalid task definition identifier: a b",
	} {
		_, err := r.describeDefinition(ref)
		wantError(t, err, "ClientException", message)
	}
	wantError(t, r.deregister("web"), "ClientException", "Task definition revision is missing: give family:revision or a full ARN.")
	for name, in := range map[string][]string{"none": nil, "eleven": make([]string, 11), "without revision": {"web"}} {
		if _, err := r.DeleteTaskDefinitions(asRoot(), &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: in}); err == nil {
			t.Errorf("deletion of %s is accepted", name)
		}
	}
}

func TestListTaskDefinitions(t *testing.T) {
	r := newRoom(t)
	families := []string{"a", "a-b", "ab", "b"}
	for _, family := range families {
		for range 11 {
			r.register(plain(func(in *ecs.RegisterTaskDefinitionInput) { in.Family = &family }))
		}
	}
	if err := r.deregister("a:11"); err != nil {
		t.Fatal(err)
	}
	all := func(in ecs.ListTaskDefinitionsInput) (list []string) {
		for {
			out, err := r.ListTaskDefinitions(asRoot(), &in)
			if err != nil {
				t.Fatal(err)
			}
			for _, arn := range out.TaskDefinitionArns {
				list = append(list, lastPart(arn))
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return list
			}
		}
	}
	var want []string
	for _, family := range families {
		for i := range 11 {
			if family != "a" || i != 10 {
				want = append(want, fmt.Sprintf("%s:%d", family, i+1))
			}
		}
	}
	if got := all(ecs.ListTaskDefinitionsInput{MaxResults: aws.Int32(7)}); !slices.Equal(got, want) {
		t.Errorf("ascending: %v, want %v", got, want)
	}
	slices.Reverse(want)
	if got := all(ecs.ListTaskDefinitionsInput{MaxResults: aws.Int32(7), Sort: types.SortOrderDesc}); !slices.Equal(got, want) {
		t.Errorf("descending: %v, want %v", got, want)
	}
	if got := all(ecs.ListTaskDefinitionsInput{FamilyPrefix: aws.String("a"), Status: types.TaskDefinitionStatusInactive}); !slices.Equal(got, []string{"a:11"}) {
		t.Errorf("family a, inactive: %v", got)
	}
	if got := all(ecs.ListTaskDefinitionsInput{FamilyPrefix: aws.String("a"), Sort: types.SortOrderDesc}); len(got) != 10 || got[0] != "a:10" {
		t.Errorf("family a, descending: %v", got)
	}
	_, err := r.ListTaskDefinitions(asRoot(), &ecs.ListTaskDefinitionsInput{Status: "GONE"})
	wantError(t, err, "InvalidParameterException", "Invalid status: GONE")
}

func TestListTaskDefinitionFamilies(t *testing.T) {
	r := newRoom(t)
	for _, family := range []string{"a", "a-b", "b", "gone"} {
		r.register(plain(func(in *ecs.RegisterTaskDefinitionInput) { in.Family = &family }))
	}
	for _, ref := range []string{"a-b:1", "gone:1"} {
		if err := r.deregister(ref); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.DeleteTaskDefinitions(asRoot(), &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{"gone:1"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		prefix string
		status types.TaskDefinitionFamilyStatus
		want   []string
	}{
		{"", "", []string{"a", "a-b", "b"}},
		{"", types.TaskDefinitionFamilyStatusAll, []string{"a", "a-b", "b"}},
		{"", types.TaskDefinitionFamilyStatusActive, []string{"a", "b"}},
		{"", types.TaskDefinitionFamilyStatusInactive, []string{"a-b"}},
		{"a", "", []string{"a", "a-b"}},
	} {
		out, err := r.ListTaskDefinitionFamilies(asRoot(), &ecs.ListTaskDefinitionFamiliesInput{FamilyPrefix: &c.prefix, Status: c.status})
		if err != nil || !slices.Equal(out.Families, c.want) {
			t.Errorf("prefix %q, status %q: %v, %v; want %v", c.prefix, c.status, out.Families, err, c.want)
		}
	}
}

// Containers are accepted if, and only if, there is an order to start them in.
func TestContainersThatDependOnEachOtherHaveAnOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := plain()
		in.ContainerDefinitions = nil
		n := rapid.IntRange(1, 8).Draw(rt, "containers")
		needs := make([]map[int]bool, n)
		for i := range n {
			needs[i] = map[int]bool{}
			beside(fmt.Sprint("c", i), func(c *types.ContainerDefinition) {
				for range rapid.IntRange(0, 2).Draw(rt, "edges") {
					to := rapid.IntRange(0, n-1).Draw(rt, "to")
					if to == i {
						continue
					}
					needs[i][to] = true
					name := fmt.Sprint("c", to)
					switch rapid.IntRange(0, 2).Draw(rt, "kind") {
					case 0:
						dependsOn(name, types.ContainerConditionStart)(c)
					case 1:
						c.Links = append(c.Links, name+":alias")
					case 2:
						c.VolumesFrom = append(c.VolumesFrom, types.VolumeFrom{SourceContainer: &name})
					}
				}
			})(in)
		}
		started := map[int]bool{}
		for progress := true; progress; {
			progress = false
			for i := range n {
				ready := !started[i]
				for to := range needs[i] {
					ready = ready && started[to]
				}
				if ready {
					started[i], progress = true, true
				}
			}
		}
		d := givenDefinition(in)
		if err := checkDefinition(&d); (err == nil) != (len(started) == n) {
			rt.Fatalf("%d of %d containers can start, but the check says %v", len(started), n, err)
		}
	})
}
