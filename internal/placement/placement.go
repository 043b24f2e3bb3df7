package placement

import (
	"math/rand/v2"
	"time"
)

// Resources are what a task needs or an instance has left.
type Resources struct {
	// CPU in units of 1/1024 of a core, Memory in MiB, GPU in devices.
	CPU    int64
	Memory int64
	GPU    int64
}

// Instance is a container instance as placement sees it. Place does not modify
// it, nor what it holds.
type Instance struct {
	// ID is the container instance's id, NodeID the machine that it stands for:
	// instances of one node (one for each cluster) share its resources and ports.
	// An empty NodeID is a node of its own.
	ID     string
	NodeID string
	// Active and AgentConnected must both be true for a task to be placed.
	Active         bool
	AgentConnected bool
	// Remaining resources of the node.
	Remaining Resources
	// UsedTCP and UsedUDP are the host ports that tasks have taken on the node,
	// KeptTCP and KeptUDP those that it keeps for itself.
	UsedTCP, UsedUDP Ports
	KeptTCP, KeptUDP Ports
	// Attributes by name, built-in ones (ecs.availability-zone) and capabilities
	// included; an attribute without a value maps to "".
	Attributes map[string]string
	// Zone repeats the attribute ecs.availability-zone, so that it need not be
	// looked up; empty when it is not repeated here.
	Zone string
	// TaskGroups counts the instance's tasks per group, of this cluster, from the
	// moment that they are placed there. It is sorted by group.
	TaskGroups []TaskGroup
	// RunningTasks, AgentVersion, EC2InstanceID and RegisteredAt answer the
	// cluster query language; an empty string is absent.
	RunningTasks  int
	AgentVersion  string
	EC2InstanceID string
	RegisteredAt  time.Time
	// Order breaks ties; a smaller value is preferred, then the earlier instance.
	Order int
}

// Types of constraints and strategies, by AWS's names.
const (
	DistinctInstance = "distinctInstance"
	MemberOf         = "memberOf"

	Random  = "random"
	Spread  = "spread"
	Binpack = "binpack"
)

// Constraint is a placement constraint, with AWS's type names.
type Constraint struct {
	// Type is DistinctInstance or MemberOf.
	Type string
	// Expression in the cluster query language, for MemberOf.
	Expression string
}

// Strategy is a placement strategy, with AWS's type names.
type Strategy struct {
	// Type is Random, Spread or Binpack.
	Type string
	// Field is "instanceId", "host" or "attribute:NAME" for Spread, "cpu" or
	// "memory" for Binpack (in any case), and unused for Random.
	Field string
}

// Request asks for Count placements of the same task.
type Request struct {
	Count int
	// Group is the task group ("family:web", "service:web"): spread and
	// distinctInstance count its tasks.
	Group     string
	Resources Resources
	// TCPPorts and UDPPorts are the static host ports that the task takes.
	TCPPorts []uint16
	UDPPorts []uint16
	// RequiresAttributes must all be present (with the value, when it is not "").
	RequiresAttributes []Attribute
	// Zones are the availability zones of the task's subnets; empty means any.
	Zones       []string
	Constraints []Constraint
	// Strategies apply in order: each narrows the candidates for the next. None
	// spreads over availability zones, then to the instance with the fewest tasks.
	Strategies []Strategy
	// Rand drives the random strategy; nil is a source with a fixed seed.
	Rand *rand.Rand
}

// Attribute is a name with an optional value.
type Attribute struct{ Name, Value string }

// Reason is why an instance, or a whole request, was refused: AWS's failure reasons.
type Reason string

// The reasons, in the order in which an instance is tested.
const (
	ReasonInactive  Reason = "INACTIVE"
	ReasonAgent     Reason = "AGENT"
	ReasonLocation  Reason = "LOCATION"
	ReasonAttribute Reason = "ATTRIBUTE"
	ReasonMemberOf  Reason = "MemberOf placement constraint unsatisfied."
	ReasonDistinct  Reason = "DistinctInstance placement constraint unsatisfied."
	ReasonGPU       Reason = "RESOURCE:GPU"
	ReasonPorts     Reason = "RESOURCE:PORTS"
	ReasonMemory    Reason = "RESOURCE:MEMORY"
	ReasonCPU       Reason = "RESOURCE:CPU"
)

// Refusal explains a request, or part of it, that could not be placed. It
// describes the instances as they are after the placements of the same plan.
type Refusal struct {
	// Invalid is why the request as such cannot be placed anywhere (see
	// Request.Validate); the other fields are then empty.
	Invalid error
	// Counts of instances per reason; empty when there is no instance at all.
	Counts map[Reason]int
	// Instances are the refused instances in order, at most MaxRefusedInstances;
	// Nearest is always among them.
	Instances []RefusedInstance
	// Nearest is the instance that passed the most tests, with the reason that
	// stopped it and, for resources, everything that it lacks; "" if there is none.
	Nearest        string
	NearestReason  Reason
	NearestMissing Resources
	// NearestPorts are the requested host ports that are taken on Nearest, and
	// NearestAttributes the required attributes that it has not.
	NearestPorts      []uint16
	NearestAttributes []Attribute
}

// MaxRefusedInstances bounds Refusal.Instances.
const MaxRefusedInstances = 100

// RefusedInstance is one failure of RunTask.
type RefusedInstance struct {
	ID     string
	Reason Reason
}

// Plan is the outcome.
type Plan struct {
	// Assignments holds an instance ID for each task that can be placed, in order.
	Assignments []string
	// Unplaced is the number of tasks for which there is no assignment, and
	// Refusal says why when it is not zero.
	Unplaced int
	Refusal  Refusal
}

// Place decides where the tasks of req go, one after the other, each seeing the
// resources, ports and tasks that those before it took. The same arguments (and
// the same state of Rand) give the same plan.
//
// Instances in ascending order of NodeID cost less. A call costs O(instances) plus, for each task, O(log instances + number of
// distinct values of the attributes that strategies spread over).
func Place(instances []*Instance, req Request) Plan {
	var p Planner
	return p.Place(instances, req)
}

// Planner does what Place does, and keeps the room that it needs for the next
// call: thousands of instances take much of it. It serves one call at a time, and
// remembers nothing else.
type Planner struct{ field field }

// Place is the function of that name.
func (p *Planner) Place(instances []*Instance, req Request) Plan {
	task, err := compile(req)
	if err != nil {
		return Plan{Unplaced: max(req.Count, 0), Refusal: Refusal{Invalid: err}}
	}
	field := &p.field
	field.fill(instances, task)
	defer field.release()
	plan := Plan{}
	for range req.Count {
		chosen := field.best()
		if chosen == nil {
			plan.Unplaced = req.Count - len(plan.Assignments)
			plan.Refusal = field.refusal()
			break
		}
		plan.Assignments = append(plan.Assignments, chosen.ID)
		field.take(chosen)
	}
	return plan
}
