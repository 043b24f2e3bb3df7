package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/acs"
)

const submittingTask = "SubmitTaskStateChange"

// runToEnd plays a task that exits, and returns what was submitted of it.
func runToEnd(s *scene, limit time.Duration) []string {
	s.t.Helper()
	s.boot()
	p := s.session()
	p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "exit", "3")))
	p.acked("m1")
	s.leave()
	for end := time.Now().Add(limit); time.Now().Before(end) && len(s.agent.engine.records()) > 0; {
		time.Sleep(time.Second)
	}
	if n := len(s.agent.engine.records()); n > 0 {
		s.t.Fatalf("%d tasks are still being reported after %s", n, limit)
	}
	return s.statuses("t1")
}

func TestSubmissionsAreRepeatedInTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name    string
		replies []reply
		want    []string
	}{
		{"no trouble", nil, []string{"RUNNING", "STOPPED"}},
		{"an answer that was lost", []reply{{lost: true}}, []string{"RUNNING", "RUNNING", "STOPPED"}},
		{"the last answer was lost", []reply{{}, {lost: true}}, []string{"RUNNING", "STOPPED", "STOPPED"}},
		{"throttled", []reply{{status: 400, code: "ThrottlingException"}, {status: 429, code: "TooManyRequestsException"}}, []string{"RUNNING", "RUNNING", "RUNNING", "STOPPED"}},
		{"trouble of the control plane", []reply{{status: 500, code: "ServerException"}, {status: 503, code: "ServiceUnavailable"}}, []string{"RUNNING", "RUNNING", "RUNNING", "STOPPED"}},
		{"no answer", []reply{{hang: true}}, []string{"RUNNING", "RUNNING", "STOPPED"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.on(submittingTask, c.replies...)
				if got := runToEnd(s, 2*time.Minute); !slices.Equal(got, c.want) {
					t.Fatalf("submitted %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestNoAnswerIsWaitedForWithoutEnd(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.always(submittingTask, &reply{status: 500, code: "ServerException"})
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "exit", "3")))
		p.acked("m1")
		s.leave()
		time.Sleep(10 * time.Minute)
		calls := s.called(submittingTask)
		between(t, "the last repetition", calls[len(calls)-1].at.Sub(calls[len(calls)-2].at), 24*time.Second, 36*time.Second+time.Millisecond)
		s.net.setDown(true)
		s.net.each(func(c *memoryConn) { c.Close() })
		time.Sleep(26 * time.Hour)
		s.net.setDown(false)
		s.always(submittingTask, nil)
		code := s.told("t1", "STOPPED")["containers"].([]any)[0].(map[string]any)["exitCode"]
		if code != 3.0 {
			t.Fatalf("exit code %v", code)
		}
	})
}

func TestRefusedSubmissionsHoldNothingUp(t *testing.T) {
	for _, c := range []struct {
		code   string
		within time.Duration
	}{
		{"InvalidParameterException", time.Minute},
		{"ClientException", time.Minute},
		{"ClusterNotFoundException", time.Minute},
		{"AccessDeniedException", time.Minute},
	} {
		t.Run(c.code, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				log := &strings.Builder{}
				s.options = func(o *Options) { o.Log = textLog(log) }
				s.always(submittingTask, &reply{status: 400, code: c.code})
				runToEnd(s, c.within)
				s.halt()
				if !strings.Contains(log.String(), "refused a state change") {
					t.Error("nothing tells that the control plane refused")
				}
			})
		})
	}
}

// Who asks may be known again soon; that is waited for a day, not for ever.
func TestRefusalThatMayPassIsGivenUpAfterADay(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.always(submittingTask, &reply{status: 400, code: "UnrecognizedClientException"})
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, stopOf("t1")))
		p.acked("m1")
		s.leave()
		time.Sleep(submitPatience - 10*time.Minute)
		if len(s.agent.engine.records()) != 1 {
			t.Fatal("the task's end was given up within the day")
		}
		time.Sleep(20 * time.Minute)
		if len(s.agent.engine.records()) != 0 {
			t.Fatal("the task waits for ever")
		}
	})
}

func TestRefusalThatPassesIsOutlived(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.always(submittingTask, &reply{status: 400, code: "ExpiredTokenException"})
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "exit", "3")))
		p.acked("m1")
		s.leave()
		time.Sleep(2 * time.Hour)
		refused := len(s.called(submittingTask))
		s.always(submittingTask, nil)
		time.Sleep(2 * time.Minute)
		if got := s.statuses("t1")[refused:]; !slices.Equal(got, []string{"RUNNING", "STOPPED"}) {
			t.Fatalf("then submitted %v", got)
		}
	})
}

// A control plane that answers nobody is not asked by all tasks at once, and no
// task is forgotten for it.
func TestSubmissionsUnderWayAreBounded(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.always(submittingTask, &reply{hang: true})
		s.boot()
		p := s.session()
		const tasks = 100
		for i := range tasks {
			p.send(acs.TypePayload, payloadOf(fmt.Sprint("m", i), int64(i+1), taskOf(fmt.Sprint("t", i), "sleep", "1000000")))
			p.acked(fmt.Sprint("m", i))
		}
		for range 12 {
			time.Sleep(7 * time.Second)
			synctest.Wait() // those that were given up have ended
			s.mu.Lock()
			flying := s.flying
			s.mu.Unlock()
			if flying > maxSubmitting || flying == 0 {
				t.Fatalf("%d submissions at once", flying)
			}
		}
		s.always(submittingTask, nil)
		for i := range tasks {
			s.told(fmt.Sprint("t", i), "RUNNING")
		}
	})
}

func TestSubmissionsCarryWhatIsKnown(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		task := taskOf("t1", "exit", "3")
		task.TaskClusterARN = testCluster
		p.send(acs.TypePayload, payloadOf("m1", 1, task))
		p.acked("m1")
		stopped := s.told("t1", "STOPPED")
		c := stopped["containers"].([]any)[0].(map[string]any)
		if stopped["cluster"] != testCluster || c["containerName"] != "app" || c["status"] != "STOPPED" || c["exitCode"] != 3.0 || c["runtimeId"] == nil {
			t.Errorf("submitted %v", stopped)
		}
		for _, at := range []string{"pullStartedAt", "pullStoppedAt", "executionStoppedAt"} {
			if _, ok := stopped[at].(float64); !ok {
				t.Errorf("%s is %v, want epoch seconds", at, stopped[at])
			}
		}
	})
}

func TestFinishedTasksAreRememberedWithinBounds(t *testing.T) {
	f, at := newFinished(), epoch
	for i := range maxFinished + 1000 {
		f.add(fmt.Sprint(i), at)
		at = at.Add(time.Millisecond)
	}
	if old := f.takeOld(at); len(old) != 1000 || old[0] != "0" || f.has("999") || !f.has("1000") {
		t.Fatalf("%d were forgotten, the first of them %v", len(old), old[:min(1, len(old))])
	}
	if old := f.takeOld(at.Add(keepFinished + time.Minute)); len(old) != maxFinished || len(f.at) != 0 || len(f.order) != 0 {
		t.Fatalf("%d were forgotten in time, %d are left", len(old), len(f.at))
	}
	f.add("1", at)
	f.add("1", at.Add(time.Hour))
	if len(f.order) != 1 {
		t.Fatal("a task that finished twice is remembered twice")
	}
}

func TestForgottenTasksLeaveTheDisk(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		runToEnd(s, time.Minute)
		if tasks, _, err := s.agent.db.tasks(); err != nil || len(tasks) != 1 {
			t.Fatalf("%d records, %v: a finished task is remembered at first", len(tasks), err)
		}
		time.Sleep(keepFinished + 10*time.Minute)
		if tasks, _, err := s.agent.db.tasks(); err != nil || len(tasks) != 0 {
			t.Fatalf("%d records, %v", len(tasks), err)
		}
	})
}
