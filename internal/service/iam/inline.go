package iam

import (
	"context"

	api "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
)

// putInline embeds a policy, in place of one of the same name. size bounds all of
// the identity's together.
func (s *Service) putInline(ctx context.Context, b *book, size int, name, policyName, document *string) error {
	if err := checkPolicy(policy.Identity, deref(document)); err != nil {
		return err
	}
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.edit(tx, sc, deref(name), func(i *identity) error {
			if i.Inline == nil {
				i.Inline = map[string]string{}
			}
			i.Inline[deref(policyName)] = *document
			total := 0
			for _, text := range i.Inline {
				total += sizeOf(text)
			}
			if total > size {
				return errLimit("Maximum policy size of %d bytes exceeded for %s %s", size, b.noun, i.Name)
			}
			return nil
		})
	})
}

func errNoInline(b *book, name *string) error {
	return errNone("The %s policy with name %s cannot be found.", b.noun, deref(name))
}

func (s *Service) getInline(ctx context.Context, b *book, name, policyName *string) (*string, error) {
	i, err := b.get(s.snapshot(), scopeOf(ctx), deref(name))
	if err != nil {
		return nil, err
	}
	text, ok := i.Inline[deref(policyName)]
	if !ok {
		return nil, errNoInline(b, policyName)
	}
	return encoded(text), nil
}

func (s *Service) deleteInline(ctx context.Context, b *book, name, policyName *string) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.edit(tx, sc, deref(name), func(i *identity) error {
			if _, ok := i.Inline[deref(policyName)]; !ok {
				return errNoInline(b, policyName)
			}
			delete(i.Inline, *policyName)
			return nil
		})
	})
}

func (s *Service) listInline(ctx context.Context, b *book, name, marker *string, maxItems *int32) (paged[string], error) {
	i, err := b.get(s.snapshot(), scopeOf(ctx), deref(name))
	if err != nil {
		return paged[string]{}, err
	}
	return page(func(yield func(string, string) bool) {
		for policyName := range named(i.Inline) {
			if !yield(policyName, policyName) {
				return
			}
		}
	}, marker, maxItems)
}

// PutUserPolicy embeds a policy in a user.
func (s *Service) PutUserPolicy(ctx context.Context, in *api.PutUserPolicyInput) (*api.PutUserPolicyOutput, error) {
	return nil, s.putInline(ctx, s.users, maxUserInline, in.UserName, in.PolicyName, in.PolicyDocument)
}

// GetUserPolicy returns a policy that is embedded in a user.
func (s *Service) GetUserPolicy(ctx context.Context, in *api.GetUserPolicyInput) (*api.GetUserPolicyOutput, error) {
	text, err := s.getInline(ctx, s.users, in.UserName, in.PolicyName)
	return &api.GetUserPolicyOutput{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteUserPolicy removes a policy that is embedded in a user.
func (s *Service) DeleteUserPolicy(ctx context.Context, in *api.DeleteUserPolicyInput) (*api.DeleteUserPolicyOutput, error) {
	return nil, s.deleteInline(ctx, s.users, in.UserName, in.PolicyName)
}

// ListUserPolicies lists the names of the policies embedded in a user.
func (s *Service) ListUserPolicies(ctx context.Context, in *api.ListUserPoliciesInput) (*api.ListUserPoliciesOutput, error) {
	p, err := s.listInline(ctx, s.users, in.UserName, in.Marker, in.MaxItems)
	return &api.ListUserPoliciesOutput{PolicyNames: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// PutGroupPolicy embeds a policy in a group.
func (s *Service) PutGroupPolicy(ctx context.Context, in *api.PutGroupPolicyInput) (*api.PutGroupPolicyOutput, error) {
	return nil, s.putInline(ctx, s.groups, maxGroupInline, in.GroupName, in.PolicyName, in.PolicyDocument)
}

// GetGroupPolicy returns a policy that is embedded in a group.
func (s *Service) GetGroupPolicy(ctx context.Context, in *api.GetGroupPolicyInput) (*api.GetGroupPolicyOutput, error) {
	text, err := s.getInline(ctx, s.groups, in.GroupName, in.PolicyName)
	return &api.GetGroupPolicyOutput{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteGroupPolicy removes a policy that is embedded in a group.
func (s *Service) DeleteGroupPolicy(ctx context.Context, in *api.DeleteGroupPolicyInput) (*api.DeleteGroupPolicyOutput, error) {
	return nil, s.deleteInline(ctx, s.groups, in.GroupName, in.PolicyName)
}

// ListGroupPolicies lists the names of the policies embedded in a group.
func (s *Service) ListGroupPolicies(ctx context.Context, in *api.ListGroupPoliciesInput) (*api.ListGroupPoliciesOutput, error) {
	p, err := s.listInline(ctx, s.groups, in.GroupName, in.Marker, in.MaxItems)
	return &api.ListGroupPoliciesOutput{PolicyNames: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// PutRolePolicy embeds a policy in a role.
func (s *Service) PutRolePolicy(ctx context.Context, in *api.PutRolePolicyInput) (*api.PutRolePolicyOutput, error) {
	return nil, s.putInline(ctx, s.roles, maxRoleInline, in.RoleName, in.PolicyName, in.PolicyDocument)
}

// GetRolePolicy returns a policy that is embedded in a role.
func (s *Service) GetRolePolicy(ctx context.Context, in *api.GetRolePolicyInput) (*api.GetRolePolicyOutput, error) {
	text, err := s.getInline(ctx, s.roles, in.RoleName, in.PolicyName)
	return &api.GetRolePolicyOutput{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteRolePolicy removes a policy that is embedded in a role.
func (s *Service) DeleteRolePolicy(ctx context.Context, in *api.DeleteRolePolicyInput) (*api.DeleteRolePolicyOutput, error) {
	return nil, s.deleteInline(ctx, s.roles, in.RoleName, in.PolicyName)
}

// ListRolePolicies lists the names of the policies embedded in a role.
func (s *Service) ListRolePolicies(ctx context.Context, in *api.ListRolePoliciesInput) (*api.ListRolePoliciesOutput, error) {
	p, err := s.listInline(ctx, s.roles, in.RoleName, in.Marker, in.MaxItems)
	return &api.ListRolePoliciesOutput{PolicyNames: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}
