package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/edge/balance"
)

// at is a target of the network in memory.
func at(ip string) balance.Target { return balance.Target{ID: ip, IP: ip, Port: 80} }

// inMemory runs a test in virtual time, with a server over a network in memory.
func inMemory(t *testing.T, test func(t *testing.T, m *memory, s *rig)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		test(t, m, start(t, Options{Listen: m.Listen, Dial: m.Dial}))
	})
}

// line is what Health says of the only target.
func (r *rig) line() string {
	all := r.Health()
	if len(all) != 1 {
		return fmt.Sprint(all)
	}
	return strings.TrimSpace(all[0].State + " " + all[0].Reason)
}

func delay(seconds int) *int { return &seconds }

func TestATargetsHealthOverTime(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		var status atomic.Int64
		status.Store(200)
		var agent atomic.Value
		web := m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
			agent.Store(r.Method + " " + r.URL.Path + " " + r.Host + " " + r.UserAgent())
			if status.Load() == 0 {
				<-r.Context().Done()
				return
			}
			w.WriteHeader(int(status.Load()))
		})
		table := simple(at("10.0.0.1"))
		table.TargetGroups[0].HealthCheck = balance.HealthCheck{Path: "/healthz", IntervalSeconds: 10, TimeoutSeconds: 5, HealthyThreshold: 3, UnhealthyThreshold: 2}
		unused := table
		unused.LoadBalancers = nil
		s.apply(unused)
		synctest.Wait()
		for _, step := range []struct {
			do    func()
			after time.Duration
			want  string
		}{
			{func() {}, time.Hour, "unused Target.NotInUse"},
			{func() { s.apply(table) }, 0, "healthy"},
			{func() { status.Store(503) }, 10 * time.Second, "healthy"},
			{func() {}, 10 * time.Second, "unhealthy Target.ResponseCodeMismatch"},
			{func() { status.Store(0) }, 15 * time.Second, "unhealthy Target.Timeout"},
			{func() { status.Store(200) }, 24 * time.Second, "unhealthy Target.Timeout"},
			{func() {}, 6 * time.Second, "healthy"},
			{func() { web.Close() }, 20 * time.Second, "unhealthy Target.FailedHealthChecks"},
			{func() { table.TargetGroups[0].Targets = []balance.Target{at("10.0.0.2")}; s.apply(table) }, 0, "initial Elb.InitialHealthChecking"},
			{func() {}, 10 * time.Second, "unhealthy Target.FailedHealthChecks"},
			{func() { s.apply(unused) }, 0, "unused Target.NotInUse"},
		} {
			step.do()
			time.Sleep(step.after)
			synctest.Wait()
			if got := s.line(); got != step.want {
				t.Errorf("%s, want %s", got, step.want)
			}
		}
		if got := agent.Load(); got != "GET /healthz 10.0.0.1:80 ELB-HealthChecker/2.0" {
			t.Errorf("the check asked %s", got)
		}
	})
}

func TestUnhealthyTargetsGetNothingWhileOthersAreHealthy(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", named("1"))
		sick := m.serve(t, "10.0.0.2:80", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/check" {
				w.WriteHeader(500)
			}
			io.WriteString(w, "2")
		})
		table := simple(at("10.0.0.1"), at("10.0.0.2"))
		table.TargetGroups[0].HealthCheck = balance.HealthCheck{Path: "/check", IntervalSeconds: 5}
		s.apply(table)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		ask := func() (got string) {
			for range 4 {
				res, err := s.send(m.client(t), "GET", "/", nil)
				if err != nil {
					t.Fatal(err)
				}
				got += res.text
			}
			return got
		}
		if got := ask(); got != "1111" {
			t.Errorf("got %s from one healthy target and one that is not", got)
		}
		if c := s.Counters().TargetGroups["g"]; c.HealthyHostCount != 1 || c.UnHealthyHostCount != 1 {
			t.Errorf("%+v", c)
		}
		table.TargetGroups[0].Targets = table.TargetGroups[0].Targets[1:]
		s.apply(table)
		if got := ask(); got != "2222" {
			t.Errorf("got %s where no target is healthy: all of them serve then", got)
		}
		sick.Close()
	})
}

// A target that drains gets nothing new; what it has may end within the delay.
func TestDraining(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		slow := func(name string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
				select {
				case <-time.After(wait):
				case <-r.Context().Done():
				}
				io.WriteString(w, name)
			}
		}
		m.serve(t, "10.0.0.1:80", slow("1"))
		m.serve(t, "10.0.0.2:80", slow("2"))
		table := simple(at("10.0.0.1"))
		table.LoadBalancers[0].IdleTimeoutSeconds = 600
		table.TargetGroups[0].DeregistrationDelaySeconds = delay(30)
		s.healthy(table)
		results := make(chan string, 2)
		for _, wait := range []string{"20s", "40s"} {
			go func() {
				res, err := s.send(m.client(t), "GET", "/?wait="+wait, nil)
				results <- fmt.Sprint(wait, " ", res.StatusCode, " ", err)
			}()
		}
		synctest.Wait()
		drained := at("10.0.0.1")
		drained.Draining = true
		table.TargetGroups[0].Targets = []balance.Target{drained, at("10.0.0.2")}
		s.healthy(table)
		began := time.Now()
		for range 3 {
			if res, err := s.send(m.client(t), "GET", "/", nil); err != nil || res.text != "2" {
				t.Errorf("%q, %v", res.text, err)
			}
		}
		if h := s.Health()[0]; h.State != "draining" || h.Reason != "Target.DeregistrationInProgress" || h.InFlight != 2 {
			t.Errorf("%+v", h)
		}
		if got := <-results; got != "20s 200 <nil>" {
			t.Error(got)
		}
		if got := <-results; got != "40s 502 <nil>" {
			t.Error(got)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it ended after %v, want 30s", took)
		}
		synctest.Wait()
		if h := s.Health()[0]; h.State != "unused" || h.Reason != "Target.NotRegistered" || h.InFlight != 0 {
			t.Errorf("%+v", h)
		}
	})
}

func TestIdleTimeouts(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			inMemory(t, func(t *testing.T, m *memory, s *rig) { idleTimeouts(t, m, s, version) })
		})
	}
}

func idleTimeouts(t *testing.T, m *memory, s *rig, version string) {
	m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/drip":
			for range 5 {
				time.Sleep(8 * time.Second)
				io.WriteString(w, ".")
				control.Flush()
			}
		case "/stop":
			io.WriteString(w, "some")
			control.Flush()
			<-r.Context().Done()
		case "/hang":
			<-r.Context().Done()
		}
		io.Copy(io.Discard, r.Body)
	})
	table := simple(at("10.0.0.1"))
	table.LoadBalancers[0].IdleTimeoutSeconds = 10
	s.healthy(table)
	stalled, end := io.Pipe()
	defer end.Close()
	for path, want := range map[string]string{"/drip": "200 ..... whole 40s", "/hang": "504  whole 10s", "/stop": "200 some broken 10s", "/stall": "408  whole 10s"} {
		client := m.client(t)
		if version == "HTTP/2.0" {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			client.Transport.(*http.Transport).Protocols = protocols
		}
		var body io.Reader
		if path == "/stall" {
			body = stalled
		}
		began := time.Now()
		res, err := s.send(client, "POST", path, body)
		if res.Response == nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if strings.HasPrefix(res.text, "<html>") {
			res.text = ""
		}
		end := "whole"
		if err != nil {
			end = "broken"
		}
		if got := fmt.Sprint(res.StatusCode, " ", res.text, " ", end, " ", time.Since(began)); got != want || res.Proto != version {
			t.Errorf("%s: %s, want %s, by %s", path, got, want, res.Proto)
		}
	}
	if c := s.Counters().LoadBalancers["lb"]; c.ELB504 != 1 || c.ELB.Code4XX != 1 {
		t.Errorf("%+v", c)
	}
}

// Nor does one that does not finish its request's headers, or sends none.
func TestClientsThatSayNothingAreLeft(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", named("ok"))
		table := simple(at("10.0.0.1"))
		table.LoadBalancers[0].IdleTimeoutSeconds = 10
		s.healthy(table)
		for _, said := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
			began := time.Now()
			c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, said)
			io.Copy(io.Discard, c)
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("after %q it was left after %v", said, took)
			}
			c.Close()
		}
		synctest.Wait()
		if n := s.Counters().LoadBalancers["lb"].ActiveConnectionCount; n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

// A client's connection ends with the first response after its keep-alive time.
func TestClientKeepAlive(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", named("ok"))
		table := simple(at("10.0.0.1"))
		table.LoadBalancers[0].ClientKeepAliveSeconds = 100
		s.healthy(table)
		client := m.client(t)
		for i := range 6 {
			res, err := s.send(client, "GET", "/", nil)
			if err != nil || res.Close != (i == 3) {
				t.Errorf("request %d: %v, closing %v", i, err, res.Close)
			}
			time.Sleep(35 * time.Second)
		}
		if n := s.Counters().LoadBalancers["lb"].NewConnectionCount; n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// A client that does not read holds nothing for longer than the idle timeout.
func TestAClientThatStopsReadingIsLeft(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/big" {
				for r.Context().Err() == nil {
					w.Write(make([]byte, 64<<10))
				}
			}
		})
		table := simple(at("10.0.0.1"))
		table.LoadBalancers[0].IdleTimeoutSeconds = 10
		s.healthy(table)
		c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(5 * time.Second)
		if n := s.Health()[0].InFlight; n != 1 {
			t.Errorf("%d in flight after 5s", n)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := s.Health()[0].InFlight; n != 0 {
			t.Errorf("%d in flight after the idle timeout", n)
		}
	})
}

func TestATargetThatCannotBeReachedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		s := start(t, Options{Listen: m.Listen, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		s.apply(simple(at("10.0.0.1"), at("10.0.0.2")))
		began := time.Now()
		res, err := s.send(m.client(t), "GET", "/", nil)
		if err != nil || res.StatusCode != 504 || time.Since(began) != dialTimeout {
			t.Errorf("%d %v after %v", res.StatusCode, err, time.Since(began))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if h := s.Health()[0]; h.Reason != "Target.Timeout" {
			t.Errorf("%+v", h)
		}
	})
}

func TestSlowStart(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", named("1"))
		m.serve(t, "10.0.0.2:80", named("2"))
		table := simple(at("10.0.0.1"))
		table.TargetGroups[0].SlowStartSeconds = 30
		s.healthy(table)
		time.Sleep(time.Minute)
		table.TargetGroups[0].Targets = append(table.TargetGroups[0].Targets, at("10.0.0.2"))
		s.healthy(table)
		client := m.client(t)
		count := func() (fresh int) {
			for range 200 {
				res, err := s.send(client, "GET", "/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if res.text == "2" {
					fresh++
				}
			}
			return fresh
		}
		if n := count(); n > 50 {
			t.Errorf("in its first moment the target got %d of 200", n)
		}
		time.Sleep(30 * time.Second)
		if n := count(); n != 100 {
			t.Errorf("after its slow start it got %d of 200", n)
		}
	})
}

// The end of Run lets requests end, and cuts them when the time is over.
func TestTheEndDrains(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		want  string
	}{"in time": {20 * time.Second, "200 done <nil> 20s"}, "too late": {time.Minute, "502  <nil> 30s"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{}
				s := start(t, Options{Listen: m.Listen, Dial: m.Dial, DrainTimeout: 30 * time.Second})
				m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						select {
						case <-time.After(c.takes):
						case <-r.Context().Done():
						}
						io.WriteString(w, "done")
					}
				})
				s.healthy(simple(at("10.0.0.1")))
				began := time.Now()
				result := make(chan string)
				go func() {
					res, err := s.send(m.client(t), "GET", "/slow", nil)
					if res.Response == nil || res.StatusCode != 200 {
						res.text = ""
					}
					status := 0
					if res.Response != nil {
						status = res.StatusCode
					}
					result <- fmt.Sprint(status, " ", res.text, " ", err, " ", time.Since(began))
				}()
				synctest.Wait()
				address := s.Addr("l").String()
				go s.stop()
				synctest.Wait()
				if _, err := m.Dial(t.Context(), "tcp", address); err == nil {
					t.Error("it still listens")
				}
				if got := <-result; got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				s.stop()
				if err := s.Apply(simple()); !errors.Is(err, ErrClosed) {
					t.Errorf("a table after the end: %v", err)
				}
			})
		})
	}
}

// A target that comes back while it drains is registered anew; what it had ends by itself.
func TestATargetThatComesBack(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				time.Sleep(20 * time.Second)
			}
			io.WriteString(w, "ok")
		})
		table := simple(at("10.0.0.1"))
		s.healthy(table)
		result := make(chan string)
		go func() {
			res, err := s.send(m.client(t), "GET", "/slow", nil)
			result <- fmt.Sprint(res.text, " ", err)
		}()
		synctest.Wait()
		drained := simple(balance.Target{ID: "10.0.0.1", IP: "10.0.0.1", Port: 80, Draining: true})
		s.apply(drained)
		if res, err := s.send(m.client(t), "GET", "/", nil); err != nil || res.StatusCode != 503 {
			t.Errorf("while it drains: %d %v", res.StatusCode, err)
		}
		s.apply(table)
		if res, err := s.send(m.client(t), "GET", "/", nil); err != nil || res.text != "ok" {
			t.Errorf("when it is back: %q %v", res.text, err)
		}
		synctest.Wait()
		if got := s.line(); got != "healthy" {
			t.Error(got)
		}
		if got := <-result; got != "ok <nil>" {
			t.Errorf("what it had: %s", got)
		}
	})
}

// The Host header names the listener's port, unless it is the protocol's own, or the
// header is preserved.
func TestHostHeader(t *testing.T) {
	for _, c := range []struct {
		port       int
		preserve   bool
		host, want string
	}{
		{80, false, "a.example.com", "a.example.com"},
		{80, false, "a.example.com:80", "a.example.com"},
		{80, false, "[2001:db8::1]:80", "[2001:db8::1]"},
		{80, false, "a.example.com:81", "a.example.com:81"},
		{80, true, "a.example.com:80", "a.example.com:80"},
		{8080, false, "a.example.com", "a.example.com:8080"},
		{8080, false, "a.example.com:8080", "a.example.com:8080"},
		{8080, true, "a.example.com", "a.example.com"},
	} {
		inMemory(t, func(t *testing.T, m *memory, s *rig) {
			m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
			table := simple(at("10.0.0.1"))
			table.LoadBalancers[0].PreserveHost = c.preserve
			table.LoadBalancers[0].Listeners[0].Port = c.port
			s.healthy(table)
			if res, err := s.send(m.client(t), "GET", "/", nil, "Host", c.host); err != nil || res.text != c.want {
				t.Errorf("%+v: %q %v", c, res.text, err)
			}
		})
	}
}

func TestAClientThatLeavesIsCounted(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		gone := make(chan struct{})
		m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
				close(gone)
			}
		})
		s.healthy(simple(at("10.0.0.1")))
		c, err := m.Dial(t.Context(), "tcp", s.Addr("l").String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		c.Close()
		<-gone // The target is told.
		synctest.Wait()
		if lb := s.Counters().LoadBalancers["lb"]; lb.ELB.Code4XX != 1 || lb.ELB.Code5XX != 0 || lb.ActiveConnectionCount != 0 {
			t.Errorf("%+v", lb)
		}
	})
}

func TestChangedChecksAreMadeAtOnce(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/good" {
				w.WriteHeader(404)
			}
		})
		table := simple(at("10.0.0.1"))
		table.TargetGroups[0].HealthCheck = balance.HealthCheck{Path: "/bad", IntervalSeconds: 300}
		s.apply(table)
		time.Sleep(301 * time.Second)
		synctest.Wait()
		if got := s.line(); got != "unhealthy Target.ResponseCodeMismatch" {
			t.Error(got)
		}
		better := simple(at("10.0.0.1"))
		better.TargetGroups[0].HealthCheck = balance.HealthCheck{Path: "/good", IntervalSeconds: 5, HealthyThreshold: 2}
		s.apply(better)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := s.line(); got != "healthy" {
			t.Error(got)
		}
	})
}

// A socket can become one of another protocol, or of another load balancer.
func TestASocketChangesHands(t *testing.T) {
	inMemory(t, func(t *testing.T, m *memory, s *rig) {
		m.serve(t, "10.0.0.1:80", named("web"))
		http1 := simple(at("10.0.0.1"))
		http1.LoadBalancers[0].Listeners[0].Port = 80
		tcp := layer4(simple(at("10.0.0.1")), balance.TCP)
		tcp.LoadBalancers[0].Listeners[0].Port = 80
		other := simple(at("10.0.0.1"))
		other.LoadBalancers[0].ID, other.LoadBalancers[0].Listeners[0].Port = "lb2", 80
		client := m.client(t)
		for i, table := range []balance.Table{http1, tcp, other, http1} {
			s.apply(table)
			synctest.Wait()
			if res, err := s.send(client, "GET", "/", nil); err != nil || res.text != "web" {
				t.Errorf("table %d: %q %v", i, res.text, err)
			}
			client.CloseIdleConnections()
		}
		none := http1
		none.LoadBalancers = []balance.LoadBalancer{http1.LoadBalancers[0]}
		none.LoadBalancers[0].Listeners = []balance.Listener{http1.LoadBalancers[0].Listeners[0]}
		none.LoadBalancers[0].Listeners[0].DefaultActions = []balance.Action{{Type: balance.ForwardAction, Forward: &balance.Forward{
			Groups: []balance.WeightedGroup{{ID: "g"}, {ID: "g"}}}}}
		s.apply(none)
		if res, err := s.send(client, "GET", "/", nil); err != nil || res.StatusCode != 503 {
			t.Errorf("with no weights: %d %v", res.StatusCode, err)
		}
	})
}
