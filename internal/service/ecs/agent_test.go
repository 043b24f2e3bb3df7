package ecs

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire"
)

// agentSocket opens the assignments websocket of a node's agent at a real server.
func (r *room) agentSocket(server *httptest.Server, instance string) (*acs.Client, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	query := url.Values{"clusterArn": {"default"}, "containerInstanceArn": {instance}, "agentVersion": {"1.0"}}
	return acs.Dial(ctx, server.URL+PathACS, query, func(*http.Request, []byte) error { return nil }, server.Client())
}

// payload reads frames until one assigns a task, and acknowledges it.
func payload(t *testing.T, agent *acs.Client) acs.Task {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		frame, err := agent.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if frame.Type != acs.TypePayload {
			continue
		}
		var p acs.Payload
		if err := json.Unmarshal(frame.Message, &p); err != nil {
			t.Fatal(err)
		}
		if err := agent.Send(ctx, acs.TypeAck, acs.Ack{MessageID: p.MessageID}); err != nil {
			t.Fatal(err)
		}
		return p.Tasks[0]
	}
}

func TestAnAgentIsToldByItsWebsocket(t *testing.T) {
	r := newRoom(t)
	sessions := acs.NewServer(r.Service, func(*http.Request, []byte) (wire.Principal, string, error) {
		return wire.Principal{Kind: wire.PrincipalNode, NodeID: "n1", AccountID: testAccount}, testRegion, nil
	}, r.id, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.HandleFunc(PathACS+"/ws", sessions.ServeACS)
	server := httptest.NewServer(mux)
	defer server.Close()
	defer sessions.Close()

	out, err := r.RegisterContainerInstance(asNode("n1"), &ecs.RegisterContainerInstanceInput{TotalResources: resources(1024, 1024)})
	if err != nil {
		t.Fatal(err)
	}
	instance := *out.ContainerInstance.ContainerInstanceArn
	r.define(simple("web", 128, 128))
	agent, err := r.agentSocket(server, instance)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	if told := payload(t, agent); told.ARN != arn || told.DesiredStatus != acs.DesiredRunning || len(told.Containers) != 1 {
		t.Fatalf("the agent was told %+v", told)
	}
	r.report("n1", arn, "RUNNING", running("main"))
	if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &arn}); err != nil {
		t.Fatal(err)
	}
	if told := payload(t, agent); told.ARN != arn || told.DesiredStatus != acs.DesiredStopped {
		t.Fatalf("the agent was told %+v", told)
	}
	r.report("n1", arn, "STOPPED", stopped("main", 0))
	if task := r.describe("default", arn); *task.LastStatus != "STOPPED" {
		t.Errorf("the task is %s", *task.LastStatus)
	}

	// A deregistered instance's session ends and does not come back.
	if _, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: &instance}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for err = error(nil); err == nil; {
		_, err = agent.Read(ctx)
	}
	if ctx.Err() != nil {
		t.Fatal("the session goes on")
	}
	_, err = r.agentSocket(server, instance)
	var refused *acs.RefusedError
	if !errors.As(err, &refused) || refused.Code != acs.RejectInactiveInstance {
		t.Fatalf("the session came back: %v", err)
	}
}
