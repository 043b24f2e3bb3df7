package policy

import "regexp"

// statement is a compiled statement.
type statement struct {
	deny bool
	// principal is nil in identity policies.
	principal  *principals
	actions    actionSet
	notAction  bool
	resources  []pattern
	notRes     bool
	anyRes     bool // a trust policy's statement is on its role
	conditions []condition
	start, end Position
}

// applies tells whether action, resource and conditions match; principals are asked
// apart.
func (s *statement) applies(r *Request) bool {
	return s.actions.match(r) != s.notAction && s.onResource(r) && s.holds(r.Context)
}

func (s *statement) onResource(r *Request) bool {
	if s.anyRes {
		return true
	}
	for i := range s.resources {
		if s.resources[i].match(r.Resource, r.Context) {
			return !s.notRes
		}
	}
	return s.notRes
}

func (s *statement) holds(c *Context) bool {
	for i := range s.conditions {
		if !s.conditions[i].holds(c) {
			return false
		}
	}
	return true
}

// sidPattern is what IAM takes as the Sid of an identity policy's statement.
var sidPattern = regexp.MustCompile(`^[0-9A-Za-z]*$`)

// elements of a statement as they stand.
type elements struct {
	effect, sid                    *node
	principal, notPrincipal        *node
	action, notAction              *node
	resource, notResource, condBlk *node
}

func (e *elements) find(key string) **node {
	switch key {
	case "Effect":
		return &e.effect
	case "Sid":
		return &e.sid
	case "Principal":
		return &e.principal
	case "NotPrincipal":
		return &e.notPrincipal
	case "Action":
		return &e.action
	case "NotAction":
		return &e.notAction
	case "Resource":
		return &e.resource
	case "NotResource":
		return &e.notResource
	case "Condition":
		return &e.condBlk
	}
	return nil
}

func (p *parser) statement(n *node, sids map[string]bool) {
	if n.kind != objectNode {
		p.form(n, "a Statement is a JSON object")
		return
	}
	var e elements
	for i, key := range n.keys {
		place := e.find(key)
		if place == nil {
			p.form(n.items[i], quoted(key)+" is no element of a statement")
			continue
		}
		*place = n.items[i]
	}
	s := statement{start: at(p.text, n.start), end: at(p.text, n.end)}
	s.deny = p.effect(n, e.effect)
	p.sid(e.sid, sids)
	p.principalElement(&s, n, e.principal, e.notPrincipal)
	p.actionElement(&s, n, e.action, e.notAction)
	p.resourceElement(&s, n, e.resource, e.notResource)
	p.conditionElement(&s, e.condBlk)
	p.doc.statements = append(p.doc.statements, s)
}

func (p *parser) effect(n, effect *node) (deny bool) {
	switch {
	case effect == nil || effect.kind != stringNode:
		p.form(n, `a statement has the Effect "Allow" or "Deny"`)
	case effect.text == "Allow" || effect.text == "Deny":
		return effect.text == "Deny"
	case lower(effect.text) == "allow" || lower(effect.text) == "deny":
		p.legacy(effect, `Effect is "Allow" or "Deny", written so`)
	default:
		p.form(effect, `Effect is "Allow" or "Deny"`)
	}
	return false
}

func (p *parser) sid(sid *node, sids map[string]bool) {
	switch {
	case sid == nil:
		return
	case sid.kind != stringNode:
		p.form(sid, "Sid is a string")
	case p.kind == Identity && !sidPattern.MatchString(sid.text):
		p.fail(sidRound, "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*", "")
	case sid.text != "" && sids[sid.text]:
		p.fail(sidRound, "Statement IDs (SID) in a single policy must be unique.", "")
	}
	sids[sid.text] = true
}

// either returns the one of two elements that is there. Both are an error.
func (p *parser) either(n, is, not *node, name string) (element *node, negated bool) {
	if is != nil && not != nil {
		p.form(n, "a statement has "+name+" or Not"+name+", not both")
	}
	if is != nil {
		return is, false
	}
	return not, not != nil
}

// texts returns an element's string or strings.
func (p *parser) texts(n *node, name string) []*node {
	items := n.list()
	for _, item := range items {
		if item.kind != stringNode {
			p.form(item, name+" is a string or a list of strings")
			return nil
		}
	}
	return items
}

// demanded returns the strings of an element that a statement must have.
func (p *parser) demanded(element *node, name string, r round) []*node {
	var items []*node
	if element != nil {
		items = p.texts(element, name)
	}
	if len(items) == 0 {
		p.fail(r, "Policy statement must contain "+lower(name)+"s.", "")
	}
	return items
}
