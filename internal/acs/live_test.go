package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// pipes is a listener without a network, for servers in virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// virtual is a server in virtual time, for a test in a synctest bubble.
type virtual struct {
	*plane
	t      *testing.T
	client *http.Client
	server *Server
}

func startVirtual(t *testing.T) *virtual {
	t.Helper()
	v := &virtual{plane: &plane{wakes: map[int]func(string){}}, t: t}
	var n atomic.Int64
	v.server = NewServer(v.plane, authenticate, func() string { return fmt.Sprint("m", n.Add(1)) }, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /acs/ws", v.server.ServeACS)
	mux.HandleFunc("GET /tcs/ws", v.server.ServeTCS)
	listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case listener.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	v.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		v.server.Close()
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
	return v
}

// socket opens a bare websocket, whose frames nobody answers by itself; more are
// further parameters, "name=value".
func (v *virtual) socket(path, instance string, more ...string) *websocket.Conn {
	v.t.Helper()
	header := http.Header{"Authorization": {"node 0"}}
	target := "http://acs" + path + "/ws?" + url.Values{"clusterArn": {"default"}, "containerInstanceArn": {instance}, "containerInstance": {instance}}.Encode()
	target = strings.Join(append([]string{target}, more...), "&")
	conn, _, err := websocket.Dial(v.t.Context(), target, &websocket.DialOptions{HTTPHeader: header, HTTPClient: v.client})
	if err != nil {
		v.t.Fatal(err)
	}
	conn.SetReadLimit(maxFrame)
	v.t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// frame reads one frame.
func frame(t *testing.T, conn *websocket.Conn) (Envelope, error) {
	t.Helper()
	_, data, err := conn.Read(t.Context())
	if err != nil {
		return Envelope{}, err
	}
	var e Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatalf("frame %q: %v", data, err)
	}
	return e, nil
}

// closeCode reads until the server ends the session, and returns its close code.
func closeCode(t *testing.T, conn *websocket.Conn) websocket.StatusCode {
	t.Helper()
	for {
		if _, err := frame(t, conn); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func (p *plane) counts() (opened, closed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.opened), len(p.closed)
}

func TestHeartbeatsComeWithinAMinuteForHours(t *testing.T) {
	for _, path := range []string{"/acs", "/tcs"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t)
				conn := v.socket(path, "i")
				last := time.Now()
				for beats := 0; beats < 300; {
					e, err := frame(t, conn)
					if err != nil {
						t.Fatalf("after %d heartbeats: %v", beats, err)
					}
					if gap := time.Since(last); gap >= time.Minute {
						t.Fatalf("nothing came for %s", gap)
					}
					if last = time.Now(); e.Type != TypeHeartbeat {
						continue
					}
					beats++
					if path == "/acs" {
						var beat Heartbeat
						if err := json.Unmarshal(e.Message, &beat); err != nil || beat.MessageID == "" || !beat.Healthy {
							t.Fatalf("heartbeat %s", e.Message)
						}
						if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"HeartbeatAckRequest","message":{"messageId":"`+beat.MessageID+`"}}`)); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		})
	}
}

// An agent whose machine lost its power sends no more packets, and no FIN.
func TestHalfOpenSocketsEndInBoundedTime(t *testing.T) {
	for _, path := range []string{"/acs", "/tcs"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t)
				conn, err := v.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				r, err := http.NewRequest(http.MethodGet, "http://acs"+path+"/ws?containerInstanceArn=i", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header = http.Header{
					"Authorization": {"node 0"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
					"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
				}
				go func() { _, _ = io.Copy(io.Discard, conn) }() // the network takes everything
				if err := r.Write(conn); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				start := time.Now()
				v.server.running.Wait()
				if took := time.Since(start); took < silenceLimit/2 || took > 2*time.Minute {
					t.Fatalf("a silent agent was given up after %s", took)
				}
				if opened, closed := v.counts(); opened != closed {
					t.Fatalf("%d sessions opened, %d closed", opened, closed)
				}
			})
		})
	}
}

// A reader that takes nothing must not hold the session, or anybody else's.
func TestSlowReaderIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		big := running("task/big")
		big.Render = func() (Task, error) {
			return Task{ARN: "task/big", Containers: []Container{{Name: "c", Image: strings.Repeat("x", 1<<20)}}}, nil
		}
		v.set(big)
		start := time.Now()
		v.socket("/acs", "slow")
		other := v.socket("/acs", "other")
		if e, err := frame(t, other); err != nil || e.Type != TypePayload {
			t.Fatalf("the other agent got %s %v", e.Type, err)
		}
		if time.Since(start) > time.Second {
			t.Fatalf("the other agent waited %s", time.Since(start))
		}
		for {
			time.Sleep(time.Second)
			v.mu.Lock()
			ended := slices.ContainsFunc(v.closed, func(s Session) bool { return s.Instance == "slow" })
			v.mu.Unlock()
			if ended {
				break
			}
			if time.Since(start) > time.Minute {
				t.Fatal("the slow reader's session goes on")
			}
		}
	})
}

func TestLaterSessionSupersedesTheEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		first := v.socket("/acs", "i")
		if e, err := frame(t, first); err != nil || e.Type != TypeManifest {
			t.Fatalf("first frame %s %v", e.Type, err)
		}
		stranger := v.socket("/acs", "other instance")
		second := v.socket("/acs", "i")
		if code := closeCode(t, first); code != websocket.StatusPolicyViolation {
			t.Fatalf("the earlier session ended with %d, want 1008: its agent must not come back at once", code)
		}
		e, err := frame(t, second)
		if err != nil || e.Type != TypeManifest {
			t.Fatalf("the later session got %s %v", e.Type, err)
		}
		if e, err := frame(t, stranger); err != nil || e.Type != TypeManifest {
			t.Fatalf("another instance's session got %s %v", e.Type, err)
		}
		synctest.Wait()
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.opened) != 3 || len(v.closed) != 1 || v.closed[0].ID != v.opened[0].ID {
			t.Fatalf("opened %d, closed %d sessions; want the first closed alone", len(v.opened), len(v.closed))
		}
	})
}

// Who is not admitted ends nobody's session, and neither does a request that
// is no websocket handshake.
func TestRefusedHandshakesChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		conn := v.socket("/acs", "i")
		if _, err := frame(t, conn); err != nil {
			t.Fatal(err)
		}
		request := func(change func(http.Header)) int {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://acs/acs/ws?containerInstanceArn=i", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "node 0")
			change(r.Header)
			answer, err := v.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var body Rejection
			if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Type == "" || body.Message.Message == "" {
				t.Fatalf("the refusal %+v %v does not say why", body, err)
			}
			return answer.StatusCode
		}
		upgrade := func(h http.Header) {
			h.Set("Connection", "keep-alive, Upgrade")
			h.Set("Upgrade", "websocket")
			h.Set("Sec-WebSocket-Version", "13")
			h.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		}
		for name, change := range map[string]func(http.Header){
			"a plain GET":   func(http.Header) {},
			"a short key":   func(h http.Header) { upgrade(h); h.Set("Sec-WebSocket-Key", "AAAA") },
			"version 8":     func(h http.Header) { upgrade(h); h.Set("Sec-WebSocket-Version", "8") },
			"two keys":      func(h http.Header) { upgrade(h); h.Add("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==") },
			"no signature":  func(h http.Header) { upgrade(h); h.Del("Authorization") },
			"a foreign one": func(h http.Header) { upgrade(h); h.Set("Authorization", "node 7") },
		} {
			if status := request(change); status != http.StatusBadRequest {
				t.Errorf("%s: status %d", name, status)
			}
		}
		v.mu.Lock()
		v.refuse = ErrInactiveInstance
		v.mu.Unlock()
		if status := request(upgrade); status != http.StatusBadRequest {
			t.Errorf("an inactive instance: status %d", status)
		}
		synctest.Wait()
		if opened, closed := v.counts(); opened != 1 || closed != 0 {
			t.Fatalf("opened %d, closed %d sessions; want the one that is there", opened, closed)
		}
	})
}

func TestEndsAreToldByTheirCloseCodes(t *testing.T) {
	signed := func(body string) []byte {
		return JoinSignedFrame(http.Header{"Authorization": {fmt.Sprintf("node %d", len(body))}}, []byte(body))
	}
	for _, c := range []struct {
		name, path string
		frame      []byte
		end        func(*virtual)
		want       websocket.StatusCode
	}{
		{name: "the server stops", path: "/acs", end: func(v *virtual) { go v.server.Close() }, want: websocket.StatusGoingAway},
		{name: "the server stops (telemetry)", path: "/tcs", end: func(v *virtual) { go v.server.Close() }, want: websocket.StatusGoingAway},
		{name: "deregistered", path: "/acs", end: func(v *virtual) {
			v.mu.Lock()
			v.refuse = ErrInactiveInstance
			v.mu.Unlock()
			v.set()
		}, want: websocket.StatusNormalClosure},
		{name: "deregistered (telemetry)", path: "/tcs", end: func(v *virtual) {
			v.mu.Lock()
			v.refuse = ErrInactiveInstance
			v.mu.Unlock()
		}, want: websocket.StatusNormalClosure},
		{name: "the store fails", path: "/acs", end: func(v *virtual) {
			v.mu.Lock()
			v.refuse = errors.New("no quorum")
			v.mu.Unlock()
			v.set()
		}, want: websocket.StatusInternalError},
		{name: "telemetry without headers", path: "/tcs", frame: []byte(`{"type":"PublishMetricsRequest"}`), want: websocket.StatusPolicyViolation},
		{name: "telemetry with another body than signed", path: "/tcs", frame: append(signed(`{"type":"PublishHealthRequest","message":{}}`), ' '), want: websocket.StatusPolicyViolation},
		{name: "telemetry that is no JSON", path: "/tcs", frame: signed("garbage"), want: websocket.StatusPolicyViolation},
		{name: "telemetry of wrong types", path: "/tcs", frame: signed(`{"type":"PublishHealthRequest","message":{"tasks":7}}`), want: websocket.StatusPolicyViolation},
		{name: "a frame over 2 MiB", path: "/acs", frame: make([]byte, maxFrame+2), want: websocket.StatusMessageTooBig},
		{name: "a telemetry frame over 2 MiB", path: "/tcs", frame: make([]byte, maxFrame+2), want: websocket.StatusMessageTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := startVirtual(t)
				conn := v.socket(c.path, "i")
				if c.path == "/acs" {
					if e, err := frame(t, conn); err != nil || e.Type != TypeManifest {
						t.Fatalf("got %s %v, want the manifest", e.Type, err)
					}
				}
				if c.end != nil {
					synctest.Wait()
					c.end(v)
				} else {
					go func() { _ = conn.Write(context.Background(), websocket.MessageText, c.frame) }()
				}
				if code := closeCode(t, conn); code != c.want {
					t.Fatalf("close code %d, want %d", code, c.want)
				}
			})
		})
	}
}

func TestGarbageOnTheAssignmentsSocketIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.set(running("task/1"))
		conn := v.socket("/acs", "i")
		got := make(chan string, 100)
		go func() {
			for {
				e, err := frame(t, conn)
				if err != nil {
					close(got)
					return
				}
				got <- e.Type
			}
		}()
		for _, raw := range []string{
			"", "{", "[]", "null", `"AckRequest"`, `{"type":7}`, `{"type":"AckRequest"}`, `{"type":"AckRequest","message":[]}`,
			`{"type":"AckRequest","message":{"messageId":"unknown"}}`, `{"type":"NackRequest","message":{"messageId":9}}`,
			`{"type":"TaskStopVerificationMessage","message":{"messageId":"unknown","stopCandidates":[{"taskArn":"task/1"}]}}`,
			`{"type":"NoSuchType","message":{}}`, `{"type":"HeartbeatAckRequest","message":{}}`, strings.Repeat("x", maxFrame),
		} {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(raw)); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte{0, 1, 2}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{TypePayload, TypeManifest, TypePayload} { // the last is the repetition
			kind, open := <-got
			for kind == TypeHeartbeat {
				kind, open = <-got
			}
			if !open || kind != want {
				t.Fatalf("got %q, want %s", kind, want)
			}
		}
	})
}

func TestNumbersGrowAcrossSessionsAndServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.set(running("task/1"), running("task/2"))
		var last int64
		for range 5 {
			conn := v.socket("/acs", "i")
			for _, kind := range []string{TypePayload, TypePayload, TypeManifest} {
				e, err := frame(t, conn)
				if err != nil || e.Type != kind {
					t.Fatalf("got %s %v, want %s", e.Type, err, kind)
				}
				var m struct{ SeqNum, Timeline int64 }
				if err := json.Unmarshal(e.Message, &m); err != nil {
					t.Fatal(err)
				}
				if n := m.SeqNum + m.Timeline; n <= last {
					t.Fatalf("%s has number %d after %d", kind, n, last)
				} else {
					last = n
				}
			}
		}
	})
}

func TestSessionEndsBeforeItsNumbersRunOut(t *testing.T) {
	a := newAssignmentSession(nil, Session{}, Opening{Sequence: 7}, time.Now, nil)
	a.sequence = 7 + SessionNumbers - 1
	if n, err := a.next(); err != nil || n != 7+SessionNumbers {
		t.Fatalf("the last number is %d, %v", n, err)
	}
	if n, err := a.next(); !errors.Is(err, errExhausted) {
		t.Fatalf("beyond the last number came %d, %v", n, err)
	}
}

// A task that can't be rendered must not wait for ever without a word.
func TestTaskThatCannotBeSentIsEnded(t *testing.T) {
	p, endpoint := start(t)
	bad := running("task/bad")
	bad.Render = func() (Task, error) { return Task{}, errors.New("its subnet is gone") }
	p.set(bad, running("task/good"))
	c := dial(t, endpoint+"/acs")
	if got := next[Payload](t, c, TypePayload); got.Tasks[0].ARN != "task/good" || got.ClusterARN != "cluster/c" {
		t.Fatalf("the payload %+v is not task/good in its cluster", got)
	}
	next[Manifest](t, c, TypeManifest)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unfit) != 1 || p.unfit[0] != "task/bad" {
		t.Fatalf("unfit tasks = %v, want task/bad", p.unfit)
	}
}
