package iam

import (
	"context"
	"slices"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// newIdentity makes what users, groups and roles have in common.
func (s *Service) newIdentity(b *book, name, path *string, tags []types.Tag) (*identity, error) {
	id, err := newID(b.prefix)
	if err != nil {
		return nil, err
	}
	i := &identity{Name: deref(name), Path: or(path, "/"), ID: id, CreatedAt: s.now()}
	if len(tags) > 0 {
		i.Tags, err = setTags(nil, tags)
	}
	return i, err
}

// CreateUser makes a user, who can do nothing yet.
func (s *Service) CreateUser(ctx context.Context, in *api.CreateUserInput) (*api.CreateUserOutput, error) {
	u, err := s.newIdentity(s.users, in.UserName, in.Path, in.Tags)
	if err != nil {
		return nil, err
	}
	err = s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		if err := s.bound(tx, sc, u, in.PermissionsBoundary); err != nil {
			return err
		}
		return s.users.add(tx, sc, u, s.limits.Users)
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateUserOutput{User: s.fullUser(scopeOf(ctx).Account, u)}, nil
}

// userShape is a user as lists show it, without tags and boundary.
func (s *Service) userShape(account string, u *identity) types.User {
	arn := s.users.arn(account, u)
	return types.User{Path: &u.Path, UserName: &u.Name, UserId: &u.ID, Arn: &arn, CreateDate: &u.CreatedAt}
}

func (s *Service) fullUser(account string, u *identity) *types.User {
	shape := s.userShape(account, u)
	shape.Tags, shape.PermissionsBoundary = someTags(u.Tags), boundaryShape(u)
	return &shape
}

// userName is the user that an operation names, or the caller.
func (s *Service) userName(ctx context.Context, given *string) (string, error) {
	if given != nil {
		return *given, nil
	}
	if p := wire.CallFrom(ctx).Principal; p.Kind == wire.PrincipalUser {
		if u := s.users.find(s.snapshot(), accountScope(p.AccountID), p.UserID); u != nil {
			return u.Name, nil
		}
	}
	return "", wire.Errorf("ValidationError", "Must specify userName when calling with non-User credentials")
}

// GetUser describes a user, by default the caller.
func (s *Service) GetUser(ctx context.Context, in *api.GetUserInput) (*api.GetUserOutput, error) {
	call := wire.CallFrom(ctx)
	if in.UserName == nil && call.Principal.Kind == wire.PrincipalRoot {
		return &api.GetUserOutput{User: s.rootShape(call.Principal)}, nil
	}
	name, err := s.userName(ctx, in.UserName)
	if err != nil {
		return nil, err
	}
	u, err := s.users.get(s.snapshot(), scopeOf(ctx), name)
	if err != nil {
		return nil, err
	}
	return &api.GetUserOutput{User: s.fullUser(call.Account, u)}, nil
}

// rootShape shows the root user, who has no name and is as old as its first key.
func (s *Service) rootShape(p wire.Principal) *types.User {
	u := &types.User{Arn: &p.ARN, UserId: &p.AccountID}
	for _, k := range s.keysByOwner.List(s.snapshot(), store.Scope{}, p.AccountID) {
		if u.CreateDate == nil || k.CreatedAt.Before(*u.CreateDate) {
			u.CreateDate = &k.CreatedAt
		}
	}
	return u
}

// ListUsers lists the users, by name.
func (s *Service) ListUsers(ctx context.Context, in *api.ListUsersInput) (*api.ListUsersOutput, error) {
	sc := scopeOf(ctx)
	p, err := page(s.users.list(s.snapshot(), sc, in.PathPrefix), in.Marker, in.MaxItems)
	users := each(p.Items, func(u *identity) types.User { return s.userShape(sc.Account, u) })
	return &api.ListUsersOutput{Users: users, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// UpdateUser renames or moves a user, who keeps groups, policies and keys.
func (s *Service) UpdateUser(ctx context.Context, in *api.UpdateUserInput) (*api.UpdateUserOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return s.users.rename(tx, sc, deref(in.UserName), in.NewUserName, in.NewPath)
	})
}

// DeleteUser deletes a user that has nothing left.
func (s *Service) DeleteUser(ctx context.Context, in *api.DeleteUserInput) (*api.DeleteUserOutput, error) {
	return nil, s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		u, err := s.users.get(tx, sc, deref(in.UserName))
		if err != nil {
			return err
		}
		if err := removable(u); err != nil {
			return err
		}
		if s.keysByOwner.Count(tx, store.Scope{}, u.ID) > 0 {
			return errInUse("Cannot delete entity, must delete access keys first.")
		}
		if len(u.Groups) > 0 {
			return errInUse("Cannot delete entity, must remove users from group first.")
		}
		s.users.table.Delete(tx, sc, key(u.Name))
		return nil
	})
}

// ListGroupsForUser lists the groups that a user is in, by name.
func (s *Service) ListGroupsForUser(ctx context.Context, in *api.ListGroupsForUserInput) (*api.ListGroupsForUserOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	u, err := s.users.get(r, sc, deref(in.UserName))
	if err != nil {
		return nil, err
	}
	groups := map[string]*identity{}
	for _, id := range u.Groups {
		if g := s.groups.find(r, sc, id); g != nil {
			groups[key(g.Name)] = g
		}
	}
	p, err := page(named(groups), in.Marker, in.MaxItems)
	shapes := each(p.Items, func(g *identity) types.Group { return s.groupShape(sc.Account, g) })
	return &api.ListGroupsForUserOutput{Groups: shapes, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// TagUser adds tags.
func (s *Service) TagUser(ctx context.Context, in *api.TagUserInput) (*api.TagUserOutput, error) {
	return nil, s.tag(ctx, s.users, in.UserName, in.Tags)
}

// UntagUser removes tags.
func (s *Service) UntagUser(ctx context.Context, in *api.UntagUserInput) (*api.UntagUserOutput, error) {
	return nil, s.untag(ctx, s.users, in.UserName, in.TagKeys)
}

// ListUserTags lists a user's tags.
func (s *Service) ListUserTags(ctx context.Context, in *api.ListUserTagsInput) (*api.ListUserTagsOutput, error) {
	u, err := s.users.get(s.snapshot(), scopeOf(ctx), deref(in.UserName))
	if err != nil {
		return nil, err
	}
	p, err := pageTags(u.Tags, in.Marker, in.MaxItems)
	return &api.ListUserTagsOutput{Tags: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

func (s *Service) tag(ctx context.Context, b *book, name *string, tags []types.Tag) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.editAny(tx, sc, deref(name), func(i *identity) (err error) {
			i.Tags, err = setTags(i.Tags, tags)
			return err
		})
	})
}

func (s *Service) untag(ctx context.Context, b *book, name *string, keys []string) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.editAny(tx, sc, deref(name), func(i *identity) error {
			for _, k := range keys {
				dropTag(i.Tags, k)
			}
			return nil
		})
	})
}

// without returns a list without one of its values, and whether it was there.
func without(list []string, value string) ([]string, bool) {
	at := slices.Index(list, value)
	if at < 0 {
		return list, false
	}
	return slices.Delete(slices.Clone(list), at, at+1), true
}
