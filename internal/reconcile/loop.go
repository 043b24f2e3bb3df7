package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Func brings what the key names closer to what it should be. It returns when
// to look again (0: when something changes), or an error, after which it is
// called again with a growing delay. It decides from what it reads, never from
// why it was called, and returns soon after ctx ends.
type Func func(ctx context.Context, key string) (again time.Duration, err error)

// Options of a Loop. Reconcile is required.
type Options struct {
	// Name is for logs.
	Name      string
	Reconcile Func
	// Keys lists every key at the start and at each Resync (nil: none).
	Keys func() iter.Seq[string]
	// Resync is how often Keys are all looked at (0: 5 minutes, <0: only at the
	// start).
	Resync time.Duration
	// Workers is how many keys Run handles at a time (0: 1).
	Workers int
	// Timeout bounds one call of Reconcile (0: 1 minute).
	Timeout time.Duration
	// Log gets failures (nil: nothing is logged).
	Log *slog.Logger

	QueueOptions
}

// Loop calls a Func for keys that are queued: by Add, by the Func itself, or by
// the resync. Either Run it, or Step it from a simulation.
type Loop struct {
	opts  Options
	queue *Queue

	resyncing sync.Mutex
	resyncAt  time.Time

	handled, failed, panicked atomic.Uint64
}

// Stats count what a loop did since it was made.
type Stats struct {
	Lengths
	Handled  uint64 // calls of the Func
	Failed   uint64 // of these, how many returned an error or panicked
	Panicked uint64
}

// New returns a loop that does nothing until Run or Step.
func New(opts Options) *Loop {
	if opts.Reconcile == nil {
		panic("reconcile: a loop without a function")
	}
	if opts.Workers <= 0 {
		opts.Workers = 1
	}
	if opts.Timeout <= 0 {
		opts.Timeout = time.Minute
	}
	if opts.Resync == 0 {
		opts.Resync = 5 * time.Minute
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = RealClock{}
	}
	return &Loop{opts: opts, queue: NewQueue(opts.QueueOptions)}
}

// Add asks for the key to be looked at now. It never blocks: subscribers of the
// store call it.
func (l *Loop) Add(key string) {
	if !l.queue.Add(key) {
		l.opts.Log.Warn("reconcile: the queue is full, the key waits for the resync", "loop", l.opts.Name, "key", key)
	}
}

// AddAfter asks for the key to be looked at after d.
func (l *Loop) AddAfter(key string, d time.Duration) { l.queue.AddAfter(key, d) }

// Forget drops a key that names nothing any more.
func (l *Loop) Forget(key string) { l.queue.Forget(key) }

// Stats returns counts for metrics.
func (l *Loop) Stats() Stats {
	return Stats{Lengths: l.queue.Lengths(), Handled: l.handled.Load(), Failed: l.failed.Load(), Panicked: l.panicked.Load()}
}

// Run handles keys until ctx ends, and returns ctx's error when all workers
// have ended.
func (l *Loop) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range l.opts.Workers {
		workers.Go(func() {
			for {
				key, err := l.queue.Take(ctx)
				if err != nil {
					return
				}
				l.handle(ctx, key)
			}
		})
	}
	workers.Go(func() { l.resyncLoop(ctx) })
	workers.Wait()
	return ctx.Err()
}

// Step handles one ready key, after a resync if that is due, and reports whether
// there was one. It starts no goroutine.
func (l *Loop) Step(ctx context.Context) bool {
	l.resyncIfDue()
	key, ok := l.queue.TryTake()
	if ok {
		l.handle(ctx, key)
	}
	return ok
}

// NextDue is when Step next has something to do.
func (l *Loop) NextDue() (at time.Time, ok bool) {
	at, ok = l.queue.NextDue()
	l.resyncing.Lock()
	defer l.resyncing.Unlock()
	if l.resyncAt.IsZero() {
		return l.opts.Clock.Now(), true
	}
	if l.opts.Resync > 0 && (!ok || l.resyncAt.Before(at)) {
		return l.resyncAt, true
	}
	return at, ok
}

func (l *Loop) resyncLoop(ctx context.Context) {
	for {
		l.resyncIfDue()
		if l.opts.Resync < 0 {
			return
		}
		select {
		case <-l.opts.Clock.After(l.opts.Resync):
		case <-ctx.Done():
			return
		}
	}
}

func (l *Loop) resyncIfDue() {
	l.resyncing.Lock()
	defer l.resyncing.Unlock()
	now := l.opts.Clock.Now()
	if !l.resyncAt.IsZero() && (l.opts.Resync < 0 || now.Before(l.resyncAt)) {
		return
	}
	l.resyncAt = now.Add(max(l.opts.Resync, 1))
	if l.opts.Keys == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			l.panicked.Add(1)
			l.opts.Log.Error("reconcile: panic while listing the keys", "loop", l.opts.Name, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for key := range l.opts.Keys() {
		l.queue.Resync(key)
	}
}

// handle calls the Func for a taken key and puts the key where it belongs.
func (l *Loop) handle(ctx context.Context, key string) {
	l.handled.Add(1)
	again, err := l.call(ctx, key)
	if err != nil {
		l.failed.Add(1)
		wait := l.queue.Retry(key)
		if ctx.Err() == nil {
			l.opts.Log.Warn("reconcile: failed, trying again", "loop", l.opts.Name, "key", key, "error", err, "in", wait)
		}
		return
	}
	if again > 0 {
		l.queue.AddAfter(key, again)
	}
	l.queue.Done(key)
}

var errPanic = errors.New("panic")

func (l *Loop) call(ctx context.Context, key string) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			l.panicked.Add(1)
			l.opts.Log.Error("reconcile: panic", "loop", l.opts.Name, "key", key, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return l.opts.Reconcile(ctx, key)
}
