package agent

import (
	"strings"
	"testing"
	"time"
)

const registering = "RegisterContainerInstance"

func TestRegistrationSaysWhatTheNodeIs(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.options = func(o *Options) { o.Attributes = map[string]string{"rack": "7"} }
		s.boot()
		s.session()
		s.restart()
		s.session()
		calls := s.called(registering)
		if len(calls) != 2 {
			t.Fatalf("registered %d times", len(calls))
		}
		first, second := calls[0].body, calls[1].body
		if first["cluster"] != "default" || first["containerInstanceArn"] != nil || second["containerInstanceArn"] != testInstance {
			t.Errorf("registered first as %v in %v, then as %v", first["containerInstanceArn"], first["cluster"], second["containerInstanceArn"])
		}
		resources := map[string]any{}
		for _, r := range first["totalResources"].([]any) {
			r := r.(map[string]any)
			resources[r["name"].(string)] = r
		}
		for name, want := range map[string]float64{"CPU": 2048, "MEMORY": 4096} {
			if got := resources[name].(map[string]any)["integerValue"]; got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		if resources["PORTS"] == nil || resources["PORTS_UDP"] == nil {
			t.Errorf("ports are missing in %v", resources)
		}
		attributes := map[string]any{}
		for _, a := range first["attributes"].([]any) {
			a := a.(map[string]any)
			attributes[a["name"].(string)] = a["value"]
		}
		if attributes["rack"] != "7" || attributes["ecs.os-type"] != "linux" {
			t.Errorf("attributes are %v", attributes)
		}
	})
}

// What no repetition changes ends the agent, and the error says what it was.
func TestRegistrationThatIsRefusedEndsTheAgent(t *testing.T) {
	lose := func(out map[string]any) {
		instance := out["containerInstance"].(map[string]any)
		instance["attributes"] = instance["attributes"].([]any)[1:]
	}
	change := func(out map[string]any) {
		for _, a := range out["containerInstance"].(map[string]any)["attributes"].([]any) {
			if a := a.(map[string]any); a["name"] == "ecs.os-type" {
				a["value"] = "windows"
			}
		}
	}
	for _, c := range []struct {
		name     string
		reply    reply
		attempts int
		says     string
	}{
		{"invalid parameter", reply{status: 400, code: "InvalidParameterException"}, 1, "InvalidParameterException"},
		{"client exception", reply{status: 400, code: "ClientException"}, 1, "ClientException"},
		{"no such cluster", reply{status: 400, code: "ClusterNotFoundException"}, 1, "ClusterNotFoundException"},
		{"access denied", reply{status: 400, code: "AccessDeniedException"}, 3, "AccessDeniedException"},
		{"unknown credentials", reply{status: 400, code: "UnrecognizedClientException"}, 3, "UnrecognizedClientException"},
		{"an attribute that is lost", reply{edit: lose}, 1, "com.amazonaws.ecs.capability.privileged-container"},
		{"an attribute that is changed", reply{edit: change}, 1, "ecs.os-type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.always(registering, &c.reply)
				s.boot()
				select {
				case err := <-s.ended:
					if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "register") && !strings.Contains(err.Error(), "attributes") {
						t.Errorf("the agent ended with %v", err)
					}
				case <-time.After(time.Hour):
					t.Fatal("the agent is still trying after an hour")
				}
				s.stop()
				s.stop = nil
				if n := len(s.called(registering)); n != c.attempts {
					t.Errorf("%d attempts, want %d", n, c.attempts)
				}
			})
		})
	}
}

// What may pass is waited out, longer each time, for an hour and beyond: the
// node's tasks are looked after meanwhile.
func TestRegistrationWaitsOutTrouble(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply reply
	}{
		{"server exception", reply{status: 500, code: "ServerException"}},
		{"throttled", reply{status: 400, code: "ThrottlingException"}},
		{"limit", reply{status: 400, code: "LimitExceededException"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.always(registering, &c.reply)
				s.boot()
				time.Sleep(90 * time.Minute)
				calls, want := s.called(registering), 3*time.Second
				for i := 1; i < len(calls); i++ {
					between(t, "the next attempt", calls[i].at.Sub(calls[i-1].at), want*8/10, want*12/10+time.Millisecond)
					want = min(2*want, 192*time.Second)
				}
				if want != 192*time.Second {
					t.Fatalf("%d attempts in 90 minutes", len(calls))
				}
				s.always(registering, nil)
				s.session()
			})
		})
	}
}

func TestNodeRegistersWhenTheControlPlaneComesBack(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		withTask(s, "t1", 1)
		s.net.setDown(true)
		s.net.each(func(c *memoryConn) { c.Close() }) // those that are kept as well
		s.halt()
		s.boot()
		time.Sleep(3 * time.Hour)
		if s.containers("t1") != 1 {
			t.Fatal("the node's task ended with the control plane away")
		}
		s.net.setDown(false)
		s.next(s.acs, 75*time.Second)
	})
}

func TestZoneIsTheControlPlanes(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.on(registering, reply{edit: func(out map[string]any) {
			instance := out["containerInstance"].(map[string]any)
			instance["attributes"] = append(instance["attributes"].([]any), map[string]any{"name": attributeZone, "value": "us-east-1c"})
		}})
		withTask(s, "t1", 1)
		r := s.agent.engine.records()[0]
		if zone := s.agent.taskMetadata(t.Context(), r, true).AvailabilityZone; zone != "us-east-1c" {
			t.Fatalf("the task's metadata names zone %q", zone)
		}
	})
}
