package acs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// withRoles is a running task with both roles.
func withRoles(arn string, started bool) Assignment {
	as := running(arn)
	as.ClusterARN, as.Started, as.Roles = "cluster/of-task", started, []string{RoleTask, RoleExecution}
	return as
}

// hourly grants both roles for an hour, with a key that counts the grants.
func (v *virtual) hourly() {
	n := 0
	v.grant = func(arn string) ([]Grant, error) {
		n++
		var all []Grant
		for _, kind := range []string{RoleTask, RoleExecution} {
			expires := time.Now().Add(time.Hour)
			all = append(all, Grant{RoleType: kind, Expires: expires, Credentials: Credentials{
				CredentialsID: arn + " " + kind, RoleARN: "role/" + kind, AccessKeyID: fmt.Sprint("key", n),
				SecretAccessKey: "secret", SessionToken: "token", Expiration: expires.UTC().Format(time.RFC3339),
			}})
		}
		return all, nil
	}
}

// talker is an agent's socket whose frames are taken as they come: the pipe below
// holds none, and both ends would wait for each other.
type talker struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan Envelope
}

func (v *virtual) talk(more ...string) *talker {
	k := &talker{v.t, v.socket("/acs", "i", more...), make(chan Envelope, 1000)}
	go func() {
		defer close(k.frames)
		for {
			e, err := frame(k.t, k.conn)
			if err != nil {
				return
			}
			k.frames <- e
		}
	}()
	return k
}

// say sends a frame.
func (k *talker) say(kind string, message any) {
	k.t.Helper()
	if err := send(k.t.Context(), k.conn, kind, message); err != nil {
		k.t.Fatal(err)
	}
}

// next returns the next frame but heartbeats, which are answered; false when none
// comes within a time.
func (k *talker) next(within time.Duration) (Envelope, bool) {
	k.t.Helper()
	late := time.After(within)
	for {
		select {
		case e, ok := <-k.frames:
			if !ok {
				k.t.Fatal("the session ended")
			}
			if e.Type != TypeHeartbeat {
				return e, true
			}
			k.say(TypeHeartbeatAck, HeartbeatAck{})
		case <-late:
			return Envelope{}, false
		}
	}
}

// come reads until a frame of the kind comes, and returns the time that passed.
func come[M any](k *talker, kind string) (M, time.Duration) {
	k.t.Helper()
	for start := time.Now(); ; {
		e, ok := k.next(time.Hour)
		if !ok {
			k.t.Fatalf("no %s came", kind)
		}
		if e.Type == kind {
			var m M
			if err := json.Unmarshal(e.Message, &m); err != nil {
				k.t.Fatal(err)
			}
			return m, time.Since(start)
		}
	}
}

// silent fails if credentials come within a time.
func (k *talker) silent(within time.Duration) {
	k.t.Helper()
	for start := time.Now(); time.Since(start) < within; {
		if e, ok := k.next(within - time.Since(start)); ok && e.Type == TypeCredentials {
			k.t.Fatalf("after %s came %s, want no credentials", time.Since(start), e.Type)
		}
	}
}

// both reads the messages of both roles, acknowledges them if so asked, and returns
// their key and how long they took to come.
func (k *talker) both(ack bool) (key string, took time.Duration) {
	k.t.Helper()
	var types []string
	for range 2 {
		m, passed := come[CredentialsMessage](k, TypeCredentials)
		took += passed
		types, key = append(types, m.RoleType), m.Credentials.AccessKeyID
		if m.TaskARN != "task/1" || m.TaskClusterARN != "cluster/of-task" || m.Credentials.CredentialsID != "task/1 "+m.RoleType {
			k.t.Fatalf("the credentials %s %s %s are not those of the role of task/1", m.TaskARN, m.TaskClusterARN, m.Credentials.CredentialsID)
		}
		if ack {
			k.say(TypeCredentialsAck, CredentialsAck{MessageID: m.MessageID, CredentialsID: m.Credentials.CredentialsID})
		}
	}
	if slices.Sort(types); !slices.Equal(types, []string{RoleTask, RoleExecution}) {
		k.t.Fatalf("credentials of %v came", types)
	}
	return key, took
}

func about(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want-time.Second || got > want+time.Second {
		t.Fatalf("%s after %s, want %s", what, got, want)
	}
}

func TestCredentialsTravelWithThePayloadAndAreRenewedAtHalfOfTheirLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.hourly()
		v.set(withRoles("task/1", false))
		k := v.talk()
		p, _ := come[Payload](k, TypePayload)
		task, execution := p.Tasks[0].RoleCredentials, p.Tasks[0].ExecutionRoleCredentials
		if task == nil || execution == nil || task.CredentialsID != "task/1 "+RoleTask || execution.CredentialsID != "task/1 "+RoleExecution || task.SecretAccessKey != "secret" {
			t.Fatalf("the payload has %#v and %#v", task, execution)
		}
		k.say(TypeAck, Ack{MessageID: p.MessageID})
		k.say(TypeCredentialsAck, CredentialsAck{MessageID: p.MessageID, CredentialsID: task.CredentialsID})
		v.set(withRoles("task/1", true))
		key, took := k.both(true)
		about(t, "renewed", took, 30*time.Minute)
		if key != "key2" {
			t.Fatalf("the renewed credentials have %s, want new ones", key)
		}
		key, took = k.both(true)
		about(t, "renewed again", took, 30*time.Minute)
		if key != "key3" {
			t.Fatalf("the credentials renewed again have %s, want new ones", key)
		}
		// A task that stops may still work; one that is gone gets none.
		stopping := withRoles("task/1", true)
		stopping.Desired = DesiredStopped
		v.set(stopping)
		come[Payload](k, TypePayload)
		k.both(true)
		v.set()
		k.silent(time.Hour)
	})
}

func TestCredentialsAreSentAgainUntilTheyAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.hourly()
		v.set(withRoles("task/1", true))
		k := v.talk("sendCredentials=true")
		_, took := k.both(false)
		about(t, "an agent that holds none got them", took, 0)
		for i, want := range []time.Duration{15, 30, 60, 120, 240, 300, 300} {
			_, took := k.both(i == 6)
			about(t, fmt.Sprintf("repetition %d came", i+1), took, want*time.Second)
		}
		_, took = k.both(true)
		about(t, "after the answer, the next came", took, 30*time.Minute)
	})
}

func TestTasksThatRunAlreadyGetTheirCredentialsSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.hourly()
		var all []Assignment
		for i := range 50 {
			all = append(all, withRoles(fmt.Sprint("task/", i), true))
		}
		v.set(all...)
		k := v.talk("sendCredentials=false")
		start, first := time.Now(), map[string]time.Duration{}
		for len(first) < 50 {
			m, _ := come[CredentialsMessage](k, TypeCredentials)
			k.say(TypeCredentialsAck, CredentialsAck{MessageID: m.MessageID})
			if _, seen := first[m.TaskARN]; !seen {
				first[m.TaskARN] = time.Since(start)
			}
		}
		early := 0
		for arn, at := range first {
			if at > grantSpread {
				t.Errorf("%s waited %s", arn, at)
			}
			if at < grantSpread/2 {
				early++
			}
		}
		if early < 10 || early > 40 {
			t.Errorf("%d of 50 came in the first half of the time", early)
		}
	})
}

func TestTaskWhoseRoleIsRefusedIsEndedWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.grant = func(string) ([]Grant, error) { return nil, &RefusedRoleError{Reason: "no such role"} }
		v.set(withRoles("task/1", false))
		come[Manifest](v.talk(), TypeManifest)
		v.mu.Lock()
		defer v.mu.Unlock()
		if !slices.Equal(v.unfit, []string{"task/1"}) {
			t.Fatalf("unfit are %v", v.unfit)
		}
	})
}

// What runs is not ended because its role was deleted: it keeps what it has.
func TestRoleRefusedLaterIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.grant = func(string) ([]Grant, error) { return nil, &RefusedRoleError{Reason: "gone"} }
		v.set(withRoles("task/1", true))
		k := v.talk("sendCredentials=true")
		k.silent(10 * time.Minute)
		v.mu.Lock()
		if v.hourly(); len(v.unfit) > 0 {
			t.Errorf("unfit are %v", v.unfit)
		}
		v.mu.Unlock()
		if _, took := k.both(true); took > grantRetryMost {
			t.Fatalf("a role that is back was granted after %s", took)
		}
	})
}

// A fault of the server's own ends no task: it waits, and no manifest says to the
// agent that it should have it.
func TestTaskWaitsForCredentialsThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		v.grant = func(string) ([]Grant, error) { return nil, errors.New("the session key can't be opened") }
		v.set(withRoles("task/1", false))
		k := v.talk()
		if m, _ := come[Manifest](k, TypeManifest); len(m.Tasks) != 0 {
			t.Fatalf("the manifest names %v", m.Tasks)
		}
		time.Sleep(time.Minute)
		v.mu.Lock()
		v.hourly()
		v.mu.Unlock()
		p, took := come[Payload](k, TypePayload)
		if took > time.Minute || p.Tasks[0].RoleCredentials == nil {
			t.Fatalf("after %s came a payload with %#v", took, p.Tasks[0].RoleCredentials)
		}
	})
}

func TestCredentialsAreNotShown(t *testing.T) {
	task := Task{RoleCredentials: &Credentials{CredentialsID: "hidden-id", SecretAccessKey: "hidden-secret", SessionToken: "hidden-token", AccessKeyID: "hidden-key"}}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", *task.RoleCredentials, "p", task.RoleCredentials)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", *task.RoleCredentials, task.RoleCredentials, *task.RoleCredentials, task.RoleCredentials), log.String()} {
		if strings.Contains(shown, "hidden") {
			t.Errorf("shown as %s", shown)
		}
	}
}
