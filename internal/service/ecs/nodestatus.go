package ecs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
)

// Unfit implements acs.Source.
func (s *Service) Unfit(ctx context.Context, x acs.Session, arn string, cause error) error {
	sc, now := sessionScope(x), s.now().UTC()
	key, ok := taskKeyOf(sc, arn)
	if !ok {
		return nil
	}
	reason := "The task can't be sent to its container instance: " + cause.Error()
	var refused *acs.RefusedRoleError
	if errors.As(cause, &refused) {
		reason = refused.Reason
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.tasks.Get(tx, sc, key)
		if !ok || old.DesiredStatus == taskStopped {
			return nil
		}
		t := s.tasks.Clone(old)
		// Its agent may have it from an earlier session, so it says when it is over.
		if t.requestStop(types.TaskStopCodeTaskFailedToStart, bounded(reason), now) {
			t.Version++
			s.tasks.Put(tx, sc, key, t)
		}
		return nil
	})
}

// maxStatuses bounds an instance's status report.
const maxStatuses = 100

// InstanceStatus implements acs.Source. Only changes of the container runtime's
// health are written, and that it was heard of once in a while.
func (s *Service) InstanceStatus(ctx context.Context, x acs.Session, report *acs.PublishInstanceStatus) error {
	if len(report.Statuses) > maxStatuses {
		return errInvalidParameter("A status report can have at most %d statuses.", maxStatuses)
	}
	i := slices.IndexFunc(report.Statuses, func(i acs.InstanceStatus) bool {
		return i.Type == acs.InstanceRuntime && slices.Contains(runtimeStatuses, i.Status)
	})
	if i < 0 {
		return nil
	}
	said := report.Statuses[i]
	now := RuntimeHealth{
		Status: said.Status, LastUpdated: s.timeOf(said.LastUpdated), LastStatusChange: s.timeOf(said.LastStatusChange),
	}
	n, err := s.sessionNode(s.db.Snapshot(), x)
	if err != nil {
		return err
	}
	if was := n.Runtime; was.Status == now.Status && now.LastUpdated.Sub(was.LastUpdated) < runtimeStatusEvery {
		return nil
	}
	sc := sessionScope(x)
	return s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.nodes.Get(tx, sc, n.ID)
		if !ok {
			return nil
		}
		n := s.nodes.Clone(old)
		n.Runtime = now
		s.nodes.Put(tx, sc, n.ID, n)
		return nil
	})
}

// runtimeStatuses are what an agent may say of its container runtime.
var runtimeStatuses = []string{acs.InstanceOK, acs.InstanceImpaired, acs.InstanceInsufficientData, "INITIALIZING"}

// runtimeStatusEvery is how often an unchanged status is written.
const runtimeStatusEvery = 5 * time.Minute

// timeOf is a time that an agent gave, or now where that cannot be.
func (s *Service) timeOf(at acs.Timestamp) time.Time {
	if t := at.Time().UTC(); plausible(t, s.now()) {
		return t
	}
	return s.now().UTC()
}
