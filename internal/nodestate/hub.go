package nodestate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Times of a stream.
const (
	// beat is how often a server says that it is there.
	beat = 10 * time.Second
	// writeLimit is how long a node may take to receive a message.
	writeLimit = 30 * time.Second
	// gather is how long changes are gathered before they are sent.
	gather = 5 * time.Millisecond
)

// maxStreams bounds the streams of one node.
const maxStreams = 4

// Viewer is the node that a stream is for.
type Viewer struct{ Account, NodeID string }

// Hub serves nodes their state. Providers are added before it serves.
type Hub struct {
	mu       sync.Mutex
	kinds    map[string]func(Viewer) (Entries, error)
	streams  map[*stream]Viewer
	byViewer map[Viewer]int
	closed   chan struct{}
}

// stream is one node's connection; dirty holds the kinds that may have changed.
type stream struct {
	wake  chan struct{}
	mu    sync.Mutex
	dirty map[string]bool
}

// NewHub returns a hub without kinds.
func NewHub() *Hub {
	return &Hub{kinds: map[string]func(Viewer) (Entries, error){}, streams: map[*stream]Viewer{}, byViewer: map[Viewer]int{}, closed: make(chan struct{})}
}

// Provide adds a kind: entries returns what a node may see of it, and is called from
// several goroutines. What it returns is not modified afterwards.
func (h *Hub) Provide(kind string, entries func(Viewer) (Entries, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds[kind] = entries
}

// Close ends all streams; it is called once.
func (h *Hub) Close() { close(h.closed) }

// Changed has the streams look at a kind again.
func (h *Hub) Changed(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		s.mark(kind)
	}
}

func (s *stream) mark(kind string) {
	s.mu.Lock()
	s.dirty[kind] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) take() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirty := s.dirty
	s.dirty = map[string]bool{}
	return dirty
}

// open begins a stream for the kinds that are asked for and known.
func (h *Hub) open(v Viewer, kinds []string) (*stream, map[string]func(Viewer) (Entries, error), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byViewer[v] >= maxStreams {
		return nil, nil, fmt.Errorf("the node %s has %d streams already", v.NodeID, maxStreams)
	}
	s := &stream{wake: make(chan struct{}, 1), dirty: map[string]bool{}}
	asked := map[string]func(Viewer) (Entries, error){}
	for _, kind := range kinds {
		if provide, ok := h.kinds[kind]; ok {
			asked[kind] = provide
			s.dirty[kind] = true
		}
	}
	h.streams[s] = v
	h.byViewer[v]++
	return s, asked, nil
}

func (h *Hub) close(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.streams[s]
	delete(h.streams, s)
	if h.byViewer[v]--; h.byViewer[v] == 0 {
		delete(h.byViewer, v)
	}
}

// Serve writes a node's stream until the node or the server ends it. The caller has
// authenticated the node.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, v Viewer) error {
	s, kinds, err := h.open(v, r.URL.Query()["kind"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return err
	}
	defer h.close(s)
	out := &writer{control: http.NewResponseController(w), encoder: json.NewEncoder(w)}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	sent := map[string]Entries{}
	for {
		for kind := range s.take() {
			now, err := kinds[kind](v)
			if err != nil {
				return fmt.Errorf("the state of kind %s: %w", kind, err)
			}
			m := diff(kind, sent[kind], now)
			_, again := sent[kind]
			m.Reset = !again
			sent[kind] = now
			if m.empty() {
				continue
			}
			if err := out.write(m); err != nil {
				return err
			}
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-h.closed:
			return nil
		case <-ticker.C:
			if err := out.write(message{}); err != nil {
				return err
			}
		case <-s.wake:
			select {
			case <-r.Context().Done():
				return nil
			case <-time.After(gather):
			}
		}
	}
}

// writer writes messages, each with a limit.
type writer struct {
	control *http.ResponseController
	encoder *json.Encoder
}

func (w *writer) write(m message) error {
	if err := w.control.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("limit the stream's write: %w", err)
	}
	if err := w.encoder.Encode(m); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	if err := w.control.Flush(); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}
