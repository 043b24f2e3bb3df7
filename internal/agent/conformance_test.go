package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/fake"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// The conformance suite plays a control plane, call by call and frame by frame,
// against the whole agent: its HTTP client, its websockets, its records on disk.
// Each quirk of the protocol is a case. A bubble's clock makes hours cheap.

const (
	testInstance = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/i1"
	testCluster  = "arn:aws:ecs:us-east-1:000000000000:cluster/default"
	testSecret   = "secret"
)

// scene is the control plane that a case plays, and the agent's machine.
type scene struct {
	t      *testing.T
	net    *memoryNet
	server *http.Server
	client *http.Client
	// metadata leads to the agent's metadata endpoint.
	metadata *memoryNet
	dir      string
	runtime  *fake.Runtime
	images   *memoryImages
	nets     *sceneNetworks
	logs     *memoryLogs
	// wrap changes the runtime of the next boot.
	wrap func(runtime.Runtime) runtime.Runtime
	// judge decides on calls for which nothing else is scripted.
	judge func(op string, in map[string]any) reply
	// options changes the agent's at the next boot.
	options func(*Options)

	agent  *Agent
	stop   context.CancelFunc
	ended  chan error
	nextID int

	acs, tcs chan *peer

	mu      sync.Mutex
	calls   []call
	scripts map[string][]reply
	refusal map[string]string // of handshakes: exception by "acs" or "tcs"
	peers   []*peer
	flying  int // submissions under way
}

// call is one request of the agent.
type call struct {
	op   string
	at   time.Time
	body map[string]any
}

// reply is what the control plane answers instead of success.
type reply struct {
	status int
	code   string
	// edit changes the output of a success.
	edit func(out map[string]any)
	// hang never answers; lost does what was asked, and cuts the connection.
	hang, lost bool
}

// sceneNetworks are memoryNetworks with the rest that a whole agent needs.
type sceneNetworks struct{ *memoryNetworks }

func (sceneNetworks) MetadataListenAddr() netip.AddrPort {
	return netip.MustParseAddrPort("127.0.0.1:51679")
}

func (sceneNetworks) Counters(context.Context, string) (network.Counters, error) {
	return network.Counters{}, nil
}

// play runs a case in a bubble.
func play(t *testing.T, body func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, fake.Options{})
		defer s.close()
		body(t, s)
	})
}

func newScene(t *testing.T, o fake.Options) *scene {
	s := &scene{
		t: t, net: newMemoryNet(), dir: t.TempDir(), runtime: fake.New(o),
		images: &memoryImages{snapshots: map[string]bool{}}, logs: newMemoryLogs(),
		nets: &sceneNetworks{&memoryNetworks{sandboxes: map[string]network.Sandbox{}}},
		acs:  make(chan *peer, 1024), tcs: make(chan *peer, 1024),
		scripts: map[string][]reply{}, refusal: map[string]string{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", s.serveCall)
	mux.HandleFunc("GET /acs/ws", func(w http.ResponseWriter, r *http.Request) { s.serveSocket(w, r, "acs", s.acs) })
	mux.HandleFunc("GET /tcs/ws", func(w http.ResponseWriter, r *http.Request) { s.serveSocket(w, r, "tcs", s.tcs) })
	s.server = &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go s.server.Serve(s.net)
	s.client = &http.Client{Transport: &http.Transport{DialContext: s.net.dial}}
	return s
}

// boot starts the agent over what is on its machine.
func (s *scene) boot() {
	s.t.Helper()
	var r runtime.Runtime = s.runtime
	if s.wrap != nil {
		r = s.wrap(r)
	}
	o := Options{
		DataDir: s.dir, Region: "us-east-1", Version: "test", Resources: Resources{CPU: 2048, Memory: 4096},
		Images: s.images, Networks: s.nets, Runtime: r, Logs: s.logs,
		Control: ecs.New(ecs.Options{
			Region: "us-east-1", BaseEndpoint: aws.String("http://plane"), HTTPClient: s.client,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIDNODE", SecretAccessKey: testSecret}, nil
			}),
		}),
		Sign: func(r *http.Request, payload []byte) error {
			return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: "AKIDNODE", SecretAccessKey: testSecret}, "us-east-1", "ecs", sigv4.Hash(payload), time.Now())
		},
		HTTPClient: s.client, Now: time.Now, NewID: s.id, Log: slog.New(slog.DiscardHandler),
	}
	if s.options != nil {
		s.options(&o)
	}
	var err error
	if s.agent, err = New(o); err != nil {
		s.t.Fatal(err)
	}
	metadata := newMemoryNet()
	s.agent.listen = func(netip.AddrPort) (net.Listener, error) { return metadata, nil }
	s.metadata = metadata
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.ended = cancel, make(chan error, 1)
	go func(a *Agent, ended chan error) { ended <- a.Run(ctx) }(s.agent, s.ended)
}

// halt ends the agent; its containers run on.
func (s *scene) halt() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := <-s.ended; err != nil {
		s.t.Errorf("the agent ended with %v", err)
	}
}

// restart ends the agent and starts another over what it left.
func (s *scene) restart() {
	s.t.Helper()
	s.halt()
	synctest.Wait() // a session that the former one began arrives before they are dropped
	for _, from := range []chan *peer{s.acs, s.tcs} {
		for len(from) > 0 {
			<-from
		}
	}
	s.boot()
}

func (s *scene) close() {
	s.halt()
	s.hangUp()
	s.server.Close()
	s.client.CloseIdleConnections()
	s.net.each(func(c *memoryConn) { c.Close() })
	all, err := s.runtime.List(context.Background())
	if err != nil {
		s.t.Error(err)
	}
	for _, c := range all {
		if err := s.runtime.Delete(context.Background(), c.ID); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *scene) id() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	return fmt.Sprint("id-", s.nextID)
}

// on answers the next calls of an operation with replies, in their order.
func (s *scene) on(op string, replies ...reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[op] = append(s.scripts[op], replies...)
}

// leave ends the sessions and opens none for hours, so that long waits are cheap.
func (s *scene) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal["acs"], s.refusal["tcs"] = acs.RejectInactiveInstance, acs.RejectInactiveInstance
	for _, p := range s.peers {
		go p.conn.Close(websocket.StatusGoingAway, "")
	}
}

// always answers every call of an operation with one reply, from now on; nil: success.
func (s *scene) always(op string, r *reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.scripts, op+"*")
	if r != nil {
		s.scripts[op+"*"] = []reply{*r}
	}
}

func (s *scene) verify(r *http.Request, body []byte) error {
	signature, err := sigv4.Parse(r)
	if err != nil {
		return err
	}
	if err := errors.Join(signature.CheckTime(time.Now()), signature.CheckScope("us-east-1", "ecs")); err != nil {
		return err
	}
	return signature.Verify(r, testSecret, sigv4.Hash(body), sigv4.Options{})
}

func (s *scene) serveCall(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the agent has gone in the middle of it
	}
	err = s.verify(r, raw)
	in := map[string]any{}
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	if err != nil {
		s.t.Errorf("a call came that cannot be taken: %v", err)
		return
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	how := s.begin(op, in)
	defer s.end(op)
	switch {
	case how.hang:
		<-r.Context().Done()
		return
	case how.lost:
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if how.status != 0 {
		w.WriteHeader(how.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": how.code, "message": "as the test says"})
		return
	}
	out := success(op, in)
	if how.edit != nil {
		how.edit(out)
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (s *scene) begin(op string, in map[string]any) (how reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call{op, time.Now(), in})
	if strings.HasPrefix(op, "Submit") {
		s.flying++
	}
	if next := s.scripts[op]; len(next) > 0 {
		s.scripts[op] = next[1:]
		return next[0]
	}
	if every := s.scripts[op+"*"]; len(every) > 0 {
		return every[0]
	}
	if s.judge != nil {
		return s.judge(op, in)
	}
	return reply{}
}

func (s *scene) end(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(op, "Submit") {
		s.flying--
	}
}

func success(op string, in map[string]any) map[string]any {
	switch op {
	case "RegisterContainerInstance":
		return map[string]any{"containerInstance": map[string]any{"containerInstanceArn": testInstance, "attributes": in["attributes"]}}
	case "DiscoverPollEndpoint":
		return map[string]any{"endpoint": "http://plane/acs", "telemetryEndpoint": "http://plane/tcs"}
	default:
		return map[string]any{"acknowledgment": "taken"}
	}
}

func (s *scene) serveSocket(w http.ResponseWriter, r *http.Request, kind string, to chan *peer) {
	if err := s.verify(r, nil); err != nil {
		s.t.Errorf("the %s handshake is not signed: %v", kind, err)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call{op: kind, at: time.Now()})
	refusal := s.refusal[kind]
	s.mu.Unlock()
	if refusal != "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"type":%q,"message":{"message":"as the test says"}}`, refusal)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	conn.SetReadLimit(4 << 20)
	p := &peer{s: s, kind: kind, conn: conn, request: r.Clone(context.Background()), query: r.URL.Query(), frames: make(chan acs.Envelope, 4096), gone: make(chan struct{})}
	s.mu.Lock()
	s.peers = append(s.peers, p)
	s.mu.Unlock()
	go p.read()
	select {
	case to <- p:
	default: // nobody looks at so many
	}
}

// peer is the control plane's end of one websocket.
type peer struct {
	s       *scene
	kind    string
	conn    *websocket.Conn
	request *http.Request
	query   url.Values
	frames  chan acs.Envelope
	gone    chan struct{}
	err     error // once gone
}

func (p *peer) read() {
	defer close(p.gone)
	for {
		_, data, err := p.conn.Read(context.Background())
		if err != nil {
			p.err = err
			return
		}
		if p.kind == "tcs" {
			if data, err = p.unsign(data); err != nil {
				p.s.t.Errorf("a telemetry frame cannot be taken: %v", err)
				continue
			}
		}
		var e acs.Envelope
		if err := json.Unmarshal(data, &e); err != nil {
			p.s.t.Errorf("the agent sent %q: %v", data, err)
			continue
		}
		p.frames <- e
	}
}

// unsign verifies a telemetry frame and returns its body.
func (p *peer) unsign(data []byte) ([]byte, error) {
	if len(data) > 1<<20 {
		return nil, fmt.Errorf("it has %d bytes", len(data))
	}
	header, body, err := acs.SplitSignedFrame(data)
	if err != nil {
		return nil, err
	}
	signed := p.request.Clone(context.Background())
	signed.Header, signed.Host = header, header.Get("Host")
	return body, p.s.verify(signed, body)
}

func (p *peer) send(kind string, message any) {
	p.s.t.Helper()
	raw, err := json.Marshal(message)
	if err == nil {
		raw, err = json.Marshal(acs.Envelope{Type: kind, Message: raw})
	}
	if err != nil {
		p.s.t.Fatal(err)
	}
	p.sendRaw(string(raw))
}

func (p *peer) sendRaw(frame string) {
	p.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		p.s.t.Fatalf("the agent does not take a frame: %v", err)
	}
}

// frame returns the agent's next frame, which must be of this kind.
func (p *peer) frame(kind string, into any) {
	p.s.t.Helper()
	p.either(kind, kind, into)
}

// either is frame for one of two kinds, and returns which it was.
func (p *peer) either(kind, other string, into any) string {
	p.s.t.Helper()
	select {
	case e := <-p.frames:
		if e.Type != kind && e.Type != other {
			p.s.t.Fatalf("the agent sent %s %s, want %s", e.Type, e.Message, kind)
		}
		if err := json.Unmarshal(e.Message, into); err != nil {
			p.s.t.Fatal(err)
		}
		return e.Type
	case <-p.gone:
		p.s.t.Fatalf("the session ended with %v, want a %s", p.err, kind)
	case <-time.After(30 * time.Second):
		p.s.t.Fatalf("the agent sent nothing, want a %s", kind)
	}
	return ""
}

// quiet fails on a frame of the agent within d.
func (p *peer) quiet(d time.Duration) {
	p.s.t.Helper()
	select {
	case e := <-p.frames:
		p.s.t.Fatalf("the agent sent %s %s, want nothing", e.Type, e.Message)
	case <-time.After(d):
	}
}

// acked expects the acknowledgement of a message, after those of the credentials that
// it brought.
func (p *peer) acked(message string) {
	p.s.t.Helper()
	var ack acs.Ack
	for {
		var e json.RawMessage
		if p.either(acs.TypeAck, acs.TypeCredentialsAck, &e) == acs.TypeCredentialsAck {
			continue
		}
		if err := json.Unmarshal(e, &ack); err != nil {
			p.s.t.Fatal(err)
		}
		break
	}
	if ack.MessageID != message || ack.ContainerInstance != testInstance || ack.Cluster != testCluster {
		p.s.t.Fatalf("acknowledged %+v, want %s of cluster and instance", ack, message)
	}
}

// nacked expects the refusal of a message, and returns its reason.
func (p *peer) nacked(message string) string {
	p.s.t.Helper()
	var nack acs.Nack
	p.frame(acs.TypeNack, &nack)
	if nack.MessageID != message {
		p.s.t.Fatalf("refused %+v, want %s", nack, message)
	}
	return nack.Reason
}

// beat keeps the session alive for d, as a control plane does.
func (p *peer) beat(d time.Duration) {
	p.s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		p.send(acs.TypeHeartbeat, acs.Heartbeat{MessageID: "beat", Healthy: true})
		if p.kind == "acs" {
			var ack acs.HeartbeatAck
			p.frame(acs.TypeHeartbeatAck, &ack)
		}
		time.Sleep(min(25*time.Second, time.Until(end)))
	}
}

// hangUp ends the control plane's side of every session.
func (s *scene) hangUp() {
	s.mu.Lock()
	peers := slices.Clone(s.peers)
	s.mu.Unlock()
	for _, p := range peers {
		p.conn.CloseNow()
	}
}

// session waits for the agent's next ACS session.
func (s *scene) session() *peer { return s.next(s.acs, 5*time.Minute) }

func (s *scene) next(from chan *peer, limit time.Duration) *peer {
	s.t.Helper()
	select {
	case p := <-from:
		return p
	case <-time.After(limit):
		s.t.Fatalf("the agent opened no session within %s", limit)
		return nil
	}
}

// called returns the calls of an operation so far.
func (s *scene) called(op string) []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []call
	for _, c := range s.calls {
		if c.op == op {
			all = append(all, c)
		}
	}
	return all
}

// statuses are the statuses submitted of a task, in their order.
func (s *scene) statuses(id string) (all []string) {
	for _, c := range s.called("SubmitTaskStateChange") {
		if status, _ := c.body["status"].(string); status != "" && taskID(c.body["task"].(string)) == id {
			all = append(all, status)
		}
	}
	return all
}

// told waits until a task's status is submitted, and returns the submission.
func (s *scene) told(id, status string) map[string]any {
	s.t.Helper()
	for range 1200 {
		for _, c := range s.called("SubmitTaskStateChange") {
			if c.body["status"] == status && taskID(c.body["task"].(string)) == id {
				return c.body
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("the control plane was never told that %s is %s", id, status)
	return nil
}

// payload is a message that assigns tasks.
func payloadOf(message string, sequence int64, tasks ...acs.Task) acs.Payload {
	return acs.Payload{ClusterARN: testCluster, ContainerInstanceARN: testInstance, MessageID: message, SeqNum: sequence, Tasks: tasks}
}

func manifestOf(message string, timeline int64, running ...string) acs.Manifest {
	m := acs.Manifest{ClusterARN: testCluster, ContainerInstanceARN: testInstance, MessageID: message, Timeline: timeline, Tasks: []acs.ManifestTask{}}
	for _, id := range running {
		m.Tasks = append(m.Tasks, acs.ManifestTask{TaskARN: taskOf(id).ARN, TaskClusterARN: testCluster, DesiredStatus: acs.DesiredRunning})
	}
	return m
}

func stopOf(id string) acs.Task {
	return acs.Task{ARN: taskOf(id).ARN, TaskClusterARN: testCluster, DesiredStatus: acs.DesiredStopped}
}

// started counts the containers of a task in the runtime.
func (s *scene) containers(id string) (running int) {
	all, err := s.runtime.List(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range all {
		if c.Group == id && c.Phase == runtime.PhaseRunning {
			running++
		}
	}
	return running
}

// textLog writes an agent's log into a test's buffer.
func textLog(b *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
