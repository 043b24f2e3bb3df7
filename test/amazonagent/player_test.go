package amazonagent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/service/iam"
)

// object is a JSON object as it travels.
type object = map[string]any

// agent is Amazon's agent on one machine: its key, and what it keeps on its disk.
type agent struct {
	t       *testing.T
	plane   *plane
	key     iam.AccessKey
	cluster string // ECS_CLUSTER
	arn     string
}

// newAgent makes a machine with a key of its own that has not registered yet.
func (p *plane) newAgent(t *testing.T, cluster string) *agent {
	t.Helper()
	key, err := p.server.AddNode(t.Context(), fmt.Sprintf("node-%04d", counter.next()), false, false)
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t: t, plane: p, key: key, cluster: cluster}
}

// joined registers a machine in a cluster, and connects it: nothing is placed on
// one that is away. A session that is opened later takes the place of this one,
// which reads nothing, as one that was lost.
func (p *plane) joined(t *testing.T, cluster string) *agent {
	t.Helper()
	a := p.newAgent(t, cluster)
	a.register(nil)
	a.acs()
	return a
}

func sign(r *http.Request, key iam.AccessKey, service string, body []byte) {
	sum := sha256.Sum256(body)
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret},
		r, hex.EncodeToString(sum[:]), service, region, time.Now().UTC())
	if err != nil {
		panic(err)
	}
}

// call makes one API call and returns its status and answer.
func (a *agent) call(operation string, in object) (int, object) {
	a.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, a.plane.endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113."+operation)
	sign(r, a.key, "ecs", body)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(raw, &out); err != nil {
		a.t.Fatalf("%s: %d %q: %v", operation, answer.StatusCode, raw, err)
	}
	return answer.StatusCode, out
}

// ok makes a call that must succeed.
func (a *agent) ok(operation string, in object) object {
	a.t.Helper()
	status, out := a.call(operation, in)
	if status != http.StatusOK {
		a.t.Fatalf("%s: %d %v", operation, status, out)
	}
	return out
}

// fails makes a call that must fail with a code, by which the agent decides what to do.
func (a *agent) fails(operation string, in object, code string) {
	a.t.Helper()
	status, out := a.call(operation, in)
	message, _ := out["message"].(string)
	if status < 400 || out["__type"] != code || message == "" {
		a.t.Errorf("%s: %d %v, want %s with a message", operation, status, out, code)
	}
}

// capabilities are what a current agent announces in external mode with Docker 20.10.
func capabilities() []any {
	var all []any
	for _, name := range []string{
		"ecs.capability.private-registry-authentication.secretsmanager", "ecs.capability.secrets.ssm.environment-variables",
		"ecs.capability.secrets.ssm.bootstrap.log-driver", "ecs.capability.ecr-endpoint", "ecs.capability.secrets.asm.environment-variables",
		"ecs.capability.secrets.asm.bootstrap.log-driver", "ecs.capability.container-ordering", "ecs.capability.full-sync",
		"ecs.capability.env-files.s3", "ecs.capability.network.container-port-range", "ecs.capability.container-restart-policy",
		"com.amazonaws.ecs.capability.privileged-container", "com.amazonaws.ecs.capability.logging-driver.json-file",
		"com.amazonaws.ecs.capability.logging-driver.awslogs", "com.amazonaws.ecs.capability.logging-driver.none",
		"com.amazonaws.ecs.capability.task-iam-role", "com.amazonaws.ecs.capability.task-iam-role-network-host",
		"ecs.capability.task-cpu-mem-limit", "com.amazonaws.ecs.capability.ecr-auth", "ecs.capability.execution-role-ecr-pull",
		"ecs.capability.container-health-check", "ecs.capability.docker-plugin.local", "ecs.capability.docker-plugin.local",
		"ecs.capability.pid-ipc-namespace-sharing", "ecs.capability.firelens.fluentd", "ecs.capability.firelens.fluentbit",
		"com.amazonaws.ecs.capability.logging-driver.awsfirelens", "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit",
		"ecs.capability.efs", "ecs.capability.firelens.options.config.file", "ecs.capability.firelens.options.config.s3",
		"ecs.capability.gmsa-domainless", "ecs.capability.efsAuth", "ecs.capability.external", "ecs.capability.ipv6-only",
	} {
		all = append(all, object{"name": name})
	}
	for v := 17; v <= 44; v++ {
		all = append(all, object{"name": fmt.Sprintf("com.amazonaws.ecs.capability.docker-remote-api.1.%d", v)})
	}
	return append(all, object{"name": "ecs.os-type", "value": "linux"}, object{"name": "ecs.os-family", "value": "LINUX"},
		object{"name": "ecs.cpu-architecture", "value": "x86_64"})
}

// registration is what the agent sends: cpu units and MiB as its machine has them.
func (a *agent) registration(custom ...any) object {
	in := object{
		"cluster": a.cluster, "clientToken": fmt.Sprint("token-", counter.next()), "attributes": append(custom, capabilities()...),
		"instanceIdentityDocument": "", "instanceIdentityDocumentSignature": "", "platformDevices": []any{},
		"totalResources": []any{
			object{"name": "CPU", "type": "INTEGER", "integerValue": 2048, "longValue": 0, "doubleValue": 0},
			object{"name": "MEMORY", "type": "INTEGER", "integerValue": 2000},
			object{"name": "PORTS", "type": "STRINGSET", "stringSetValue": []any{"22", "2375", "2376", "51678", "51679"}},
			object{"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []any{}},
		},
	}
	if a.arn != "" {
		in["containerInstanceArn"] = a.arn
	}
	return in
}

// register registers, with changes to what is sent, and checks what the agent
// checks: else it exits with 5.
func (a *agent) register(change func(object), custom ...any) object {
	a.t.Helper()
	in := a.registration(custom...)
	if change != nil {
		change(in)
	}
	instance := a.ok("RegisterContainerInstance", in)["containerInstance"].(object)
	back := attributesOf(instance)
	for _, sent := range in["attributes"].([]any) {
		name := sent.(object)["name"].(string)
		value, _ := sent.(object)["value"].(string)
		if got, ok := back[name]; !ok || got != value {
			a.t.Fatalf("attribute %s=%q came back as %q (%v)", name, value, got, ok)
		}
	}
	a.arn = instance["containerInstanceArn"].(string)
	return instance
}

func attributesOf(instance object) map[string]string {
	all := map[string]string{}
	for _, x := range instance["attributes"].([]any) {
		value, _ := x.(object)["value"].(string)
		all[x.(object)["name"].(string)] = value
	}
	return all
}

// socket is one websocket of the agent.
type socket struct {
	t      *testing.T
	agent  *agent
	conn   *websocket.Conn
	target string
}

// endpoint asks DiscoverPollEndpoint and turns the answer into a websocket's URL.
func (a *agent) endpoint(member string) string {
	a.t.Helper()
	out := a.ok("DiscoverPollEndpoint", object{"cluster": a.cluster, "containerInstance": a.arn, "zoneId": ""})
	return out[member].(string)
}

// handshake opens a websocket, or returns the answer that refused it.
func (a *agent) handshake(target string, key iam.AccessKey) (*socket, int, object) {
	a.t.Helper()
	r, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	sign(r, key, "ecs", nil)
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPHeader: r.Header, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if answer == nil {
			a.t.Fatal(err)
		}
		raw, _ := io.ReadAll(answer.Body)
		var body object
		if err := json.Unmarshal(raw, &body); err != nil {
			a.t.Fatalf("the handshake was refused with %d %q", answer.StatusCode, raw)
		}
		return nil, answer.StatusCode, body
	}
	if answer.Header.Get("Sec-WebSocket-Protocol") != "" || answer.Header.Get("Sec-WebSocket-Extensions") != "" {
		a.t.Errorf("the handshake agreed on %v", answer.Header)
	}
	conn.SetReadLimit(4 << 20)
	a.t.Cleanup(func() { conn.CloseNow() })
	return &socket{t: a.t, agent: a, conn: conn, target: target}, http.StatusSwitchingProtocols, nil
}

func (a *agent) acsURL(credentials bool) string {
	q := url.Values{
		"clusterArn": {a.cluster}, "containerInstanceArn": {a.arn}, "agentHash": {"a1b2c3d4"}, "agentVersion": {"1.105.0"},
		"seqNum": {"1"}, "protocolVersion": {"2"}, "sendCredentials": {fmt.Sprint(credentials)}, "dockerVersion": {"DockerVersion: 20.10.24"},
	}
	return a.endpoint("endpoint") + "/ws?" + q.Encode()
}

func (a *agent) tcsURL() string {
	q := url.Values{
		"cluster": {a.cluster}, "containerInstance": {a.arn}, "agentHash": {"a1b2c3d4"}, "agentVersion": {"1.105.0"}, "dockerVersion": {"DockerVersion: 20.10.24"},
	}
	return a.endpoint("telemetryEndpoint") + "/ws?" + q.Encode()
}

// acs opens the assignments socket.
func (a *agent) acs() *socket {
	a.t.Helper()
	s, status, body := a.handshake(a.acsURL(true), a.key)
	if s == nil {
		a.t.Fatalf("the assignments socket was refused: %d %v", status, body)
	}
	return s
}

// tcs opens the telemetry socket.
func (a *agent) tcs() *socket {
	a.t.Helper()
	s, status, body := a.handshake(a.tcsURL(), a.key)
	if s == nil {
		a.t.Fatalf("the telemetry socket was refused: %d %v", status, body)
	}
	return s
}

// read returns the next frame that is no heartbeat, or the error that ended the socket.
func (s *socket) read() (string, object, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			return "", nil, err
		}
		var frame struct {
			Type    string `json:"type"`
			Message object `json:"message"`
		}
		if err := json.Unmarshal(data, &frame); err != nil || kind != websocket.MessageText || frame.Type == "" {
			s.t.Fatalf("frame %s %q: %v", kind, data, err)
		}
		if frame.Type == "HeartbeatMessage" {
			s.send("HeartbeatAckRequest", object{"messageId": frame.Message["messageId"]})
			continue
		}
		return frame.Type, frame.Message, nil
	}
}

// expect returns the next frame, which must be of the kind.
func (s *socket) expect(kind string) object {
	s.t.Helper()
	got, message, err := s.read()
	if err != nil || got != kind {
		s.t.Fatalf("got %s %v %v, want %s", got, message, err, kind)
	}
	return message
}

// quiet checks that nothing comes for a while. It ends the socket.
func (s *socket) quiet() {
	s.t.Helper()
	got := make(chan string, 10)
	ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
	defer cancel()
	go func() {
		defer close(got)
		for {
			_, data, err := s.conn.Read(ctx)
			if err != nil {
				return
			}
			got <- string(data)
		}
	}()
	for data := range got {
		s.t.Errorf("unasked came %s", data)
	}
}

func (s *socket) send(kind string, message object) {
	s.t.Helper()
	raw, err := json.Marshal(object{"type": kind, "message": message})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, raw); err != nil {
		s.t.Fatalf("send %s: %v", kind, err)
	}
}

// ack acknowledges a payload or manifest.
func (s *socket) ack(m object) {
	s.t.Helper()
	s.send("AckRequest", object{"cluster": m["clusterArn"], "containerInstance": m["containerInstanceArn"], "messageId": m["messageId"]})
}

// payload takes the next payload, acknowledges it and returns its one task.
func (s *socket) payload() object {
	s.t.Helper()
	m := s.expect("PayloadMessage")
	s.ack(m)
	return only(s.t, m)
}

// only returns the one task of a payload: Amazon's agent acknowledges a payload
// as a whole, or not at all.
func only(t *testing.T, payload object) object {
	t.Helper()
	tasks, _ := payload["tasks"].([]any)
	if len(tasks) != 1 {
		t.Fatalf("a payload of %d tasks", len(tasks))
	}
	return tasks[0].(object)
}

// ended reads until the server closes the socket, and returns the close code.
func (s *socket) ended() websocket.StatusCode {
	s.t.Helper()
	for {
		if _, _, err := s.read(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// close ends the session as the agent does every half an hour.
func (s *socket) close() {
	s.t.Helper()
	_ = s.conn.Close(websocket.StatusNormalClosure, "ConnectionClosed")
}

// signed is a telemetry frame: the signed headers of a GET, a blank line, the JSON.
func (s *socket) signed(key iam.AccessKey, body []byte) []byte {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.target, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	sign(r, key, "ecs", body)
	var b bytes.Buffer
	r.Header.Set("Host", r.URL.Host)
	if err := r.Header.Write(&b); err != nil {
		s.t.Fatal(err)
	}
	return append(append(b.Bytes(), "\r\n"...), body...)
}

// publish sends a telemetry frame and returns the acknowledgement's type.
func (s *socket) publish(kind string, message object) string {
	s.t.Helper()
	body, err := json.Marshal(object{"type": kind, "message": message})
	if err != nil {
		s.t.Fatal(err)
	}
	s.raw(s.signed(s.agent.key, body))
	got, _, err := s.read()
	if err != nil {
		s.t.Fatalf("after %s: %v", kind, err)
	}
	return got
}

func (s *socket) raw(frame []byte) {
	s.t.Helper()
	if err := s.conn.Write(s.t.Context(), websocket.MessageText, frame); err != nil {
		s.t.Fatal(err)
	}
}

// submit reports a task's status with that of all its containers.
func (a *agent) submit(task, status string, containers ...object) {
	a.t.Helper()
	in := object{"cluster": a.cluster, "task": task, "status": status, "reason": "", "managedAgents": []any{}, "containers": containers}
	now := float64(time.Now().UnixMilli()) / 1000
	in["pullStartedAt"], in["pullStoppedAt"] = now, now
	if status == "STOPPED" {
		in["executionStoppedAt"] = now
	}
	if out := a.ok("SubmitTaskStateChange", in); out["acknowledgment"] == "" {
		a.t.Errorf("the report was answered with %v", out)
	}
}

func running(name string) object {
	return object{"containerName": name, "status": "RUNNING", "runtimeId": strings.Repeat("ab", 32), "imageDigest": "sha256:" + strings.Repeat("0", 64),
		"networkBindings": []any{object{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}}}
}

func stopped(name string, code int) object {
	return object{"containerName": name, "status": "STOPPED", "exitCode": code, "runtimeId": strings.Repeat("ab", 32)}
}
