package network

import (
	"context"
	"sync"
)

// keyLock is a lock per key that can be given up waiting for.
type keyLock struct {
	mu   sync.Mutex
	keys map[string]*keyHolder
}

type keyHolder struct {
	sem  chan struct{}
	refs int
}

// lock waits for key and returns its release, or ctx's error.
func (l *keyLock) lock(ctx context.Context, key string) (func(), error) {
	l.mu.Lock()
	if l.keys == nil {
		l.keys = map[string]*keyHolder{}
	}
	h := l.keys[key]
	if h == nil {
		h = &keyHolder{sem: make(chan struct{}, 1)}
		l.keys[key] = h
	}
	h.refs++
	l.mu.Unlock()

	select {
	case h.sem <- struct{}{}:
		return func() { <-h.sem; l.unref(key, h) }, nil
	case <-ctx.Done():
		l.unref(key, h)
		return nil, ctx.Err()
	}
}

func (l *keyLock) unref(key string, h *keyHolder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.refs--; h.refs == 0 {
		delete(l.keys, key)
	}
}
