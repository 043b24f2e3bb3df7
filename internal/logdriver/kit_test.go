package logdriver

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/runtime"
)

// memorySpool is a spool in memory. Its cursors are numbers of chunks.
type memorySpool struct {
	mu      sync.Mutex
	chunks  []runtime.Chunk
	ended   bool
	acked   int64
	changed chan struct{}
}

func newSpool() *memorySpool { return &memorySpool{changed: make(chan struct{})} }

func (s *memorySpool) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *memorySpool) write(stream runtime.Stream, text string) {
	s.writeAt(stream, text, time.Now())
}

func (s *memorySpool) writeAt(stream runtime.Stream, text string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks = append(s.chunks, runtime.Chunk{Stream: stream, At: at, Data: []byte(text), Cursor: int64(len(s.chunks) + 1)})
	s.signal()
}

func (s *memorySpool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.signal()
}

func (s *memorySpool) Next(ctx context.Context, cursor int64) (runtime.Chunk, error) {
	for {
		s.mu.Lock()
		if n := max(cursor, s.acked); n < int64(len(s.chunks)) {
			defer s.mu.Unlock()
			return s.chunks[n], nil
		}
		ended, changed := s.ended, s.changed
		s.mu.Unlock()
		if ended {
			return runtime.Chunk{}, io.EOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return runtime.Chunk{}, ctx.Err()
		}
	}
}

func (s *memorySpool) Ack(cursor int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = max(s.acked, cursor)
	return nil
}

func (s *memorySpool) Acked() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, nil
}

// position is what was acknowledged.
func (s *memorySpool) position() int64 {
	acked, _ := s.Acked()
	return acked
}

func (s *memorySpool) Close() error { return nil }

// fakeClient records calls and answers as its test wants.
type fakeClient struct {
	mu     sync.Mutex
	events []types.InputLogEvent
	sizes  []int // events per accepted call
	times  []time.Time
	calls  []string
	fail   func(call string, n int) error // n counts from 1 per kind of call
	counts map[string]int
}

func (c *fakeClient) called(call string) error {
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[call]++
	c.calls = append(c.calls, call)
	if c.fail == nil {
		return nil
	}
	return c.fail(call, c.counts[call])
}

func (c *fakeClient) PutLogEvents(_ context.Context, in *cloudwatchlogs.PutLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.called("put"); err != nil {
		return nil, err
	}
	c.events = append(c.events, in.LogEvents...)
	c.sizes = append(c.sizes, len(in.LogEvents))
	c.times = append(c.times, time.Now())
	return &cloudwatchlogs.PutLogEventsOutput{}, nil
}

func (c *fakeClient) CreateLogStream(context.Context, *cloudwatchlogs.CreateLogStreamInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &cloudwatchlogs.CreateLogStreamOutput{}, c.called("stream")
}

func (c *fakeClient) CreateLogGroup(context.Context, *cloudwatchlogs.CreateLogGroupInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogGroupOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &cloudwatchlogs.CreateLogGroupOutput{}, c.called("group")
}

func (c *fakeClient) messages() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var m []string
	for _, e := range c.events {
		m = append(m, *e.Message)
	}
	return m
}

var app = Container{ID: "c0ffee", Name: "app", TaskID: "0123abcd", Region: "eu-west-1"}

// driver returns the driver of an awslogs configuration.
func driver(t testing.TB, client LogsClient, options map[string]string) Driver {
	t.Helper()
	all := map[string]string{"awslogs-group": "/ecs/web", "awslogs-stream-prefix": "web", "mode": "blocking"}
	for k, v := range options {
		all[k] = v
		if v == "" {
			delete(all, k)
		}
	}
	s, err := Parse(AWSLogs, all, app)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(s, Deps{Client: func(string, string) (LogsClient, error) { return client, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
