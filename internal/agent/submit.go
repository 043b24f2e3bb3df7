package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
			in.Reason = aws.String(truncate(r.Failure, maxReason))
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
	for i := 0; i < len(ports); i++ {
		p := ports[i]
		if n := int(p.Run); n > 0 && i+n <= len(ports) {
			last := ports[i+n-1]
			out = append(out, ecstypes.NetworkBinding{
				BindIP: aws.String("0.0.0.0"), Protocol: ecstypes.TransportProtocol(p.Protocol),
				ContainerPortRange: aws.String(fmt.Sprintf("%d-%d", p.ContainerPort, last.ContainerPort)),
				HostPortRange:      aws.String(fmt.Sprintf("%d-%d", p.HostPort, last.HostPort)),
			})
			i += n - 1
			continue
		}
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

const (
	maxReason = 1024 // of ECS
	// maxSubmitting bounds the submissions under way at once.
	maxSubmitting = 64
	submitTimeout = 30 * time.Second
	submitBackoff = 30 * time.Second
	// submitPatience is how long a refusal that may pass is met with another try.
	submitPatience = 24 * time.Hour
)

// submit tells the control plane, again and again until it answers.
func (w *worker) submit(ctx context.Context, s *submission) event {
	if err := w.tell(ctx, s); err != nil {
		return nil
	}
	return func(r *record) bool {
		s.acknowledged(r)
		return true
	}
}

// tell submits until the control plane answers, or ctx ends (an error). While it
// cannot be reached or has trouble of its own, that goes on; a refusal counts as
// an answer at once where repeating cannot help, and after a day otherwise: the
// control plane does not know the task (any more), and a task must not wait for it
// forever.
func (p *parts) tell(ctx context.Context, s *submission) error {
	retry := newBackoff(submitBackoff)
	var refusedSince time.Time
	for {
		err := p.tellOnce(ctx, s)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch refusal(err) {
		case refusedFinally:
			p.log.Warn("the control plane refused a state change; it is not submitted again", "task", s.taskARN(), "error", err)
			return nil
		case refusedForNow:
			if refusedSince.IsZero() {
				refusedSince = p.now()
				p.log.Warn("the control plane refuses a state change; trying again for a day", "task", s.taskARN(), "error", err)
			}
			if p.now().Sub(refusedSince) > submitPatience {
				p.log.Error("the control plane has refused a state change for a day; it is given up", "task", s.taskARN(), "error", err)
				return nil
			}
		default:
			refusedSince = time.Time{}
			p.log.Debug("a state change could not be submitted; trying again", "task", s.taskARN(), "error", err)
		}
		if !retry.sleep(ctx) {
			return ctx.Err()
		}
	}
}

func (p *parts) tellOnce(ctx context.Context, s *submission) error {
	select {
	case p.submitting <- struct{}{}:
		defer func() { <-p.submitting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	if s.container != nil {
		_, err := p.control.SubmitContainerStateChange(ctx, s.container, onlyOnce)
		return err
	}
	_, err := p.control.SubmitTaskStateChange(ctx, s.task, onlyOnce)
	return err
}

func (s *submission) taskARN() string {
	if s.container != nil {
		return aws.ToString(s.container.Task)
	}
	return aws.ToString(s.task.Task)
}

// Kinds of answers that are errors.
const (
	notRefused     = iota // no answer, trouble of the control plane, too many requests
	refusedForNow         // a refusal that may pass: of who asks, or of an unknown kind
	refusedFinally        // what was asked is wrong and stays so
)

// refusal tells what an error means for repeating its request.
func refusal(err error) int {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorFault() == smithy.FaultServer || strings.Contains(api.ErrorCode(), "Throttl") {
		return notRefused
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		if status := response.HTTPStatusCode(); status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
			return notRefused
		}
	}
	switch api.ErrorCode() {
	case "InvalidParameterException", "ClientException", "ClusterNotFoundException", "AccessDeniedException",
		"ValidationException", "SerializationException", "UnknownOperationException", "UnsupportedFeatureException":
		return refusedFinally
	case "ServerException", "LimitExceededException", "RequestLimitExceeded", "ServiceUnavailable", "InternalFailure":
		return notRefused
	default:
		return refusedForNow
	}
}
