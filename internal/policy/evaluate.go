package policy

import (
	"slices"
	"strings"
)

// PrincipalKind tells what sort of party makes a request.
type PrincipalKind int

// The kinds of principal.
const (
	// IdentityPrincipal is a user, a role's session or a federated user's.
	IdentityPrincipal PrincipalKind = iota
	// RootPrincipal is an account's root user; identity policies do not bind it.
	RootPrincipal
	// ServicePrincipal is an AWS service acting for itself; it has resource policies only.
	ServicePrincipal
	// FederatedPrincipal is somebody of an identity provider who has no session yet.
	FederatedPrincipal
)

// Principal is who makes a request.
type Principal struct {
	Kind    PrincipalKind
	Account string
	// ARN of the user or session; a service's name ("ecs-tasks.amazonaws.com"); a
	// provider's ARN or name.
	ARN string
	// ID is the unique id of a user.
	ID string
	// Source and SourceID are the ARN and unique id of the role behind a session, or of
	// the user behind a federated one; empty for a user.
	Source   string
	SourceID string
	// CanonicalID is the account's id in S3's policies.
	CanonicalID string
}

// Request is one action on one resource.
type Request struct {
	Principal Principal
	Resource  string
	// ResourceAccount owns the resource; empty means the principal's account.
	ResourceAccount string
	Context         *Context

	action, vendor, name string // in lower case
}

// NewRequest returns a request for an action ("ecs:RunTask").
func NewRequest(p Principal, action, resource string, c *Context) *Request {
	r := &Request{Principal: p, Resource: resource, Context: c, action: lower(action)}
	r.vendor, r.name, _ = strings.Cut(r.action, ":")
	return r
}

// Attached is a policy with what its holder calls it.
type Attached struct {
	ID       string
	Document *Document
}

// Policies are all that bear on a request.
type Policies struct {
	Identity []Attached
	// Resource is the policy of the resource, or the trust policy of the role that it is.
	Resource *Attached
	// ResourceRules tells that the resource's policy has to allow as well, in its own
	// account too: a role's trust policy and a key's policy are so. Trust policies
	// rule without this.
	ResourceRules bool
	// Boundary limits the identity policies; nil is none.
	Boundary *Attached
	// Session are the policies that were given with the session; none do not limit it.
	Session []Attached
}

// Type is the type of a policy that decided.
type Type int

// The types, as denials name them.
const (
	NoType Type = iota
	IdentityBased
	ResourceBased
	Boundary
	Session
	RoleTrust
)

// Decision is the answer to a request.
type Decision struct {
	Allowed bool
	// Explicit tells that a Deny statement matched; a refusal is implicit otherwise.
	Explicit bool
	// By is the type of policy that denied, or that lacks an allowance; for what is
	// allowed the one that allows. It is NoType for a root user in its own account.
	By Type
}

// Match is a statement that decided.
type Match struct {
	// PolicyID is the Attached.ID of its policy.
	PolicyID   string
	Type       Type
	Start, End Position
}

// Evaluate decides a request.
func Evaluate(r *Request, p *Policies) Decision {
	e := evaluation{r: r, p: p}
	return e.decide()
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Decision
	// Matched are the statements that decided: those that deny, or those that allow.
	// An implicit denial has none.
	Matched []Match
	// BoundaryAllows tells what the boundary says by itself, true without one.
	BoundaryAllows bool
	// Missing are the condition keys that the policies ask for and the context lacks.
	Missing []string
}

// Explain decides as Evaluate does, and tells why.
func Explain(r *Request, p *Policies) Explanation {
	e := evaluation{r: r, p: p, explain: true}
	x := Explanation{Decision: e.decide(), BoundaryAllows: true}
	if p.Boundary != nil {
		v := e.scan(p.Boundary, Boundary, verdict{})
		x.BoundaryAllows = v.grade != unnamed && !v.deny
	}
	for _, m := range e.matches {
		if m.deny == !x.Allowed && (x.Allowed || x.Explicit) && !slices.Contains(x.Matched, m.Match) {
			x.Matched = append(x.Matched, m.Match)
		}
	}
	seen := map[string]bool{}
	p.each(func(a *Attached) {
		for _, key := range a.Document.keys {
			if l := lower(key); !seen[l] && !r.Context.Has(key) {
				seen[l] = true
				x.Missing = append(x.Missing, key)
			}
		}
	})
	slices.SortFunc(x.Missing, func(a, b string) int { return strings.Compare(lower(a), lower(b)) })
	return x
}

func (p *Policies) each(f func(*Attached)) {
	for _, list := range [][]Attached{p.Identity, p.Session} {
		for i := range list {
			f(&list[i])
		}
	}
	for _, a := range []*Attached{p.Resource, p.Boundary} {
		if a != nil {
			f(a)
		}
	}
}

// evaluation is one decision in the making.
type evaluation struct {
	r       *Request
	p       *Policies
	explain bool
	matches []matched
}

type matched struct {
	Match
	deny bool
}

// verdict is what policies of one type say.
type verdict struct {
	deny bool
	// grade of the best allowance, unnamed for none; identity policies have but directly.
	grade grade
}

// scan asks one policy; v is what those of its type before it have said.
func (e *evaluation) scan(a *Attached, t Type, v verdict) verdict {
	for i := range a.Document.statements {
		s := &a.Document.statements[i]
		g := directly
		if s.principal != nil {
			g = s.principal.grade(&e.r.Principal, s.deny)
		}
		// Denials decide whatever else there is; of allowances only better ones matter.
		if g == unnamed || !s.deny && g <= v.grade && !e.explain || !s.applies(e.r) {
			continue
		}
		if e.explain {
			e.matches = append(e.matches, matched{Match{a.ID, t, s.start, s.end}, s.deny})
		}
		if !s.deny {
			v.grade = max(v.grade, g)
			continue
		}
		v.deny = true
		if !e.explain {
			return v
		}
	}
	return v
}

func (e *evaluation) scanAll(list []Attached, t Type) (v verdict) {
	for i := range list {
		v = e.scan(&list[i], t, v)
	}
	return v
}

func (e *evaluation) decide() Decision {
	p, who := e.p, &e.r.Principal
	resourceType := ResourceBased
	if p.Resource != nil && p.Resource.Document.kind == Trust {
		resourceType = RoleTrust
	}
	var identity, resource, boundary, session verdict
	bound := who.Kind == IdentityPrincipal
	if bound {
		identity = e.scanAll(p.Identity, IdentityBased)
		session = e.scanAll(p.Session, Session)
		if p.Boundary != nil {
			boundary = e.scan(p.Boundary, Boundary, verdict{})
		}
	}
	if p.Resource != nil {
		resource = e.scan(p.Resource, resourceType, verdict{})
	}
	switch {
	case identity.deny:
		return Decision{Explicit: true, By: IdentityBased}
	case resource.deny:
		return Decision{Explicit: true, By: resourceType}
	case boundary.deny:
		return Decision{Explicit: true, By: Boundary}
	case session.deny:
		return Decision{Explicit: true, By: Session}
	}
	rules := p.ResourceRules || resourceType == RoleTrust
	foreign := e.r.ResourceAccount != "" && e.r.ResourceAccount != who.Account
	if !bound {
		if who.Kind == RootPrincipal && !foreign && !rules {
			return Decision{Allowed: true}
		}
		return Decision{Allowed: resource.grade != unnamed, By: resourceType}
	}
	if !foreign && resource.grade == directly {
		return Decision{Allowed: true, By: resourceType}
	}
	// The identity's side, to which a resource policy of the same account may add.
	given := IdentityBased
	if identity.grade == unnamed {
		if foreign || resource.grade != bySource {
			if rules && resource.grade == unnamed {
				return Decision{By: resourceType}
			}
			return Decision{By: IdentityBased}
		}
		given = resourceType
	}
	switch {
	case p.Boundary != nil && boundary.grade == unnamed:
		return Decision{By: Boundary}
	case len(p.Session) > 0 && session.grade == unnamed:
		return Decision{By: Session}
	case (foreign || rules) && resource.grade == unnamed:
		return Decision{By: resourceType}
	}
	return Decision{Allowed: true, By: given}
}

// Reason is how AWS's denials end: why the action is not allowed.
func (d Decision) Reason(action string) string {
	names := map[Type][2]string{
		NoType:        {"identity-based policy", "an identity-based policy"},
		IdentityBased: {"identity-based policy", "an identity-based policy"},
		ResourceBased: {"resource-based policy", "a resource-based policy"},
		Boundary:      {"permissions boundary", "a permissions boundary"},
		Session:       {"session policy", "a session policy"},
		RoleTrust:     {"role trust policy", "the role trust policy"},
	}
	name := names[d.By]
	if d.Explicit {
		return "with an explicit deny in " + name[1]
	}
	return "because no " + name[0] + " allows the " + action + " action"
}
