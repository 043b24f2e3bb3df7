package nodestate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// site is a hub whose entries a test changes, and its server.
type site struct {
	t      testing.TB
	hub    *Hub
	server *httptest.Server
	mu     sync.Mutex
	now    Entries
}

func newSite(t testing.TB) *site {
	s := &site{t: t, hub: NewHub(), now: Entries{}}
	s.hub.Provide("things", func(v Viewer) (Entries, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		seen := Entries{}
		for key, value := range s.now {
			if key != "secret of n2" || v.NodeID == "n2" {
				seen[key] = value
			}
		}
		return seen, nil
	})
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Node") == "" {
			http.Error(w, "who are you?", http.StatusForbidden)
			return
		}
		_ = s.hub.Serve(w, r, Viewer{"1", r.Header.Get("Node")})
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *site) set(change map[string]string) {
	s.mu.Lock()
	next := maps.Clone(s.now)
	for key, value := range change {
		if delete(next, key); value != "" {
			next[key], _ = json.Marshal(value)
		}
	}
	s.now = next
	s.mu.Unlock()
	s.hub.Changed("things")
}

// node follows the site and keeps what it was told.
type follower struct {
	*Follower
	mu   sync.Mutex
	seen []Entries
	end  func()
}

func (s *site) follow(node, file string) *follower {
	f := &follower{}
	reverse := func(b []byte) ([]byte, error) {
		b = slices.Clone(b)
		slices.Reverse(b)
		return b, nil
	}
	f.Follower = NewFollower(FollowerOptions{
		URL: s.server.URL, Kind: "things", Client: s.server.Client(), File: file, Seal: reverse, Open: reverse,
		Sign: func(r *http.Request) error { r.Header.Set("Node", node); return nil },
		Apply: func(e Entries) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen = append(f.seen, e)
			return nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	f.Load()
	go func() { defer close(done); _ = f.Run(ctx) }()
	f.end = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(f.end)
	return f
}

func (f *follower) last() Entries {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) == 0 {
		return nil
	}
	return f.seen[len(f.seen)-1]
}

// await waits until the follower knows just the entries.
func (f *follower) await(t testing.TB, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for range 1000 {
		got = map[string]string{}
		for key, raw := range f.last() {
			var value string
			_ = json.Unmarshal(raw, &value)
			got[key] = value
		}
		if f.last() != nil && maps.Equal(got, want) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("it knows %v, want %v", got, want)
}

func TestFollowerKnowsWhatTheHubHas(t *testing.T) {
	s := newSite(t)
	f := s.follow("n1", "")
	f.await(t, map[string]string{})
	s.set(map[string]string{"a": "1", "b": "2"})
	f.await(t, map[string]string{"a": "1", "b": "2"})
	s.set(map[string]string{"a": "", "b": "3", "c": "4"})
	f.await(t, map[string]string{"b": "3", "c": "4"})
	// A change that is none is not told.
	f.mu.Lock()
	told := len(f.seen)
	f.mu.Unlock()
	s.set(map[string]string{"c": "4"})
	s.set(map[string]string{"d": "5"})
	f.await(t, map[string]string{"b": "3", "c": "4", "d": "5"})
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) > told+1 {
		t.Errorf("it was told %d times of one change", len(f.seen)-told)
	}
}

// Each node is told what it may see.
func TestNodesSeeTheirOwn(t *testing.T) {
	s := newSite(t)
	s.set(map[string]string{"all": "1", "secret of n2": "2"})
	s.follow("n1", "").await(t, map[string]string{"all": "1"})
	s.follow("n2", "").await(t, map[string]string{"all": "1", "secret of n2": "2"})
}

// What was known counts while no server answers, also after a start; and what has changed
// meanwhile is told at once when it does.
func TestStateOutlivesTheServer(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "things")
	s.set(map[string]string{"a": "1", "b": "2"})
	f := s.follow("n1", file)
	f.await(t, map[string]string{"a": "1", "b": "2"})
	f.end()
	s.set(map[string]string{"a": ""})
	down := NewFollower(FollowerOptions{URL: "http://127.0.0.1:1", Kind: "things", File: file, Open: f.o.Open, Apply: func(e Entries) error {
		if len(e) != 2 {
			t.Errorf("kept are %v", e)
		}
		return errors.New("applied")
	}})
	down.Load()
	if len(down.entries) != 2 {
		t.Errorf("kept are %v", down.entries)
	}
	again := s.follow("n1", file)
	if len(again.seen) == 0 || len(again.seen[0]) != 2 {
		t.Errorf("before the server was heard, it knows %v", again.seen)
	}
	again.await(t, map[string]string{"b": "2"})
	s.server.CloseClientConnections()
	s.set(map[string]string{"c": "3"})
	again.await(t, map[string]string{"b": "2", "c": "3"})
}

// A hub that is closed ends its streams, so that its server can end.
func TestCloseEndsStreams(t *testing.T) {
	s := newSite(t)
	s.follow("n1", "").await(t, map[string]string{})
	s.hub.Close()
	done := make(chan struct{})
	go func() { s.server.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the server waits for a stream")
	}
}

// A node may have a few streams, not any number.
func TestStreamsAreLimited(t *testing.T) {
	s := newSite(t)
	for range maxStreams {
		s.follow("n1", "").await(t, map[string]string{})
	}
	r, _ := http.NewRequest(http.MethodGet, s.server.URL+"?kind=things", nil)
	r.Header.Set("Node", "n1")
	response, err := s.server.Client().Do(r)
	if err != nil || response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%v %v", response, err)
	}
	response.Body.Close()
	s.follow("n2", "").await(t, map[string]string{})
}

func TestDiffs(t *testing.T) {
	make := func(text string) Entries {
		e := Entries{}
		for i, c := range text {
			if c != '.' {
				e[fmt.Sprint(i)] = json.RawMessage{byte(c)}
			}
		}
		return e
	}
	for _, c := range [][2]string{{"", ""}, {"", "12"}, {"12", ""}, {"123", "1.4"}, {"1", "11"}} {
		from, to := make(c[0]), make(c[1])
		m := diff("k", from, to)
		if got := m.apply(from); !maps.EqualFunc(got, to, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Errorf("%v and %+v make %v, want %v", from, m, got, to)
		}
		if m.empty() != (c[0] == c[1]) {
			t.Errorf("%v to %v: %+v", from, to, m)
		}
	}
}
