package policy

import (
	"cmp"
	"encoding/base64"
	"net/netip"
	"time"
)

// quantifier tells how the several values of a key are held against a condition.
type quantifier byte

const (
	plain     quantifier = iota
	forAll               // every value of the request
	forAny               // at least one value of the request
	nullCheck            // only whether there is a value
)

// condition is one key under one operator.
type condition struct {
	key string // in lower case
	op  operator
	quantifier
	ifExists bool

	// What the policy gives, in the form that the operator compares.
	patterns []pattern
	arns     []arnPattern
	numbers  []float64
	times    []time.Time
	nets     []netip.Prefix
	bytes    []string
	bools    []bool
}

// holds tells whether the condition is met.
func (c *condition) holds(ctx *Context) bool {
	values := ctx.get(c.key)
	switch c.quantifier {
	case nullCheck:
		for _, absent := range c.bools {
			if absent == null(values) {
				return true
			}
		}
		return false
	case forAll:
		if null(values) {
			return true
		}
		for _, v := range values {
			if c.matches(v, ctx) == c.op.negated {
				return false
			}
		}
		return true
	case forAny:
		if null(values) {
			return c.ifExists && len(values) == 0
		}
		for _, v := range values {
			if c.matches(v, ctx) != c.op.negated {
				return true
			}
		}
		return false
	}
	if len(values) == 0 {
		return c.ifExists || c.op.negated
	}
	for _, v := range values {
		if c.matches(v, ctx) {
			return !c.op.negated
		}
	}
	return c.op.negated
}

// null tells whether a key's values are an empty set, of which an empty string is
// one too.
func null(values []string) bool {
	for _, v := range values {
		if v != "" {
			return false
		}
	}
	return true
}

// matches tells whether a value of the request matches one of the policy's, the
// operator's negation aside.
func (c *condition) matches(v string, ctx *Context) bool {
	switch c.op.family {
	case stringFamily:
		for i := range c.patterns {
			if c.op.fold && c.patterns[i].fold(v, ctx) || !c.op.fold && c.patterns[i].match(v, ctx) {
				return true
			}
		}
	case arnFamily:
		for i := range c.arns {
			if c.arns[i].match(v, ctx) {
				return true
			}
		}
	case numericFamily:
		n, ok := parseNumber(v)
		for _, want := range c.numbers {
			if ok && c.op.ordered(cmp.Compare(n, want)) {
				return true
			}
		}
	case dateFamily:
		t, ok := parseTime(v)
		for _, want := range c.times {
			if ok && c.op.ordered(t.Compare(want)) {
				return true
			}
		}
	case ipFamily:
		addr, err := netip.ParseAddr(v)
		for _, want := range c.nets {
			if err == nil && want.Contains(addr.Unmap().WithZone("")) {
				return true
			}
		}
	default:
		return c.matchesScalar(v)
	}
	return false
}

func (c *condition) matchesScalar(v string) bool {
	if c.op.family == boolFamily {
		b, ok := parseBool(v)
		for _, want := range c.bools {
			if ok && b == want {
				return true
			}
		}
		return false
	}
	decoded, err := base64.StdEncoding.DecodeString(v)
	for _, want := range c.bytes {
		if err == nil && string(decoded) == want {
			return true
		}
	}
	return false
}

func (p *parser) conditionElement(s *statement, n *node) {
	if n == nil {
		return
	}
	if n.kind != objectNode {
		p.form(n, "Condition is a JSON object")
		return
	}
	for i, name := range n.keys {
		block := n.items[i]
		if block.kind != objectNode {
			p.form(block, "a condition operator has an object of keys and values")
			continue
		}
		op, quant, ifExists, ok := parseOperator(name)
		if !ok && len(block.keys) > 0 {
			p.form(block, quoted(name)+" is no condition operator")
			continue
		}
		seen := map[string]bool{}
		for j, key := range block.keys {
			if seen[lower(key)] {
				p.form(block, "the condition key "+quoted(key)+" is there twice")
			}
			seen[lower(key)] = true
			c := condition{key: lower(key), op: op, quantifier: quant, ifExists: ifExists}
			p.key(key)
			for _, value := range block.items[j].list() {
				p.conditionValue(&c, value)
			}
			s.conditions = append(s.conditions, c)
		}
	}
}

// conditionValue adds a value of the policy to a condition.
func (p *parser) conditionValue(c *condition, n *node) {
	if n.kind != stringNode && n.kind != scalarNode {
		p.form(n, "a condition's value is a string or a list of strings")
		return
	}
	s := syntax{wildcards: c.op.wildcards, variables: p.vars}
	var err error
	ok := true
	switch c.op.family {
	case stringFamily:
		var compiled pattern
		compiled, err = compile(n.text, s, p.key)
		c.patterns = append(c.patterns, compiled)
	case arnFamily:
		var compiled arnPattern
		compiled, err = compileARN(n.text, s, p.key)
		c.arns = append(c.arns, compiled)
	case numericFamily:
		var v float64
		v, ok = parseNumber(n.text)
		c.numbers = append(c.numbers, v)
	case dateFamily:
		var v time.Time
		v, ok = parseTime(n.text)
		c.times = append(c.times, v)
	case ipFamily:
		var v netip.Prefix
		v, ok = parseNet(n.text)
		c.nets = append(c.nets, v)
	case binaryFamily:
		decoded, undecodable := base64.StdEncoding.DecodeString(n.text)
		ok = undecodable == nil
		c.bytes = append(c.bytes, string(decoded))
	default:
		var v bool
		v, ok = parseBool(n.text)
		c.bools = append(c.bools, v)
	}
	if err != nil {
		p.form(n, quoted(n.text)+": "+err.Error())
	}
	if !ok {
		p.legacy(n, quoted(n.text)+" is no value for "+c.op.name)
	}
}
