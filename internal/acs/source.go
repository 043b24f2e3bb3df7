package acs

import (
	"context"
	"errors"
	"time"

	"longshore.dev/longshore/internal/wire"
)

// ErrInactiveInstance refuses a handshake: the instance is not registered (any
// more) and its agent should stop asking for a while.
var ErrInactiveInstance = errors.New("container instance is not active")

// Session is one agent's websocket, as its handshake described it.
type Session struct {
	// ID is unique for each connection.
	ID        string
	Principal wire.Principal
	Region    string
	// Cluster as the agent is configured (name or ARN), Instance its ARN.
	Cluster  string
	Instance string

	// Endpoint is the base URL by which the agent reached the server.
	Endpoint string

	AgentVersion    string
	AgentHash       string
	DockerVersion   string
	SendCredentials bool
}

// Assignment is one task that a session's instance must know about: it is
// desired RUNNING, or desired STOPPED and not yet stopped.
type Assignment struct {
	TaskARN    string
	ClusterARN string
	// CreatedAt orders tasks: the oldest is told first.
	CreatedAt time.Time
	// Desired is DesiredRunning or DesiredStopped.
	Desired string
	// Started is set once the agent has reported on the task, so that it need not
	// be told again to start it.
	Started bool
	// Roles are the types of the roles that the task has, whose credentials its agent
	// must be given, and be given anew before they end, until the task is gone.
	Roles []string
	// Render makes the task's payload; only called for tasks that are sent.
	Render func() (Task, error)
}

// Grant is one role's credentials, for one task.
type Grant struct {
	RoleType    string
	Credentials Credentials
	Expires     time.Time
}

// RefusedRoleError is a role that may not be assumed for its task. Reason is
// ECS's text of it.
type RefusedRoleError struct{ Reason string }

// Error implements error.
func (e *RefusedRoleError) Error() string { return e.Reason }

// Opening is what an assignments session begins with.
type Opening struct {
	// ClusterARN of the instance; the session may name the cluster in other ways.
	ClusterARN string
	// Sequence is below every number that the session may use, and above all that
	// earlier sessions of the instance may have used, up to SessionNumbers each.
	Sequence int64
}

// SessionNumbers is how many payloads and manifests one session may number.
const SessionNumbers = 1 << 20

// Source is what the server's sessions need of the control plane. The room that
// owns tasks implements it.
type Source interface {
	// Admit tells whether a session may be opened, or go on: nil,
	// ErrInactiveInstance, or an API error that is sent to the agent. A principal
	// may have sessions of its own instance only.
	Admit(ctx context.Context, s Session) error
	// Opened marks the instance of an assignments session connected. Its errors
	// are Admit's.
	Opened(ctx context.Context, s Session) (Opening, error)
	// Closed marks the instance disconnected, unless a newer session was opened.
	Closed(ctx context.Context, s Session)
	// Assignments returns what the session's instance must know, oldest first.
	Assignments(ctx context.Context, s Session) ([]Assignment, error)
	// Assignment returns what the instance must know of one task; false when that
	// is nothing (any more).
	Assignment(ctx context.Context, s Session, taskARN string) (Assignment, bool, error)
	// Credentials makes new credentials of a task's roles, the same roles that its
	// Assignment names; none when the task is nothing to the instance any more. Their
	// ids are those of earlier ones. The error is a *RefusedRoleError when a role
	// can't be assumed.
	Credentials(ctx context.Context, s Session, taskARN string) ([]Grant, error)
	// Subscribe calls changed, which does not block, with the ARN of each task whose
	// assignment may have changed, or with none when any may have.
	Subscribe(s Session, changed func(taskARN string)) (cancel func())
	// Unfit ends a task that can't be made into a payload; cause says why.
	Unfit(ctx context.Context, s Session, taskARN string, cause error) error
	// Health takes what the agent says of its containers' health.
	Health(ctx context.Context, s Session, h *PublishHealth) error
	// Metrics takes a page of measurements.
	Metrics(ctx context.Context, s Session, m *PublishMetrics) error
	// InstanceStatus takes what the agent says of the instance's own parts.
	InstanceStatus(ctx context.Context, s Session, i *PublishInstanceStatus) error
}
