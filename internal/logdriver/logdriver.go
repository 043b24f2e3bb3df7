package logdriver

import (
	"context"

	"longshore.dev/longshore/internal/runtime"
)

// Container names the container whose output is carried.
type Container struct {
	// ID is the runtime's container id, Name the task definition's container name,
	// TaskID the last part of the task's ARN.
	ID, Name, TaskID string
}

// Driver carries one container's output until the spool ends.
type Driver interface {
	// Run returns nil when everything up to the spool's end is delivered and
	// acknowledged, or ctx's error when it was told to stop (what is not
	// acknowledged is sent by the next Run). Delivery errors are retried with
	// backoff inside and end Run only when they can never succeed.
	Run(ctx context.Context, spool runtime.Spool) error
}
