package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/placement"
	"longshore.dev/longshore/internal/store"
)

// StartTask starts a task on each of the given container instances.
func (s *Service) StartTask(ctx context.Context, in *ecs.StartTaskInput) (*ecs.StartTaskOutput, error) {
	switch n := len(in.ContainerInstances); {
	case n == 0:
		return nil, errInvalidParameter("Container instances cannot be empty.")
	case n > maxLaunch:
		return nil, errInvalidParameter("instanceIds can have at most %d items.", maxLaunch)
	}
	l := newLaunch(s, ctx, len(in.ContainerInstances))
	l.startTask(in)
	if err := l.check(); err != nil {
		return nil, err
	}
	var out *ecs.StartTaskOutput
	err := s.db.UpdateJointly(ctx, func(tx *store.Tx) (err error) {
		out, err = s.startTask(tx, l, in)
		return err
	})
	if err != nil {
		return nil, launchError(err)
	}
	return out, nil
}

func (s *Service) startTask(tx *store.Tx, l *launch, in *ecs.StartTaskInput) (*ecs.StartTaskOutput, error) {
	if err := l.resolve(tx, in.Cluster, deref(in.TaskDefinition)); err != nil {
		return nil, err
	}
	if err := l.supports(types.LaunchTypeEc2); err != nil {
		return nil, err
	}
	out := &ecs.StartTaskOutput{Tasks: []types.Task{}, Failures: []types.Failure{}}
	ec2 := lot{count: 1, launchType: types.LaunchTypeEc2}
	for i, ref := range in.ContainerInstances {
		id, err := memberID(l.scope, "container-instance", l.cluster.Name, ref)
		if err != nil {
			return nil, err
		}
		t, failure, err := s.startOn(tx, l, ec2, l.seeds[i], id)
		switch {
		case err != nil:
			return nil, err
		case failure != nil:
			out.Failures = append(out.Failures, *failure)
		default:
			out.Tasks = append(out.Tasks, s.taskView(tx, l.scope, t, true))
		}
	}
	return out, nil
}

// startOn makes a task on an instance that was chosen: the definition's constraints do
// not apply, but there must be room.
func (s *Service) startOn(tx *store.Tx, l *launch, lot lot, seed, instance string) (*Task, *types.Failure, error) {
	fail := func(reason, detail string) (*Task, *types.Failure, error) {
		return nil, &types.Failure{Arn: optional(instanceARN(l.scope, l.cluster.Name, instance)), Reason: &reason, Detail: optional(detail)}, nil
	}
	ci, ok := s.instances.Get(tx, l.scope, memberKey(l.cluster.Name, instance))
	if !ok {
		return fail("MISSING", "")
	}
	n, known := s.nodeOf(tx, l.scope, ci)
	if !known {
		return fail("MISSING", "")
	}
	req := l.request(1, lot, nil, nil)
	req.Constraints = nil
	target := s.candidate(tx, l.scope, l.cluster.Name, n, ci)
	if plan := placement.Place([]*placement.Instance{&target}, req); plan.Unplaced > 0 {
		detail := ""
		if l.ofService != "" {
			detail = plan.Refusal.Explain(func(id string) string { return instanceARN(l.scope, l.cluster.Name, id) })
		}
		return fail(string(plan.Refusal.NearestReason), detail)
	}
	return s.make(tx, l, lot, seed, instance)
}
