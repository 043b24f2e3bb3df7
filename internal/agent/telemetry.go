package agent

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
)

const (
	publishEvery = 20 * time.Second
	// tasksPerFrame and bytesPerFrame bound a page of measurements: a frame is at
	// most 1 MiB, its head and signature included.
	tasksPerFrame = 10
	bytesPerFrame = 1<<20 - 16<<10
)

// openTelemetry is one life of the TCS session.
func (a *Agent) openTelemetry(ctx context.Context) (opened bool, err error) {
	where, err := a.discover(ctx)
	if err != nil {
		return false, err
	}
	id := a.identity()
	query := url.Values{
		"cluster": {id.Cluster}, "containerInstance": {id.ContainerInstanceARN},
		"agentHash": {a.options.Version}, "agentVersion": {a.options.Version}, "dockerVersion": {dockerVersion},
	}
	client, err := acs.Dial(ctx, aws.ToString(where.TelemetryEndpoint), query, a.options.Sign, a.options.HTTPClient)
	if err != nil {
		a.endpoints.doubt()
		return false, err
	}
	return true, a.telemetry(ctx, client)
}

// telemetry publishes until the session ends. What comes back says nothing but
// that the other side lives.
func (a *Agent) telemetry(ctx context.Context, client *acs.Client) (err error) {
	in := newInbox(ctx, client)
	defer func() { in.close(err) }()
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-in.frames:
		case err = <-in.failed:
		case <-ticker.C:
			err = a.publishMetrics(ctx, client)
			if err == nil {
				err = a.publishHealth(ctx, client)
			}
		case <-a.health:
			err = a.publishHealth(ctx, client)
		case <-a.checkup.news:
			err = a.publishInstanceStatus(ctx, client)
		}
		if err != nil {
			return err
		}
	}
}

// pages cuts a list into frames' worth: at most tasksPerFrame, and no more than
// bytesPerFrame as JSON, unless one alone is larger. An empty list is one page.
func pages[T any](all []T) [][]T {
	var cut [][]T
	start, size := 0, 0
	for i := range all {
		raw, err := json.Marshal(all[i])
		n := len(raw) + 1
		if err == nil && i > start && (i-start == tasksPerFrame || size+n > bytesPerFrame) {
			cut = append(cut, all[start:i])
			start, size = i, 0
		}
		size += n
	}
	return append(cut, all[start:])
}

// publishMetrics sends what was measured since the last time.
func (a *Agent) publishMetrics(ctx context.Context, client *acs.Client) error {
	var metrics []acs.TaskMetric
	for _, r := range a.engine.records() {
		m := acs.TaskMetric{TaskARN: r.Task.ARN, Family: r.Task.Family, Version: r.Task.Version}
		for i := range r.Containers {
			if c := a.stats.take(r.Containers[i].Name, r.runtimeID(i)); c != nil {
				c.Restart = &acs.RestartStatsSet{RestartCount: int64(r.Containers[i].Starts)}
				m.ContainerMetrics = append(m.ContainerMetrics, *c)
			}
		}
		if len(m.ContainerMetrics) > 0 {
			metrics = append(metrics, m)
		}
	}
	id, message, all := a.identity(), a.newID(), pages(metrics)
	for i, page := range all {
		err := client.SendSigned(ctx, acs.TypePublishMetrics, acs.PublishMetrics{
			Metadata: acs.MetricsMetadata{
				Cluster: id.Cluster, ContainerInstance: id.ContainerInstanceARN, MessageID: message,
				Idle: len(page) == 0, Fin: i == len(all)-1,
			},
			Timestamp: acs.TimestampOf(a.now()), TaskMetrics: page,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// publishHealth sends the health of every container that has a check.
func (a *Agent) publishHealth(ctx context.Context, client *acs.Client) error {
	var tasks []acs.TaskHealth
	for _, r := range a.engine.records() {
		t := acs.TaskHealth{TaskARN: r.Task.ARN, Family: r.Task.Family, Version: r.Task.Version}
		for i := range r.Containers {
			c := &r.Containers[i]
			if c.Status != StatusRunning || healthCheckOf(&r.Task.Containers[i]) == nil {
				continue
			}
			t.Containers = append(t.Containers, acs.ContainerHealth{
				ContainerName: c.Name, HealthStatus: c.Health, StatusSince: acs.TimestampOf(c.HealthSince), StatusMessage: c.HealthOutput,
			})
		}
		if len(t.Containers) > 0 {
			tasks = append(tasks, t)
		}
	}
	if len(tasks) == 0 {
		return nil
	}
	id, all := a.identity(), pages(tasks)
	for i, page := range all {
		err := client.SendSigned(ctx, acs.TypePublishHealth, acs.PublishHealth{
			Metadata: acs.MetricsMetadata{
				Cluster: id.Cluster, ContainerInstance: id.ContainerInstanceARN, MessageID: a.newID(), Fin: i == len(all)-1,
			},
			Timestamp: acs.TimestampOf(a.now()), Tasks: page,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
