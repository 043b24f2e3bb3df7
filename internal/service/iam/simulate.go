package iam

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/wire"
)

const (
	// maxSimulated bounds the resources of a simulation, and maxDecisions what one
	// answer decides: AWS, too, may give fewer results than were asked for.
	maxSimulated = 1000
	maxDecisions = 20_000
)

// simulation is a question to the evaluator about what nobody does.
type simulation struct {
	principal policy.Principal
	policies  policy.Policies
	// types of the policies by their IDs, as answers name them.
	types     map[string]types.PolicySourceType
	context   *policy.Context
	resources []string
	owner     string // account of the resources that name none
}

// simulationInput is what both simulations are given.
type simulationInput struct {
	policies, boundaries, resources []string
	resourcePolicy, owner, caller   *string
	entries                         []types.ContextEntry
}

// newSimulation prepares a simulation, to which the policies of a principal can be
// added. account is the one whose IAM is asked.
func (s *Service) newSimulation(account string, in simulationInput) (*simulation, error) {
	m := &simulation{
		types: map[string]types.PolicySourceType{}, context: policy.NewContext(8 + len(in.entries)),
		resources: in.resources, owner: account, principal: policy.Principal{Account: account},
	}
	switch {
	case len(in.boundaries) > 1:
		return nil, errInput("Only one permissions boundary can be simulated.")
	case len(in.resources) > maxSimulated:
		return nil, errInput("At most %d resources can be simulated.", maxSimulated)
	case len(in.resources) == 0:
		m.resources = []string{"*"}
	}
	for n, text := range in.policies {
		if err := m.add(s, sourcePolicy{ID: fmt.Sprintf("PolicyInputList.%d", n+1), Type: types.PolicySourceTypeNone, Text: text}); err != nil {
			return nil, err
		}
	}
	for _, text := range in.boundaries {
		if err := m.bound(s, sourcePolicy{ID: "PermissionsBoundaryPolicyInputList.1", Type: types.PolicySourceTypeNone, Text: text}); err != nil {
			return nil, err
		}
	}
	if in.resourcePolicy != nil {
		if in.caller == nil {
			return nil, errInput("CallerArn is required with a ResourcePolicy.")
		}
		d, err := policy.Parse([]byte(*in.resourcePolicy), policy.Resource)
		if err != nil {
			return nil, errInput("Invalid ResourcePolicy: %s", err)
		}
		m.policies.Resource = &policy.Attached{ID: "ResourcePolicy", Document: d}
		m.types["ResourcePolicy"] = types.PolicySourceTypeResource
	}
	if in.owner != nil {
		m.owner = *in.owner
		if strings.HasPrefix(*in.owner, "arn:") {
			m.owner = accountOf(*in.owner, account)
		}
	}
	if err := m.callBy(in.caller); err != nil {
		return nil, err
	}
	return m, m.know(in.entries)
}

// add adds an identity policy.
func (m *simulation) add(s *Service, source sourcePolicy) error {
	d, err := s.documents.get(source.Text)
	if err != nil {
		return errInput("Invalid policy %s: %s", source.ID, err)
	}
	m.policies.Identity = append(m.policies.Identity, policy.Attached{ID: source.ID, Document: d})
	m.types[source.ID] = source.Type
	return nil
}

func (m *simulation) bound(s *Service, source sourcePolicy) error {
	d, err := s.documents.get(source.Text)
	if err != nil {
		return errInput("Invalid permissions boundary %s: %s", source.ID, err)
	}
	m.policies.Boundary = &policy.Attached{ID: source.ID, Document: d}
	m.types[source.ID] = source.Type
	return nil
}

// callBy makes an identity the caller.
func (m *simulation) callBy(arn *string) error {
	if arn == nil {
		return nil
	}
	kind, name, ok := splitIdentity(*arn)
	if !ok {
		return errInput("Invalid CallerArn: %s is not the ARN of a user, group or role.", clip(*arn))
	}
	m.principal.ARN, m.principal.Account = *arn, accountOf(*arn, m.principal.Account)
	m.context.Set("aws:PrincipalArn", *arn)
	m.context.Set("aws:PrincipalAccount", m.principal.Account)
	if kind == "user" {
		m.context.Set("aws:username", name)
	}
	return nil
}

// splitIdentity takes the ARN of a user, group or role apart.
func splitIdentity(arn string) (kind, name string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "iam" {
		return "", "", false
	}
	kind, path, _ := strings.Cut(parts[5], "/")
	name = path[strings.LastIndexByte(path, '/')+1:]
	return kind, name, name != "" && slices.Contains([]string{"user", "group", "role"}, kind)
}

// know takes the condition keys that are given, in place of those that are known.
func (m *simulation) know(entries []types.ContextEntry) error {
	for _, e := range entries {
		if e.ContextKeyName == nil || e.ContextKeyType == "" {
			return errInput("A context entry needs a name and a type.")
		}
		if len(e.ContextKeyValues) > 1 && !strings.HasSuffix(string(e.ContextKeyType), "List") {
			return errInput("The context key %s has several values: its type must be %sList.", *e.ContextKeyName, e.ContextKeyType)
		}
		m.context.Set(*e.ContextKeyName, e.ContextKeyValues...)
	}
	return nil
}

// run decides on every resource for each action of a page.
func (m *simulation) run(actions []string, marker *string, maxItems *int32) (paged[types.EvaluationResult], error) {
	for _, action := range actions {
		if service, name, ok := strings.Cut(action, ":"); !ok || service == "" || name == "" || strings.ContainsAny(action, "*?") {
			return paged[types.EvaluationResult]{}, errInput("Invalid action name: %s. Actions are named in full, as in iam:CreateUser.", clip(action))
		}
	}
	size := min(or(maxItems, defaultPage), int32(max(1, maxDecisions/len(m.resources))))
	p, err := page(func(yield func(string, string) bool) {
		for n, action := range actions {
			if !yield(fmt.Sprintf("%08d", n), action) {
				return
			}
		}
	}, marker, &size)
	return paged[types.EvaluationResult]{Items: each(p.Items, m.result), Marker: p.Marker, Truncated: p.Truncated}, err
}

// result is that of one action: on all resources together the most restrictive
// decision, and for each resource its own where they were named.
func (m *simulation) result(action string) types.EvaluationResult {
	star := "*"
	all := types.EvaluationResult{EvalActionName: &action, EvalResourceName: &star, EvalDecision: types.PolicyEvaluationDecisionTypeAllowed}
	missing, matched, boundary := map[string]bool{}, map[types.PolicyEvaluationDecisionType][]types.Statement{}, true
	for _, resource := range m.resources {
		one, boundaryAllows := m.decide(action, resource)
		for _, key := range one.MissingContextValues {
			missing[key] = true
		}
		boundary = boundary && boundaryAllows
		matched[one.EvalResourceDecision] = append(matched[one.EvalResourceDecision], one.MatchedStatements...)
		all.EvalDecision = stricter(all.EvalDecision, one.EvalResourceDecision)
		if resource != "*" {
			all.ResourceSpecificResults = append(all.ResourceSpecificResults, one)
		}
	}
	all.MatchedStatements = distinct(matched[all.EvalDecision])
	all.MissingContextValues = []string{}
	for key := range named(missing) {
		all.MissingContextValues = append(all.MissingContextValues, key)
	}
	all.PermissionsBoundaryDecisionDetail = m.boundaryDetail(boundary)
	return all
}

// stricter returns the decision that gives less.
func stricter(a, b types.PolicyEvaluationDecisionType) types.PolicyEvaluationDecisionType {
	for _, d := range []types.PolicyEvaluationDecisionType{types.PolicyEvaluationDecisionTypeExplicitDeny, types.PolicyEvaluationDecisionTypeImplicitDeny} {
		if a == d || b == d {
			return d
		}
	}
	return a
}

// distinct keeps each statement once, in order.
func distinct(list []types.Statement) []types.Statement {
	seen, out := map[string]bool{}, []types.Statement{}
	for _, st := range list {
		at := fmt.Sprint(*st.SourcePolicyId, *st.StartPosition)
		if !seen[at] {
			seen[at] = true
			out = append(out, st)
		}
	}
	return out
}

func (m *simulation) boundaryDetail(allows bool) *types.PermissionsBoundaryDecisionDetail {
	if m.policies.Boundary == nil {
		return nil
	}
	return &types.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: allows}
}

// decide decides on one resource.
func (m *simulation) decide(action, resource string) (one types.ResourceSpecificResult, boundaryAllows bool) {
	r := policy.NewRequest(m.principal, action, resource, m.context)
	r.ResourceAccount = accountOf(resource, m.owner)
	e := policy.Explain(r, &m.policies)
	one = types.ResourceSpecificResult{
		EvalResourceName: &resource, EvalResourceDecision: types.PolicyEvaluationDecisionTypeImplicitDeny,
		MatchedStatements: []types.Statement{}, MissingContextValues: append([]string{}, e.Missing...),
		PermissionsBoundaryDecisionDetail: m.boundaryDetail(e.BoundaryAllows),
	}
	switch {
	case e.Allowed:
		one.EvalResourceDecision = types.PolicyEvaluationDecisionTypeAllowed
	case e.Explicit:
		one.EvalResourceDecision = types.PolicyEvaluationDecisionTypeExplicitDeny
	}
	for _, match := range e.Matched {
		one.MatchedStatements = append(one.MatchedStatements, types.Statement{
			SourcePolicyId: &match.PolicyID, SourcePolicyType: m.types[match.PolicyID],
			StartPosition: position(match.Start), EndPosition: position(match.End),
		})
	}
	return one, e.BoundaryAllows
}

func position(p policy.Position) *types.Position {
	return &types.Position{Line: int32(p.Line), Column: int32(p.Column)}
}

// SimulateCustomPolicy decides by the policies that are given.
func (s *Service) SimulateCustomPolicy(ctx context.Context, in *api.SimulateCustomPolicyInput) (*api.SimulateCustomPolicyOutput, error) {
	if err := noOther(in.ResourceHandlingOption, len(in.OrderedOrganizationPolicyInputList)); err != nil {
		return nil, err
	}
	m, err := s.newSimulation(wire.CallFrom(ctx).Account, simulationInput{
		in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourceArns, in.ResourcePolicy, in.ResourceOwner, in.CallerArn, in.ContextEntries,
	})
	if err != nil {
		return nil, err
	}
	p, err := m.run(in.ActionNames, in.Marker, in.MaxItems)
	return &api.SimulateCustomPolicyOutput{EvaluationResults: p.Items, Marker: p.Marker, IsTruncated: p.Truncated}, err
}

// noOther refuses what is not simulated, rather than leave it out.
func noOther(handling *string, organization int) error {
	switch {
	case handling != nil:
		return errInput("ResourceHandlingOption %s cannot be simulated: it concerns actions of EC2.", clip(*handling))
	case organization > 0:
		return errInput("Policies of an organization cannot be simulated: there are no organizations here.")
	}
	return nil
}

// keysOf lists the condition keys that documents ask for, each once.
func keysOf(documents iter.Seq[*policy.Document]) []string {
	keys := map[string]string{}
	for d := range documents {
		for _, k := range d.ContextKeys() {
			if _, ok := keys[strings.ToLower(k)]; !ok {
				keys[strings.ToLower(k)] = k
			}
		}
	}
	list := []string{}
	for _, k := range named(keys) {
		list = append(list, k)
	}
	return list
}

// GetContextKeysForCustomPolicy lists the condition keys that given policies ask for.
func (s *Service) GetContextKeysForCustomPolicy(ctx context.Context, in *api.GetContextKeysForCustomPolicyInput) (*api.GetContextKeysForCustomPolicyOutput, error) {
	m, err := s.newSimulation(wire.CallFrom(ctx).Account, simulationInput{policies: in.PolicyInputList})
	if err != nil {
		return nil, err
	}
	return &api.GetContextKeysForCustomPolicyOutput{ContextKeyNames: keysOf(m.documents())}, nil
}

// documents lists the identity policies of a simulation and its boundary.
func (m *simulation) documents() iter.Seq[*policy.Document] {
	return func(yield func(*policy.Document) bool) {
		for _, a := range m.policies.Identity {
			if !yield(a.Document) {
				return
			}
		}
		if m.policies.Boundary != nil {
			yield(m.policies.Boundary.Document)
		}
	}
}
