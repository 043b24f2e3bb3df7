package agent

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/acs"
)

// Timers of the sessions, as Amazon's agent has them.
const (
	sessionBackoff  = 2 * time.Minute
	inactiveBackoff = time.Hour
	// silenceMin to twice of it, at random, without a frame ends a session.
	silenceMin = 60 * time.Second
	// sessionLife ends a session, so that agents spread over servers.
	sessionLife = 30 * time.Minute
)

// runSession keeps one of the two websockets open until ctx ends.
func (a *Agent) runSession(ctx context.Context, name string, once func(context.Context) error) error {
	retry := newBackoff(sessionBackoff)
	for {
		opened := a.now()
		err := once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var refused *acs.RefusedError
		if errors.As(err, &refused) && refused.Code == acs.RejectInactiveInstance {
			// To register again at once would undo what the operator did.
			a.log.Error("the control plane has deregistered this node; its tasks are not managed until it is started again", "session", name, "error", err)
			retry = &backoff{wait: inactiveBackoff, limit: inactiveBackoff}
		}
		if a.now().Sub(opened) > time.Minute {
			retry = newBackoff(sessionBackoff)
		}
		a.log.Debug("session ended; reconnecting", "session", name, "error", err)
		if !retry.sleep(ctx) {
			return nil
		}
	}
}

// discover asks where the websockets are.
func (a *Agent) discover(ctx context.Context) (*ecs.DiscoverPollEndpointOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	id := a.identity()
	return a.control.DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointInput{
		Cluster: aws.String(id.Cluster), ContainerInstance: aws.String(id.ContainerInstanceARN),
	})
}

// assignments is one life of the ACS session.
func (a *Agent) assignments(ctx context.Context) error {
	endpoints, err := a.discover(ctx)
	if err != nil {
		return err
	}
	id := a.identity()
	query := url.Values{
		"clusterArn": {id.Cluster}, "containerInstanceArn": {id.ContainerInstanceARN},
		"agentHash": {a.options.Version}, "agentVersion": {a.options.Version},
		"seqNum": {"1"}, "protocolVersion": {"2"}, "sendCredentials": {"true"},
	}
	client, err := acs.Dial(ctx, aws.ToString(endpoints.Endpoint), query, a.options.Sign, a.options.HTTPClient)
	if err != nil {
		return err
	}
	defer client.Close()
	a.connected.Store(true)
	defer a.connected.Store(false)
	ctx, cancel := context.WithTimeout(ctx, sessionLife+rand.N(5*time.Minute))
	defer cancel()
	for {
		frame, err := readFrame(ctx, client)
		if err != nil {
			return err
		}
		if err := a.receive(ctx, client, frame); err != nil {
			return err
		}
	}
}

func readFrame(ctx context.Context, client *acs.Client) (acs.Envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMin+rand.N(silenceMin))
	defer cancel()
	return client.Read(ctx)
}

// receive handles one frame of the control plane. Unknown types are ignored.
func (a *Agent) receive(ctx context.Context, client *acs.Client, frame acs.Envelope) error {
	switch frame.Type {
	case acs.TypeHeartbeat:
		var m acs.Heartbeat
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			return nil
		}
		return client.Send(ctx, acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: m.MessageID})
	case acs.TypePayload:
		var m acs.Payload
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			a.log.Error("a payload could not be read", "error", err)
			return nil
		}
		return a.receivePayload(ctx, client, &m)
	case acs.TypeManifest:
		var m acs.Manifest
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			return nil
		}
		return a.receiveManifest(ctx, client, &m)
	case acs.TypeStopVerificationAk:
		var m acs.StopVerificationAck
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			return nil
		}
		for _, t := range m.StopTasks {
			if err := a.engine.accept(ctx, acs.Task{ARN: t.TaskARN, TaskClusterARN: t.TaskClusterARN, DesiredStatus: acs.DesiredStopped}); err != nil {
				a.log.Error("a task could not be stopped", "task", t.TaskARN, "error", err)
			}
		}
	}
	return nil
}

// receivePayload acknowledges a payload when its tasks are on disk; without an
// acknowledgement the control plane sends it again.
func (a *Agent) receivePayload(ctx context.Context, client *acs.Client, m *acs.Payload) error {
	for _, t := range m.Tasks {
		if err := a.engine.accept(ctx, t); err != nil {
			a.log.Error("a task could not be accepted", "task", t.ARN, "error", err)
			return nil
		}
	}
	return client.Send(ctx, acs.TypeAck, acs.Ack{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID})
}

// receiveManifest answers a manifest that is newer than any seen before.
func (a *Agent) receiveManifest(ctx context.Context, client *acs.Client, m *acs.Manifest) error {
	if ok, err := a.advanceTimeline(m.Timeline); err != nil || !ok {
		return err
	}
	extra := a.engine.compare(ctx, m)
	if err := client.Send(ctx, acs.TypeAck, acs.Ack{Cluster: m.ClusterARN, ContainerInstance: m.ContainerInstanceARN, MessageID: m.MessageID}); err != nil {
		return err
	}
	if len(extra) == 0 {
		return nil
	}
	return client.Send(ctx, acs.TypeStopVerification, acs.StopVerification{MessageID: m.MessageID, StopCandidates: extra})
}
