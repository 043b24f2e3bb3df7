package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/wire"
)

// plane is a control plane with tasks that a test sets.
type plane struct {
	mu      sync.Mutex
	tasks   []Assignment
	wakes   map[int]func(string)
	full    int // calls of Assignments
	single  int // and of Assignment
	nextID  int
	opened  []Session
	closed  []Session
	health  []*PublishHealth
	metrics []*PublishMetrics
	status  []*PublishInstanceStatus
	unfit   []string
	number  int64 // of the latest session
	refuse  error
	// grant answers Credentials; nil has none.
	grant func(arn string) ([]Grant, error)
}

func (p *plane) set(tasks ...Assignment) {
	p.mu.Lock()
	changed := map[string]bool{}
	for _, as := range slices.Concat(p.tasks, tasks) {
		changed[as.TaskARN] = true
	}
	p.tasks = tasks
	wakes := make([]func(string), 0, len(p.wakes))
	for _, w := range p.wakes {
		wakes = append(wakes, w)
	}
	p.mu.Unlock()
	for _, w := range wakes {
		for arn := range changed {
			w(arn)
		}
		if len(changed) == 0 {
			w("")
		}
	}
}

func (p *plane) Admit(context.Context, Session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refuse
}

func (p *plane) Opened(_ context.Context, s Session) (Opening, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened = append(p.opened, s)
	p.number += SessionNumbers
	return Opening{ClusterARN: "cluster/c", Sequence: p.number}, p.refuse
}

func (p *plane) Unfit(_ context.Context, _ Session, arn string, _ error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unfit = append(p.unfit, arn)
	return nil
}

func (p *plane) InstanceStatus(_ context.Context, _ Session, i *PublishInstanceStatus) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = append(p.status, i)
	return nil
}

func (p *plane) Closed(_ context.Context, s Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = append(p.closed, s)
}

func (p *plane) Assignments(context.Context, Session) ([]Assignment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full++
	return append([]Assignment(nil), p.tasks...), p.refuse
}

func (p *plane) Assignment(_ context.Context, _ Session, arn string) (Assignment, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.single++
	for _, as := range p.tasks {
		if as.TaskARN == arn {
			return as, true, p.refuse
		}
	}
	return Assignment{}, false, p.refuse
}

func (p *plane) Credentials(_ context.Context, _ Session, arn string) ([]Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grant == nil {
		return nil, nil
	}
	return p.grant(arn)
}

func (p *plane) Subscribe(_ Session, wake func(string)) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.nextID
	p.nextID++
	p.wakes[id] = wake
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.wakes, id)
	}
}

func (p *plane) Health(_ context.Context, _ Session, h *PublishHealth) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health = append(p.health, h)
	return nil
}

func (p *plane) Metrics(_ context.Context, _ Session, m *PublishMetrics) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.metrics = append(p.metrics, m)
	return nil
}

func running(arn string) Assignment {
	return Assignment{TaskARN: arn, Desired: DesiredRunning, Render: func() (Task, error) {
		return Task{ARN: arn, DesiredStatus: DesiredRunning, Containers: []Container{{Name: "c"}}}, nil
	}}
}

// signedBy stands in for signatures: a header that names the signer and covers
// the body by its length.
func signedBy(name string) Signer {
	return func(r *http.Request, payload []byte) error {
		r.Header.Set("Authorization", fmt.Sprintf("%s %d", name, len(payload)))
		return nil
	}
}

func authenticate(r *http.Request, body []byte) (wire.Principal, string, error) {
	name, length, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if length != fmt.Sprint(len(body)) {
		return wire.Principal{}, "", wire.Errorf("InvalidSignatureException", "the signature does not match")
	}
	return wire.Principal{ARN: name, NodeID: name}, "us-east-1", nil
}

func start(t *testing.T) (*plane, string) {
	t.Helper()
	p := &plane{wakes: map[int]func(string){}}
	var n atomic.Int64
	s := NewServer(p, authenticate, func() string { return fmt.Sprint("m", n.Add(1)) }, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /acs/ws", s.ServeACS)
	mux.HandleFunc("GET /tcs/ws", s.ServeTCS)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(s.Close)
	return p, server.URL
}

func dial(t *testing.T, endpoint string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), endpoint, url.Values{"clusterArn": {"default"}, "containerInstanceArn": {"i"}}, signedBy("node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// next reads frames until one of the kind comes.
func next[M any](t *testing.T, c *Client, kind string) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		frame, err := c.Read(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		if frame.Type != kind {
			continue
		}
		var m M
		if err := json.Unmarshal(frame.Message, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
}

func TestAgentIsToldWhatIsNewAndOnlyThat(t *testing.T) {
	p, endpoint := start(t)
	known := running("task/known")
	known.Started = true
	p.set(known, running("task/1"))
	c := dial(t, endpoint+"/acs")
	first := next[Payload](t, c, TypePayload)
	if len(first.Tasks) != 1 || first.Tasks[0].ARN != "task/1" {
		t.Fatalf("first payload = %+v, want task/1 alone: task/known was reported on already", first.Tasks)
	}
	manifest := next[Manifest](t, c, TypeManifest)
	if len(manifest.Tasks) != 2 {
		t.Fatalf("manifest names %d tasks, want both", len(manifest.Tasks))
	}
	if manifest.Timeline <= first.SeqNum {
		t.Fatalf("the manifest's timeline %d is not after the payload's sequence number %d", manifest.Timeline, first.SeqNum)
	}
	if err := c.Send(t.Context(), TypeAck, Ack{MessageID: first.MessageID}); err != nil {
		t.Fatal(err)
	}
	p.set(known, running("task/1"), running("task/2"))
	if second := next[Payload](t, c, TypePayload); second.Tasks[0].ARN != "task/2" {
		t.Fatalf("second payload is %s, want task/2", second.Tasks[0].ARN)
	}
	p.set(Assignment{TaskARN: "task/1", Desired: DesiredStopped})
	stop := next[Payload](t, c, TypePayload)
	if stop.Tasks[0].ARN != "task/1" || stop.Tasks[0].DesiredStatus != DesiredStopped {
		t.Fatalf("third payload = %+v, want the stop of task/1", stop.Tasks[0])
	}
}

func TestTasksBeyondTheWindowComeAfterAcknowledgements(t *testing.T) {
	p, endpoint := start(t)
	var tasks []Assignment
	for i := range maxUnacked + 10 {
		tasks = append(tasks, running(fmt.Sprintf("task/%03d", i)))
	}
	p.set(tasks...)
	c := dial(t, endpoint+"/acs")
	seen := map[string]bool{}
	for len(seen) < len(tasks) {
		m := next[Payload](t, c, TypePayload)
		seen[m.Tasks[0].ARN] = true
		if err := c.Send(t.Context(), TypeAck, Ack{MessageID: m.MessageID}); err != nil {
			t.Fatal(err)
		}
	}
	if m := next[Manifest](t, c, TypeManifest); len(m.Tasks) != len(tasks) {
		t.Fatalf("the manifest after the last payload names %d tasks, want %d", len(m.Tasks), len(tasks))
	}
}

func TestOnlyTasksThatShouldNotRunAreConfirmedForStop(t *testing.T) {
	p, endpoint := start(t)
	p.set()
	c := dial(t, endpoint+"/acs")
	manifest := next[Manifest](t, c, TypeManifest)
	late := running("task/late")
	late.Started = true
	p.set(late) // placed after the manifest was made
	err := c.Send(t.Context(), TypeStopVerification, StopVerification{
		MessageID: manifest.MessageID, StopCandidates: []ManifestTask{{TaskARN: "task/ghost"}, {TaskARN: "task/late"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := next[StopVerificationAck](t, c, TypeStopVerificationAk)
	if len(answer.StopTasks) != 1 || answer.StopTasks[0].TaskARN != "task/ghost" {
		t.Fatalf("confirmed stops = %+v, want task/ghost alone", answer.StopTasks)
	}
}

func TestRefusedHandshakesSayWhy(t *testing.T) {
	p, endpoint := start(t)
	p.refuse = ErrInactiveInstance
	_, err := Dial(t.Context(), endpoint+"/acs", url.Values{}, signedBy("node"), nil)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != RejectInactiveInstance {
		t.Fatalf("error = %v, want %s", err, RejectInactiveInstance)
	}
	wrong := func(r *http.Request, _ []byte) error { r.Header.Set("Authorization", "node 99"); return nil }
	if _, err = Dial(t.Context(), endpoint+"/acs", url.Values{}, wrong, nil); !errors.As(err, &refused) || refused.Code != "InvalidSignatureException" {
		t.Fatalf("error = %v, want InvalidSignatureException", err)
	}
}

func TestTelemetryFramesAreVerified(t *testing.T) {
	p, endpoint := start(t)
	c := dial(t, endpoint+"/tcs")
	if err := c.SendSigned(t.Context(), TypePublishHealth, PublishHealth{Tasks: []TaskHealth{{TaskARN: "task/1"}}}); err != nil {
		t.Fatal(err)
	}
	next[TelemetryAck](t, c, TypeAckHealth)
	if err := c.SendSigned(t.Context(), TypePublishMetrics, PublishMetrics{Metadata: MetricsMetadata{Idle: true}}); err != nil {
		t.Fatal(err)
	}
	next[TelemetryAck](t, c, TypeAckMetrics)
	if len(p.health) != 1 || p.health[0].Tasks[0].TaskARN != "task/1" || len(p.metrics) != 1 {
		t.Fatalf("the control plane got %d health and %d metrics frames", len(p.health), len(p.metrics))
	}
	c.sign = signedBy("stranger")
	if err := c.SendSigned(t.Context(), TypePublishHealth, PublishHealth{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context()); err == nil {
		t.Fatal("a frame signed by another principal than the session's was taken")
	}
}

func TestSignedFramesSurviveBodiesWithBlankLines(t *testing.T) {
	header := http.Header{"Authorization": {"x"}, "X-Amz-Date": {"20260101T000000Z"}}
	body := []byte("{\"a\":\"\r\n\r\nb\"}")
	gotHeader, gotBody, err := SplitSignedFrame(JoinSignedFrame(header, body))
	if err != nil || string(gotBody) != string(body) || gotHeader.Get("X-Amz-Date") != "20260101T000000Z" {
		t.Fatalf("split = %v %q %v", gotHeader, gotBody, err)
	}
	if _, _, err := SplitSignedFrame([]byte("{}")); err == nil {
		t.Fatal("a frame without headers was taken")
	}
}
