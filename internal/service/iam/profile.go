package iam

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// profile returns an instance profile, or NoSuchEntity.
func (t tables) profile(r store.Reader, sc store.Scope, name *string) (*profile, error) {
	if n := deref(name); n != "" {
		if p, ok := t.profiles.Get(r, sc, key(n)); ok && p.Name == n {
			return p, nil
		}
	}
	return nil, errNone("Instance Profile %s cannot be found.", deref(name))
}

func (s *Service) editProfile(ctx context.Context, name *string, fn func(tx *store.Tx, sc store.Scope, p *profile) error) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		p, err := s.profile(tx, sc, name)
		if err != nil {
			return err
		}
		p = s.profiles.Clone(p)
		if err := fn(tx, sc, p); err != nil {
			return err
		}
		s.profiles.Put(tx, sc, key(p.Name), p)
		return nil
	})
}

// profileShape is an instance profile with its role; lists leave its tags out.
func (s *Service) profileShape(r store.Reader, sc store.Scope, p *profile) types.InstanceProfile {
	arn := p.arn(sc.Account)
	shape := types.InstanceProfile{
		Path: &p.Path, InstanceProfileName: &p.Name, InstanceProfileId: &p.ID, Arn: &arn, CreateDate: &p.CreatedAt, Roles: []types.Role{},
	}
	if p.Role != "" {
		if role := s.roles.find(r, sc, p.Role); role != nil {
			shape.Roles = append(shape.Roles, s.roleShape(sc.Account, role))
		}
	}
	return shape
}

// CreateInstanceProfile makes an instance profile without a role.
func (s *Service) CreateInstanceProfile(ctx context.Context, in *api.CreateInstanceProfileInput) (*api.CreateInstanceProfileOutput, error) {
	id, err := newID("AIPA")
	if err != nil {
		return nil, err
	}
	p := &profile{Name: deref(in.InstanceProfileName), Path: or(in.Path, "/"), ID: id, CreatedAt: s.now()}
	if len(in.Tags) > 0 {
		if p.Tags, err = setTags(nil, in.Tags); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if _, taken := s.profiles.Get(tx, sc, key(p.Name)); taken {
			return errExists("Instance Profile %s already exists.", p.Name)
		}
		if atLeast(s.profiles.List(tx, sc), s.limits.InstanceProfiles) {
			return errLimit("Cannot exceed quota for InstanceProfilesPerAccount: %d", s.limits.InstanceProfiles)
		}
		s.profiles.Put(tx, sc, key(p.Name), p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	shape := s.profileShape(s.snapshot(), scopeOf(ctx), p)
	shape.Tags = someTags(p.Tags)
	return &api.CreateInstanceProfileOutput{InstanceProfile: &shape}, nil
}

// GetInstanceProfile describes an instance profile.
func (s *Service) GetInstanceProfile(ctx context.Context, in *api.GetInstanceProfileInput) (*api.GetInstanceProfileOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	p, err := s.profile(r, sc, in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	shape := s.profileShape(r, sc, p)
	shape.Tags = someTags(p.Tags)
	return &api.GetInstanceProfileOutput{InstanceProfile: &shape}, nil
}

// ListInstanceProfiles lists the instance profiles, by name.
func (s *Service) ListInstanceProfiles(ctx context.Context, in *api.ListInstanceProfilesInput) (*api.ListInstanceProfilesOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	p, err := page(below(s.profiles.List(r, sc), func(p *profile) string { return p.Path }, in.PathPrefix), in.Marker, in.MaxItems)
	shapes := each(p.Items, func(p *profile) types.InstanceProfile { return s.profileShape(r, sc, p) })
	return &api.ListInstanceProfilesOutput{InstanceProfiles: shapes, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// ListInstanceProfilesForRole lists the instance profiles that hold a role, by name.
func (s *Service) ListInstanceProfilesForRole(ctx context.Context, in *api.ListInstanceProfilesForRoleInput) (*api.ListInstanceProfilesForRoleOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	role, err := s.roles.get(r, sc, deref(in.RoleName))
	if err != nil {
		return nil, err
	}
	p, err := page(s.profilesByRole.List(r, sc, role.ID), in.Marker, in.MaxItems)
	shapes := each(p.Items, func(p *profile) types.InstanceProfile { return s.profileShape(r, sc, p) })
	return &api.ListInstanceProfilesForRoleOutput{InstanceProfiles: shapes, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// DeleteInstanceProfile deletes an instance profile without a role.
func (s *Service) DeleteInstanceProfile(ctx context.Context, in *api.DeleteInstanceProfileInput) (*api.DeleteInstanceProfileOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		p, err := s.profile(tx, sc, in.InstanceProfileName)
		if err != nil {
			return err
		}
		if p.Role != "" {
			return errInUse("Cannot delete entity, must remove roles from instance profile first.")
		}
		s.profiles.Delete(tx, sc, key(p.Name))
		return nil
	})
}

// AddRoleToInstanceProfile puts a role into an instance profile, which holds one.
func (s *Service) AddRoleToInstanceProfile(ctx context.Context, in *api.AddRoleToInstanceProfileInput) (*api.AddRoleToInstanceProfileOutput, error) {
	return nil, s.editProfile(ctx, in.InstanceProfileName, func(tx *store.Tx, sc store.Scope, p *profile) error {
		role, err := s.roles.get(tx, sc, deref(in.RoleName))
		if err != nil {
			return err
		}
		if err := changeable(role); err != nil {
			return err
		}
		if p.Role != "" {
			return errLimit("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
		}
		p.Role = role.ID
		s.roles.touch(tx, sc, role)
		return nil
	})
}

// RemoveRoleFromInstanceProfile takes a role out of an instance profile.
func (s *Service) RemoveRoleFromInstanceProfile(ctx context.Context, in *api.RemoveRoleFromInstanceProfileInput) (*api.RemoveRoleFromInstanceProfileOutput, error) {
	return nil, s.editProfile(ctx, in.InstanceProfileName, func(tx *store.Tx, sc store.Scope, p *profile) error {
		role, err := s.roles.get(tx, sc, deref(in.RoleName))
		if err != nil {
			return err
		}
		if p.Role != role.ID {
			return errNone("The role with name %s cannot be found in the instance profile %s.", role.Name, p.Name)
		}
		p.Role = ""
		return nil
	})
}

// TagInstanceProfile adds tags.
func (s *Service) TagInstanceProfile(ctx context.Context, in *api.TagInstanceProfileInput) (*api.TagInstanceProfileOutput, error) {
	return nil, s.editProfile(ctx, in.InstanceProfileName, func(_ *store.Tx, _ store.Scope, p *profile) (err error) {
		p.Tags, err = setTags(p.Tags, in.Tags)
		return err
	})
}

// UntagInstanceProfile removes tags.
func (s *Service) UntagInstanceProfile(ctx context.Context, in *api.UntagInstanceProfileInput) (*api.UntagInstanceProfileOutput, error) {
	return nil, s.editProfile(ctx, in.InstanceProfileName, func(_ *store.Tx, _ store.Scope, p *profile) error {
		for _, k := range in.TagKeys {
			dropTag(p.Tags, k)
		}
		return nil
	})
}

// ListInstanceProfileTags lists an instance profile's tags.
func (s *Service) ListInstanceProfileTags(ctx context.Context, in *api.ListInstanceProfileTagsInput) (*api.ListInstanceProfileTagsOutput, error) {
	p, err := s.profile(s.snapshot(), scopeOf(ctx), in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	tags, err := pageTags(p.Tags, in.Marker, in.MaxItems)
	return &api.ListInstanceProfileTagsOutput{Tags: tags.Items, Marker: tags.Marker, IsTruncated: tags.Truncated}, err
}
