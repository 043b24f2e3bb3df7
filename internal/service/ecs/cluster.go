package ecs

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// inactiveFor is how long a deleted cluster can still be described. The default
// cluster's record stays for good: it tells that the cluster was deleted, and
// must not be made again by itself.
const inactiveFor = time.Hour

// CreateCluster makes a cluster and joins the universal nodes to it. A cluster
// of that name that is there already is returned as it is.
func (s *Service) CreateCluster(ctx context.Context, in *ecs.CreateClusterInput) (*ecs.CreateClusterOutput, error) {
	sc := scopeOf(ctx)
	name := deref(in.ClusterName)
	if name == "" {
		name = defaultCluster
	}
	if !nameRE.MatchString(name) {
		return nil, errInvalidParameter("Cluster name must be up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens: %s", clip(name))
	}
	wanted := &Cluster{
		Name: name, Generation: s.id(), Status: statusActive, CreatedAt: s.now().UTC(),
		Configuration: in.Configuration, CapacityProviders: in.CapacityProviders,
		DefaultCapacityProviderStrategy: in.DefaultCapacityProviderStrategy, Tags: in.Tags,
	}
	if err := checkCluster(wanted, in.Settings); err != nil {
		return nil, err
	}
	if err := checkServiceConnect(in.ServiceConnectDefaults); err != nil {
		return nil, err
	}
	principal := settingPrincipal(ctx)
	var shown types.Cluster
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, ok := s.clusters.Get(tx, sc, name)
		if !ok || c.Status != statusActive {
			c = s.clusters.Clone(wanted)
			insights := s.effectiveSetting(tx, sc, types.SettingNameContainerInsights, principal)
			c.Settings = mergeSettings([]types.ClusterSetting{{
				Name: types.ClusterSettingNameContainerInsights, Value: &insights,
			}}, in.Settings)
			s.addCluster(tx, sc, c)
		}
		shown = s.clusterView(tx, sc, c, everyClusterField())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.CreateClusterOutput{Cluster: &shown}, nil
}

// checkCluster refuses what a cluster can't have.
func checkCluster(c *Cluster, settings []types.ClusterSetting) error {
	if err := checkTags(c.Tags); err != nil {
		return err
	}
	if err := checkClusterSettings(settings); err != nil {
		return err
	}
	if err := checkClusterConfiguration(c.Configuration); err != nil {
		return err
	}
	return checkProviders(c)
}

// DeleteCluster makes a cluster INACTIVE that has no tasks and no instances but
// those of universal nodes, which go with it.
func (s *Service) DeleteCluster(ctx context.Context, in *ecs.DeleteClusterInput) (*ecs.DeleteClusterOutput, error) {
	sc, now := scopeOf(ctx), s.now().UTC()
	if deref(in.Cluster) == "" {
		return nil, errInvalidParameter("Cluster can not be blank.")
	}
	var shown types.Cluster
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.clusterAtAll(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		if c.Status != statusActive {
			shown = s.clusterView(tx, sc, c, nil)
			return nil
		}
		if err := s.deletable(tx, sc, c); err != nil {
			return err
		}
		s.withdrawUniversal(tx, sc, c.Name, now)
		c = s.clusters.Clone(c)
		c.Status, c.InactiveAt, c.Tags = statusInactive, now, nil
		s.clusters.Put(tx, sc, c.Name, c)
		shown = s.clusterView(tx, sc, c, nil)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.DeleteClusterOutput{Cluster: &shown}, nil
}

// clusterAtAll is cluster, whatever the cluster's status.
func (s *Service) clusterAtAll(r store.Reader, sc store.Scope, ref *string) (*Cluster, error) {
	name, err := clusterName(sc, ref)
	if err != nil {
		return nil, err
	}
	c, ok := s.clusters.Get(r, sc, name)
	if !ok {
		return nil, errClusterNotFound()
	}
	return c, nil
}

// deletable tells why a cluster can't be deleted.
func (s *Service) deletable(tx *store.Tx, sc store.Scope, c *Cluster) error {
	s.guardPlacements(tx, sc, c)
	for _, ci := range s.instances.ListPrefix(tx, sc, c.Name+"/") {
		n, ok := s.nodes.Get(tx, sc, ci.NodeID)
		if ci.Status != statusInactive && (!ok || !n.Universal) {
			return &types.ClusterContainsContainerInstancesException{
				Message: optional("The Cluster cannot be deleted while Container Instances are active or draining."),
			}
		}
	}
	for _, r := range s.services.ListPrefix(tx, sc, c.Name+"/") {
		if r.Status != statusInactive {
			return &types.ClusterContainsServicesException{Message: optional("The Cluster cannot be deleted while Services are active.")}
		}
	}
	if n := s.countTasks(tx, sc, c.Name); n.running+n.pending > 0 {
		return &types.ClusterContainsTasksException{
			Message: optional("The Cluster cannot be deleted while Tasks are active."),
		}
	}
	return nil
}

// guardPlacements reads the ledgers of all nodes that may get tasks of the
// cluster: a placement at the same time rewrites one of them, and the deletion
// must see its tasks.
func (s *Service) guardPlacements(tx *store.Tx, sc store.Scope, c *Cluster) {
	for _, ci := range s.instances.ListPrefix(tx, sc, c.Name+"/") {
		s.ledgers.Get(tx, sc, ci.NodeID)
	}
	for id := range s.nodesByRole.List(tx, sc, "fargate") {
		s.ledgers.Get(tx, sc, id)
	}
}

// UpdateCluster changes a cluster's settings and configuration.
func (s *Service) UpdateCluster(ctx context.Context, in *ecs.UpdateClusterInput) (*ecs.UpdateClusterOutput, error) {
	if err := checkClusterSettings(in.Settings); err != nil {
		return nil, err
	}
	if err := checkClusterConfiguration(in.Configuration); err != nil {
		return nil, err
	}
	if err := checkServiceConnect(in.ServiceConnectDefaults); err != nil {
		return nil, err
	}
	shown, err := s.changeCluster(ctx, in.Cluster, func(c *Cluster) error {
		c.Settings = mergeSettings(c.Settings, in.Settings)
		if in.Configuration != nil {
			c.Configuration = in.Configuration
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.UpdateClusterOutput{Cluster: shown}, nil
}

// UpdateClusterSettings changes a cluster's settings.
func (s *Service) UpdateClusterSettings(ctx context.Context, in *ecs.UpdateClusterSettingsInput) (*ecs.UpdateClusterSettingsOutput, error) {
	if len(in.Settings) == 0 {
		return nil, errInvalidParameter("Settings cannot be empty.")
	}
	if err := checkClusterSettings(in.Settings); err != nil {
		return nil, err
	}
	shown, err := s.changeCluster(ctx, in.Cluster, func(c *Cluster) error {
		c.Settings = mergeSettings(c.Settings, in.Settings)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.UpdateClusterSettingsOutput{Cluster: shown}, nil
}

// PutClusterCapacityProviders replaces a cluster's capacity providers and its
// default strategy. A provider that tasks run on can't be taken away.
func (s *Service) PutClusterCapacityProviders(ctx context.Context, in *ecs.PutClusterCapacityProvidersInput) (*ecs.PutClusterCapacityProvidersOutput, error) {
	sc := scopeOf(ctx)
	wanted := &Cluster{
		CapacityProviders: in.CapacityProviders, DefaultCapacityProviderStrategy: in.DefaultCapacityProviderStrategy,
	}
	if err := checkProviders(wanted); err != nil {
		return nil, err
	}
	var shown types.Cluster
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.cluster(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		s.guardPlacements(tx, sc, c)
		for _, t := range s.tasksByDesired.List(tx, sc, c.Name+"/"+taskRunning) {
			if t.CapacityProvider != "" && !slices.Contains(in.CapacityProviders, t.CapacityProvider) {
				return &types.ResourceInUseException{
					Message: optional("The specified capacity provider is in use and cannot be removed."),
				}
			}
		}
		c = s.clusters.Clone(c)
		c.CapacityProviders, c.DefaultCapacityProviderStrategy = wanted.CapacityProviders, wanted.DefaultCapacityProviderStrategy
		s.clusters.Put(tx, sc, c.Name, c)
		shown = s.clusterView(tx, sc, c, everyClusterField())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.PutClusterCapacityProvidersOutput{Cluster: &shown}, nil
}

// changeCluster rewrites an ACTIVE cluster and returns it as the API shows it.
func (s *Service) changeCluster(ctx context.Context, ref *string, change func(c *Cluster) error) (*types.Cluster, error) {
	sc := scopeOf(ctx)
	var shown types.Cluster
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		old, err := s.cluster(tx, sc, ref)
		if err != nil {
			return err
		}
		c := s.clusters.Clone(old)
		if err := change(c); err != nil {
			return err
		}
		s.clusters.Put(tx, sc, c.Name, c)
		shown = s.clusterView(tx, sc, c, everyClusterField())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &shown, nil
}

// sweepClusters forgets clusters that were deleted a while ago.
func (s *Service) sweepClusters(ctx context.Context, now time.Time) error {
	return sweepTable(ctx, s.db, s.clusters, func(c *Cluster) bool {
		return c.Status == statusInactive && c.Name != defaultCluster && now.Sub(c.InactiveAt) >= inactiveFor
	})
}
