package ecs

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// serviceRecord is a service, stored under memberKey(cluster, name). The service
// operations write what is asked for, the loop in service_loop.go the rest.
type serviceRecord struct {
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	// Status is ACTIVE, DRAINING (deleted, its tasks are being stopped) or INACTIVE.
	Status     string    `json:"status"`
	CreatedAt  time.Time `json:"createdAt"`
	CreatedBy  string    `json:"createdBy"`
	InactiveAt time.Time `json:"inactiveAt,omitzero"`
	// Token and Request, a digest, make CreateService idempotent.
	Token   string `json:"token,omitempty"`
	Request string `json:"request,omitempty"`

	// Scheduling is DAEMON, or empty for REPLICA. Desired is how many tasks are wanted;
	// for DAEMON the loop writes it.
	Scheduling    types.SchedulingStrategy      `json:"scheduling,omitempty"`
	Desired       int32                         `json:"desired"`
	Configuration types.DeploymentConfiguration `json:"configuration"`
	// Grace is how many seconds of a task's life its targets may be unhealthy.
	Grace       int32                       `json:"grace,omitempty"`
	Constraints []types.PlacementConstraint `json:"constraints,omitempty"`
	Strategy    []types.PlacementStrategy   `json:"strategy,omitempty"`
	// Rebalance: its tasks are moved until the zones have as many as each other.
	Rebalance   bool                `json:"rebalance,omitempty"`
	Propagate   types.PropagateTags `json:"propagate,omitempty"`
	ManagedTags bool                `json:"managedTags,omitempty"`
	Tags        []types.Tag         `json:"tags,omitempty"`

	// Deployments are those that have tasks, the wanted one first.
	Deployments []deployment `json:"deployments"`
	// Completed is the revision that had all its tasks last: what a rollback returns to.
	Completed *revision `json:"completed,omitempty"`
	// Release is the ID of the latest release.
	Release string `json:"release,omitempty"`
	// Steady: it has what it wants, and said so.
	Steady bool `json:"steady,omitempty"`
	// Waiting is what the loop's last step waited for; nil: for nothing.
	Waiting *waiting `json:"waiting,omitempty"`
	// Events are the latest, newest first.
	Events []serviceEvent `json:"events,omitempty"`
}

// version is what a deployment's tasks are made of.
type version struct {
	Family     string                               `json:"family"`
	Revision   int32                                `json:"revision"`
	LaunchType types.LaunchType                     `json:"launchType,omitempty"`
	Providers  []types.CapacityProviderStrategyItem `json:"providers,omitempty"`
	Platform   string                               `json:"platform,omitempty"`
	Network    *types.NetworkConfiguration          `json:"network,omitempty"`
	// LoadBalancers are the target groups that its tasks are in.
	LoadBalancers []types.LoadBalancer `json:"loadBalancers,omitempty"`
}

// deployment is one revision of a service on its way. Tasks carry its ID in StartedBy.
type deployment struct {
	ID string `json:"id"`
	version
	// Alternate: its tasks take the load balancers' alternate target groups.
	Alternate bool      `json:"alternate,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// Failed counts its tasks that ended by themselves; each counts once
	// (Task.Accounted).
	Failed    int       `json:"failed,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	// State and Reason are AWS's rollout state.
	State  types.DeploymentRolloutState `json:"state"`
	Reason string                       `json:"reason,omitempty"`
}

// serviceEvent is one line of what happened to a service.
type serviceEvent struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Message string    `json:"message"`
}

// maxEvents are kept of a service, as AWS does.
const maxEvents = 100

// Key returns the service's key.
func (s *serviceRecord) Key() string { return memberKey(s.Cluster, s.Name) }

// say adds an event, unless the latest says the same.
func (s *serviceRecord) say(id string, at time.Time, message string) {
	if len(s.Events) > 0 && s.Events[0].Message == message {
		return
	}
	s.Events = append([]serviceEvent{{id, at, message}}, s.Events[:min(len(s.Events), maxEvents-1)]...)
}

// desired is how many tasks there should be now: none of a service that is deleted.
func (s *serviceRecord) desired() int32 {
	if s.Status != statusActive {
		return 0
	}
	return s.Desired
}

// deploymentOf finds the deployment of a task; nil for one that is not the service's any more.
func (s *serviceRecord) deploymentOf(t *Task) *deployment {
	i := slices.IndexFunc(s.Deployments, func(d deployment) bool { return d.ID == t.StartedBy })
	if i < 0 {
		return nil
	}
	return &s.Deployments[i]
}

// definitions are the task definitions that the service has, or may return to.
func (s *serviceRecord) definitions() (ids []string) {
	if s.Status == statusInactive {
		return nil
	}
	for i := range s.Deployments {
		ids = append(ids, definitionID(s.Deployments[i].Family, s.Deployments[i].Revision))
	}
	if s.Completed != nil {
		ids = append(ids, definitionID(s.Completed.Family, s.Completed.Revision))
	}
	return ids
}

func (s *serviceRecord) scheduling() types.SchedulingStrategy {
	if s.Scheduling == "" {
		return types.SchedulingStrategyReplica
	}
	return s.Scheduling
}

func serviceARNOf(sc store.Scope, cluster, name string) string {
	return arnOf(sc, "service", cluster, name)
}

// Percents of a REPLICA service that does not say.
const (
	defaultMinimumPercent = 100
	defaultMaximumPercent = 200
)

// breakerThreshold is how many failed tasks end a deployment; 0 without a breaker.
func (s *serviceRecord) breakerThreshold() int {
	b := s.Configuration.DeploymentCircuitBreaker
	if b == nil || !b.Enable {
		return 0
	}
	kind, value := types.ThresholdTypeBoundedPercent, int64(50)
	if c := b.ThresholdConfiguration; c != nil {
		kind, value = c.Type, int64(c.Value)
	}
	of := (int64(s.Desired)*value + 99) / 100
	switch kind {
	case types.ThresholdTypeCount:
		return int(max(value, 1))
	case types.ThresholdTypeUnboundedPercent:
		return int(max(of, 1))
	default:
		return int(min(max(of, leastThreshold), mostThreshold))
	}
}

// Bounds of a threshold of type BOUNDED_PERCENT.
const leastThreshold, mostThreshold = 3, 200
