package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sync/errgroup"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire/wiretest"
)

// agentsVariable makes the program the simulated agents of another one: it holds
// their configuration as JSON.
const agentsVariable = "LONGSHORE_BENCH_AGENTS"

// Amazon's agent's pauses between attempts to connect, and how often it publishes
// its (idle) telemetry.
const (
	agentBackoffMin    = 250 * time.Millisecond
	agentBackoffMax    = 2 * time.Minute
	agentBackoffFactor = 1.5
	agentBackoffJitter = 0.2
	agentPublishEvery  = 20 * time.Second
	// agentCallers bounds the API calls under way: the sockets are for sessions.
	agentCallers = 128
)

// agentsConfig is what the agents' process is told.
type agentsConfig struct {
	Endpoint string            `json:"endpoint"`
	Count    int               `json:"count"`
	Requires []types.Attribute `json:"requires"`
}

// agentsReport is what it says, one JSON object per line, whenever something
// changes.
type agentsReport struct {
	Registered int   `json:"registered"`
	Assigned   int64 `json:"assigned"`  // assignments sessions
	Telemetry  int64 `json:"telemetry"` // and telemetry sessions
	Started    int64 `json:"started"`   // tasks that were reported RUNNING
	Failed     int64 `json:"failed"`    // reports that failed
	Error      string
}

// agents is their process as the bench sees it.
type agents struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	mu     sync.Mutex
	last   agentsReport
	ended  chan struct{}
	output tail
}

// startAgents starts a process that registers and connects simulated agents.
func startAgents(ctx context.Context, c agentsConfig) (*agents, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	a := &agents{cmd: exec.CommandContext(ctx, self), ended: make(chan struct{})}
	a.cmd.Env = append(os.Environ(), agentsVariable+"="+string(config))
	a.cmd.Stderr = &a.output
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(a.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r agentsReport
			if json.Unmarshal(lines.Bytes(), &r) == nil {
				a.mu.Lock()
				a.last = r
				a.mu.Unlock()
			}
		}
	}()
	return a, nil
}

// until waits until the agents report what is wanted.
func (a *agents) until(ctx context.Context, what string, wanted func(agentsReport) bool) error {
	for {
		a.mu.Lock()
		r := a.last
		a.mu.Unlock()
		switch {
		case r.Error != "":
			return fmt.Errorf("the simulated agents: %s", r.Error)
		case wanted(r):
			return nil
		}
		select {
		case <-a.ended:
			return fmt.Errorf("the simulated agents ended before %s: %s", what, a.output.text())
		case <-ctx.Done():
			return fmt.Errorf("the simulated agents, waiting until %s, last said %+v: %w", what, r, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// close ends the process.
func (a *agents) close() {
	_ = a.stdin.Close()
	<-a.ended
	_ = a.cmd.Wait()
}

// runAgents is the process's main function: it ends with its standard input.
func runAgents(ctx context.Context, config string) error {
	var c agentsConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	// As root a process may open more files than its parent could.
	limit := syscall.Rlimit{Cur: uint64(3*c.Count + 1000), Max: uint64(3*c.Count + 1000)}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err == nil && now.Cur < limit.Cur {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return fmt.Errorf("%d agents need %d open files, %d are allowed: %w", c.Count, limit.Cur, now.Cur, err)
		}
	}
	f := &simulated{config: c, transport: &http.Transport{MaxIdleConnsPerHost: agentCallers, MaxConnsPerHost: agentCallers}}
	f.client = ecsClient(c.Endpoint, &http.Client{Transport: wiretest.PlainBodies{Transport: f.transport}, Timeout: time.Minute})
	f.callers = make(chan struct{}, agentCallers)
	done := make(chan struct{})
	go f.report(ctx, done)
	err := f.run(ctx)
	cancel()
	<-done
	if err != nil && !errors.Is(err, context.Canceled) {
		return json.NewEncoder(os.Stdout).Encode(agentsReport{Error: err.Error()})
	}
	return nil
}

// simulated is the fleet inside its process.
type simulated struct {
	config    agentsConfig
	transport *http.Transport
	client    *ecs.Client
	callers   chan struct{}

	registered, assigned, telemetry, started, failed atomic.Int64
}

func (f *simulated) report(ctx context.Context, done chan struct{}) {
	defer close(done)
	out := json.NewEncoder(os.Stdout)
	var last agentsReport
	for ctx.Err() == nil {
		now := agentsReport{
			Registered: int(f.registered.Load()), Assigned: f.assigned.Load(), Telemetry: f.telemetry.Load(),
			Started: f.started.Load(), Failed: f.failed.Load(),
		}
		if now != last {
			last = now
			_ = out.Encode(now)
		}
		_ = pause(ctx, 5*time.Millisecond)
	}
}

func (f *simulated) run(ctx context.Context) error {
	instances := make([]string, f.config.Count)
	group, registering := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range instances {
		group.Go(func() (err error) {
			instances[i], err = register(registering, f.client, f.config.Requires)
			f.registered.Add(1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	found, err := f.client.DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointInput{Cluster: aws.String(fleetCluster), ContainerInstance: &instances[0]})
	if err != nil {
		return err
	}
	var sessions sync.WaitGroup
	for _, instance := range instances {
		sessions.Go(func() {
			f.keep(ctx, aws.ToString(found.Endpoint), sessionQuery(instance), &f.assigned, f.assignments(instance))
		})
		sessions.Go(func() {
			query := url.Values{"cluster": {fleetCluster}, "containerInstance": {instance}, "agentVersion": {"1.105.0"}, "agentHash": {"bench"}}
			f.keep(ctx, aws.ToString(found.TelemetryEndpoint), query, &f.telemetry, f.publish(instance))
		})
	}
	sessions.Wait()
	return nil
}

// keep holds one session open, with the agent's pauses between attempts.
func (f *simulated) keep(ctx context.Context, endpoint string, query url.Values, open *atomic.Int64, serve func(context.Context, *acs.Client)) {
	wait := agentBackoffMin
	for ctx.Err() == nil {
		session, err := acs.Dial(ctx, endpoint, query, signFleet, &http.Client{})
		if err == nil {
			wait = agentBackoffMin
			open.Add(1)
			serve(ctx, session)
			open.Add(-1)
			_ = session.Close()
			continue // what was open is opened again at once
		}
		_ = pause(ctx, time.Duration(float64(wait)*(1+agentBackoffJitter*(2*rand.Float64()-1))))
		wait = min(time.Duration(float64(wait)*agentBackoffFactor), agentBackoffMax)
	}
}

// assignments answers frames and reports each task RUNNING that it is given.
func (f *simulated) assignments(instance string) func(context.Context, *acs.Client) {
	return func(ctx context.Context, session *acs.Client) {
		for {
			frame, err := session.Read(ctx)
			if err != nil || answer(ctx, session, frame, instance) != nil {
				return
			}
			if frame.Type != acs.TypePayload {
				continue
			}
			var p acs.Payload
			if json.Unmarshal(frame.Message, &p) != nil {
				return
			}
			for _, t := range p.Tasks {
				go f.submit(ctx, t)
			}
		}
	}
}

// submit reports a task, and tries again as agents do.
func (f *simulated) submit(ctx context.Context, t acs.Task) {
	in := &ecs.SubmitTaskStateChangeInput{Cluster: &t.TaskClusterARN, Task: &t.ARN, Status: aws.String(t.DesiredStatus)}
	for _, c := range t.Containers {
		in.Containers = append(in.Containers, types.ContainerStateChange{
			ContainerName: aws.String(c.Name), RuntimeId: aws.String("bench"), Status: aws.String(t.DesiredStatus),
		})
	}
	for ctx.Err() == nil {
		f.callers <- struct{}{}
		_, err := f.client.SubmitTaskStateChange(ctx, in)
		<-f.callers
		if err == nil {
			if t.DesiredStatus == acs.DesiredRunning {
				f.started.Add(1)
			}
			return
		}
		f.failed.Add(1)
		_ = pause(ctx, time.Second)
	}
}

// publish reads what the telemetry endpoint says, and publishes idle metrics.
func (f *simulated) publish(instance string) func(context.Context, *acs.Client) {
	return func(ctx context.Context, session *acs.Client) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			_ = pause(ctx, rand.N(agentPublishEvery))
			for ctx.Err() == nil {
				idle := acs.PublishMetrics{
					Metadata:  acs.MetricsMetadata{Cluster: fleetCluster, ContainerInstance: instance, MessageID: "m", Idle: true, Fin: true},
					Timestamp: acs.TimestampOf(time.Now()),
				}
				if session.SendSigned(ctx, acs.TypePublishMetrics, idle) != nil {
					return
				}
				_ = pause(ctx, agentPublishEvery)
			}
		}()
		for {
			if _, err := session.Read(ctx); err != nil {
				return
			}
		}
	}
}

// agentsOf is the process's configuration, if the program is to be the agents.
func agentsOf() (string, bool) {
	config := os.Getenv(agentsVariable)
	return config, strings.HasPrefix(config, "{")
}
