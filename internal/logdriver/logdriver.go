package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/runtime"
)

// Container names the container whose output is carried.
type Container struct {
	// ID is the runtime's container id, Name the task definition's container name,
	// TaskID the last part of the task's ARN.
	ID, Name, TaskID string
	// Region is where the node is; it is used when the options name none.
	Region string
	// Fargate tells that the task runs as on Fargate, where a stream prefix is required.
	Fargate bool
}

// Driver carries one container's output until the spool ends.
type Driver interface {
	// Prepare makes the place where the output goes, before the container starts.
	// Its error is an *InitializationError when the place cannot be made; what may
	// pass is tried again until ctx ends.
	Prepare(ctx context.Context) error
	// Run returns nil when everything up to the spool's end is delivered and
	// acknowledged, or ctx's error when it was told to stop (what is not
	// acknowledged is sent by the next Run). Delivery errors are retried with
	// backoff inside and end Run only when they can never succeed; the error's text
	// is fit to be shown to the task's owner.
	Run(ctx context.Context, spool runtime.Spool) error
}

// LogsClient is what awslogs needs of CloudWatch Logs; *cloudwatchlogs.Client has it.
type LogsClient interface {
	PutLogEvents(context.Context, *cloudwatchlogs.PutLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error)
	CreateLogStream(context.Context, *cloudwatchlogs.CreateLogStreamInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error)
	CreateLogGroup(context.Context, *cloudwatchlogs.CreateLogGroupInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogGroupOutput, error)
}

// Deps is what drivers need.
type Deps struct {
	// Client returns a client for a region; endpoint is what awslogs-endpoint says,
	// or empty.
	Client func(region, endpoint string) (LogsClient, error)
	// Log gets what goes wrong and is tried again; nil discards it.
	Log *slog.Logger
}

// New returns the driver of a container's settings.
func New(s Settings, d Deps) (Driver, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if s.awslogs == nil {
		return keep{acknowledge: s.Output.Discard}, nil
	}
	client, err := d.Client(s.awslogs.region, s.awslogs.endpoint)
	if err != nil {
		return nil, &InitializationError{Err: err}
	}
	log := d.Log.With("container", s.container.Name, "task", s.container.TaskID, "logGroup", s.awslogs.group, "logStream", s.awslogs.stream)
	return &awslogs{settings: s.awslogs, client: client, log: log, holdLimit: holdLimit(s.Output)}, nil
}

// InitializationError tells that a log driver cannot be started, so that the
// container must not be either.
type InitializationError struct {
	// Err begins with what failed: "failed to create Cloudwatch log stream: …".
	Err error
}

func (e *InitializationError) Error() string {
	return "failed to initialize logging driver: " + e.Err.Error()
}

func (e *InitializationError) Unwrap() error { return e.Err }

// StoppedReason returns err's text as the reason why a task stopped, as Fargate
// or as Amazon's agent on EC2 gives it.
func StoppedReason(err error, fargate bool) string {
	var init *InitializationError
	if !errors.As(err, &init) {
		return err.Error()
	}
	if fargate {
		return "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: " + init.Err.Error()
	}
	return "CannotStartContainerError: Error response from daemon: " + init.Error()
}

// keep is the driver of output that goes nowhere else: Run waits for its end.
// json-file acknowledges nothing, so that the spool keeps the output, dropping
// the oldest at its bound, until it is removed.
type keep struct{ acknowledge bool }

func (keep) Prepare(context.Context) error { return nil }

func (k keep) Run(ctx context.Context, spool runtime.Spool) error {
	cursor, err := spool.Acked()
	if err != nil {
		return fmt.Errorf("read the output's position: %w", err)
	}
	for {
		chunk, err := spool.Next(ctx, cursor)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read the output: %w", err)
		}
		cursor = chunk.Cursor
		if k.acknowledge {
			if err := spool.Ack(cursor); err != nil {
				return fmt.Errorf("acknowledge the output: %w", err)
			}
		}
	}
}
