package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// withTask starts a session and a task on it.
func withTask(s *scene, id string, sequence int64) *peer {
	s.t.Helper()
	s.boot()
	p := s.session()
	p.send(acs.TypePayload, payloadOf("first", sequence, taskOf(id, "sleep", "100000")))
	p.acked("first")
	s.told(id, "RUNNING")
	return p
}

func TestManifestThatListsWhatRunsIsAcknowledged(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 5)
		p.send(acs.TypeManifest, manifestOf("m1", 6, "t1"))
		p.acked("m1")
		p.quiet(50 * time.Second)
	})
}

func TestStaleManifestIsDiscardedWithoutAnAnswer(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 5)
		for _, timeline := range []int64{5, 4, 0, -1} { // payloads count as well
			p.send(acs.TypeManifest, manifestOf("stale", timeline))
			p.quiet(5 * time.Second)
		}
		p.send(acs.TypeManifest, manifestOf("m1", 7, "t1"))
		p.acked("m1")
		p.send(acs.TypeManifest, manifestOf("again", 7))
		p.quiet(5 * time.Second)
		s.restart()
		p = s.session()
		p.send(acs.TypeManifest, manifestOf("before the restart", 7))
		p.quiet(5 * time.Second)
		p.send(acs.TypeManifest, manifestOf("m2", 8, "t1"))
		p.acked("m2")
	})
}

// The greatest sequence number is on disk with the payload that brought it.
func TestSequenceOfPayloadsSurvivesARestart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		withTask(s, "t1", 50)
		s.restart()
		p := s.session()
		p.send(acs.TypeManifest, manifestOf("late", 49))
		p.quiet(5 * time.Second)
	})
}

// A control plane whose clock was set back gives smaller numbers: its manifests
// are not followed until they are new, its payloads are.
func TestSequenceThatStepsBack(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 1000)
		p.send(acs.TypeManifest, manifestOf("m1", 3))
		p.quiet(5 * time.Second)
		p.send(acs.TypePayload, payloadOf("m2", 4, taskOf("t2", "sleep", "1000")))
		p.acked("m2")
		s.told("t2", "RUNNING")
		p.send(acs.TypePayload, payloadOf("m3", 5, stopOf("t1")))
		p.acked("m3")
		s.told("t1", "STOPPED")
	})
}

func TestTasksThatAManifestLacksStopAfterAnotherLook(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 5)
		p.send(acs.TypePayload, payloadOf("second", 6, taskOf("t2", "sleep", "100000")))
		p.acked("second")
		s.told("t2", "RUNNING")
		p.send(acs.TypeManifest, manifestOf("m1", 7))
		p.acked("m1")
		var ask acs.StopVerification
		p.frame(acs.TypeStopVerification, &ask)
		if ask.MessageID != "m1" || len(ask.StopCandidates) != 2 {
			t.Fatalf("asked %+v", ask)
		}
		confirm := func(message string, ids ...string) {
			m := manifestOf(message, 0, ids...)
			p.send(acs.TypeStopVerificationAk, acs.StopVerificationAck{MessageID: message, StopTasks: m.Tasks})
		}
		confirm("m0", "t1", "t2") // of another manifest
		confirm("m1", "stranger") // not asked about
		p.beat(20 * time.Second)
		if s.containers("t1") != 1 || s.containers("t2") != 1 {
			t.Fatal("a task was stopped that the control plane had not confirmed")
		}
		confirm("m1", "t1")
		confirm("m1", "t1")
		s.told("t1", "STOPPED")
		p.beat(20 * time.Second)
		if s.containers("t2") != 1 || len(s.statuses("stranger")) > 0 {
			t.Fatal("more was stopped than was confirmed")
		}
	})
}

func TestListedTaskThatTheNodeLostIsReportedStopped(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 5)
		p.send(acs.TypeManifest, manifestOf("m1", 6, "t1", "lost", "late"))
		p.acked("m1")
		p.beat(missingWait - 10*time.Second)
		if len(s.statuses("lost")) > 0 {
			t.Fatal("a task was given up before its payload could have come")
		}
		p.send(acs.TypePayload, payloadOf("m2", 7, taskOf("late", "sleep", "1000")))
		p.acked("m2")
		p.beat(30 * time.Second)
		if reason := s.told("lost", "STOPPED")["reason"].(string); !strings.Contains(reason, "lost its records") {
			t.Fatalf("reason %q", reason)
		}
		if got := s.statuses("late"); !slices.Equal(got, []string{"RUNNING"}) {
			t.Fatalf("a task whose payload came after the manifest: %v", got)
		}
	})
}

// A session that has died unnoticed proves nothing about what did not come.
func TestHalfOpenSessionGivesUpNoTask(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		p := withTask(s, "t1", 5)
		p.send(acs.TypeManifest, manifestOf("m1", 6, "t1", "late"))
		p.acked("m1")
		s.net.each(func(c *memoryConn) { c.freeze() })
		p = s.session()
		if len(s.statuses("late")) > 0 {
			t.Fatal("a task was given up over a dead connection")
		}
		p.send(acs.TypePayload, payloadOf("m2", 7, taskOf("late", "sleep", "1000")))
		p.acked("m2")
		s.told("late", "RUNNING")
	})
}

// A control plane that missed a task's end hears of it again.
func TestListedTaskThatHasEndedIsReportedAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		p.send(acs.TypePayload, payloadOf("m1", 1, taskOf("t1", "exit", "0")))
		p.acked("m1")
		s.told("t1", "STOPPED")
		p.beat(time.Minute)
		p.send(acs.TypeManifest, manifestOf("m2", 2, "t1"))
		p.acked("m2")
		p.beat(time.Minute)
		if got := s.statuses("t1"); !slices.Equal(got, []string{"RUNNING", "STOPPED", "STOPPED"}) || s.containers("t1") != 0 {
			t.Fatalf("submitted %v", got)
		}
	})
}
