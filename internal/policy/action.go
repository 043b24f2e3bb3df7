package policy

import (
	"regexp"
	"strings"
)

// actionSet are the actions of a statement. Policies name hundreds (ReadOnlyAccess
// does), so those of one service are found by its prefix.
type actionSet struct {
	all      bool
	byVendor map[string]*vendorActions
	// loose have a wildcard before the colon.
	loose []pattern
}

type vendorActions struct {
	all   bool
	names map[string]bool // without wildcards
	globs []pattern
}

// match tells whether the request's action, in lower case, is in the set.
func (a *actionSet) match(r *Request) bool {
	if a.all {
		return true
	}
	if v := a.byVendor[r.vendor]; v != nil {
		if v.all || v.names[r.name] {
			return true
		}
		for i := range v.globs {
			if v.globs[i].match(r.name, nil) {
				return true
			}
		}
	}
	for i := range a.loose {
		if a.loose[i].match(r.action, nil) {
			return true
		}
	}
	return false
}

// add takes an action in lower case.
func (a *actionSet) add(action string) {
	if strings.Trim(action, "*") == "" {
		a.all = true
		return
	}
	glob := func(text string) pattern {
		p, _ := compile(text, syntax{wildcards: true}, nil) // has no variables, so no errors
		return p
	}
	vendor, name, _ := strings.Cut(action, ":")
	if strings.ContainsAny(vendor, "*?") {
		a.loose = append(a.loose, glob(action))
		return
	}
	if a.byVendor == nil {
		a.byVendor = map[string]*vendorActions{}
	}
	v := a.byVendor[vendor]
	if v == nil {
		v = &vendorActions{names: map[string]bool{}}
		a.byVendor[vendor] = v
	}
	switch {
	case name == "*":
		v.all = true
	case strings.ContainsAny(name, "*?"):
		v.globs = append(v.globs, glob(name))
	default:
		v.names[name] = true
	}
}

var vendorPattern = regexp.MustCompile(`^[0-9A-Za-z.*?-]*$`)

func (p *parser) actionElement(s *statement, n, is, not *node) {
	element, negated := p.either(n, is, not, "Action")
	s.notAction = negated
	for _, item := range p.demanded(element, "Action", noActionRound) {
		p.checkAction(item.text)
		s.actions.add(lower(item.text))
	}
}

func (p *parser) checkAction(action string) {
	vendor, _, found := strings.Cut(action, ":")
	switch {
	case action == "*":
	case !found:
		p.fail(actionRound, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.", quoted(action))
	case strings.Count(action, ":") > 1:
		p.fail(actionRound, "Actions/Condition can contain only one colon.", quoted(action))
	case !vendorPattern.MatchString(vendor) || vendor == "":
		p.fail(actionRound, "Vendor "+vendor+" is not valid", "")
	case p.kind == Trust && !strings.HasPrefix(lower(action), "sts:"):
		p.fail(actionRound, "AssumeRole policy may only specify STS AssumeRole actions.", quoted(action))
	}
	if p.kind == Trust && action == "*" {
		p.fail(actionRound, "AssumeRole policy may only specify STS AssumeRole actions.", quoted(action))
	}
}
