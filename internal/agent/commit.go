package agent

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"
)

// maxGroup bounds the writes of one commit.
const maxGroup = 256

var errDBClosed = errors.New("the agent's records are closed")

// committer writes to a database: each write at once, and those that come while
// one is being written together with the next.
type committer struct {
	bolt   *bbolt.DB
	writes chan write
	done   chan struct{}

	mu     sync.RWMutex
	closed bool
}

type write struct {
	apply  func(*bbolt.Tx) error
	result chan error
}

func newCommitter(b *bbolt.DB) *committer {
	c := &committer{bolt: b, writes: make(chan write, maxGroup), done: make(chan struct{})}
	go c.run()
	return c
}

// commit returns when the write is on disk.
func (c *committer) commit(apply func(*bbolt.Tx) error) error {
	w := write{apply, make(chan error, 1)}
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return errDBClosed
	}
	c.writes <- w
	c.mu.RUnlock()
	return <-w.result
}

// close finishes what was begun.
func (c *committer) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.writes)
	}
	c.mu.Unlock()
	<-c.done
}

func (c *committer) run() {
	defer close(c.done)
	for first := range c.writes {
		group := append(make([]write, 0, 8), first)
		for more := true; more && len(group) < maxGroup; {
			select {
			case w, open := <-c.writes:
				if more = open; open {
					group = append(group, w)
				}
			default:
				more = false
			}
		}
		err := c.bolt.Update(func(tx *bbolt.Tx) error {
			for _, w := range group {
				if err := w.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range group {
			w.result <- err
		}
	}
}
