package placement

import "math/rand/v2"

// Resources are what a task needs or an instance has left.
type Resources struct {
	// CPU in units of 1/1024 of a core, Memory in MiB, GPU in devices.
	CPU    int64
	Memory int64
	GPU    int64
}

// Instance is a container instance as placement sees it.
type Instance struct {
	// ID is the container instance's id, NodeID the machine that it stands for:
	// instances of one node (one for each cluster) share its resources.
	ID     string
	NodeID string
	// Remaining resources of the node.
	Remaining Resources
	// UsedTCP and UsedUDP are the host ports taken on the node.
	UsedTCP map[uint16]bool
	UsedUDP map[uint16]bool
	// Attributes by name, built-in ones (ecs.availability-zone) and capabilities
	// included; an attribute without a value maps to "".
	Attributes map[string]string
	// TaskGroups counts the instance's tasks per group, TaskFamilies per
	// "family:revision" for distinctInstance.
	TaskGroups map[string]int
	// Subject answers the cluster query language for this instance; see package cql.
	RunningTasks   int
	AgentConnected bool
	// Order breaks ties; a smaller value is preferred.
	Order int
}

// Constraint is a placement constraint, with AWS's type names.
type Constraint struct {
	// Type is "distinctInstance" or "memberOf".
	Type       string
	Expression string
}

// Strategy is a placement strategy, with AWS's type names.
type Strategy struct {
	// Type is "random", "spread" or "binpack".
	Type  string
	Field string
}

// Request asks for Count placements of the same task.
type Request struct {
	Count     int
	Group     string
	Resources Resources
	TCPPorts  []uint16
	UDPPorts  []uint16
	// RequiresAttributes must all be present (with the value, when it is not "").
	RequiresAttributes []Attribute
	Constraints        []Constraint
	Strategies         []Strategy
	Rand               *rand.Rand
}

// Attribute is a name with an optional value.
type Attribute struct{ Name, Value string }

// Reason is why an instance, or a whole request, was refused: AWS's failure reasons.
type Reason string

// The reasons, in the order in which an instance is tested.
const (
	ReasonInactive  Reason = "INACTIVE"
	ReasonAgent     Reason = "AGENT"
	ReasonAttribute Reason = "ATTRIBUTE"
	ReasonMemberOf  Reason = "MemberOf placement constraint unsatisfied."
	ReasonDistinct  Reason = "DistinctInstance placement constraint unsatisfied."
	ReasonCPU       Reason = "RESOURCE:CPU"
	ReasonMemory    Reason = "RESOURCE:MEMORY"
	ReasonPorts     Reason = "RESOURCE:PORTS"
	ReasonGPU       Reason = "RESOURCE:GPU"
)

// Refusal explains a request, or part of it, that could not be placed.
type Refusal struct {
	// Counts of instances per reason; empty when there is no instance at all.
	Counts map[Reason]int
	// Nearest is the instance that came closest, with what it lacks.
	Nearest        string
	NearestReason  Reason
	NearestMissing Resources
}

// Plan is the outcome: an instance ID for each placed task, and a refusal for the rest.
type Plan struct {
	Assignments []string
	Unplaced    int
	Refusal     Refusal
}
