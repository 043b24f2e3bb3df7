package agent

import (
	"context"
	"sync"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// checkupLimit bounds one look at the runtime.
const checkupLimit = 15 * time.Second

// checkup knows whether the node can run containers. It looks whenever the control
// plane's heartbeat asks, and tells the telemetry session.
type checkup struct {
	asked, news chan struct{}

	mu      sync.Mutex
	status  string
	updated time.Time
	changed time.Time
}

func newCheckup() *checkup {
	return &checkup{asked: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

// ask wants the runtime looked at; it does not wait.
func (c *checkup) ask() { wake(c.asked) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runCheckup looks when asked, until ctx ends.
func (a *Agent) runCheckup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.checkup.asked:
		}
		limited, cancel := context.WithTimeout(ctx, checkupLimit)
		_, err := a.runtime.List(limited)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		status := acs.InstanceOK
		if err != nil {
			status = acs.InstanceImpaired
		}
		if a.checkup.set(status, a.now()) && err != nil {
			a.log.Error("the node's runtime does not answer: containers cannot be managed", "error", err)
		}
		wake(a.checkup.news)
	}
}

// set takes a finding, and tells whether it is a new one.
func (c *checkup) set(status string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updated = now
	if c.status == status {
		return false
	}
	c.status, c.changed = status, now
	return true
}

func (c *checkup) report() acs.InstanceStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return acs.InstanceStatus{
		Type: acs.InstanceRuntime, Status: c.status,
		LastUpdated: acs.TimestampOf(c.updated), LastStatusChange: acs.TimestampOf(c.changed),
	}
}

// publishInstanceStatus sends what the last look found.
func (a *Agent) publishInstanceStatus(ctx context.Context, client *acs.Client) error {
	id := a.identity()
	return client.SendSigned(ctx, acs.TypePublishInstance, acs.PublishInstanceStatus{
		Metadata: acs.MetricsMetadata{
			Cluster: id.Cluster, ContainerInstance: id.ContainerInstanceARN, MessageID: a.newID(), RequestID: a.newID(),
		},
		Timestamp: acs.TimestampOf(a.now()), Statuses: []acs.InstanceStatus{a.checkup.report()},
	})
}
