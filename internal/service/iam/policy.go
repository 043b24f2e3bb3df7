package iam

import (
	"context"
	"iter"
	"strconv"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

func checkManaged(document string) error {
	if err := checkPolicy(policy.Identity, document); err != nil {
		return err
	}
	if sizeOf(document) > maxManaged {
		return errLimit("Cannot exceed quota for PolicySize: %d", maxManaged)
	}
	return nil
}

// CreatePolicy makes a customer managed policy with one version.
func (s *Service) CreatePolicy(ctx context.Context, in *api.CreatePolicyInput) (*api.CreatePolicyOutput, error) {
	if err := checkManaged(deref(in.PolicyDocument)); err != nil {
		return nil, err
	}
	id, err := newID("ANPA")
	if err != nil {
		return nil, err
	}
	now := s.now()
	p := &managedPolicy{
		Name: deref(in.PolicyName), Path: or(in.Path, "/"), ID: id, Description: deref(in.Description), CreatedAt: now, UpdatedAt: now,
		Versions: []version{{Number: 1, Document: *in.PolicyDocument, CreatedAt: now}}, Default: 1, Last: 1,
	}
	if len(in.Tags) > 0 {
		if p.Tags, err = setTags(nil, in.Tags); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if _, taken := s.policies.Get(tx, sc, key(p.Name)); taken {
			return errExists("A policy called %s already exists. Duplicate names are not allowed.", p.Name)
		}
		if atLeast(s.policies.List(tx, sc), s.limits.Policies) {
			return errLimit("Cannot exceed quota for PoliciesPerAccount: %d", s.limits.Policies)
		}
		s.policies.Put(tx, sc, key(p.Name), p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreatePolicyOutput{Policy: s.fullPolicy(s.snapshot(), scopeOf(ctx), p.arn(scopeOf(ctx).Account), p)}, nil
}

// policyShape is a policy as lists show it, without description and tags.
func (s *Service) policyShape(r store.Reader, sc store.Scope, arn string, p *managedPolicy) types.Policy {
	attached, bounded := s.counts(r, sc, arn)
	return types.Policy{
		PolicyName: &p.Name, PolicyId: &p.ID, Arn: &arn, Path: &p.Path, DefaultVersionId: versionID(p.Default), IsAttachable: true,
		AttachmentCount: &attached, PermissionsBoundaryUsageCount: &bounded, CreateDate: &p.CreatedAt, UpdateDate: &p.UpdatedAt,
	}
}

func (s *Service) fullPolicy(r store.Reader, sc store.Scope, arn string, p *managedPolicy) *types.Policy {
	shape := s.policyShape(r, sc, arn, p)
	shape.Tags = someTags(p.Tags)
	if p.Description != "" {
		shape.Description = &p.Description
	}
	return &shape
}

// counts tells to how many identities a policy is attached, and whose boundary it is.
func (s *Service) counts(r store.Reader, sc store.Scope, arn string) (attached, bounded int32) {
	for _, b := range []*book{s.users, s.groups, s.roles} {
		attached += int32(b.byPolicy.Count(r, sc, arn))
		bounded += int32(b.byBoundary.Count(r, sc, arn))
	}
	return attached, bounded
}

// policy returns a managed policy, or NoSuchEntity.
func (s *Service) policy(r store.Reader, sc store.Scope, arn *string) (*managedPolicy, error) {
	p, ok := s.policyBy(r, sc, deref(arn))
	if !ok {
		return nil, errNone("Policy %s was not found.", deref(arn))
	}
	return p, nil
}

// ownPolicy refuses to change what AWS manages, whoever asks.
func ownPolicy(ctx context.Context, arn *string) error {
	if c := wire.CallFrom(ctx); strings.HasPrefix(deref(arn), awsPolicyPrefix) {
		return wire.Errorf("AccessDeniedException", "User: %s is not authorized to perform: iam:%s on resource: policy %s because AWS manages it",
			c.Principal.ARN, c.Operation, *arn)
	}
	return nil
}

// editPolicy changes a policy of the account's own.
func (s *Service) editPolicy(ctx context.Context, arn *string, fn func(tx *store.Tx, sc store.Scope, p *managedPolicy) error) error {
	if err := ownPolicy(ctx, arn); err != nil {
		return err
	}
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		p, err := s.policy(tx, sc, arn)
		if err != nil {
			return err
		}
		p = s.policies.Clone(p)
		if err := fn(tx, sc, p); err != nil {
			return err
		}
		s.policies.Put(tx, sc, key(p.Name), p)
		return nil
	})
}

// GetPolicy describes a managed policy.
func (s *Service) GetPolicy(ctx context.Context, in *api.GetPolicyInput) (*api.GetPolicyOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	p, err := s.policy(r, sc, in.PolicyArn)
	if err != nil {
		return nil, err
	}
	return &api.GetPolicyOutput{Policy: s.fullPolicy(r, sc, *in.PolicyArn, p)}, nil
}

// allPolicies lists AWS's policies and then the account's own, each by name.
func (s *Service) allPolicies(r store.Reader, sc store.Scope, scope types.PolicyScopeType) iter.Seq2[string, policyAt] {
	return func(yield func(string, policyAt) bool) {
		if scope != types.PolicyScopeTypeLocal {
			for arn, p := range named(s.aws()) {
				if !yield("aws "+strings.TrimPrefix(arn, awsPolicyPrefix), policyAt{arn, p}) {
					return
				}
			}
		}
		if scope == types.PolicyScopeTypeAws {
			return
		}
		for k, p := range s.policies.List(r, sc) {
			if !yield("own "+k, policyAt{p.arn(sc.Account), p}) {
				return
			}
		}
	}
}

// policyAt is a managed policy and its ARN.
type policyAt struct {
	arn string
	*managedPolicy
}

// ListPolicies lists managed policies: AWS's first, each by name.
func (s *Service) ListPolicies(ctx context.Context, in *api.ListPoliciesInput) (*api.ListPoliciesOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	wanted := func(p policyAt) bool {
		if !strings.HasPrefix(p.Path, or(in.PathPrefix, "/")) {
			return false
		}
		if !in.OnlyAttached && in.PolicyUsageFilter == "" {
			return true
		}
		attached, bounded := s.counts(r, sc, p.arn)
		return (attached > 0 && in.PolicyUsageFilter != types.PolicyUsageTypePermissionsBoundary) ||
			(bounded > 0 && in.PolicyUsageFilter != types.PolicyUsageTypePermissionsPolicy)
	}
	p, err := page(func(yield func(string, policyAt) bool) {
		for k, p := range s.allPolicies(r, sc, in.Scope) {
			if wanted(p) && !yield(k, p) {
				return
			}
		}
	}, in.Marker, in.MaxItems)
	policies := each(p.Items, func(p policyAt) types.Policy { return s.policyShape(r, sc, p.arn, p.managedPolicy) })
	return &api.ListPoliciesOutput{Policies: policies, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// DeletePolicy deletes a policy that nothing refers to and that has one version.
func (s *Service) DeletePolicy(ctx context.Context, in *api.DeletePolicyInput) (*api.DeletePolicyOutput, error) {
	if err := ownPolicy(ctx, in.PolicyArn); err != nil {
		return nil, err
	}
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		p, err := s.policy(tx, sc, in.PolicyArn)
		if err != nil {
			return err
		}
		if attached, bounded := s.counts(tx, sc, *in.PolicyArn); attached+bounded > 0 {
			return errInUse("Cannot delete a policy attached to entities.")
		}
		if len(p.Versions) > 1 {
			return errInUse("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		s.policies.Delete(tx, sc, key(p.Name))
		return nil
	})
}

// TagPolicy adds tags.
func (s *Service) TagPolicy(ctx context.Context, in *api.TagPolicyInput) (*api.TagPolicyOutput, error) {
	return nil, s.editPolicy(ctx, in.PolicyArn, func(_ *store.Tx, _ store.Scope, p *managedPolicy) (err error) {
		p.Tags, err = setTags(p.Tags, in.Tags)
		return err
	})
}

// UntagPolicy removes tags.
func (s *Service) UntagPolicy(ctx context.Context, in *api.UntagPolicyInput) (*api.UntagPolicyOutput, error) {
	return nil, s.editPolicy(ctx, in.PolicyArn, func(_ *store.Tx, _ store.Scope, p *managedPolicy) error {
		for _, k := range in.TagKeys {
			dropTag(p.Tags, k)
		}
		return nil
	})
}

// ListPolicyTags lists a policy's tags.
func (s *Service) ListPolicyTags(ctx context.Context, in *api.ListPolicyTagsInput) (*api.ListPolicyTagsOutput, error) {
	p, err := s.policy(s.snapshot(), scopeOf(ctx), in.PolicyArn)
	if err != nil {
		return nil, err
	}
	tags, err := pageTags(p.Tags, in.Marker, in.MaxItems)
	return &api.ListPolicyTagsOutput{Tags: tags.Items, Marker: tags.Marker, IsTruncated: tags.Truncated}, err
}

func versionID(number int) *string {
	id := "v" + strconv.Itoa(number)
	return &id
}
