package cql

import (
	"cmp"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Subject is a container instance as expressions see it.
type Subject interface {
	// Value returns agentConnected ("true" or "false"), agentVersion,
	// ec2InstanceId or attribute:NAME, and whether the instance has it.
	Value(name string) (string, bool)
	// TaskGroups returns the groups of the instance's tasks.
	TaskGroups() iter.Seq[string]
	// RunningTasks returns runningTasksCount.
	RunningTasks() int
	// RegisteredAt returns when the instance was registered.
	RegisteredAt() time.Time
}

// Matches tells whether the expression holds for s. A comparison with something
// that s does not have is false, also a negative one: "attribute:stack != prod"
// holds for instances that have the attribute stack with another value.
func (e *Expression) Matches(s Subject) bool { return e.root.eval(s) }

type node interface{ eval(Subject) bool }

type (
	orNode  struct{ left, right node }
	andNode struct{ left, right node }
	notNode struct{ inner node }
)

func (n orNode) eval(s Subject) bool  { return n.left.eval(s) || n.right.eval(s) }
func (n andNode) eval(s Subject) bool { return n.left.eval(s) && n.right.eval(s) }
func (n notNode) eval(s Subject) bool { return !n.inner.eval(s) }

type operator uint8

const (
	opEqual operator = iota
	opNotEqual
	opGreater
	opGreaterEqual
	opLess
	opLessEqual
	opExists
	opNotExists
	opIn
	opNotIn
	opMatches
	opNotMatches
)

type spelling struct {
	text string
	op   operator
}

var symbols = []spelling{
	{"==", opEqual}, {"!=", opNotEqual}, {">=", opGreaterEqual}, {">", opGreater}, {"<=", opLessEqual}, {"<", opLess},
	{"=~", opMatches}, {"!~", opNotMatches}, {"!exists", opNotExists}, {"!in", opNotIn},
}

var words = []spelling{
	{"equals", opEqual}, {"not_equals", opNotEqual}, {"greater_than", opGreater}, {"greater_than_equal", opGreaterEqual},
	{"less_than", opLess}, {"less_than_equal", opLessEqual}, {"exists", opExists}, {"not_exists", opNotExists},
	{"in", opIn}, {"not_in", opNotIn}, {"matches", opMatches}, {"not_matches", opNotMatches},
}

// String returns the operator's word.
func (o operator) String() string {
	i := slices.IndexFunc(words, func(w spelling) bool { return w.op == o })
	return words[i].text
}

func (o operator) ordering() bool { return o >= opEqual && o <= opLessEqual }

type kind string

const (
	kindAgentConnected kind = "agentConnected"
	kindAgentVersion   kind = "agentVersion"
	kindEC2InstanceID  kind = "ec2InstanceId"
	kindRegisteredAt   kind = "registeredAt"
	kindRunningTasks   kind = "runningTasksCount"
	kindAttribute      kind = "attribute"
	kindTaskGroup      kind = "task:group"
)

// subject is the left side of a comparison.
type subject struct {
	kind kind
	name string
}

func newSubject(name string) (subject, error) {
	if attr, ok := strings.CutPrefix(name, "attribute:"); ok {
		if attr == "" {
			return subject{}, fmt.Errorf("attribute: needs the attribute's name")
		}
		return subject{kindAttribute, name}, nil
	}
	switch k := kind(name); k {
	case kindAgentConnected, kindAgentVersion, kindEC2InstanceID, kindRegisteredAt, kindRunningTasks, kindTaskGroup:
		return subject{k, name}, nil
	}
	return subject{}, fmt.Errorf("unknown subject %q; there are agentConnected, agentVersion, attribute:NAME, ec2InstanceId, registeredAt, runningTasksCount and task:group", name)
}

// allows tells which operators the subject has, as ECS documents it.
func (s subject) allows(op operator) bool {
	switch s.kind {
	case kindAttribute:
		return true
	case kindAgentVersion, kindRegisteredAt, kindRunningTasks:
		return op.ordering()
	case kindTaskGroup:
		return op == opEqual || op == opNotEqual || op >= opExists
	default:
		return op == opEqual || op == opNotEqual || op >= opIn
	}
}

// value is an argument in every form in which it may be compared.
type value struct {
	text    string
	number  float64
	numeric bool
	version []int
	time    time.Time
}

var dateFormats = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"}

func (s subject) parseValue(text string) (value, error) {
	v := value{text: text}
	switch s.kind {
	case kindRunningTasks:
		n, err := strconv.Atoi(text)
		if err != nil {
			return v, fmt.Errorf("runningTasksCount is compared with a whole number, not %q", text)
		}
		v.number = float64(n)
	case kindRegisteredAt:
		for _, format := range dateFormats {
			if t, err := time.Parse(format, text); err == nil {
				v.time = t
				return v, nil
			}
		}
		return v, fmt.Errorf("registeredAt is compared with a date such as 2018-06-18T22:28:28Z or 2018-06-18, not %q", text)
	case kindAgentVersion:
		version, ok := parseVersion(text)
		if !ok {
			return v, fmt.Errorf("agentVersion is compared with a version such as 1.14.5, not %q", text)
		}
		v.version = version
	case kindAttribute:
		n, err := strconv.ParseFloat(text, 64)
		v.number, v.numeric = n, err == nil
	}
	return v, nil
}

type comparison struct {
	subject subject
	op      operator
	value   value
	list    []string
	pattern *regexp.Regexp
}

func (c *comparison) eval(s Subject) bool {
	switch c.subject.kind {
	case kindRunningTasks:
		return c.ordered(cmp.Compare(float64(s.RunningTasks()), c.value.number))
	case kindRegisteredAt:
		// ECS shows seconds; compare what users see.
		return c.ordered(s.RegisteredAt().Truncate(time.Second).Compare(c.value.time))
	case kindTaskGroup:
		return c.evalGroups(s)
	}
	text, ok := s.Value(c.subject.name)
	switch {
	case c.op == opExists:
		return ok
	case c.op == opNotExists:
		return !ok
	case !ok:
		return false
	case c.subject.kind == kindAgentVersion:
		version, valid := parseVersion(text)
		return valid && c.ordered(slices.Compare(version, c.value.version))
	}
	return c.evalText(text)
}

// evalGroups compares with a set: positive operators hold when some task's group
// does, negative ones when none does.
func (c *comparison) evalGroups(s Subject) bool {
	positive, negative := c.op, false
	switch c.op {
	case opNotEqual:
		positive, negative = opEqual, true
	case opNotIn:
		positive, negative = opIn, true
	case opNotMatches:
		positive, negative = opMatches, true
	case opNotExists:
		positive, negative = opExists, true
	}
	one := *c
	one.op = positive
	for group := range s.TaskGroups() {
		if positive == opExists || one.evalText(group) {
			return !negative
		}
	}
	return negative
}

func (c *comparison) evalText(text string) bool {
	switch c.op {
	case opEqual:
		return text == c.value.text
	case opNotEqual:
		return text != c.value.text
	case opIn:
		return slices.Contains(c.list, text)
	case opNotIn:
		return !slices.Contains(c.list, text)
	case opMatches:
		return c.pattern.MatchString(text)
	case opNotMatches:
		return !c.pattern.MatchString(text)
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && c.value.numeric {
		return c.ordered(cmp.Compare(n, c.value.number))
	}
	return c.ordered(strings.Compare(text, c.value.text))
}

// ordered turns the sign of a three-way comparison into the operator's answer.
func (c *comparison) ordered(sign int) bool {
	switch c.op {
	case opEqual:
		return sign == 0
	case opNotEqual:
		return sign != 0
	case opGreater:
		return sign > 0
	case opGreaterEqual:
		return sign >= 0
	case opLess:
		return sign < 0
	default:
		return sign <= 0
	}
}

// parseVersion reads dotted numbers. Trailing zeros are dropped, so that 1.14
// equals 1.14.0; a suffix such as "-dev" is ignored.
func parseVersion(text string) ([]int, bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "-")
	var version []int
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		version = append(version, n)
	}
	for len(version) > 1 && version[len(version)-1] == 0 {
		version = version[:len(version)-1]
	}
	return version, true
}
