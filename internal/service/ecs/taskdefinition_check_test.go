package ecs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// plain is an input that is accepted: one container of one image.
func plain(changes ...func(*ecs.RegisterTaskDefinitionInput)) *ecs.RegisterTaskDefinitionInput {
	in := &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("web"),
		ContainerDefinitions: []types.ContainerDefinition{
			{Name: aws.String("main"), Image: aws.String("nginx:1.27"), Memory: aws.Int32(128)},
		},
	}
	for _, change := range changes {
		change(in)
	}
	return in
}

// onFargate is an input that Fargate accepts.
func onFargate(changes ...func(*ecs.RegisterTaskDefinitionInput)) *ecs.RegisterTaskDefinitionInput {
	base := func(in *ecs.RegisterTaskDefinitionInput) {
		in.NetworkMode, in.Cpu, in.Memory = types.NetworkModeAwsvpc, aws.String("256"), aws.String("512")
		in.RequiresCompatibilities = []types.Compatibility{types.CompatibilityFargate}
	}
	return plain(append([]func(*ecs.RegisterTaskDefinitionInput){base}, changes...)...)
}

type change = func(*ecs.RegisterTaskDefinitionInput)

// container changes the first container.
func container(f func(c *types.ContainerDefinition)) change {
	return func(in *ecs.RegisterTaskDefinitionInput) { f(&in.ContainerDefinitions[0]) }
}

// beside adds a container.
func beside(name string, f func(c *types.ContainerDefinition)) change {
	return func(in *ecs.RegisterTaskDefinitionInput) {
		c := types.ContainerDefinition{Name: &name, Image: aws.String("busybox"), Memory: aws.Int32(64)}
		f(&c)
		in.ContainerDefinitions = append(in.ContainerDefinitions, c)
	}
}

func nothing(*types.ContainerDefinition) {}

func ports(mode types.NetworkMode, mappings ...types.PortMapping) change {
	return func(in *ecs.RegisterTaskDefinitionInput) {
		in.NetworkMode, in.ContainerDefinitions[0].PortMappings = mode, mappings
	}
}

func port(containerPort, hostPort int32) types.PortMapping {
	return types.PortMapping{ContainerPort: &containerPort, HostPort: &hostPort}
}

func awslogs(options ...string) *types.LogConfiguration {
	l := &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{"awslogs-group": "g", "awslogs-region": testRegion}}
	for i := 0; i < len(options); i += 2 {
		l.Options[options[i]] = options[i+1]
	}
	return l
}

func linux(p types.LinuxParameters) change {
	return container(func(c *types.ContainerDefinition) { c.LinuxParameters = &p })
}

func volume(v types.Volume) change {
	return func(in *ecs.RegisterTaskDefinitionInput) { in.Volumes = append(in.Volumes, v) }
}

func dependsOn(name string, condition types.ContainerCondition) func(c *types.ContainerDefinition) {
	return func(c *types.ContainerDefinition) {
		c.DependsOn = append(c.DependsOn, types.ContainerDependency{ContainerName: &name, Condition: condition})
	}
}

func health(h types.HealthCheck) change {
	if h.Command == nil {
		h.Command = []string{"CMD-SHELL", "true"}
	}
	return container(func(c *types.ContainerDefinition) { c.HealthCheck = &h })
}

func role(in *ecs.RegisterTaskDefinitionInput) {
	in.ExecutionRoleArn = aws.String("arn:aws:iam::123456789012:role/exec")
}

type refusal struct {
	name    string
	in      *ecs.RegisterTaskDefinitionInput
	message string
}

func checkRefusals(t *testing.T, refusals []refusal) {
	t.Helper()
	r := newRoom(t)
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.RegisterTaskDefinition(asRoot(), c.in)
			code := "ClientException"
			if rest, ok := strings.CutPrefix(c.message, "!"); ok {
				code, c.message, _ = strings.Cut(rest, ": ")
			}
			wantError(t, err, code, c.message)
		})
	}
	out, err := r.ListTaskDefinitionFamilies(asRoot(), &ecs.ListTaskDefinitionFamiliesInput{})
	if err != nil || len(out.Families) != 0 {
		t.Errorf("refused definitions left families %v (%v)", out.Families, err)
	}
}

func TestTasksAreChecked(t *testing.T) {
	field := func(f change) *ecs.RegisterTaskDefinitionInput { return plain(f) }
	checkRefusals(t, []refusal{
		{"no family", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Family = nil }), "Family should not be null or blank."},
		{"family's characters", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Family = aws.String("a/b") }), "Family contains invalid characters."},
		{"family's length", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Family = aws.String(strings.Repeat("a", 256)) }), "Family contains invalid characters."},
		{"no containers", field(func(in *ecs.RegisterTaskDefinitionInput) { in.ContainerDefinitions = nil }), "Container list cannot be empty."},
		{"too many containers", field(func(in *ecs.RegisterTaskDefinitionInput) {
			for i := range 10 {
				beside(fmt.Sprint("c", i), nothing)(in)
			}
		}), "Task definition has 11 containers; it can have at most 10."},
		{"a role", field(func(in *ecs.RegisterTaskDefinitionInput) { in.TaskRoleArn = aws.String("arn:aws:s3:::x") }), "Role is not valid."},
		{"cpu", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Cpu = aws.String("lots") }), "Invalid 'cpu' setting for task."},
		{"little cpu", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Cpu = aws.String("127") }), "Invalid 'cpu' setting for task."},
		{"memory", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = aws.String("-1 GB") }), "Invalid 'memory' setting for task."},
		{"little memory", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = aws.String("5") }), "Invalid 'memory' setting for task."},
		{"storage", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: 20}
		}), "The ephemeral storage size must be between 21 and 200 GiB."},
		{"a constraint's type", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "distinctInstance"}}
		}), "Invalid constraint type: distinctInstance. A task definition's constraints are of type memberOf."},
		{"a constraint's expression", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "memberOf", Expression: aws.String("attribute:")}}
		}), ""},
		{"too many constraints", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.PlacementConstraints = make([]types.TaskDefinitionPlacementConstraint, 11)
		}), "A task definition can have at most 10 placement constraints."},
		{"tags", field(func(in *ecs.RegisterTaskDefinitionInput) { in.Tags = make([]types.Tag, 51) }), "!InvalidParameterException: The number of tags exceeds the limit of 50."},
		{"a compatibility twice", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.RequiresCompatibilities = []types.Compatibility{"EC2", "EC2"}
		}), "requiresCompatibilities names EC2 more than once."},
		{"managed instances", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.RequiresCompatibilities = []types.Compatibility{types.CompatibilityManagedInstances}
		}), "!UnsupportedFeatureException: requiresCompatibilities MANAGED_INSTANCES is not supported here; use EC2, FARGATE or EXTERNAL."},
		{"awsvpc on external instances", plain(func(in *ecs.RegisterTaskDefinitionInput) {
			in.NetworkMode, in.RequiresCompatibilities = types.NetworkModeAwsvpc, []types.Compatibility{types.CompatibilityExternal}
		}), "External instances do not support networkMode=awsvpc."},
		{"App Mesh without awsvpc", field(func(in *ecs.RegisterTaskDefinitionInput) { in.ProxyConfiguration = &types.ProxyConfiguration{} }), "Proxy configuration is only supported when networkMode=awsvpc."},
		{"App Mesh without its container", field(func(in *ecs.RegisterTaskDefinitionInput) {
			in.NetworkMode, in.ProxyConfiguration = types.NetworkModeAwsvpc, &types.ProxyConfiguration{ContainerName: aws.String("envoy")}
		}), "Proxy configuration names the container 'envoy', which the task definition does not have."},
		{"an accelerator", field(func(in *ecs.RegisterTaskDefinitionInput) {
			//lint:ignore SA1019 clients may still send it
			in.InferenceAccelerators = []types.InferenceAccelerator{{DeviceName: aws.String("d"), DeviceType: aws.String("eia1.medium")}}
		}), "!UnsupportedFeatureException: inferenceAccelerators are not supported: Amazon Elastic Inference is no longer available."},
	})
}

func TestContainersAreChecked(t *testing.T) {
	on := func(f func(c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
		return plain(container(f))
	}
	one := func(name, value string) []types.KeyValuePair {
		return []types.KeyValuePair{{Name: &name, Value: &value}}
	}
	secret := []types.Secret{{Name: aws.String("A"), ValueFrom: aws.String("param")}}
	checkRefusals(t, []refusal{
		{"no name", on(func(c *types.ContainerDefinition) { c.Name = nil }), "Container.name should not be null or empty."},
		{"a name", on(func(c *types.ContainerDefinition) { c.Name = aws.String("a b") }), "Container name 'a b' contains invalid characters."},
		{"a name twice", plain(beside("main", nothing)), "Container name 'main' is used more than once."},
		{"no image", on(func(c *types.ContainerDefinition) { c.Image = nil }), "Container.image should not be null or empty."},
		{"an image", on(func(c *types.ContainerDefinition) { c.Image = aws.String("ngi nx") }), "Container.image contains invalid characters."},
		{"a digest", on(func(c *types.ContainerDefinition) { c.Image = aws.String("nginx@sha256:abc") }), "Container.image contains invalid characters."},
		{"nothing essential", on(func(c *types.ContainerDefinition) { c.Essential = aws.Bool(false) }), "A task definition must have at least one essential container."},
		{"no memory", on(func(c *types.ContainerDefinition) { c.Memory = nil }), "Invalid setting for container 'main'. At least one of 'memory' or 'memoryReservation' must be specified."},
		{"little memory", on(func(c *types.ContainerDefinition) { c.Memory = aws.Int32(5) }), "Invalid setting for container 'main'. 'memory' must be at least 6 MiB."},
		{"little reservation", on(func(c *types.ContainerDefinition) { c.MemoryReservation = aws.Int32(5) }), "Invalid setting for container 'main'. 'memoryReservation' must be at least 6 MiB."},
		{"more reserved than allowed", on(func(c *types.ContainerDefinition) { c.MemoryReservation = aws.Int32(129) }), "Invalid setting for container 'main'. 'memory' must be greater than 'memoryReservation'."},
		{"more than the task", plain(func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = aws.String("100") }), "Invalid setting for container 'main'. 'memory' must not be greater than the task's 'memory'."},
		{"together more than the task", plain(beside("b", nothing), func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = aws.String("160") }), "Invalid 'memory' setting for task. The containers reserve 192 MiB, which is more than the task's 160."},
		{"negative cpu", on(func(c *types.ContainerDefinition) { c.Cpu = -1 }), "Invalid setting for container 'main'. 'cpu' must not be negative."},
		{"more cpu than the task", plain(container(func(c *types.ContainerDefinition) { c.Cpu = 300 }), func(in *ecs.RegisterTaskDefinitionInput) { in.Cpu = aws.String(".25 vCPU") }), "Invalid 'cpu' setting for task. The containers' 'cpu' adds up to 300, which is more than the task's 256."},
		{"a variable", on(func(c *types.ContainerDefinition) { c.Environment = one("", "x") }), "Container 'main' has an environment variable with an invalid name: ''"},
		{"environment files", plain(role, container(func(c *types.ContainerDefinition) {
			c.EnvironmentFiles = []types.EnvironmentFile{{Type: "s3", Value: aws.String("arn:aws:s3:::b/x.txt")}}
		})), "Container 'main' has an invalid environment file: arn:aws:s3:::b/x.txt. It must be the ARN of an S3 object whose name ends in .env."},
		{"environment files without role", on(func(c *types.ContainerDefinition) {
			c.EnvironmentFiles = []types.EnvironmentFile{{Type: "s3", Value: aws.String("arn:aws:s3:::bucket/x.env")}}
		}), "When you are specifying environment files, you must also specify a value for 'executionRoleArn'."},
		{"a secret without role", on(func(c *types.ContainerDefinition) { c.Secrets = secret }), "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."},
		{"a secret that is a variable", plain(role, container(func(c *types.ContainerDefinition) { c.Secrets, c.Environment = secret, one("A", "1") })),
			"The secret name must be unique and not shared with any new or existing environment variables set on the container, such as 'A'."},
		{"a secret without source", plain(role, container(func(c *types.ContainerDefinition) { c.Secrets = []types.Secret{{Name: aws.String("A")}} })), "Container 'main' has a secret without a name or valueFrom."},
		{"registry credentials without role", on(func(c *types.ContainerDefinition) {
			c.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: aws.String("s")}
		}), "When you are specifying repositoryCredentials, you must also specify a value for 'executionRoleArn'."},
		{"a timeout", on(func(c *types.ContainerDefinition) { c.StopTimeout = aws.Int32(-1) }), "Container 'main': startTimeout and stopTimeout must be between 0 and 604800 seconds."},
		{"a restart period", on(func(c *types.ContainerDefinition) {
			c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: aws.Bool(true), RestartAttemptPeriod: aws.Int32(59)}
		}), "The restartAttemptPeriod of container 'main' must be between 60 and 1800 seconds."},
		{"ignored exit codes", on(func(c *types.ContainerDefinition) {
			c.RestartPolicy = &types.ContainerRestartPolicy{Enabled: aws.Bool(true), IgnoredExitCodes: make([]int32, 51)}
		}), "The restart policy of container 'main' can ignore at most 50 exit codes."},
		{"GPUs", on(func(c *types.ContainerDefinition) {
			c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("0")}}
		}), "Container 'main': the number of GPUs must be between 1 and 1024."},
		{"shared GPUs", on(func(c *types.ContainerDefinition) {
			c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1"), SharingStrategy: &types.SharingStrategyMemberNvidiaMps{}}}
		}), "!UnsupportedFeatureException: Container 'main': sharingStrategy is not supported."},
		{"two FireLens routers", plain(container(func(c *types.ContainerDefinition) {
			c.FirelensConfiguration = &types.FirelensConfiguration{Type: "fluentbit"}
		}), beside("b", func(c *types.ContainerDefinition) {
			c.FirelensConfiguration = &types.FirelensConfiguration{Type: "fluentbit"}
		})), "A task definition can have only one container with a firelensConfiguration."},
		{"FireLens without router", on(func(c *types.ContainerDefinition) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwsfirelens}
		}), "When a container uses the log driver awsfirelens, the task definition must have a container with a firelensConfiguration."},
	})
}

func TestHealthLogsAndNetworksAreChecked(t *testing.T) {
	on := func(f func(c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
		return plain(container(f))
	}
	logs := func(l *types.LogConfiguration) *ecs.RegisterTaskDefinitionInput {
		return on(func(c *types.ContainerDefinition) { c.LogConfiguration = l })
	}
	awsvpc := func(in *ecs.RegisterTaskDefinitionInput) { in.NetworkMode = types.NetworkModeAwsvpc }
	rangeOf := func(text string) types.PortMapping { return types.PortMapping{ContainerPortRange: &text} }
	named := func(name string) types.PortMapping {
		return types.PortMapping{ContainerPort: aws.Int32(80), Name: &name}
	}
	checkRefusals(t, []refusal{
		{"a health check's command", plain(health(types.HealthCheck{Command: []string{"true"}})), "The health check command of container 'main' must start with CMD or CMD-SHELL, followed by the command."},
		{"its interval", plain(health(types.HealthCheck{Interval: aws.Int32(4)})), "The health check interval of container 'main' must be between 5 and 300."},
		{"its timeout", plain(health(types.HealthCheck{Timeout: aws.Int32(61)})), "The health check timeout of container 'main' must be between 2 and 60."},
		{"its retries", plain(health(types.HealthCheck{Retries: aws.Int32(0)})), "The health check retries of container 'main' must be between 1 and 10."},
		{"its start period", plain(health(types.HealthCheck{StartPeriod: aws.Int32(301)})), "The health check startPeriod of container 'main' must be between 0 and 300."},
		{"no log group", logs(awslogs("awslogs-group", "")), "Log driver awslogs option 'awslogs-group' should not be null or empty."},
		{"no log region", logs(awslogs("awslogs-region", "")), "Log driver awslogs option 'awslogs-region' should not be null or empty."},
		{"a log option", logs(awslogs("tag", "x")), "Log driver awslogs disallows options: tag"},
		{"a log mode", logs(awslogs("mode", "lazy")), "Log driver option 'mode' must be 'blocking' or 'non-blocking'."},
		{"making the log group", logs(awslogs("awslogs-create-group", "yes")), "Log driver awslogs option 'awslogs-create-group' must be 'true' or 'false'."},
		{"no log driver", logs(&types.LogConfiguration{}), "Container 'main': LogConfiguration.logDriver should not be null or empty."},
		{"links in awsvpc", plain(awsvpc, beside("b", nothing), container(func(c *types.ContainerDefinition) { c.Links = []string{"b"} })), "Links are not supported when networkMode=awsvpc."},
		{"extra hosts in awsvpc", plain(awsvpc, container(func(c *types.ContainerDefinition) { c.ExtraHosts = []types.HostEntry{{}} })), "Extra hosts are not supported when networkMode=awsvpc."},
		{"hostname in awsvpc", plain(awsvpc, container(func(c *types.ContainerDefinition) { c.Hostname = aws.String("h") })), "Hostname is not supported when networkMode=awsvpc."},
		{"a hostname", on(func(c *types.ContainerDefinition) { c.Hostname = aws.String("a b") }), "Container 'main' has an invalid hostname: a b"},
		{"a DNS server", on(func(c *types.ContainerDefinition) { c.DnsServers = []string{"dns.example"} }), "Container 'main' has an invalid DNS server: dns.example. It must be an IP address."},
		{"an extra host", on(func(c *types.ContainerDefinition) {
			c.ExtraHosts = []types.HostEntry{{Hostname: aws.String("h"), IpAddress: aws.String("1.2.3")}}
		}), "Container 'main' has an invalid extra host: h 1.2.3"},
		{"no container port", plain(ports("", types.PortMapping{})), "Invalid 'containerPort' setting: 0. It must be between 1 and 65535."},
		{"a container port", plain(ports("", port(65536, 0))), "Invalid 'containerPort' setting: 65536. It must be between 1 and 65535."},
		{"a host port", plain(ports("", port(80, -1))), "Invalid 'hostPort' setting: -1. It must be between 0 and 65535."},
		{"other host port in awsvpc", plain(ports(types.NetworkModeAwsvpc, port(80, 81))), "When networkMode=awsvpc, the host ports and container ports in port mappings must match."},
		{"other host port in host mode", plain(ports(types.NetworkModeHost, port(80, 0))), "When networkMode=host, the host ports and container ports in port mappings must match."},
		{"ports without network", plain(ports(types.NetworkModeNone, port(80, 0))), "Port mappings are not supported when networkMode=none."},
		{"a host port twice", plain(ports("", port(80, 8080), port(81, 8080))), "The host port 8080/tcp is mapped more than once."},
		{"a port twice in awsvpc", plain(ports(types.NetworkModeAwsvpc, port(80, 80), port(80, 80))), "The host port 80/tcp is mapped more than once."},
		{"a port range", plain(ports("", rangeOf("90-80"))), "Invalid 'containerPortRange' setting: 90-80. It is FIRST-LAST, between 1 and 65535."},
		{"a port range on the host", plain(ports(types.NetworkModeHost, rangeOf("80-90"))), "containerPortRange is only supported when networkMode is bridge or awsvpc."},
		{"a port beside a range", plain(ports("", types.PortMapping{ContainerPortRange: aws.String("80-90"), ContainerPort: aws.Int32(80)})), "A port mapping with a containerPortRange can't have a containerPort or hostPort."},
		{"a port's name", plain(ports("", named("-web"))), "Invalid name of a port mapping: -web. Up to 64 lowercase letters, numbers, hyphens and underscores are allowed; the first is not a hyphen."},
		{"a port's name twice", plain(ports("", named("web"), named("web"))), "The port mapping name 'web' is used more than once."},
		{"a protocol without name", plain(ports("", types.PortMapping{ContainerPort: aws.Int32(80), AppProtocol: "http"})), "A port mapping with an appProtocol needs a name."},
	})
}

func TestDependenciesAreChecked(t *testing.T) {
	start := types.ContainerConditionStart
	sidecar := func(c *types.ContainerDefinition) { c.Essential = aws.Bool(false) }
	checkRefusals(t, []refusal{
		{"unknown", plain(container(dependsOn("db", start))), "Container 'main' names the container 'db' in dependsOn, which the task definition does not have."},
		{"itself", plain(container(dependsOn("main", start))), "Container 'main' names itself in dependsOn."},
		{"an unknown link", plain(container(func(c *types.ContainerDefinition) { c.Links = []string{"db:database"} })), "Container 'main' names the container 'db' in links, which the task definition does not have."},
		{"unknown volumes", plain(container(func(c *types.ContainerDefinition) {
			c.VolumesFrom = []types.VolumeFrom{{SourceContainer: aws.String("db")}}
		})), "Container 'main' names the container 'db' in volumesFrom, which the task definition does not have."},
		{"healthy without health check", plain(beside("db", nothing), container(dependsOn("db", types.ContainerConditionHealthy))), "Container 'main' depends on 'db' being HEALTHY, but that has no health check."},
		{"completion of an essential one", plain(beside("db", nothing), container(dependsOn("db", types.ContainerConditionComplete))), "Container 'main' depends on 'db' with the condition COMPLETE, which can't be set on an essential container."},
		{"success of an essential one", plain(beside("db", nothing), container(dependsOn("db", types.ContainerConditionSuccess))), "Container 'main' depends on 'db' with the condition SUCCESS, which can't be set on an essential container."},
		{"a cycle", plain(container(dependsOn("b", start)), beside("b", dependsOn("c", start)), beside("c", dependsOn("main", start))), "There is a cycle in the containers' dependsOn, links and volumesFrom: main → b → c → main"},
		{"a cycle of two kinds", plain(container(dependsOn("b", start)), beside("b", func(c *types.ContainerDefinition) { c.Links = []string{"main"} })), "There is a cycle in the containers' dependsOn, links and volumesFrom: main → b → main"},
	})
	r := newRoom(t)
	for name, in := range map[string]*ecs.RegisterTaskDefinitionInput{
		"a diamond": plain(container(dependsOn("b", start)), container(dependsOn("c", start)), beside("b", dependsOn("d", start)), beside("c", dependsOn("d", start)), beside("d", nothing)),
		"success":   plain(container(dependsOn("init", types.ContainerConditionSuccess)), beside("init", sidecar)),
	} {
		if _, err := r.RegisterTaskDefinition(asRoot(), in); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}

func TestVolumesAndLinuxAreChecked(t *testing.T) {
	on := func(f func(c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
		return plain(container(f))
	}
	data := types.Volume{Name: aws.String("data")}
	mount := func(source, path string) change {
		return container(func(c *types.ContainerDefinition) {
			c.MountPoints = append(c.MountPoints, types.MountPoint{SourceVolume: &source, ContainerPath: &path})
		})
	}
	efs := func(c types.EFSVolumeConfiguration) change {
		if c.FileSystemId == nil {
			c.FileSystemId = aws.String("fs-12345678")
		}
		return volume(types.Volume{Name: aws.String("data"), EfsVolumeConfiguration: &c})
	}
	limit := func(soft, hard int32) *ecs.RegisterTaskDefinitionInput {
		return on(func(c *types.ContainerDefinition) {
			c.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: soft, HardLimit: hard}}
		})
	}
	control := func(name, value string) change {
		return container(func(c *types.ContainerDefinition) {
			c.SystemControls = append(c.SystemControls, types.SystemControl{Namespace: &name, Value: &value})
		})
	}
	checkRefusals(t, []refusal{
		{"no name", plain(volume(types.Volume{})), "Volume.name should not be null or empty."},
		{"a name", plain(volume(types.Volume{Name: aws.String("../x")})), "Volume name '../x' contains invalid characters."},
		{"a name twice", plain(volume(data), volume(data)), "Volume name 'data' is used more than once."},
		{"two kinds", plain(volume(types.Volume{Name: aws.String("data"), Host: &types.HostVolumeProperties{}, DockerVolumeConfiguration: &types.DockerVolumeConfiguration{}})), "Volume 'data' has more than one kind of configuration."},
		{"a relative path", plain(volume(types.Volume{Name: aws.String("data"), Host: &types.HostVolumeProperties{SourcePath: aws.String("data")}})), "Invalid 'sourcePath' of volume 'data': it must be an absolute path."},
		{"autoprovision", plain(volume(types.Volume{Name: aws.String("data"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Autoprovision: aws.Bool(true)}})), "Volume 'data' can have autoprovision only if its scope is shared."},
		{"two at launch", plain(volume(types.Volume{Name: aws.String("a"), ConfiguredAtLaunch: aws.Bool(true)}), volume(types.Volume{Name: aws.String("b"), ConfiguredAtLaunch: aws.Bool(true)})), "Only one volume of a task definition can be configured at launch."},
		{"a file system", plain(efs(types.EFSVolumeConfiguration{FileSystemId: aws.String("fs")})), "Invalid 'fileSystemId' of volume 'data': fs"},
		{"IAM without encryption", plain(efs(types.EFSVolumeConfiguration{AuthorizationConfig: &types.EFSAuthorizationConfig{Iam: "ENABLED"}})), "Volume 'data' needs transitEncryption ENABLED for IAM authorization and for access points."},
		{"an access point with a directory", plain(efs(types.EFSVolumeConfiguration{TransitEncryption: "ENABLED", RootDirectory: aws.String("/x"), AuthorizationConfig: &types.EFSAuthorizationConfig{AccessPointId: aws.String("fsap-1")}})), "Volume 'data' has an access point: its rootDirectory must be omitted or /."},
		{"an unknown volume", plain(mount("data", "/data")), "Unknown volume 'data'."},
		{"no path", plain(volume(data), mount("data", "")), "Container 'main' mounts volume 'data' without an absolute containerPath."},
		{"a path twice", plain(volume(data), mount("data", "/d"), mount("data", "/d")), "Container 'main' mounts two volumes at /d."},
		{"a ulimit", limit(2, 1), "The soft limit of the ulimit nofile of container 'main' is greater than its hard limit."},
		{"no soft limit", limit(-1, 1), "The soft limit of the ulimit nofile of container 'main' is greater than its hard limit."},
		{"a negative ulimit", limit(-2, -2), "The ulimit nofile of container 'main' must be -1 (no limit), 0 or greater."},
		{"a security option", on(func(c *types.ContainerDefinition) { c.DockerSecurityOptions = []string{"yolo"} }), "Container 'main' has an invalid Docker security option: yolo"},
		{"credential specs", on(func(c *types.ContainerDefinition) { c.CredentialSpecs = []string{"x"} }), "Container 'main' has an invalid credential spec: x"},
		{"a capability", plain(linux(types.LinuxParameters{Capabilities: &types.KernelCapabilities{Add: []string{"CAP_KILL"}}})), "Container 'main' has an invalid Linux capability: CAP_KILL"},
		{"a device", plain(linux(types.LinuxParameters{Devices: []types.Device{{HostPath: aws.String("kvm")}}})), "Container 'main' has a device without absolute paths."},
		{"a tmpfs", plain(linux(types.LinuxParameters{Tmpfs: []types.Tmpfs{{ContainerPath: aws.String("/t")}}})), "Container 'main' has a tmpfs without an absolute containerPath or with a size below 1 MiB."},
		{"a tmpfs option", plain(linux(types.LinuxParameters{Tmpfs: []types.Tmpfs{{ContainerPath: aws.String("/t"), Size: 1, MountOptions: []string{"fast"}}}})), "Container 'main' has an invalid tmpfs mount option: fast"},
		{"shared memory", plain(linux(types.LinuxParameters{SharedMemorySize: aws.Int32(-1)})), "Container 'main': sharedMemorySize must not be negative."},
		{"swap", plain(linux(types.LinuxParameters{MaxSwap: aws.Int32(-1)})), "Container 'main': maxSwap must be 0 or greater."},
		{"swappiness", plain(linux(types.LinuxParameters{Swappiness: aws.Int32(101)})), "Container 'main': swappiness must be between 0 and 100."},
		{"a system control", plain(control("kernel.panic", "1")), "Container 'main' has an invalid system control: 'kernel.panic'. Only the IPC and net. namespaces are allowed."},
		{"a system control's path", plain(control("net../../kernel", "1")), "Container 'main' has an invalid system control: 'net../../kernel'. Only the IPC and net. namespaces are allowed."},
		{"a system control without value", plain(control("net.core.somaxconn", "")), "The system control 'net.core.somaxconn' of container 'main' has no value."},
		{"the host's network", plain(ports(types.NetworkModeHost), control("net.core.somaxconn", "1")), "System control 'net.core.somaxconn' is not supported when networkMode=host."},
		{"the host's IPC", plain(control("kernel.shmmax", "1"), func(in *ecs.RegisterTaskDefinitionInput) { in.IpcMode = types.IpcModeHost }), "System control 'kernel.shmmax' is not supported when ipcMode=host."},
	})
}

func TestFargateIsChecked(t *testing.T) {
	on := func(f func(c *types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
		return onFargate(container(f))
	}
	image := func(c *types.ContainerDefinition) {
		c.Image = aws.String("123456789012.dkr.ecr.eu-west-1.amazonaws.com/web")
	}
	checkRefusals(t, []refusal{
		{"network mode", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.NetworkMode = "" }), "Fargate only supports network mode ‘awsvpc’."},
		{"no cpu", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.Cpu = nil }), "Fargate requires that 'cpu' be defined at the task level."},
		{"no memory", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = nil }), "Fargate requires that 'memory' be defined at the task level."},
		{"a size", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.Memory = aws.String("3 GB") }), "No Fargate configuration exists for given values: 256 CPU, 3072 memory. See the Amazon ECS documentation for the valid values."},
		{"the host's processes", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.PidMode = types.PidModeHost }), "Fargate does not support pidMode host."},
		{"IPC", onFargate(func(in *ecs.RegisterTaskDefinitionInput) { in.IpcMode = types.IpcModeTask }), "Fargate does not support ipcMode."},
		{"constraints", onFargate(func(in *ecs.RegisterTaskDefinitionInput) {
			in.PlacementConstraints = []types.TaskDefinitionPlacementConstraint{{Type: "memberOf", Expression: aws.String("attribute:a exists")}}
		}), "Fargate does not support placement constraints."},
		{"Windows", onFargate(func(in *ecs.RegisterTaskDefinitionInput) {
			in.RuntimePlatform = &types.RuntimePlatform{OperatingSystemFamily: types.OSFamilyWindowsServer2022Core}
		}), "Fargate does not support the operating system family WINDOWS_SERVER_2022_CORE here."},
		{"a host path", onFargate(volume(types.Volume{Name: aws.String("v"), Host: &types.HostVolumeProperties{SourcePath: aws.String("/x")}})), "Fargate does not support the sourcePath of volume 'v'."},
		{"a Docker volume", onFargate(volume(types.Volume{Name: aws.String("v"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{}})), "Fargate does not support the configuration of volume 'v'."},
		{"privileged", on(func(c *types.ContainerDefinition) { c.Privileged = aws.Bool(true) }), "Fargate does not support privileged containers."},
		{"security options", on(func(c *types.ContainerDefinition) { c.DockerSecurityOptions = []string{"no-new-privileges"} }), "Fargate does not support Docker security options."},
		{"GPUs", on(func(c *types.ContainerDefinition) {
			c.ResourceRequirements = []types.ResourceRequirement{{Type: types.ResourceTypeGpu, Value: aws.String("1")}}
		}), "Fargate does not support resource requirements."},
		{"stop timeout", on(func(c *types.ContainerDefinition) { c.StopTimeout = aws.Int32(121) }), "Fargate does not support a stopTimeout of more than 120 seconds."},
		{"an ECR image", on(image), "Fargate requires task definition to have execution role ARN to support ECR images."},
		{"devices", onFargate(linux(types.LinuxParameters{Devices: []types.Device{{HostPath: aws.String("/dev/kvm")}}})), "Fargate does not support the Linux parameter 'devices'."},
		{"a capability", onFargate(linux(types.LinuxParameters{Capabilities: &types.KernelCapabilities{Add: []string{"NET_ADMIN"}}})), "Fargate only supports adding the Linux capability SYS_PTRACE."},
		{"a log driver", on(func(c *types.ContainerDefinition) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverJsonFile}
		}), "Fargate does not support the log driver json-file; use awslogs, splunk or awsfirelens."},
		{"awslogs without role", on(func(c *types.ContainerDefinition) { c.LogConfiguration = awslogs("awslogs-stream-prefix", "x") }), "Fargate requires task definition to have execution role ARN to support log driver awslogs."},
		{"awslogs without prefix", onFargate(role, container(func(c *types.ContainerDefinition) { c.LogConfiguration = awslogs() })), "Fargate requires the log driver awslogs option 'awslogs-stream-prefix'."},
	})
}
