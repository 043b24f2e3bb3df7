package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Why a flight was cut.
var (
	errIdle      = errors.New("nothing was sent or received within the idle timeout")
	errDrained   = errors.New("the target's deregistration delay is over")
	errUnhealthy = errors.New("the target is unhealthy")
	errShutdown  = errors.New("the listener is gone, and the time to drain it is over")
)

// flight is a request, or a flow of TCP, while it runs: it can be cut from outside, and
// cuts itself when nothing moves.
type flight struct {
	front *front
	idle  time.Duration
	// last is when something moved, in nanoseconds since the flight began.
	last  atomic.Int64
	began time.Time
	timer *time.Timer
	// waiting: for the client to send.
	waiting atomic.Bool
	// clientGone: its body ended before its end. malformed: its body is not one.
	clientGone, malformed atomic.Bool
	// answering: the response has begun, nothing else can be said any more.
	answering atomic.Bool

	// mu guards the end against a cut at the same time.
	mu    sync.Mutex
	ended bool
	cause error
	// stalled: it was cut while it waited for the client to send.
	stalled bool
	onCut   func(*flight)
	cancel  context.CancelCauseFunc
}

// takeOff begins a flight; it is nil for a flow when the front is being drained. onCut
// unblocks what waits for the network; it is not called after land.
func (f *front) takeOff(idle time.Duration, cancel context.CancelCauseFunc, onCut func(*flight)) *flight {
	fl := &flight{front: f, idle: idle, began: time.Now(), onCut: onCut, cancel: cancel}
	f.mu.Lock()
	if f.http == nil && f.landed != nil {
		f.mu.Unlock()
		return nil
	}
	f.flights[fl] = true
	f.mu.Unlock()
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.timer = time.AfterFunc(idle, fl.expire)
	return fl
}

// land ends it: nothing of it is touched any more.
func (fl *flight) land() {
	fl.mu.Lock()
	fl.ended = true
	fl.timer.Stop()
	fl.mu.Unlock()
	fl.cancel(nil)
	f := fl.front
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flights, fl)
	if f.landed != nil && len(f.flights) == 0 {
		select {
		case <-f.landed:
		default:
			close(f.landed)
		}
	}
}

// touch says that something moved.
func (fl *flight) touch() { fl.last.Store(int64(time.Since(fl.began))) }

func (fl *flight) expire() {
	quiet := time.Since(fl.began) - time.Duration(fl.last.Load())
	if quiet >= fl.idle {
		fl.cut(errIdle)
		return
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if !fl.ended {
		fl.timer.Reset(fl.idle - quiet)
	}
}

// cut ends it from outside.
func (fl *flight) cut(cause error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended || fl.cause != nil {
		return
	}
	fl.cause, fl.stalled = cause, fl.waiting.Load()
	fl.cancel(cause)
	fl.onCut(fl)
}

// why is the cause of a cut, nil if there was none.
func (fl *flight) why() error {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.cause
}

// upload is the request's body on its way to the target.
type upload struct {
	body io.ReadCloser
	fl   *flight
	n    atomic.Int64
	// ended: all of it was read.
	ended atomic.Bool
}

func (u *upload) Read(p []byte) (int, error) {
	u.fl.waiting.Store(true)
	n, err := u.body.Read(p)
	u.fl.waiting.Store(false)
	u.n.Add(int64(n))
	u.fl.touch()
	switch {
	case err == io.EOF:
		u.ended.Store(true)
	case err != nil:
		var network net.Error
		gone := errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, http.ErrBodyReadAfterClose)
		u.fl.clientGone.Store(gone)
		u.fl.malformed.Store(!gone)
	}
	return n, err
}

// Close leaves the body open: the server closes it, and another target may read it yet.
func (u *upload) Close() error { return nil }

// unblock returns what makes reads from and writes to the client fail.
func unblock(w http.ResponseWriter) func(*flight) {
	return func(fl *flight) {
		control, past := http.NewResponseController(w), time.Unix(1, 0)
		// What cannot set deadlines has none to unblock.
		_ = control.SetReadDeadline(past)
		if fl.answering.Load() {
			_ = control.SetWriteDeadline(past)
		}
	}
}
