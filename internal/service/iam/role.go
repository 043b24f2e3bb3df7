package iam

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

const defaultSession = 3600 // seconds

// CreateRole makes a role, which can do nothing yet.
func (s *Service) CreateRole(ctx context.Context, in *api.CreateRoleInput) (*api.CreateRoleOutput, error) {
	i, err := s.newIdentity(s.roles, in.RoleName, in.Path, in.Tags)
	if err != nil {
		return nil, err
	}
	if i.linked() {
		return nil, errInput("The path %s is reserved for service-linked roles: use CreateServiceLinkedRole.", linkedPath)
	}
	i.Description, i.MaxSessionSeconds = deref(in.Description), or(in.MaxSessionDuration, defaultSession)
	if i.Trust, i.TrustedIn, err = s.settleTrust(scopeOf(ctx).Account, deref(in.AssumeRolePolicyDocument)); err != nil {
		return nil, err
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if err := s.bound(tx, sc, i, in.PermissionsBoundary); err != nil {
			return err
		}
		return s.roles.add(tx, sc, i, s.limits.Roles)
	})
	return &api.CreateRoleOutput{Role: s.fullRole(scopeOf(ctx).Account, i)}, err
}

// roleShape is a role as lists show it, without tags and boundary.
func (s *Service) roleShape(account string, i *identity) types.Role {
	arn := s.roles.arn(account, i)
	shape := types.Role{
		Path: &i.Path, RoleName: &i.Name, RoleId: &i.ID, Arn: &arn, CreateDate: &i.CreatedAt,
		AssumeRolePolicyDocument: encoded(s.shownTrust(i)), MaxSessionDuration: &i.MaxSessionSeconds,
	}
	if i.Description != "" {
		shape.Description = &i.Description
	}
	return shape
}

func (s *Service) fullRole(account string, i *identity) *types.Role {
	shape := s.roleShape(account, i)
	shape.Tags, shape.PermissionsBoundary = someTags(i.Tags), boundaryShape(i)
	return &shape
}

// GetRole describes a role.
func (s *Service) GetRole(ctx context.Context, in *api.GetRoleInput) (*api.GetRoleOutput, error) {
	sc := scopeOf(ctx)
	i, err := s.roles.get(s.snapshot(), sc, deref(in.RoleName))
	if err != nil {
		return nil, err
	}
	role := s.fullRole(sc.Account, i)
	role.RoleLastUsed = s.roleLastUsed(s.snapshot(), i)
	return &api.GetRoleOutput{Role: role}, nil
}

// roleLastUsed is when a session of the role last called, empty for never.
func (s *Service) roleLastUsed(r store.Reader, i *identity) *types.RoleLastUsed {
	use, ok := s.lastUse(r, i.ID)
	if !ok {
		return &types.RoleLastUsed{}
	}
	return &types.RoleLastUsed{LastUsedDate: &use.At, Region: &use.Region}
}

// ListRoles lists the roles, by name.
func (s *Service) ListRoles(ctx context.Context, in *api.ListRolesInput) (*api.ListRolesOutput, error) {
	sc := scopeOf(ctx)
	p, err := page(s.roles.list(s.snapshot(), sc, in.PathPrefix), in.Marker, in.MaxItems)
	roles := each(p.Items, func(i *identity) types.Role { return s.roleShape(sc.Account, i) })
	return &api.ListRolesOutput{Roles: roles, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// UpdateRole changes a role's description or how long its sessions may last. What
// is not given returns to its default, as in AWS.
func (s *Service) UpdateRole(ctx context.Context, in *api.UpdateRoleInput) (*api.UpdateRoleOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return s.roles.edit(tx, sc, deref(in.RoleName), func(i *identity) error {
			if in.Description != nil {
				i.Description = *in.Description
			}
			i.MaxSessionSeconds = or(in.MaxSessionDuration, defaultSession)
			return nil
		})
	})
}

// UpdateRoleDescription changes a role's description.
func (s *Service) UpdateRoleDescription(ctx context.Context, in *api.UpdateRoleDescriptionInput) (*api.UpdateRoleDescriptionOutput, error) {
	out := &api.UpdateRoleDescriptionOutput{}
	return out, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return s.roles.editAny(tx, sc, deref(in.RoleName), func(i *identity) error {
			i.Description = deref(in.Description)
			out.Role = s.fullRole(sc.Account, i)
			return nil
		})
	})
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(ctx context.Context, in *api.UpdateAssumeRolePolicyInput) (*api.UpdateAssumeRolePolicyOutput, error) {
	trust, trustedIn, err := s.settleTrust(scopeOf(ctx).Account, deref(in.PolicyDocument))
	if err != nil {
		return nil, err
	}
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return s.roles.edit(tx, sc, deref(in.RoleName), func(i *identity) error {
			i.Trust, i.TrustedIn = trust, trustedIn
			return nil
		})
	})
}

// DeleteRole deletes a role that has no policies and is in no instance profile.
func (s *Service) DeleteRole(ctx context.Context, in *api.DeleteRoleInput) (*api.DeleteRoleOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		i, err := s.roles.get(tx, sc, deref(in.RoleName))
		if err != nil {
			return err
		}
		if err := changeable(i); err != nil {
			return err
		}
		if s.profilesByRole.Count(tx, sc, i.ID) > 0 {
			return errInUse("Cannot delete entity, must remove roles from instance profile first.")
		}
		if err := removable(i); err != nil {
			return err
		}
		s.roles.table.Delete(tx, sc, key(i.Name))
		s.keyUses.Delete(tx, store.Scope{}, i.ID)
		return nil
	})
}

// TagRole adds tags.
func (s *Service) TagRole(ctx context.Context, in *api.TagRoleInput) (*api.TagRoleOutput, error) {
	return nil, s.tag(ctx, s.roles, in.RoleName, in.Tags)
}

// UntagRole removes tags.
func (s *Service) UntagRole(ctx context.Context, in *api.UntagRoleInput) (*api.UntagRoleOutput, error) {
	return nil, s.untag(ctx, s.roles, in.RoleName, in.TagKeys)
}

// ListRoleTags lists a role's tags.
func (s *Service) ListRoleTags(ctx context.Context, in *api.ListRoleTagsInput) (*api.ListRoleTagsOutput, error) {
	i, err := s.roles.get(s.snapshot(), scopeOf(ctx), deref(in.RoleName))
	if err != nil {
		return nil, err
	}
	p, err := pageTags(i.Tags, in.Marker, in.MaxItems)
	return &api.ListRoleTagsOutput{Tags: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}
