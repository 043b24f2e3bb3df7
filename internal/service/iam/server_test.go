package iam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/constraint"
	"longshore.dev/longshore/internal/wire/wiretest"
)

// Documents that are valid.
const (
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:*","Resource":"*"}]}`
	trustEC2 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
)

// served is the room behind a real server. root is the account's root user.
type served struct {
	*Service
	*api.Client
	t    testing.TB
	url  string
	root AccessKey

	mu    sync.Mutex
	asked []*wire.AuthorizationRequest
	now   time.Time
	open  bool // lets users do everything
}

// Authorize notes what is asked, and lets users in if told so; policies decide otherwise.
func (s *served) Authorize(ctx context.Context, req *wire.AuthorizationRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req)
	if s.open && req.Call.Principal.Kind == wire.PrincipalUser {
		return nil
	}
	return (&Authorizer{Holders: s.Service}).Authorize(ctx, req)
}

// last is the last question to the authoriser.
func (s *served) last() *wire.AuthorizationRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[len(s.asked)-1]
}

func (s *served) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func serve(t testing.TB, limits Limits) *served {
	t.Helper()
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	kv := memkv.New()
	db := store.New(kv, store.Options{})
	s.Service = New(Deps{DB: db, Sealer: sealer, Now: s.time, Limits: limits})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids atomic.Int64
	reg := wire.NewRegistry(wire.Chain{
		Credentials: s.Service, Authorizer: s.Noting(s), Constraints: constraint.New().Check,
		Now: time.Now, NewID: func() string { return fmt.Sprintf("%032x", ids.Add(1)) },
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	s.Register(reg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, done := wire.NewHTTPServer(wire.NewServer(reg), wire.DefaultLimits()), make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		if err := errors.Join(db.Close(), kv.Close()); err != nil {
			t.Error(err)
		}
	})
	s.url = "http://" + l.Addr().String()
	if s.root, err = s.EnsureRoot(t.Context(), account, AccessKey{}); err != nil {
		t.Fatal(err)
	}
	s.Client = s.as(s.root)
	return s
}

// as is a client that signs with a key.
func (s *served) as(key AccessKey) *api.Client {
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return api.New(api.Options{
		Region: "eu-west-1", BaseEndpoint: &s.url, RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: wiretest.PlainBodies{Transport: transport}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, nil
		}),
	})
}

// must returns a function that fails the test on an error.
func must[T any](t testing.TB) func(out T, err error) T {
	return func(out T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// ok calls an operation that has to succeed: ok(s, s.GetUser, &api.GetUserInput{…}).
func ok[I, O any](s *served, call func(context.Context, *I, ...func(*api.Options)) (*O, error), in *I) *O {
	s.t.Helper()
	out, err := call(s.t.Context(), in)
	if err != nil {
		s.t.Fatalf("%T: %v", in, err)
	}
	return out
}

// refused calls an operation that has to fail with a code and a part of its message.
func refused[I, O any](s *served, call func(context.Context, *I, ...func(*api.Options)) (*O, error), in *I, code, message string) {
	s.t.Helper()
	_, err := call(s.t.Context(), in)
	var e smithy.APIError
	if !errors.As(err, &e) {
		s.t.Errorf("%T: got %v, want %s", in, err, code)
		return
	}
	if e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), message) {
		s.t.Errorf("%T: got %s: %s\nwant %s: %s", in, e.ErrorCode(), e.ErrorMessage(), code, message)
	}
}

// equal compares what is printed.
func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func str(s string) *string { return &s }

func decoded(t testing.TB, document *string) string {
	t.Helper()
	text, err := url.PathUnescape(*document) // which leaves "+" as it is
	if err != nil {
		t.Fatal(err)
	}
	return text
}
