package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/acs"
)

// between fails unless lo ≤ d ≤ hi.
func between(t *testing.T, what string, d, lo, hi time.Duration) {
	t.Helper()
	if d < lo || d > hi {
		t.Fatalf("%s after %s, want between %s and %s", what, d, lo, hi)
	}
}

func TestHandshakeSaysWhoConnects(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p, m := s.session(), s.next(s.tcs, time.Minute)
		for key, want := range map[string]string{
			"clusterArn": "default", "containerInstanceArn": testInstance, "agentVersion": "test", "agentHash": "test",
			"seqNum": "1", "protocolVersion": "2", "sendCredentials": "true", "dockerVersion": "longshore",
		} {
			if got := p.query.Get(key); got != want {
				t.Errorf("%s=%q, want %q", key, got, want)
			}
		}
		if m.query.Get("cluster") != "default" || m.query.Get("containerInstance") != testInstance {
			t.Errorf("telemetry is opened with %v", m.query)
		}
	})
}

func TestCredentialsAreAskedForUntilTheFirstSession(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.refusal["acs"] = "ServerException"
		s.boot()
		time.Sleep(time.Second)
		s.mu.Lock()
		s.refusal["acs"] = ""
		s.mu.Unlock()
		for i, want := range []string{"true", "false", "false"} {
			p := s.session()
			if got := p.query.Get("sendCredentials"); got != want {
				t.Fatalf("session %d has sendCredentials=%s, want %s", i, got, want)
			}
			time.Sleep(2 * time.Second)
			p.conn.Close(websocket.StatusNormalClosure, "")
		}
		s.restart()
		if got := s.session().query.Get("sendCredentials"); got != "true" {
			t.Fatalf("a new process has sendCredentials=%s: it has none yet", got)
		}
	})
}

func TestPollEndpointIsKeptForTwelveHours(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		drop := func(wait time.Duration) {
			p := s.session()
			p.beat(wait)
			p.conn.Close(websocket.StatusNormalClosure, "")
		}
		drop(10 * time.Minute)
		drop(10 * time.Minute)
		s.session().beat(time.Minute)
		if n := len(s.called("DiscoverPollEndpoint")); n > 2 { // one for each socket
			t.Fatalf("the endpoint was asked for %d times within minutes", n)
		}
	})
}

func TestOldPollEndpointServesWhileTheCallFails(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		s.next(s.tcs, time.Minute)
		s.always("DiscoverPollEndpoint", &reply{status: 500, code: "ServerException"})
		asked := len(s.called("DiscoverPollEndpoint"))
		for began := time.Now(); time.Since(began) < 13*time.Hour; p = s.session() {
			time.Sleep(2 * time.Second)
			p.conn.Close(websocket.StatusNormalClosure, "")
			if time.Since(began) < 12*time.Hour-2*time.Minute && len(s.called("DiscoverPollEndpoint")) != asked {
				t.Fatalf("the endpoint was asked for again after %s", time.Since(began))
			}
			time.Sleep(3 * time.Minute)
		}
		if len(s.called("DiscoverPollEndpoint")) == asked {
			t.Fatal("the endpoint was not asked for again after 13 hours")
		}
	})
}

func TestPollEndpointThatMovedIsFound(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.on("DiscoverPollEndpoint", reply{edit: func(out map[string]any) { out["endpoint"] = "http://plane/gone" }},
			reply{edit: func(out map[string]any) { out["endpoint"] = "http://plane/gone" }})
		s.boot()
		s.session()
	})
}

func TestHeartbeatsAreAnswered(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypeHeartbeat, acs.Heartbeat{MessageID: "h1", Healthy: true})
		var ack acs.HeartbeatAck
		if p.frame(acs.TypeHeartbeatAck, &ack); ack.MessageID != "h1" {
			t.Fatalf("answered %+v", ack)
		}
	})
}

func TestSilentControlPlaneIsLeft(t *testing.T) {
	for _, kind := range []string{"acs", "tcs"} {
		t.Run(kind, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.boot()
				from := map[string]chan *peer{"acs": s.acs, "tcs": s.tcs}[kind]
				s.next(from, time.Minute)
				synctest.Wait()
				s.net.each(func(c *memoryConn) { c.freeze() }) // half-open: nothing comes, nobody says so
				began := time.Now()
				s.next(from, 3*time.Minute)
				between(t, "a new session", time.Since(began), 60*time.Second, 121*time.Second)
			})
		})
	}
}

func TestTrafficKeepsASessionOpen(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.beat(20 * time.Minute)
		if n := len(s.called("acs")); n != 1 {
			t.Fatalf("%d sessions were opened in 20 minutes of heartbeats", n)
		}
	})
}

func TestReconnectingAfterTheServersEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(p *peer)
		at   [2]time.Duration
	}{
		{"normal closure 1000", func(p *peer) { p.conn.Close(websocket.StatusNormalClosure, "") }, [2]time.Duration{0, time.Millisecond}},
		{"going away 1001", func(p *peer) { p.conn.Close(websocket.StatusGoingAway, "") }, [2]time.Duration{0, time.Millisecond}},
		{"cut 1006", func(p *peer) { p.conn.CloseNow() }, [2]time.Duration{0, time.Millisecond}},
		{"internal error 1011", func(p *peer) { p.conn.Close(websocket.StatusInternalError, "") }, [2]time.Duration{0, time.Millisecond}},
		{"policy violation 1008", func(p *peer) { p.conn.Close(websocket.StatusPolicyViolation, "") }, [2]time.Duration{200 * time.Millisecond, 300 * time.Millisecond}},
		{"unsupported data 1003", func(p *peer) { p.conn.Close(websocket.StatusUnsupportedData, "") }, [2]time.Duration{200 * time.Millisecond, 300 * time.Millisecond}},
		{"a code of its own 4000", func(p *peer) { p.conn.Close(4000, "") }, [2]time.Duration{200 * time.Millisecond, 300 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.boot()
				p := s.session()
				time.Sleep(5 * time.Second)
				c.end(p)
				began := time.Now()
				s.session()
				between(t, "a new session", time.Since(began), c.at[0], c.at[1])
			})
		})
	}
}

func TestServerThatClosesAtOnceIsNotHammered(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		for began := time.Now(); time.Since(began) < 10*time.Minute; {
			s.session().conn.Close(websocket.StatusNormalClosure, "")
		}
		if n := len(s.called("acs")); n > 30 {
			t.Fatalf("%d sessions in ten minutes", n)
		}
	})
}

func TestReconnectingBacksOff(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.refusal["acs"] = "ServerException"
		s.boot()
		time.Sleep(20 * time.Minute)
		attempts := s.called("acs")
		want := 250 * time.Millisecond
		for i := 1; i < len(attempts); i++ {
			between(t, "the next attempt", attempts[i].at.Sub(attempts[i-1].at), want*8/10, want*12/10+time.Millisecond)
			want = min(want*3/2, 2*time.Minute)
		}
		if want != 2*time.Minute {
			t.Fatalf("only %d attempts in 20 minutes", len(attempts))
		}
		s.mu.Lock()
		s.refusal["acs"] = ""
		s.mu.Unlock()
		s.session()
	})
}

func TestSessionsEndAfterHalfAnHour(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		began := time.Now()
		for {
			select {
			case <-p.gone:
				between(t, "the agent's close", time.Since(began), 30*time.Minute, 35*time.Minute)
				if code := websocket.CloseStatus(p.err); code != websocket.StatusNormalClosure {
					t.Fatalf("closed with %v", p.err)
				}
				s.next(s.acs, time.Second)
				return
			case <-p.frames:
			case <-time.After(25 * time.Second):
				p.send(acs.TypeHeartbeat, acs.Heartbeat{MessageID: "h"})
			}
			if time.Since(began) > 36*time.Minute {
				t.Fatal("the session lives for ever")
			}
		}
	})
}

func TestDeregisteredNodeStopsAskingForAnHour(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.refusal["acs"], s.refusal["tcs"] = acs.RejectInactiveInstance, acs.RejectInactiveInstance
		log := &strings.Builder{}
		s.options = func(o *Options) { o.Log = textLog(log) }
		s.boot()
		time.Sleep(5 * time.Hour)
		for _, kind := range []string{"acs", "tcs"} {
			attempts := s.called(kind)
			if len(attempts) < 4 || len(attempts) > 7 {
				t.Fatalf("%d attempts on %s in five hours", len(attempts), kind)
			}
			between(t, "the second attempt", attempts[1].at.Sub(attempts[0].at), 48*time.Minute, 72*time.Minute)
		}
		if s.agent.Connected() {
			t.Fatal("the agent believes itself connected")
		}
		s.halt()
		if !strings.Contains(log.String(), "deregistered this node") {
			t.Fatalf("nothing says why: %s", log)
		}
	})
}

// An hour's wait belongs to that answer alone: when the control plane is merely
// unreachable afterwards, the agent is back soon.
func TestInactiveWaitDoesNotOutliveItsCause(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.refusal["acs"] = acs.RejectInactiveInstance
		s.boot()
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.refusal["acs"] = "ServerException"
		s.mu.Unlock()
		time.Sleep(75 * time.Minute)
		s.mu.Lock()
		s.refusal["acs"] = ""
		s.mu.Unlock()
		s.next(s.acs, 150*time.Second)
	})
}

func TestWhatIsNotKnownOrNotReadableIsIgnored(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		for _, frame := range []string{
			`{"type":"NewsMessage","message":{"messageId":"n"}}`, `{"type":"ErrorMessage","message":{"message":"x"}}`,
			`{"type":"CloseMessage","message":{"message":"x"}}`, `{"type":"HeartbeatMessage","message":[]}`,
			`{"type":"TaskManifestMessage","message":7}`, `{"type":"TaskStopVerificationAck","message":"x"}`,
			`{"type":"PayloadMessage"}`, `{"type":"StageUpdateMessage","message":null}`,
			`not json`, `{"type":`, ``, `null`, `[]`, `{}`, `{"type":7}`, strings.Repeat("[", 100000),
		} {
			p.sendRaw(frame)
		}
		p.send(acs.TypeHeartbeat, acs.Heartbeat{MessageID: "h1"})
		var ack acs.HeartbeatAck
		p.frame(acs.TypeHeartbeatAck, &ack)
	})
}

func TestFrameTooLargeEndsTheSessionOnly(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		time.Sleep(2 * time.Second)
		go func() { // the agent hangs up in the middle of it
			_ = p.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"PayloadMessage","message":"`+strings.Repeat("x", 3<<20)+`"}`))
		}()
		p = s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "exit", "0")))
		p.acked("m1")
		s.told("t1", "STOPPED")
	})
}

func TestControlPlaneThatDoesNotReadIsLeft(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "sleep", "10000")))
		p.acked("m1")
		s.net.each(func(c *memoryConn) { c.freezeOut() })
		began := time.Now()
		for range 5000 { // more than the connection holds of acknowledgements
			if p.conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"HeartbeatMessage","message":{"messageId":"`+strings.Repeat("h", 200)+`"}}`)) != nil {
				break
			}
		}
		p = s.session()
		if d := time.Since(began); d > time.Minute {
			t.Fatalf("the agent was stuck for %s", d)
		}
		p.send(acs.TypePayload, payloadOf("m2", 2, stopOf("t1")))
		p.acked("m2")
		s.told("t1", "STOPPED")
	})
}

func TestWhatTheAgentCannotDoIsRefusedWithAReason(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		for _, kind := range []string{acs.TypeStageUpdate, acs.TypePerformUpdate, acs.TypeAttachInstanceENI, acs.TypeConfirmAttachment} {
			p.send(kind, map[string]any{"messageId": kind, "clusterArn": testCluster, "updateInfo": map[string]string{"location": "x"}})
			if reason := p.nacked(kind); !strings.HasPrefix(reason, "this agent ") {
				t.Errorf("%s was refused with %q", kind, reason)
			}
		}
	})
}
