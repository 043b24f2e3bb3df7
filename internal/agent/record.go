package agent

import (
	"strings"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// Status is where a task or a container stands on this node, with ECS's names.
type Status string

// The statuses, in the order in which they are passed. PULLED and CREATED are
// the agent's own; the control plane sees them as PENDING.
const (
	StatusNone    Status = "NONE"
	StatusPulled  Status = "PULLED"
	StatusCreated Status = "CREATED"
	StatusPending Status = "PENDING"
	StatusRunning Status = "RUNNING"
	StatusStopped Status = "STOPPED"
)

var statusRank = map[Status]int{
	StatusNone: 0, StatusPending: 0, StatusPulled: 1, StatusCreated: 2, StatusRunning: 3, StatusStopped: 4,
}

// before tells whether s comes before t.
func (s Status) before(t Status) bool { return statusRank[s] < statusRank[t] }

// Health of a container, with ECS's names.
const (
	HealthUnknown   = "UNKNOWN"
	HealthHealthy   = "HEALTHY"
	HealthUnhealthy = "UNHEALTHY"
)

// record is all that the node keeps of one task. It is written to disk before
// the change that it describes is acted on or reported. Only the task's worker
// writes it.
type record struct {
	// Task as the control plane sent it, without credentials.
	Task acs.Task `json:"task"`
	ID   string   `json:"id"`
	// Roles are the ids of the credentials of the task's roles, by the role's type.
	Roles map[string]string `json:"roles,omitempty"`
	// StopRequested is set when the control plane, the manifest or the node's
	// shutdown wants the task gone.
	StopRequested bool `json:"stopRequested,omitempty"`
	// Failure says why the task stops by itself: the reason that is reported.
	Failure    string      `json:"failure,omitempty"`
	Containers []container `json:"containers"`

	AcceptedAt         time.Time `json:"acceptedAt"`
	PullStartedAt      time.Time `json:"pullStartedAt"`
	PullStoppedAt      time.Time `json:"pullStoppedAt"`
	ExecutionStoppedAt time.Time `json:"executionStoppedAt"`
	// Ran is set once every container had started.
	Ran bool `json:"ran,omitempty"`
	// Released is set when nothing of the task but its output is left on the node.
	Released bool `json:"released,omitempty"`

	// What the control plane has acknowledged.
	SentAttached bool `json:"sentAttached,omitempty"`
	SentRunning  bool `json:"sentRunning,omitempty"`
	SentStopped  bool `json:"sentStopped,omitempty"`

	// FinishedAt is set when nothing is left to do. The record stays for a while, so
	// that a late payload does not start the task again.
	FinishedAt time.Time `json:"finishedAt"`
}

// container is what the node keeps of one container.
type container struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// MetadataID is the unguessable part of the container's metadata URL.
	MetadataID string `json:"metadataId"`
	// Starts counts how often it was started; it is part of the runtime's id.
	Starts      int                   `json:"starts,omitempty"`
	ImageDigest string                `json:"imageDigest,omitempty"`
	ImageID     string                `json:"imageId,omitempty"`
	Ports       []network.PortMapping `json:"ports,omitempty"`
	CreatedAt   time.Time             `json:"createdAt"`
	StartedAt   time.Time             `json:"startedAt"`
	Exit        *runtime.Exit         `json:"exit,omitempty"`
	// Reason says why it could not start, or was ended by the node.
	Reason string `json:"reason,omitempty"`
	Health string `json:"health,omitempty"`
	// HealthSince is when Health last changed.
	HealthSince time.Time `json:"healthSince"`
	// HealthOutput is the end of the last health check's output.
	HealthOutput string `json:"healthOutput,omitempty"`
	// Recreated counts how often it had vanished before its start.
	Recreated int `json:"recreated,omitempty"`
	// SentStopped: the control plane knows that it stopped while the task runs on.
	SentStopped bool `json:"sentStopped,omitempty"`
}

// newRecord makes the record of a task that has just arrived.
func newRecord(task acs.Task, now time.Time, newID func() string) *record {
	r := &record{ID: taskID(task.ARN), AcceptedAt: now}
	for kind, c := range roleCredentials(&task) {
		if r.Roles == nil {
			r.Roles = map[string]string{}
		}
		r.Roles[kind] = c.CredentialsID
	}
	task.RoleCredentials, task.ExecutionRoleCredentials = nil, nil
	r.Task = task
	for i := range task.Containers {
		r.Containers = append(r.Containers, container{
			Name: task.Containers[i].Name, Status: StatusNone, MetadataID: newID(), Health: HealthUnknown,
		})
	}
	return r
}

// taskID is the last part of a task's ARN.
func taskID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// clone copies what the worker may change, for readers on other goroutines.
func (r *record) clone() *record {
	c := *r
	c.Containers = append([]container(nil), r.Containers...)
	return &c
}

// index finds a container by name; -1 when there is none.
func (r *record) index(name string) int {
	for i := range r.Containers {
		if r.Containers[i].Name == name {
			return i
		}
	}
	return -1
}

// snapshotKey names a container's writable root file system, which a restarted
// container keeps; sandbox its network.
func (r *record) snapshotKey(i int) string { return r.ID + "-" + itoa(i) }

// runtimeID names container i's present run.
func (r *record) runtimeID(i int) string {
	id := r.snapshotKey(i)
	if n := r.Containers[i].Starts; n > 0 {
		id += "-r" + itoa(n)
	}
	return id
}

// sandboxID names the network of container i: one for each container in bridge
// and none mode, one for the task otherwise.
func (r *record) sandboxID(i int) string {
	switch r.mode(i) {
	case network.ModeAWSVPC, network.ModeHost:
		return r.ID
	default:
		return r.snapshotKey(i)
	}
}

// mode is container i's network mode: the task's, or none where the container
// has networking disabled.
func (r *record) mode(i int) network.Mode {
	if config, _, err := r.Task.Containers[i].DockerConfig.Parse(); err == nil && config.NetworkDisabled {
		return network.ModeNone
	}
	return network.Mode(r.networkMode())
}

func (r *record) networkMode() string {
	if r.Task.NetworkMode == "" {
		return string(network.ModeBridge)
	}
	return r.Task.NetworkMode
}

// formerRuntimeID names container i's run before the present one.
func (r *record) formerRuntimeID(i int) string {
	former := *r
	former.Containers = append([]container(nil), r.Containers...)
	former.Containers[i].Starts--
	return former.runtimeID(i)
}
