package ecs

import (
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	capability     = "ecs.capability."
	capabilityLong = "com.amazonaws.ecs.capability."
)

// requirements collects what a node must announce to run a task definition.
type requirements struct {
	definition *types.TaskDefinition
	// names are attributes without a value, values those with one.
	names  map[string]bool
	values map[string]string
}

// requiredAttributes derives requiresAttributes: ECS's own names for what a node
// must be able to do, in their order. What no node announces can't be placed;
// nothing that is asked for is ignored. Beside AWS, a definition that names its
// architecture requires it: here EC2 tasks meet nodes of all kinds.
func requiredAttributes(d *types.TaskDefinition) []types.Attribute {
	r := requirements{definition: d, names: map[string]bool{}, values: map[string]string{}}
	r.ofTask()
	for i := range d.Volumes {
		r.ofVolume(&d.Volumes[i])
	}
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		r.ofContainer(c)
		r.ofImage(c)
		r.ofLogging(c)
		r.ofLinux(c)
		for _, x := range c.Secrets {
			r.ofSecret(x, "environment-variables")
		}
	}
	list := []types.Attribute{}
	for name := range r.names {
		list = append(list, types.Attribute{Name: optional(name)})
	}
	for name, value := range r.values {
		list = append(list, types.Attribute{Name: optional(name), Value: &value})
	}
	slices.SortFunc(list, func(a, b types.Attribute) int { return strings.Compare(*a.Name, *b.Name) })
	return list
}

func (r *requirements) need(names ...string) {
	for _, name := range names {
		r.names[name] = true
	}
}

// docker names the Docker API version that began with a feature.
func (r *requirements) docker(minor string) {
	r.need(capabilityLong + "docker-remote-api.1." + minor)
}

func (r *requirements) ofTask() {
	d := r.definition
	if d.NetworkMode == types.NetworkModeAwsvpc {
		r.need(capability + "task-eni")
		r.docker("18")
	}
	if deref(d.TaskRoleArn) != "" {
		r.need(capabilityLong + "task-iam-role")
		if d.NetworkMode == types.NetworkModeHost {
			r.need(capabilityLong + "task-iam-role-network-host")
		}
	}
	if d.PidMode != "" || d.IpcMode != "" {
		r.need(capability + "pid-ipc-namespace-sharing")
	}
	if d.ProxyConfiguration != nil {
		r.need(capability + "aws-appmesh")
	}
	if d.EphemeralStorage != nil {
		r.need(capability + "extensible-ephemeral-storage")
	}
	if deref(d.EnableFaultInjection) {
		r.need(capability + "fault-injection")
	}
	if p := d.RuntimePlatform; p != nil {
		switch p.CpuArchitecture {
		case types.CPUArchitectureX8664:
			r.values["ecs.cpu-architecture"] = "x86_64"
		case types.CPUArchitectureArm64:
			r.values["ecs.cpu-architecture"] = "arm64"
		}
		if p.OperatingSystemFamily != "" && p.OperatingSystemFamily != types.OSFamilyLinux {
			r.values["ecs.os-family"] = string(p.OperatingSystemFamily)
		}
	}
}

func (r *requirements) ofVolume(v *types.Volume) {
	switch {
	case v.DockerVolumeConfiguration != nil:
		driver := deref(v.DockerVolumeConfiguration.Driver)
		if driver == "" {
			driver = "local"
		}
		// Agents put a plugin's tag behind a period: names have no colons.
		r.need(capability + "docker-plugin." + strings.ReplaceAll(driver, ":", "."))
		r.docker("25")
	case v.EfsVolumeConfiguration != nil:
		r.need(capability + "efs")
		r.docker("25")
		if v.EfsVolumeConfiguration.AuthorizationConfig != nil || v.EfsVolumeConfiguration.TransitEncryption != "" {
			r.need(capability + "efsAuth")
		}
	case v.FsxWindowsFileServerVolumeConfiguration != nil:
		r.need(capability + "fsxWindowsFileServer")
	case v.S3filesVolumeConfiguration != nil:
		r.need(capability + "s3files")
	case deref(v.ConfiguredAtLaunch):
		r.need(capability + "storage.ebs-task-volume-attach")
	}
}

func (r *requirements) ofContainer(c *types.ContainerDefinition) {
	if deref(c.MemoryReservation) > 0 {
		r.docker("21")
	}
	if len(c.DependsOn) > 0 {
		r.need(capability + "container-ordering")
	}
	if h := c.HealthCheck; h != nil {
		r.need(capability + "container-health-check")
		if h.StartPeriod != nil {
			r.docker("29")
		} else {
			r.docker("24")
		}
	}
	if c.RestartPolicy != nil && deref(c.RestartPolicy.Enabled) {
		r.need(capability + "container-restart-policy")
	}
	for _, p := range c.PortMappings {
		if deref(p.ContainerPortRange) != "" {
			r.need(capability + "network.container-port-range")
		}
	}
	if len(c.EnvironmentFiles) > 0 {
		r.need(capability + "env-files.s3")
	}
	for _, spec := range c.CredentialSpecs {
		r.ofCredentialSpec(spec)
	}
	if f := c.FirelensConfiguration; f != nil {
		r.need(capability + "firelens." + string(f.Type))
		if kind := f.Options["config-file-type"]; kind != "" {
			r.need(capability + "firelens.options.config." + kind)
		}
	}
}

func (r *requirements) ofCredentialSpec(spec string) {
	if strings.HasPrefix(spec, "credentialspecdomainless:") {
		r.need(capability + "gmsa-domainless")
	} else {
		r.need(capability + "gmsa")
	}
}

var ecrImageRE = regexp.MustCompile(`^[0-9]{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|on\.aws)/`)

// ofImage: images in ECR are pulled with the execution role's credentials, or
// else the node's.
func (r *requirements) ofImage(c *types.ContainerDefinition) {
	if c.RepositoryCredentials != nil {
		r.need(capability + "private-registry-authentication.secretsmanager")
		return
	}
	if ecrImageRE.MatchString(deref(c.Image)) {
		r.need(capabilityLong + "ecr-auth")
		if deref(r.definition.ExecutionRoleArn) != "" {
			r.need(capability + "execution-role-ecr-pull")
		}
	}
}

// loggingDocker are the Docker API versions that began with a log driver.
var loggingDocker = map[types.LogDriver]string{
	types.LogDriverJsonFile: "18", types.LogDriverSyslog: "18", types.LogDriverJournald: "19",
	types.LogDriverAwslogs: "19", types.LogDriverGelf: "20", types.LogDriverFluentd: "20", types.LogDriverSplunk: "22",
}

func (r *requirements) ofLogging(c *types.ContainerDefinition) {
	l := c.LogConfiguration
	if l == nil {
		return
	}
	r.need(capabilityLong + "logging-driver." + string(l.LogDriver))
	if version, ok := loggingDocker[l.LogDriver]; ok {
		r.docker(version)
	}
	if l.LogDriver == types.LogDriverAwslogs {
		if deref(r.definition.ExecutionRoleArn) != "" {
			r.need(capability + "execution-role-awslogs")
		}
		if l.Options["awslogs-create-group"] != "" {
			r.docker("29")
		}
		if l.Options["awslogs-datetime-format"] != "" || l.Options["awslogs-multiline-pattern"] != "" {
			r.docker("30")
		}
	}
	if l.Options["mode"] != "" {
		r.docker("28")
	}
	for _, x := range l.SecretOptions {
		r.ofSecret(x, "bootstrap.log-driver")
	}
}

func (r *requirements) ofSecret(x types.Secret, use string) {
	provider := "ssm"
	if service, _, ok := secretARN(deref(x.ValueFrom)); ok && service == "secretsmanager" {
		provider = "asm"
	}
	r.need(capability + "secrets." + provider + "." + use)
}

func (r *requirements) ofLinux(c *types.ContainerDefinition) {
	if deref(c.Privileged) {
		r.need(capabilityLong + "privileged-container")
	}
	if len(c.Ulimits) > 0 || len(c.DockerLabels) > 0 {
		r.docker("18")
	}
	if len(c.SystemControls) > 0 {
		r.docker("24")
	}
	for _, o := range c.DockerSecurityOptions {
		switch kind, _, _ := strings.Cut(o, ":"); kind {
		case "label":
			r.need(capabilityLong + "selinux")
		case "apparmor":
			r.need(capabilityLong + "apparmor")
		case "credentialspec":
			r.need(capability + "gmsa")
		}
	}
	if p := c.LinuxParameters; p != nil {
		if p.InitProcessEnabled != nil {
			r.docker("25")
		}
		if p.SharedMemorySize != nil || len(p.Tmpfs) > 0 {
			r.docker("22")
		}
	}
}
