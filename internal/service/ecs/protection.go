package ecs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// Limits of task protection, as in AWS. Times are in minutes.
const (
	maxProtectedAtOnce    = 10
	defaultProtectionTime = 120
	maxProtectionTime     = 2880
)

// protected tells whether a task may not be stopped by a deployment or a scale-in.
func (t *Task) protected(now time.Time) bool { return now.Before(t.ProtectedUntil) }

func (t *Task) protection(sc store.Scope, now time.Time) types.ProtectedTask {
	out := types.ProtectedTask{TaskArn: optional(taskARN(sc, t.Cluster, t.ID)), ProtectionEnabled: t.protected(now)}
	if out.ProtectionEnabled {
		out.ExpirationDate = &t.ProtectedUntil
	}
	return out
}

// protectable finds a task whose protection can be asked about, or says why it can't.
func (s *Service) protectable(r store.Reader, sc store.Scope, cluster, ref string) (*Task, *types.Failure, error) {
	id, err := memberID(sc, "task", cluster, ref)
	if err != nil {
		return nil, nil, err
	}
	failure := &types.Failure{Arn: optional(taskARN(sc, cluster, id)), Reason: optional("MISSING")}
	t, ok := s.tasks.Get(r, sc, memberKey(cluster, id))
	switch {
	case !ok || t.LastStatus == taskStopped:
		return nil, failure, nil
	case t.Service == "":
		failure.Reason, failure.Detail = optional("TASK_NOT_VALID"), optional("The specified task is not part of an Amazon ECS service.")
		return nil, failure, nil
	}
	return t, nil, nil
}

// GetTaskProtection tells which tasks of services are protected, and until when.
func (s *Service) GetTaskProtection(ctx context.Context, in *ecs.GetTaskProtectionInput) (*ecs.GetTaskProtectionOutput, error) {
	switch n := len(in.Tasks); {
	case n == 0:
		return nil, errInvalidParameter("Tasks cannot be empty.")
	case n > maxDescribe:
		return nil, errInvalidParameter("Tasks can have at most %d items.", maxDescribe)
	}
	sc, snap, now := scopeOf(ctx), s.db.Snapshot(), s.now().UTC()
	c, err := s.cluster(snap, sc, in.Cluster)
	if err != nil {
		return nil, err
	}
	out := &ecs.GetTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
	for _, ref := range in.Tasks {
		t, failure, err := s.protectable(snap, sc, c.Name, ref)
		switch {
		case err != nil:
			return nil, err
		case failure != nil:
			out.Failures = append(out.Failures, *failure)
		default:
			out.ProtectedTasks = append(out.ProtectedTasks, t.protection(sc, now))
		}
	}
	return out, nil
}

// UpdateTaskProtection protects tasks of services for a time from deployments and
// scale-ins, or no longer. Their health, users and lost instances still end them.
func (s *Service) UpdateTaskProtection(ctx context.Context, in *ecs.UpdateTaskProtectionInput) (*ecs.UpdateTaskProtectionOutput, error) {
	minutes := int32(defaultProtectionTime)
	if in.ExpiresInMinutes != nil {
		minutes = *in.ExpiresInMinutes
	}
	switch n := len(in.Tasks); {
	case n == 0:
		return nil, errInvalidParameter("Tasks cannot be empty.")
	case n > maxProtectedAtOnce:
		return nil, errInvalidParameter("Tasks can have at most %d items.", maxProtectedAtOnce)
	case minutes < 1 || minutes > maxProtectionTime:
		return nil, errInvalidParameter("expiresInMinutes must be between 1 and %d.", maxProtectionTime)
	}
	sc, now := scopeOf(ctx), s.now().UTC()
	until := time.Time{}
	if in.ProtectionEnabled {
		until = now.Add(time.Duration(minutes) * time.Minute)
	}
	var out *ecs.UpdateTaskProtectionOutput
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		out = &ecs.UpdateTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
		c, err := s.cluster(tx, sc, in.Cluster)
		if err != nil {
			return err
		}
		for _, ref := range in.Tasks {
			old, failure, err := s.protectable(tx, sc, c.Name, ref)
			if err != nil {
				return err
			}
			if failure != nil {
				out.Failures = append(out.Failures, *failure)
				continue
			}
			t := s.tasks.Clone(old)
			t.ProtectedUntil = until
			s.tasks.Put(tx, sc, t.Key(), t)
			out.ProtectedTasks = append(out.ProtectedTasks, t.protection(sc, now))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
