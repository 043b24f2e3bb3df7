package ecs

import (
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// instanceView is a container instance as the API shows it.
func (s *Service) instanceView(r store.Reader, sc store.Scope, n *Node, ci *ContainerInstance, tags, health bool) types.ContainerInstance {
	v := types.ContainerInstance{
		ContainerInstanceArn: optional(instanceARN(sc, ci.Cluster, ci.ID)), Status: &ci.Status,
		StatusReason: optional(ci.StatusReason), RegisteredAt: &ci.RegisteredAt, Version: ci.Version,
		Attachments: []types.Attachment{}, Tags: []types.Tag{},
	}
	if tags && ci.Tags != nil {
		v.Tags = ci.Tags
	}
	if n == nil {
		return v
	}
	v.Ec2InstanceId, v.VersionInfo = &n.ID, n.VersionInfo
	v.AgentConnected = agentConnected(n, ci)
	if !n.LostAt.IsZero() && v.StatusReason == nil && ci.Status != statusInactive {
		v.StatusReason = optional(lostReason(n, n.LostAt, s.deps.LostAfter))
	}
	v.Attributes = instanceAttributes(n, ci)
	u := s.usage(r, sc, n.ID)
	own := u.member(ci.Cluster, ci.ID)
	v.PendingTasksCount, v.RunningTasksCount = int32(own.pending), int32(own.running)
	v.RegisteredResources = resourceView(n.Resources.CPU, n.Resources.Memory, n.Resources.TCP, n.Resources.UDP, n.Resources.GPUs)
	v.RemainingResources = resourceView(n.Resources.CPU-u.cpu, n.Resources.Memory-u.memory,
		portList(u.tcp, keptPorts(n.Resources.TCP)), portList(u.udp, keptPorts(n.Resources.UDP)), u.freeGPUs(n))
	if health {
		v.HealthStatus = instanceHealth(n, ci)
	}
	return v
}

// resourceView lists resources in AWS's order; PORTS are those that are taken.
func resourceView(cpu, memory int64, tcp, udp, gpus []string) []types.Resource {
	integer := func(name string, n int64) types.Resource {
		return types.Resource{Name: &name, Type: optional("INTEGER"), IntegerValue: int32(max(min(n, 1<<31-1), -1<<31))}
	}
	set := func(name string, values []string) types.Resource {
		if values == nil {
			values = []string{}
		}
		return types.Resource{Name: &name, Type: optional("STRINGSET"), StringSetValue: values}
	}
	list := []types.Resource{integer("CPU", cpu), integer("MEMORY", memory), set("PORTS", tcp), set("PORTS_UDP", udp)}
	if len(gpus) > 0 {
		list = append(list, set("GPU", gpus))
	}
	return list
}

// instanceHealth is what the agent said of its container runtime, and whether
// it is there to say anything.
func instanceHealth(n *Node, ci *ContainerInstance) *types.ContainerInstanceHealthStatus {
	status := types.InstanceHealthCheckStateInsufficientData
	switch n.Runtime.Status {
	case "OK":
		status = types.InstanceHealthCheckStateOk
	case "IMPAIRED":
		status = types.InstanceHealthCheckStateImpaired
	case "INITIALIZING":
		status = types.InstanceHealthCheckStateInitializing
	}
	if !agentConnected(n, ci) {
		status = types.InstanceHealthCheckStateInsufficientData
	}
	h := &types.ContainerInstanceHealthStatus{OverallStatus: status, Details: []types.InstanceHealthCheckResult{}}
	if n.Runtime.Status != "" {
		h.Details = append(h.Details, types.InstanceHealthCheckResult{
			Type: types.InstanceHealthCheckTypeContainerRuntime, Status: status,
			LastUpdated: optionalTime(n.Runtime.LastUpdated), LastStatusChange: optionalTime(n.Runtime.LastStatusChange),
		})
	}
	return h
}
