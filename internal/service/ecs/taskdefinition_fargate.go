package ecs

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// compatibilities tells with which launch types a checked definition can run,
// and refuses one that can't run with a launch type that it requires.
func compatibilities(d *types.TaskDefinition) ([]types.Compatibility, error) {
	external, fargate := checkExternal(d), checkFargate(d)
	seen := map[types.Compatibility]bool{}
	for _, c := range d.RequiresCompatibilities {
		if seen[c] {
			return nil, errClient("requiresCompatibilities names %s more than once.", c)
		}
		seen[c] = true
		switch {
		case c == types.CompatibilityEc2:
		case c == types.CompatibilityFargate && fargate != nil:
			return nil, fargate
		case c == types.CompatibilityExternal && external != nil:
			return nil, external
		case c != types.CompatibilityFargate && c != types.CompatibilityExternal:
			return nil, errUnsupported("requiresCompatibilities %s is not supported here; use EC2, FARGATE or EXTERNAL.", clip(string(c)))
		}
	}
	var list []types.Compatibility
	if external == nil {
		list = append(list, types.CompatibilityExternal)
	}
	list = append(list, types.CompatibilityEc2)
	if fargate == nil {
		list = append(list, types.CompatibilityFargate)
	}
	return list, nil
}

// checkExternal tells what external instances can't do.
func checkExternal(d *types.TaskDefinition) error {
	if d.NetworkMode == types.NetworkModeAwsvpc {
		return errClient("External instances do not support networkMode=awsvpc.")
	}
	for i := range d.Volumes {
		if d.Volumes[i].EfsVolumeConfiguration != nil || deref(d.Volumes[i].ConfiguredAtLaunch) {
			return errClient("External instances do not support volume '%s': it is of EFS or configured at launch.", *d.Volumes[i].Name)
		}
	}
	return nil
}

// checkFargate tells what Fargate can't do.
func checkFargate(d *types.TaskDefinition) error {
	for _, check := range []func(*types.TaskDefinition) error{checkFargateTask, checkFargateVolumes, checkFargateContainers} {
		if err := check(d); err != nil {
			return err
		}
	}
	return nil
}

func checkFargateTask(d *types.TaskDefinition) error {
	if d.NetworkMode != types.NetworkModeAwsvpc {
		return errClient("Fargate only supports network mode ‘awsvpc’.")
	}
	cpu, hasCPU := parseCPU(deref(d.Cpu))
	memory, hasMemory := parseMemory(deref(d.Memory))
	os := types.OSFamilyLinux
	if p := d.RuntimePlatform; p != nil && p.OperatingSystemFamily != "" {
		os = p.OperatingSystemFamily
	}
	switch {
	case !hasCPU:
		return errClient("Fargate requires that 'cpu' be defined at the task level.")
	case !hasMemory:
		return errClient("Fargate requires that 'memory' be defined at the task level.")
	case !fargateSize(cpu, memory):
		return errClient("No Fargate configuration exists for given values: %d CPU, %d memory. See the Amazon ECS documentation for the valid values.", cpu, memory)
	case d.PidMode == types.PidModeHost:
		return errClient("Fargate does not support pidMode host.")
	case d.IpcMode != "":
		return errClient("Fargate does not support ipcMode.")
	case len(d.PlacementConstraints) > 0:
		return errClient("Fargate does not support placement constraints.")
	case os != types.OSFamilyLinux:
		return errClient("Fargate does not support the operating system family %s here.", os)
	}
	return nil
}

func checkFargateVolumes(d *types.TaskDefinition) error {
	for i := range d.Volumes {
		v := &d.Volumes[i]
		switch {
		case v.Host != nil && deref(v.Host.SourcePath) != "":
			return errClient("Fargate does not support the sourcePath of volume '%s'.", *v.Name)
		case v.DockerVolumeConfiguration != nil, v.FsxWindowsFileServerVolumeConfiguration != nil:
			return errClient("Fargate does not support the configuration of volume '%s'.", *v.Name)
		}
	}
	return nil
}

func checkFargateContainers(d *types.TaskDefinition) error {
	hasRole := deref(d.ExecutionRoleArn) != ""
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		switch {
		case deref(c.Privileged):
			return errClient("Fargate does not support privileged containers.")
		case len(c.DockerSecurityOptions) > 0:
			return errClient("Fargate does not support Docker security options.")
		case len(c.ResourceRequirements) > 0:
			return errClient("Fargate does not support resource requirements.")
		case deref(c.StopTimeout) > 120:
			return errClient("Fargate does not support a stopTimeout of more than 120 seconds.")
		case ecrImageRE.MatchString(deref(c.Image)) && !hasRole:
			return errClient("Fargate requires task definition to have execution role ARN to support ECR images.")
		}
		if f := c.FirelensConfiguration; f != nil && f.Options["config-file-type"] == "s3" {
			return errClient("Fargate only supports the FireLens config-file-type 'file'.")
		}
		if err := checkFargateLinux(c.LinuxParameters); err != nil {
			return err
		}
		if err := checkFargateLogging(c.LogConfiguration, hasRole); err != nil {
			return err
		}
	}
	return nil
}

func checkFargateLinux(p *types.LinuxParameters) error {
	if p == nil {
		return nil
	}
	for _, x := range []struct {
		name  string
		given bool
	}{
		{"devices", len(p.Devices) > 0}, {"sharedMemorySize", p.SharedMemorySize != nil},
		{"maxSwap", p.MaxSwap != nil}, {"swappiness", p.Swappiness != nil},
	} {
		if x.given {
			return errClient("Fargate does not support the Linux parameter '%s'.", x.name)
		}
	}
	if p.Capabilities != nil {
		for _, capability := range p.Capabilities.Add {
			if capability != "SYS_PTRACE" {
				return errClient("Fargate only supports adding the Linux capability SYS_PTRACE.")
			}
		}
	}
	return nil
}

func checkFargateLogging(l *types.LogConfiguration, hasRole bool) error {
	if l == nil {
		return nil
	}
	switch {
	case !slices.Contains([]types.LogDriver{types.LogDriverAwslogs, types.LogDriverSplunk, types.LogDriverAwsfirelens}, l.LogDriver):
		return errClient("Fargate does not support the log driver %s; use awslogs, splunk or awsfirelens.", l.LogDriver)
	case l.LogDriver != types.LogDriverAwslogs:
		return nil
	case !hasRole:
		return errClient("Fargate requires task definition to have execution role ARN to support log driver awslogs.")
	case l.Options["awslogs-stream-prefix"] == "":
		return errClient("Fargate requires the log driver awslogs option 'awslogs-stream-prefix'.")
	}
	return nil
}
