package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
)

const (
	// maxAttaching bounds the attachments that are being confirmed.
	maxAttaching = 64
	// maxAttachWait bounds for how long one is.
	maxAttachWait = 10 * time.Minute
)

// receiveAttach takes the announcement of a task's interfaces. The node makes
// them itself, so they are there as soon as the task needs them: it confirms at
// once, until it is heard or the time is over.
func (s *assignments) receiveAttach(ctx context.Context, message json.RawMessage) error {
	var m acs.AttachENI
	if err := json.Unmarshal(message, &m); err != nil {
		return s.refuse(ctx, message, fmt.Sprintf("the attachment could not be read: %v", err))
	}
	if m.TaskARN == "" || m.WaitTimeoutMs <= 0 || len(m.ENIs) == 0 {
		return s.refuse(ctx, message, "the attachment names no task, no interface or no time to wait")
	}
	if !s.engine.confirmAttached(&m) {
		return nil // too many at once: the control plane sends it again
	}
	return s.acknowledge(ctx, m.ClusterARN, m.ContainerInstanceARN, m.MessageID)
}

// confirmAttached submits a task's interfaces as attached, for as long as the
// control plane waits for it; false when too many are under way.
func (e *engine) confirmAttached(m *acs.AttachENI) bool {
	select {
	case e.attaching <- struct{}{}:
	default:
		return false
	}
	in := &ecs.SubmitTaskStateChangeInput{Cluster: optional(m.TaskClusterARN), Task: aws.String(m.TaskARN)}
	for _, eni := range m.ENIs {
		in.Attachments = append(in.Attachments, ecstypes.AttachmentStateChange{
			AttachmentArn: aws.String(eni.AttachmentARN), Status: aws.String("ATTACHED"),
		})
	}
	wait := time.Duration(min(m.WaitTimeoutMs, maxAttachWait.Milliseconds())) * time.Millisecond
	e.group.Go(func() {
		defer func() { <-e.attaching }()
		ctx, cancel := context.WithTimeout(e.ctx, wait)
		defer cancel()
		if err := e.tell(ctx, &submission{task: in}); err != nil && e.ctx.Err() == nil {
			e.log.Warn("a task's interfaces could not be confirmed as attached", "task", m.TaskARN, "error", err)
		}
	})
	return true
}
