package pebblebulk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

const (
	// batchBytes bounds what is committed together.
	batchBytes = 8 << 20
	// seqBlock is how many sequence numbers are reserved on disk at a time.
	seqBlock = 1 << 20
	// queued bounds the requests that wait without blocking their callers' sends.
	queued = 256
)

// request is one change. Its apply runs on the writer's goroutine, which makes it
// the only one that writes, and adds to the batch without failing halfway; an
// exclusive one has a batch of its own, may fail, and is let through on a full disk.
type request struct {
	apply     func(b *pebble.Batch) error
	size      int
	exclusive bool
	done      chan error // buffered
}

// writer owns all writes of a database.
type writer struct {
	db       *DB
	requests chan *request
	quit     chan struct{}
	stopOnce sync.Once
	stopped  chan struct{} // closed when the goroutine has ended
	failed   atomic.Pointer[error]

	// Owned by the goroutine: the next sequence number and the end of those reserved.
	next, reserved uint64
}

func startWriter(d *DB) (*writer, error) {
	w := &writer{
		db: d, requests: make(chan *request, queued), quit: make(chan struct{}), stopped: make(chan struct{}),
	}
	value, closer, err := d.db.Get(seqKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		w.next = 1
	case err != nil:
		return nil, readError(err)
	default:
		defer closer.Close()
		if len(value) != 8 {
			return nil, fmt.Errorf("%w: sequence number of %d bytes", bulk.ErrDamaged, len(value))
		}
		w.next = binary.BigEndian.Uint64(value)
	}
	w.reserved = w.next
	go w.run()
	return w, nil
}

// do runs a request and waits until it is on disk.
func (w *writer) do(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.done = make(chan error, 1)
	select {
	case w.requests <- r:
	case <-w.stopped:
		return w.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stopped:
		select {
		case err := <-r.done:
			return err
		default:
			return w.ended()
		}
	}
}

func (w *writer) ended() error {
	if err := w.failure(); err != nil {
		return err
	}
	return bulk.ErrClosed
}

// failure returns why the writer no longer writes, or nil.
func (w *writer) failure() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *writer) stop() {
	w.stopOnce.Do(func() { close(w.quit) })
	<-w.stopped
}

func (w *writer) run() {
	defer close(w.stopped)
	for {
		select {
		case r := <-w.requests:
			w.write(r)
		case <-w.quit:
			for { // what was sent before is still written
				select {
				case r := <-w.requests:
					w.write(r)
				default:
					return
				}
			}
		}
		if w.failure() != nil {
			return
		}
	}
}

// write commits a request together with those that wait behind it.
func (w *writer) write(first *request) {
	group := []*request{first}
	var last *request // an exclusive request that ends the group
	if first.exclusive {
		group, last = nil, first
	} else {
		for size := first.size; size < batchBytes && last == nil; {
			select {
			case r := <-w.requests:
				if r.exclusive {
					last = r
					break
				}
				group = append(group, r)
				size += r.size
				continue
			default:
			}
			break
		}
	}
	if len(group) > 0 {
		err := w.db.checkFree()
		if err == nil {
			err = w.commit(group)
		}
		for _, r := range group {
			r.done <- err
		}
	}
	if last != nil {
		last.done <- w.commit([]*request{last})
	}
}

// commit applies requests in one batch and syncs it.
func (w *writer) commit(group []*request) (err error) {
	if err := w.failure(); err != nil {
		return err
	}
	b := w.db.db.NewBatch()
	defer func() {
		if p := recover(); p != nil {
			// Pebble panics when its log cannot be written. What was acknowledged is
			// safe; whether this batch is stored is only known after reopening.
			err = fmt.Errorf("%w: %v", bulk.ErrFailed, p)
			w.failed.Store(&err)
			w.db.log.Error("bulk data cannot be written any more", "dir", w.db.dir, "error", err)
			return
		}
		err = errors.Join(err, b.Close())
	}()
	for _, r := range group {
		if err := r.apply(b); err != nil {
			return err
		}
	}
	if b.Empty() {
		return nil
	}
	return b.Commit(pebble.Sync)
}

// takeSeqs returns the first of n new sequence numbers. The reservation is in the
// same batch as the first use, and batches are committed one after the other:
// a number is never on disk without its reservation.
func (w *writer) takeSeqs(b *pebble.Batch, n int) (uint64, error) {
	first := w.next
	w.next += uint64(n)
	if w.next > w.reserved {
		w.reserved = w.next + seqBlock
		if err := b.Set(seqKey, binary.BigEndian.AppendUint64(nil, w.reserved), nil); err != nil {
			return 0, err
		}
	}
	return first, nil
}
