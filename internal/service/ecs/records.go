package ecs

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// Record statuses, with AWS's words.
const (
	statusActive           = "ACTIVE"
	statusInactive         = "INACTIVE"
	statusDraining         = "DRAINING"
	statusDeleteInProgress = "DELETE_IN_PROGRESS"
)

// Cluster is stored under its name. The cluster operations write it.
type Cluster struct {
	Name string `json:"name"`
	// Generation tells a cluster from an earlier one of the same name.
	Generation string `json:"generation"`
	// Status is ACTIVE or INACTIVE (deleted, kept so that it can be described).
	Status     string    `json:"status"`
	CreatedAt  time.Time `json:"createdAt"`
	InactiveAt time.Time `json:"inactiveAt,omitzero"`

	Settings                        []types.ClusterSetting               `json:"settings,omitempty"`
	Configuration                   *types.ClusterConfiguration          `json:"configuration,omitempty"`
	CapacityProviders               []string                             `json:"capacityProviders,omitempty"`
	DefaultCapacityProviderStrategy []types.CapacityProviderStrategyItem `json:"defaultCapacityProviderStrategy,omitempty"`
	ServiceConnectDefaults          *types.ClusterServiceConnectDefaults `json:"serviceConnectDefaults,omitempty"`
	Tags                            []types.Tag                          `json:"tags,omitempty"`
}

// Family is a task definition family, stored under its name. It is rewritten by
// every operation on one of its revisions, which serialises them. The task
// definition operations write it.
type Family struct {
	Name string `json:"name"`
	// LastRevision is the highest revision ever registered; revisions are never reused.
	LastRevision int32 `json:"lastRevision"`
	// LatestActive is the highest ACTIVE revision, 0 when there is none.
	LatestActive int32 `json:"latestActive"`
}

// TaskDefinition is one revision, stored under definitionID. The task definition
// operations write it; nothing but its status, its timestamps and tags ever changes.
type TaskDefinition struct {
	// Definition is complete (ARN, revision, status, compatibilities,
	// requiresAttributes, registeredAt, registeredBy). It must not hold a union
	// (a GPU requirement's sharingStrategy): JSON would not read it back.
	Definition types.TaskDefinition `json:"definition"`
	Tags       []types.Tag          `json:"tags,omitempty"`
}

// definitionID is a task definition's key; revisions sort by number.
func definitionID(family string, revision int32) string {
	return fmt.Sprintf("%s/%010d", family, revision)
}

// Node is a machine that runs an agent, stored under its id.
type Node struct {
	ID string `json:"id"`
	// MayServeAll and MayServeFargate say what the node's agent may announce
	// (attributes longshore.universal and longshore.fargate); OnlyCluster is the one
	// that it may register in, empty for any. PutNode writes them.
	MayServeAll     bool   `json:"mayServeAll,omitempty"`
	MayServeFargate bool   `json:"mayServeFargate,omitempty"`
	OnlyCluster     string `json:"onlyCluster,omitempty"`
	// RevokedAt is when the operator gave the node up. RevokeNode writes it.
	RevokedAt time.Time `json:"revokedAt,omitzero"`

	// What follows is written by RegisterContainerInstance.

	// Universal: the node has an instance in every cluster. Fargate: it takes
	// FARGATE tasks of every cluster.
	Universal bool `json:"universal,omitempty"`
	Fargate   bool `json:"fargate,omitempty"`
	// Incarnation changes with each registration that begins anew (after all of
	// the node's instances were deregistered).
	Incarnation string `json:"incarnation,omitempty"`
	// HomeCluster and HomeInstance are the instance that the agent registered as.
	HomeCluster  string             `json:"homeCluster,omitempty"`
	HomeInstance string             `json:"homeInstance,omitempty"`
	Resources    NodeResources      `json:"resources,omitzero"`
	Attributes   []types.Attribute  `json:"attributes,omitempty"`
	VersionInfo  *types.VersionInfo `json:"versionInfo,omitempty"`
	Zone         string             `json:"zone,omitempty"`
	// Address is where the registration came from.
	Address      string    `json:"address,omitempty"`
	RegisteredAt time.Time `json:"registeredAt,omitzero"`

	// What follows is written by the agent's sessions (source.go).

	Connected      bool      `json:"connected,omitempty"`
	ConnectivityAt time.Time `json:"connectivityAt,omitzero"`
	// Session is the id of the latest session, so that the end of an older one
	// does not disconnect a newer one.
	Session string `json:"session,omitempty"`
	// Sequence is where the numbers of the latest session begin (acs.Opening).
	Sequence int64         `json:"sequence,omitempty"`
	Runtime  RuntimeHealth `json:"runtime,omitzero"`
	// LostAt is when the node counted as lost, until its agent connects again.
	// The loop in lost.go writes it.
	LostAt time.Time `json:"lostAt,omitzero"`
}

// NodeResources is what a node registered.
type NodeResources struct {
	CPU    int64 `json:"cpu"`    // 1/1024 of a core
	Memory int64 `json:"memory"` // MiB
	// GPUs are device ids; TCP and UDP the ports that the node keeps for itself.
	GPUs []string `json:"gpus,omitempty"`
	TCP  []string `json:"tcp,omitempty"`
	UDP  []string `json:"udp,omitempty"`
}

// RuntimeHealth is the container runtime's health as the agent reported it.
type RuntimeHealth struct {
	Status           string    `json:"status,omitempty"`
	LastUpdated      time.Time `json:"lastUpdated,omitzero"`
	LastStatusChange time.Time `json:"lastStatusChange,omitzero"`
}

// Ledger is rewritten by every transaction that puts tasks on its node, and so
// serialises them. It holds no amounts: these are derived from the tasks.
type Ledger struct {
	Writes int64 `json:"writes"`
}

// ContainerInstance is a node's membership of a cluster, stored under
// memberKey(cluster, id).
type ContainerInstance struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	NodeID  string `json:"nodeID"`
	// Status is ACTIVE, DRAINING or INACTIVE (deregistered).
	Status       string    `json:"status"`
	StatusReason string    `json:"statusReason,omitempty"`
	RegisteredAt time.Time `json:"registeredAt"`
	InactiveAt   time.Time `json:"inactiveAt,omitzero"`
	// Attributes are the custom ones (PutAttributes, and those that the agent
	// sent beside its capabilities); the node's own come from Node.Attributes.
	Attributes []types.Attribute `json:"attributes,omitempty"`
	Tags       []types.Tag       `json:"tags,omitempty"`
	// Version counts the changes of the record.
	Version int64 `json:"version"`
}

// Task is stored under memberKey(cluster, id). Everything up to Allocation is
// written once, when the task is made.
type Task struct {
	ID         string    `json:"id"`
	Cluster    string    `json:"cluster"`
	Family     string    `json:"family"`
	Revision   int32     `json:"revision"`
	CreatedAt  time.Time `json:"createdAt"`
	NodeID     string    `json:"nodeID"`
	InstanceID string    `json:"instanceID,omitempty"` // empty for Fargate
	Zone       string    `json:"zone,omitempty"`

	LaunchType       types.LaunchType           `json:"launchType"`
	CapacityProvider string                     `json:"capacityProvider,omitempty"`
	PlatformVersion  string                     `json:"platformVersion,omitempty"`
	PlatformFamily   string                     `json:"platformFamily,omitempty"`
	NetworkMode      types.NetworkMode          `json:"networkMode,omitempty"`
	Group            string                     `json:"group,omitempty"`
	Service          string                     `json:"service,omitempty"`
	StartedBy        string                     `json:"startedBy,omitempty"`
	ReferenceID      string                     `json:"referenceID,omitempty"`
	CPU              string                     `json:"cpu,omitempty"`
	Memory           string                     `json:"memory,omitempty"`
	Ephemeral        int32                      `json:"ephemeral,omitempty"` // GiB
	Overrides        *types.TaskOverride        `json:"overrides,omitempty"`
	VPC              *types.AwsVpcConfiguration `json:"vpc,omitempty"`
	Attributes       []types.Attribute          `json:"attributes,omitempty"`
	Allocation       Allocation                 `json:"allocation"`

	// Tags are written by RunTask and the tag operations.
	Tags []types.Tag `json:"tags,omitempty"`
	// Accounted: its service has counted its end.
	Accounted bool `json:"accounted,omitempty"`
	// ProtectedUntil is how long no deployment or scale-in stops it; UpdateTaskProtection
	// writes it.
	ProtectedUntil time.Time `json:"protectedUntil,omitzero"`

	// LastStatus, the stop fields and the timestamps are written by state.go only.
	LastStatus    string             `json:"lastStatus"`
	DesiredStatus string             `json:"desiredStatus"`
	StopCode      types.TaskStopCode `json:"stopCode,omitempty"`
	StoppedReason string             `json:"stoppedReason,omitempty"`
	Version       int64              `json:"version"`

	PullStartedAt      time.Time `json:"pullStartedAt,omitzero"`
	PullStoppedAt      time.Time `json:"pullStoppedAt,omitzero"`
	StartedAt          time.Time `json:"startedAt,omitzero"`
	StoppingAt         time.Time `json:"stoppingAt,omitzero"`
	StoppedAt          time.Time `json:"stoppedAt,omitzero"`
	ExecutionStoppedAt time.Time `json:"executionStoppedAt,omitzero"`

	// Targets are its places in target groups; target.go writes them.
	Targets []TaskTarget `json:"targets,omitempty"`

	// Health is written by telemetry, Containers and ENI.Status by the Submit*
	// operations (all through state.go).
	Health     types.HealthStatus `json:"health,omitempty"`
	Containers []TaskContainer    `json:"containers"`
	ENI        *ENI               `json:"eni,omitempty"`
}

// Allocation is what a task takes of its node while it is not STOPPED.
type Allocation struct {
	CPU    int64    `json:"cpu,omitempty"`
	Memory int64    `json:"memory,omitempty"`
	GPUs   []string `json:"gpus,omitempty"`
	TCP    []uint16 `json:"tcp,omitempty"` // fixed host ports
	UDP    []uint16 `json:"udp,omitempty"`
}

// TaskContainer is one container of a task.
type TaskContainer struct {
	ID                string                 `json:"id"`
	Name              string                 `json:"name"`
	Image             string                 `json:"image"`
	ImageDigest       string                 `json:"imageDigest,omitempty"`
	RuntimeID         string                 `json:"runtimeID,omitempty"`
	LastStatus        string                 `json:"lastStatus"`
	ExitCode          *int32                 `json:"exitCode,omitempty"`
	Reason            string                 `json:"reason,omitempty"`
	NetworkBindings   []types.NetworkBinding `json:"networkBindings,omitempty"`
	Health            types.HealthStatus     `json:"health,omitempty"`
	CPU               string                 `json:"cpu,omitempty"`
	Memory            string                 `json:"memory,omitempty"`
	MemoryReservation string                 `json:"memoryReservation,omitempty"`
	GPUs              []string               `json:"gpus,omitempty"`
	Essential         bool                   `json:"essential,omitempty"`
}

// ENI is a task's elastic network interface.
type ENI struct {
	AttachmentID string `json:"attachmentID"`
	ID           string `json:"id"` // eni-…
	SubnetID     string `json:"subnetID"`
	Address      string `json:"address"`
	MAC          string `json:"mac"`
	// Status is AWS's attachment status: PRECREATED, ATTACHING, ATTACHED, DELETED.
	Status string `json:"status"`
}

// Address guards an address of the built-in VPC, stored under
// "subnetID/address". A released one rests before it is given out again.
type Address struct {
	Task       string    `json:"task"` // memberKey
	ReleasedAt time.Time `json:"releasedAt,omitzero"`
}

// ClientToken remembers an idempotent call, stored under
// "operation/cluster/token".
type ClientToken struct {
	// Request is a digest of the call's other parameters.
	Request   string    `json:"request"`
	Tasks     []string  `json:"tasks"` // ids
	CreatedAt time.Time `json:"createdAt"`
}

// AccountSetting is stored under "name/principal ARN", the account's default
// under "name/default".
type AccountSetting struct {
	Name      string `json:"name"`
	Principal string `json:"principal"` // ARN, or "default"
	Value     string `json:"value"`
}

// memberKey is the key of a cluster's member.
func memberKey(cluster, id string) string { return cluster + "/" + id }

// Key returns the task's key.
func (t *Task) Key() string { return memberKey(t.Cluster, t.ID) }

// Key returns the instance's key.
func (c *ContainerInstance) Key() string { return memberKey(c.Cluster, c.ID) }

// tables are the room's tables and indexes.
type tables struct {
	clusters    *store.Table[Cluster]
	families    *store.Table[Family]
	definitions *store.Table[TaskDefinition]
	nodes       *store.Table[Node]
	ledgers     *store.Table[Ledger]
	instances   *store.Table[ContainerInstance]
	tasks       *store.Table[Task]
	addresses   *store.Table[Address]
	tokens      *store.Table[ClientToken]
	settings    *store.Table[AccountSetting]
	services    *store.Table[serviceRecord]
	releases    *store.Table[release]
	revisions   *store.Table[revision]

	// nodesByRole: "universal" and "fargate".
	nodesByRole *store.Index[Node]
	// instancesByNode: node id; instancesByStatus: status.
	instancesByNode   *store.Index[ContainerInstance]
	instancesByStatus *store.Index[ContainerInstance]
	// liveByNode: node id, of tasks that are not STOPPED.
	liveByNode *store.Index[Task]
	// usageByNode sums what tasks that are not STOPPED take of each node.
	usageByNode *store.Sum[Task, usage]
	// tasksByDesired: "cluster/desiredStatus". tasksByFamily: "cluster/family".
	// tasksByStarter: "cluster/startedBy". tasksByService: "cluster/service".
	// tasksByInstance: "cluster/instance id".
	tasksByDesired  *store.Index[Task]
	tasksByFamily   *store.Index[Task]
	tasksByStarter  *store.Index[Task]
	tasksByService  *store.Index[Task]
	tasksByInstance *store.Index[Task]
	// tasksByID: task id (every cluster).
	tasksByID *store.Index[Task]
	// tasksByStatus: "live" and "stopped" (every cluster).
	tasksByStatus *store.Index[Task]
	// liveByDefinition: definitionID, of tasks that are not STOPPED.
	liveByDefinition *store.Index[Task]
	// tasksByPhase: "cluster/launch type/running" or "…/pending", of the same.
	tasksByPhase *store.Index[Task]
}

func declareTables(db *store.DB) tables {
	t := tables{
		clusters:    store.NewTable[Cluster](db, "ecs.clusters"),
		families:    store.NewTable[Family](db, "ecs.families"),
		definitions: store.NewTable[TaskDefinition](db, "ecs.definitions"),
		nodes:       store.NewTable[Node](db, "ecs.nodes"),
		ledgers:     store.NewTable[Ledger](db, "ecs.ledgers"),
		instances:   store.NewTable[ContainerInstance](db, "ecs.instances"),
		tasks:       store.NewTable[Task](db, "ecs.tasks"),
		addresses:   store.NewTable[Address](db, "ecs.addresses"),
		tokens:      store.NewTable[ClientToken](db, "ecs.tokens"),
		settings:    store.NewTable[AccountSetting](db, "ecs.settings"),
		services:    store.NewTable[serviceRecord](db, "ecs.services"),
		releases:    store.NewTable[release](db, "ecs.releases"),
		revisions:   store.NewTable[revision](db, "ecs.revisions"),
	}
	t.nodesByRole = store.NewIndex(t.nodes, "role", func(_ store.Scope, _ string, n *Node) (v []string) {
		if n.Universal {
			v = append(v, "universal")
		}
		if n.Fargate {
			v = append(v, "fargate")
		}
		return v
	})
	t.instancesByNode = store.NewIndex(t.instances, "node", func(_ store.Scope, _ string, c *ContainerInstance) []string {
		return []string{c.NodeID}
	})
	t.instancesByStatus = store.NewIndex(t.instances, "status", func(_ store.Scope, _ string, c *ContainerInstance) []string {
		return []string{c.Status}
	})
	t.declareTaskIndexes()
	return t
}

func (t *tables) declareTaskIndexes() {
	index := func(name string, value func(*Task) string) *store.Index[Task] {
		return store.NewIndex(t.tasks, name, func(_ store.Scope, _ string, k *Task) []string {
			if v := value(k); v != "" {
				return []string{v}
			}
			return nil
		})
	}
	inCluster := func(name string, field func(*Task) string) *store.Index[Task] {
		return index(name, func(k *Task) string {
			if v := field(k); v != "" {
				return k.Cluster + "/" + v
			}
			return ""
		})
	}
	live := func(name string, field func(*Task) string) *store.Index[Task] {
		return index(name, func(k *Task) string {
			if k.LastStatus == taskStopped {
				return ""
			}
			return field(k)
		})
	}
	t.liveByNode = live("live-node", func(k *Task) string { return k.NodeID })
	t.usageByNode = store.NewSum(t.tasks, "usage", func(_ store.Scope, _ string, k *Task) string {
		if k.LastStatus == taskStopped {
			return ""
		}
		return k.NodeID
	}, addUsage)
	t.liveByDefinition = live("live-definition", func(k *Task) string { return definitionID(k.Family, k.Revision) })
	t.tasksByDesired = inCluster("desired", func(k *Task) string { return k.DesiredStatus })
	t.tasksByFamily = inCluster("family", func(k *Task) string { return k.Family })
	t.tasksByStarter = inCluster("starter", func(k *Task) string { return k.StartedBy })
	t.tasksByService = inCluster("service", func(k *Task) string { return k.Service })
	t.tasksByInstance = inCluster("instance", func(k *Task) string { return k.InstanceID })
	t.tasksByPhase = inCluster("phase", taskPhase)
	t.tasksByID = index("id", func(k *Task) string { return k.ID })
	t.tasksByStatus = index("status", func(k *Task) string {
		if k.LastStatus == taskStopped {
			return "stopped"
		}
		return "live"
	})
}
