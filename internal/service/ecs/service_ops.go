package ecs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// CreateService makes a service; the loop starts its tasks.
func (s *Service) CreateService(ctx context.Context, in *ecs.CreateServiceInput) (*ecs.CreateServiceOutput, error) {
	r, err := s.wantedService(ctx, in)
	if err != nil {
		return nil, err
	}
	sc, generation, id, release := scopeOf(ctx), s.id(), deploymentID(derive(s.id(), "deployment", 32)), releaseID(derive(s.id(), "release", 32))
	var shown types.Service
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.clusterForWrite(tx, sc, in.Cluster, generation, r.CreatedAt)
		if err != nil {
			return err
		}
		made := s.services.Clone(r)
		made.Cluster = c.Name
		v, err := s.versionOf(tx, sc, c, versionAsked{
			daemon: made.daemon(), definition: deref(in.TaskDefinition), launchType: in.LaunchType, providers: in.CapacityProviderStrategy, platform: deref(in.PlatformVersion), network: in.NetworkConfiguration,
			balancers: in.LoadBalancers,
		})
		if err != nil {
			return err
		}
		if err := checkPlacement(v, made); err != nil {
			return err
		}
		if err := checkGrace(in.HealthCheckGracePeriodSeconds, v); err != nil {
			return err
		}
		if err := s.checkShift(&made.Configuration, v); err != nil {
			return err
		}
		if err := made.rebalance(in.AvailabilityZoneRebalancing, v); err != nil {
			return err
		}
		if old, ok := s.services.Get(tx, sc, made.Key()); ok && old.Status != statusInactive {
			if old.Status == statusActive && old.Token != "" && old.Token == made.Token && old.Request == made.Request {
				shown = s.serviceView(tx, sc, old, true)
				return nil
			}
			if old.Status == statusDraining {
				return errInvalidParameter("Unable to Start a service that is still Draining.")
			}
			return errInvalidParameter("Creation of service was not idempotent.")
		}
		made.Deployments = []deployment{{
			ID: id, version: v, CreatedAt: made.CreatedAt, UpdatedAt: made.CreatedAt,
			State: types.DeploymentRolloutStateInProgress, Reason: "ECS deployment " + id + " in progress.",
		}}
		s.release(tx, sc, made, release, made.CreatedAt)
		s.services.Put(tx, sc, made.Key(), made)
		shown = s.serviceView(tx, sc, made, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.CreateServiceOutput{Service: &shown}, nil
}

// wantedService is what a call asks for, but for what needs records.
func (s *Service) wantedService(ctx context.Context, in *ecs.CreateServiceInput) (*serviceRecord, error) {
	name := deref(in.ServiceName)
	part := servicePart{
		controller: in.DeploymentController, configuration: in.DeploymentConfiguration, registries: in.ServiceRegistries,
		connect: in.ServiceConnectConfiguration, volumes: in.VolumeConfigurations, lattice: in.VpcLatticeConfigurations, gateways: in.GatewayConnectors,
		monitoring: in.Monitoring, rebalancing: in.AvailabilityZoneRebalancing, execute: in.EnableExecuteCommand, grace: in.HealthCheckGracePeriodSeconds, desired: in.DesiredCount,
	}
	switch {
	case !nameRE.MatchString(name):
		return nil, errInvalidParameter("Service name must be up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens.")
	case in.DesiredCount == nil && in.SchedulingStrategy != types.SchedulingStrategyDaemon:
		return nil, errInvalidParameter("Desired count is required for REPLICA services.")
	case deref(in.TaskDefinition) == "":
		return nil, errInvalidParameter("TaskDefinition can not be blank.")
	case deref(in.Role) != "" && len(in.LoadBalancers) == 0:
		return nil, errInvalidParameter("A role is only valid for services configured to use load balancers.")
	case in.LaunchType != "" && len(in.CapacityProviderStrategy) > 0:
		return nil, errInvalidParameter("Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.")
	case !validToken(deref(in.ClientToken)):
		return nil, errInvalidParameter("clientToken must have up to 36 ASCII characters in the range 33-126.")
	}
	if err := part.check(); err != nil {
		return nil, err
	}
	scheduling := types.SchedulingStrategy("")
	if in.SchedulingStrategy == types.SchedulingStrategyDaemon {
		if err := checkDaemon(in.DesiredCount, in.LaunchType, in.CapacityProviderStrategy, in.PlacementStrategy); err != nil {
			return nil, err
		}
		scheduling = in.SchedulingStrategy
	}
	configuration := configured(in.DeploymentConfiguration, scheduling)
	if err := checkDeployment(&configuration, scheduling == types.SchedulingStrategyDaemon); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	other := *in
	other.ClientToken = nil
	raw, err := json.Marshal(other)
	if err != nil {
		return nil, errServer("The request could not be remembered.")
	}
	sum := sha256.Sum256(raw)
	return &serviceRecord{
		Name: name, Status: statusActive, CreatedAt: s.now().UTC(), CreatedBy: wire.CallFrom(ctx).Principal.ARN, Scheduling: scheduling, Desired: deref(in.DesiredCount), Grace: deref(in.HealthCheckGracePeriodSeconds),
		Token: deref(in.ClientToken), Request: hex.EncodeToString(sum[:]),
		Configuration: configuration, Constraints: in.PlacementConstraints, Strategy: in.PlacementStrategy,
		Propagate: in.PropagateTags, ManagedTags: in.EnableECSManagedTags, Tags: in.Tags,
	}, nil
}

func validToken(token string) bool {
	return len(token) <= 36 && !strings.ContainsFunc(token, func(r rune) bool { return r < 33 || r > 126 })
}

// versionAsked is a version as a call names it.
type versionAsked struct {
	definition string
	launchType types.LaunchType
	providers  []types.CapacityProviderStrategyItem
	platform   string
	network    *types.NetworkConfiguration
	balancers  []types.LoadBalancer
	daemon     bool
	// kept: the service has the definition already, which may be deregistered by now.
	kept bool
}

// versionOf resolves a version, and refuses what no task could be made of.
func (s *Service) versionOf(tx *store.Tx, sc store.Scope, c *Cluster, a versionAsked) (version, error) {
	find := s.runnableDefinition
	if a.kept {
		find = s.definition
	}
	td, err := find(tx, sc, a.definition)
	if err != nil {
		return version{}, err
	}
	d := &td.Definition
	v := version{Family: deref(d.Family), Revision: d.Revision, LaunchType: a.launchType, Providers: a.providers, Platform: a.platform, Network: a.network, LoadBalancers: a.balancers}
	if v.LaunchType == "" && len(v.Providers) == 0 {
		if !a.daemon {
			v.Providers = c.DefaultCapacityProviderStrategy
		}
		if len(v.Providers) == 0 {
			v.LaunchType = types.LaunchTypeEc2
		}
	}
	lots, err := v.lots(c, 1)
	if err != nil {
		return version{}, err
	}
	if err := s.checkLoadBalancers(sc, d, a.balancers); err != nil {
		return version{}, err
	}
	if _, err := s.checkNetwork(sc, d.NetworkMode, v.Network); err != nil {
		return version{}, err
	}
	l := &launch{service: s, scope: sc, definition: td, platformVersion: v.Platform}
	if l.size, err = sizeOf(d, nil); err != nil {
		return version{}, err
	}
	for _, lot := range lots {
		if err := l.supports(lot.launchType); err != nil {
			return version{}, err
		}
	}
	return v, nil
}

// checkGrace refuses a grace period for what no load balancer checks.
func checkGrace(seconds *int32, v version) error {
	if deref(seconds) != 0 && len(v.LoadBalancers) == 0 {
		return errInvalidParameter("Health check grace period is only valid for services configured to use load balancers.")
	}
	return nil
}

// checkPlacement refuses placement that can't be asked for.
func checkPlacement(v version, r *serviceRecord) error {
	if len(r.Constraints) > maxTaskConstraints || len(r.Strategy) > maxTaskStrategies {
		return errInvalidParameter("A service can have at most %d placement constraints and %d strategies.", maxTaskConstraints, maxTaskStrategies)
	}
	if fargate := v.LaunchType == types.LaunchTypeFargate || len(v.Providers) > 0; fargate && len(r.Constraints)+len(r.Strategy) > 0 {
		return errInvalidParameter("Placement constraints and strategies are not supported with FARGATE launch type.")
	}
	req := placement.Request{Count: 1, Group: "service:" + r.Name}
	for _, c := range r.Constraints {
		req.Constraints = append(req.Constraints, placement.Constraint{Type: string(c.Type), Expression: deref(c.Expression)})
	}
	for _, p := range r.Strategy {
		req.Strategies = append(req.Strategies, placement.Strategy{Type: string(p.Type), Field: deref(p.Field)})
	}
	if err := req.Validate(); err != nil {
		return errInvalidParameter("Invalid placement: %s", err)
	}
	return nil
}

// serviceOf finds a service by name or ARN.
func (s *Service) serviceOf(r store.Reader, sc store.Scope, cluster, ref string) (*serviceRecord, error) {
	name := ref
	if strings.HasPrefix(ref, "arn:") {
		a, ok := parseARN(ref)
		if !ok || a.Kind != "service" || len(a.Path) > 2 || a.Scope != sc || len(a.Path) == 2 && a.Path[0] != cluster {
			return nil, errInvalidParameter("Invalid identifier: %s", clip(ref))
		}
		name = a.Path[len(a.Path)-1]
	}
	if r, ok := s.services.Get(r, sc, memberKey(cluster, name)); ok {
		return r, nil
	}
	return nil, &types.ServiceNotFoundException{Message: optional("Service not found.")}
}

// serviceIn finds a service in the cluster that a call names.
func (s *Service) serviceIn(r store.Reader, sc store.Scope, cluster, ref *string) (*Cluster, *serviceRecord, error) {
	c, err := s.cluster(r, sc, cluster)
	if err != nil {
		return nil, nil, err
	}
	x, err := s.serviceOf(r, sc, c.Name, deref(ref))
	return c, x, err
}

// UpdateService changes what is asked for. What its tasks are made of makes a new
// deployment; the number of tasks does not.
func (s *Service) UpdateService(ctx context.Context, in *ecs.UpdateServiceInput) (*ecs.UpdateServiceOutput, error) {
	part := servicePart{
		controller: in.DeploymentController, configuration: in.DeploymentConfiguration, registries: in.ServiceRegistries,
		connect: in.ServiceConnectConfiguration, volumes: in.VolumeConfigurations, lattice: in.VpcLatticeConfigurations, gateways: in.GatewayConnectors,
		monitoring: in.Monitoring, rebalancing: in.AvailabilityZoneRebalancing, execute: deref(in.EnableExecuteCommand), grace: in.HealthCheckGracePeriodSeconds, desired: in.DesiredCount,
	}
	if err := part.check(); err != nil {
		return nil, err
	}
	sc, now, id, release := scopeOf(ctx), s.now().UTC(), deploymentID(derive(s.id(), "deployment", 32)), releaseID(derive(s.id(), "release", 32))
	var shown types.Service
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, old, err := s.serviceIn(tx, sc, in.Cluster, in.Service)
		if err != nil {
			return err
		}
		if old.Status != statusActive {
			return &types.ServiceNotActiveException{Message: optional("Service was not ACTIVE.")}
		}
		if old.daemon() {
			if err := checkDaemon(in.DesiredCount, "", in.CapacityProviderStrategy, in.PlacementStrategy); err != nil {
				return err
			}
		}
		r := s.services.Clone(old)
		r.change(in)
		v, err := s.updatedVersion(tx, sc, c, r, in)
		if err != nil {
			return err
		}
		if err := checkPlacement(v, r); err != nil {
			return err
		}
		if err := checkGrace(in.HealthCheckGracePeriodSeconds, v); err != nil {
			return err
		}
		if err := s.checkChange(tx, sc, old, r, v); err != nil {
			return err
		}
		if err := r.rebalance(r.askedRebalancing(in.AvailabilityZoneRebalancing), v); err != nil {
			return err
		}
		if first := &r.Deployments[0]; in.ForceNewDeployment || !v.same(first.version) {
			r.Deployments = append([]deployment{{
				ID: id, version: v, CreatedAt: now, UpdatedAt: now,
				State: types.DeploymentRolloutStateInProgress, Reason: "ECS deployment " + id + " in progress.",
			}}, r.Deployments...)
			s.release(tx, sc, r, release, now)
		}
		s.services.Put(tx, sc, r.Key(), r)
		shown = s.serviceView(tx, sc, r, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.UpdateServiceOutput{Service: &shown}, nil
}

// change takes in what needs no new deployment.
func (r *serviceRecord) change(in *ecs.UpdateServiceInput) {
	if in.DesiredCount != nil {
		r.Desired = *in.DesiredCount
	}
	if c := in.DeploymentConfiguration; c != nil {
		r.Configuration = merged(r.Configuration, c)
	}
	if in.HealthCheckGracePeriodSeconds != nil {
		r.Grace = *in.HealthCheckGracePeriodSeconds
	}
	if in.PlacementConstraints != nil {
		r.Constraints = in.PlacementConstraints
	}
	if in.PlacementStrategy != nil {
		r.Strategy = in.PlacementStrategy
	}
	if in.PropagateTags != "" {
		r.Propagate = in.PropagateTags
	}
	if in.EnableECSManagedTags != nil {
		r.ManagedTags = *in.EnableECSManagedTags
	}
	r.Steady = false
}

// updatedVersion is the wanted version with what an update changes of it.
func (s *Service) updatedVersion(tx *store.Tx, sc store.Scope, c *Cluster, r *serviceRecord, in *ecs.UpdateServiceInput) (version, error) {
	was := r.Deployments[0].version
	if err := checkDeployment(&r.Configuration, r.daemon()); err != nil {
		return was, err
	}
	if in.TaskDefinition == nil && in.CapacityProviderStrategy == nil && in.PlatformVersion == nil && in.NetworkConfiguration == nil && in.LoadBalancers == nil {
		return was, nil
	}
	a := versionAsked{daemon: r.daemon(), definition: definitionRef(was), kept: true, launchType: was.LaunchType, providers: was.Providers, platform: was.Platform, network: was.Network, balancers: was.LoadBalancers}
	if in.TaskDefinition != nil {
		a.definition, a.kept = *in.TaskDefinition, false
	}
	if in.CapacityProviderStrategy != nil {
		a.launchType, a.providers = "", in.CapacityProviderStrategy
	}
	if in.PlatformVersion != nil {
		a.platform = *in.PlatformVersion
	}
	if in.NetworkConfiguration != nil {
		a.network = in.NetworkConfiguration
	}
	if in.LoadBalancers != nil {
		a.balancers = in.LoadBalancers
	}
	return s.versionOf(tx, sc, c, a)
}

func definitionRef(v version) string { return v.Family + ":" + decimal(int64(v.Revision)) }

// DeleteService lets a service drain, which wants no tasks or is to go by force.
func (s *Service) DeleteService(ctx context.Context, in *ecs.DeleteServiceInput) (*ecs.DeleteServiceOutput, error) {
	sc, now := scopeOf(ctx), s.now().UTC()
	var shown types.Service
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		_, old, err := s.serviceIn(tx, sc, in.Cluster, in.Service)
		if err != nil {
			return err
		}
		if old.Status == statusInactive {
			return &types.ServiceNotFoundException{Message: optional("Service not found.")}
		}
		if old.Desired > 0 && !old.daemon() && !deref(in.Force) && old.Status == statusActive {
			return errInvalidParameter("The service cannot be stopped while it is scaled above 0.")
		}
		r := s.services.Clone(old)
		r.Status = statusDraining
		s.endRelease(tx, sc, r, types.ServiceDeploymentStatusStopped, reasonDeleted, now)
		s.services.Put(tx, sc, r.Key(), r)
		shown = s.serviceView(tx, sc, r, true)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.DeleteServiceOutput{Service: &shown}, nil
}
