package ecs

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// DescribeTaskDefinition describes a revision, or a family's latest ACTIVE one.
func (s *Service) DescribeTaskDefinition(ctx context.Context, in *ecs.DescribeTaskDefinitionInput) (*ecs.DescribeTaskDefinitionOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	// The reference's own errors are told; all others are this one.
	if _, _, err := parseDefinitionRef(sc, deref(in.TaskDefinition)); err != nil {
		return nil, err
	}
	d, err := s.definition(snap, sc, deref(in.TaskDefinition))
	if err != nil {
		return nil, errClient("Unable to describe task definition.")
	}
	out := &ecs.DescribeTaskDefinitionOutput{TaskDefinition: &d.Definition}
	if slices.Contains(in.Include, types.TaskDefinitionFieldTags) {
		out.Tags = []types.Tag{}
		if d.Tags != nil {
			out.Tags = d.Tags
		}
	}
	return out, nil
}

// ListTaskDefinitions lists revisions by status (ACTIVE unless told otherwise),
// of all families or one.
func (s *Service) ListTaskDefinitions(ctx context.Context, in *ecs.ListTaskDefinitionsInput) (*ecs.ListTaskDefinitionsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	status := in.Status
	if status == "" {
		status = types.TaskDefinitionStatusActive
	}
	if !slices.Contains(status.Values(), status) {
		return nil, errInvalidParameter("Invalid status: %s", clip(string(status)))
	}
	if in.Sort != "" && !slices.Contains(in.Sort.Values(), in.Sort) {
		return nil, errInvalidParameter("Invalid sort: %s", clip(string(in.Sort)))
	}
	prefix := ""
	if family := deref(in.FamilyPrefix); family != "" {
		if !familyRE.MatchString(family) {
			return nil, errInvalidParameter("Invalid family prefix: %s", clip(family))
		}
		prefix = family + "/"
	}
	arns := map[string]string{}
	for id, d := range s.definitions.ListPrefix(snap, sc, prefix) {
		if d.Definition.Status == status {
			arns[sortKey(id, in.Sort)] = deref(d.Definition.TaskDefinitionArn)
		}
	}
	found, token, err := page(slices.Values(slices.Sorted(maps.Keys(arns))), in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ecs.ListTaskDefinitionsOutput{TaskDefinitionArns: []string{}, NextToken: token}
	for _, key := range found {
		out.TaskDefinitionArns = append(out.TaskDefinitionArns, arns[key])
	}
	return out, nil
}

// sortKey maps a definition's id to a key that sorts by family, then revision,
// or in the reverse order. No id's key is a prefix of another's.
func sortKey(id string, order types.SortOrder) string {
	// A slash would sort a-b before a.
	key := []byte(strings.Replace(id, "/", " ", 1))
	if order == types.SortOrderDesc {
		for i := range key {
			key[i] = 0x7f - key[i]
		}
	}
	return string(key)
}

// ListTaskDefinitionFamilies lists the families that begin with a prefix, by
// whether they have an ACTIVE revision.
func (s *Service) ListTaskDefinitionFamilies(ctx context.Context, in *ecs.ListTaskDefinitionFamiliesInput) (*ecs.ListTaskDefinitionFamiliesOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	if in.Status != "" && !slices.Contains(in.Status.Values(), in.Status) {
		return nil, errInvalidParameter("Invalid status: %s", clip(string(in.Status)))
	}
	keys := func(yield func(string) bool) {
		for name, f := range s.families.ListPrefix(snap, sc, deref(in.FamilyPrefix)) {
			if s.familyShown(snap, sc, f, in.Status) && !yield(name) {
				return
			}
		}
	}
	found, token, err := page(keys, in.MaxResults, in.NextToken)
	if err != nil {
		return nil, err
	}
	return &ecs.ListTaskDefinitionFamiliesOutput{Families: found, NextToken: token}, nil
}

// familyShown tells whether a family has the status. One without revisions has none.
func (s *Service) familyShown(r store.Reader, sc store.Scope, f *Family, status types.TaskDefinitionFamilyStatus) bool {
	if f.LatestActive > 0 {
		return status != types.TaskDefinitionFamilyStatusInactive
	}
	if status == types.TaskDefinitionFamilyStatusActive {
		return false
	}
	for range s.definitions.ListPrefix(r, sc, f.Name+"/") {
		return true
	}
	return false
}
