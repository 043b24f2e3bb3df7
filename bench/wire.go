package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// measureWire times calls that do next to nothing, so that what is left is the way of
// every call: HTTP, signature, constraints, authorisation, encoding. The calls are signed
// by hand: an SDK's client costs more than the server.
func measureWire(ctx context.Context, b *bench) (err error) {
	s, err := b.open(ctx, "wire", "server", "--request-rates", "0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	user, err := s.limitedUser(ctx)
	if err != nil {
		return err
	}
	floor, err := echo()
	if err != nil {
		return err
	}
	defer floor.Close()
	root := sigv4.Credentials{AccessKeyID: keyID, SecretAccessKey: keySecret}
	const list = ecsTarget + "ListClusters"
	for _, callers := range []int{1, apiCallers} {
		least := fmt.Sprintf("floor: an empty answer of net/http, %d at once", callers)
		for _, c := range []struct {
			name, note string
			endpoint   string
			keys       sigv4.Credentials
			floor      string
		}{
			{least, "the same requests, signed too", "http://" + floor.Addr().String(), root, ""},
			{fmt.Sprintf("ListClusters by root, %d at once", callers), "no policies are asked", s.endpoint, root, least},
			{fmt.Sprintf("ListClusters by a user, %d at once", callers), "5 policies of 10 statements, a boundary", s.endpoint, user, least},
		} {
			call := func(ctx context.Context) error {
				return post(ctx, s.client, c.endpoint, c.keys, "ecs", list, []byte("{}"), emptyObject)
			}
			if _, _, err := burst(ctx, callers, b.samples(2000, 100), call); err != nil { // warm up
				return fmt.Errorf("%s: %w", c.name, err)
			}
			before, err := s.cpu()
			if err != nil {
				return err
			}
			calls := b.samples(20_000, 1000)
			samples, rate, err := burst(ctx, callers, calls, call)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			after, err := s.cpu()
			if err != nil {
				return err
			}
			note := c.note
			if c.floor != "" {
				note += fmt.Sprintf("; p99 %s ms, of the server's CPU %s ms a call", figure(samples.quantile(0.99)), figure(milliseconds(after-before)/float64(calls)))
			}
			b.add(row{Name: c.name, Unit: "calls/s", Samples: calls, Median: rate, Floor: c.floor, Note: note})
		}
	}
	return nil
}

const ecsTarget = "AmazonEC2ContainerServiceV20141113."

var emptyObject = sigv4.Hash([]byte("{}"))

// limitedUser makes a user as administrators make them, and its key.
func (s *server) limitedUser(ctx context.Context) (sigv4.Credentials, error) {
	client := iam.New(iam.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: credentials(), HTTPClient: s.client, Retryer: aws.NopRetryer{}})
	name := aws.String("limited")
	policy := func(last string) string {
		statements := ""
		for i := range 9 {
			statements += fmt.Sprintf(`{"Effect":"Allow","Action":["s3:Get*","sqs:*"],"Resource":"arn:aws:s3:::bucket-%d/*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}},`, i)
		}
		return `{"Version":"2012-10-17","Statement":[` + statements + `{"Effect":"Allow","Action":"` + last + `","Resource":"*"}]}`
	}
	made := make([]*string, 6)
	for i := range made { // the last two allow the call: one is the boundary
		action := map[bool]string{true: "ecs:List*", false: "logs:Get*"}[i >= 4]
		out, err := client.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String(fmt.Sprint("p", i)), PolicyDocument: aws.String(policy(action))})
		if err != nil {
			return sigv4.Credentials{}, err
		}
		made[i] = out.Policy.Arn
	}
	if _, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: name, PermissionsBoundary: made[5]}); err != nil {
		return sigv4.Credentials{}, err
	}
	for _, arn := range made[:5] {
		if _, err := client.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: name, PolicyArn: arn}); err != nil {
			return sigv4.Credentials{}, err
		}
	}
	key, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
	if err != nil {
		return sigv4.Credentials{}, err
	}
	return sigv4.Credentials{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey}, nil
}

// echo serves the least that a server of HTTP can do with a request.
func echo() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write([]byte(`{"clusterArns":[]}`))
	})}
	go func() { _ = server.Serve(l) }()
	return l, nil
}
