package nodestate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"time"

	"longshore.dev/longshore/internal/atomicfile"
)

// Times of a follower.
const (
	// silence without a word from the server ends a connection.
	silence = 3 * beat
	// firstWait doubles with each failed attempt in a row, up to mostWait.
	firstWait, mostWait = 250 * time.Millisecond, 15 * time.Second
)

// maxLine bounds one message, in bytes; maxKept the file of the last state.
const maxLine, maxKept = 256 << 20, 512 << 20

// FollowerOptions are what a Follower needs.
type FollowerOptions struct {
	// URL is of the server's stream; Kind what is followed.
	URL, Kind string
	Client    *http.Client
	// Sign signs a request without a body.
	Sign func(*http.Request) error
	// Apply is told the whole set at each change, one call at a time. An error is
	// logged; the set counts all the same.
	Apply func(Entries) error
	// File keeps the last state; empty: nowhere. Seal and Open protect it.
	File       string
	Seal, Open func([]byte) ([]byte, error)
	Log        *slog.Logger
}

// Follower follows one kind of a node's state.
type Follower struct {
	o       FollowerOptions
	entries Entries
	// complete: the server has told the whole set in this connection.
	complete bool
	told     chan struct{} // closed when a server has told the whole set once
}

// NewFollower returns a follower; Load and Run follow.
func NewFollower(o FollowerOptions) *Follower {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Follower{o: o, told: make(chan struct{})}
}

// Told is closed when a server has told the whole set for the first time, and it was applied.
func (f *Follower) Told() <-chan struct{} { return f.told }

// Load applies the state that was kept, if any. A file that can't be read is told of and
// does not count.
func (f *Follower) Load() {
	if f.o.File == "" {
		return
	}
	entries, err := f.read()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err != nil:
		f.o.Log.Warn("the kept state of the node can't be read; the server's is awaited", "file", f.o.File, "error", err)
		return
	}
	f.entries = entries
	f.apply()
}

func (f *Follower) read() (Entries, error) {
	info, err := os.Stat(f.o.File)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKept {
		return nil, fmt.Errorf("it has %d bytes", info.Size())
	}
	raw, err := os.ReadFile(f.o.File)
	if err != nil {
		return nil, err
	}
	plain, err := f.o.Open(raw)
	if err != nil {
		return nil, err
	}
	var entries Entries
	return entries, json.Unmarshal(plain, &entries)
}

// keep writes the state to the disk.
func (f *Follower) keep() error {
	if f.o.File == "" {
		return nil
	}
	plain, err := json.Marshal(f.entries)
	if err != nil {
		return err
	}
	sealed, err := f.o.Seal(plain)
	if err != nil {
		return err
	}
	return atomicfile.Write(f.o.File, sealed)
}

func (f *Follower) apply() {
	if err := f.o.Apply(f.entries); err != nil {
		f.o.Log.Error("part of the node's state can't be applied", "kind", f.o.Kind, "error", err)
	}
}

// Run follows the server until ctx ends. It connects again after each end, with back-off.
func (f *Follower) Run(ctx context.Context) error {
	wait := firstWait
	for failures := 0; ; {
		heard, err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			wait, failures = firstWait, 0
		} else if failures++; failures == 3 {
			f.o.Log.Warn("the server tells nothing of the node's state; what is known counts until it does", "kind", f.o.Kind, "error", err)
		}
		f.o.Log.Debug("the stream of the node's state ended; connecting again", "kind", f.o.Kind, "reason", err)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, mostWait)
	}
}

// follow is one connection. heard tells whether the server told the whole state.
func (f *Follower) follow(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errors.New("the server has said nothing for too long")) })
	defer quiet.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.URL+"?"+url.Values{"kind": {f.o.Kind}}.Encode(), nil)
	if err != nil {
		return false, err
	}
	if err := f.o.Sign(r); err != nil {
		return false, fmt.Errorf("sign the request: %w", err)
	}
	response, err := f.o.Client.Do(r)
	if err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return false, fmt.Errorf("the server answered %s: %s", response.Status, said)
	}
	f.complete = false
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		quiet.Reset(silence)
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return f.complete, fmt.Errorf("the server's message can't be read: %w", err)
		}
		f.take(&m)
	}
	return f.complete, errors.Join(lines.Err(), context.Cause(ctx))
}

// take applies a message. Until the whole set has been told, changes don't count.
func (f *Follower) take(m *message) {
	if m.Kind != f.o.Kind || !m.Reset && !f.complete {
		return
	}
	f.complete = true
	f.entries = m.apply(f.entries)
	f.apply()
	select {
	case <-f.told:
	default:
		close(f.told)
	}
	if err := f.keep(); err != nil {
		f.o.Log.Error("the node's state can't be kept; a start without the server will have an older one", "file", f.o.File, "error", err)
	}
}
