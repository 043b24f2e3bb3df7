package ecs

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// maxDescribedServices is AWS's limit.
const maxDescribedServices = 10

// DescribeServices describes up to ten services.
func (s *Service) DescribeServices(ctx context.Context, in *ecs.DescribeServicesInput) (*ecs.DescribeServicesOutput, error) {
	switch n := len(in.Services); {
	case n == 0:
		return nil, errInvalidParameter("Services cannot be empty.")
	case n > maxDescribedServices:
		return nil, errInvalidParameter("Services cannot have more than %d elements", maxDescribedServices)
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeServicesOutput{Services: []types.Service{}, Failures: []types.Failure{}}
	for _, ref := range in.Services {
		r, err := s.serviceOf(snap, sc, c.Name, ref)
		if message, refused := refusalOf(err); refused && message != "Service not found." {
			return nil, err
		}
		if err != nil {
			out.Failures = append(out.Failures, types.Failure{Arn: optional(serviceARNOf(sc, c.Name, lastPart(ref))), Reason: optional("MISSING")})
			continue
		}
		out.Services = append(out.Services, s.serviceView(snap, sc, r, slices.Contains(in.Include, types.ServiceFieldTags)))
	}
	return out, nil
}

// defaultServicePage is how many ListServices lists that is not told.
const defaultServicePage = 10

// ListServices lists the ARNs of a cluster's services.
func (s *Service) ListServices(ctx context.Context, in *ecs.ListServicesInput) (*ecs.ListServicesOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	size := in.MaxResults
	if size == nil {
		size = pointer(int32(defaultServicePage))
	}
	keys, token, err := page(func(yield func(string) bool) {
		for key, r := range s.services.ListPrefix(snap, sc, c.Name+"/") {
			if r.Status != statusInactive && r.passes(in) && !yield(key) {
				return
			}
		}
	}, size, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListServicesOutput{ServiceArns: []string{}, NextToken: token}
	for _, key := range keys {
		out.ServiceArns = append(out.ServiceArns, arnOf(sc, "service", key))
	}
	return out, nil
}

func (s *serviceRecord) passes(in *ecs.ListServicesInput) bool {
	if in.SchedulingStrategy != "" && in.SchedulingStrategy != s.scheduling() {
		return false
	}
	return in.LaunchType == "" || len(s.Deployments) > 0 && s.Deployments[0].LaunchType == in.LaunchType
}

// serviceView is a service as the API shows it.
func (s *Service) serviceView(r store.Reader, sc store.Scope, x *serviceRecord, tags bool) types.Service {
	c := x.Configuration
	v := types.Service{
		ServiceArn: optional(serviceARNOf(sc, x.Cluster, x.Name)), ServiceName: &x.Name, ClusterArn: optional(clusterARN(sc, x.Cluster)),
		Status: &x.Status, DesiredCount: x.desired(), CreatedAt: &x.CreatedAt, CreatedBy: optional(x.CreatedBy),
		DeploymentConfiguration: &c, DeploymentController: &types.DeploymentController{Type: types.DeploymentControllerTypeEcs},
		SchedulingStrategy: x.scheduling(), AvailabilityZoneRebalancing: x.rebalancing(),
		PlacementConstraints: x.Constraints, PlacementStrategy: x.Strategy, PropagateTags: x.Propagate, EnableECSManagedTags: x.ManagedTags,
		LoadBalancers: []types.LoadBalancer{}, ServiceRegistries: []types.ServiceRegistry{}, Deployments: []types.Deployment{}, Events: []types.ServiceEvent{},
	}
	if v.PropagateTags == "" {
		v.PropagateTags = types.PropagateTagsNone
	}
	if v.PlacementConstraints == nil {
		v.PlacementConstraints = []types.PlacementConstraint{}
	}
	if v.PlacementStrategy == nil {
		v.PlacementStrategy = []types.PlacementStrategy{}
	}
	counts := s.countByStarter(r, sc, x.Cluster, x.Name)
	for _, n := range counts {
		v.RunningCount += n.running
		v.PendingCount += n.pending
	}
	for i := range x.Deployments {
		shown := x.deploymentView(sc, i, counts[x.Deployments[i].ID])
		v.Deployments = append(v.Deployments, shown)
		v.CurrentServiceRevisions = append(v.CurrentServiceRevisions, types.ServiceCurrentRevisionSummary{
			Arn: optional(revisionARN(sc, x.Cluster, x.Name, x.Deployments[i].revisionID())), RequestedTaskCount: shown.DesiredCount,
			RunningTaskCount: shown.RunningCount, PendingTaskCount: shown.PendingCount,
		})
	}
	if x.Release != "" {
		v.CurrentServiceDeployment = optional(releaseARN(sc, &release{Cluster: x.Cluster, Service: x.Name, ID: x.Release}))
	}
	if len(x.Deployments) > 0 {
		d := &x.Deployments[0]
		v.TaskDefinition = optional(taskDefinitionARN(sc, d.Family, d.Revision))
		v.LaunchType, v.CapacityProviderStrategy, v.NetworkConfiguration = d.LaunchType, d.Providers, d.Network
		if len(d.LoadBalancers) > 0 {
			v.LoadBalancers, v.HealthCheckGracePeriodSeconds = d.LoadBalancers, &x.Grace
		}
		v.PlatformVersion, v.PlatformFamily = d.platform()
	}
	for i := range x.Events {
		e := &x.Events[i]
		v.Events = append(v.Events, types.ServiceEvent{Id: optional(deriveUUID(e.ID, "event")), CreatedAt: &e.At, Message: &e.Message})
	}
	if tags {
		v.Tags = x.Tags
		if v.Tags == nil {
			v.Tags = []types.Tag{}
		}
	}
	return v
}

// serviceCount counts a deployment's tasks.
type serviceCount struct{ running, pending int32 }

func (n *serviceCount) add(t *Task) {
	switch t.LastStatus {
	case taskProvisioning, taskPending, taskActivating:
		n.pending++
	case taskRunning:
		n.running++
	}
}

func (s *serviceRecord) deploymentView(sc store.Scope, i int, n *serviceCount) types.Deployment {
	d := &s.Deployments[i]
	out := types.Deployment{
		Id: &d.ID, Status: optional("ACTIVE"), TaskDefinition: optional(taskDefinitionARN(sc, d.Family, d.Revision)),
		CreatedAt: &d.CreatedAt, UpdatedAt: &d.UpdatedAt, FailedTasks: int32(d.Failed), LaunchType: d.LaunchType,
		CapacityProviderStrategy: d.Providers, NetworkConfiguration: d.Network, RolloutState: d.State, RolloutStateReason: optional(d.Reason),
	}
	out.PlatformVersion, out.PlatformFamily = d.platform()
	if i == 0 {
		out.Status, out.DesiredCount = optional("PRIMARY"), s.desired()
	}
	if n != nil {
		out.RunningCount, out.PendingCount = n.running, n.pending
		if i > 0 {
			out.DesiredCount = n.running + n.pending
		}
	}
	return out
}

// platform is Fargate's version and family, nothing for others.
func (v *version) platform() (ver, family *string) {
	if v.LaunchType != types.LaunchTypeFargate && len(v.Providers) == 0 {
		return nil, nil
	}
	if v.Platform != "" && v.Platform != "LATEST" {
		return optional(v.Platform), optional("Linux")
	}
	return optional("LATEST"), optional("Linux")
}
