package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/acs"
)

// missingWait is how long a task that a manifest names and that the node does not
// have may take to arrive: longer than the control plane takes to repeat a
// payload that was not acknowledged.
const missingWait = 30 * time.Second

// assignments is one life of the ACS session: the control plane assigns tasks.
type assignments struct {
	*Agent
	client *acs.Client
	// asked are the tasks that the node asked to be allowed to stop, in answer to
	// the manifest askedBy.
	askedBy string
	asked   map[string]bool
	// missing are the tasks of the last manifest that the node does not have. They
	// are reported with the first frame after overdue: it shows that the session
	// lives, and that what was sent before it has come.
	missing []acs.ManifestTask
	overdue time.Time
	// unrecorded are payloads that could not be written to disk, by message id. They
	// are taken again every retryEvery.
	unrecorded map[string]json.RawMessage
}

const (
	// retryEvery is how often payloads are tried that could not be recorded.
	retryEvery = time.Second
	// maxUnrecorded bounds them; the control plane repeats what is not kept here.
	maxUnrecorded = 64
)

// openAssignments is one life of the ACS session.
func (a *Agent) openAssignments(ctx context.Context) (opened bool, err error) {
	where, err := a.discover(ctx)
	if err != nil {
		return false, err
	}
	id := a.identity()
	query := url.Values{
		"clusterArn": {id.Cluster}, "containerInstanceArn": {id.ContainerInstanceARN},
		"agentHash": {a.options.Version}, "agentVersion": {a.options.Version}, "dockerVersion": {dockerVersion},
		"seqNum": {"1"}, "protocolVersion": {"2"}, "sendCredentials": {strconv.FormatBool(!a.hadSession.Load())},
	}
	client, err := acs.Dial(ctx, aws.ToString(where.Endpoint), query, a.options.Sign, a.options.HTTPClient)
	if err != nil {
		a.endpoints.doubt()
		return false, err
	}
	a.hadSession.Store(true)
	a.connected.Store(true)
	defer a.connected.Store(false)
	return true, (&assignments{Agent: a, client: client, unrecorded: map[string]json.RawMessage{}}).run(ctx)
}

func (s *assignments) run(ctx context.Context) (err error) {
	in := newInbox(ctx, s.client)
	defer func() { in.close(err) }()
	life := time.NewTimer(sessionLife + rand.N(sessionLifeJitter))
	defer life.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			if err := s.retryUnrecorded(ctx); err != nil {
				return err
			}
		case frame := <-in.frames:
			if err := s.receive(ctx, frame); err != nil {
				return err
			}
			if len(s.missing) > 0 && s.now().After(s.overdue) {
				s.engine.reportMissing(s.missing)
				s.missing = nil
			}
		case <-life.C:
			return errSessionLife
		case err := <-in.failed:
			return err
		}
	}
}

// receive handles one frame of the control plane. What is not known or cannot be
// read, and asks for no answer, is ignored, as Amazon's agent does.
func (s *assignments) receive(ctx context.Context, frame acs.Envelope) error {
	switch frame.Type {
	case acs.TypeHeartbeat:
		var m acs.Heartbeat
		if json.Unmarshal(frame.Message, &m) != nil {
			return nil
		}
		s.checkup.ask()
		return s.client.Send(ctx, acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: m.MessageID})
	case acs.TypePayload:
		return s.receivePayload(ctx, frame.Message)
	case acs.TypeCredentials:
		return s.receiveCredentials(ctx, frame.Message)
	case acs.TypeManifest:
		var m acs.Manifest
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			s.log.Error("a task manifest could not be read", "error", err)
			return nil
		}
		return s.receiveManifest(ctx, &m)
	case acs.TypeStopVerificationAk:
		var m acs.StopVerificationAck
		if json.Unmarshal(frame.Message, &m) == nil {
			s.stopVerified(ctx, &m)
		}
	case acs.TypeAttachTaskENI:
		return s.receiveAttach(ctx, frame.Message)
	case acs.TypeStageUpdate, acs.TypePerformUpdate:
		return s.refuse(ctx, frame.Message, "this agent does not update itself: install the new version on its machine and start it again")
	case acs.TypeAttachInstanceENI, acs.TypeConfirmAttachment:
		return s.refuse(ctx, frame.Message, "this agent attaches no interfaces or volumes to its instance, only interfaces to tasks")
	}
	return nil
}

// refuse answers a message that the agent cannot serve with the reason.
func (s *assignments) refuse(ctx context.Context, message json.RawMessage, reason string) error {
	var m struct {
		ClusterARN           string `json:"clusterArn"`
		ContainerInstanceARN string `json:"containerInstanceArn"`
		MessageID            string `json:"messageId"`
	}
	_ = json.Unmarshal(message, &m) // what can be read of it
	s.log.Warn("a message of the control plane was refused", "message", m.MessageID, "reason", reason)
	if m.MessageID == "" {
		return nil
	}
	return s.client.Send(ctx, acs.TypeNack, acs.Nack{
		Ack:    acs.Ack{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID},
		Reason: truncate(reason, maxReason),
	})
}

func (s *assignments) acknowledge(ctx context.Context, cluster, instance, message string) error {
	return s.client.Send(ctx, acs.TypeAck, acs.Ack{Cluster: cluster, ContainerInstance: instance, MessageID: message})
}

// payload is acs.Payload with tasks that are read one by one: one that cannot be
// read must not take the others with it.
type payload struct {
	acs.Payload
	Tasks []json.RawMessage `json:"tasks"`
}

// receivePayload acknowledges a payload when its tasks are on disk; without an
// acknowledgement the control plane sends it again. Stops come before starts.
func (s *assignments) receivePayload(ctx context.Context, message json.RawMessage) error {
	var m payload
	if err := json.Unmarshal(message, &m); err != nil {
		return s.refuse(ctx, message, fmt.Sprintf("the payload could not be read: %v", err))
	}
	s.sawSequence(m.SeqNum)
	tasks, problems := make([]acs.Task, len(m.Tasks)), make([]error, len(m.Tasks))
	for i, raw := range m.Tasks {
		tasks[i], problems[i] = readTask(raw)
	}
	for _, stops := range []bool{true, false} {
		for i, t := range tasks {
			if (t.DesiredStatus == acs.DesiredStopped) != stops {
				continue
			}
			if !validTaskID(taskID(t.ARN)) {
				return s.refuse(ctx, message, fmt.Sprintf("task ARN %q does not end in a task id", truncate(t.ARN, 256)))
			}
			if err := s.engine.take(t, problems[i]); err != nil {
				s.notRecorded(m.MessageID, message, t.ARN, err)
				return nil
			}
		}
	}
	delete(s.unrecorded, m.MessageID)
	for i := range tasks {
		for _, c := range roleCredentials(&tasks[i]) {
			if err := s.acknowledgeCredentials(ctx, m.MessageID, c); err != nil {
				return err
			}
		}
	}
	return s.acknowledge(ctx, m.ClusterARN, m.ContainerInstanceARN, m.MessageID)
}

// notRecorded keeps a payload to be taken again, so that its tasks need not wait until
// the control plane repeats it.
func (s *assignments) notRecorded(id string, message json.RawMessage, task string, err error) {
	if s.unrecorded[id] != nil {
		return // said before
	}
	s.log.Error("a task could not be accepted", "task", task, "error", err)
	if !errors.Is(err, errDraining) && len(s.unrecorded) < maxUnrecorded {
		s.unrecorded[id] = message
	}
}

func (s *assignments) retryUnrecorded(ctx context.Context) error {
	for _, message := range s.unrecorded {
		if err := s.receivePayload(ctx, message); err != nil {
			return err
		}
	}
	return nil
}

// receiveManifest answers a manifest that is newer than any seen before.
func (s *assignments) receiveManifest(ctx context.Context, m *acs.Manifest) error {
	fresh, err := s.advanceTimeline(m.Timeline)
	if err != nil {
		return err
	}
	if !fresh {
		s.log.Warn("a task manifest is older than what the node has seen, and is not followed: it came late, or the control plane's clock was set back",
			"timeline", m.Timeline)
		return nil
	}
	extra, missing := s.engine.compare(m)
	s.missing, s.overdue = missing, s.now().Add(missingWait)
	s.askedBy, s.asked = m.MessageID, map[string]bool{}
	for _, t := range extra {
		s.asked[t.TaskARN] = true
	}
	if err := s.acknowledge(ctx, m.ClusterARN, m.ContainerInstanceARN, m.MessageID); err != nil || len(extra) == 0 {
		return err
	}
	return s.client.Send(ctx, acs.TypeStopVerification, acs.StopVerification{MessageID: m.MessageID, StopCandidates: extra})
}

// stopVerified stops the tasks that the control plane confirmed, of those that the
// node had asked about.
func (s *assignments) stopVerified(ctx context.Context, m *acs.StopVerificationAck) {
	if m.MessageID != s.askedBy {
		return
	}
	for _, t := range m.StopTasks {
		if !s.asked[t.TaskARN] {
			continue
		}
		stop := acs.Task{ARN: t.TaskARN, TaskClusterARN: t.TaskClusterARN, DesiredStatus: acs.DesiredStopped}
		if err := s.engine.accept(ctx, stop); err != nil {
			s.log.Error("a task could not be stopped", "task", t.TaskARN, "error", err)
		}
	}
}
