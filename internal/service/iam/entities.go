package iam

import (
	"context"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// holder is an identity that a policy is attached to, or whose boundary it is.
type holder struct {
	book *book
	*identity
}

// holders returns those of one kind, by the keys of their names.
func (b *book) holders(r store.Reader, sc store.Scope, arn string, usage types.PolicyUsageType, prefix string, into map[string]holder) {
	add := func(k string, i *identity) {
		if strings.HasPrefix(i.Path, prefix) {
			into[b.noun+" "+k] = holder{b, i}
		}
	}
	if usage != types.PolicyUsageTypePermissionsBoundary {
		for k, i := range b.byPolicy.List(r, sc, arn) {
			add(k, i)
		}
	}
	if usage != types.PolicyUsageTypePermissionsPolicy {
		for k, i := range b.byBoundary.List(r, sc, arn) {
			add(k, i)
		}
	}
}

// ListEntitiesForPolicy lists what refers to a managed policy: groups, roles and
// users, each by name.
func (s *Service) ListEntitiesForPolicy(ctx context.Context, in *api.ListEntitiesForPolicyInput) (*api.ListEntitiesForPolicyOutput, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	if _, err := s.policy(r, sc, in.PolicyArn); err != nil {
		return nil, err
	}
	found := map[string]holder{}
	for filter, b := range map[types.EntityType]*book{
		types.EntityTypeUser: s.users, types.EntityTypeGroup: s.groups, types.EntityTypeRole: s.roles,
	} {
		if in.EntityFilter == "" || in.EntityFilter == filter {
			b.holders(r, sc, *in.PolicyArn, in.PolicyUsageFilter, or(in.PathPrefix, "/"), found)
		}
	}
	p, err := page(named(found), in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &api.ListEntitiesForPolicyOutput{
		PolicyGroups: []types.PolicyGroup{}, PolicyRoles: []types.PolicyRole{}, PolicyUsers: []types.PolicyUser{},
		Marker: p.Marker, IsTruncated: p.Truncated,
	}
	for _, h := range p.Items {
		switch h.book {
		case s.groups:
			out.PolicyGroups = append(out.PolicyGroups, types.PolicyGroup{GroupName: &h.Name, GroupId: &h.ID})
		case s.roles:
			out.PolicyRoles = append(out.PolicyRoles, types.PolicyRole{RoleName: &h.Name, RoleId: &h.ID})
		default:
			out.PolicyUsers = append(out.PolicyUsers, types.PolicyUser{UserName: &h.Name, UserId: &h.ID})
		}
	}
	return out, nil
}
