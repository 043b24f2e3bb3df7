package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// steps notes which links a call reached.
type steps struct {
	allow
	took []string
}

func (s *steps) Authorize(ctx context.Context, req *AuthorizationRequest) error {
	s.took = append(s.took, "authorise "+req.Action+" "+strings.Join(req.Resources, ","))
	return s.allow.Authorize(ctx, req)
}

func (s *steps) Admit(context.Context, *Call) error {
	s.took = append(s.took, "throttle")
	return nil
}

func (s *steps) Record(_ context.Context, _ *Call, resources []string, err error) {
	s.took = append(s.took, "audit "+strings.Join(resources, ",")+" "+codeOf(err))
}

func (s *steps) RecordFailure(_ context.Context, _ *Call, err error) {
	s.took = append(s.took, "audit a failure "+codeOf(err))
}

func stepFixture(t *testing.T, s *steps) (*Registry, *Service) {
	t.Helper()
	chain := testChain(t.Output())
	chain.Authorizer, chain.Throttler, chain.Auditor = s, s, s
	chain.Constraints = func(service, operation string, in any, present func(string) bool) error {
		s.took = append(s.took, "constrain "+service+" "+operation)
		if aws.ToString(in.(*ecs.StopTaskInput).Task) == "" {
			return Errorf("InvalidParameterException", "task is required")
		}
		return nil
	}
	reg := NewRegistry(chain)
	return reg, reg.Add(peers()[0].info)
}

func TestEveryCallPassesTheChainInOrder(t *testing.T) {
	tests := []struct {
		name, task, deny string
		want             string
	}{
		{"admitted", "t", "", "constrain ecs StopTask|authorise ecs:StopTask t|throttle|run|audit t "},
		{"invalid", "", "", "constrain ecs StopTask|audit  InvalidParameterException"},
		{"denied", "t", "ecs:StopTask", "constrain ecs StopTask|authorise ecs:StopTask t|audit t AccessDeniedException"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &steps{allow: allow{deny: tt.deny}}
			reg, service := stepFixture(t, s)
			Handle(service, Operation[ecs.StopTaskInput]{
				Name:      "StopTask",
				Resources: func(_ context.Context, in *ecs.StopTaskInput) []string { return []string{*in.Task} },
			}, func(ctx context.Context, _ *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) {
				s.took = append(s.took, "run")
				if c := CallFrom(ctx); c.Principal.Kind != PrincipalService || c.Account != testAccount || c.Region != "r" {
					t.Errorf("call %+v", c)
				}
				return nil, nil
			})
			out, err := Invoke[ecs.StopTaskInput, ecs.StopTaskOutput](t.Context(), reg, Principal{Kind: PrincipalService},
				testAccount, "r", "ecs", "StopTask", &ecs.StopTaskInput{Task: &tt.task})
			if got := strings.Join(s.took, "|"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if (out != nil) != (err == nil) {
				t.Errorf("output %v with error %v", out, err)
			}
		})
	}
}

func TestReadOnlyOperationsAreNotAudited(t *testing.T) {
	s := &steps{}
	reg, service := stepFixture(t, s)
	Handle(service, Operation[ecs.StopTaskInput]{Name: "StopTask", ReadOnly: true},
		func(context.Context, *ecs.StopTaskInput) (*ecs.StopTaskOutput, error) { return nil, nil })
	if _, err := Invoke[ecs.StopTaskInput, ecs.StopTaskOutput](t.Context(), reg, Principal{}, "", "", "ecs", "StopTask",
		&ecs.StopTaskInput{Task: aws.String("t")}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.took, "|"); strings.Contains(got, "audit") || !strings.Contains(got, "authorise ecs:StopTask *") {
		t.Error(got)
	}
}

func TestPresenceReachesConstraints(t *testing.T) {
	f := newFixture(t, func(c *Chain) {
		c.Constraints = func(_, _ string, _ any, present func(string) bool) error {
			if present == nil || present("task") {
				return errors.New("present must answer for zero scalars alone")
			}
			return nil
		}
	})
	if status, body, _ := f.json(t, ecsTarget+"StopTask", `{"task":"t"}`); status != 200 {
		t.Error(status, body)
	}
}

func TestMistakesInWiringPanic(t *testing.T) {
	run := func(context.Context, *ecs.CreateServiceInput) (*ecs.CreateServiceOutput, error) { return nil, nil }
	tests := map[string]struct {
		wire func(*Registry)
		want string
	}{
		"an operation twice": {func(r *Registry) {
			s := r.Add(peers()[0].info)
			Handle(s, Operation[ecs.CreateServiceInput]{Name: "CreateService"}, run)
			Handle(s, Operation[ecs.CreateServiceInput]{Name: "CreateService"}, run)
		}, "twice"},
		"a union missing": {func(r *Registry) {
			s := r.Add(ServiceInfo{Name: "ecs", Protocols: []Protocol{AWSJSON11}, NewDocument: func(any) any { return nil }})
			Handle(s, Operation[ecs.CreateServiceInput]{Name: "CreateService"}, run)
		}, "no variant of the union"},
		"a service twice": {func(r *Registry) {
			r.Add(ServiceInfo{Name: "ecs", Protocols: []Protocol{AWSJSON11}})
			r.Add(ServiceInfo{Name: "ecs", Protocols: []Protocol{AWSJSON11}})
		}, "both claim"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p, _ := recover().(string); !strings.Contains(p, tt.want) {
					t.Errorf("panic %q, want %q", p, tt.want)
				}
			}()
			tt.wire(NewRegistry(testChain(t.Output())))
		})
	}
}

func TestTokenBuckets(t *testing.T) {
	b := NewTokenBuckets(DefaultRate(), []Group{{"ecs", []string{"StopTask", "RunTask"}, Rate{PerSecond: 1, Burst: 2}}})
	at := time.Unix(1e9, 0)
	admit := func(account string, after time.Duration) bool {
		return b.Admit(t.Context(), &Call{Account: account, Service: "ecs", Operation: "RunTask", Time: at.Add(after)}) == nil
	}
	for i, want := range []bool{true, true, false} {
		if got := admit("a", 0); got != want {
			t.Errorf("call %d: admitted %v", i, got)
		}
	}
	if !admit("b", 0) {
		t.Error("one account's calls cost another's tokens")
	}
	if admit("a", 900*time.Millisecond) || !admit("a", 1100*time.Millisecond) {
		t.Error("tokens must come back at one a second")
	}
	if err := b.Admit(t.Context(), &Call{Account: "a", Service: "ecs", Operation: "RunTask", Time: at}); codeOf(err) != "ThrottlingException" {
		t.Error(err)
	}
}

// Operations of a group share its bucket, regions do not, and others have their own.
func TestGroupsShareABucket(t *testing.T) {
	b := NewTokenBuckets(Rate{PerSecond: 1, Burst: 1}, []Group{{"ecs", []string{"DescribeClusters", "ListClusters"}, Rate{PerSecond: 1, Burst: 2}}})
	for _, tt := range []struct {
		region, operation string
		want              bool
	}{
		{"r", "ListClusters", true}, {"r", "DescribeClusters", true}, {"r", "ListClusters", false}, {"r", "DescribeClusters", false},
		{"other", "ListClusters", true}, {"r", "ListTasks", true}, {"r", "ListTasks", false}, {"r", "StopTask", true},
	} {
		err := b.Admit(t.Context(), &Call{Account: "a", Region: tt.region, Service: "ecs", Operation: tt.operation, Time: time.Unix(1e9, 0)})
		if (err == nil) != tt.want {
			t.Errorf("%s %s: %v", tt.region, tt.operation, err)
		}
	}
}

// Callers that name ever new regions do not make the server hold ever more.
func TestFullBucketsAreForgotten(t *testing.T) {
	b := NewTokenBuckets(Rate{PerSecond: 10, Burst: 10}, nil)
	at := time.Unix(1e9, 0)
	for i := range 10 * minBuckets {
		call := &Call{Account: "a", Region: fmt.Sprint(i), Service: "ecs", Operation: "ListTasks", Time: at.Add(time.Duration(i) * time.Millisecond)}
		if err := b.Admit(t.Context(), call); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.buckets); n > 2*minBuckets {
		t.Errorf("%d buckets are kept", n)
	}
}

// What AWS documents is what a scale of 1 gives.
func TestQuotas(t *testing.T) {
	for _, tt := range []struct {
		service, operation string
		scale              float64
		burst              int
	}{
		{"ecs", "RunTask", 1, 100}, {"ecs", "DescribeClusters", 1, 50}, {"ecs", "RegisterTaskDefinition", 20, 400},
		{"logs", "CreateLogGroup", 1, 10}, {"logs", "PutLogEvents", 1, 5000}, {"logs", "CreateLogGroup", 0.01, 1},
	} {
		b := NewTokenBuckets(Rate{}, Quotas(tt.scale))
		call := &Call{Service: tt.service, Operation: tt.operation, Time: time.Unix(1e9, 0)}
		admitted := 0
		for b.Admit(t.Context(), call) == nil && admitted < 1e6 {
			admitted++
		}
		if admitted != tt.burst {
			t.Errorf("%s:%s times %v: %d calls at once, want %d", tt.service, tt.operation, tt.scale, admitted, tt.burst)
		}
	}
}

// SDK clients wait and try again, whichever protocol tells them.
func TestThrottledCallsAreRetriedBySDKs(t *testing.T) {
	f := newFixture(t, func(c *Chain) { c.Throttler = NewTokenBuckets(Rate{PerSecond: 5, Burst: 1}, nil) })
	quick := func(int, error) (time.Duration, error) { return 300 * time.Millisecond, nil }
	retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.Backoff = retry.BackoffDelayerFunc(quick) })
	client := sts.New(sts.Options{Region: testRegion, BaseEndpoint: &f.http.URL, Credentials: testCredentials(), Retryer: retryer})
	for i := range 2 {
		_, err := f.ecs(func(o *ecs.Options) { o.Retryer = retryer }).StopTask(t.Context(), &ecs.StopTaskInput{Task: aws.String("t")})
		if err != nil {
			t.Errorf("json call %d: %v", i, err)
		}
		if _, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err != nil {
			t.Errorf("query call %d: %v", i, err)
		}
	}
	if status, answer, _ := f.form(t, "sts", "Action=GetCallerIdentity&Version=2011-06-15"); status != 400 || !strings.Contains(answer, "<Code>Throttling</Code>") {
		t.Errorf("query: %d %s", status, answer)
	}
}

func TestAuditLine(t *testing.T) {
	var buf bytes.Buffer
	a := NewAuditor(&buf, slog.New(slog.DiscardHandler))
	c := &Call{RequestID: "id", Account: "1", Region: "r", Service: "ecs", Operation: "RunTask", SourceIP: "10.0.0.1",
		Principal: Principal{ARN: "arn:root", Kind: PrincipalRoot, AccessKeyID: "AKID"}}
	a.Record(t.Context(), c, []string{"arn:x"}, errors.New("a secret"))
	line := buf.String()
	for _, want := range []string{`"action":"ecs:RunTask"`, `"principal":"arn:root"`, `"source":"10.0.0.1"`, `"resources":["arn:x"]`, `"result":"InternalFailure"`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s lacks %s", line, want)
		}
	}
	if strings.Contains(line, "a secret") {
		t.Error("the audit log tells an internal error's text")
	}
}

// What callers choose does not make lines long, and failures do not fill the log.
func TestAuditIsBounded(t *testing.T) {
	var buf bytes.Buffer
	a := NewAuditor(&buf, slog.New(slog.DiscardHandler))
	many := slices.Repeat([]string{strings.Repeat("é", 1<<20)}, 1000)
	a.Record(t.Context(), &Call{Region: many[0], Operation: many[0]}, many, nil)
	if n := buf.Len(); n > 20<<10 || !strings.Contains(buf.String(), "and 980 more") {
		t.Errorf("a line has %d bytes", n)
	}
	buf.Reset()
	at := time.Unix(1e9, 0)
	for range 10_000 {
		a.RecordFailure(t.Context(), &Call{Time: at}, Errorf("InvalidSignatureException", "x"))
	}
	if n := strings.Count(buf.String(), "\n"); n != failuresBurst {
		t.Errorf("%d failures were written", n)
	}
	buf.Reset()
	a.RecordFailure(t.Context(), &Call{Time: at.Add(2 * time.Second)}, Errorf("InvalidSignatureException", "x"))
	if !strings.Contains(buf.String(), `"failuresNotWritten":9900`) {
		t.Errorf("what was not written is not told: %s", buf.String())
	}
}

// fullDisk is a file that cannot be written while it is full.
type fullDisk struct {
	full bool
	bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.full {
		n, _ := d.Buffer.Write(p[:1]) // what still has room
		return n, syscall.ENOSPC
	}
	return d.Buffer.Write(p)
}

// Lines that a full disk costs are told of, once in the log and with the next line.
func TestLostAuditLinesAreTold(t *testing.T) {
	disk, log := &fullDisk{full: true}, &logBuffer{}
	a := NewAuditor(disk, slog.New(slog.NewTextHandler(log, nil)))
	for range 3 {
		a.Record(t.Context(), &Call{}, nil, nil)
	}
	disk.full = false
	a.Record(t.Context(), &Call{}, nil, nil)
	a.Record(t.Context(), &Call{}, nil, nil)
	if n := strings.Count(log.String(), "the audit log cannot be written"); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
	lines := strings.Split(strings.TrimSpace(disk.String()), "\n")
	if last := lines[len(lines)-2:]; !json.Valid([]byte(last[0])) || !strings.Contains(last[1], `"linesLostBefore":3`) {
		t.Errorf("the lines: %s", disk.String())
	}
}

// Whoever tries to change something without being let in leaves a line: from where,
// with which key, and why it was refused; never the signature or the token.
func TestFailedAuthenticationIsAudited(t *testing.T) {
	audit := &logBuffer{}
	f := newFixture(t, func(c *Chain) { c.Auditor = NewAuditor(audit, slog.New(slog.DiscardHandler)) })
	post := func(target string, c sigv4.Credentials) {
		r, _ := http.NewRequest("POST", f.http.URL+"/", strings.NewReader("{}"))
		r.Header.Set("X-Amz-Target", target)
		if c.AccessKeyID != "" {
			if err := sigv4.Sign(r, c, testRegion, "ecs", sigv4.Hash([]byte("{}")), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		do(t, f.http, r)
	}
	post(ecsTarget+"StopTask", sigv4.Credentials{AccessKeyID: testKey, SecretAccessKey: "canary-secret"})
	post(ecsTarget+"StopTask", sigv4.Credentials{AccessKeyID: "AKIDUNKNOWN", SecretAccessKey: "canary-secret", SessionToken: "canary-token"})
	post(ecsTarget+"StopTask", sigv4.Credentials{})
	lines := audit.String()
	for _, want := range []string{
		`"action":"ecs:StopTask","principal":"","kind":"","accessKeyId":"AKIDTEST","source":"127.0.0.1","via":null,"resources":null,"result":"InvalidSignatureException"`,
		`"accessKeyId":"AKIDUNKNOWN","source":"127.0.0.1","via":null,"resources":null,"result":"UnrecognizedClientException"`,
		`"accessKeyId":"","source":"127.0.0.1","via":null,"resources":null,"result":"MissingAuthenticationTokenException"`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no line has %s:\n%s", want, lines)
		}
	}
	if strings.Contains(lines, "canary") || strings.Contains(lines, "Signature=") {
		t.Errorf("a secret is in the audit log:\n%s", lines)
	}
}

// A call that an operation makes tells through which services it came.
func TestCallsTellThroughWhomTheyCame(t *testing.T) {
	reg := NewRegistry(testChain(t.Output()))
	service := reg.Add(peers()[0].info)
	var via [][]string
	invoke := func(ctx context.Context, operation string) error {
		_, err := Invoke[ecs.ListTasksInput, ecs.ListTasksOutput](ctx, reg, Principal{Kind: PrincipalRoot}, testAccount, "r", "ecs", operation, &ecs.ListTasksInput{})
		return err
	}
	for name, next := range map[string]string{"A": "B", "B": "C", "C": ""} {
		Handle(service, Operation[ecs.ListTasksInput]{Name: name}, func(ctx context.Context, _ *ecs.ListTasksInput) (*ecs.ListTasksOutput, error) {
			if c := CallFrom(ctx); c.Secure {
				via = append(via, c.Via)
			}
			if next == "" {
				return nil, nil
			}
			return nil, invoke(ctx, next)
		})
	}
	if err := invoke(t.Context(), "A"); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(via), "[[] [ecs.amazonaws.com] [ecs.amazonaws.com ecs.amazonaws.com]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
