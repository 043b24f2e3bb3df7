package ecs

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// maxDefinitionBytes is AWS's limit of a task definition as JSON.
const maxDefinitionBytes = 64 << 10

// compactSize is the length of v as JSON without the members that are not set.
func compactSize(v any) int {
	raw, err := json.Marshal(v)
	if err != nil {
		return math.MaxInt
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return math.MaxInt
	}
	if raw, err = json.Marshal(compact(tree)); err != nil {
		return math.MaxInt
	}
	return len(raw)
}

func compact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, member := range v {
			switch member {
			case nil, "":
				delete(v, k)
			default:
				v[k] = compact(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = compact(v[i])
		}
	}
	return v
}

// normalize fills in the defaults that AWS shows of a task definition that was
// checked.
func normalize(sc store.Scope, d *types.TaskDefinition) {
	if n, ok := parseCPU(deref(d.Cpu)); ok {
		d.Cpu = optional(decimal(n))
	}
	if n, ok := parseMemory(deref(d.Memory)); ok {
		d.Memory = optional(decimal(n))
	}
	d.TaskRoleArn, d.ExecutionRoleArn = roleARN(sc, d.TaskRoleArn), roleARN(sc, d.ExecutionRoleArn)
	d.Volumes = list(d.Volumes)
	d.PlacementConstraints = list(d.PlacementConstraints)
	for i := range d.Volumes {
		normalizeVolume(&d.Volumes[i])
	}
	for i := range d.ContainerDefinitions {
		normalizeContainer(d.NetworkMode, &d.ContainerDefinitions[i])
	}
}

// list is the list, never nil: members that AWS always shows.
func list[T any](of []T) []T {
	if of == nil {
		return []T{}
	}
	return of
}

// roleARN makes an ARN of a role's short name.
func roleARN(sc store.Scope, ref *string) *string {
	role := deref(ref)
	if role == "" || strings.HasPrefix(role, "arn:") {
		return optional(role)
	}
	return optional("arn:" + partition(sc.Region) + ":iam::" + sc.Account + ":role/" + role)
}

func normalizeVolume(v *types.Volume) {
	switch {
	case v.DockerVolumeConfiguration != nil:
		if v.DockerVolumeConfiguration.Scope == "" {
			v.DockerVolumeConfiguration.Scope = types.ScopeTask
		}
	case v.EfsVolumeConfiguration != nil:
		if deref(v.EfsVolumeConfiguration.RootDirectory) == "" {
			v.EfsVolumeConfiguration.RootDirectory = optional("/")
		}
	case v.FsxWindowsFileServerVolumeConfiguration == nil && v.S3filesVolumeConfiguration == nil && !deref(v.ConfiguredAtLaunch) && v.Host == nil:
		v.Host = &types.HostVolumeProperties{}
	}
}

func normalizeContainer(mode types.NetworkMode, c *types.ContainerDefinition) {
	if c.Essential == nil {
		essential := true
		c.Essential = &essential
	}
	c.PortMappings = list(c.PortMappings)
	c.Environment = list(c.Environment)
	c.MountPoints = list(c.MountPoints)
	c.VolumesFrom = list(c.VolumesFrom)
	c.SystemControls = list(c.SystemControls)
	for i := range c.PortMappings {
		p := &c.PortMappings[i]
		if p.Protocol == "" {
			p.Protocol = types.TransportProtocolTcp
		}
		if deref(p.ContainerPortRange) != "" {
			continue
		}
		port := deref(p.HostPort)
		if mode == types.NetworkModeAwsvpc || mode == types.NetworkModeHost {
			port = deref(p.ContainerPort)
		}
		p.HostPort = &port
	}
	if h := c.HealthCheck; h != nil {
		for _, x := range []struct {
			field   **int32
			missing int32
		}{{&h.Interval, 30}, {&h.Timeout, 5}, {&h.Retries, 3}} {
			if *x.field == nil {
				*x.field = &x.missing
			}
		}
	}
	if p := c.RestartPolicy; p != nil && deref(p.Enabled) && p.RestartAttemptPeriod == nil {
		period := int32(300)
		p.RestartAttemptPeriod = &period
	}
}
