package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// DescribeClusters describes up to a hundred clusters, without names the default one.
func (s *Service) DescribeClusters(ctx context.Context, in *ecs.DescribeClustersInput) (*ecs.DescribeClustersOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	refs := in.Clusters
	if len(refs) == 0 {
		refs = []string{defaultCluster}
	}
	if len(refs) > maxDescribe {
		return nil, errInvalidParameter("Clusters can have at most %d items.", maxDescribe)
	}
	out := &ecs.DescribeClustersOutput{Clusters: []types.Cluster{}, Failures: []types.Failure{}}
	for _, ref := range refs {
		a, isARN := parseARN(ref)
		foreign := isARN && a.Kind == "cluster" && a.Scope != sc
		var c *Cluster
		if !foreign {
			name, err := clusterName(sc, &ref)
			if err != nil {
				return nil, err
			}
			c, _ = s.clusters.Get(snap, sc, name)
			ref = clusterARN(sc, name)
		}
		if c == nil {
			out.Failures = append(out.Failures, types.Failure{Arn: optional(ref), Reason: optional("MISSING")})
			continue
		}
		out.Clusters = append(out.Clusters, s.clusterView(snap, sc, c, in.Include))
	}
	return out, nil
}

// ListClusters lists the ARNs of the ACTIVE clusters.
func (s *Service) ListClusters(ctx context.Context, in *ecs.ListClustersInput) (*ecs.ListClustersOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	names := func(yield func(string) bool) {
		for name, c := range s.clusters.List(snap, sc) {
			if c.Status == statusActive && !yield(name) {
				return
			}
		}
	}
	found, token, err := page(names, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListClustersOutput{ClusterArns: []string{}, NextToken: token}
	for _, name := range found {
		out.ClusterArns = append(out.ClusterArns, clusterARN(sc, name))
	}
	return out, nil
}

// everyClusterField is what calls that change a cluster show of it: all that was
// given to them.
func everyClusterField() []types.ClusterField {
	return []types.ClusterField{types.ClusterFieldSettings, types.ClusterFieldConfigurations, types.ClusterFieldTags}
}

// clusterView is a cluster as the API shows it.
func (s *Service) clusterView(r store.Reader, sc store.Scope, c *Cluster, include []types.ClusterField) types.Cluster {
	v := types.Cluster{
		ClusterArn: optional(c.arn(sc)), ClusterName: &c.Name, Status: &c.Status,
		CapacityProviders: []string{}, DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{},
		Settings: []types.ClusterSetting{}, Statistics: []types.KeyValuePair{}, Tags: []types.Tag{},
	}
	if c.CapacityProviders != nil {
		v.CapacityProviders = c.CapacityProviders
	}
	if c.DefaultCapacityProviderStrategy != nil {
		v.DefaultCapacityProviderStrategy = c.DefaultCapacityProviderStrategy
	}
	tasks := s.countTasks(r, sc, c.Name)
	v.RunningTasksCount, v.PendingTasksCount = tasks.running, tasks.pending
	if c.Status == statusActive {
		v.RegisteredContainerInstancesCount = s.countInstances(r, sc, c.Name)
	}
	services := s.countServices(r, sc, c.Name)
	for _, n := range services {
		v.ActiveServicesCount += n.active
	}
	for _, field := range include {
		switch field {
		case types.ClusterFieldSettings:
			v.Settings = c.settings()
		case types.ClusterFieldConfigurations:
			v.Configuration = c.Configuration
		case types.ClusterFieldTags:
			if c.Tags != nil {
				v.Tags = c.Tags
			}
		case types.ClusterFieldStatistics:
			v.Statistics = tasks.statistics(services)
		case types.ClusterFieldAttachments:
			v.Attachments = []types.Attachment{}
		}
	}
	return v
}

// settings fills the default in, for a cluster that was made by itself.
func (c *Cluster) settings() []types.ClusterSetting {
	return mergeSettings([]types.ClusterSetting{{
		Name: types.ClusterSettingNameContainerInsights, Value: optional("disabled"),
	}}, c.Settings)
}

func (s *Service) countInstances(r store.Reader, sc store.Scope, cluster string) (n int32) {
	for _, ci := range s.instances.ListPrefix(r, sc, cluster+"/") {
		if ci.Status != statusInactive {
			n++
		}
	}
	return n
}

// Phases of tasks, as clusters count them.
const (
	phaseRunning = "running"
	phasePending = "pending"
)

// taskPhase is a task's value in the index tasksByPhase: empty for one that is
// STOPPED. A task that is being stopped counts as running until it is.
func taskPhase(t *Task) string {
	phase := phaseRunning
	switch t.LastStatus {
	case taskStopped:
		return ""
	case taskProvisioning, taskPending, taskActivating:
		phase = phasePending
	}
	return string(t.LaunchType) + "/" + phase
}

// taskCounts are a cluster's tasks that are not STOPPED.
type taskCounts struct {
	running, pending int32
	byPhase          map[string]int32
}

var countedLaunchTypes = []types.LaunchType{types.LaunchTypeEc2, types.LaunchTypeFargate, types.LaunchTypeExternal}

func (s *Service) countTasks(r store.Reader, sc store.Scope, cluster string) taskCounts {
	n := taskCounts{byPhase: map[string]int32{}}
	for _, launchType := range countedLaunchTypes {
		for _, phase := range []string{phaseRunning, phasePending} {
			key := string(launchType) + "/" + phase
			n.byPhase[key] = int32(s.tasksByPhase.Count(r, sc, cluster+"/"+key))
		}
		n.running += n.byPhase[string(launchType)+"/"+phaseRunning]
		n.pending += n.byPhase[string(launchType)+"/"+phasePending]
	}
	return n
}

// serviceCounts are a cluster's services of one launch type.
type serviceCounts struct{ active, draining int32 }

func (s *Service) countServices(r store.Reader, sc store.Scope, cluster string) map[types.LaunchType]serviceCounts {
	counts := map[types.LaunchType]serviceCounts{}
	for _, x := range s.services.ListPrefix(r, sc, cluster+"/") {
		launchType := types.LaunchTypeFargate // all capacity providers that there are
		if len(x.Deployments) > 0 && x.Deployments[0].LaunchType != "" {
			launchType = x.Deployments[0].LaunchType
		}
		n := counts[launchType]
		switch x.Status {
		case statusActive:
			n.active++
		case statusDraining:
			n.draining++
		}
		counts[launchType] = n
	}
	return counts
}

// statistics are the counts by launch type, by AWS's names.
func (n taskCounts) statistics(services map[types.LaunchType]serviceCounts) []types.KeyValuePair {
	var list []types.KeyValuePair
	add := func(name string, count int32) {
		list = append(list, types.KeyValuePair{Name: &name, Value: optional(decimal(int64(count)))})
	}
	words := map[types.LaunchType]string{
		types.LaunchTypeEc2: "EC2", types.LaunchTypeFargate: "Fargate", types.LaunchTypeExternal: "External",
	}
	for _, l := range countedLaunchTypes {
		add("running"+words[l]+"TasksCount", n.byPhase[string(l)+"/"+phaseRunning])
		add("pending"+words[l]+"TasksCount", n.byPhase[string(l)+"/"+phasePending])
	}
	for _, l := range countedLaunchTypes {
		add("active"+words[l]+"ServiceCount", services[l].active)
		add("draining"+words[l]+"ServiceCount", services[l].draining)
	}
	return list
}
