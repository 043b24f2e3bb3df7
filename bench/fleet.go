package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire/sigv4"
)

const (
	fleetCluster = "bench"
	fleetSize    = 16
)

// fleet is a cluster of simulated agents: they register, connect, and acknowledge
// what they are sent, as the agent protocol wants it, and start nothing.
type fleet struct {
	definition string
	cancel     context.CancelFunc
	group      sync.WaitGroup
}

func openFleet(ctx context.Context, s *server) (*fleet, error) {
	client := s.ecs()
	definition, err := defineFleet(ctx, client)
	if err != nil {
		return nil, err
	}
	f := &fleet{definition: aws.ToString(definition.TaskDefinitionArn)}
	sessions, cancel := context.WithCancel(ctx)
	f.cancel = cancel
	for range fleetSize {
		if err := f.join(ctx, sessions, client, definition.RequiresAttributes); err != nil {
			f.close()
			return nil, fmt.Errorf("a simulated agent: %w", err)
		}
	}
	return f, f.connected(ctx, client)
}

// defineFleet makes the fleet's cluster and its task definition.
func defineFleet(ctx context.Context, client *ecs.Client) (*types.TaskDefinition, error) {
	if _, err := client.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String(fleetCluster)}); err != nil {
		return nil, err
	}
	out, err := client.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("bench"), NetworkMode: types.NetworkModeHost,
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(6), Cpu: 1, Essential: aws.Bool(true),
		}},
	})
	if err != nil {
		return nil, err
	}
	return out.TaskDefinition, nil
}

// register registers one instance that can do what the task definition requires.
func register(ctx context.Context, client *ecs.Client, requires []types.Attribute) (string, error) {
	number := func(name string, n int32) types.Resource {
		return types.Resource{Name: aws.String(name), Type: aws.String("INTEGER"), IntegerValue: n}
	}
	out, err := client.RegisterContainerInstance(ctx, &ecs.RegisterContainerInstanceInput{
		Cluster: aws.String(fleetCluster), Attributes: requires,
		TotalResources: []types.Resource{number("CPU", 1<<20), number("MEMORY", 1<<20)},
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ContainerInstance.ContainerInstanceArn), nil
}

// signFleet signs for the simulated agents.
func signFleet(r *http.Request, payload []byte) error {
	return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: keyID, SecretAccessKey: keySecret}, region, "ecs", sigv4.Hash(payload), time.Now())
}

// sessionQuery is the handshake's of an assignments session.
func sessionQuery(instance string) url.Values {
	return url.Values{
		"clusterArn": {fleetCluster}, "containerInstanceArn": {instance}, "agentHash": {"bench"}, "agentVersion": {"1.105.0"},
		"seqNum": {"1"}, "protocolVersion": {"2"}, "sendCredentials": {"true"},
	}
}

// join registers one instance and opens its session, which lives as long as
// sessions does.
func (f *fleet) join(ctx, sessions context.Context, client *ecs.Client, requires []types.Attribute) error {
	instance, err := register(ctx, client, requires)
	if err != nil {
		return err
	}
	found, err := client.DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointInput{Cluster: aws.String(fleetCluster), ContainerInstance: &instance})
	if err != nil {
		return err
	}
	session, err := acs.Dial(ctx, aws.ToString(found.Endpoint), sessionQuery(instance), signFleet, &http.Client{})
	if err != nil {
		return err
	}
	f.group.Go(func() {
		defer session.Close()
		for {
			frame, err := session.Read(sessions)
			if err != nil || answer(sessions, session, frame, instance) != nil {
				return // what is missing then shows as calls that place nothing
			}
		}
	})
	return nil
}

// answer acknowledges a frame.
func answer(ctx context.Context, session *acs.Client, frame acs.Envelope, instance string) error {
	var m struct {
		MessageID string `json:"messageId"`
	}
	if err := json.Unmarshal(frame.Message, &m); err != nil {
		return err
	}
	switch frame.Type {
	case acs.TypeHeartbeat:
		return session.Send(ctx, acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: m.MessageID})
	case acs.TypePayload, acs.TypeManifest:
		return session.Send(ctx, acs.TypeAck, acs.Ack{Cluster: fleetCluster, ContainerInstance: instance, MessageID: m.MessageID})
	}
	return nil
}

// connected waits until the server counts on all agents.
func (f *fleet) connected(ctx context.Context, client *ecs.Client) error {
	err := poll(ctx, 10*time.Millisecond, "the simulated agents are connected", func(ctx context.Context) (bool, error) {
		out, err := client.ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{
			Cluster: aws.String(fleetCluster), Filter: aws.String("agentConnected == true"),
		})
		return err == nil && len(out.ContainerInstanceArns) == fleetSize, err
	})
	if err != nil {
		f.close()
		return errors.Join(errors.New("the simulated agents do not connect"), err)
	}
	return nil
}

// close ends the sessions.
func (f *fleet) close() {
	f.cancel()
	f.group.Wait()
}
