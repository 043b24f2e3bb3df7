package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/nodestate"
)

// plane is a control plane with one table, and what edges tell it.
type plane struct {
	*httptest.Server
	hub *nodestate.Hub

	mu     sync.Mutex
	table  balance.Table
	health Health
	// processes are what each has told last.
	processes map[string]Health
}

func newPlane(t *testing.T) *plane {
	p := &plane{hub: nodestate.NewHub(), processes: map[string]Health{}}
	p.hub.Provide(Kind, func(nodestate.Viewer) (nodestate.Entries, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return Entries(&p.table)
	})
	mux := http.NewServeMux()
	mux.HandleFunc(StatePath, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			t.Error("the edge asks without a signature")
		}
		_ = p.hub.Serve(w, r, nodestate.Viewer{NodeID: "n"})
	})
	mux.HandleFunc(HealthPath, func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.health = Health{}
		if err := json.NewDecoder(r.Body).Decode(&p.health); err != nil {
			t.Error(err)
		}
		p.processes[p.health.Process] = p.health
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// serve balances to a backend, on a port that is free.
func (p *plane) serve(t *testing.T, backend string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	host, target, err := net.SplitHostPort(backend)
	if err != nil {
		t.Fatal(err)
	}
	number, _ := strconv.Atoi(target)
	p.mu.Lock()
	p.table = balance.Table{
		LoadBalancers: []balance.LoadBalancer{{ID: "lb", Listeners: []balance.Listener{{
			ID: "l", Address: "127.0.0.1", Port: port, Protocol: balance.HTTP,
			DefaultActions: []balance.Action{{Type: balance.ForwardAction, Forward: &balance.Forward{Groups: []balance.WeightedGroup{{ID: "g", Weight: 1}}}}},
		}}}},
		TargetGroups: []balance.TargetGroup{{ID: "g", Protocol: balance.HTTP, Targets: []balance.Target{{ID: "i-1", IP: host, Port: number}}, HealthCheck: balance.HealthCheck{HealthyThreshold: 2, IntervalSeconds: 5}}},
	}
	p.mu.Unlock()
	p.hub.Changed(Kind)
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// process runs an edge; the returned function waits for its end.
func (p *plane) process(t *testing.T, run, state, identity string) (wait func() error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	c := Config{Server: p.URL, Region: "eu-west-1", AccessKeyID: "AKIA", SecretAccessKey: "secret", RunDir: run, StateDir: state, Identity: identity}
	go func() { done <- Run(ctx, c, slog.New(slog.DiscardHandler)) }()
	wait = sync.OnceValue(func() error { return <-done })
	t.Cleanup(func() {
		cancel()
		if err := wait(); err != nil {
			t.Errorf("the edge %s ended with %v", identity, err)
		}
	})
	until(t, "the edge "+identity+" answers", func() bool {
		status, err := Configure(run, c)
		return err == nil && status.Identity == identity
	})
	return wait, cancel
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 2000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

func backend(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func served(url string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "served" {
		return fmt.Errorf("%s %q %w", response.Status, body, err)
	}
	return nil
}

// The edge serves what the server tells it, tells how the targets are, and serves on
// while the server is away, also after a start of its own.
func TestEdgeServesWithoutItsServer(t *testing.T) {
	p, run, state := newPlane(t), t.TempDir(), t.TempDir()
	wait, stop := p.process(t, run, state, "first")
	url := p.serve(t, backend(t))
	until(t, "a request is served", func() bool { return served(url) == nil })
	until(t, "the target's health is told", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.health.Targets) == 1 && p.health.Targets[0].TargetID == "i-1" && p.health.Targets[0].State != ""
	})
	p.CloseClientConnections()
	p.Close()
	if err := served(url); err != nil {
		t.Errorf("without the server: %v", err)
	}
	stop()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	p.process(t, run, state, "second")
	until(t, "a request is served by what was kept", func() bool { return served(url) == nil })
	raw, err := os.ReadFile(state + "/balancers")
	if err != nil || len(raw) == 0 || json.Valid(raw) {
		t.Errorf("the state is kept as %q, %v", raw, err)
	}
}

// A process that takes over gets the sockets: no request fails, and the one before ends.
func TestEdgeIsReplacedUnderLoad(t *testing.T) {
	p, run, state := newPlane(t), t.TempDir(), t.TempDir()
	first, _ := p.process(t, run, state, "first")
	url := p.serve(t, backend(t))
	until(t, "a request is served", func() bool { return served(url) == nil })
	var requests, failed atomic.Int64
	var load sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				requests.Add(1)
				if err := served(url); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	p.process(t, run, state, "second")
	if err := first(); err != nil {
		t.Errorf("the first ended with %v", err)
	}
	end()
	load.Wait()
	if err := served(url); err != nil || requests.Load() == 0 || failed.Load() > 0 {
		t.Errorf("%d of %d requests failed; then %v", failed.Load(), requests.Load(), err)
	}
}

// A connection that the process before still has follows the table: a target that is
// deregistered after the hand-over gets nothing from it, and the server hears of what it has
// until it ends.
func TestReplacedEdgeFollowsTheTable(t *testing.T) {
	p, run, state := newPlane(t), t.TempDir(), t.TempDir()
	wait, _ := p.process(t, run, state, "first")
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	named := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
		_, _ = io.WriteString(w, "first target")
	}))
	t.Cleanup(named.Close)
	t.Cleanup(release)
	url := p.serve(t, named.Listener.Addr().String())
	until(t, "a request is served", func() bool { return page(http.DefaultClient, url) == "first target" })
	kept := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer kept.CloseIdleConnections()
	if said := page(kept, url); said != "first target" {
		t.Fatal(said)
	}
	held := make(chan string)
	go func() { held <- page(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, url+"/hold") }()
	until(t, "the request that is held is told of", func() bool { return len(p.inFlight(1)) == 1 })
	old := p.inFlight(1)[0]

	p.process(t, run, state, "second")
	host, port, _ := net.SplitHostPort(backend(t))
	number, _ := strconv.Atoi(port)
	p.mu.Lock()
	p.table.TargetGroups[0].Targets[0].Draining = true
	p.table.TargetGroups[0].Targets = append(p.table.TargetGroups[0].Targets, balance.Target{ID: "i-2", IP: host, Port: number})
	p.mu.Unlock()
	p.hub.Changed(Kind)
	until(t, "the process before tells that the target drains", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		targets := p.processes[old].Targets
		return len(targets) == 2 && targets[0].State == balance.Draining && targets[0].InFlight == 1
	})
	if said := page(kept, url); said != "served" {
		t.Errorf("the connection of before got %q", said)
	}
	release()
	if said := <-held; said != "first target" {
		t.Errorf("the request that was held got %q", said)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
	until(t, "the process before tells of its end", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.processes[old].Ends
	})
}

// inFlight are the processes that tell of so many requests.
func (p *plane) inFlight(n int) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for process, h := range p.processes {
		if len(h.Targets) > 0 && h.Targets[0].InFlight == n {
			all = append(all, process)
		}
	}
	return all
}

func page(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// An edge that is told to end does, and where none runs that is no error.
func TestEdgeStops(t *testing.T) {
	p, run := newPlane(t), t.TempDir()
	wait, _ := p.process(t, run, t.TempDir(), "only")
	if err := Stop(run); err != nil {
		t.Fatal(err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
	if err := Stop(run); err != nil {
		t.Error(err)
	}
	if _, err := Configure(run, Config{}); err == nil {
		t.Error("something answers")
	}
}
