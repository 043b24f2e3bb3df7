package iam

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/store"
)

// setBoundary sets or, with nil, removes a permissions boundary.
func (s *Service) setBoundary(ctx context.Context, b *book, name, arn *string) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.edit(tx, sc, deref(name), func(i *identity) error {
			i.Boundary = ""
			return s.bound(tx, sc, i, arn)
		})
	})
}

// PutUserPermissionsBoundary sets a user's boundary.
func (s *Service) PutUserPermissionsBoundary(ctx context.Context, in *api.PutUserPermissionsBoundaryInput) (*api.PutUserPermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, s.users, in.UserName, in.PermissionsBoundary)
}

// DeleteUserPermissionsBoundary removes a user's boundary.
func (s *Service) DeleteUserPermissionsBoundary(ctx context.Context, in *api.DeleteUserPermissionsBoundaryInput) (*api.DeleteUserPermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, s.users, in.UserName, nil)
}

// PutRolePermissionsBoundary sets a role's boundary.
func (s *Service) PutRolePermissionsBoundary(ctx context.Context, in *api.PutRolePermissionsBoundaryInput) (*api.PutRolePermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, s.roles, in.RoleName, in.PermissionsBoundary)
}

// DeleteRolePermissionsBoundary removes a role's boundary.
func (s *Service) DeleteRolePermissionsBoundary(ctx context.Context, in *api.DeleteRolePermissionsBoundaryInput) (*api.DeleteRolePermissionsBoundaryOutput, error) {
	return nil, s.setBoundary(ctx, s.roles, in.RoleName, nil)
}
