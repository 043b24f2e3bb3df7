package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"longshore.dev/longshore/internal/wire/sigv4"
	"longshore.dev/longshore/internal/wire/wiretest"
)

const (
	testKey     = "AKIDTEST"
	testSecret  = "test-secret"
	testAccount = "123456789012"
	testRegion  = "eu-west-1"
)

// keys are the credentials of a test server.
// keys holds credentials by id and session token.
type keys map[[2]string]Credential

func (k keys) Credential(_ context.Context, id, token string) (Credential, error) {
	c, ok := k[[2]string{id, token}]
	if !ok {
		return Credential{}, ErrNoCredential
	}
	return c, nil
}

// allow lets everyone do what deny does not name.
type allow struct{ deny string }

func (a allow) Authorize(_ context.Context, req *AuthorizationRequest) error {
	if req.Action == a.deny {
		return Errorf("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s",
			req.Call.Principal.ARN, req.Action, req.Resources[0])
	}
	return nil
}

func testChain(log io.Writer) Chain {
	var ids atomic.Int64
	return Chain{
		Credentials: keys{
			{testKey, ""}: {SecretAccessKey: testSecret, Principal: Principal{
				Kind: PrincipalRoot, AccountID: testAccount, UserID: testAccount, ARN: "arn:aws:iam::" + testAccount + ":root",
			}},
			{"ASIATEST", "session"}: {SecretAccessKey: testSecret, Principal: Principal{Kind: PrincipalNode, AccountID: testAccount, NodeID: "n1"}},
		},
		Authorizer: allow{},
		Now:        time.Now,
		NewID:      func() string { return fmt.Sprintf("request-%d", ids.Add(1)) },
		Log:        slog.New(slog.NewTextHandler(log, nil)),
	}
}

// logBuffer is a log that a test may read while a server writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serve starts a server of reg on loopback.
func serve(t testing.TB, reg *Registry) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewHTTPServer(NewServer(reg), DefaultLimits())
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func testCredentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, nil
	})
}

func testHTTPClient() *http.Client {
	return &http.Client{Transport: wiretest.PlainBodies{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, Timeout: 30 * time.Second}
}

// send signs and sends a request by hand, for what SDK clients do not do.
func send(t testing.TB, s *httptest.Server, service string, r *http.Request, body []byte) (status int, answer string, h http.Header) {
	t.Helper()
	if service != "" {
		c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
		if err := sigv4.Sign(r, c, testRegion, service, sigv4.Hash(body), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return do(t, s, r)
}

func do(t testing.TB, s *httptest.Server, r *http.Request) (status int, answer string, h http.Header) {
	t.Helper()
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}
