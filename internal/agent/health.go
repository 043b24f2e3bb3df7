package agent

import (
	"context"
	"errors"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/runtime"
)

// ECS's defaults of a container health check.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 5 * time.Second
	healthRetries  = 3
)

// healthCheck is a container's health check with its defaults filled in.
type healthCheck struct {
	args                           []string
	interval, timeout, startPeriod time.Duration
	retries                        int
}

// healthCheckOf returns the check that the task names, or nil. An image's own
// check is not run, as on ECS.
func healthCheckOf(c *acs.Container) *healthCheck {
	config, _, err := c.DockerConfig.Parse()
	if err != nil || config.Healthcheck == nil || len(config.Healthcheck.Test) == 0 {
		return nil
	}
	h := config.Healthcheck
	check := &healthCheck{
		interval: time.Duration(h.Interval), timeout: time.Duration(h.Timeout),
		startPeriod: time.Duration(h.StartPeriod), retries: h.Retries,
	}
	switch h.Test[0] {
	case "NONE":
		return nil
	case "CMD":
		check.args = h.Test[1:]
	case "CMD-SHELL":
		check.args = append([]string{"/bin/sh", "-c"}, h.Test[1:]...)
	default:
		check.args = h.Test
	}
	if check.interval <= 0 {
		check.interval = healthInterval
	}
	if check.timeout <= 0 {
		check.timeout = healthTimeout
	}
	if check.retries <= 0 {
		check.retries = healthRetries
	}
	return check
}

// checkHealth runs the check every interval until ctx ends with the container.
// Failures within the start period do not count.
func (w *worker) checkHealth(ctx context.Context, i int, id string, check *healthCheck) {
	started := w.snapshot().Containers[i].StartedAt // an agent's restart does not begin the start period anew
	ticker := time.NewTicker(check.interval)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		result, err := w.runtime.Exec(ctx, id, runtime.ExecSpec{Args: check.args, Timeout: check.timeout})
		switch {
		case ctx.Err() != nil || errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound):
			return
		case err == nil && result.Code == 0 && !result.TimedOut:
			failures = 0
			w.setHealth(ctx, i, HealthHealthy, result.Output)
		case w.now().Sub(started) < check.startPeriod:
		default:
			if failures++; failures >= check.retries {
				w.setHealth(ctx, i, HealthUnhealthy, healthOutput(result, err))
			}
		}
	}
}

func healthOutput(result runtime.ExecResult, err error) []byte {
	if err != nil {
		return []byte(err.Error())
	}
	if result.TimedOut {
		return append(result.Output, "\nthe health check took longer than its timeout"...)
	}
	return result.Output
}

func (w *worker) setHealth(ctx context.Context, i int, health string, output []byte) {
	now := w.now()
	w.post(ctx, func(r *record) bool {
		c := &r.Containers[i]
		if c.Health == health || c.Status != StatusRunning {
			return false
		}
		c.Health, c.HealthSince, c.HealthOutput = health, now, truncate(string(output), 1024)
		w.onHealth()
		return true
	})
}
