package iam

import (
	"context"
	"path"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
)

// identityBy returns the user, group or role of an ARN, or NoSuchEntity.
func (s *Service) identityBy(r store.Reader, sc store.Scope, arn string) (*book, *identity, error) {
	kind, name, ok := splitIdentity(arn)
	b := map[string]*book{"user": s.users, "group": s.groups, "role": s.roles}[kind]
	if !ok || b == nil {
		return nil, nil, errInput("Invalid Entity Arn: %s does not clearly define entity type and name.", clip(arn))
	}
	i, err := b.get(r, sc, name)
	if err != nil {
		return nil, nil, err
	}
	if b.arn(sc.Account, i) != arn {
		return nil, nil, errNone("The %s with name %s cannot be found.", kind, name)
	}
	return b, i, nil
}

// SimulatePrincipalPolicy decides by the policies of a user, group or role, and by
// those that are given besides.
func (s *Service) SimulatePrincipalPolicy(ctx context.Context, in *api.SimulatePrincipalPolicyInput) (*api.SimulatePrincipalPolicyOutput, error) {
	if err := noOther(in.ResourceHandlingOption, 0); err != nil {
		return nil, err
	}
	caller := in.CallerArn
	if caller == nil {
		caller = in.PolicySourceArn
	}
	m, err := s.simulationOf(ctx, in.PolicySourceArn, in.PolicyExclusionList, simulationInput{
		in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourceArns, in.ResourcePolicy, in.ResourceOwner, caller, in.ContextEntries,
	})
	if err != nil {
		return nil, err
	}
	p, err := m.run(in.ActionNames, in.Marker, in.MaxItems)
	return &api.SimulatePrincipalPolicyOutput{EvaluationResults: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// simulationOf prepares a simulation with the policies of an identity.
func (s *Service) simulationOf(ctx context.Context, arn *string, without []types.PolicyIdentifier, input simulationInput) (*simulation, error) {
	r, sc := s.snapshot(), scopeOf(ctx)
	b, i, err := s.identityBy(r, sc, deref(arn))
	if err != nil {
		return nil, err
	}
	for n := range without {
		if err := checkExclusion(without[n]); err != nil {
			return nil, err
		}
	}
	m, err := s.newSimulation(sc.Account, input)
	if err != nil {
		return nil, err
	}
	if deref(input.caller) == *arn {
		m.principal.ID = i.ID
	}
	applied := s.policiesOf(r, sc, b, i)
	for _, source := range applied.Identity {
		if !excluded(source, without) {
			if err := m.add(s, source); err != nil {
				return nil, err
			}
		}
	}
	if applied.Boundary != nil && m.policies.Boundary == nil && !boundaryExcluded(without) {
		return m, m.bound(s, *applied.Boundary)
	}
	return m, nil
}

// checkExclusion refuses what no policy can be meant by.
func checkExclusion(p types.PolicyIdentifier) error {
	switch p := p.(type) {
	case *types.PolicyIdentifierMemberPolicyArn:
		if head, name, ok := strings.Cut(p.Value, ":policy/"); !ok || strings.ContainsAny(head, "*?") || badPattern(name) {
			return errInput("Invalid policy identifier: %s", clip(p.Value))
		}
	case *types.PolicyIdentifierMemberInlinePolicyIdentifier:
		if badPattern(deref(p.Value.AttachmentName)) {
			return errInput("Invalid policy identifier: %s", clip(deref(p.Value.AttachmentName)))
		}
	case *types.PolicyIdentifierMemberPolicyType:
	default:
		return errInput("A policy identifier needs one of PolicyType, PolicyArn and InlinePolicyIdentifier.")
	}
	return nil
}

func badPattern(pattern string) bool { return strings.Count(pattern, "*") > 1 }

// like tells whether a name matches a pattern with "*" and "?".
func like(pattern, name string) bool {
	// What path.Match has beyond that does not occur in names, but for the slash.
	escape := strings.NewReplacer("[", `\[`, `\`, `\\`, "/", "\x00")
	ok, err := path.Match(escape.Replace(pattern), strings.ReplaceAll(name, "/", "\x00"))
	return ok && err == nil
}

// excluded tells whether an identity policy is to be left out.
func excluded(source sourcePolicy, without []types.PolicyIdentifier) bool {
	kind := types.PolicyIdentifierPolicyType(source.Type)
	if source.ARN == "" {
		kind = types.PolicyIdentifierPolicyTypeInline
	}
	return slices.ContainsFunc(without, func(p types.PolicyIdentifier) bool {
		switch p := p.(type) {
		case *types.PolicyIdentifierMemberPolicyType:
			return p.Value == kind
		case *types.PolicyIdentifierMemberPolicyArn:
			return source.ARN != "" && like(p.Value, source.ARN)
		case *types.PolicyIdentifierMemberInlinePolicyIdentifier:
			return source.ARN == "" && string(p.Value.AttachmentType) == string(source.Type) &&
				deref(p.Value.PolicyName) == source.Name && like(deref(p.Value.AttachmentName), source.Holder)
		}
		return false
	})
}

func boundaryExcluded(without []types.PolicyIdentifier) bool {
	return slices.ContainsFunc(without, func(p types.PolicyIdentifier) bool {
		kind, ok := p.(*types.PolicyIdentifierMemberPolicyType)
		return ok && kind.Value == types.PolicyIdentifierPolicyTypePermissionBoundary
	})
}

// GetContextKeysForPrincipalPolicy lists the condition keys that the policies of a
// user, group or role, and those that are given, ask for.
func (s *Service) GetContextKeysForPrincipalPolicy(ctx context.Context, in *api.GetContextKeysForPrincipalPolicyInput) (*api.GetContextKeysForPrincipalPolicyOutput, error) {
	m, err := s.simulationOf(ctx, in.PolicySourceArn, nil, simulationInput{policies: in.PolicyInputList})
	if err != nil {
		return nil, err
	}
	return &api.GetContextKeysForPrincipalPolicyOutput{ContextKeyNames: keysOf(m.documents())}, nil
}
