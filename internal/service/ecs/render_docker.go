package ecs

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

const mib = 1 << 20

// secretARN takes service and region out of a secret's or parameter's ARN.
func secretARN(ref string) (service, region string, ok bool) {
	f := strings.SplitN(ref, ":", 6)
	if len(f) != 6 || f[0] != "arn" {
		return "", "", false
	}
	return f[2], f[3], true
}

// dockerConfig is what the protocol has no member for, of Docker's Config.
func dockerConfig(sc store.Scope, t *Task, d *types.TaskDefinition, c *types.ContainerDefinition) acs.Config {
	out := acs.Config{
		Hostname: deref(c.Hostname), User: deref(c.User), WorkingDir: deref(c.WorkingDirectory),
		Tty: deref(c.PseudoTerminal), OpenStdin: deref(c.Interactive), NetworkDisabled: deref(c.DisableNetworking),
		Labels: map[string]string{}, Healthcheck: dockerHealthcheck(c.HealthCheck),
	}
	for k, v := range c.DockerLabels {
		out.Labels[k] = v
	}
	for k, v := range map[string]string{
		"cluster": t.Cluster, "container-name": deref(c.Name), "task-arn": taskARN(sc, t.Cluster, t.ID),
		"task-definition-family": t.Family, "task-definition-version": strconv.Itoa(int(d.Revision)),
	} {
		out.Labels["com.amazonaws.ecs."+k] = v
	}
	return out
}

// dockerHealthcheck fills ECS's defaults in: every 30 s, 5 s long, 3 times.
func dockerHealthcheck(h *types.HealthCheck) *acs.Healthcheck {
	if h == nil || len(h.Command) == 0 {
		return nil
	}
	seconds := func(p *int32, missing int32) int64 {
		if p != nil {
			missing = *p
		}
		return int64(missing) * int64(time.Second)
	}
	out := &acs.Healthcheck{
		Test: h.Command, Interval: seconds(h.Interval, 30), Timeout: seconds(h.Timeout, 5),
		StartPeriod: seconds(h.StartPeriod, 0), Retries: 3,
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out
}

// dockerHostConfig is the same of Docker's HostConfig.
func dockerHostConfig(d *types.TaskDefinition, c *types.ContainerDefinition, o *types.ContainerOverride) acs.HostConfig {
	out := acs.HostConfig{
		NetworkMode: dockerNetworkMode(d), MemoryReservation: containerReservation(c, o) * mib,
		Privileged: deref(c.Privileged), ReadonlyRootfs: deref(c.ReadonlyRootFilesystem),
		DNS: c.DnsServers, DNSSearch: c.DnsSearchDomains, SecurityOpt: c.DockerSecurityOptions,
	}
	if l := c.LogConfiguration; l != nil {
		out.LogConfig = acs.LogConfig{Type: string(l.LogDriver), Config: l.Options}
	}
	for _, u := range c.Ulimits {
		out.Ulimits = append(out.Ulimits, acs.Ulimit{Name: string(u.Name), Soft: int64(u.SoftLimit), Hard: int64(u.HardLimit)})
	}
	for _, h := range c.ExtraHosts {
		out.ExtraHosts = append(out.ExtraHosts, deref(h.Hostname)+":"+deref(h.IpAddress))
	}
	for _, x := range c.SystemControls {
		if out.Sysctls == nil {
			out.Sysctls = map[string]string{}
		}
		out.Sysctls[deref(x.Namespace)] = deref(x.Value)
	}
	if c.LinuxParameters != nil {
		linuxParameters(&out, c.LinuxParameters, containerMemory(c, o))
	}
	return out
}

// dockerNetworkMode: an awsvpc task's containers join a namespace that the agent
// makes.
func dockerNetworkMode(d *types.TaskDefinition) string {
	switch m := networkMode(d); m {
	case types.NetworkModeAwsvpc:
		return ""
	default:
		return string(m)
	}
}

func linuxParameters(out *acs.HostConfig, p *types.LinuxParameters, memory int64) {
	out.Init = p.InitProcessEnabled
	out.ShmSize = int64(deref(p.SharedMemorySize)) * mib
	if p.Capabilities != nil {
		out.CapAdd, out.CapDrop = p.Capabilities.Add, p.Capabilities.Drop
	}
	if p.MaxSwap != nil && memory > 0 {
		// Docker counts memory and swap together.
		out.MemorySwap = (memory + int64(*p.MaxSwap)) * mib
		if p.Swappiness != nil {
			n := int64(*p.Swappiness)
			out.MemorySwappiness = &n
		}
	}
	for _, m := range p.Tmpfs {
		if out.Tmpfs == nil {
			out.Tmpfs = map[string]string{}
		}
		options := append([]string{fmt.Sprintf("size=%dm", m.Size)}, m.MountOptions...)
		out.Tmpfs[deref(m.ContainerPath)] = strings.Join(options, ",")
	}
	for _, v := range p.Devices {
		out.Devices = append(out.Devices, renderDevice(v))
	}
}

func renderDevice(v types.Device) acs.DeviceMapping {
	out := acs.DeviceMapping{PathOnHost: deref(v.HostPath), PathInContainer: deref(v.ContainerPath)}
	if out.PathInContainer == "" {
		out.PathInContainer = out.PathOnHost
	}
	for _, p := range v.Permissions {
		switch p {
		case types.DeviceCgroupPermissionRead:
			out.CgroupPermissions += "r"
		case types.DeviceCgroupPermissionWrite:
			out.CgroupPermissions += "w"
		case types.DeviceCgroupPermissionMknod:
			out.CgroupPermissions += "m"
		}
	}
	if out.CgroupPermissions == "" {
		out.CgroupPermissions = "rwm"
	}
	return out
}
