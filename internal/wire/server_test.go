package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/wire/sigv4"
)

const ecsTarget = "AmazonEC2ContainerServiceV20141113."

// fixture is a server of a few typed operations, each of which does what the
// test says.
type fixture struct {
	http   *httptest.Server
	server *Server
	reg    *Registry
	log    *logBuffer

	stopTask func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error)
	identity func(context.Context) error
}

func newFixture(t *testing.T, change func(*Chain)) *fixture {
	t.Helper()
	f := &fixture{log: &logBuffer{}}
	chain := testChain(f.log)
	if change != nil {
		change(&chain)
	}
	f.reg = NewRegistry(chain)
	byName := map[string]*Service{}
	for _, p := range peers() {
		p.info.MaxBodyBytes = 64 << 10
		if p.info.Name == "ecs" {
			p.info.Knows = func(op string) bool { return op == "CreateService" }
		}
		byName[p.info.Name] = f.reg.Add(p.info)
	}
	f.stopTask = func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) { return nil, nil }
	f.identity = func(context.Context) error { return nil }
	Handle(byName["ecs"], Operation[ecs.StopTaskInput]{
		Name:      "StopTask",
		Resources: func(_ context.Context, in *ecs.StopTaskInput) []string { return []string{aws.ToString(in.Task)} },
	}, func(ctx context.Context, in *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		return f.stopTask(ctx, in)
	})
	Handle(byName["sts"], Operation[sts.GetCallerIdentityInput]{Name: "GetCallerIdentity", ReadOnly: true},
		func(ctx context.Context, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
			p := CallFrom(ctx).Principal
			return &sts.GetCallerIdentityOutput{Account: &p.AccountID, Arn: &p.ARN, UserId: &p.UserID}, f.identity(ctx)
		})
	Handle(byName["iam"], Operation[iam.GetRoleInput]{Name: "GetRole", ReadOnly: true},
		func(context.Context, *iam.GetRoleInput) (*iam.GetRoleOutput, error) {
			return nil, &iamtypes.NoSuchEntityException{Message: aws.String("no <role>")}
		})
	Handle(byName["batch"], Operation[batch.DescribeJobsInput]{Name: "DescribeJobs", Method: "POST", Path: "/v1/describejobs"},
		func(context.Context, *batch.DescribeJobsInput) (*batch.DescribeJobsOutput, error) {
			return nil, &batchtypes.ClientException{Message: aws.String("bad job")}
		})
	Handle(byName["cloudwatch"], Operation[cloudwatch.PutMetricDataInput]{Name: "PutMetricData"},
		func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
			return nil, &cwtypes.DashboardInvalidInputError{
				Message: aws.String(fmt.Sprintf("%d data", len(in.MetricData))),
				DashboardValidationMessages: []cwtypes.DashboardValidationMessage{
					{DataPath: aws.String("/widgets"), Message: aws.String("wrong")},
				},
			}
		})
	f.server = NewServer(f.reg)
	f.http = httptest.NewUnstartedServer(nil)
	f.http.Config = NewHTTPServer(f.server, DefaultLimits())
	f.http.Start()
	t.Cleanup(f.http.Close)
	return f
}

func (f *fixture) ecs(change ...func(*ecs.Options)) *ecs.Client {
	return ecs.New(ecs.Options{Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: testCredentials(), Retryer: aws.NopRetryer{}}, change...)
}

func (f *fixture) json(t *testing.T, target, body string) (int, string, http.Header) {
	t.Helper()
	r, _ := http.NewRequest("POST", f.http.URL+"/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	return send(t, f.http, "ecs", r, []byte(body))
}

func (f *fixture) form(t *testing.T, service, body string) (int, string, http.Header) {
	t.Helper()
	r, _ := http.NewRequest("POST", f.http.URL+"/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return send(t, f.http, service, r, []byte(body))
}

func TestCallTellsWhoAndWhere(t *testing.T) {
	f := newFixture(t, nil)
	var call *Call
	f.stopTask = func(ctx context.Context, _ *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		call = CallFrom(ctx)
		return &ecs.StopTaskOutput{Task: &ecstypes.Task{TaskArn: aws.String("arn")}}, nil
	}
	out, err := f.ecs().StopTask(t.Context(), &ecs.StopTaskInput{Task: aws.String("t")})
	if err != nil || aws.ToString(out.Task.TaskArn) != "arn" {
		t.Fatal(out, err)
	}
	if call.Service != "ecs" || call.Operation != "StopTask" || call.Region != testRegion || call.Account != testAccount ||
		call.Principal.AccessKeyID != testKey || call.SourceIP != "127.0.0.1" || call.RequestID == "" || call.Time.IsZero() ||
		call.Secure || !strings.Contains(call.UserAgent, "aws-sdk-go-v2") || call.Via != nil {
		t.Errorf("%+v", call)
	}
}

func TestErrorsReachSDKClients(t *testing.T) {
	f := newFixture(t, nil)
	f.stopTask = func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		return nil, fmt.Errorf("wrapped: %w", &ecstypes.ConflictException{Message: aws.String("busy"), ResourceIds: []string{"a", "b"}})
	}
	_, err := f.ecs().StopTask(t.Context(), &ecs.StopTaskInput{Task: aws.String("t")})
	var conflict *ecstypes.ConflictException
	if !errors.As(err, &conflict) || *conflict.Message != "busy" || len(conflict.ResourceIds) != 2 {
		t.Errorf("ecs: %v", err)
	}

	_, err = iam.New(iam.Options{Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: testCredentials()}).
		GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("r")})
	var missing *iamtypes.NoSuchEntityException
	if !errors.As(err, &missing) || *missing.Message != "no <role>" {
		t.Errorf("iam: %v", err)
	}

	_, err = batch.New(batch.Options{Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: testCredentials()}).
		DescribeJobs(t.Context(), &batch.DescribeJobsInput{Jobs: []string{"j"}})
	var client *batchtypes.ClientException
	if !errors.As(err, &client) || *client.Message != "bad job" {
		t.Errorf("batch: %v", err)
	}
}

// A large PutMetricData is gzipped by the SDK; its error names the query code in
// a header, and has members of its own.
func TestCompressedCBORAndQueryError(t *testing.T) {
	f := newFixture(t, nil)
	c := cloudwatch.New(cloudwatch.Options{
		Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: testCredentials(), RequestMinCompressSizeBytes: 100,
		HTTPClient: &http.Client{Transport: seesEncoding{t}},
	})
	in := &cloudwatch.PutMetricDataInput{Namespace: aws.String("n")}
	for range 100 {
		in.MetricData = append(in.MetricData, cwtypes.MetricDatum{MetricName: aws.String("m"), Value: aws.Float64(1)})
	}
	_, err := c.PutMetricData(t.Context(), in)
	var invalid *cwtypes.DashboardInvalidInputError
	if !errors.As(err, &invalid) || *invalid.Message != "100 data" || len(invalid.DashboardValidationMessages) != 1 {
		t.Errorf("%v", err)
	}
	if invalid != nil && invalid.ErrorCode() != "InvalidParameterInput" {
		t.Errorf("code %s: x-amzn-query-error was not taken", invalid.ErrorCode())
	}
}

type seesEncoding struct{ t *testing.T }

func (s seesEncoding) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		s.t.Error("the request was not compressed")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestAuthenticationFailures(t *testing.T) {
	f := newFixture(t, nil)
	provider := func(id, secret, token string) aws.CredentialsProvider {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}, nil
		})
	}
	tests := []struct {
		name        string
		creds       aws.CredentialsProvider
		json, query string
	}{
		{"good", provider(testKey, testSecret, ""), "", ""},
		{"good session", provider("ASIATEST", testSecret, "session"), "", ""},
		{"wrong secret", provider(testKey, "x", ""), "InvalidSignatureException", "SignatureDoesNotMatch"},
		{"unknown key", provider("AKIDOTHER", testSecret, ""), "UnrecognizedClientException", "InvalidClientTokenId"},
		{"wrong session", provider("ASIATEST", testSecret, "other"), "UnrecognizedClientException", "InvalidClientTokenId"},
		{"no session", provider("ASIATEST", testSecret, ""), "UnrecognizedClientException", "InvalidClientTokenId"},
		{"needless session", provider(testKey, testSecret, "session"), "UnrecognizedClientException", "InvalidClientTokenId"},
		{"anonymous", aws.AnonymousCredentials{}, "MissingAuthenticationTokenException", "MissingAuthenticationToken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := f.ecs(func(o *ecs.Options) { o.Credentials = tt.creds }).StopTask(t.Context(), &ecs.StopTaskInput{Task: aws.String("t")})
			if got := codeOf(err); got != tt.json {
				t.Errorf("json: %q, want %q: %v", got, tt.json, err)
			}
			_, err = sts.New(sts.Options{Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: tt.creds, Retryer: aws.NopRetryer{}}).
				GetCallerIdentity(t.Context(), nil)
			if got := codeOf(err); got != tt.query {
				t.Errorf("query: %q, want %q: %v", got, tt.query, err)
			}
		})
	}
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestStatusesOfRefusals(t *testing.T) {
	f := newFixture(t, nil)
	r, _ := http.NewRequest("POST", f.http.URL+"/", strings.NewReader("{}"))
	r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
	if status, body, _ := do(t, f.http, r); status != 400 || !strings.Contains(body, `"__type":"MissingAuthenticationTokenException"`) {
		t.Errorf("json: %d %s", status, body)
	}
	r, _ = http.NewRequest("POST", f.http.URL+"/", strings.NewReader("Action=GetCallerIdentity"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, body, _ := do(t, f.http, r); status != 403 || !strings.Contains(body, "<Code>MissingAuthenticationToken</Code>") {
		t.Errorf("query: %d %s", status, body)
	}
	r, _ = http.NewRequest("POST", f.http.URL+"/v1/describejobs", strings.NewReader("{}"))
	if status, _, h := do(t, f.http, r); status != 403 || h.Get("X-Amzn-Errortype") != "MissingAuthenticationTokenException" {
		t.Errorf("rest: %d %v", status, h)
	}
	// A signature for another service does not open this one.
	r, _ = http.NewRequest("POST", f.http.URL+"/", strings.NewReader("{}"))
	r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
	if status, body, _ := send(t, f.http, "logs", r, []byte("{}")); status != 400 || !strings.Contains(body, "Credential should be scoped to correct service: 'ecs'.") {
		t.Errorf("scope: %d %s", status, body)
	}
}

func TestPresignedGetCallerIdentity(t *testing.T) {
	f := newFixture(t, nil)
	for age, want := range map[time.Duration]string{0: "<Account>" + testAccount + "</Account>", time.Hour: "<Code>RequestExpired</Code>"} {
		r, _ := http.NewRequest("GET", f.http.URL+"/?Action=GetCallerIdentity&Version=2011-06-15", nil)
		c := sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
		if err := sigv4.Presign(r, c, testRegion, "sts", sigv4.EmptyHash, time.Now().Add(-age), time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, body, _ := do(t, f.http, r); !strings.Contains(body, want) {
			t.Errorf("age %v: %s", age, body)
		}
	}
}

func TestUnknownOperationsAndServices(t *testing.T) {
	f := newFixture(t, nil)
	tests := []struct {
		name string
		send func() (int, string, http.Header)
		want string
	}{
		{"no such operation", func() (int, string, http.Header) { return f.json(t, ecsTarget+"Nonsense", "{}") }, `400 {"__type":"UnknownOperationException","message":"The service ecs has no operation \"Nonsense\"."}`},
		{"not implemented", func() (int, string, http.Header) { return f.json(t, ecsTarget+"CreateService", "{}") }, `400 {"__type":"UnknownOperationException","message":"Longshore does not implement ecs:CreateService yet."}`},
		{"no such target", func() (int, string, http.Header) { return f.json(t, "Other.Op", "{}") }, `400 {"__type":"UnknownOperationException"`},
		{"no such action", func() (int, string, http.Header) { return f.form(t, "sts", "Action=X&Version=2011-06-15") }, "400 <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>InvalidAction</Code><Message>Could not find operation X for version 2011-06-15</Message></Error><RequestId>request-"},
		{"another version", func() (int, string, http.Header) {
			return f.form(t, "sts", "Action=GetCallerIdentity&Version=2000-01-01")
		}, "400 <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>InvalidAction</Code>"},
		{"no action", func() (int, string, http.Header) { return f.form(t, "sts", "Version=2011-06-15") }, "400 <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>MissingAction</Code>"},
		{"no such service", func() (int, string, http.Header) { return f.form(t, "ec2", "Action=RunInstances") }, "400 <ErrorResponse xmlns=\"\"><Error><Type>Sender</Type><Code>InvalidAction</Code><Message>Longshore does not serve &quot;ec2&quot;.</Message>"},
		{"no such path", func() (int, string, http.Header) {
			r, _ := http.NewRequest("POST", f.http.URL+"/v1/nonsense", nil)
			return send(t, f.http, "batch", r, nil)
		}, "404 "},
		{"bad query", func() (int, string, http.Header) { return f.form(t, "sts", "Action=%zz") }, "404 <ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>MalformedQueryString</Code>"},
		{"bad JSON", func() (int, string, http.Header) { return f.json(t, ecsTarget+"StopTask", `{"task":5}`) }, `400 {"__type":"SerializationException","message":"NUMBER_VALUE can not be converted to a String (at task)"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body, h := tt.send()
			if got := fmt.Sprintf("%d %s", status, body); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if h.Get("X-Amzn-Requestid") == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestBodiesAreBounded(t *testing.T) {
	f := newFixture(t, nil)
	if status, body, _ := f.json(t, ecsTarget+"StopTask", `{"task":"`+strings.Repeat("x", 65<<10)+`"}`); status != 413 || !strings.Contains(body, "RequestEntityTooLarge") {
		t.Errorf("declared length: %d %s", status, body)
	}
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	zw.Write([]byte(`{"task":"` + strings.Repeat("x", 10<<20) + `"}`))
	zw.Close()
	for name, body := range map[string][]byte{"413": zipped.Bytes(), "400": []byte("not gzip")} {
		r, _ := http.NewRequest("POST", f.http.URL+"/", bytes.NewReader(body))
		r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
		r.Header.Set("Content-Encoding", "gzip")
		if status, answer, _ := send(t, f.http, "ecs", r, body); fmt.Sprint(status) != name {
			t.Errorf("gzip: %d %s, want %s", status, answer, name)
		}
	}
}

// An unknown caller is refused before its body is read.
func TestUnknownCallersBodyIsNotRead(t *testing.T) {
	f := newFixture(t, nil)
	conn, err := net.Dial("tcp", f.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, _ := http.NewRequest("POST", f.http.URL+"/", nil)
	r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
	if err := sigv4.Sign(r, sigv4.Credentials{AccessKeyID: "AKIDOTHER", SecretAccessKey: "x"}, testRegion, "ecs", sigv4.EmptyHash, time.Now()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 8000000\r\nX-Amz-Target: %sStopTask\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\n\r\n",
		r.URL.Host, ecsTarget, r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 400") {
		t.Errorf("no answer without a body: %v %s", err, buf[:n])
	}
}

func TestInternalErrorsAreLoggedAndNotTold(t *testing.T) {
	f := newFixture(t, nil)
	tests := map[string]func() error{
		"error": func() error { return errors.New("password of the database") },
		"panic": func() error { panic("password of the database") },
	}
	for name, fail := range tests {
		f.stopTask = func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) { return nil, fail() }
		f.identity = func(context.Context) error { return fail() }
		status, body, h := f.json(t, ecsTarget+"StopTask", "{}")
		if status != 500 || !strings.Contains(body, `"__type":"InternalFailure"`) || strings.Contains(body, "password") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		id := h.Get("X-Amzn-Requestid")
		if log := f.log.String(); !strings.Contains(log, "password of the database") || !strings.Contains(log, "request="+id+" ") {
			t.Errorf("%s: the log lacks the error of %s:\n%s", name, id, log)
		}
		status, body, _ = f.form(t, "sts", "Action=GetCallerIdentity&Version=2011-06-15")
		if status != 500 || !strings.Contains(body, "<Type>Receiver</Type><Code>InternalFailure</Code>") || strings.Contains(body, "password") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestContextEndsWithTheClient(t *testing.T) {
	f := newFixture(t, nil)
	started, ended := make(chan struct{}), make(chan error, 1)
	f.stopTask = func(ctx context.Context, _ *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		close(started)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := f.ecs().StopTask(ctx, &ecs.StopTaskInput{Task: aws.String("t")}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the operation's context: %v", err)
	}
}

// A client that closes only its sending side still waits for an answer, and an
// empty 200 would tell it that the call was done.
func TestHalfClosedClientIsNotToldOfSuccess(t *testing.T) {
	f := newFixture(t, nil)
	f.stopTask = func(ctx context.Context, _ *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for body, want := range map[string]string{`{"task":"a"}`: "HTTP/1.1 503", `{"task"`: "HTTP/1.1 400"} {
		full := []byte(`{"task":"a"}`)
		r, _ := http.NewRequest("POST", f.http.URL+"/", nil)
		r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
		if err := sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, testRegion, "ecs", sigv4.Hash(full), time.Now()); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", f.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nX-Amz-Target: %sStopTask\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\n\r\n%s",
			r.URL.Host, len(full), ecsTarget, r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"), body)
		conn.(*net.TCPConn).CloseWrite()
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), want) {
			t.Errorf("with %q: %v %.200q, want %s", body, err, answer, want)
		}
	}
}

func TestInternalPathsAndAuthenticate(t *testing.T) {
	f := newFixture(t, nil)
	f.server.HandleInternal("GET /_longshore/acs/ws", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, sig, err := f.server.Authenticate(r, nil)
		if err != nil {
			http.Error(w, codeOf(err), http.StatusForbidden)
			return
		}
		fmt.Fprint(w, p.Kind, sig.Service, sig.Region)
	}))
	r, _ := http.NewRequest("GET", f.http.URL+"/_longshore/acs/ws?cluster=c", nil)
	if _, body, _ := send(t, f.http, "ecs", r, nil); body != "rootecs"+testRegion {
		t.Error(body)
	}
	r, _ = http.NewRequest("GET", f.http.URL+"/_longshore/acs/ws?cluster=d", nil)
	if status, body, _ := do(t, f.http, r); status != 403 || body != "MissingAuthenticationTokenException\n" {
		t.Error(status, body)
	}
	// Amazon's agent signs a telemetry frame, its length included, as a GET on the
	// URL of the session.
	frame := []byte(`{"type":"HeartbeatRequest"}`)
	r, _ = http.NewRequest("GET", f.http.URL+"/_longshore/tcs/ws", bytes.NewReader(frame))
	creds, _ := testCredentials().Retrieve(t.Context())
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, sigv4.Hash(frame), "ecs", testRegion, time.Now()); err != nil {
		t.Fatal(err)
	}
	handshake := httptest.NewRequest("GET", "/_longshore/tcs/ws", nil)
	handshake.Host = r.URL.Host
	handshake.Header = http.Header{"Authorization": r.Header["Authorization"], "X-Amz-Date": r.Header["X-Amz-Date"]}
	if p, _, err := f.server.Authenticate(handshake, frame); err != nil || p.AccessKeyID != testKey {
		t.Error(p, err)
	}
	if _, _, err := f.server.Authenticate(handshake, []byte("another")); codeOf(err) != "InvalidSignatureException" {
		t.Error(err)
	}
	r, _ = http.NewRequest("GET", f.http.URL+"/_longshore/health", nil)
	if status, _, _ := do(t, f.http, r); status != 200 {
		t.Error(status)
	}
}

// A client that sends its whole body before it reads must find the refusal, not
// a connection that was reset.
func TestRefusalReachesClientsThatSendFirst(t *testing.T) {
	f := newFixture(t, nil)
	for name, key := range map[string]string{"RequestEntityTooLarge": testKey, "UnrecognizedClientException": "AKIDOTHER"} {
		body := bytes.Repeat([]byte("x"), 9<<20)
		r, _ := http.NewRequest("POST", f.http.URL+"/", nil)
		r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
		creds := sigv4.Credentials{AccessKeyID: key, SecretAccessKey: testSecret}
		if err := sigv4.Sign(r, creds, testRegion, "ecs", sigv4.Hash(body), time.Now()); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", f.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nX-Amz-Target: %sStopTask\r\nX-Amz-Date: %s\r\nAuthorization: %s\r\n\r\n",
			r.URL.Host, len(body), ecsTarget, r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization"))
		if _, err := conn.Write(body); err != nil {
			t.Errorf("%s: the body could not be sent: %v", name, err)
			continue
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(answer), name) {
			t.Errorf("want %s, got %v %.300s", name, err, answer)
		}
	}
}

func TestRegionsAreWellFormed(t *testing.T) {
	f := newFixture(t, nil)
	for region, want := range map[string]int{"eu-west-1": 200, "us-gov-east-1": 200, "us-isob-east-1": 200, "moon": 400, "eu-west": 400, "us-east-1-": 400} {
		r, _ := http.NewRequest("POST", f.http.URL+"/", strings.NewReader(`{"task":"a"}`))
		r.Header.Set("X-Amz-Target", ecsTarget+"StopTask")
		if err := sigv4.Sign(r, sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, region, "ecs", sigv4.Hash([]byte(`{"task":"a"}`)), time.Now()); err != nil {
			t.Fatal(err)
		}
		response, err := f.http.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("region %q: status %d, want %d", region, response.StatusCode, want)
		}
	}
}
