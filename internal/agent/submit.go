package agent

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"longshore.dev/longshore/internal/network"
)

// submission is one thing to tell the control plane, and what its
// acknowledgement changes in the record.
type submission struct {
	task         *ecs.SubmitTaskStateChangeInput
	container    *ecs.SubmitContainerStateChangeInput
	acknowledged func(r *record)
}

// nextSubmission compares what the control plane has acknowledged with what is
// the case, and returns the next thing to tell it: states in their order.
func nextSubmission(r *record) *submission {
	status := r.status()
	switch {
	case len(r.Task.ENIs) > 0 && !r.SentAttached && anyStarted(r):
		return &submission{task: attachmentInput(r), acknowledged: func(r *record) { r.SentAttached = true }}
	case r.Ran && !r.SentRunning:
		return &submission{task: taskInput(r, StatusRunning), acknowledged: func(r *record) { r.SentRunning = true }}
	case status == StatusStopped && !r.SentStopped:
		return &submission{task: taskInput(r, StatusStopped), acknowledged: func(r *record) { r.SentStopped = true }}
	case status == StatusRunning && !r.stopping():
		for i := range r.Containers {
			if c := &r.Containers[i]; c.Status == StatusStopped && !c.SentStopped {
				return &submission{
					container:    containerInput(r, i),
					acknowledged: func(r *record) { r.Containers[i].SentStopped = true },
				}
			}
		}
	}
	return nil
}

func anyStarted(r *record) bool {
	for i := range r.Containers {
		if !r.Containers[i].StartedAt.IsZero() {
			return true
		}
	}
	return false
}

func attachmentInput(r *record) *ecs.SubmitTaskStateChangeInput {
	in := &ecs.SubmitTaskStateChangeInput{Cluster: cluster(r), Task: aws.String(r.Task.ARN)}
	for _, e := range r.Task.ENIs {
		in.Attachments = append(in.Attachments, ecstypes.AttachmentStateChange{
			AttachmentArn: aws.String(e.AttachmentARN), Status: aws.String("ATTACHED"),
		})
	}
	return in
}

func taskInput(r *record, status Status) *ecs.SubmitTaskStateChangeInput {
	in := &ecs.SubmitTaskStateChangeInput{
		Cluster: cluster(r), Task: aws.String(r.Task.ARN), Status: aws.String(string(status)),
		PullStartedAt: timePointer(r.PullStartedAt), PullStoppedAt: timePointer(r.PullStoppedAt),
	}
	if status == StatusStopped {
		in.ExecutionStoppedAt = timePointer(r.ExecutionStoppedAt)
		if r.Failure != "" {
			in.Reason = aws.String(truncate(r.Failure, 1024))
		}
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		change := ecstypes.ContainerStateChange{
			ContainerName: aws.String(c.Name), Status: aws.String(string(reported(c.Status))),
			NetworkBindings: bindings(c.Ports),
		}
		if !c.CreatedAt.IsZero() {
			change.RuntimeId = aws.String(r.runtimeID(i))
		}
		if c.ImageDigest != "" {
			change.ImageDigest = aws.String(c.ImageDigest)
		}
		change.ExitCode, change.Reason = exitCode(c), optional(c.Reason)
		in.Containers = append(in.Containers, change)
	}
	return in
}

func containerInput(r *record, i int) *ecs.SubmitContainerStateChangeInput {
	c := &r.Containers[i]
	return &ecs.SubmitContainerStateChangeInput{
		Cluster: cluster(r), Task: aws.String(r.Task.ARN), ContainerName: aws.String(c.Name),
		RuntimeId: aws.String(r.runtimeID(i)), Status: aws.String(string(reported(c.Status))),
		ExitCode: exitCode(c), Reason: optional(c.Reason), NetworkBindings: bindings(c.Ports),
	}
}

// reported maps the agent's own statuses to those of the API.
func reported(s Status) Status {
	if s.before(StatusRunning) {
		return StatusPending
	}
	return s
}

func exitCode(c *container) *int32 {
	if c.Exit == nil || c.Exit.Lost {
		return nil
	}
	return aws.Int32(int32(c.Exit.Code))
}

func bindings(ports []network.PortMapping) []ecstypes.NetworkBinding {
	var out []ecstypes.NetworkBinding
	for _, p := range ports {
		out = append(out, ecstypes.NetworkBinding{
			BindIP: aws.String("0.0.0.0"), ContainerPort: aws.Int32(int32(p.ContainerPort)),
			HostPort: aws.Int32(int32(p.HostPort)), Protocol: ecstypes.TransportProtocol(p.Protocol),
		})
	}
	return out
}

func cluster(r *record) *string { return optional(r.Task.TaskClusterARN) }

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timePointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// submit tells the control plane, again and again until it answers. A refusal
// that no repetition can change is logged and counts as an acknowledgement: the
// control plane does not know the task (any more).
func (w *worker) submit(ctx context.Context, s *submission) event {
	retry := newBackoff(30 * time.Second)
	for {
		err := w.submitOnce(ctx, s)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		if final(err) {
			w.log.Warn("the control plane refused a state change", "task", w.record.ID, "error", err)
			break
		}
		w.log.Debug("a state change could not be submitted; trying again", "task", w.record.ID, "error", err)
		if !retry.sleep(ctx) {
			return nil
		}
	}
	return func(r *record) bool {
		s.acknowledged(r)
		return true
	}
}

func (w *worker) submitOnce(ctx context.Context, s *submission) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if s.container != nil {
		_, err := w.control.SubmitContainerStateChange(ctx, s.container)
		return err
	}
	_, err := w.control.SubmitTaskStateChange(ctx, s.task)
	return err
}

// final tells whether repeating a request cannot help: the control plane
// understood it and said no, for another reason than who asks or how often.
func final(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorFault() == smithy.FaultServer {
		return false
	}
	switch api.ErrorCode() {
	case "InvalidParameterException", "ClientException", "ClusterNotFoundException", "AccessDeniedException":
		var response *smithyhttp.ResponseError
		return !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusTooManyRequests
	default:
		return false
	}
}
