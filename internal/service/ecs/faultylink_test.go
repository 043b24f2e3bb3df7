package ecs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire"
)

// faultyAgent is an agent whose messages are lost, late, repeated and reordered,
// in both directions, and whose connection is cut. What it runs survives that.
type faultyAgent struct {
	r        *room
	instance string
	client   *http.Client

	mu     sync.Mutex
	rnd    *rand.Rand
	faults bool
	states map[string]string // task → RUNNING or STOPPED
	starts map[string]int
	wait   sync.WaitGroup
}

// chance draws a fault of n percent, while there are faults.
func (a *faultyAgent) chance(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.faults && a.rnd.IntN(100) < n
}

// pause draws a delay of up to d.
func (a *faultyAgent) pause(d time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Duration(a.rnd.Int64N(int64(d)))
}

// later does f after a while, so that what was sent first may come last.
func (a *faultyAgent) later(d time.Duration, f func()) {
	a.wait.Go(func() {
		time.Sleep(a.pause(d))
		f()
	})
}

// serve keeps sessions open until ctx ends.
func (a *faultyAgent) serve(ctx context.Context) {
	for ctx.Err() == nil {
		client, err := acs.Dial(ctx, "http://acs", url.Values{"clusterArn": {"default"}, "containerInstanceArn": {a.instance}},
			func(*http.Request, []byte) error { return nil }, a.client)
		if err == nil {
			a.session(ctx, client)
		}
		time.Sleep(a.pause(3 * time.Second))
	}
}

func (a *faultyAgent) session(ctx context.Context, client *acs.Client) {
	defer client.Close()
	for {
		frame, err := client.Read(ctx)
		if err != nil || a.chance(4) { // cut
			return
		}
		copies := 1
		switch {
		case frame.Type == acs.TypeHeartbeat:
			var beat acs.Heartbeat
			_ = json.Unmarshal(frame.Message, &beat)
			_ = client.Send(ctx, acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: beat.MessageID})
			continue
		case a.chance(15): // lost
			continue
		case a.chance(15):
			copies = 2
		}
		for range copies {
			if a.chance(30) {
				a.later(20*time.Second, func() { a.take(ctx, client, frame) })
			} else {
				a.take(ctx, client, frame)
			}
		}
	}
}

// take handles a frame as agents do: tasks are known by their ARN, and what has
// ended does not begin again.
func (a *faultyAgent) take(ctx context.Context, client *acs.Client, frame acs.Envelope) {
	var m struct {
		MessageID string             `json:"messageId"`
		Tasks     []acs.ManifestTask `json:"tasks"`
	}
	var p acs.Payload
	switch frame.Type {
	case acs.TypePayload:
		if json.Unmarshal(frame.Message, &p) == nil {
			for _, t := range p.Tasks {
				a.want(t.ARN, t.DesiredStatus)
			}
		}
	case acs.TypeManifest:
		if json.Unmarshal(frame.Message, &m) == nil {
			a.verify(ctx, client, m.MessageID, m.Tasks)
		}
	case acs.TypeStopVerificationAk:
		var stop acs.StopVerificationAck
		if json.Unmarshal(frame.Message, &stop) == nil {
			for _, t := range stop.StopTasks {
				a.want(t.TaskARN, "STOPPED")
			}
		}
		return
	}
	_ = json.Unmarshal(frame.Message, &m)
	if !a.chance(15) {
		_ = client.Send(ctx, acs.TypeAck, acs.Ack{MessageID: m.MessageID})
	}
}

func (a *faultyAgent) verify(ctx context.Context, client *acs.Client, message string, listed []acs.ManifestTask) {
	known := map[string]bool{}
	for _, t := range listed {
		known[t.TaskARN] = true
	}
	ask := acs.StopVerification{MessageID: message}
	a.mu.Lock()
	for arn, status := range a.states {
		if status == "RUNNING" && !known[arn] {
			ask.StopCandidates = append(ask.StopCandidates, acs.ManifestTask{TaskARN: arn})
		}
	}
	a.mu.Unlock()
	if len(ask.StopCandidates) > 0 {
		_ = client.Send(ctx, acs.TypeStopVerification, ask)
	}
}

func (a *faultyAgent) want(arn, desired string) {
	a.mu.Lock()
	was := a.states[arn]
	begin := was == "" && desired == "RUNNING"
	end := was != "STOPPED" && desired == "STOPPED"
	alone := begin && a.rnd.IntN(4) == 0
	if begin || end {
		a.states[arn] = desired
	}
	if begin {
		a.starts[arn]++
	}
	a.mu.Unlock()
	if begin || end {
		a.report(arn, desired)
	}
	if alone { // its process ends by itself
		a.later(time.Minute, func() { a.want(arn, "STOPPED") })
	}
}

// report submits a status until it is acknowledged, and perhaps once more.
func (a *faultyAgent) report(arn, status string) {
	a.later(15*time.Second, func() {
		for again := true; again; {
			again = a.chance(30) // the call or its answer is lost
			if again && a.chance(50) {
				time.Sleep(a.pause(10 * time.Second))
				continue
			}
			c := running("main")
			if status == "STOPPED" {
				c = stopped("main", 0)
			}
			_, err := a.r.SubmitTaskStateChange(asNode("n1"), &ecs.SubmitTaskStateChangeInput{
				Cluster: aws.String("default"), Task: &arn, Status: &status, Containers: []types.ContainerStateChange{c},
			})
			if err != nil {
				a.r.t.Errorf("submit %s: %v", status, err)
			}
			time.Sleep(a.pause(10 * time.Second))
		}
	})
}

func TestFaultyLinksConvergeAndStartNothingTwice(t *testing.T) {
	seeds := 12
	if os.Getenv("LONGSHORE_SOAK") != "" {
		seeds = 500
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { faultyRun(t, uint64(seed)) })
		})
	}
}

func faultyRun(t *testing.T, seed uint64) {
	r := newRoom(t)
	ci := r.join("n1", "default", 100_000, 100_000)
	a := &faultyAgent{r: r, instance: *ci.ContainerInstanceArn, rnd: rand.New(rand.NewPCG(seed, 7)), faults: true,
		states: map[string]string{}, starts: map[string]int{}}
	end := sync.OnceFunc(a.connect())
	defer end()
	r.define(simple("web", 1, 1))
	var arns []string
	for len(arns) < 40 {
		out := r.run(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
		for _, task := range out.Tasks {
			arns = append(arns, *task.TaskArn)
		}
		if len(out.Tasks) == 0 { // the agent is away
			time.Sleep(time.Second)
			continue
		}
		if a.chance(40) {
			if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &arns[a.pause(time.Duration(len(arns)))]}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(a.pause(8 * time.Second))
	}
	a.mu.Lock()
	a.faults = false
	a.mu.Unlock()
	time.Sleep(5 * time.Minute)
	end()
	a.wait.Wait()
	for _, arn := range arns {
		task := r.describe("default", arn)
		here := a.states[arn]
		if a.starts[arn] > 1 {
			t.Errorf("%s was started %d times", arn, a.starts[arn])
		}
		if *task.LastStatus != here || *task.DesiredStatus != here {
			t.Errorf("%s is %s (desired %s) in the API and %q on the node", arn, *task.LastStatus, *task.DesiredStatus, here)
		}
	}
}

// connect starts a server of the room's sessions, over pipes, and the agent.
func (a *faultyAgent) connect() (stop func()) {
	sessions := acs.NewServer(a.r.Service, func(*http.Request, []byte) (wire.Principal, string, error) {
		return wire.Principal{Kind: wire.PrincipalNode, NodeID: "n1", AccountID: testAccount}, testRegion, nil
	}, a.r.id, slog.New(slog.DiscardHandler))
	listener := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", sessions.ServeACS)
	server := &http.Server{Handler: mux}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(listener) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case listener.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	a.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(context.Background())
	done.Go(func() { a.serve(ctx) })
	return func() {
		cancel()
		sessions.Close()
		transport.CloseIdleConnections()
		_ = server.Close()
		done.Wait()
	}
}

// pipeListener accepts connections that need no network.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error   { close(p.done); return nil }
func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
