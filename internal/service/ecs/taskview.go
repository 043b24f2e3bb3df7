package ecs

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// taskView is a task as the API shows it.
func (s *Service) taskView(r store.Reader, sc store.Scope, t *Task, tags bool) types.Task {
	v := types.Task{
		TaskArn: optional(taskARN(sc, t.Cluster, t.ID)), ClusterArn: optional(clusterARN(sc, t.Cluster)),
		TaskDefinitionArn: optional(taskDefinitionARN(sc, t.Family, t.Revision)),
		AvailabilityZone:  optional(t.Zone), CapacityProviderName: optional(t.CapacityProvider),
		LaunchType: t.LaunchType, PlatformVersion: optional(t.PlatformVersion), PlatformFamily: optional(t.PlatformFamily),
		Group: optional(t.Group), StartedBy: optional(t.StartedBy), Cpu: optional(t.CPU), Memory: optional(t.Memory),
		Overrides: overridesView(t), Attributes: t.Attributes,
		LastStatus: &t.LastStatus, DesiredStatus: &t.DesiredStatus, StopCode: t.StopCode,
		StoppedReason: optional(t.StoppedReason), Version: t.Version,
		CreatedAt: &t.CreatedAt, PullStartedAt: optionalTime(t.PullStartedAt), PullStoppedAt: optionalTime(t.PullStoppedAt),
		StartedAt: optionalTime(t.StartedAt), StoppingAt: optionalTime(t.StoppingAt), StoppedAt: optionalTime(t.StoppedAt),
		ExecutionStoppedAt: optionalTime(t.ExecutionStoppedAt),
		HealthStatus:       t.Health, Attachments: []types.Attachment{}, Containers: []types.Container{},
		//lint:ignore SA1019 AWS still answers with the empty member
		Tags: []types.Tag{}, InferenceAccelerators: []types.InferenceAccelerator{},
	}
	if t.InstanceID != "" {
		v.ContainerInstanceArn = optional(instanceARN(sc, t.Cluster, t.InstanceID))
	}
	v.Connectivity, v.ConnectivityAt = s.connectivity(r, sc, t)
	if t.Ephemeral > 0 {
		v.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: t.Ephemeral}
		v.FargateEphemeralStorage = &types.TaskEphemeralStorage{SizeInGiB: t.Ephemeral}
	}
	if t.ENI != nil {
		v.Attachments = append(v.Attachments, attachmentView(sc, t.ENI))
	}
	for i := range t.Containers {
		v.Containers = append(v.Containers, containerView(sc, t, &t.Containers[i]))
	}
	if tags && t.Tags != nil {
		v.Tags = t.Tags
	}
	return v
}

// connectivity of a task is its node's, from the task's beginning on.
func (s *Service) connectivity(r store.Reader, sc store.Scope, t *Task) (types.Connectivity, *time.Time) {
	n, ok := s.node(r, sc, t.NodeID)
	if !ok || t.LastStatus == taskStopped {
		return types.ConnectivityConnected, &t.CreatedAt
	}
	since := &t.CreatedAt
	if n.ConnectivityAt.After(t.CreatedAt) {
		since = &n.ConnectivityAt
	}
	if n.Connected {
		return types.ConnectivityConnected, since
	}
	return types.ConnectivityDisconnected, since
}

// overridesView always names every container, as AWS does.
func overridesView(t *Task) *types.TaskOverride {
	v := types.TaskOverride{}
	if t.Overrides != nil {
		v = *t.Overrides
	}
	containers := make([]types.ContainerOverride, 0, len(t.Containers))
	for i := range t.Containers {
		if o := overrideFor(t.Overrides, &t.Containers[i].Name); o != nil {
			containers = append(containers, *o)
		} else {
			containers = append(containers, types.ContainerOverride{Name: &t.Containers[i].Name})
		}
	}
	v.ContainerOverrides = containers
	//lint:ignore SA1019 AWS still answers with the empty member
	if v.InferenceAcceleratorOverrides == nil {
		//lint:ignore SA1019 AWS still answers with the empty member
		v.InferenceAcceleratorOverrides = []types.InferenceAcceleratorOverride{}
	}
	return &v
}

func attachmentView(sc store.Scope, e *ENI) types.Attachment {
	detail := func(name, value string) types.KeyValuePair { return types.KeyValuePair{Name: &name, Value: &value} }
	return types.Attachment{
		Id: &e.AttachmentID, Type: optional("ElasticNetworkInterface"), Status: &e.Status,
		Details: []types.KeyValuePair{
			detail("subnetId", e.SubnetID), detail("networkInterfaceId", e.ID), detail("macAddress", e.MAC),
			detail("privateDnsName", privateDNSName(sc.Region, e.Address)), detail("privateIPv4Address", e.Address),
		},
	}
}

func containerView(sc store.Scope, t *Task, c *TaskContainer) types.Container {
	v := types.Container{
		ContainerArn: optional(containerARN(sc, t.Cluster, t.ID, c.ID)), TaskArn: optional(taskARN(sc, t.Cluster, t.ID)),
		Name: &c.Name, Image: &c.Image, ImageDigest: optional(c.ImageDigest), RuntimeId: optional(c.RuntimeID),
		LastStatus: &c.LastStatus, ExitCode: c.ExitCode, Reason: optional(c.Reason),
		NetworkBindings: c.NetworkBindings, NetworkInterfaces: []types.NetworkInterface{},
		HealthStatus: c.Health, Cpu: optional(c.CPU), Memory: optional(c.Memory),
		MemoryReservation: optional(c.MemoryReservation), GpuIds: c.GPUs,
	}
	if v.HealthStatus == "" {
		v.HealthStatus = types.HealthStatusUnknown
	}
	if v.NetworkBindings == nil {
		v.NetworkBindings = []types.NetworkBinding{}
	}
	if t.ENI != nil {
		v.NetworkInterfaces = append(v.NetworkInterfaces, types.NetworkInterface{
			AttachmentId: &t.ENI.AttachmentID, PrivateIpv4Address: &t.ENI.Address,
		})
	}
	return v
}
