package ecs

import (
	"context"
	"errors"
	"math"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// RegisterTaskDefinition makes a family's next revision. What it asks for that
// no node can do is not refused here: it becomes an attribute that the task
// requires and no node has.
func (s *Service) RegisterTaskDefinition(ctx context.Context, in *ecs.RegisterTaskDefinitionInput) (*ecs.RegisterTaskDefinitionOutput, error) {
	sc := scopeOf(ctx)
	//lint:ignore SA1019 clients may still send it
	if len(in.InferenceAccelerators) > 0 {
		return nil, errUnsupported("inferenceAccelerators are not supported: Amazon Elastic Inference is no longer available.")
	}
	// A copy: what the caller gave stays as it is.
	record := s.definitions.Clone(&TaskDefinition{Definition: givenDefinition(in), Tags: in.Tags})
	d := &record.Definition
	if err := completeDefinition(sc, record); err != nil {
		return nil, err
	}
	now := s.now().UTC()
	d.Status, d.RegisteredAt = types.TaskDefinitionStatusActive, &now
	d.RegisteredBy = optional(wire.CallFrom(ctx).Principal.ARN)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		f := &Family{Name: *d.Family}
		if old, ok := s.families.Get(tx, sc, f.Name); ok {
			f = s.families.Clone(old)
		}
		if f.LastRevision == math.MaxInt32 {
			return errClient("The family %s has no revisions left.", f.Name)
		}
		f.LastRevision++
		f.LatestActive = f.LastRevision
		d.Revision = f.LastRevision
		d.TaskDefinitionArn = optional(taskDefinitionARN(sc, f.Name, d.Revision))
		s.families.Put(tx, sc, f.Name, f)
		s.definitions.Put(tx, sc, definitionID(f.Name, d.Revision), s.definitions.Clone(record))
		return nil
	})
	if errors.Is(err, store.ErrConflict) {
		return nil, errClient("Too many concurrent attempts to create a new revision of the specified family.")
	}
	if err != nil {
		return nil, err
	}
	return &ecs.RegisterTaskDefinitionOutput{TaskDefinition: d, Tags: record.Tags}, nil
}

func givenDefinition(in *ecs.RegisterTaskDefinitionInput) types.TaskDefinition {
	return types.TaskDefinition{
		Family: in.Family, TaskRoleArn: in.TaskRoleArn, ExecutionRoleArn: in.ExecutionRoleArn,
		NetworkMode: in.NetworkMode, ContainerDefinitions: in.ContainerDefinitions, Volumes: in.Volumes,
		PlacementConstraints: in.PlacementConstraints, RequiresCompatibilities: in.RequiresCompatibilities,
		Cpu: in.Cpu, Memory: in.Memory, PidMode: in.PidMode, IpcMode: in.IpcMode,
		ProxyConfiguration: in.ProxyConfiguration, EphemeralStorage: in.EphemeralStorage,
		RuntimePlatform: in.RuntimePlatform, EnableFaultInjection: in.EnableFaultInjection,
	}
}

// completeDefinition checks what was given and derives the rest of it, but for
// what the family's record and the call decide.
func completeDefinition(sc store.Scope, record *TaskDefinition) error {
	d := &record.Definition
	if n := compactSize(d); n > maxDefinitionBytes {
		return errClient("Actual length: '%d'. Max allowed length is '%d' bytes.", n, maxDefinitionBytes)
	}
	if err := checkTags(record.Tags); err != nil {
		return err
	}
	if err := checkDefinition(d); err != nil {
		return err
	}
	var err error
	if d.Compatibilities, err = compatibilities(d); err != nil {
		return err
	}
	normalize(sc, d)
	d.RequiresAttributes = requiredAttributes(d)
	return nil
}

// DeregisterTaskDefinition makes a revision INACTIVE: it starts no new tasks.
func (s *Service) DeregisterTaskDefinition(ctx context.Context, in *ecs.DeregisterTaskDefinitionInput) (*ecs.DeregisterTaskDefinitionOutput, error) {
	sc, now := scopeOf(ctx), s.now().UTC()
	family, revision, err := parseDefinitionRef(sc, deref(in.TaskDefinition))
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		return nil, errClient("Task definition revision is missing: give family:revision or a full ARN.")
	}
	var shown types.TaskDefinition
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		old, ok := s.definitions.Get(tx, sc, definitionID(family, revision))
		if !ok {
			return errClient("The specified task definition does not exist. Specify a valid account, family, revision and try again.")
		}
		d := s.definitions.Clone(old)
		switch d.Definition.Status {
		case types.TaskDefinitionStatusDeleteInProgress:
			return errClient("The specified task definition is in DELETE_IN_PROGRESS status.")
		case types.TaskDefinitionStatusActive:
			d.Definition.Status, d.Definition.DeregisteredAt = types.TaskDefinitionStatusInactive, &now
			s.definitions.Put(tx, sc, definitionID(family, revision), d)
			s.updateLatest(tx, sc, family)
		}
		shown = d.Definition
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ecs.DeregisterTaskDefinitionOutput{TaskDefinition: &shown}, nil
}

// updateLatest finds a family's highest ACTIVE revision again. Every operation
// on a revision rewrites the family, so the revisions seen here are all there are.
func (s *Service) updateLatest(tx *store.Tx, sc store.Scope, family string) {
	old, ok := s.families.Get(tx, sc, family)
	if !ok {
		return
	}
	f := s.families.Clone(old)
	f.LatestActive = 0
	for _, d := range s.definitions.ListPrefix(tx, sc, family+"/") {
		if d.Definition.Status == types.TaskDefinitionStatusActive {
			f.LatestActive = d.Definition.Revision
		}
	}
	s.families.Put(tx, sc, family, f)
}
