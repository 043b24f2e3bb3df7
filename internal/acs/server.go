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

	sequence sequence

	mu       sync.Mutex
	closing  bool
	sessions map[*websocket.Conn]context.CancelFunc
	running  sync.WaitGroup
}

// NewServer returns a server that takes tasks from source. now drives the
// sequence numbers of payloads and manifests.
func NewServer(source Source, auth Authenticate, now func() time.Time, newID func() string, log *slog.Logger) *Server {
	return &Server{
		source: source, auth: auth, newID: newID, log: log,
		sequence: sequence{now: now},
		sessions: map[*websocket.Conn]context.CancelFunc{},
	}
}

// sequence is the growing counter that payloads and manifests share. Agents keep
// its maximum on disk, so it must grow across restarts of the server: it follows
// the clock in microseconds.
type sequence struct {
	now  func() time.Time
	mu   sync.Mutex
	last int64
}

func (s *sequence) next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last+1, s.now().UnixMicro())
	return s.last
}

// ServeACS handles GET …/ws on the assignments endpoint.
func (s *Server) ServeACS(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.serve(w, r, Session{
		Cluster: q.Get("clusterArn"), Instance: q.Get("containerInstanceArn"),
		AgentVersion: q.Get("agentVersion"), AgentHash: q.Get("agentHash"),
		DockerVersion: q.Get("dockerVersion"), SendCredentials: q.Get("sendCredentials") == "true",
	}, true)
}

// ServeTCS handles GET …/ws on the telemetry endpoint.
func (s *Server) ServeTCS(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.serve(w, r, Session{
		Cluster: q.Get("cluster"), Instance: q.Get("containerInstance"),
		AgentVersion: q.Get("agentVersion"), AgentHash: q.Get("agentHash"),
		DockerVersion: q.Get("dockerVersion"),
	}, false)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, session Session, assignments bool) {
	principal, region, err := s.auth(r, nil)
	if err != nil {
		reject(w, err)
		return
	}
	session.ID, session.Principal, session.Region = s.newID(), principal, region
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if assignments {
		if err := s.source.Opened(ctx, session); err != nil {
			reject(w, err)
			return
		}
		defer s.source.Closed(context.WithoutCancel(ctx), session)
	} else if _, err := s.source.Assignments(ctx, session); err != nil {
		reject(w, err)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true})
	if err != nil {
		s.log.Info("agent's websocket was not accepted", "instance", session.Instance, "error", err)
		return
	}
	conn.SetReadLimit(maxFrame)
	if !s.enter(conn, cancel) {
		conn.Close(websocket.StatusGoingAway, "server is stopping")
		return
	}
	defer s.leave(conn)
	if assignments {
		err = newAssignmentSession(s, session, conn).run(ctx)
	} else {
		err = (&telemetrySession{server: s, session: session, conn: conn, request: r}).run(ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	s.log.Debug("agent session ended", "instance", session.Instance, "error", err)
	conn.Close(websocket.StatusNormalClosure, "")
}

func (s *Server) enter(conn *websocket.Conn, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sessions[conn] = cancel
	s.running.Add(1)
	return true
}

func (s *Server) leave(conn *websocket.Conn) {
	s.mu.Lock()
	delete(s.sessions, conn)
	s.mu.Unlock()
	s.running.Done()
}

// Close ends every session and waits for them. Agents reconnect at once, to
// whichever server answers.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	for _, cancel := range s.sessions {
		cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
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
	default:
		body.Type, body.Message.Message = "ServerException", "the session could not be opened"
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// send writes one frame within the write timeout.
func send(ctx context.Context, conn *websocket.Conn, kind string, message any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	frame, err := json.Marshal(Envelope{Type: kind, Message: raw})
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, frame)
}
