package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"longshore.dev/longshore/internal/acs"
)

func TestPayloadIsAcknowledgedRunAndReported(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "sleep", "1000")))
		p.acked("m1")
		s.told("t1", "RUNNING")
		p.send(acs.TypePayload, payloadOf("m2", 2, stopOf("t1")))
		p.acked("m2")
		s.told("t1", "STOPPED")
		if got := s.statuses("t1"); !slices.Equal(got, []string{"RUNNING", "STOPPED"}) {
			t.Fatalf("submitted %v", got)
		}
	})
}

// A task that the disk had no room for is taken when it has, and not only when the
// control plane repeats it.
func TestUnrecordedPayloadIsTakenSoon(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		bolt := s.agent.engine.db.bolt
		full := func(full bool) {
			synctest.Wait()
			unchanged := errors.New("nothing is written")
			err := bolt.Update(func(*bbolt.Tx) error {
				if bolt.MaxSize = 0; full {
					bolt.MaxSize = 1 // it can't grow
				}
				return unchanged
			})
			if !errors.Is(err, unchanged) {
				t.Fatal(err)
			}
		}
		full(true)
		task := taskOf("t1", "sleep", "1000")
		task.Containers[0].Environment = map[string]string{"LARGE": strings.Repeat("x", 256<<10)}
		p.send(acs.TypePayload, payloadOf("m1", 1, task))
		p.quiet(20 * time.Second)
		full(false)
		began := time.Now()
		p.acked("m1")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the payload was taken %s after there was room", took)
		}
		s.told("t1", "RUNNING")
	})
}

func TestPayloadsUpsert(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		task := taskOf("t1", "sleep", "100000")
		for i := range 3 {
			p.send(acs.TypePayload, payloadOf(fmt.Sprint("m", i), int64(i), task))
			p.acked(fmt.Sprint("m", i))
		}
		s.told("t1", "RUNNING")
		synctest.Wait() // the agent knows that it was told
		s.restart()
		p = s.session()
		p.send(acs.TypePayload, payloadOf("again", 9, task))
		p.acked("again")
		time.Sleep(time.Minute)
		if got := s.statuses("t1"); !slices.Equal(got, []string{"RUNNING"}) || s.containers("t1") != 1 {
			t.Fatalf("submitted %v, %d containers run", got, s.containers("t1"))
		}
	})
}

// An acknowledged task is on disk: the control plane does not send it again.
func TestAcknowledgedTaskSurvivesARestart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.images.block = make(chan struct{})
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "sleep", "1000")))
		p.acked("m1")
		s.halt() // in the middle of the pull
		close(s.images.block)
		s.boot()
		s.told("t1", "RUNNING")
	})
}

func TestStopsApplyBeforeStarts(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "sleep", "1000"), taskOf("t2", "sleep", "1000"), stopOf("t1")))
		p.acked("m1")
		s.told("t2", "RUNNING")
		s.told("t1", "STOPPED")
		if got := s.statuses("t1"); !slices.Equal(got, []string{"STOPPED"}) {
			t.Fatalf("submitted %v of a task that was stopped in the payload that brought it", got)
		}
	})
}

func TestStopThatComesBeforeItsStart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 2, stopOf("t1")))
		p.acked("m1")
		s.told("t1", "STOPPED")
		p.send(acs.TypePayload, payloadOf("m2", 1, taskOf("t1", "sleep", "1000")))
		p.acked("m2")
		time.Sleep(time.Minute)
		if got := s.statuses("t1"); !slices.Equal(got, []string{"STOPPED"}) || s.containers("t1") != 0 {
			t.Fatalf("submitted %v, %d containers run", got, s.containers("t1"))
		}
	})
}

func TestInvalidTaskIsReportedStoppedWithTheError(t *testing.T) {
	arn := taskOf("bad").ARN
	for _, c := range []struct{ name, task, reason string }{
		{"a member of the wrong type", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":"none"}`, "containers"},
		{"no containers", `{"arn":"` + arn + `","desiredStatus":"RUNNING"}`, "no containers"},
		{"an unknown desired status", `{"arn":"` + arn + `","desiredStatus":"PAUSED","containers":[{"name":"a"}]}`, `"PAUSED" is not known`},
		{"docker's structures do not parse", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[{"name":"a","dockerConfig":{"config":"{"}}]}`, "dockerConfig.config"},
		{"an override that is not allowed", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[{"name":"a","overrides":"{\"image\":\"x\"}"}]}`, "overrides"},
		{"a name twice", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[{"name":"a"},{"name":"a"}]}`, `"a" is empty or given twice`},
		{"a dependency on nothing", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[{"name":"a","dependsOn":[{"containerName":"b","condition":"START"}]}]}`, "depends on b"},
		{"a circle", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[{"name":"a","links":["b"]},{"name":"b","links":["a"]}]}`, "depends on itself"},
		{"negative memory", `{"arn":"` + arn + `","desiredStatus":"RUNNING","memory":-5,"containers":[{"name":"a"}]}`, "memory -5"},
		{"too many containers", `{"arn":"` + arn + `","desiredStatus":"RUNNING","containers":[` + strings.Repeat(`{"name":"a"},`, 200) + `{"name":"b"}]}`, "201 containers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.boot()
				p := s.session()
				good, err := json.Marshal(taskOf("good", "exit", "0"))
				if err != nil {
					t.Fatal(err)
				}
				p.sendRaw(fmt.Sprintf(`{"type":"PayloadMessage","message":{"clusterArn":%q,"containerInstanceArn":%q,"messageId":"m1","seqNum":1,"tasks":[%s,%s]}}`,
					testCluster, testInstance, c.task, good))
				p.acked("m1")
				if reason := s.told("bad", "STOPPED")["reason"].(string); !strings.Contains(reason, c.reason) {
					t.Errorf("reason %q, want one about %q", reason, c.reason)
				}
				s.told("good", "STOPPED")
			})
		})
	}
}

func TestPayloadThatCannotBeHandledIsRefused(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		for _, tasks := range []string{`"none"`, `[7]`, `[{"arn":"x/.."}]`, `[{"desiredStatus":"STOPPED"}]`, `[{"arn":"` + strings.Repeat("a", 2000) + `"}]`} {
			p.sendRaw(`{"type":"PayloadMessage","message":{"messageId":"m1","tasks":` + tasks + `}}`)
			if reason := p.nacked("m1"); reason == "" || len(reason) > maxReason {
				t.Errorf("%s was refused with %q", tasks, reason)
			}
		}
	})
}

func TestCommandOfAContainersOverridesIsTaken(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		task := taskOf("t1", "sleep", "1000")
		task.Containers[0].Overrides = `{"command":["exit","7"]}`
		p.send(acs.TypePayload, payloadOf("m1", 1, task))
		p.acked("m1")
		if code := s.told("t1", "STOPPED")["containers"].([]any)[0].(map[string]any)["exitCode"]; code != 7.0 {
			t.Fatalf("exit code %v, want the override's 7", code)
		}
	})
}

// A task larger than the node is refused, with the reason; others are not held up
// by it. What tasks take together is not the agent's to judge.
func TestTaskBeyondTheNodesCapacity(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		large, wide := taskOf("large", "sleep", "1000"), taskOf("wide", "sleep", "1000")
		large.Memory, wide.CPU = 5000, 3
		p.send(acs.TypePayload, payloadOf("m1", 1, large, wide))
		p.acked("m1")
		for i := range 3 { // together more than the node has
			task := taskOf(fmt.Sprint("t", i), "sleep", "1000")
			task.Memory = 3000
			p.send(acs.TypePayload, payloadOf(fmt.Sprint("p", i), int64(i+2), task))
			p.acked(fmt.Sprint("p", i))
			s.told(fmt.Sprint("t", i), "RUNNING")
		}
		for id, want := range map[string]string{"large": "5000 MiB, the instance has 2048 and 4096", "wide": "3072 CPU units"} {
			if reason := s.told(id, "STOPPED")["reason"].(string); !strings.Contains(reason, want) {
				t.Errorf("%s: reason %q", id, reason)
			}
		}
	})
}

func TestTaskInterfacesAreConfirmed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		attach := acs.AttachENI{
			ClusterARN: testCluster, ContainerInstanceARN: testInstance, MessageID: "m1", TaskARN: taskOf("t1").ARN,
			TaskClusterARN: testCluster, WaitTimeoutMs: 60000, ENIs: []acs.ENI{{AttachmentARN: "arn:attachment"}},
		}
		s.on("SubmitTaskStateChange", reply{status: 500, code: "ServerException"}, reply{lost: true})
		p.send(acs.TypeAttachTaskENI, attach)
		p.acked("m1")
		time.Sleep(10 * time.Second)
		calls := s.called("SubmitTaskStateChange")
		if len(calls) != 3 {
			t.Fatalf("%d submissions, want two that failed and one", len(calls))
		}
		got := calls[2].body["attachments"].([]any)[0].(map[string]any)
		if got["attachmentArn"] != "arn:attachment" || got["status"] != "ATTACHED" || calls[2].body["status"] != nil {
			t.Fatalf("submitted %v", calls[2].body)
		}
		attach.MessageID, attach.WaitTimeoutMs = "m2", 0
		p.send(acs.TypeAttachTaskENI, attach)
		p.nacked("m2")
		// Expiry is silent.
		s.always("SubmitTaskStateChange", &reply{hang: true})
		attach.MessageID, attach.WaitTimeoutMs = "m3", 5000
		p.send(acs.TypeAttachTaskENI, attach)
		p.acked("m3")
		p.beat(10 * time.Minute)
		if n := len(s.called("SubmitTaskStateChange")); n > 5 {
			t.Fatalf("%d submissions, though the time to wait was five seconds", n-3)
		}
	})
}
