package acs

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// assignmentSession keeps one agent told: it compares what the instance must
// know with what this session has sent and seen acknowledged, and sends the
// difference. It looks at what the source says has changed; at everything when it
// begins, when too much has changed, and once in a while. It remembers nothing
// across sessions: payloads upsert, so a new session may repeat what an old one said.
type assignmentSession struct {
	server  *Server
	session Session
	cluster string // ARN
	now     func() time.Time
	send    frameSender

	// sequence is the last number used, of those up to lastNumber.
	sequence, lastNumber int64

	changed  *pending
	sent     map[string]*sending // by task ARN
	unacked  map[string]*sending // by message id
	backlog  []string            // tasks that wait for acknowledgements, in order
	manifest map[string]bool     // message ids of manifests without an answer
	looked   bool                // everything was looked at
	told     bool                // the manifest was sent
	resendAt time.Time           // zero while nothing is unacknowledged
	beatAt   time.Time
	beats    int // heartbeats since everything was looked at
	lastSeen time.Time
	grants   grants
}

// sending is one payload on its way.
type sending struct {
	task    string
	desired string
	message string
	at      time.Time
	acked   bool
}

// frameSender sends one frame to an agent.
type frameSender func(ctx context.Context, kind string, message any) error

func newAssignmentSession(s *Server, session Session, opening Opening, now func() time.Time, send frameSender) *assignmentSession {
	return &assignmentSession{
		server: s, session: session, cluster: opening.ClusterARN, now: now, send: send,
		sequence: opening.Sequence, lastNumber: opening.Sequence + SessionNumbers,
		changed: newPending(), sent: map[string]*sending{}, unacked: map[string]*sending{}, manifest: map[string]bool{},
		grants: newGrants(now), beatAt: now().Add(heartbeatEvery), lastSeen: now(),
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
	defer a.server.source.Subscribe(a.session, a.changed.add)()
	timer := time.NewTimer(a.due().Sub(a.now()))
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-reader.failed:
			return err
		case data := <-reader.frames:
			a.lastSeen = a.now()
			err = a.receive(ctx, data)
		case <-a.changed.wake:
			err = a.look(ctx)
		case <-timer.C:
			err = a.onTime(ctx)
		}
		if err == nil {
			err = a.complete(ctx)
		}
		if err != nil {
			return err
		}
		timer.Reset(a.due().Sub(a.now()))
	}
}

// due is when onTime has something to do.
func (a *assignmentSession) due() time.Time {
	at := a.beatAt
	for _, t := range []time.Time{a.resendAt, a.grants.next} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// onTime does what is due.
func (a *assignmentSession) onTime(ctx context.Context) error {
	now := a.now()
	if !a.beatAt.After(now) {
		a.beatAt = now.Add(heartbeatEvery)
		if err := a.beat(ctx); err != nil {
			return err
		}
	}
	if !a.resendAt.IsZero() && !a.resendAt.After(now) {
		if err := a.repeat(ctx); err != nil {
			return err
		}
	}
	if next := a.grants.next; !next.IsZero() && !next.After(now) {
		return a.renew(ctx)
	}
	return nil
}

// complete sends the manifest once it can be sent.
func (a *assignmentSession) complete(ctx context.Context) error {
	if !a.looked || a.told || len(a.backlog) > 0 {
		return nil
	}
	// Payloads first: what the manifest names, the agent has already been sent,
	// so that a task that it does not know is one that it has lost.
	return a.sendManifest(ctx)
}

// beat sends a heartbeat, and has everything looked at once in a while.
func (a *assignmentSession) beat(ctx context.Context) error {
	if a.now().Sub(a.lastSeen) > silenceLimit {
		return errSilent
	}
	if a.beats++; a.beats >= beatsPerLook {
		a.changed.add("")
	}
	return a.send(ctx, TypeHeartbeat, Heartbeat{MessageID: a.server.newID(), Healthy: true})
}

// look tells the agent what has changed.
func (a *assignmentSession) look(ctx context.Context) error {
	tasks, all := a.changed.take()
	if all {
		return a.lookAtAll(ctx)
	}
	var assignments []Assignment
	for arn := range tasks {
		as, ok, err := a.server.source.Assignment(ctx, a.session, arn)
		if err != nil {
			return err
		}
		if !ok {
			a.forget(arn)
			continue
		}
		assignments = append(assignments, as)
	}
	slices.SortFunc(assignments, func(x, y Assignment) int {
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.TaskARN, y.TaskARN))
	})
	return a.tell(ctx, assignments)
}

// lookAtAll compares everything.
func (a *assignmentSession) lookAtAll(ctx context.Context) error {
	assignments, err := a.server.source.Assignments(ctx, a.session)
	if err != nil {
		return err
	}
	a.beats, a.looked = 0, true
	current := make(map[string]bool, len(assignments))
	for i := range assignments {
		current[assignments[i].TaskARN] = true
	}
	for arn := range a.sent {
		if !current[arn] {
			a.forget(arn)
		}
	}
	a.grants.keep(current)
	a.backlog = nil
	return a.tell(ctx, assignments)
}

// forget drops what is remembered of a task that the agent need not know any more.
func (a *assignmentSession) forget(arn string) {
	a.grants.drop(arn)
	if s := a.sent[arn]; s != nil {
		delete(a.unacked, s.message)
		delete(a.sent, arn)
	}
}

// tell sends a payload for each assignment that the agent has not been told in
// this session, stops before starts. Those beyond what may be in flight wait.
func (a *assignmentSession) tell(ctx context.Context, assignments []Assignment) error {
	var waiting []string
	for _, desired := range []string{DesiredStopped, DesiredRunning} {
		for i := range assignments {
			as := &assignments[i]
			if as.Desired != desired {
				continue
			}
			sent, err := a.tellOne(ctx, as)
			if err != nil {
				return err
			}
			if !sent {
				waiting = append(waiting, as.TaskARN)
			}
		}
		if desired == DesiredStopped {
			a.backlog, waiting = append(waiting, a.backlog...), nil
		}
	}
	a.backlog = append(a.backlog, waiting...)
	return nil
}

// proceed goes on with what waits, as far as there is room.
func (a *assignmentSession) proceed(ctx context.Context) error {
	for len(a.backlog) > 0 && len(a.unacked) < maxUnacked {
		arn := a.backlog[0]
		a.backlog = a.backlog[1:]
		if err := a.tellAgain(ctx, arn); err != nil {
			return err
		}
	}
	return nil
}

// repeat sends again what has had no answer for too long.
func (a *assignmentSession) repeat(ctx context.Context) error {
	a.resendAt = time.Time{}
	for _, s := range slices.SortedFunc(maps.Values(a.unacked), func(x, y *sending) int {
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.task, y.task))
	}) {
		if a.now().Sub(s.at) < ackWait {
			break
		}
		if err := a.tellAgain(ctx, s.task); err != nil {
			return err
		}
	}
	a.await()
	return nil
}

// tellAgain looks one task up and tells the agent what has to be told of it.
func (a *assignmentSession) tellAgain(ctx context.Context, arn string) error {
	as, ok, err := a.server.source.Assignment(ctx, a.session, arn)
	if err != nil {
		return err
	}
	if !ok {
		a.forget(arn)
		return nil
	}
	return a.tell(ctx, []Assignment{as})
}

// await has repeat called in time, when there is something to repeat.
func (a *assignmentSession) await() {
	if a.resendAt.IsZero() && len(a.unacked) > 0 {
		a.resendAt = a.now().Add(ackWait / 3)
	}
}

// tellOne sends one assignment if it has to be sent; false when too many are in
// flight (the next acknowledgement goes on with it).
func (a *assignmentSession) tellOne(ctx context.Context, as *Assignment) (bool, error) {
	prior := a.sent[as.TaskARN]
	if as.Started {
		a.expectGrants(as)
	}
	if as.Started && as.Desired == DesiredRunning {
		if prior != nil { // the report is as good as the acknowledgement
			prior.acked = true
			delete(a.unacked, prior.message)
		}
		return true, nil
	}
	if prior != nil && prior.desired == as.Desired && (prior.acked || a.now().Sub(prior.at) < ackWait) {
		return true, nil
	}
	if len(a.unacked) >= maxUnacked && prior == nil {
		return false, nil
	}
	task := &Task{ARN: as.TaskARN, TaskClusterARN: as.ClusterARN, DesiredStatus: DesiredStopped}
	if as.Desired == DesiredRunning {
		var err error
		if task, err = a.render(ctx, as); err == nil && task == nil {
			return true, nil
		}
		if err != nil {
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
	s := &sending{task: as.TaskARN, desired: as.Desired, message: a.server.newID(), at: a.now()}
	a.sent[as.TaskARN], a.unacked[s.message] = s, s
	a.await()
	return true, a.send(ctx, TypePayload, Payload{
		ClusterARN: a.cluster, ContainerInstanceARN: a.session.Instance,
		MessageID: s.message, SeqNum: number, Tasks: []Task{*task},
	})
}

// sendManifest lists what should run, so that the agent can ask about what it
// runs beyond that.
func (a *assignmentSession) sendManifest(ctx context.Context) error {
	assignments, err := a.server.source.Assignments(ctx, a.session)
	if err != nil {
		return err
	}
	number, err := a.next()
	if err != nil {
		return err
	}
	m := Manifest{
		ClusterARN: a.cluster, ContainerInstanceARN: a.session.Instance,
		MessageID: a.server.newID(), Timeline: number, Tasks: []ManifestTask{},
	}
	for _, as := range assignments {
		if as.Desired == DesiredRunning && !a.grants.untold(as.TaskARN) {
			m.Tasks = append(m.Tasks, ManifestTask{TaskARN: as.TaskARN, TaskClusterARN: as.ClusterARN, DesiredStatus: as.Desired})
		}
	}
	a.manifest[m.MessageID], a.told = true, true
	return a.send(ctx, TypeManifest, m)
}

// receive handles one frame of the agent. Frames that do not parse or that answer
// nothing are ignored, as agents ignore ours.
func (a *assignmentSession) receive(ctx context.Context, data []byte) error {
	var frame Envelope
	if json.Unmarshal(data, &frame) != nil {
		return nil
	}
	switch frame.Type {
	case TypeAck, TypeNack:
		var ack Ack
		if json.Unmarshal(frame.Message, &ack) != nil {
			return nil
		}
		if s := a.unacked[ack.MessageID]; s != nil {
			s.acked = true
			delete(a.unacked, ack.MessageID)
		}
		return a.proceed(ctx)
	case TypeCredentialsAck:
		var ack CredentialsAck
		if json.Unmarshal(frame.Message, &ack) == nil {
			a.grants.acked(ack.MessageID)
		}
	case TypeStopVerification:
		var ask StopVerification
		if json.Unmarshal(frame.Message, &ask) != nil || !a.manifest[ask.MessageID] {
			return nil
		}
		return a.verifyStops(ctx, ask)
	}
	return nil
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
	return a.send(ctx, TypeStopVerificationAk, answer)
}
