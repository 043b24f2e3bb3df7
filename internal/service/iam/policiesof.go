package iam

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// sourcePolicy is one policy document that applies to a principal.
type sourcePolicy struct {
	// ID names it as simulations do: the name of a managed policy, or
	// user_NAME_POLICY, group_NAME_POLICY, role_NAME_POLICY for an embedded one.
	ID   string
	Type types.PolicySourceType
	// ARN of a managed policy, empty for an embedded one, which has a Name and a Holder
	// (the name of what it is embedded in).
	ARN          string
	Name, Holder string
	Text         string
}

// appliedPolicies are all that apply to a user or role, from one snapshot.
type appliedPolicies struct {
	// Identity holds the embedded policies, those attached, and those of a user's
	// groups.
	Identity []sourcePolicy
	// Session are those that a role's session was given.
	Session []sourcePolicy
	// Boundary is nil where there is none.
	Boundary *sourcePolicy
}

// policiesOf collects what applies to a user, group or role.
func (s *Service) policiesOf(r store.Reader, sc store.Scope, b *book, i *identity) *appliedPolicies {
	applied := &appliedPolicies{Identity: s.appendOwn(nil, r, sc, b, i)}
	for _, id := range i.Groups {
		if g := s.groups.find(r, sc, id); g != nil {
			applied.Identity = s.appendOwn(applied.Identity, r, sc, s.groups, g)
		}
	}
	if i.Boundary != "" {
		// A boundary without a document allows nothing.
		boundary, _ := s.managedSource(r, sc, i.Boundary)
		applied.Boundary = &boundary
	}
	return applied
}

// appendOwn adds an identity's embedded and attached policies, in a fixed order.
func (s *Service) appendOwn(list []sourcePolicy, r store.Reader, sc store.Scope, b *book, i *identity) []sourcePolicy {
	for name, text := range named(i.Inline) {
		list = append(list, sourcePolicy{ID: b.noun + "_" + i.Name + "_" + name, Type: types.PolicySourceType(b.noun), Name: name, Holder: i.Name, Text: text})
	}
	for _, arn := range i.Attached {
		if source, ok := s.managedSource(r, sc, arn); ok {
			list = append(list, source)
		}
	}
	return list
}

// managedSource is a managed policy's default version.
func (s *Service) managedSource(r store.Reader, sc store.Scope, arn string) (sourcePolicy, bool) {
	source := sourcePolicy{ARN: arn, ID: arn[strings.LastIndexByte(arn, '/')+1:], Type: types.PolicySourceTypeUserManaged}
	if strings.HasPrefix(arn, awsPolicyPrefix) {
		source.Type = types.PolicySourceTypeAwsManaged
	}
	p, ok := s.policyBy(r, sc, arn)
	if !ok {
		return source, false
	}
	source.Text = p.version(p.Default).Document
	return source, true
}
