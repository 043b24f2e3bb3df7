package ecs

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement/cql"
	"longshore.dev/longshore/internal/store"
)

// DescribeContainerInstances describes up to a hundred instances.
func (s *Service) DescribeContainerInstances(ctx context.Context, in *ecs.DescribeContainerInstancesInput) (*ecs.DescribeContainerInstancesOutput, error) {
	switch n := len(in.ContainerInstances); {
	case n == 0:
		return nil, errInvalidParameter("Container instance cannot be empty.")
	case n > maxDescribe:
		return nil, errInvalidParameter("instanceIds can have at most %d items.", maxDescribe)
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	tags := slices.Contains(in.Include, types.ContainerInstanceFieldTags)
	health := slices.Contains(in.Include, types.ContainerInstanceFieldContainerInstanceHealth)
	out := &ecs.DescribeContainerInstancesOutput{ContainerInstances: []types.ContainerInstance{}, Failures: []types.Failure{}}
	for _, ref := range in.ContainerInstances {
		id, err := memberID(sc, "container-instance", c.Name, ref)
		if err != nil {
			return nil, err
		}
		ci, ok := s.instances.Get(snap, sc, memberKey(c.Name, id))
		if !ok {
			out.Failures = append(out.Failures, missingInstance(sc, c.Name, id))
			continue
		}
		n, _ := s.nodeOf(snap, sc, ci)
		out.ContainerInstances = append(out.ContainerInstances, s.instanceView(snap, sc, n, ci, tags, health))
	}
	return out, nil
}

func missingInstance(sc store.Scope, cluster, id string) types.Failure {
	return types.Failure{Arn: optional(instanceARN(sc, cluster, id)), Reason: optional("MISSING")}
}

// ListContainerInstances lists the ARNs of a cluster's instances, by status
// (default: all but INACTIVE) and by an expression of the cluster query language.
func (s *Service) ListContainerInstances(ctx context.Context, in *ecs.ListContainerInstancesInput) (*ecs.ListContainerInstancesOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	var filter *cql.Expression
	if text := deref(in.Filter); text != "" {
		if filter, err = cql.Parse(text); err != nil {
			return nil, errInvalidParameter("Invalid filter: %s", err)
		}
	}
	keys := func(yield func(string) bool) {
		for key, ci := range s.instances.ListPrefix(snap, sc, c.Name+"/") {
			if in.Status == "" && ci.Status == statusInactive || in.Status != "" && ci.Status != string(in.Status) {
				continue
			}
			if filter != nil && !s.matches(snap, sc, filter, ci) {
				continue
			}
			if !yield(key) {
				return
			}
		}
	}
	found, token, err := page(keys, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListContainerInstancesOutput{ContainerInstanceArns: []string{}, NextToken: token}
	for _, key := range found {
		out.ContainerInstanceArns = append(out.ContainerInstanceArns, arnOf(sc, "container-instance", key))
	}
	return out, nil
}

// matches evaluates a filter as placement evaluates a memberOf constraint.
func (s *Service) matches(r store.Reader, sc store.Scope, filter *cql.Expression, ci *ContainerInstance) bool {
	n, ok := s.nodeOf(r, sc, ci)
	if !ok {
		return false
	}
	return filter.Matches(filterSubject{s.candidate(r, sc, ci.Cluster, n, ci)})
}

// tasksOn are an instance's tasks that are not STOPPED.
func (s *Service) tasksOn(r store.Reader, sc store.Scope, ci *ContainerInstance) []*Task {
	var tasks []*Task
	for _, t := range s.tasksByInstance.List(r, sc, ci.Key()) {
		if t.LastStatus != taskStopped {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// UpdateContainerInstancesState sets up to ten instances ACTIVE or DRAINING.
func (s *Service) UpdateContainerInstancesState(ctx context.Context, in *ecs.UpdateContainerInstancesStateInput) (*ecs.UpdateContainerInstancesStateOutput, error) {
	status := string(in.Status)
	if status != statusActive && status != statusDraining {
		return nil, errInvalidParameter("Container instance status should be one of [ACTIVE,DRAINING].")
	}
	switch n := len(in.ContainerInstances); {
	case n == 0:
		return nil, errInvalidParameter("Container instance cannot be empty.")
	case n > maxLaunch:
		return nil, errInvalidParameter("instanceIds can have at most %d items.", maxLaunch)
	}
	sc := scopeOf(ctx)
	var out *ecs.UpdateContainerInstancesStateOutput
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		out = &ecs.UpdateContainerInstancesStateOutput{ContainerInstances: []types.ContainerInstance{}, Failures: []types.Failure{}}
		c, err := s.cluster(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		for _, ref := range in.ContainerInstances {
			id, err := memberID(sc, "container-instance", c.Name, ref)
			if err != nil {
				return err
			}
			ci, ok := s.instances.Get(tx, sc, memberKey(c.Name, id))
			if !ok {
				out.Failures = append(out.Failures, missingInstance(sc, c.Name, id))
				continue
			}
			if ci.Status == statusInactive {
				out.Failures = append(out.Failures, types.Failure{Arn: optional(instanceARN(sc, c.Name, id)), Reason: optional("INACTIVE")})
				continue
			}
			if ci.Status != status {
				ci = s.instances.Clone(ci)
				ci.Status = status
				ci.Version++
				s.instances.Put(tx, sc, ci.Key(), ci)
				s.writeLedger(tx, sc, ci.NodeID)
			}
			n, _ := s.nodeOf(tx, sc, ci)
			out.ContainerInstances = append(out.ContainerInstances, s.instanceView(tx, sc, n, ci, true, false))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
