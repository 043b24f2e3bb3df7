package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// Timers of the sessions, as Amazon's agent has them.
const (
	sessionBackoff  = 2 * time.Minute
	inactiveBackoff = time.Hour
	// silenceMin to twice of it, at random, without a frame ends a session.
	silenceMin = 60 * time.Second
	// sessionLife ends a session, so that agents spread over servers.
	sessionLife       = 30 * time.Minute
	sessionLifeJitter = 5 * time.Minute
	// steady is how long a session must have lived for its end to be no refusal.
	steady = time.Second
)

var (
	errSessionLife = errors.New("the session has lived long enough")
	errSilent      = errors.New("no message from the control plane: the connection is taken for dead")
)

// runSession keeps one of the two websockets open until ctx ends. once is one
// life of it, and tells whether it had been opened.
func (a *Agent) runSession(ctx context.Context, name string, once func(context.Context) (opened bool, err error)) error {
	next := newReconnect()
	for failures := 0; ; {
		began := a.now()
		opened, err := once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := next.after(opened, a.now().Sub(began), err)
		switch {
		case inactive(err):
			// To register again at once would undo what the operator did.
			a.log.Error("the control plane has deregistered this node; its tasks are not managed until it is started again",
				"session", name, "error", err, "nextAttemptIn", wait)
		case wait == 0:
			failures = 0
			a.log.Debug("session ended; reconnecting", "session", name, "reason", err)
		default:
			if failures++; failures > 1 {
				a.log.Warn("the control plane cannot be reached; trying again", "session", name, "error", err, "nextAttemptIn", wait)
			}
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

// inactive tells whether the control plane says that it knows no such instance.
func inactive(err error) bool {
	var refused *acs.RefusedError
	return errors.As(err, &refused) && refused.Code == acs.RejectInactiveInstance
}

// reconnect decides how long to wait before a session is opened again.
type reconnect struct{ backoff *backoff }

func newReconnect() *reconnect { return &reconnect{newBackoff(sessionBackoff)} }

// after returns the wait after a session that was opened or not, lived so long,
// and ended with err.
func (r *reconnect) after(opened bool, lived time.Duration, err error) time.Duration {
	if inactive(err) {
		r.backoff = newBackoff(sessionBackoff)
		return jittered(inactiveBackoff)
	}
	if opened && lived >= steady && acs.ReconnectAtOnce(err) {
		r.backoff = newBackoff(sessionBackoff)
		return 0
	}
	if opened && lived >= time.Minute {
		r.backoff = newBackoff(sessionBackoff)
	}
	return r.backoff.next()
}

// inbox reads a session's frames on a goroutine of its own.
type inbox struct {
	client *acs.Client
	frames chan acs.Envelope
	failed chan error // the reason of the end, once
	stop   context.CancelFunc
	done   chan struct{}
}

func newInbox(ctx context.Context, client *acs.Client) *inbox {
	ctx, stop := context.WithCancel(ctx)
	in := &inbox{client, make(chan acs.Envelope), make(chan error, 1), stop, make(chan struct{})}
	go in.run(ctx)
	return in
}

func (in *inbox) run(ctx context.Context) {
	defer close(in.done)
	for {
		frame, err := readFrame(ctx, in.client)
		if err != nil {
			in.failed <- err
			return
		}
		select {
		case in.frames <- frame:
		case <-ctx.Done():
			in.failed <- ctx.Err()
			return
		}
	}
}

// close ends the socket, politely after a long life, and its reader.
func (in *inbox) close(reason error) {
	if errors.Is(reason, errSessionLife) {
		in.client.Close()
	}
	in.stop()
	in.client.CloseNow()
	<-in.done
}

// readFrame returns the next frame; a peer that is silent for too long is dead.
func readFrame(ctx context.Context, client *acs.Client) (acs.Envelope, error) {
	silence := silenceMin + rand.N(silenceMin)
	limited, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	frame, err := client.Read(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w after %s", errSilent, silence.Round(time.Second))
	}
	return frame, err
}
