package ecs

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

// render makes the payload of a task: its definition with the overrides applied
// and the placement's outcome (interface, devices) filled in. endpoint is where
// the task's node reaches the API.
func (s *Service) render(r store.Reader, sc store.Scope, t *Task, endpoint string) (acs.Task, error) {
	td, ok := s.definitions.Get(r, sc, definitionID(t.Family, t.Revision))
	if !ok {
		return acs.Task{}, fmt.Errorf("task %s: its definition %s:%d is gone", t.ID, t.Family, t.Revision)
	}
	d := s.withLogMode(r, sc, &td.Definition)
	n, ok := s.node(r, sc, t.NodeID)
	other := ok && !n.ours()
	if other {
		d = withDockerLogs(d, t, endpoint)
	}
	out := acs.Task{
		ARN: taskARN(sc, t.Cluster, t.ID), TaskClusterARN: clusterARN(sc, t.Cluster),
		Family: t.Family, Version: strconv.Itoa(int(t.Revision)), DesiredStatus: t.agentDesired(),
		TaskDefinitionAccountID: sc.Account, LaunchType: string(t.LaunchType),
		ServiceName: t.Service, Group: t.Group, Zone: t.Zone,
		NetworkMode: string(networkMode(d)), PIDMode: string(d.PidMode), IPCMode: string(d.IpcMode),
	}
	// Only a task's own settings limit it as a whole; sums of its containers' do not.
	if t.CPU != "" {
		out.CPU = float64(t.Allocation.CPU) / 1024
	}
	if t.Memory != "" {
		out.Memory = t.Allocation.Memory
	}
	for i := range d.Volumes {
		v, err := renderVolume(&d.Volumes[i])
		if err != nil {
			return acs.Task{}, err
		}
		out.Volumes = append(out.Volumes, v)
	}
	for i := range d.ContainerDefinitions {
		c, err := renderContainer(sc, t, d, &d.ContainerDefinitions[i])
		if err != nil {
			return acs.Task{}, fmt.Errorf("container %s: %w", deref(d.ContainerDefinitions[i].Name), err)
		}
		if other && c.Environment["AWS_ENDPOINT_URL"] == "" {
			c.Environment["AWS_ENDPOINT_URL"] = endpoint // our own agent leads tasks there itself
		}
		out.Containers = append(out.Containers, c)
	}
	if t.ENI != nil {
		eni, err := s.renderENI(sc, t)
		if err != nil {
			return acs.Task{}, err
		}
		out.ENIs = []acs.ENI{eni}
	}
	for _, k := range t.Containers {
		for _, g := range k.GPUs {
			out.Associations = append(out.Associations, acs.Association{Containers: []string{k.Name}, Name: g, Type: "gpu"})
		}
	}
	return out, nil
}

// networkMode is bridge where the definition does not say.
func networkMode(d *types.TaskDefinition) types.NetworkMode {
	if d.NetworkMode == "" {
		return types.NetworkModeBridge
	}
	return d.NetworkMode
}

func (s *Service) renderENI(sc store.Scope, t *Task) (acs.ENI, error) {
	subnet, ok := s.subnetByID(sc, t.ENI.SubnetID)
	if !ok {
		return acs.ENI{}, fmt.Errorf("subnet %s is gone: the VPC's settings were changed", t.ENI.SubnetID)
	}
	return acs.ENI{
		AttachmentARN: attachmentARN(sc, t.ENI.AttachmentID), EC2ID: t.ENI.ID, MACAddress: t.ENI.MAC,
		IPv4Addresses:            []acs.IPv4Address{{PrivateAddress: t.ENI.Address, Primary: true}},
		SubnetGatewayIPv4Address: fmt.Sprintf("%s/%d", subnet.Gateway, subnet.CIDR.Bits()),
		DomainName:               []string{privateDomain(sc.Region)},
		PrivateDNSName:           privateDNSName(sc.Region, t.ENI.Address),
		AssociationProtocol:      "default",
	}, nil
}

func renderVolume(v *types.Volume) (acs.Volume, error) {
	out := acs.Volume{Name: deref(v.Name)}
	switch {
	case v.EfsVolumeConfiguration != nil, v.FsxWindowsFileServerVolumeConfiguration != nil, v.S3filesVolumeConfiguration != nil:
		return out, fmt.Errorf("volume %s: its type is not supported yet", out.Name)
	case v.DockerVolumeConfiguration != nil:
		c := v.DockerVolumeConfiguration
		out.Type = "docker"
		out.Docker = &acs.DockerVolume{
			Scope: string(c.Scope), Autoprovision: deref(c.Autoprovision), Driver: deref(c.Driver),
			DriverOpts: c.DriverOpts, Labels: c.Labels,
		}
	default:
		out.Type, out.Host = "host", &acs.HostVolume{}
		if v.Host != nil {
			out.Host.SourcePath = deref(v.Host.SourcePath)
		}
	}
	return out, nil
}

func renderContainer(sc store.Scope, t *Task, d *types.TaskDefinition, c *types.ContainerDefinition) (acs.Container, error) {
	o := overrideFor(t.Overrides, c.Name)
	out := acs.Container{
		Name: deref(c.Name), Image: deref(c.Image), Essential: c.Essential == nil || *c.Essential,
		CPU: containerCPU(c, o), Memory: containerMemory(c, o), Command: c.Command, Links: c.Links,
		Environment: renderEnvironment(t, c, o), StartTimeout: int64(deref(c.StartTimeout)), StopTimeout: int64(deref(c.StopTimeout)),
	}
	if o != nil && o.Command != nil {
		out.Command = o.Command
	}
	if c.EntryPoint != nil {
		out.EntryPoint = &c.EntryPoint
	}
	if i := slices.IndexFunc(t.Containers, func(k TaskContainer) bool { return k.Name == out.Name }); i >= 0 {
		out.ContainerARN = containerARN(sc, t.Cluster, t.ID, t.Containers[i].ID)
	}
	for _, p := range c.PortMappings {
		out.PortMappings = append(out.PortMappings, renderPort(networkMode(d), p))
	}
	for _, m := range c.MountPoints {
		out.MountPoints = append(out.MountPoints, acs.MountPoint{
			SourceVolume: deref(m.SourceVolume), ContainerPath: deref(m.ContainerPath), ReadOnly: deref(m.ReadOnly),
		})
	}
	for _, v := range c.VolumesFrom {
		out.VolumesFrom = append(out.VolumesFrom, acs.VolumeFrom{SourceContainer: deref(v.SourceContainer), ReadOnly: deref(v.ReadOnly)})
	}
	for _, p := range c.DependsOn {
		out.DependsOn = append(out.DependsOn, acs.Dependency{ContainerName: deref(p.ContainerName), Condition: string(p.Condition)})
	}
	if p := c.RestartPolicy; p != nil && deref(p.Enabled) {
		out.RestartPolicy = &acs.RestartPolicy{Enabled: true, RestartAttemptPeriod: int64(deref(p.RestartAttemptPeriod))}
		for _, code := range p.IgnoredExitCodes {
			out.RestartPolicy.IgnoredExitCodes = append(out.RestartPolicy.IgnoredExitCodes, int64(code))
		}
	}
	if c.LogConfiguration != nil && c.LogConfiguration.LogDriver == types.LogDriverAwslogs && hasRole(sc, d, t.Overrides, acs.RoleExecution) {
		out.LogsAuthStrategy = "ExecutionRole"
	}
	if t.ENI != nil {
		out.NetworkInterfaces = []string{t.ENI.ID}
	}
	for _, x := range c.Secrets {
		out.Secrets = append(out.Secrets, renderSecret(sc, x, "CONTAINER"))
	}
	if c.LogConfiguration != nil {
		for _, x := range c.LogConfiguration.SecretOptions {
			out.Secrets = append(out.Secrets, renderSecret(sc, x, "LOG_DRIVER"))
		}
	}
	config := dockerConfig(sc, t, d, c)
	if config.Healthcheck != nil {
		out.HealthCheckType = "docker"
	}
	var err error
	out.DockerConfig, err = acs.NewDockerConfig(config, dockerHostConfig(d, c, o))
	return out, err
}

// renderEnvironment merges the definition's variables and the override's, which win.
func renderEnvironment(t *Task, c *types.ContainerDefinition, o *types.ContainerOverride) map[string]string {
	env := map[string]string{"AWS_EXECUTION_ENV": "AWS_ECS_" + string(t.LaunchType)}
	if t.LaunchType == types.LaunchTypeFargate {
		env["AWS_EXECUTION_ENV"] = "AWS_ECS_FARGATE"
	}
	for _, e := range c.Environment {
		env[deref(e.Name)] = deref(e.Value)
	}
	if o != nil {
		for _, e := range o.Environment {
			env[deref(e.Name)] = deref(e.Value)
		}
	}
	return env
}

// renderPort fixes the host port where the mode leaves no choice.
func renderPort(mode types.NetworkMode, p types.PortMapping) acs.PortMapping {
	out := acs.PortMapping{
		ContainerPort: int64(deref(p.ContainerPort)), HostPort: int64(deref(p.HostPort)),
		ContainerPortRange: deref(p.ContainerPortRange), Protocol: string(p.Protocol),
	}
	if out.Protocol == "" {
		out.Protocol = string(types.TransportProtocolTcp)
	}
	if (mode == types.NetworkModeHost || mode == types.NetworkModeAwsvpc) && out.HostPort == 0 {
		out.HostPort = out.ContainerPort
	}
	return out
}

// renderSecret tells where a secret comes from by its ARN: Secrets Manager, or
// else a parameter of Systems Manager.
func renderSecret(sc store.Scope, x types.Secret, target string) acs.Secret {
	out := acs.Secret{
		Name: deref(x.Name), ValueFrom: deref(x.ValueFrom), Region: sc.Region,
		Provider: "ssm", Type: "ENVIRONMENT_VARIABLE", Target: target,
	}
	if service, region, ok := secretARN(out.ValueFrom); ok {
		out.Region = region
		if service == "secretsmanager" {
			out.Provider = "asm"
		}
	}
	return out
}
