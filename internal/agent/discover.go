package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

const (
	// endpointsFresh is how long the websockets' addresses are kept.
	endpointsFresh  = 12 * time.Hour
	discoverTimeout = 15 * time.Second
)

// endpoints are where the websockets are, as the control plane last said.
type endpoints struct {
	mu    sync.Mutex
	known *ecs.DiscoverPollEndpointOutput
	at    time.Time
	// doubted: a session could not be opened there, so the next one asks again.
	doubted bool
}

// discover returns where the websockets are: what the control plane said within
// 12 hours, or, while it does not answer, whatever it last said.
func (a *Agent) discover(ctx context.Context) (*ecs.DiscoverPollEndpointOutput, error) {
	e := &a.endpoints
	e.mu.Lock()
	known, age, doubted := e.known, a.now().Sub(e.at), e.doubted
	e.mu.Unlock()
	if known != nil && !doubted && age >= 0 && age < endpointsFresh {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	id := a.identity()
	out, err := a.control.DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointInput{
		Cluster: aws.String(id.Cluster), ContainerInstance: aws.String(id.ContainerInstanceARN),
	}, onlyOnce)
	if err == nil && (aws.ToString(out.Endpoint) == "" || aws.ToString(out.TelemetryEndpoint) == "") {
		err = errors.New("the control plane's answer names no endpoint to poll")
	}
	if err != nil {
		if known != nil {
			a.log.Debug("the poll endpoint could not be asked for; using the last one", "error", err)
			return known, nil
		}
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known, e.at, e.doubted = out, a.now(), false
	return out, nil
}

// doubt makes the next session ask for the endpoints again.
func (e *endpoints) doubt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubted = true
}
