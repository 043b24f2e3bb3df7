package placement

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"longshore.dev/longshore/internal/placement/cql"
)

const zoneAttribute = "ecs.availability-zone"

// task is a request made ready: expressions parsed, strategies resolved.
type task struct {
	Request
	// static expressions cannot change by placing; dynamic ones can.
	static, dynamic []*cql.Expression
	distinct        bool
	levels          []level
	rand            *rand.Rand
}

// level is one strategy: by what candidates are compared.
type level struct {
	kind      levelKind
	attribute string
}

type levelKind uint8

const (
	// byAttribute: tasks of the group on all instances with the same value.
	byAttribute levelKind = iota
	// byInstance: tasks of the group on the instance; byTasks: all its tasks.
	byInstance
	byTasks
	// byCPU and byMemory: what the node has left.
	byCPU
	byMemory
	byChance
)

// Validate tells whether the request can be understood: what RunTask and
// CreateService have to refuse with an InvalidParameterException.
func (r Request) Validate() error {
	_, err := compile(r)
	return err
}

func compile(r Request) (*task, error) {
	t := &task{Request: r, rand: r.Rand}
	if n := r.Resources; n.CPU < 0 || n.Memory < 0 || n.GPU < 0 {
		return nil, fmt.Errorf("the task's resources must not be negative: %+v", n)
	}
	for i, c := range r.Constraints {
		switch c.Type {
		case DistinctInstance:
			if c.Expression != "" {
				return nil, fmt.Errorf("placement constraint %d: %s takes no expression", i+1, c.Type)
			}
			t.distinct = true
		case MemberOf:
			e, err := cql.Parse(c.Expression)
			if err != nil {
				return nil, fmt.Errorf("placement constraint %d: the expression %q is invalid: %w", i+1, clip(c.Expression), err)
			}
			if e.ReadsTasks() {
				t.dynamic = append(t.dynamic, e)
			} else {
				t.static = append(t.static, e)
			}
		default:
			return nil, fmt.Errorf("placement constraint %d: type %q is not %s or %s", i+1, c.Type, DistinctInstance, MemberOf)
		}
	}
	for i, s := range r.Strategies {
		l, err := newLevel(s)
		if err != nil {
			return nil, fmt.Errorf("placement strategy %d: %w", i+1, err)
		}
		t.levels = append(t.levels, l)
	}
	if len(t.levels) == 0 {
		t.levels = []level{{byAttribute, zoneAttribute}, {kind: byTasks}}
	}
	if t.rand == nil {
		t.rand = rand.New(rand.NewPCG(1, 1))
	}
	return t, nil
}

func newLevel(s Strategy) (level, error) {
	switch s.Type {
	case Random:
		return level{kind: byChance}, nil
	case Spread:
		if name, ok := strings.CutPrefix(s.Field, "attribute:"); ok && name != "" {
			return level{byAttribute, name}, nil
		}
		if strings.EqualFold(s.Field, "instanceId") || strings.EqualFold(s.Field, "host") {
			return level{kind: byInstance}, nil
		}
		return level{}, fmt.Errorf("the field %q of spread is not instanceId, host or attribute:NAME", s.Field)
	case Binpack:
		switch {
		case strings.EqualFold(s.Field, "cpu"):
			return level{kind: byCPU}, nil
		case strings.EqualFold(s.Field, "memory"):
			return level{kind: byMemory}, nil
		}
		return level{}, fmt.Errorf("the field %q of binpack is not cpu or memory", s.Field)
	}
	return level{}, fmt.Errorf("type %q is not %s, %s or %s", s.Type, Random, Spread, Binpack)
}

// refuses makes every test in the order of the reasons; "" means that the task fits.
func (t *task) refuses(c *candidate) Reason {
	if reason := t.refusesAlways(c); reason != "" {
		return reason
	}
	return t.refusesNow(c)
}

// refusesAlways tests what no placement can change.
func (t *task) refusesAlways(c *candidate) Reason {
	if !c.Active {
		return ReasonInactive
	}
	if !c.AgentConnected {
		return ReasonAgent
	}
	if !t.inZone(c) {
		return ReasonLocation
	}
	for _, a := range t.RequiresAttributes {
		if !c.hasAttribute(a) {
			return ReasonAttribute
		}
	}
	for _, e := range t.static {
		if !e.Matches(c) {
			return ReasonMemberOf
		}
	}
	return ""
}

// refusesNow tests only what a placement may have changed.
func (t *task) refusesNow(c *candidate) Reason {
	for _, e := range t.dynamic {
		if !e.Matches(c) {
			return ReasonMemberOf
		}
	}
	if t.distinct && c.groupTasks > 0 {
		return ReasonDistinct
	}
	left := &c.node.remaining
	switch {
	case left.GPU < t.Resources.GPU:
		return ReasonGPU
	case t.portTaken(c.node):
		return ReasonPorts
	case left.Memory < t.Resources.Memory:
		return ReasonMemory
	case left.CPU < t.Resources.CPU:
		return ReasonCPU
	}
	return ""
}

func (t *task) inZone(c *candidate) bool {
	if len(t.Zones) == 0 {
		return true
	}
	for _, z := range t.Zones {
		if zone, _ := c.attribute(zoneAttribute); zone == z {
			return true
		}
	}
	return false
}

// portTaken tells whether a requested host port is taken on n. A task of this
// very plan takes all of them.
func (t *task) portTaken(n *node) bool {
	if len(t.TCPPorts)+len(t.UDPPorts) == 0 {
		return false
	}
	if n.placed > 0 {
		return true
	}
	for _, c := range n.candidates {
		for _, p := range t.TCPPorts {
			if c.takesTCP(p) {
				return true
			}
		}
		for _, p := range t.UDPPorts {
			if c.takesUDP(p) {
				return true
			}
		}
	}
	return false
}

// clip bounds what a message repeats of an expression.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
