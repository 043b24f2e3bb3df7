package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/acs"
)

// credentialsOf is a set of a role, good for a time.
func credentialsOf(id, secret string, life time.Duration) *acs.Credentials {
	return &acs.Credentials{
		CredentialsID: id, RoleARN: "arn:aws:iam::000000000000:role/r", AccessKeyID: "ASIA-" + secret, SecretAccessKey: "secret-" + secret,
		SessionToken: "token-" + secret, Expiration: time.Now().Add(life).UTC().Format(time.RFC3339),
	}
}

// roled gives a task both roles; ids are those of the credentials.
func roled(t *acs.Task) {
	id := taskID(t.ARN)
	t.RoleCredentials = credentialsOf("id-of-"+id, "first", time.Hour)
	t.ExecutionRoleCredentials = credentialsOf("execution-id-of-"+id, "execution", time.Hour)
	t.Containers[0].LogsAuthStrategy = "ExecutionRole"
	t.Containers[0].DockerConfig = acs.DockerConfig{HostConfig: `{"LogConfig":{"Type":"awslogs","Config":{"awslogs-group":"g"}}}`}
}

// credentialsAcks reads n acknowledgements of credentials: message and id.
func credentialsAcks(p *peer, n int) (acks []string) {
	p.s.t.Helper()
	for range n {
		var m acs.CredentialsAck
		p.frame(acs.TypeCredentialsAck, &m)
		if m.Expiration == "" {
			p.s.t.Errorf("%s is acknowledged without its expiration", m.CredentialsID)
		}
		acks = append(acks, m.MessageID+" "+m.CredentialsID)
	}
	slices.Sort(acks)
	return acks
}

// environmentOf is what a container was made with.
func (s *scene) environmentOf(id string) map[string]string {
	s.t.Helper()
	spec, err := s.runtime.Spec(id)
	if err != nil {
		s.t.Fatal(err)
	}
	env := map[string]string{}
	for _, pair := range spec.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// addressOf is a sandbox's address.
func (s *scene) addressOf(id string) string {
	s.nets.mu.Lock()
	defer s.nets.mu.Unlock()
	return s.nets.sandboxes[id].Address.Addr().String()
}

const noSuchID = `{"code":"InvalidIdInRequest","message":"The id is not that of a role of this task: use the path in AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.","HTTPErrorCode":400}`

func TestTaskGetsItsRoleAndNobodyElseDoes(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		for i, id := range []string{"t0", "t1"} {
			task := taskOf(id, "sleep", "100000")
			roled(&task)
			p.send(acs.TypePayload, payloadOf("m-"+id, int64(i+1), task))
			if acks := credentialsAcks(p, 2); !slices.Equal(acks, []string{"m-" + id + " execution-id-of-" + id, "m-" + id + " id-of-" + id}) {
				t.Errorf("acknowledged were %v", acks)
			}
			p.acked("m-" + id)
			s.told(id, "RUNNING")
		}
		env := s.environmentOf("t0-0")
		if env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] != "/v2/credentials/id-of-t0" || env["AWS_ENDPOINT_URL"] != "http://169.254.170.2:4566" {
			t.Errorf("the container has %q and %q", env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"], env["AWS_ENDPOINT_URL"])
		}
		ask := func(from, path string) string {
			status, body := s.askFrom(from, http.MethodGet, "http://169.254.170.2"+path, nil)
			if want := http.StatusBadRequest; status != want && !strings.Contains(body, "RoleArn") {
				t.Errorf("%s from %s answers %d", path, from, status)
			}
			return strings.TrimSpace(body)
		}
		for _, path := range []string{"/v2/credentials/id-of-t0", "/v1/credentials?id=id-of-t0"} {
			var got map[string]string
			if err := json.Unmarshal([]byte(ask("10.0.0.2", path)), &got); err != nil {
				t.Fatal(err)
			}
			if len(got) != 5 || got["RoleArn"] != "arn:aws:iam::000000000000:role/r" || got["AccessKeyId"] != "ASIA-first" ||
				got["SecretAccessKey"] != "secret-first" || got["Token"] != "token-first" || got["Expiration"] == "" {
				t.Errorf("%s has %v", path, got)
			}
			for _, stranger := range []string{"10.0.0.3", "127.0.0.1", "192.0.2.7"} {
				if body := ask(stranger, path); body != noSuchID {
					t.Errorf("%s gets %s", stranger, body)
				}
			}
		}
		// What the node itself uses for the task is no task's.
		if body := ask("10.0.0.2", "/v2/credentials/execution-id-of-t0"); body != noSuchID {
			t.Errorf("the execution role answers %s", body)
		}
		if body := ask("10.0.0.2", "/v2/credentials/"); !strings.Contains(body, "NoIdInRequest") {
			t.Errorf("without an id comes %s", body)
		}
	})
}

func TestRoleOfHostTaskIsServedToTheHostOnly(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 2, func(task *acs.Task) {
			if roled(task); taskID(task.ARN) == "t0" {
				task.NetworkMode = "host"
			}
		})
		for from, want := range map[string]int{"169.254.170.2": http.StatusOK, s.addressOf("t1-0"): http.StatusBadRequest} {
			if status, body := s.askFrom(from, http.MethodGet, "http://169.254.170.2/v2/credentials/id-of-t0", nil); status != want {
				t.Errorf("%s gets %d %s", from, status, body)
			}
		}
	})
}

func TestRenewedCredentialsReplaceTheFormer(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		task := taskOf("t0", "sleep", "100000")
		roled(&task)
		p.send(acs.TypePayload, payloadOf("m", 1, task))
		p.acked("m")
		s.told("t0", "RUNNING")
		// Another id changes nothing: the container knows the first.
		p.send(acs.TypeCredentials, acs.CredentialsMessage{MessageID: "r1", TaskARN: task.ARN, RoleType: acs.RoleTask, Credentials: *credentialsOf("other-id", "second", time.Hour)})
		if acks := credentialsAcks(p, 1); acks[0] != "r1 other-id" {
			t.Errorf("acknowledged %v", acks)
		}
		if _, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2/v2/credentials/id-of-t0", nil); !strings.Contains(body, "secret-second") {
			t.Errorf("after the renewal comes %s", body)
		}
		// What nobody here has a use for is not acknowledged.
		for name, m := range map[string]acs.CredentialsMessage{
			"an unknown task": {TaskARN: "arn:aws:ecs:us-east-1:000000000000:task/default/none", RoleType: acs.RoleTask, Credentials: *credentialsOf("x", "x", time.Hour)},
			"an unknown role": {TaskARN: task.ARN, RoleType: "Other", Credentials: *credentialsOf("x", "x", time.Hour)},
			"no key":          {TaskARN: task.ARN, RoleType: acs.RoleTask, Credentials: acs.Credentials{CredentialsID: "x", Expiration: "2100-01-01T00:00:00Z"}},
			"no time":         {TaskARN: task.ARN, RoleType: acs.RoleTask, Credentials: acs.Credentials{CredentialsID: "x", AccessKeyID: "x", SecretAccessKey: "x"}},
		} {
			m.MessageID = name
			p.send(acs.TypeCredentials, m)
		}
		p.sendRaw(`{"type":"IAMRoleCredentialsMessage","message":7}`)
		p.quiet(10 * time.Second)
	})
}

// A stopped task's credentials are gone, and nothing of any was ever on disk.
func TestCredentialsGoWithTheirTask(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 1, roled)
		s.halt() // so that all is on disk
		held := 0
		err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			if bytes.Contains(raw, []byte("secret-")) || bytes.Contains(raw, []byte("token-")) {
				t.Errorf("%s holds a secret", path)
			}
			if bytes.Contains(raw, []byte("id-of-t0")) {
				held++
			}
			return err
		})
		if err != nil || held == 0 {
			t.Fatalf("%d files name the task, %v", held, err)
		}
		s.restart()
		p := s.session()
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2/v2/credentials/id-of-t0", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "CredentialsUninitialized") {
			t.Errorf("before they have come, %d %s", status, body)
		}
		p.send(acs.TypeCredentials, acs.CredentialsMessage{MessageID: "r", TaskARN: taskOf("t0").ARN, RoleType: acs.RoleTask, Credentials: *credentialsOf("id-of-t0", "again", time.Hour)})
		credentialsAcks(p, 1)
		if _, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2/v2/credentials/id-of-t0", nil); !strings.Contains(body, "secret-again") {
			t.Errorf("when they have come, %s", body)
		}
		p.send(acs.TypePayload, payloadOf("stop", 9, stopOf("t0")))
		s.told("t0", "STOPPED")
		synctest.Wait()
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2/v2/credentials/id-of-t0", nil); status != http.StatusBadRequest || strings.TrimSpace(body) != noSuchID {
			t.Errorf("of the stopped task, %d %s", status, body)
		}
		time.Sleep(time.Minute)
		v := s.agent.engine.vault
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.roles)+len(v.served) != 0 {
			t.Errorf("%d roles and %d ids are left", len(v.roles), len(v.served))
		}
	})
}

// An agent that was killed while it made a container has to be given the credentials
// again before it goes on.
func TestContainerWaitsForItsRolesCredentials(t *testing.T) {
	for _, come := range []bool{true, false} {
		t.Run(fmt.Sprint("they come: ", come), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.images.block = make(chan struct{}) // until the agent is another
				s.boot()
				p := s.session()
				task := taskOf("t0", "sleep", "100000")
				roled(&task)
				p.send(acs.TypePayload, payloadOf("m", 1, task))
				p.acked("m")
				s.halt()
				s.images.block = nil
				s.restart()
				p = s.session()
				time.Sleep(time.Minute)
				if n := len(s.called("SubmitTaskStateChange")); n != 0 {
					t.Fatalf("%d changes were submitted before the credentials came", n)
				}
				if !come {
					time.Sleep(credentialsWait)
					reason, _ := s.told("t0", "STOPPED")["reason"].(string)
					if !strings.Contains(reason, "did not send credentials of the task's roles within 5m0s") {
						t.Errorf("the reason is %q", reason)
					}
					return
				}
				for _, kind := range []string{acs.RoleTask, acs.RoleExecution} {
					p.send(acs.TypeCredentials, acs.CredentialsMessage{MessageID: kind, TaskARN: task.ARN, RoleType: kind, Credentials: *credentialsOf("any", "later", time.Hour)})
				}
				s.told("t0", "RUNNING")
			})
		})
	}
}

// Output is delivered under the execution role, and only under it, as long as the
// task is there.
func TestOutputIsDeliveredUnderTheExecutionRole(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		p := s.session()
		for i, id := range []string{"plain", "roled"} {
			task := taskOf(id, "sleep", "100000")
			task.Containers[0].Name = id
			if id == "roled" {
				roled(&task)
			}
			p.send(acs.TypePayload, payloadOf("m-"+id, int64(i+1), task))
			p.acked("m-" + id)
			s.told(id, "RUNNING")
		}
		role := s.logs.role("roled")
		if s.logs.role("plain") != nil || role == nil {
			t.Fatalf("the plain task's role is %v, the other's %v", s.logs.role("plain"), role)
		}
		c, err := role.Retrieve(t.Context())
		if err != nil || c.SecretAccessKey != "secret-execution" || c.SessionToken != "token-execution" || !c.CanExpire {
			t.Errorf("the role has %v until %s, %v", c.AccessKeyID, c.Expires, err)
		}
		p.send(acs.TypeCredentials, acs.CredentialsMessage{MessageID: "r", TaskARN: taskOf("roled").ARN, RoleType: acs.RoleExecution, Credentials: *credentialsOf("x", "renewed", time.Hour)})
		credentialsAcks(p, 1)
		if c, err := role.Retrieve(t.Context()); err != nil || c.SecretAccessKey != "secret-renewed" {
			t.Errorf("the role has %v, %v", c.AccessKeyID, err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := role.Retrieve(t.Context()); !errors.Is(err, errNoCredentials) {
			t.Errorf("credentials that have ended are answered with %v", err)
		}
		// What is left when the task is over goes by the node.
		if err := s.agent.engine.accept(t.Context(), stopOf("roled")); err != nil {
			t.Fatal(err)
		}
		s.told("roled", "STOPPED")
		time.Sleep(time.Minute)
		if _, err := role.Retrieve(t.Context()); !errors.Is(err, ErrRoleOver) {
			t.Errorf("after the end of the task the answer is %v", err)
		}
	})
}

// upstream is a control plane that answers with what it was asked.
func upstream(t *testing.T, s *scene, serve http.HandlerFunc) *memoryNet {
	n := newMemoryNet()
	server := &http.Server{Handler: serve, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go server.Serve(n)
	transport := &http.Transport{DialContext: n.dial, DisableKeepAlives: true}
	s.options = func(o *Options) {
		o.API = API{Endpoint: &url.URL{Scheme: "http", Host: "plane"}, Transport: transport}
	}
	t.Cleanup(func() { server.Close() })
	return n
}

func TestTasksRequestsReachTheAPIAsTheyAre(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		net := upstream(t, s, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("X-Answer", "kept")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "%s %s host=%s auth=%s forwarded=%q body=%s", r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-For"), body)
		})
		s.boot()
		startTasks(s, 1, nil)
		sign := func(h http.Header) { h.Set("Authorization", "signature") }
		status, body := s.askFrom("10.0.0.2", http.MethodPut, "http://169.254.170.2:4566/a%2Fb//c?x=1;y&z=%20", sign)
		if want := `PUT /a%2Fb//c?x=1;y&z=%20 host=169.254.170.2:4566 auth=signature forwarded="" body=`; status != http.StatusTeapot || body != want {
			t.Errorf("%d %s\nwant %s", status, body, want)
		}
		for path, want := range map[string]int{"/_longshore/admin": http.StatusNotFound, "/_longshore": http.StatusNotFound} {
			if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566"+path, nil); status != want {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		upgrade := func(h http.Header) { h.Set("Connection", "Upgrade"); h.Set("Upgrade", "websocket") }
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566/ws", upgrade); status != http.StatusBadRequest {
			t.Errorf("an upgrade: %d %s", status, body)
		}
		net.setDown(true)
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566/", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "can't be reached from this container instance") {
			t.Errorf("without a control plane: %d %s", status, body)
		}
	})
}

// Who has no network can reach its metadata, but not the API, by no name.
func TestContainerWithoutANetworkHasNoAPI(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		upstream(t, s, func(http.ResponseWriter, *http.Request) { t.Error("the API was reached") })
		s.boot()
		startTasks(s, 1, func(task *acs.Task) { task.NetworkMode = "none" })
		if endpoint, ok := s.environmentOf("t0-0")["AWS_ENDPOINT_URL"]; ok {
			t.Errorf("the container is told of %s", endpoint)
		}
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566/", nil); status != http.StatusForbidden {
			t.Errorf("%d %s", status, body)
		}
	})
}

func TestTasksOwnEndpointIsKept(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.boot()
		startTasks(s, 1, func(task *acs.Task) {
			task.Containers[0].Environment = map[string]string{"AWS_ENDPOINT_URL": "http://elsewhere"}
		})
		if got := s.environmentOf("t0-0")["AWS_ENDPOINT_URL"]; got != "http://elsewhere" {
			t.Errorf("the endpoint is %s", got)
		}
	})
}

func TestForwardedRequestsAreBounded(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		held := make(chan struct{})
		upstream(t, s, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-held:
			case <-r.Context().Done():
			}
		})
		s.boot()
		startTasks(s, 1, nil)
		done := make(chan int, maxForwarded)
		for i := range maxForwarded {
			go func() {
				status, _ := s.askFrom(fmt.Sprint("10.0.1.", i%200), http.MethodGet, "http://169.254.170.2:4566/", nil)
				done <- status
			}()
		}
		time.Sleep(time.Second)
		if status, body := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566/", nil); status != http.StatusServiceUnavailable || !strings.Contains(body, "512 requests under way") {
			t.Errorf("one more: %d %s", status, body)
		}
		began := time.Now()
		for range maxForwarded {
			if status := <-done; status != http.StatusServiceUnavailable {
				t.Errorf("a request that nobody answers ends with %d", status)
			}
		}
		if took := time.Since(began); took < 5*time.Minute || took > forwardTimeout {
			t.Errorf("requests that nobody answers are given up after %s", took)
		}
		close(held)
		if status, _ := s.askFrom("10.0.0.2", http.MethodGet, "http://169.254.170.2:4566/", nil); status != http.StatusOK {
			t.Errorf("afterwards: %d", status)
		}
	})
}
