package iam

import (
	"context"
	"iter"
	"slices"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// detail adds one user, group, role or policy to an answer.
type detail func(out *api.GetAccountAuthorizationDetailsOutput)

// GetAccountAuthorizationDetails lists users, groups, roles and policies with their
// documents and what refers to what. Of AWS's policies it lists those in use.
func (s *Service) GetAccountAuthorizationDetails(ctx context.Context, in *api.GetAccountAuthorizationDetailsInput) (*api.GetAccountAuthorizationDetailsOutput, error) {
	p, err := page(s.details(s.snapshot(), scopeOf(ctx), in.Filter), in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &api.GetAccountAuthorizationDetailsOutput{
		UserDetailList: []types.UserDetail{}, GroupDetailList: []types.GroupDetail{}, RoleDetailList: []types.RoleDetail{},
		Policies: []types.ManagedPolicyDetail{}, Marker: p.Marker, IsTruncated: p.Truncated,
	}
	for _, add := range p.Items {
		add(out)
	}
	return out, nil
}

// details lists all that a filter lets through, in the order of their keys.
func (s *Service) details(r store.Reader, sc store.Scope, filter []types.EntityType) iter.Seq2[string, detail] {
	wanted := func(t types.EntityType) bool { return len(filter) == 0 || slices.Contains(filter, t) }
	type listing struct {
		entity types.EntityType
		list   iter.Seq2[string, detail]
	}
	// In the order of their prefixes, as page wants it.
	all := []listing{
		{types.EntityTypeUser, mapped("1 ", s.users.table.List(r, sc), func(i *identity) detail { return s.userDetail(r, sc, i) })},
		{types.EntityTypeGroup, mapped("2 ", s.groups.table.List(r, sc), func(i *identity) detail { return s.groupDetail(sc, i) })},
		{types.EntityTypeRole, mapped("3 ", s.roles.table.List(r, sc), func(i *identity) detail { return s.roleDetail(r, sc, i) })},
		{types.EntityTypeAWSManagedPolicy, mapped("4 ", s.allPolicies(r, sc, types.PolicyScopeTypeAws), func(p policyAt) detail { return s.policyDetail(r, sc, p) })},
		{types.EntityTypeLocalManagedPolicy, mapped("5 ", s.allPolicies(r, sc, types.PolicyScopeTypeLocal), func(p policyAt) detail { return s.policyDetail(r, sc, p) })},
	}
	return func(yield func(string, detail) bool) {
		for _, l := range all {
			if !wanted(l.entity) {
				continue
			}
			for k, d := range l.list {
				if d != nil && !yield(k, d) {
					return
				}
			}
		}
	}
}

func mapped[T any](prefix string, list iter.Seq2[string, T], fn func(T) detail) iter.Seq2[string, detail] {
	return func(yield func(string, detail) bool) {
		for k, v := range list {
			if !yield(prefix+k, fn(v)) {
				return
			}
		}
	}
}

func inlineDetails(i *identity) []types.PolicyDetail {
	list := []types.PolicyDetail{}
	for name, text := range named(i.Inline) {
		list = append(list, types.PolicyDetail{PolicyName: &name, PolicyDocument: encoded(text)})
	}
	return list
}

func attachedDetails(i *identity) []types.AttachedPolicy {
	list := []types.AttachedPolicy{}
	for _, p := range attachedTo(i) {
		list = append(list, p)
	}
	return list
}

func (s *Service) userDetail(r store.Reader, sc store.Scope, i *identity) detail {
	return func(out *api.GetAccountAuthorizationDetailsOutput) {
		arn, groups := s.users.arn(sc.Account, i), []string{}
		for _, id := range i.Groups {
			if g := s.groups.find(r, sc, id); g != nil {
				groups = append(groups, g.Name)
			}
		}
		slices.Sort(groups)
		out.UserDetailList = append(out.UserDetailList, types.UserDetail{
			Path: &i.Path, UserName: &i.Name, UserId: &i.ID, Arn: &arn, CreateDate: &i.CreatedAt, GroupList: groups,
			UserPolicyList: inlineDetails(i), AttachedManagedPolicies: attachedDetails(i), PermissionsBoundary: boundaryShape(i), Tags: someTags(i.Tags),
		})
	}
}

func (s *Service) groupDetail(sc store.Scope, i *identity) detail {
	return func(out *api.GetAccountAuthorizationDetailsOutput) {
		arn := s.groups.arn(sc.Account, i)
		out.GroupDetailList = append(out.GroupDetailList, types.GroupDetail{
			Path: &i.Path, GroupName: &i.Name, GroupId: &i.ID, Arn: &arn, CreateDate: &i.CreatedAt,
			GroupPolicyList: inlineDetails(i), AttachedManagedPolicies: attachedDetails(i),
		})
	}
}

func (s *Service) roleDetail(r store.Reader, sc store.Scope, i *identity) detail {
	return func(out *api.GetAccountAuthorizationDetailsOutput) {
		arn, profiles := s.roles.arn(sc.Account, i), []types.InstanceProfile{}
		for _, p := range s.profilesByRole.List(r, sc, i.ID) {
			profiles = append(profiles, s.profileShape(r, sc, p))
		}
		out.RoleDetailList = append(out.RoleDetailList, types.RoleDetail{
			Path: &i.Path, RoleName: &i.Name, RoleId: &i.ID, Arn: &arn, CreateDate: &i.CreatedAt, AssumeRolePolicyDocument: encoded(s.shownTrust(i)),
			InstanceProfileList: profiles, RolePolicyList: inlineDetails(i), AttachedManagedPolicies: attachedDetails(i),
			PermissionsBoundary: boundaryShape(i), Tags: someTags(i.Tags), RoleLastUsed: s.roleLastUsed(r, i),
		})
	}
}

// policyDetail is nil for a policy of AWS's that nothing refers to.
func (s *Service) policyDetail(r store.Reader, sc store.Scope, p policyAt) detail {
	attached, bounded := s.counts(r, sc, p.arn)
	if attached+bounded == 0 && p.managedPolicy.arn(sc.Account) != p.arn {
		return nil
	}
	return func(out *api.GetAccountAuthorizationDetailsOutput) {
		d := types.ManagedPolicyDetail{
			PolicyName: &p.Name, PolicyId: &p.ID, Arn: &p.arn, Path: &p.Path, DefaultVersionId: versionID(p.Default), IsAttachable: true,
			AttachmentCount: &attached, PermissionsBoundaryUsageCount: &bounded, CreateDate: &p.CreatedAt, UpdateDate: &p.UpdatedAt,
			PolicyVersionList: []types.PolicyVersion{},
		}
		if p.Description != "" {
			d.Description = &p.Description
		}
		for i := range slices.Backward(p.Versions) {
			shape := p.versionShape(&p.Versions[i])
			shape.Document = encoded(p.Versions[i].Document)
			d.PolicyVersionList = append(d.PolicyVersionList, shape)
		}
		out.Policies = append(out.Policies, d)
	}
}
