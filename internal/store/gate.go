package store

import (
	"context"
	"sync"
)

// gate lets goroutines wait until a revision has been reached.
type gate struct {
	mu      sync.Mutex
	rev     int64
	err     error
	waiters map[*gateWaiter]struct{}
}

type gateWaiter struct {
	rev  int64
	done chan struct{}
}

// advance sets the revision reached and wakes who waited for it.
func (g *gate) advance(rev int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rev = max(g.rev, rev)
	for w := range g.waiters {
		if w.rev <= g.rev {
			close(w.done)
			delete(g.waiters, w)
		}
	}
}

// fail makes every present and future wait return err.
func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	for w := range g.waiters {
		close(w.done)
		delete(g.waiters, w)
	}
}

// wait returns when rev has been reached, with ctx's error when that ends
// first, or with the gate's error when it failed.
func (g *gate) wait(ctx context.Context, rev int64) error {
	g.mu.Lock()
	if rev <= g.rev {
		g.mu.Unlock()
		return nil
	}
	if g.err != nil {
		defer g.mu.Unlock()
		return g.err
	}
	w := &gateWaiter{rev: rev, done: make(chan struct{})}
	if g.waiters == nil {
		g.waiters = make(map[*gateWaiter]struct{})
	}
	g.waiters[w] = struct{}{}
	g.mu.Unlock()

	select {
	case <-w.done:
		g.mu.Lock()
		defer g.mu.Unlock()
		if rev <= g.rev {
			return nil
		}
		return g.err
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.waiters, w)
		return ctx.Err()
	}
}
