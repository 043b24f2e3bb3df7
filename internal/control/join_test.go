package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/service/iam"
)

const (
	testAccount = "123456789012"
	testRegion  = "eu-west-1"
)

// running is a server that runs until the test's end.
type running struct {
	*Server
	t    *testing.T
	data string
	log  *bytes.Buffer
	stop func()
}

func serve(t *testing.T, tlsMode string, changes ...func(*Config)) *running {
	t.Helper()
	r := &running{t: t, data: t.TempDir(), log: &bytes.Buffer{}}
	config := Config{
		DataDir: r.data, Listen: "127.0.0.1:0", Region: testRegion, Account: testAccount, TLS: TLS{Mode: tlsMode},
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	for _, change := range changes {
		change(&config)
	}
	r.data = config.DataDir
	s, err := Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the server ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) owner() *Client {
	r.t.Helper()
	a, err := ReadAccess(r.data, RootKey{})
	if err != nil {
		r.t.Fatal(err)
	}
	client, err := NewClient(a)
	if err != nil {
		r.t.Fatal(err)
	}
	return client
}

func (r *running) token(o TokenOptions) MadeToken {
	r.t.Helper()
	if o.LifeSeconds == 0 {
		o.LifeSeconds = 3600
	}
	if o.Uses == 0 {
		o.Uses = 1
	}
	made, err := r.owner().CreateToken(context.Background(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

// as is an ECS client with a node's credentials.
func (r *running) as(c node.Credentials) *ecs.Client {
	r.t.Helper()
	client, err := r.Access().HTTPClient()
	if err != nil {
		r.t.Fatal(err)
	}
	return ecs.New(ecs.Options{
		Region: testRegion, BaseEndpoint: aws.String(r.Endpoint()), HTTPClient: client, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}, nil
		}),
	})
}

func joinOptions(t *testing.T, server, token string) node.JoinOptions {
	return node.JoinOptions{DataDir: t.TempDir(), Server: server, Token: token, Log: slog.New(slog.DiscardHandler)}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestANodeJoins(t *testing.T) {
	for _, mode := range []string{"off", "on"} {
		t.Run("TLS "+mode, func(t *testing.T) {
			r := serve(t, mode)
			if want := map[string]string{"off": "http://", "on": "https://"}[mode]; !strings.HasPrefix(r.Endpoint(), want) {
				t.Fatalf("the endpoint is %s", r.Endpoint())
			}
			token := r.token(TokenOptions{Fargate: true})
			o := joinOptions(t, r.Endpoint(), token.Text)
			joined, err := node.Join(within(t, time.Minute), o)
			if err != nil {
				t.Fatal(err)
			}
			if joined.Region != testRegion || !joined.Fargate || len(joined.Subnets) == 0 || (joined.CA != "") != (mode == "on") {
				t.Errorf("the node was told it is %+v, with an authority of %d bytes", joined, len(joined.CA))
			}
			o.Token = "" // what it has is on its disk
			if again, err := node.Join(within(t, time.Minute), o); err != nil || again.AccessKeyID != joined.AccessKeyID || again.CA != joined.CA {
				t.Errorf("after a restart: %v %v", again, err)
			}
			for _, file := range []string{"root.key", "node/credentials.sealed"} {
				raw, err := os.ReadFile(filepath.Join(o.DataDir, file))
				if err != nil || bytes.Contains(raw, []byte(joined.SecretAccessKey)) {
					t.Errorf("%s: %v, or it shows the secret", file, err)
				}
			}
			registered, err := r.as(joined).RegisterContainerInstance(context.Background(), registration("default"))
			if err != nil {
				t.Fatal(err)
			}
			nodes, err := r.owner().Nodes(context.Background())
			if err != nil || len(nodes) != 1 || nodes[0].ID != joined.NodeID || nodes[0].Instance != aws.ToString(registered.ContainerInstance.ContainerInstanceArn) {
				t.Errorf("the owner sees %+v %v", nodes, err)
			}
			endpoints, err := r.as(joined).DiscoverPollEndpoint(context.Background(), &ecs.DiscoverPollEndpointInput{})
			if err != nil || !strings.HasPrefix(aws.ToString(endpoints.Endpoint), r.Endpoint()+"/") {
				t.Errorf("%v: the node is sent to %s", err, aws.ToString(endpoints.Endpoint))
			}

			if err := r.owner().RevokeNode(context.Background(), joined.NodeID); err != nil {
				t.Fatal(err)
			}
			if _, err := r.as(joined).DiscoverPollEndpoint(context.Background(), &ecs.DiscoverPollEndpointInput{}); err == nil || !strings.Contains(err.Error(), "UnrecognizedClientException") {
				t.Errorf("a revoked node's call: %v", err)
			}
			if err := r.owner().RevokeNode(context.Background(), "i-00000000000000000"); err == nil {
				t.Error("a node that never was is revoked")
			}
		})
	}
}

func registration(cluster string) *ecs.RegisterContainerInstanceInput {
	return &ecs.RegisterContainerInstanceInput{Cluster: &cluster, TotalResources: totalResources(4096, 4096)}
}

// TestATokensCluster: the nodes of a token for one cluster are in no other.
func TestATokensCluster(t *testing.T) {
	r := serve(t, "off")
	if _, err := r.owner().CreateToken(context.Background(), TokenOptions{LifeSeconds: 60, Uses: 1, Cluster: "nope"}); err == nil || !strings.Contains(err.Error(), "ClusterNotFound") {
		t.Errorf("a token for a cluster that is not there: %v", err)
	}
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, r.Endpoint(), r.token(TokenOptions{Cluster: "default"}).Text))
	if err != nil || joined.Cluster != "default" {
		t.Fatalf("%+v %v", joined, err)
	}
	for _, cluster := range []string{"other", "arn:aws:ecs:" + testRegion + ":" + testAccount + ":cluster/other"} {
		if _, err := r.as(joined).RegisterContainerInstance(context.Background(), registration(cluster)); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("registering in %s: %v", cluster, err)
		}
	}
	if _, err := r.as(joined).RegisterContainerInstance(context.Background(), registration("default")); err != nil {
		t.Error(err)
	}
}

// post sends a request to join as no agent would.
func (r *running) post(body string) (int, join.Answer) {
	r.t.Helper()
	response, err := http.Post(r.Endpoint()+join.Path, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	var a join.Answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, a
}

func request(token, attempt string) string {
	raw, _ := json.Marshal(join.Request{Token: token, Attempt: attempt})
	return string(raw)
}

func TestTheJoinEndpointIsAbused(t *testing.T) {
	r := serve(t, "off")
	now := time.Now()
	r.now = func() time.Time { now = now.Add(failedRefill); return now } // no attempt waits for another here
	attempt := strings.Repeat("ab", 32)
	used, revoked, good := r.token(TokenOptions{}), r.token(TokenOptions{}), r.token(TokenOptions{Uses: 100})
	if status, _ := r.post(request(used.Text, attempt)); status != http.StatusOK {
		t.Fatal(status)
	}
	if err := r.owner().RevokeToken(context.Background(), revoked.Info.ID); err != nil {
		t.Fatal(err)
	}
	forged, err := join.New(rand.Reader, "")
	if err != nil {
		t.Fatal(err)
	}
	forged.ID = good.Info.ID
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"nothing":               {"", 400, "not one to join"},
		"no JSON":               {"<xml/>", 400, "not one to join"},
		"no attempt":            {request(good.Text, ""), 400, "not one to join"},
		"an attempt to guess":   {request(good.Text, "1"), 400, "not one to join"},
		"no token":              {request("", attempt), 403, iam.ErrTokenUnknown.Error()},
		"a token's id alone":    {request("lsj1."+good.Info.ID+".", attempt), 403, iam.ErrTokenUnknown.Error()},
		"forged":                {request(forged.Text(), attempt), 403, iam.ErrTokenUnknown.Error()},
		"revoked":               {request(revoked.Text, attempt), 403, iam.ErrTokenUnknown.Error()},
		"used up, from another": {request(used.Text, strings.Repeat("cd", 32)), 403, iam.ErrTokenUsed.Error()},
		"huge":                  {request(strings.Repeat("A", 1<<20), attempt), 413, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			status, a := r.post(c.body)
			if status != c.status || !strings.Contains(a.Error, c.says) || a.SecretAccessKey != "" || a.NodeID != "" {
				t.Errorf("%d %+v; want %d and %q", status, a, c.status, c.says)
			}
		})
	}
	if nodes, err := r.owner().Nodes(context.Background()); err != nil || len(nodes) != 1 {
		t.Errorf("%d nodes after one that joined: %v", len(nodes), err)
	}
	audit, err := os.ReadFile(filepath.Join(r.data, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"longshore:CreateJoinToken", "longshore:RevokeJoinToken", `longshore:node/`, `"action":"longshore:JoinNode"`, `"result":"InvalidToken"`} {
		if !bytes.Contains(audit, []byte(want)) {
			t.Errorf("the audit log does not say %s", want)
		}
	}
	for _, text := range []string{used.Text, good.Text, forged.Text()} {
		if secret := strings.Split(text, ".")[2]; bytes.Contains(audit, []byte(secret)) || strings.Contains(r.log.String(), secret) {
			t.Error("a token's secret is in a log")
		}
	}
}

func TestFailedAttemptsAreSlowedDown(t *testing.T) {
	r := serve(t, "off")
	now := time.Now()
	r.now = func() time.Time { return now }
	good := r.token(TokenOptions{Uses: 100})
	attempts := 0
	attempt := func() string { attempts++; return fmt.Sprintf("%064x", attempts) }
	for range 50 { // a fleet behind one address
		if status, a := r.post(request(good.Text, attempt())); status != http.StatusOK {
			t.Fatalf("%d %+v", status, a)
		}
	}
	for n := range failedBurst {
		if status, _ := r.post(request("guess", attempt())); status != http.StatusForbidden {
			t.Fatalf("guess %d: %d", n, status)
		}
	}
	if status, _ := r.post(request("guess", attempt())); status != http.StatusTooManyRequests {
		t.Errorf("guess %d: %d", failedBurst+1, status)
	}
	now = now.Add(failedRefill)
	if status, _ := r.post(request(good.Text, attempt())); status != http.StatusOK {
		t.Errorf("a good token a little later: %d", status)
	}
	var a attemptsProbe
	a.flood(t)
}

// attemptsProbe floods the memory of failed attempts.
type attemptsProbe struct{ attempts }

func (a *attemptsProbe) flood(t *testing.T) {
	now := time.Now()
	for n := range 3 * failedSources {
		a.failed(fmt.Sprint(n), now)
	}
	if len(a.spent) > failedSources {
		t.Errorf("%d addresses are remembered", len(a.spent))
	}
}

// TestTheTokenIsShownToNobodyElse: whoever stands between, or answers in the
// server's stead, never gets to see the token.
func TestTheTokenIsShownToNobodyElse(t *testing.T) {
	r := serve(t, "on")
	token := r.token(TokenOptions{})
	var seen atomic.Int32
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) })
	authority, err := pki.NewAuthority(time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	impostor := httptest.NewUnstartedServer(handler)
	impostor.TLS = pki.NewIssuer(authority, func() []string { return []string{"127.0.0.1"} }, time.Now, rand.Reader).Config()
	impostor.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	impostor.StartTLS()
	defer impostor.Close()
	plain := httptest.NewServer(handler)
	defer plain.Close()
	for name, server := range map[string]string{"another certificate": impostor.URL, "plain http": plain.URL, "no URL": "127.0.0.1:1", "another scheme": "ftp://127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			o := joinOptions(t, server, token.Text)
			if _, err := node.Join(within(t, 10*time.Second), o); err == nil || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), strings.Split(token.Text, ".")[2]) {
				t.Errorf("joining ended with %v; want a final refusal without the token in it", err)
			}
		})
	}
	// One in the middle that passes bytes on sees only TLS; one that redirects is not followed.
	redirect := httptest.NewServer(http.RedirectHandler(plain.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	o := joinOptions(t, redirect.URL, serve(t, "off").token(TokenOptions{}).Text)
	if _, err := node.Join(within(t, time.Second/2), o); err == nil {
		t.Error("a redirection made a node")
	}
	if seen.Load() != 0 {
		t.Errorf("others saw %d requests", seen.Load())
	}
	if _, err := node.Join(within(t, time.Minute), joinOptions(t, r.Endpoint(), token.Text)); err != nil {
		t.Errorf("the server itself: %v", err)
	}
}

// TestALostAnswer cuts the connection after the server has made the node.
func TestALostAnswer(t *testing.T) {
	r := serve(t, "off")
	token := r.token(TokenOptions{})
	var cut atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		response, err := http.Post(r.Endpoint()+q.URL.Path, "application/json", q.Body)
		if err != nil || !cut.Swap(true) {
			panic(http.ErrAbortHandler)
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}))
	defer proxy.Close()
	joined, err := node.Join(within(t, time.Minute), joinOptions(t, proxy.URL, token.Text))
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := r.owner().Nodes(context.Background())
	if err != nil || len(nodes) != 1 || nodes[0].ID != joined.NodeID {
		t.Errorf("%+v %v; want the one node %s", nodes, err, joined.NodeID)
	}
}

// TestTheAuthorityStays: a node that joined goes on trusting the server after its
// restart, and by whatever name the operator added.
func TestTheAuthorityStays(t *testing.T) {
	first := serve(t, "on")
	pin, data := first.trust.pin, first.data
	raw, err := os.ReadFile(caPath(data))
	if err != nil || !bytes.Equal(raw, first.CA()) {
		t.Fatalf("%v: the authority's file is not the authority's", err)
	}
	first.stop()
	second, err := Open(context.Background(), Config{
		DataDir: data, Listen: "127.0.0.1:0", Region: testRegion, Account: testAccount,
		TLS: TLS{Mode: "on", Names: []string{"longshore.example"}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.trust.pin != pin {
		t.Error("the authority is another one")
	}
	certificate, err := second.trust.config.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"127.0.0.1", "::1", "localhost", "longshore.example"} {
		if err := certificate.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestWhenTLSIsOn(t *testing.T) {
	for _, c := range []struct {
		mode, ip string
		want     bool
	}{
		{"", "127.0.0.1", false}, {"auto", "127.0.0.1", false}, {"auto", "::1", false}, {"auto", "0.0.0.0", true}, {"auto", "::", true},
		{"auto", "10.1.2.3", true}, {"on", "127.0.0.1", true}, {"off", "10.1.2.3", false},
	} {
		if got := (TLS{Mode: c.mode}).wanted(&net.TCPAddr{IP: net.ParseIP(c.ip), Port: 4566}); got != c.want {
			t.Errorf("mode %q on %s: TLS %v", c.mode, c.ip, got)
		}
	}
	for name, c := range map[string]TLS{
		"a mode that is none": {Mode: "maybe"}, "a certificate without its key": {CertFile: "x"}, "an authority alone": {CAFile: "x"},
		"a URL as a name": {Names: []string{"https://x"}}, "an empty name": {Names: []string{""}},
	} {
		if c.check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
