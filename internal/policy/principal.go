package policy

import (
	"regexp"
	"strings"
)

// grade tells how a resource policy's statement names whoever makes the request.
type grade int

const (
	unnamed grade = iota
	// byAccount: its account is named, which may give on what it was given.
	byAccount
	// bySource: the role of its session is named, or the user of a federated one. What
	// limits the session limits this.
	bySource
	// directly: the user or the session itself, a service, or everybody.
	directly
)

// principals is a compiled Principal or NotPrincipal.
type principals struct {
	not       bool
	everybody bool
	accounts  map[string]bool
	// names holds ARNs and unique ids of users, roles and sessions.
	names     map[string]bool
	services  map[string]bool
	federated map[string]bool
	canonical map[string]bool
}

// grade tells how the statement applies to a principal: unnamed is not at all.
func (ps *principals) grade(p *Principal, deny bool) grade {
	if !ps.not {
		return ps.named(p)
	}
	if ps.spares(p, deny) {
		return unnamed
	}
	return directly
}

func (ps *principals) named(p *Principal) grade {
	switch {
	case ps.everybody,
		ps.names[p.ARN], p.ID != "" && ps.names[p.ID],
		p.Kind == ServicePrincipal && ps.services[p.ARN],
		p.Kind == FederatedPrincipal && ps.federated[p.ARN],
		p.CanonicalID != "" && ps.canonical[p.CanonicalID]:
		return directly
	case p.Source != "" && ps.names[p.Source], p.SourceID != "" && ps.names[p.SourceID]:
		return bySource
	case p.Account != "" && ps.accounts[p.Account]:
		if p.Kind == RootPrincipal {
			return directly
		}
		return byAccount
	}
	return unnamed
}

// spares tells whether NotPrincipal keeps a principal out of its statement. With
// Deny that takes the whole chain, account, role and session; with Allow any link.
func (ps *principals) spares(p *Principal, deny bool) bool {
	if !deny {
		return ps.named(p) != unnamed
	}
	if ps.everybody {
		return true
	}
	if p.Kind == ServicePrincipal || p.Kind == FederatedPrincipal {
		return ps.named(p) == directly
	}
	itself := ps.names[p.ARN] || p.ID != "" && ps.names[p.ID] || p.Kind == RootPrincipal
	source := p.Source == "" || ps.names[p.Source] || p.SourceID != "" && ps.names[p.SourceID]
	return itself && source && ps.accounts[p.Account]
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	rootPattern    = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:iam::([0-9]{12}):root$`)
	// A session of any name, and a user or role of any path.
	namePattern      = regexp.MustCompile(`^arn:aws(-[a-z]+)*:(iam::[0-9]{12}:(user|role)/[!-~]*[\w+=,.@-]+|sts::[0-9]{12}:(assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))$`)
	uniqueIDPattern  = regexp.MustCompile(`^(AIDA|AROA)[0-9A-Z]{12,124}$`)
	servicePattern   = regexp.MustCompile(`^[0-9a-z.-]+\.[a-z][a-z.]*$`)
	federatedPattern = regexp.MustCompile(`^(arn:aws(-[a-z]+)*:iam::[0-9]{12}:(saml-provider|oidc-provider)/[!-)+->@-~]+|[0-9A-Za-z.-]+)$`)
	canonicalPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (p *parser) principalElement(s *statement, n, is, not *node) {
	element, negated := p.either(n, is, not, "Principal")
	if p.kind == Identity {
		if element != nil {
			p.fail(fieldRound, "Policy document should not specify a principal.", "")
		}
		return
	}
	if element == nil {
		p.fail(fieldRound, "Missing required field Principal", "")
		return
	}
	if negated && p.kind == Trust {
		p.fail(fieldRound, "Has prohibited field NotPrincipal", "")
	}
	ps := &principals{not: negated, accounts: map[string]bool{}, names: map[string]bool{},
		services: map[string]bool{}, federated: map[string]bool{}, canonical: map[string]bool{}}
	s.principal = ps
	switch element.kind {
	case stringNode:
		if element.text != "*" {
			p.fail(principalRound, "Invalid principal in policy: "+quoted(element.text), "")
		}
		ps.everybody = true
	case objectNode:
		if len(element.keys) == 0 {
			p.fail(principalRound, "Invalid principal in policy.", "")
		}
		for i, key := range element.keys {
			for _, item := range p.texts(element.items[i], "Principal") {
				p.principal(ps, key, item)
			}
		}
	default:
		p.form(element, `Principal is "*" or an object`)
	}
}

// principal adds one name of one type.
func (p *parser) principal(ps *principals, key string, n *node) {
	text, ok := n.text, false
	switch key {
	case "AWS":
		ok = ps.addAWS(text)
		if ps.names[text] {
			p.doc.named = append(p.doc.named, naming{text, n.end})
		}
	case "Service":
		ok = servicePattern.MatchString(text)
		ps.services[text] = true
	case "Federated":
		ok = federatedPattern.MatchString(text)
		ps.federated[text] = true
	case "CanonicalUser":
		ok = canonicalPattern.MatchString(text)
		ps.canonical[text] = true
	default:
		p.form(n, quoted(key)+" is no type of principal")
		return
	}
	if !ok {
		p.fail(principalRound, "Invalid principal in policy: "+`"`+key+`":`+quoted(text), "")
	}
}

func (ps *principals) addAWS(text string) bool {
	switch root := rootPattern.FindStringSubmatch(text); {
	case text == "*":
		ps.everybody = true
	case accountPattern.MatchString(text):
		ps.accounts[text] = true
	case root != nil:
		ps.accounts[root[1]] = true
	case namePattern.MatchString(text) && !strings.ContainsAny(text, "*?"), uniqueIDPattern.MatchString(text):
		ps.names[text] = true
	default:
		return false
	}
	return true
}
