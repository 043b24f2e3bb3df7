package placement

import (
	"cmp"
	"container/heap"
	"iter"
	"strings"
	"time"
)

// field is the state of one call of Place: candidates, what their nodes have
// left, and an order in which the best candidate is found quickly.
//
// Candidates with the same values of all attributes that strategies spread over
// form a class. Within a class those strategies cannot tell candidates apart, so
// its members are ordered by what concerns them alone, in a heap; only the
// classes' first members have to be compared by all strategies.
type field struct {
	task       *task
	candidates []candidate
	owned      []node // one for each candidate, of which most are used
	classes    []*class
}

// prepare makes room for n candidates.
func (f *field) prepare(t *task, n int) {
	f.task = t
	if cap(f.candidates) < n {
		f.candidates, f.owned = make([]candidate, n), make([]node, n)
	}
	f.candidates, f.owned = f.candidates[:n], f.owned[:n]
}

// release lets go of all that the field refers to, but keeps its room.
func (f *field) release() {
	clear(f.candidates)
	clear(f.owned)
	f.task, f.classes = nil, nil
}

// candidate is an instance with what the plan has put on it so far.
type candidate struct {
	*Instance
	task  *task
	node  *node
	class *class
	// groupTasks, runningTasks and allTasks include this plan's placements.
	groupTasks   int
	runningTasks int
	allTasks     int
	// clock orders candidates by chance; see advance.
	clock float64
	// at is the index in the class's heap, -1 when refused.
	at int
	// eligible is set once the tests that no placement can change were passed.
	eligible bool
}

// node is a machine: what its instances share.
type node struct {
	remaining  Resources
	placed     int
	candidates []*candidate
	alone      [1]*candidate
}

// bucket counts the group's tasks on all instances with one value of an
// attribute, among those that agree in the attributes spread over before it.
type bucket struct{ tasks int }

type class struct {
	// buckets has an entry for each level; nil for levels of other kinds.
	buckets []*bucket
	members memberHeap
}

func (f *field) fill(instances []*Instance, t *task) {
	f.prepare(t, len(instances))
	nodes := nodeFinder{}
	classes := newClassifier(f)
	for i, in := range instances {
		c := &f.candidates[i]
		c.Instance, c.task, c.at = in, t, -1
		c.groupTasks, c.runningTasks = in.groupTasks(t.Group), in.RunningTasks
		c.allTasks = c.countTasks()
		nodes.past = f.candidates[:i]
		c.node = nodes.nodeOf(c, &f.owned[i])
		c.class = classes.classify(c)
		for _, b := range c.class.buckets {
			if b != nil {
				b.tasks += c.groupTasks
			}
		}
	}
	// Only now are the nodes' remainders and ports known. The dear tests wait
	// until a candidate is the best one: a small request then makes few of them.
	for i := range f.candidates {
		c := &f.candidates[i]
		if t.refusesNow(c) == "" {
			c.advance()
			c.at = len(c.class.members)
			c.class.members = append(c.class.members, c)
		}
	}
	for _, cl := range f.classes {
		heap.Init(&cl.members)
	}
}

// nodeFinder finds the nodes that are known already. As long as they come in
// ascending order, it needs to know only the last.
type nodeFinder struct {
	last   *node
	lastID string
	by     map[string]*node // once the order was broken
	past   []candidate      // with their nodes
}

func (f *nodeFinder) find(id string, fresh *node) *node {
	if f.by == nil && id < f.lastID {
		f.by = make(map[string]*node, cap(f.past))
		for i := range f.past {
			if c := &f.past[i]; c.NodeID != "" {
				f.by[c.NodeID] = c.node
			}
		}
	}
	if f.by != nil {
		if f.by[id] == nil {
			f.by[id] = fresh
		}
		return f.by[id]
	}
	if f.last == nil || id != f.lastID {
		f.last, f.lastID = fresh, id
	}
	return f.last
}

// nodeOf returns the node of c, which is fresh if it is not known yet. Should
// instances disagree about what their node has left, the least counts.
func (f *nodeFinder) nodeOf(c *candidate, fresh *node) *node {
	n := fresh
	if c.NodeID != "" {
		n = f.find(c.NodeID, fresh)
	}
	if len(n.candidates) == 0 {
		// Most nodes have one instance: its place is in the node itself.
		n.remaining, n.candidates = c.Remaining, n.alone[:0]
	}
	n.remaining.CPU = min(n.remaining.CPU, c.Remaining.CPU)
	n.remaining.Memory = min(n.remaining.Memory, c.Remaining.Memory)
	n.remaining.GPU = min(n.remaining.GPU, c.Remaining.GPU)
	n.candidates = append(n.candidates, c)
	return n
}

// best returns the candidate that the strategies prefer, nil if none is left.
func (f *field) best() *candidate {
	for {
		var best *candidate
		for _, cl := range f.classes {
			if len(cl.members) == 0 {
				continue
			}
			if c := cl.members[0]; best == nil || c.compare(best) < 0 {
				best = c
			}
		}
		if best == nil || best.eligible {
			return best
		}
		if f.task.refusesAlways(best) != "" {
			heap.Remove(&best.class.members, best.at)
			continue
		}
		best.eligible = true
		return best
	}
}

// take puts a task on c and restores the order. A placement changes nothing for
// other nodes, and on its own it only ever takes away.
func (f *field) take(c *candidate) {
	// Out before anything changes: a heap can restore its order around one
	// changed member, but not around several.
	waiting := make([]*candidate, 0, 4)
	for _, member := range c.node.candidates {
		if member.at >= 0 {
			heap.Remove(&member.class.members, member.at)
			waiting = append(waiting, member)
		}
	}
	need := f.task.Resources
	c.groupTasks++
	c.runningTasks++
	c.allTasks++
	c.advance()
	c.node.placed++
	c.node.remaining.CPU -= need.CPU
	c.node.remaining.Memory -= need.Memory
	c.node.remaining.GPU -= need.GPU
	for _, b := range c.class.buckets {
		if b != nil {
			b.tasks++
		}
	}
	for _, member := range waiting {
		if f.task.refusesNow(member) == "" {
			heap.Push(&member.class.members, member)
		}
	}
}

// countTasks counts the tasks on the instance, those that do not run yet too.
func (c *candidate) countTasks() int {
	n := 0
	for _, g := range c.Instance.TaskGroups {
		n += g.Tasks
	}
	return max(n, c.Instance.RunningTasks)
}

// advance moves the candidate's clock by an exponentially distributed time: as
// such times have no memory, the lowest clock is at each placement any
// candidate's with the same probability, whatever was placed before.
func (c *candidate) advance() {
	for _, l := range c.task.levels {
		if l.kind == byChance {
			c.clock += c.task.rand.ExpFloat64()
			return
		}
	}
}

// compare orders two candidates by the strategies, then Order, then ID.
func (c *candidate) compare(other *candidate) int {
	for i, l := range c.task.levels {
		order := 0
		switch l.kind {
		case byAttribute:
			order = cmp.Compare(c.class.buckets[i].tasks, other.class.buckets[i].tasks)
		case byInstance:
			order = cmp.Compare(c.groupTasks, other.groupTasks)
		case byTasks:
			order = cmp.Compare(c.allTasks, other.allTasks)
		case byCPU:
			order = cmp.Compare(c.node.remaining.CPU, other.node.remaining.CPU)
		case byMemory:
			order = cmp.Compare(c.node.remaining.Memory, other.node.remaining.Memory)
		case byChance:
			order = cmp.Compare(c.clock, other.clock)
		}
		if order != 0 {
			return order
		}
	}
	return cmp.Or(cmp.Compare(c.Order, other.Order), cmp.Compare(c.ID, other.ID))
}

func (c *candidate) hasAttribute(a Attribute) bool {
	value, ok := c.attribute(a.Name)
	return ok && (a.Value == "" || a.Value == value)
}

func (c *candidate) attribute(name string) (string, bool) {
	if name == zoneAttribute && c.Zone != "" {
		return c.Zone, true
	}
	value, ok := c.Attributes[name]
	return value, ok
}

// Value implements cql.Subject.
func (c *candidate) Value(name string) (string, bool) {
	if attribute, ok := strings.CutPrefix(name, "attribute:"); ok {
		return c.attribute(attribute)
	}
	switch name {
	case "agentConnected":
		if c.AgentConnected {
			return "true", true
		}
		return "false", true
	case "agentVersion":
		return c.AgentVersion, c.AgentVersion != ""
	case "ec2InstanceId":
		return c.EC2InstanceID, c.EC2InstanceID != ""
	}
	return "", false
}

// TaskGroups implements cql.Subject.
func (c *candidate) TaskGroups() iter.Seq[string] {
	return func(yield func(string) bool) {
		if c.groupTasks > 0 && !yield(c.task.Group) {
			return
		}
		for _, g := range c.Instance.TaskGroups {
			if g.Tasks > 0 && g.Group != c.task.Group && !yield(g.Group) {
				return
			}
		}
	}
}

// RunningTasks implements cql.Subject.
func (c *candidate) RunningTasks() int { return c.runningTasks }

// RegisteredAt implements cql.Subject.
func (c *candidate) RegisteredAt() time.Time { return c.Instance.RegisteredAt }

// classifier finds the class of a candidate by its attribute values.
type classifier struct {
	field   *field
	classes map[string]*class
	buckets map[string]*bucket
	key     []byte
}

func newClassifier(f *field) *classifier {
	return &classifier{field: f, classes: make(map[string]*class), buckets: make(map[string]*bucket)}
}

func (k *classifier) classify(c *candidate) *class {
	k.key = k.key[:0]
	for _, l := range k.field.task.levels {
		if l.kind != byAttribute {
			continue
		}
		// An instance without the attribute counts with its like: strategies
		// prefer, they do not exclude. NUL cannot be in a value.
		value, ok := c.attribute(l.attribute)
		if !ok {
			k.key = append(k.key, 1)
		}
		k.key = append(append(k.key, value...), 0)
	}
	if cl := k.classes[string(k.key)]; cl != nil {
		return cl
	}
	cl := &class{buckets: k.bucketsOf(string(k.key))}
	k.classes[string(k.key)] = cl
	k.field.classes = append(k.field.classes, cl)
	return cl
}

// bucketsOf returns the buckets of a class: each is known by the part of the
// class's key up to its own value.
func (k *classifier) bucketsOf(key string) []*bucket {
	buckets := make([]*bucket, len(k.field.task.levels))
	end := 0
	for i, l := range k.field.task.levels {
		if l.kind != byAttribute {
			continue
		}
		end += strings.IndexByte(key[end:], 0) + 1
		if k.buckets[key[:end]] == nil {
			k.buckets[key[:end]] = &bucket{}
		}
		buckets[i] = k.buckets[key[:end]]
	}
	return buckets
}

// memberHeap orders the candidates of a class; it implements heap.Interface.
type memberHeap []*candidate

func (h memberHeap) Len() int           { return len(h) }
func (h memberHeap) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }

func (h memberHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *memberHeap) Push(x any) {
	c := x.(*candidate)
	c.at = len(*h)
	*h = append(*h, c)
}

func (h *memberHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	c.at = -1
	*h = (*h)[:last]
	return c
}
