package ecs

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// Kinds of ARNs.
const (
	kindRelease  = "service-deployment"
	kindRevision = "service-revision"
)

// maxDescribedReleases is AWS's limit, defaultReleasePage how many are listed of a service by default.
const maxDescribedReleases, defaultReleasePage = 20, 20

func releaseARN(sc store.Scope, x *release) string {
	return arnOf(sc, kindRelease, x.Cluster, x.Service, x.ID)
}

func revisionARN(sc store.Scope, cluster, service, id string) string {
	return arnOf(sc, kindRevision, cluster, service, id)
}

// partOf reads the ARN of a part of a service: its key, which is empty if it is of
// another account or region.
func partOf(sc store.Scope, kind, arn string) (string, error) {
	a, ok := parseARN(arn)
	if !ok || a.Kind != kind || len(a.Path) != 3 {
		return "", errInvalidParameter("Invalid identifier: %s is not the ARN of a %s.", clip(arn), kind)
	}
	if a.Scope != sc {
		return "", nil
	}
	return memberKey(a.Path[0], a.Path[1]) + "/" + a.Path[2], nil
}

// releasesOf are a service's releases, the latest first.
func (s *Service) releasesOf(r store.Reader, sc store.Scope, service string) (all []*release) {
	for _, x := range s.releases.ListPrefix(r, sc, service+"/") {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *release) int { return cmp.Compare(a.descending(), b.descending()) })
	return all
}

// ListServiceDeployments lists a service's releases, the latest first.
func (s *Service) ListServiceDeployments(ctx context.Context, in *ecs.ListServiceDeploymentsInput) (*ecs.ListServiceDeploymentsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	_, r, err := s.serviceIn(snap, sc, in.Cluster, in.Service)
	if err != nil {
		return nil, err
	}
	size := in.MaxResults
	if size == nil {
		size = pointer(int32(defaultReleasePage))
	}
	byKey := map[string]*release{}
	keys, token, err := page(func(yield func(string) bool) {
		for _, x := range s.releasesOf(snap, sc, r.Key()) {
			key := x.descending()
			byKey[key] = x
			if x.passes(in) && !yield(key) {
				return
			}
		}
	}, size, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListServiceDeploymentsOutput{ServiceDeployments: []types.ServiceDeploymentBrief{}, NextToken: token}
	for _, key := range keys {
		x := byKey[key]
		out.ServiceDeployments = append(out.ServiceDeployments, types.ServiceDeploymentBrief{
			ServiceDeploymentArn: optional(releaseARN(sc, x)), ServiceArn: optional(serviceARNOf(sc, x.Cluster, x.Service)), ClusterArn: optional(clusterARN(sc, x.Cluster)),
			CreatedAt: &x.CreatedAt, StartedAt: optionalTime(x.StartedAt), FinishedAt: optionalTime(x.FinishedAt), Status: x.Status, StatusReason: optional(x.Reason),
			TargetServiceRevisionArn: optional(revisionARN(sc, x.Cluster, x.Service, x.Target)),
		})
	}
	return out, nil
}

// descending is a key that sorts the latest first.
func (x *release) descending() string {
	left := uint64(1<<63) - uint64(x.CreatedAt.UnixNano())
	return string(binary.BigEndian.AppendUint64(nil, left)) + x.ID
}

func (x *release) passes(in *ecs.ListServiceDeploymentsInput) bool {
	if c := in.CreatedAt; c != nil && (c.Before != nil && !x.CreatedAt.Before(*c.Before) || c.After != nil && !x.CreatedAt.After(*c.After)) {
		return false
	}
	return len(in.Status) == 0 || slices.Contains(in.Status, x.Status)
}

// DescribeServiceDeployments describes up to twenty releases.
func (s *Service) DescribeServiceDeployments(ctx context.Context, in *ecs.DescribeServiceDeploymentsInput) (*ecs.DescribeServiceDeploymentsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	keys, err := partsOf(sc, kindRelease, in.ServiceDeploymentArns)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeServiceDeploymentsOutput{ServiceDeployments: []types.ServiceDeployment{}, Failures: []types.Failure{}}
	for i, key := range keys {
		if x, ok := s.releases.Get(snap, sc, key); ok {
			out.ServiceDeployments = append(out.ServiceDeployments, s.releaseView(snap, sc, x))
			continue
		}
		out.Failures = append(out.Failures, types.Failure{Arn: &in.ServiceDeploymentArns[i], Reason: optional("MISSING")})
	}
	return out, nil
}

func partsOf(sc store.Scope, kind string, arns []string) (keys []string, err error) {
	if n := len(arns); n == 0 || n > maxDescribedReleases {
		return nil, errInvalidParameter("Between 1 and %d %s ARNs can be described at once.", maxDescribedReleases, kind)
	}
	for _, arn := range arns {
		key, err := partOf(sc, kind, arn)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// releaseView is a release as the API shows it; while it goes on, the numbers are those of now.
func (s *Service) releaseView(r store.Reader, sc store.Scope, x *release) types.ServiceDeployment {
	c := x.Configuration
	v := types.ServiceDeployment{
		ServiceDeploymentArn: optional(releaseARN(sc, x)), ServiceArn: optional(serviceARNOf(sc, x.Cluster, x.Service)), ClusterArn: optional(clusterARN(sc, x.Cluster)),
		CreatedAt: &x.CreatedAt, StartedAt: optionalTime(x.StartedAt), FinishedAt: optionalTime(x.FinishedAt), StoppedAt: optionalTime(x.StoppedAt), UpdatedAt: &x.UpdatedAt,
		Status: x.Status, StatusReason: optional(x.Reason), DeploymentConfiguration: &c,
	}
	desired, failed, threshold := x.Desired, x.Failed, x.Threshold
	service, there := s.services.Get(r, sc, memberKey(x.Cluster, x.Service))
	if there && !x.over() {
		desired, failed, threshold = service.desired(), service.failedOf(x.Target), service.breakerThreshold()
	}
	counts := s.countByStarter(r, sc, x.Cluster, x.Service)
	summary := func(id string, requested int32) types.ServiceRevisionSummary {
		out := types.ServiceRevisionSummary{Arn: optional(revisionARN(sc, x.Cluster, x.Service, id)), RequestedTaskCount: requested}
		if n := counts[deploymentPrefix+id]; n != nil {
			out.RunningTaskCount, out.PendingTaskCount = n.running, n.pending
		}
		return out
	}
	target := summary(x.Target, desired)
	v.TargetServiceRevision = &target
	x.showShift(&v)
	for _, id := range x.Sources {
		source := summary(id, 0)
		source.RequestedTaskCount = source.RunningTaskCount + source.PendingTaskCount
		x.showWeights(&source, deploymentPrefix+id)
		v.SourceServiceRevisions = append(v.SourceServiceRevisions, source)
	}
	if b := x.Rollback; b != nil {
		v.Rollback = &types.Rollback{Reason: &b.Reason, StartedAt: &b.StartedAt, ServiceRevisionArn: optional(revisionARN(sc, x.Cluster, x.Service, b.Revision))}
	}
	v.DeploymentCircuitBreaker = x.breakerView(failed, threshold)
	return v
}

// showShift shows how far the traffic has come.
func (x *release) showShift(v *types.ServiceDeployment) {
	if x.Shift == nil {
		return
	}
	v.LifecycleStage, v.LifecycleHookDetails = types.ServiceDeploymentLifecycleStage(x.Shift.Stage), x.hookViews()
	x.showWeights(v.TargetServiceRevision, deploymentPrefix+x.Target)
}

// showWeights shows the part of the traffic that a deployment is to have.
func (x *release) showWeights(v *types.ServiceRevisionSummary, id string) {
	if x.Shift == nil {
		return
	}
	production, test := x.weights()
	has, had := deploymentPrefix+x.Target, x.Shift.Live
	if x.Shift.Back {
		has = deploymentPrefix + x.Rollback.Revision
	}
	switch id {
	case has:
	case had:
		production, test = 100-production, 100-test
	default:
		production, test = 0, 0
	}
	v.RequestedProductionTrafficWeight, v.RequestedTestTrafficWeight = &production, &test
}

func (x *release) breakerView(failed, threshold int) *types.ServiceDeploymentCircuitBreaker {
	out := &types.ServiceDeploymentCircuitBreaker{FailureCount: int32(failed), Threshold: int32(threshold)}
	switch b := x.Configuration.DeploymentCircuitBreaker; {
	case b == nil || !b.Enable:
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusDisabled
	case x.Tripped:
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusTriggered
	case x.over():
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusMonitoringComplete
	default:
		out.Status = types.ServiceDeploymentRollbackMonitorsStatusMonitoring
	}
	return out
}

// countByStarter counts a service's tasks by the deployment that started them.
func (s *Service) countByStarter(r store.Reader, sc store.Scope, cluster, service string) map[string]*serviceCount {
	counts := map[string]*serviceCount{}
	for _, t := range s.tasksByService.List(r, sc, cluster+"/"+service) {
		if counts[t.StartedBy] == nil {
			counts[t.StartedBy] = &serviceCount{}
		}
		counts[t.StartedBy].add(t)
	}
	return counts
}

// StopServiceDeployment has the loop return to the revision before, whether or not the
// service asks for that on failures.
func (s *Service) StopServiceDeployment(ctx context.Context, in *ecs.StopServiceDeploymentInput) (*ecs.StopServiceDeploymentOutput, error) {
	if in.StopType != "" && in.StopType != types.StopServiceDeploymentStopTypeRollback {
		return nil, errInvalidParameter("The stop type %s is not valid: use ROLLBACK.", clip(string(in.StopType)))
	}
	sc, now := scopeOf(ctx), s.now().UTC()
	key, err := partOf(sc, kindRelease, deref(in.ServiceDeploymentArn))
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.releases.Get(tx, sc, key)
		if !ok {
			return &types.ServiceDeploymentNotFoundException{Message: optional("Service deployment not found.")}
		}
		switch {
		case old.over():
			return &types.ConflictException{Message: optional("The service deployment is " + string(old.Status) + ": only one that goes on can be stopped.")}
		case old.Rollback != nil || old.Status == types.ServiceDeploymentStatusRollbackRequested:
			return nil // it goes on with that
		}
		x := s.releases.Clone(old)
		x.Status, x.UpdatedAt = types.ServiceDeploymentStatusRollbackRequested, now
		s.releases.Put(tx, sc, key, x)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.StopServiceDeploymentOutput{ServiceDeploymentArn: in.ServiceDeploymentArn}, nil
}

// DescribeServiceRevisions describes up to twenty revisions.
func (s *Service) DescribeServiceRevisions(ctx context.Context, in *ecs.DescribeServiceRevisionsInput) (*ecs.DescribeServiceRevisionsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	keys, err := partsOf(sc, kindRevision, in.ServiceRevisionArns)
	if err != nil {
		return nil, err
	}
	out := &ecs.DescribeServiceRevisionsOutput{ServiceRevisions: []types.ServiceRevision{}, Failures: []types.Failure{}}
	for i, key := range keys {
		arn := &in.ServiceRevisionArns[i]
		v, ok := s.revisions.Get(snap, sc, key)
		if !ok {
			out.Failures = append(out.Failures, types.Failure{Arn: arn, Reason: optional("MISSING")})
			continue
		}
		a, _ := parseARN(*arn)
		shown := types.ServiceRevision{
			ServiceRevisionArn: arn, ServiceArn: optional(serviceARNOf(sc, a.Path[0], a.Path[1])), ClusterArn: optional(clusterARN(sc, a.Path[0])), CreatedAt: &v.CreatedAt,
			TaskDefinition: optional(taskDefinitionARN(sc, v.Family, v.Revision)), LaunchType: v.LaunchType, CapacityProviderStrategy: v.Providers, NetworkConfiguration: v.Network, LoadBalancers: v.LoadBalancers,
			ContainerImages: s.revisionImages(snap, sc, a.Path[0], v),
		}
		shown.PlatformVersion, shown.PlatformFamily = v.platform()
		shown.ResolvedConfiguration = v.resolved()
		out.ServiceRevisions = append(out.ServiceRevisions, shown)
	}
	return out, nil
}

// resolved are the target groups that a revision's tasks take, nil without any.
func (v *revision) resolved() *types.ResolvedConfiguration {
	if len(v.LoadBalancers) == 0 {
		return nil
	}
	d, out := deployment{version: v.version, Alternate: v.Alternate}, &types.ResolvedConfiguration{}
	for i := range d.LoadBalancers {
		b := &d.LoadBalancers[i]
		shown := types.ServiceRevisionLoadBalancer{TargetGroupArn: optional(d.groupOf(b))}
		if a := b.AdvancedConfiguration; a != nil {
			shown.ProductionListenerRule = a.ProductionListenerRule
		}
		out.LoadBalancers = append(out.LoadBalancers, shown)
	}
	return out
}

// revisionImages are a revision's images, with their digests as far as a task of it has
// pulled them.
func (s *Service) revisionImages(r store.Reader, sc store.Scope, cluster string, v *revision) (images []types.ContainerImage) {
	d, err := s.definition(r, sc, definitionRef(v.version))
	if err != nil {
		return nil
	}
	digests := map[string]string{}
	for _, t := range s.tasksByStarter.List(r, sc, cluster+"/"+deploymentPrefix+v.ID) {
		for i := range t.Containers {
			if c := &t.Containers[i]; c.ImageDigest != "" {
				digests[c.Name] = c.ImageDigest
			}
		}
	}
	for i := range d.Definition.ContainerDefinitions {
		c := &d.Definition.ContainerDefinitions[i]
		images = append(images, types.ContainerImage{ContainerName: c.Name, Image: c.Image, ImageDigest: optional(digests[deref(c.Name)])})
	}
	return images
}
