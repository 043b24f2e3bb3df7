package fake

import (
	"context"
	"io"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

const (
	defaultMaxBytes = 16 << 20
	// overhead is what a frame of the real spool costs beyond its data, so that
	// cursors are as little guessable as there.
	overhead = 24
)

// spool is one container's output.
type spool struct {
	now         func() time.Time
	maxBytes    int64
	nonBlocking bool
	discard     bool

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	chunks  []runtime.Chunk
	offset  int64
	acked   int64
	dropped int64
	ended   bool
}

func newSpool(o runtime.Output, now func() time.Time) *spool {
	limit := o.MaxBytes
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	return &spool{now: now, maxBytes: limit, nonBlocking: o.NonBlocking, discard: o.Discard, changed: make(chan struct{})}
}

func (s *spool) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *spool) write(ctx context.Context, stream runtime.Stream, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(data)) + overhead
	for !s.ended && s.kept()+size > s.maxBytes && s.kept() > 0 {
		if s.nonBlocking {
			s.dropped += int64(len(s.chunks[0].Data))
			s.chunks = s.chunks[1:]
			continue
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return
		}
	}
	if s.ended || s.discard {
		return
	}
	s.offset += size
	s.chunks = append(s.chunks, runtime.Chunk{Stream: stream, At: s.now(), Data: data, Cursor: s.offset})
	s.notify()
}

func (s *spool) kept() int64 {
	if len(s.chunks) == 0 {
		return 0
	}
	first := s.chunks[0]
	return s.offset - first.Cursor + int64(len(first.Data)) + overhead
}

func (s *spool) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.notify()
}

func (s *spool) all() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var data []byte
	for _, c := range s.chunks {
		data = append(data, c.Data...)
	}
	return data
}

// Next implements runtime.Spool.
func (s *spool) Next(ctx context.Context, cursor int64) (runtime.Chunk, error) {
	for {
		s.mu.Lock()
		changed, ended := s.changed, s.ended
		for _, c := range s.chunks {
			if c.Cursor > cursor {
				c.Dropped, s.dropped = s.dropped, 0
				s.mu.Unlock()
				return c, nil
			}
		}
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

// Ack implements runtime.Spool.
func (s *spool) Ack(cursor int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked = max(s.acked, cursor)
	for len(s.chunks) > 0 && s.chunks[0].Cursor <= s.acked {
		s.chunks = s.chunks[1:]
	}
	s.notify()
	return nil
}

// Acked implements runtime.Spool.
func (s *spool) Acked() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, nil
}

// Close implements runtime.Spool.
func (s *spool) Close() error { return nil }
