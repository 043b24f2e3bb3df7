package acs

import (
	"context"
	"time"
)

// Dialogue is an assignments session without its websocket and its goroutine: who
// has opened one at the source carries its frames, and steps it. A simulation does;
// ServeACS runs the same session by itself.
type Dialogue struct {
	session *assignmentSession
	cancel  func()
}

// NewDialogue begins a session that the source has opened. It sends its frames by
// send, at once and in order, on the goroutine of the call that makes it.
func (s *Server) NewDialogue(session Session, opening Opening, now func() time.Time, send func(kind string, message any) error) *Dialogue {
	a := newAssignmentSession(s, session, opening, now, func(_ context.Context, kind string, message any) error { return send(kind, message) })
	return &Dialogue{session: a, cancel: s.source.Subscribe(session, a.changed.add)}
}

// Receive takes one frame of the agent. After an error, as after one of Step, the
// session is over.
func (d *Dialogue) Receive(ctx context.Context, frame []byte) error {
	d.session.lastSeen = d.session.now()
	if err := d.session.receive(ctx, frame); err != nil {
		return err
	}
	return d.session.complete(ctx)
}

// Step tells the agent what has changed, and does what is due.
func (d *Dialogue) Step(ctx context.Context) error {
	a := d.session
	select {
	case <-a.changed.wake:
		if err := a.look(ctx); err != nil {
			return err
		}
	default:
	}
	if err := a.onTime(ctx); err != nil {
		return err
	}
	return a.complete(ctx)
}

// NextDue is when Step next has something to do, unless the source tells of a
// change before.
func (d *Dialogue) NextDue() time.Time { return d.session.due() }

// Close ends the session; the source is not told.
func (d *Dialogue) Close() { d.cancel() }
