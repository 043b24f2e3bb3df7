package image

import (
	"context"
	"sync"
)

// keyedLock is a mutex per key whose wait ends with a context. The zero value is ready.
type keyedLock struct {
	mu    sync.Mutex
	locks map[string]*lockEntry
}

type lockEntry struct {
	sem  chan struct{}
	refs int
}

// lock waits for key and returns its unlock.
func (k *keyedLock) lock(ctx context.Context, key string) (func(), error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*lockEntry{}
	}
	e := k.locks[key]
	if e == nil {
		e = &lockEntry{sem: make(chan struct{}, 1)}
		k.locks[key] = e
	}
	e.refs++
	k.mu.Unlock()

	select {
	case e.sem <- struct{}{}:
		return func() { <-e.sem; k.drop(key, e) }, nil
	case <-ctx.Done():
		k.drop(key, e)
		return nil, context.Cause(ctx)
	}
}

func (k *keyedLock) drop(key string, e *lockEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.refs--; e.refs == 0 {
		delete(k.locks, key)
	}
}
