package ecs

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// taskSize is what a task needs, counted exactly as agents count it: what the
// control plane believes to fit and the agent does not would block the agent.
type taskSize struct {
	cpu, memory, gpus int64
	tcp, udp          []uint16
	// taskCPU and taskMemory are the task's own settings as the API shows them,
	// empty without.
	taskCPU, taskMemory string
}

func sizeOf(d *types.TaskDefinition, o *types.TaskOverride) (taskSize, error) {
	z := taskSize{taskCPU: deref(d.Cpu), taskMemory: deref(d.Memory)}
	if o != nil && deref(o.Cpu) != "" {
		z.taskCPU = *o.Cpu
	}
	if o != nil && deref(o.Memory) != "" {
		z.taskMemory = *o.Memory
	}
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		co := overrideFor(o, c.Name)
		z.cpu += containerCPU(c, co)
		if r := containerReservation(c, co); r > 0 {
			z.memory += r
		} else {
			z.memory += containerMemory(c, co)
		}
		z.gpus += containerGPUs(c, co)
		z.addPorts(d.NetworkMode, c)
	}
	var ok bool
	if z.taskCPU != "" {
		if z.cpu, ok = parseCPU(z.taskCPU); !ok {
			return z, errInvalidParameter("Invalid 'cpu' setting for task.")
		}
		z.taskCPU = decimal(z.cpu)
	}
	if z.taskMemory != "" {
		if z.memory, ok = parseMemory(z.taskMemory); !ok {
			return z, errInvalidParameter("Invalid 'memory' setting for task.")
		}
		z.taskMemory = decimal(z.memory)
	}
	return z, nil
}

// addPorts collects the fixed host ports; awsvpc tasks take none of the host's.
func (z *taskSize) addPorts(mode types.NetworkMode, c *types.ContainerDefinition) {
	if mode == types.NetworkModeAwsvpc || mode == types.NetworkModeNone {
		return
	}
	for _, p := range c.PortMappings {
		port := deref(p.HostPort)
		if mode == types.NetworkModeHost && port == 0 {
			port = deref(p.ContainerPort)
		}
		if port <= 0 || port > 65535 {
			continue
		}
		list := &z.tcp
		if p.Protocol == types.TransportProtocolUdp {
			list = &z.udp
		}
		if !slices.Contains(*list, uint16(port)) {
			*list = append(*list, uint16(port))
		}
	}
}

func containerCPU(c *types.ContainerDefinition, o *types.ContainerOverride) int64 {
	if o != nil && o.Cpu != nil {
		return int64(*o.Cpu)
	}
	return int64(c.Cpu)
}

func containerMemory(c *types.ContainerDefinition, o *types.ContainerOverride) int64 {
	if o != nil && o.Memory != nil {
		return int64(*o.Memory)
	}
	return int64(deref(c.Memory))
}

func containerReservation(c *types.ContainerDefinition, o *types.ContainerOverride) int64 {
	if o != nil && o.MemoryReservation != nil {
		return int64(*o.MemoryReservation)
	}
	return int64(deref(c.MemoryReservation))
}

func containerGPUs(c *types.ContainerDefinition, o *types.ContainerOverride) (n int64) {
	requirements := c.ResourceRequirements
	if o != nil && len(o.ResourceRequirements) > 0 {
		requirements = o.ResourceRequirements
	}
	for _, r := range requirements {
		if r.Type == types.ResourceTypeGpu {
			v, _ := strconv.ParseInt(deref(r.Value), 10, 32) // checked before
			n += v
		}
	}
	return n
}

func overrideFor(o *types.TaskOverride, name *string) *types.ContainerOverride {
	if o == nil {
		return nil
	}
	for i := range o.ContainerOverrides {
		if deref(o.ContainerOverrides[i].Name) == deref(name) {
			return &o.ContainerOverrides[i]
		}
	}
	return nil
}

// checkOverrides holds overrides against the task definition.
func checkOverrides(d *types.TaskDefinition, o *types.TaskOverride) error {
	if o == nil {
		return nil
	}
	//lint:ignore SA1019 an override that AWS still has is refused by name
	if len(o.InferenceAcceleratorOverrides) > 0 {
		return errUnsupported("inferenceAcceleratorOverrides are not supported: Amazon Elastic Inference is no longer available.")
	}
	seen := map[string]bool{}
	for i := range o.ContainerOverrides {
		c := &o.ContainerOverrides[i]
		name := deref(c.Name)
		if name == "" {
			return errInvalidParameter("Container name must be specified in the container override.")
		}
		if !slices.ContainsFunc(d.ContainerDefinitions, func(k types.ContainerDefinition) bool { return deref(k.Name) == name }) {
			return errInvalidParameter("Override for container named %s is not a container in the TaskDefinition.", clip(name))
		}
		if seen[name] {
			return errInvalidParameter("Container named %s is overridden more than once.", clip(name))
		}
		seen[name] = true
		if err := checkContainerOverride(c); err != nil {
			return err
		}
	}
	if e := o.EphemeralStorage; e != nil && (e.SizeInGiB < 21 || e.SizeInGiB > 200) {
		return errInvalidParameter("The ephemeral storage size must be between 21 and 200 GiB.")
	}
	return nil
}

func checkContainerOverride(c *types.ContainerOverride) error {
	name := clip(deref(c.Name))
	if len(c.EnvironmentFiles) > 0 {
		return errUnsupported("environmentFiles are not supported yet: there is no S3.")
	}
	for _, e := range c.Environment {
		if deref(e.Name) == "" {
			return errInvalidParameter("Container override %s: an environment variable has no name.", name)
		}
	}
	if deref(c.Cpu) < 0 || deref(c.Cpu) > 1<<20 {
		return errInvalidParameter("Container override %s: cpu must be between 0 and %d.", name, 1<<20)
	}
	for _, m := range []*int32{c.Memory, c.MemoryReservation} {
		if m != nil && *m < 6 {
			return errInvalidParameter("Container override %s: memory must be at least 6 MiB.", name)
		}
	}
	for _, r := range c.ResourceRequirements {
		if r.Type != types.ResourceTypeGpu {
			return errUnsupported("Container override %s: resource type %s is not supported.", name, clip(string(r.Type)))
		}
		if r.SharingStrategy != nil {
			return errUnsupported("Container override %s: sharingStrategy is not supported.", name)
		}
		if n, err := strconv.ParseInt(deref(r.Value), 10, 32); err != nil || n < 1 || n > 1024 {
			return errInvalidParameter("Container override %s: the number of GPUs is invalid.", name)
		}
	}
	return nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// decimalIf is decimal, and empty for 0.
func decimalIf(n int64) string {
	if n == 0 {
		return ""
	}
	return decimal(n)
}
