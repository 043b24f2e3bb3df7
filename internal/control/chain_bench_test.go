package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/codec"
	"longshore.dev/longshore/internal/wire/constraint"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// BenchmarkCall is each link of what a call passes, and all of them together: RunTask by
// a user with five policies of ten statements.
func BenchmarkCall(b *testing.B) {
	w := newWorld(b)
	keys := caller(b, w)
	body := []byte(`{"cluster":"default","taskDefinition":"web:1","count":2,"launchType":"EC2","group":"g","startedBy":"me","tags":[{"key":"a","value":"b"}],
		"overrides":{"containerOverrides":[{"name":"web","command":["a","b"],"environment":[{"name":"A","value":"b"}]}]}}`)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.RunTask")
	if err := sigv4.Sign(r, keys, testRegion, "ecs", sigv4.Hash(body), time.Now()); err != nil {
		b.Fatal(err)
	}
	unions := []any{(*types.SharingStrategyMemberNvidiaMps)(nil)}
	c := codec.New(codec.Options{Service: "ecs", LowerCamel: true, Unions: unions})
	decode := func() (in ecs.RunTaskInput) {
		if err := c.DecodeJSON(body, &in, nil); err != nil {
			b.Fatal(err)
		}
		return in
	}
	in, check := decode(), constraint.New().Check
	cred, err := w.iam.Credential(b.Context(), keys.AccessKeyID, "")
	if err != nil {
		b.Fatal(err)
	}
	call := &wire.Call{Account: ours, Region: testRegion, Service: "ecs", Operation: "RunTask", Principal: cred.Principal, Secure: true, Time: time.Now()}
	authorizer := w.iam.Noting(&iam.Authorizer{Holders: w.iam})
	question := &wire.AuthorizationRequest{
		Call: call, Action: "ecs:RunTask", Resources: []string{"arn:aws:ecs:" + testRegion + ":" + ours + ":task-definition/web:1"},
		Conditions: map[string][]string{"ecs:cluster": {"arn:aws:ecs:" + testRegion + ":" + ours + ":cluster/default"}},
	}
	throttler := wire.NewTokenBuckets(wire.Rate{PerSecond: 1e9, Burst: 1e9}, wire.Quotas(1e6))
	auditor := wire.NewAuditor(io.Discard, slog.New(slog.DiscardHandler))

	measure(b, "signature", func() error {
		sig, err := sigv4.Parse(r)
		if err != nil {
			return err
		}
		return sig.Verify(r, keys.SecretAccessKey, sigv4.Hash(body), sigv4.Options{})
	})
	measure(b, "credential", func() error {
		_, err := w.iam.Credential(b.Context(), keys.AccessKeyID, "")
		return err
	})
	measure(b, "decode", func() error { decode(); return nil })
	measure(b, "constraints", func() error { return check("ecs", "RunTask", &in, nil) })
	measure(b, "authorise", func() error { return authorizer.Authorize(b.Context(), question) })
	measure(b, "throttle", func() error { call.Time = time.Now(); return throttler.Admit(b.Context(), call) })
	measure(b, "audit", func() error { auditor.Record(b.Context(), call, question.Resources, nil); return nil })

	server := wire.NewServer(oneOperation(wire.Chain{
		Credentials: w.iam, Authorizer: authorizer, Constraints: check, Throttler: throttler, Auditor: auditor,
		Now: time.Now, NewID: newID, Log: slog.New(slog.DiscardHandler),
	}, unions, question.Resources))
	measure(b, "all", func() error {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		answer := httptest.NewRecorder()
		if server.ServeHTTP(answer, r); answer.Code != http.StatusOK {
			return errors.New(answer.Body.String())
		}
		return nil
	})
}

func measure(b *testing.B, name string, f func() error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// caller makes a user with five policies of ten statements, the last of which allows
// everything.
func caller(b *testing.B, w *world) sigv4.Credentials {
	root := w.root[ours]
	name := aws.String("caller")
	must[*iamapi.CreateUserOutput](b)(root.CreateUser(b.Context(), &iamapi.CreateUserInput{UserName: name}))
	others := strings.Repeat(`{"Effect":"Allow","Action":["s3:Get*","sqs:*"],"Resource":"arn:aws:s3:::bucket/*"},`, 9)
	for _, action := range []string{"logs:Get*", "s3:*", "sqs:*", "sts:*", "*"} {
		policy := "p-" + strings.NewReplacer(":", "-", "*", "all").Replace(action)
		made := must[*iamapi.CreatePolicyOutput](b)(root.CreatePolicy(b.Context(), &iamapi.CreatePolicyInput{PolicyName: &policy, PolicyDocument: document(others + may(action))}))
		must[*iamapi.AttachUserPolicyOutput](b)(root.AttachUserPolicy(b.Context(), &iamapi.AttachUserPolicyInput{UserName: name, PolicyArn: made.Policy.Arn}))
	}
	key := must[*iamapi.CreateAccessKeyOutput](b)(root.CreateAccessKey(b.Context(), &iamapi.CreateAccessKeyInput{UserName: name})).AccessKey
	return sigv4.Credentials{AccessKeyID: *key.AccessKeyId, SecretAccessKey: *key.SecretAccessKey}
}

// oneOperation is a registry whose RunTask does nothing.
func oneOperation(chain wire.Chain, unions []any, resources []string) *wire.Registry {
	registry := wire.NewRegistry(chain)
	service := registry.Add(wire.ServiceInfo{
		Name: "ecs", Protocols: []wire.Protocol{wire.AWSJSON11}, TargetPrefix: "AmazonEC2ContainerServiceV20141113", LowerCamel: true, Unions: unions,
	})
	wire.Handle(service, wire.Operation[ecs.RunTaskInput]{Name: "RunTask", Resources: func(context.Context, *ecs.RunTaskInput) []string { return resources }},
		func(context.Context, *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) { return nil, nil })
	return registry
}
