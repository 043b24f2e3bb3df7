package iam

import (
	"context"
	"slices"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// CreateGroup makes a group without members.
func (s *Service) CreateGroup(ctx context.Context, in *api.CreateGroupInput) (*api.CreateGroupOutput, error) {
	g, err := s.newIdentity(s.groups, in.GroupName, in.Path, nil)
	if err != nil {
		return nil, err
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error { return s.groups.add(tx, sc, g, s.limits.Groups) })
	shape := s.groupShape(scopeOf(ctx).Account, g)
	return &api.CreateGroupOutput{Group: &shape}, err
}

func (s *Service) groupShape(account string, g *identity) types.Group {
	arn := s.groups.arn(account, g)
	return types.Group{Path: &g.Path, GroupName: &g.Name, GroupId: &g.ID, Arn: &arn, CreateDate: &g.CreatedAt}
}

// GetGroup describes a group and lists its members, by name.
func (s *Service) GetGroup(ctx context.Context, in *api.GetGroupInput) (*api.GetGroupOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	g, err := s.groups.get(r, sc, deref(in.GroupName))
	if err != nil {
		return nil, err
	}
	p, err := page(s.users.byGroup.List(r, sc, g.ID), in.Marker, in.MaxItems)
	shape := s.groupShape(sc.Account, g)
	users := each(p.Items, func(u *identity) types.User { return s.userShape(sc.Account, u) })
	return &api.GetGroupOutput{Group: &shape, Users: users, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// ListGroups lists the groups, by name.
func (s *Service) ListGroups(ctx context.Context, in *api.ListGroupsInput) (*api.ListGroupsOutput, error) {
	sc := scopeOf(ctx)
	p, err := page(s.groups.list(s.snapshot(), sc, in.PathPrefix), in.Marker, in.MaxItems)
	groups := each(p.Items, func(g *identity) types.Group { return s.groupShape(sc.Account, g) })
	return &api.ListGroupsOutput{Groups: groups, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// UpdateGroup renames or moves a group, which keeps members and policies.
func (s *Service) UpdateGroup(ctx context.Context, in *api.UpdateGroupInput) (*api.UpdateGroupOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return s.groups.rename(tx, sc, deref(in.GroupName), in.NewGroupName, in.NewPath)
	})
}

// DeleteGroup deletes a group without members and policies.
func (s *Service) DeleteGroup(ctx context.Context, in *api.DeleteGroupInput) (*api.DeleteGroupOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		g, err := s.groups.get(tx, sc, deref(in.GroupName))
		if err != nil {
			return err
		}
		if s.users.byGroup.Count(tx, sc, g.ID) > 0 {
			return errInUse("Cannot delete entity, must remove users from group first.")
		}
		if err := removable(g); err != nil {
			return err
		}
		s.groups.table.Delete(tx, sc, key(g.Name))
		return nil
	})
}

// AddUserToGroup makes a user a member, which it may be already.
func (s *Service) AddUserToGroup(ctx context.Context, in *api.AddUserToGroupInput) (*api.AddUserToGroupOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		g, err := s.groups.get(tx, sc, deref(in.GroupName))
		if err != nil {
			return err
		}
		return s.users.edit(tx, sc, deref(in.UserName), func(u *identity) error {
			if slices.Contains(u.Groups, g.ID) {
				return nil
			}
			if len(u.Groups) >= s.limits.GroupsPerUser {
				return errLimit("Cannot exceed quota for GroupsPerUser: %d", s.limits.GroupsPerUser)
			}
			u.Groups = append(u.Groups, g.ID)
			s.groups.touch(tx, sc, g)
			return nil
		})
	})
}

// RemoveUserFromGroup ends a membership.
func (s *Service) RemoveUserFromGroup(ctx context.Context, in *api.RemoveUserFromGroupInput) (*api.RemoveUserFromGroupOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		g, err := s.groups.get(tx, sc, deref(in.GroupName))
		if err != nil {
			return err
		}
		return s.users.edit(tx, sc, deref(in.UserName), func(u *identity) error {
			var was bool
			if u.Groups, was = without(u.Groups, g.ID); !was {
				return errNone("The user with name %s cannot be found in the group %s.", u.Name, g.Name)
			}
			return nil
		})
	})
}
