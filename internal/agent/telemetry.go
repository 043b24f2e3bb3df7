package agent

import (
	"context"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
)

const (
	publishEvery = 20 * time.Second
	// tasksPerFrame bounds a page of measurements.
	tasksPerFrame = 10
)

// telemetry is one life of the TCS session.
func (a *Agent) telemetry(ctx context.Context) error {
	endpoints, err := a.discover(ctx)
	if err != nil {
		return err
	}
	id := a.identity()
	query := url.Values{
		"cluster": {id.Cluster}, "containerInstance": {id.ContainerInstanceARN},
		"agentHash": {a.options.Version}, "agentVersion": {a.options.Version},
	}
	client, err := acs.Dial(ctx, aws.ToString(endpoints.TelemetryEndpoint), query, a.options.Sign, a.options.HTTPClient)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer func() { client.Close(); <-done }()
	go func() {
		defer close(done)
		for {
			// Acknowledgements carry nothing; they only show that the other side lives.
			if _, err := readFrame(ctx, client); err != nil {
				cancel(err)
				return
			}
		}
	}()
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			err = a.publishMetrics(ctx, client)
			if err == nil {
				err = a.publishHealth(ctx, client)
			}
		case <-a.health:
			err = a.publishHealth(ctx, client)
		}
		if err != nil {
			return err
		}
	}
}

// publishMetrics sends what was measured since the last time, in pages.
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
	id := a.identity()
	message := a.newID()
	for first := true; first || len(metrics) > 0; first = false {
		page := metrics[:min(tasksPerFrame, len(metrics))]
		metrics = metrics[len(page):]
		err := client.SendSigned(ctx, acs.TypePublishMetrics, acs.PublishMetrics{
			Metadata: acs.MetricsMetadata{
				Cluster: id.Cluster, ContainerInstance: id.ContainerInstanceARN, MessageID: message,
				Idle: len(page) == 0, Fin: len(metrics) == 0,
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
	id := a.identity()
	for len(tasks) > 0 {
		page := tasks[:min(tasksPerFrame, len(tasks))]
		tasks = tasks[len(page):]
		err := client.SendSigned(ctx, acs.TypePublishHealth, acs.PublishHealth{
			Metadata: acs.MetricsMetadata{
				Cluster: id.Cluster, ContainerInstance: id.ContainerInstanceARN, MessageID: a.newID(), Fin: len(tasks) == 0,
			},
			Timestamp: acs.TimestampOf(a.now()), Tasks: page,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
