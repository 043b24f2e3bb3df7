package image

import (
	"context"
	"sync"
)

// flights makes equal pulls that overlap one pull. Each caller leaves when its own
// context ends; the pull is cancelled when the last has left. The zero value is ready.
type flights struct {
	mu      sync.Mutex
	all     map[flightKey]*flight
	running sync.WaitGroup
	closed  bool
}

// flightKey tells which pulls are equal. Credentials belong to it: nobody rides on
// another's.
type flightKey struct {
	name  string
	creds Credentials
}

type flight struct {
	cancel context.CancelFunc
	// waiting is guarded by flights.mu.
	waiting int
	done    chan struct{}
	// img and err are set before done is closed.
	img Image
	err error

	prog progress
	// mu guards watchers and serialises the calls of them.
	mu       sync.Mutex
	watchers map[int]func(Progress)
	next     int
}

// do runs pull for key, or joins it. base is what the pull's own context is made from.
func (f *flights) do(ctx, base context.Context, key flightKey, watch func(Progress), pull func(context.Context, *progress) (Image, error)) (Image, error) {
	fl := f.join(base, key, pull)
	if fl == nil {
		return Image{}, context.Canceled
	}
	unwatch := fl.watch(watch)
	defer unwatch()
	select {
	case <-fl.done:
		f.leave(key, fl)
		return fl.img, fl.err
	case <-ctx.Done():
		f.leave(key, fl)
		return Image{}, context.Cause(ctx)
	}
}

// join returns nil when the store closes.
func (f *flights) join(base context.Context, key flightKey, pull func(context.Context, *progress) (Image, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	if fl := f.all[key]; fl != nil {
		fl.waiting++
		return fl
	}
	if f.all == nil {
		f.all = map[flightKey]*flight{}
	}
	ctx, cancel := context.WithCancel(base)
	fl := &flight{cancel: cancel, waiting: 1, done: make(chan struct{}), watchers: map[int]func(Progress){}}
	fl.prog.changed = fl.report
	f.all[key] = fl
	f.running.Go(func() {
		defer cancel()
		fl.img, fl.err = pull(ctx, &fl.prog)
		f.forget(key, fl)
		close(fl.done)
	})
	return fl
}

func (f *flights) forget(key flightKey, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[key] == fl {
		delete(f.all, key)
	}
}

func (f *flights) leave(key flightKey, fl *flight) {
	f.mu.Lock()
	fl.waiting--
	last := fl.waiting == 0
	if last && f.all[key] == fl {
		delete(f.all, key) // the next caller begins anew instead of joining what ends
	}
	f.mu.Unlock()
	if last {
		fl.cancel()
	}
}

// close lets no more pulls begin and waits for those that run.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.running.Wait()
}

func (fl *flight) watch(fn func(Progress)) (unwatch func()) {
	if fn == nil {
		return func() {}
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	id := fl.next
	fl.next++
	fl.watchers[id] = fn
	return func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		delete(fl.watchers, id)
	}
}

func (fl *flight) report() {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if len(fl.watchers) == 0 {
		return
	}
	p := fl.prog.snapshot()
	for _, fn := range fl.watchers {
		fn(p)
	}
}
