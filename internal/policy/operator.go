package policy

import (
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type family byte

const (
	stringFamily family = iota
	arnFamily
	numericFamily
	dateFamily
	ipFamily
	binaryFamily
	boolFamily
)

// operator is a condition operator without its set prefix and IfExists.
type operator struct {
	name      string
	family    family
	negated   bool
	wildcards bool
	fold      bool // letters in either case are the same
	// less, equal and greater tell which orders of request and policy satisfy a
	// numeric or date operator, its negation aside.
	less, equal, greater bool
}

// ordered tells whether an outcome of a comparison satisfies the operator.
func (o *operator) ordered(cmp int) bool {
	switch {
	case cmp < 0:
		return o.less
	case cmp > 0:
		return o.greater
	}
	return o.equal
}

// operators are those of the language, but for Null.
var operators = func() map[string]operator {
	m := map[string]operator{}
	for _, o := range []operator{
		{name: "StringEquals"}, {name: "StringNotEquals", negated: true},
		{name: "StringEqualsIgnoreCase", fold: true}, {name: "StringNotEqualsIgnoreCase", fold: true, negated: true},
		{name: "StringLike", wildcards: true}, {name: "StringNotLike", wildcards: true, negated: true},
		{name: "ArnEquals", family: arnFamily, wildcards: true}, {name: "ArnNotEquals", family: arnFamily, wildcards: true, negated: true},
		{name: "ArnLike", family: arnFamily, wildcards: true}, {name: "ArnNotLike", family: arnFamily, wildcards: true, negated: true},
		{name: "IpAddress", family: ipFamily}, {name: "NotIpAddress", family: ipFamily, negated: true},
		{name: "BinaryEquals", family: binaryFamily}, {name: "Bool", family: boolFamily},
	} {
		m[o.name] = o
	}
	for prefix, f := range map[string]family{"Numeric": numericFamily, "Date": dateFamily} {
		for _, o := range []operator{
			{name: "Equals", equal: true}, {name: "NotEquals", equal: true, negated: true},
			{name: "LessThan", less: true}, {name: "LessThanEquals", less: true, equal: true},
			{name: "GreaterThan", greater: true}, {name: "GreaterThanEquals", greater: true, equal: true},
		} {
			o.name, o.family = prefix+o.name, f
			m[o.name] = o
		}
	}
	return m
}()

// parseOperator takes an operator's name apart.
func parseOperator(name string) (op operator, q quantifier, ifExists, ok bool) {
	if name == "Null" {
		return operator{name: name, family: boolFamily}, nullCheck, false, true
	}
	if rest, found := strings.CutPrefix(name, "ForAllValues:"); found {
		name, q = rest, forAll
	} else if rest, found := strings.CutPrefix(name, "ForAnyValue:"); found {
		name, q = rest, forAny
	}
	name, ifExists = strings.CutSuffix(name, "IfExists")
	op, ok = operators[name]
	return op, q, ifExists, ok
}

var numberPattern = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func parseNumber(s string) (float64, bool) {
	if !numberPattern.MatchString(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// timeLayouts are W3C's profile of ISO 8601; Go reads fractions of seconds with any.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006",
	"2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02T15Z07:00",
}

// farSeconds is as far from 1970 as a time is kept apart from others.
const farSeconds = 1 << 55

// parseTime reads a date as ISO 8601 has it, or seconds since 1970.
func parseTime(s string) (time.Time, bool) {
	// Four digits are a year.
	if len(s) != len("2006") {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return time.Unix(min(max(n, -farSeconds), farSeconds), 0), true
		}
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// parseNet reads an address or a range of them.
func parseNet(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, false
	}
	return p.Masked(), true
}

func parseBool(s string) (value, ok bool) {
	switch {
	case strings.EqualFold(s, "true"):
		return true, true
	case strings.EqualFold(s, "false"):
		return false, true
	}
	return false, false
}
