package acs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/coder/websocket"
)

// assignmentSession keeps one agent told: it compares what the instance must
// know with what this session has sent and seen acknowledged, and sends the
// difference. It remembers nothing across sessions: payloads upsert, so a new
// session may repeat what an old one said.
type assignmentSession struct {
	server  *Server
	session Session
	cluster string // ARN
	conn    *websocket.Conn

	// sequence is the last number used, of those up to lastNumber.
	sequence, lastNumber int64

	sent     map[string]*sending // by task ARN
	unacked  map[string]*sending // by message id
	manifest map[string]bool     // message ids of manifests without an answer
	lastSeen time.Time
}

// sending is one payload on its way.
type sending struct {
	desired string
	message string
	at      time.Time
	acked   bool
}

func newAssignmentSession(s *Server, session Session, opening Opening, conn *websocket.Conn) *assignmentSession {
	return &assignmentSession{
		server: s, session: session, cluster: opening.ClusterARN, conn: conn,
		sequence: opening.Sequence, lastNumber: opening.Sequence + SessionNumbers,
		sent: map[string]*sending{}, unacked: map[string]*sending{}, manifest: map[string]bool{},
	}
}

// next returns the next number of the counter that payloads and manifests share.
// Agents keep its maximum on their disks, and heed no manifest below it.
func (a *assignmentSession) next() (int64, error) {
	if a.sequence == a.lastNumber {
		return 0, errExhausted
	}
	a.sequence++
	return a.sequence, nil
}

func (a *assignmentSession) run(ctx context.Context, reader *frameReader) error {
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	unsubscribe := a.server.source.Subscribe(a.session, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer unsubscribe()
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	resend := time.NewTicker(ackWait / 3)
	defer resend.Stop()
	a.lastSeen = time.Now()
	told := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-reader.failed:
			return err
		case data := <-reader.frames:
			a.lastSeen = time.Now()
			again, err := a.receive(ctx, data)
			if err != nil {
				return err
			}
			if !again {
				continue
			}
		case <-heartbeat.C:
			if time.Since(a.lastSeen) > silenceLimit {
				return errSilent
			}
			if err := write(ctx, a.conn, TypeHeartbeat, Heartbeat{MessageID: a.server.newID(), Healthy: true}); err != nil {
				return err
			}
			continue
		case <-wake:
		case <-resend.C:
		}
		assignments, complete, err := a.tell(ctx)
		if err != nil {
			return err
		}
		if complete && !told {
			// Payloads first: what the manifest names, the agent has already been sent,
			// so that a task that it does not know is one that it has lost.
			told = true
			if err := a.sendManifest(ctx, assignments); err != nil {
				return err
			}
		}
	}
}

// tell sends a payload for each assignment that the agent has not been told in
// this session, stops before starts, and repeats those without an answer. It
// returns the assignments, and whether all of them could be sent.
func (a *assignmentSession) tell(ctx context.Context) (assignments []Assignment, complete bool, err error) {
	assignments, err = a.server.source.Assignments(ctx, a.session)
	if err != nil {
		return nil, false, err
	}
	complete = true
	current := make(map[string]bool, len(assignments))
	for _, desired := range []string{DesiredStopped, DesiredRunning} {
		for i := range assignments {
			as := &assignments[i]
			if as.Desired != desired {
				continue
			}
			current[as.TaskARN] = true
			sent, err := a.tellOne(ctx, as)
			if err != nil {
				return nil, false, err
			}
			complete = complete && sent
		}
	}
	for arn, s := range a.sent {
		if !current[arn] {
			delete(a.unacked, s.message)
			delete(a.sent, arn)
		}
	}
	return assignments, complete, nil
}

// tellOne sends one assignment if it has to be sent; false when too many are in
// flight (the next acknowledgement goes on with it).
func (a *assignmentSession) tellOne(ctx context.Context, as *Assignment) (bool, error) {
	if as.Started && as.Desired == DesiredRunning {
		return true, nil
	}
	prior := a.sent[as.TaskARN]
	if prior != nil && prior.desired == as.Desired && (prior.acked || time.Since(prior.at) < ackWait) {
		return true, nil
	}
	if len(a.unacked) >= maxUnacked && prior == nil {
		return false, nil
	}
	task := Task{ARN: as.TaskARN, TaskClusterARN: as.ClusterARN, DesiredStatus: DesiredStopped}
	if as.Desired == DesiredRunning {
		var err error
		if task, err = as.Render(); err != nil {
			a.server.log.Error("a task can't be sent to its agent; it is stopped", "task", as.TaskARN, "error", err)
			return true, a.server.source.Unfit(ctx, a.session, as.TaskARN, err)
		}
	}
	if prior != nil {
		delete(a.unacked, prior.message)
	}
	number, err := a.next()
	if err != nil {
		return false, err
	}
	s := &sending{desired: as.Desired, message: a.server.newID(), at: time.Now()}
	a.sent[as.TaskARN], a.unacked[s.message] = s, s
	return true, write(ctx, a.conn, TypePayload, Payload{
		ClusterARN: a.cluster, ContainerInstanceARN: a.session.Instance,
		MessageID: s.message, SeqNum: number, Tasks: []Task{task},
	})
}

// sendManifest lists what should run, so that the agent can ask about what it
// runs beyond that.
func (a *assignmentSession) sendManifest(ctx context.Context, assignments []Assignment) error {
	number, err := a.next()
	if err != nil {
		return err
	}
	m := Manifest{
		ClusterARN: a.cluster, ContainerInstanceARN: a.session.Instance,
		MessageID: a.server.newID(), Timeline: number, Tasks: []ManifestTask{},
	}
	for _, as := range assignments {
		if as.Desired == DesiredRunning {
			m.Tasks = append(m.Tasks, ManifestTask{TaskARN: as.TaskARN, TaskClusterARN: as.ClusterARN, DesiredStatus: as.Desired})
		}
	}
	a.manifest[m.MessageID] = true
	return write(ctx, a.conn, TypeManifest, m)
}

// receive handles one frame of the agent, and tells whether more can be sent
// now. Frames that do not parse or that answer nothing are ignored, as agents
// ignore ours.
func (a *assignmentSession) receive(ctx context.Context, data []byte) (again bool, err error) {
	var frame Envelope
	if json.Unmarshal(data, &frame) != nil {
		return false, nil
	}
	switch frame.Type {
	case TypeAck, TypeNack:
		var ack Ack
		if json.Unmarshal(frame.Message, &ack) != nil {
			return false, nil
		}
		if s := a.unacked[ack.MessageID]; s != nil {
			s.acked = true
			again = len(a.unacked) >= maxUnacked
			delete(a.unacked, ack.MessageID)
		}
		return again, nil
	case TypeStopVerification:
		var ask StopVerification
		if json.Unmarshal(frame.Message, &ask) != nil || !a.manifest[ask.MessageID] {
			return false, nil
		}
		return false, a.verifyStops(ctx, ask)
	}
	return false, nil
}

// verifyStops confirms the stop of candidates that, by now, still should not run.
func (a *assignmentSession) verifyStops(ctx context.Context, ask StopVerification) error {
	delete(a.manifest, ask.MessageID)
	assignments, err := a.server.source.Assignments(ctx, a.session)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, as := range assignments {
		if as.Desired == DesiredRunning {
			wanted[as.TaskARN] = true
		}
	}
	answer := StopVerificationAck{MessageID: ask.MessageID, StopTasks: []ManifestTask{}}
	for _, candidate := range ask.StopCandidates {
		if !wanted[candidate.TaskARN] {
			candidate.DesiredStatus = DesiredStopped
			answer.StopTasks = append(answer.StopTasks, candidate)
		}
	}
	return write(ctx, a.conn, TypeStopVerificationAk, answer)
}
