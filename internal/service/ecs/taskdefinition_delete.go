package ecs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

const maxDeleteDefinitions = 10

// DeleteTaskDefinitions makes INACTIVE revisions DELETE_IN_PROGRESS. They go when
// no task uses them any more.
func (s *Service) DeleteTaskDefinitions(ctx context.Context, in *ecs.DeleteTaskDefinitionsInput) (*ecs.DeleteTaskDefinitionsOutput, error) {
	switch n := len(in.TaskDefinitions); {
	case n == 0:
		return nil, errInvalidParameter("Task definitions cannot be empty.")
	case n > maxDeleteDefinitions:
		return nil, errInvalidParameter("A maximum of %d task definitions can be deleted in one call.", maxDeleteDefinitions)
	}
	sc := scopeOf(ctx)
	out := &ecs.DeleteTaskDefinitionsOutput{TaskDefinitions: []types.TaskDefinition{}, Failures: []types.Failure{}}
	seen := map[string]bool{}
	for _, ref := range in.TaskDefinitions {
		family, revision, err := parseDefinitionRef(sc, ref)
		if err != nil {
			return nil, err
		}
		if revision == 0 {
			return nil, errInvalidParameter("The specified task definition identifier is invalid. Specify a valid name or ARN with a revision and try again: %s", clip(ref))
		}
		if id := definitionID(family, revision); !seen[id] {
			seen[id] = true
			if err := s.deleteDefinition(ctx, sc, family, revision, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// deleteDefinition deals with one revision and enters the outcome in out.
func (s *Service) deleteDefinition(ctx context.Context, sc store.Scope, family string, revision int32, out *ecs.DeleteTaskDefinitionsOutput) error {
	id, now := definitionID(family, revision), s.now().UTC()
	var shown *types.TaskDefinition
	reason := ""
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		shown, reason = nil, ""
		old, ok := s.definitions.Get(tx, sc, id)
		switch {
		case !ok:
			reason = "The specified task definition does not exist. Specify a valid account, family, revision and try again."
			return nil
		case old.Definition.Status == types.TaskDefinitionStatusActive:
			reason = "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
			return nil
		}
		d := s.definitions.Clone(old)
		if d.Definition.Status == types.TaskDefinitionStatusInactive {
			d.Definition.Status, d.Definition.DeleteRequestedAt = types.TaskDefinitionStatusDeleteInProgress, &now
			s.definitions.Put(tx, sc, id, d)
			s.updateLatest(tx, sc, family)
		}
		shown = &d.Definition
		return nil
	})
	switch {
	case err != nil:
		return err
	case shown != nil:
		out.TaskDefinitions = append(out.TaskDefinitions, *shown)
	default:
		out.Failures = append(out.Failures, types.Failure{
			Arn: optional(taskDefinitionARN(sc, family, revision)), Reason: &reason,
		})
	}
	return nil
}

// sweepDefinitions removes the revisions that are DELETE_IN_PROGRESS and that no
// task uses. No new task can be made of
// such a revision, so that counting its tasks needs no guard.
//
// A family's record stays: revisions are never used again.
func (s *Service) sweepDefinitions(ctx context.Context) error {
	snap := s.db.Snapshot()
	var over []store.Ref
	served := map[store.Ref]bool{}
	for ref, x := range s.services.ListAll(snap) {
		for _, id := range x.definitions() {
			served[store.Ref{Scope: ref.Scope, ID: id}] = true
		}
	}
	for ref, d := range s.definitions.ListAll(snap) {
		if deleting(d) && !served[ref] && s.liveByDefinition.Count(snap, ref.Scope, ref.ID) == 0 {
			over = append(over, ref)
		}
	}
	return remove(ctx, s.db, s.definitions, over, deleting)
}

func deleting(d *TaskDefinition) bool {
	return d.Definition.Status == types.TaskDefinitionStatusDeleteInProgress
}
