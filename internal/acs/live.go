package acs

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/wire"
)

// Why a session ends, beside the agent's own close and what the source says.
var (
	errStopping   = errors.New("the server is stopping")
	errSuperseded = errors.New("another session of this container instance was opened")
	errSilent     = errors.New("nothing was heard of the agent for too long")
	errExhausted  = errors.New("the session has used up its numbers")
)

// protocolError is a fault of the agent: it is told, and should not come back at once.
type protocolError struct{ err error }

func (e *protocolError) Error() string { return e.err.Error() }
func (e *protocolError) Unwrap() error { return e.err }

// instanceKey names an instance: its ARN, in the account that the session's
// principal belongs to.
type instanceKey struct{ account, region, instance string }

// liveSession is a session that is under way.
type liveSession struct {
	Session
	ctx    context.Context
	cancel context.CancelCauseFunc
	// opened is closed when the source has been told of the session, or refused it.
	opened chan struct{}
}

func (l *liveSession) key() instanceKey {
	return instanceKey{l.Principal.AccountID, l.Region, l.Instance}
}

// enter counts a session in; false when the server is stopping.
func (s *Server) enter(live *liveSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sessions[live] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) leave(live *liveSession) {
	s.mu.Lock()
	delete(s.sessions, live)
	if s.newest[live.key()] == live {
		delete(s.newest, live.key())
	}
	s.mu.Unlock()
	s.running.Done()
}

// supersede ends the instance's earlier session: its socket may be half-open,
// and two sessions of one agent would tell it everything twice. The source hears
// of sessions in the order in which they came, so that the last one counts.
func (s *Server) supersede(live *liveSession) error {
	s.mu.Lock()
	earlier := s.newest[live.key()]
	s.newest[live.key()] = live
	s.mu.Unlock()
	if earlier == nil {
		return nil
	}
	earlier.cancel(errSuperseded)
	select {
	case <-earlier.opened:
		return nil
	case <-live.ctx.Done():
		close(live.opened) // the source will not hear of this one
		return context.Cause(live.ctx)
	}
}

// Close ends every session and waits for them. Agents reconnect at once, to
// whichever server answers.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	for live := range s.sessions {
		live.cancel(errStopping)
	}
	s.mu.Unlock()
	s.running.Wait()
}

// checkUpgrade refuses what is not a websocket handshake.
func checkUpgrade(r *http.Request) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case !hasToken(r.Header, "Connection", "upgrade"), !hasToken(r.Header, "Upgrade", "websocket"):
		return wire.Errorf("InvalidParameterException", "This address serves websockets only.")
	case r.Header.Get("Sec-WebSocket-Version") != "13", len(r.Header.Values("Sec-WebSocket-Key")) != 1, err != nil, len(key) != 16:
		return wire.Errorf("InvalidParameterException", "The websocket handshake is not valid.")
	}
	return nil
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for _, v := range strings.Split(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), token) {
				return true
			}
		}
	}
	return false
}

// goodbyeLimit bounds the exchange of close frames.
const goodbyeLimit = time.Second

// goodbye closes the websocket. Agents come back at once after 1000, 1001, 1006
// and 1011, and with growing pauses after others.
func goodbye(conn *websocket.Conn, frames *frameReader, err error) {
	var fault *protocolError
	var api smithy.APIError
	var closed websocket.CloseError
	code, reason := websocket.StatusInternalError, "the control plane could not go on"
	switch {
	case errors.Is(err, errSilent), errors.Is(err, errConnection):
		frames.cut() // nobody is there to answer
		return
	case errors.As(err, &closed):
		code, reason = websocket.StatusNormalClosure, ""
	case errors.Is(err, errStopping), errors.Is(err, errExhausted):
		code, reason = websocket.StatusGoingAway, err.Error()
	case errors.Is(err, ErrInactiveInstance):
		code, reason = websocket.StatusNormalClosure, err.Error() // the next handshake says it again
	case errors.Is(err, errSuperseded), errors.As(err, &fault):
		code, reason = websocket.StatusPolicyViolation, err.Error()
	case errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient:
		code, reason = websocket.StatusPolicyViolation, api.ErrorMessage()
	}
	if len(reason) > 120 {
		reason = strings.ToValidUTF8(reason[:120], "") // a close frame has room for 123 bytes
	}
	frames.discard()
	limit := time.AfterFunc(goodbyeLimit, frames.cut)
	defer limit.Stop()
	_ = conn.Close(code, reason) // it failed if the agent is gone, which is what was wanted
	frames.cut()
}

// errConnection is a connection that broke.
var errConnection = errors.New("the connection to the agent broke")

// frameReader reads an agent's frames, one at a time: what the session does not
// take waits in the socket.
type frameReader struct {
	frames chan []byte
	failed chan error
	// discard ends the delivery, cut the connection.
	discard func()
	cut     func()
	done    chan struct{}
}

// readFrames begins to read, until the socket ends or is cut. The reads are not
// bounded by the session: one that is interrupted cuts the connection, and the
// close frame would not be sent.
func readFrames(conn *websocket.Conn) *frameReader {
	ctx, cut := context.WithCancel(context.Background())
	quit, discard := context.WithCancel(ctx)
	f := &frameReader{frames: make(chan []byte), failed: make(chan error, 1), discard: discard, cut: cut, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer conn.CloseNow()
		for {
			_, data, err := conn.Read(ctx)
			if err != nil {
				f.failed <- readError(err)
				return
			}
			select {
			case f.frames <- data:
			case <-quit.Done():
			}
		}
	}()
	return f
}

// readError tells an agent's close and its faults from a connection that broke.
func readError(err error) error {
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return err
	case errors.Is(err, websocket.ErrMessageTooBig):
		return &protocolError{err}
	}
	return errors.Join(errConnection, err)
}
