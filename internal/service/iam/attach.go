package iam

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// policyBy returns a managed policy, AWS's or the account's own.
func (s *Service) policyBy(r store.Reader, sc store.Scope, arn string) (*managedPolicy, bool) {
	if strings.HasPrefix(arn, awsPolicyPrefix) {
		p, ok := s.aws()[arn]
		return p, ok
	}
	name := arn[strings.LastIndexByte(arn, '/')+1:]
	if name == "" {
		return nil, false
	}
	p, ok := s.policies.Get(r, sc, key(name))
	if !ok || p.arn(sc.Account) != arn {
		return nil, false
	}
	return p, true
}

// use finds a policy that an identity is to refer to, and touches it, so that it
// cannot be deleted at the same moment.
func (s *Service) use(tx *store.Tx, sc store.Scope, arn string) error {
	p, ok := s.policyBy(tx, sc, arn)
	if !ok {
		return errNone("Policy %s does not exist or is not attachable.", arn)
	}
	if !strings.HasPrefix(arn, awsPolicyPrefix) {
		s.policies.Put(tx, sc, key(p.Name), p)
	}
	return nil
}

// bound sets an identity's permissions boundary, if one is given.
func (s *Service) bound(tx *store.Tx, sc store.Scope, i *identity, arn *string) error {
	if arn == nil {
		return nil
	}
	i.Boundary = *arn
	return s.use(tx, sc, *arn)
}

func boundaryShape(i *identity) *types.AttachedPermissionsBoundary {
	if i.Boundary == "" {
		return nil
	}
	return &types.AttachedPermissionsBoundary{
		PermissionsBoundaryArn: &i.Boundary, PermissionsBoundaryType: types.PermissionsBoundaryAttachmentTypePolicy,
	}
}

// attach is the same for users, groups and roles. What is attached already stays.
func (s *Service) attach(ctx context.Context, b *book, name, arn *string) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.edit(tx, sc, deref(name), func(i *identity) error {
			if err := s.use(tx, sc, deref(arn)); err != nil {
				return err
			}
			if strings.HasPrefix(*arn, awsPolicyPrefix+"aws-service-role/") {
				m := "Cannot attach a Service Role Policy to a Customer Role."
				return &types.PolicyNotAttachableException{Message: &m}
			}
			if slices.Contains(i.Attached, *arn) {
				return nil
			}
			if len(i.Attached) >= s.limits.AttachedPolicies {
				return errLimit("Cannot exceed quota for PoliciesPer%s: %d", b.title, s.limits.AttachedPolicies)
			}
			i.Attached = append(i.Attached, *arn)
			return nil
		})
	})
}

func (s *Service) detach(ctx context.Context, b *book, name, arn *string) error {
	return s.update(ctx, func(tx *store.Tx, sc store.Scope) error {
		return b.edit(tx, sc, deref(name), func(i *identity) (err error) {
			var was bool
			if i.Attached, was = without(i.Attached, deref(arn)); !was {
				return errNone("Policy %s was not found.", deref(arn))
			}
			return nil
		})
	})
}

// attachedTo lists the policies attached to an identity, by name.
func attachedTo(i *identity) iter.Seq2[string, types.AttachedPolicy] {
	list := each(i.Attached, func(arn string) types.AttachedPolicy {
		name := arn[strings.LastIndexByte(arn, '/')+1:]
		return types.AttachedPolicy{PolicyArn: &arn, PolicyName: &name}
	})
	order := func(p types.AttachedPolicy) string { return *p.PolicyName + " " + *p.PolicyArn }
	slices.SortFunc(list, func(a, b types.AttachedPolicy) int { return cmp.Compare(order(a), order(b)) })
	return func(yield func(string, types.AttachedPolicy) bool) {
		for _, p := range list {
			if !yield(order(p), p) {
				return
			}
		}
	}
}

func (s *Service) listAttached(ctx context.Context, b *book, name, prefix, marker *string, maxItems *int32) (paged[types.AttachedPolicy], error) {
	i, err := b.get(s.snapshot(), scopeOf(ctx), deref(name))
	if err != nil {
		return paged[types.AttachedPolicy]{}, err
	}
	return page(func(yield func(string, types.AttachedPolicy) bool) {
		for k, p := range attachedTo(i) {
			_, resource, _ := strings.Cut(*p.PolicyArn, ":policy")
			if strings.HasPrefix(resource, or(prefix, "/")) && !yield(k, p) {
				return
			}
		}
	}, marker, maxItems)
}

// AttachUserPolicy attaches a managed policy to a user.
func (s *Service) AttachUserPolicy(ctx context.Context, in *api.AttachUserPolicyInput) (*api.AttachUserPolicyOutput, error) {
	return nil, s.attach(ctx, s.users, in.UserName, in.PolicyArn)
}

// AttachGroupPolicy attaches a managed policy to a group.
func (s *Service) AttachGroupPolicy(ctx context.Context, in *api.AttachGroupPolicyInput) (*api.AttachGroupPolicyOutput, error) {
	return nil, s.attach(ctx, s.groups, in.GroupName, in.PolicyArn)
}

// AttachRolePolicy attaches a managed policy to a role.
func (s *Service) AttachRolePolicy(ctx context.Context, in *api.AttachRolePolicyInput) (*api.AttachRolePolicyOutput, error) {
	return nil, s.attach(ctx, s.roles, in.RoleName, in.PolicyArn)
}

// DetachUserPolicy detaches a managed policy from a user.
func (s *Service) DetachUserPolicy(ctx context.Context, in *api.DetachUserPolicyInput) (*api.DetachUserPolicyOutput, error) {
	return nil, s.detach(ctx, s.users, in.UserName, in.PolicyArn)
}

// DetachGroupPolicy detaches a managed policy from a group.
func (s *Service) DetachGroupPolicy(ctx context.Context, in *api.DetachGroupPolicyInput) (*api.DetachGroupPolicyOutput, error) {
	return nil, s.detach(ctx, s.groups, in.GroupName, in.PolicyArn)
}

// DetachRolePolicy detaches a managed policy from a role.
func (s *Service) DetachRolePolicy(ctx context.Context, in *api.DetachRolePolicyInput) (*api.DetachRolePolicyOutput, error) {
	return nil, s.detach(ctx, s.roles, in.RoleName, in.PolicyArn)
}

// ListAttachedUserPolicies lists the managed policies attached to a user.
func (s *Service) ListAttachedUserPolicies(ctx context.Context, in *api.ListAttachedUserPoliciesInput) (*api.ListAttachedUserPoliciesOutput, error) {
	p, err := s.listAttached(ctx, s.users, in.UserName, in.PathPrefix, in.Marker, in.MaxItems)
	return &api.ListAttachedUserPoliciesOutput{AttachedPolicies: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// ListAttachedGroupPolicies lists the managed policies attached to a group.
func (s *Service) ListAttachedGroupPolicies(ctx context.Context, in *api.ListAttachedGroupPoliciesInput) (*api.ListAttachedGroupPoliciesOutput, error) {
	p, err := s.listAttached(ctx, s.groups, in.GroupName, in.PathPrefix, in.Marker, in.MaxItems)
	return &api.ListAttachedGroupPoliciesOutput{AttachedPolicies: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// ListAttachedRolePolicies lists the managed policies attached to a role.
func (s *Service) ListAttachedRolePolicies(ctx context.Context, in *api.ListAttachedRolePoliciesInput) (*api.ListAttachedRolePoliciesOutput, error) {
	p, err := s.listAttached(ctx, s.roles, in.RoleName, in.PathPrefix, in.Marker, in.MaxItems)
	return &api.ListAttachedRolePoliciesOutput{AttachedPolicies: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}
