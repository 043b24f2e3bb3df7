package logdriver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
)

const (
	// callTimeout bounds one call.
	callTimeout = 30 * time.Second
	// minBackoff and maxBackoff bound the pause before a call is tried again.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// verdict is what an error means for the next try.
type verdict int

const (
	again   verdict = iota // it may pass
	missing                // the group or the stream does not exist
	already                // it is done
	never                  // it can never succeed
)

// judge tells what an error means. What is unknown may pass: losing lines is
// worse than trying in vain.
func judge(err error) verdict {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return again // no answer
	}
	switch code := api.ErrorCode(); code {
	case "ResourceNotFoundException":
		return missing
	case "ResourceAlreadyExistsException", "DataAlreadyAcceptedException":
		return already
	case "InvalidParameterException", "ValidationException", "SerializationException", "UnknownOperationException":
		return never
	default:
		if strings.HasPrefix(code, "AccessDenied") {
			return never
		}
		return again
	}
}

// once makes the SDK try once: how often and how long is decided here.
func once(o *cloudwatchlogs.Options) { o.Retryer = aws.NopRetryer{} }

// brief returns an API error as "Code: message", without the SDK's wrapping.
func brief(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return err.Error()
}

// retry calls fn until it succeeds, fails for good or ctx ends. Its error is then
// ctx's, wrapped with fn's last one.
func (d *awslogs) retry(ctx context.Context, what string, fn func(ctx context.Context) (verdict, error)) error {
	pause := minBackoff
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		v, err := fn(call)
		cancel()
		if err == nil || v == already {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%s: %s)", ctx.Err(), what, brief(err))
		}
		if v != again {
			return err
		}
		d.log.Warn("log driver tries again", "failed", what, "error", brief(err), "in", pause)
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%s: %s)", ctx.Err(), what, brief(err))
		case <-timer.C:
		}
		pause = min(2*pause, maxBackoff)
	}
}

// put sends events, which are in order of time, until they are accepted. A stream
// or group that was removed meanwhile is made again, the group only if the
// options say so; otherwise somebody has to make it, and put waits.
func (d *awslogs) put(ctx context.Context, events []types.InputLogEvent) error {
	err := d.retry(ctx, "send log events", func(call context.Context) (verdict, error) {
		out, err := d.client.PutLogEvents(call, &cloudwatchlogs.PutLogEventsInput{
			LogGroupName: &d.settings.group, LogStreamName: &d.settings.stream, LogEvents: events,
		}, once)
		if err == nil {
			d.reportRejected(out.RejectedLogEventsInfo, len(events))
			return already, nil
		}
		if judge(err) != missing {
			return judge(err), err
		}
		if !d.settings.createStream {
			return again, err
		}
		if v, made := d.create(call); made != nil {
			if v == missing {
				v = again
			}
			return v, made
		}
		return again, err
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("CloudWatch Logs does not accept the container's log events (log group %s, stream %s): %s",
			d.settings.group, d.settings.stream, brief(err))
	}
	return err
}

func (d *awslogs) reportRejected(r *types.RejectedLogEventsInfo, sent int) {
	if r == nil {
		return
	}
	lost := max(aws.ToInt32(r.TooOldLogEventEndIndex), aws.ToInt32(r.ExpiredLogEventEndIndex))
	if r.TooNewLogEventStartIndex != nil {
		lost += int32(sent) - *r.TooNewLogEventStartIndex
	}
	d.log.Warn("CloudWatch Logs rejected log events as too old, expired or too new", "rejected", lost, "sent", sent)
}

// Prepare implements Driver.
func (d *awslogs) Prepare(ctx context.Context) error {
	if !d.settings.createStream {
		return nil
	}
	err := d.retry(ctx, "create the log stream", d.create)
	if err != nil && ctx.Err() == nil {
		return &InitializationError{Err: err}
	}
	return err
}

// create makes the stream, and the group if it is missing and the options say so.
func (d *awslogs) create(ctx context.Context) (verdict, error) {
	v, err := d.createStream(ctx)
	if v != missing || !d.settings.createGroup {
		return v, err
	}
	_, err = d.client.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &d.settings.group}, once)
	if err != nil && judge(err) != already {
		return judge(err), creationError("group", err)
	}
	v, err = d.createStream(ctx)
	if v == missing {
		v = again // the group was removed at once, or is not to be seen yet
	}
	return v, err
}

func (d *awslogs) createStream(ctx context.Context) (verdict, error) {
	_, err := d.client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{
		LogGroupName: &d.settings.group, LogStreamName: &d.settings.stream,
	}, once)
	if err == nil || judge(err) == already {
		return already, nil
	}
	return judge(err), creationError("stream", err)
}

// refusal is an error of creation with the text that AWS puts into stopped reasons.
type refusal struct {
	text string
	err  error
}

func creationError(noun string, err error) error {
	return &refusal{"failed to create Cloudwatch log " + noun + ": " + brief(err), err}
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.err }
