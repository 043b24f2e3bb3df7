package logstest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/membulk"
	"longshore.dev/longshore/internal/service/logs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/constraint"
)

// What the server's one user is.
const (
	AccessKey = "AKIALOGSTEST"
	SecretKey = "logs-test-secret"
	Account   = "123456789012"
	Region    = "eu-west-1"
)

// Server is a served room.
type Server struct {
	// URL is the server's endpoint; it stays the same when the server restarts.
	URL     string
	Service *logs.Service
	Events  bulk.Logs

	// Authorized holds the last question that was asked of the authorizer.
	Authorized atomic.Pointer[wire.AuthorizationRequest]

	t       testing.TB
	address string
	handler http.Handler
	http    *http.Server
	served  chan struct{}

	mu    sync.Mutex
	clock func() time.Time
	deny  string
}

// Start serves a room with the given events (nil: in memory) until the test ends.
func Start(t testing.TB, events bulk.Logs) *Server {
	t.Helper()
	if events == nil {
		events = membulk.NewLogs()
	}
	s := &Server{t: t, Events: events, clock: time.Now, address: "127.0.0.1:0"}
	db := store.New(memkv.New(), store.Options{})
	var ids atomic.Int64
	id := func() string { return fmt.Sprintf("%032x", ids.Add(1)) }
	var err error
	s.Service, err = logs.New(logs.Deps{DB: db, Events: events, Now: s.Now, NewID: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	reg := wire.NewRegistry(wire.Chain{
		Credentials: s, Authorizer: s, Constraints: constraint.New().Check,
		Now: time.Now, NewID: id, Log: logger(t),
	})
	s.Service.Register(reg)
	s.handler = wire.NewServer(reg)
	s.Up()
	s.URL = "http://" + s.address
	t.Cleanup(func() {
		s.Down()
		if err := db.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// Credentials of the one user, as the SDK's clients take them.
func Credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}, nil
	})
}

// Up starts listening, again after Down.
func (s *Server) Up() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.http, s.served = wire.NewHTTPServer(s.handler, wire.DefaultLimits()), make(chan struct{})
	go func(h *http.Server, served chan struct{}) {
		defer close(served)
		_ = h.Serve(l) // ends with Close
	}(s.http, s.served)
}

// Down stops listening and cuts every connection.
func (s *Server) Down() {
	_ = s.http.Close()
	<-s.served
}

// Now is the room's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock()
}

// SetTime stops the room's clock at a time.
func (s *Server) SetTime(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = func() time.Time { return at }
}

// Deny refuses an IAM action from now on; "" refuses none.
func (s *Server) Deny(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deny = action
}

// Credential implements wire.CredentialSource.
func (s *Server) Credential(_ context.Context, id, sessionToken string) (wire.Credential, error) {
	if id != AccessKey || sessionToken != "" {
		return wire.Credential{}, wire.ErrNoCredential
	}
	return wire.Credential{SecretAccessKey: SecretKey, Principal: wire.Principal{
		Kind: wire.PrincipalRoot, AccountID: Account, UserID: Account, ARN: "arn:aws:iam::" + Account + ":root", AccessKeyID: id,
	}}, nil
}

// Authorize implements wire.Authorizer.
func (s *Server) Authorize(_ context.Context, req *wire.AuthorizationRequest) error {
	s.Authorized.Store(req)
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.Action == s.deny {
		return wire.Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s",
			req.Call.Principal.ARN, req.Action, req.Resources[0])
	}
	return nil
}

// logger shows what the server says in the test's own output.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}
