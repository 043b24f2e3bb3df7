package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/aws/smithy-go"
	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/wire"
)

// Limits and timers of the server's side.
const (
	maxFrame = 2 << 20
	// heartbeatEvery keeps well below the 60 s after which an agent may give up.
	heartbeatEvery = 25 * time.Second
	// silenceLimit closes a half-open socket: no frame in three heartbeats.
	silenceLimit = 80 * time.Second
	// ackWait is how long a payload may stay unacknowledged before it is sent again.
	ackWait = 15 * time.Second
	// beatsPerLook is after how many heartbeats a session looks at everything,
	// whatever it was told of changes.
	beatsPerLook = 8
	// maxUnacked bounds the payloads in flight to one agent.
	maxUnacked   = 64
	writeTimeout = 10 * time.Second
)

// Authenticate verifies a signed request and returns who made it, and the region
// of its signature. A non-nil body is what the signature must cover.
type Authenticate func(r *http.Request, body []byte) (wire.Principal, string, error)

// Server serves the agents' websockets.
type Server struct {
	source Source
	auth   Authenticate
	newID  func() string
	log    *slog.Logger

	mu       sync.Mutex
	closing  bool
	sessions map[*liveSession]struct{}
	// newest is the latest assignments session of each instance.
	newest  map[instanceKey]*liveSession
	running sync.WaitGroup
}

// NewServer returns a server that takes tasks from source.
func NewServer(source Source, auth Authenticate, newID func() string, log *slog.Logger) *Server {
	return &Server{
		source: source, auth: auth, newID: newID, log: log,
		sessions: map[*liveSession]struct{}{}, newest: map[instanceKey]*liveSession{},
	}
}

// ServeACS handles GET …/ws on the assignments endpoint.
func (s *Server) ServeACS(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.serve(w, r, Session{
		Cluster: q.Get("clusterArn"), Instance: q.Get("containerInstanceArn"),
		AgentVersion: q.Get("agentVersion"), AgentHash: q.Get("agentHash"),
		DockerVersion: q.Get("dockerVersion"), SendCredentials: q.Get("sendCredentials") == "true",
	}, s.assignments)
}

// ServeTCS handles GET …/ws on the telemetry endpoint.
func (s *Server) ServeTCS(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.serve(w, r, Session{
		Cluster: q.Get("cluster"), Instance: q.Get("containerInstance"),
		AgentVersion: q.Get("agentVersion"), AgentHash: q.Get("agentHash"),
		DockerVersion: q.Get("dockerVersion"),
	}, s.telemetry)
}

// serve refuses a handshake as long as it can be told why, and hands over what
// is admitted. Nothing is changed for who may not come in or does not really ask
// for a websocket.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, session Session, admitted func(http.ResponseWriter, *http.Request, *liveSession)) {
	principal, region, err := s.auth(r, nil)
	if err != nil {
		reject(w, err)
		return
	}
	if err := checkUpgrade(r); err != nil {
		reject(w, err)
		return
	}
	session.ID, session.Principal, session.Region, session.Endpoint = s.newID(), principal, region, endpointOf(r)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	if err := s.source.Admit(ctx, session); err != nil {
		reject(w, err)
		return
	}
	live := &liveSession{Session: session, ctx: ctx, cancel: cancel, opened: make(chan struct{})}
	if !s.enter(live) {
		reject(w, errStopping)
		return
	}
	defer s.leave(live)
	admitted(w, r, live)
}

// endpointOf is where the caller found the server; the host is signed.
func endpointOf(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// assignments runs an assignments session from its opening to its end.
func (s *Server) assignments(w http.ResponseWriter, r *http.Request, live *liveSession) {
	if err := s.supersede(live); err != nil {
		reject(w, err)
		return
	}
	opening, err := s.source.Opened(live.ctx, live.Session)
	close(live.opened)
	if err != nil {
		reject(w, err)
		return
	}
	defer s.source.Closed(context.WithoutCancel(live.ctx), live.Session)
	s.converse(w, r, live, func(ctx context.Context, conn *websocket.Conn, frames *frameReader) error {
		send := func(ctx context.Context, kind string, message any) error { return write(ctx, conn, kind, message) }
		return newAssignmentSession(s, live.Session, opening, time.Now, send).run(ctx, frames)
	})
}

// telemetry runs a telemetry session.
func (s *Server) telemetry(w http.ResponseWriter, r *http.Request, live *liveSession) {
	s.converse(w, r, live, func(ctx context.Context, conn *websocket.Conn, frames *frameReader) error {
		return (&telemetrySession{server: s, session: live.Session, conn: conn, request: r}).run(ctx, frames)
	})
}

// converse accepts the websocket, runs the session, and takes leave of the agent
// in the way that its end calls for.
func (s *Server) converse(w http.ResponseWriter, r *http.Request, live *liveSession, run func(context.Context, *websocket.Conn, *frameReader) error) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true})
	if err != nil {
		s.log.Info("agent's websocket was not accepted", "instance", live.Instance, "error", err)
		return
	}
	conn.SetReadLimit(maxFrame)
	frames := readFrames(conn)
	err = run(live.ctx, conn, frames)
	if cause := context.Cause(live.ctx); cause != nil {
		err = cause
	}
	s.log.Debug("agent session ended", "instance", live.Instance, "error", err)
	live.cancel(err)
	goodbye(conn, frames, err)
	<-frames.done
}

// reject answers a handshake that is refused, in the form that agents parse.
func reject(w http.ResponseWriter, err error) {
	var body Rejection
	status := http.StatusBadRequest
	var api smithy.APIError
	switch {
	case errors.Is(err, ErrInactiveInstance):
		body.Type, body.Message.Message = RejectInactiveInstance, err.Error()
	case errors.As(err, &api):
		body.Type, body.Message.Message = api.ErrorCode(), api.ErrorMessage()
		if api.ErrorFault() == smithy.FaultServer {
			status = http.StatusInternalServerError
		}
	case errors.Is(err, errStopping), errors.Is(err, errSuperseded):
		body.Type, body.Message.Message = "ServerException", err.Error()
		status = http.StatusServiceUnavailable
	default:
		body.Type, body.Message.Message = "ServerException", "the session could not be opened"
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// write sends one frame to an agent. One that does not take it in time is given up.
func write(ctx context.Context, conn *websocket.Conn, kind string, message any) error {
	if err := send(ctx, conn, kind, message); err != nil {
		return errors.Join(errConnection, err)
	}
	return nil
}

// send writes one frame within the write timeout. A frame that has begun when ctx
// ends gets a moment more: to break off a frame breaks the connection, and the
// other end would not learn why the session ended.
func send(ctx context.Context, conn *websocket.Conn, kind string, message any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	frame, err := json.Marshal(Envelope{Type: kind, Message: raw})
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(goodbyeLimit, cancel) })()
	return conn.Write(writing, websocket.MessageText, frame)
}
