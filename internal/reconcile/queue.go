package reconcile

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

// Clock is the time that queues and loops run on. RealClock is the usual one; a
// simulation that only steps needs just Now.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// RealClock is the machine's clock.
type RealClock struct{}

// Now returns the time.
func (RealClock) Now() time.Time { return time.Now() }

// After sends the time after d.
func (RealClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// QueueOptions configure a Queue.
type QueueOptions struct {
	Clock Clock // nil: RealClock
	// Jitter returns a number in [0,1) that spreads retries (nil: none).
	Jitter func() float64
	// MinBackoff is the delay after a key's first failure; it doubles with each
	// further one up to MaxBackoff (0: 50 ms and 1 minute).
	MinBackoff, MaxBackoff time.Duration
	// MaxKeys bounds the keys that are queued, delayed or failing (0: 1,000,000).
	MaxKeys int
}

// Queue is a set of keys to look at. A key is in it at most once, and is never
// given to two takers at a time: what is added while a key is being handled is
// handled again afterwards. It is safe for concurrent use.
type Queue struct {
	opts QueueOptions

	mu      sync.Mutex
	items   map[string]*item
	ready   fifo
	delayed delays
	seq     uint64
	active  int
	failing int
	dropped uint64
	waiting int           // takers
	changed chan struct{} // closed and replaced when waiting takers should look again
}

// item is what the queue knows of a key. An item that is neither ready, delayed,
// active nor failing is removed.
type item struct {
	key      string
	ready    bool
	active   bool
	again    bool // added while active
	failures int

	due   time.Time // when delayed, or while active: when to be delayed to
	seq   uint64    // breaks ties of due in the order of adding
	index int       // in delayed, -1 when not there
}

// Lengths are counts of keys.
type Lengths struct {
	Ready   int
	Delayed int
	Active  int // being handled
	Failing int // failed last time; they are counted in the others as well
	// Dropped counts the additions refused because the queue was full, ever.
	Dropped uint64
}

// NewQueue returns an empty queue.
func NewQueue(opts QueueOptions) *Queue {
	if opts.Clock == nil {
		opts.Clock = RealClock{}
	}
	if opts.Jitter == nil {
		opts.Jitter = func() float64 { return 0 }
	}
	if opts.MinBackoff <= 0 {
		opts.MinBackoff = 50 * time.Millisecond
	}
	if opts.MaxBackoff <= 0 {
		opts.MaxBackoff = time.Minute
	}
	if opts.MaxKeys <= 0 {
		opts.MaxKeys = 1_000_000
	}
	return &Queue{opts: opts, items: make(map[string]*item), changed: make(chan struct{})}
}

// Add makes the key ready now, also if it was delayed. Only a key that failed
// waits MinBackoff, so that a failure which itself causes additions does not
// become a busy loop. Add reports false when the queue is full; the next resync
// brings the key back.
func (q *Queue) Add(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(key)
	switch {
	case it == nil:
		return false
	case it.active:
		it.again = true
		return true
	case it.failures > 0:
		q.delay(it, q.opts.Clock.Now().Add(q.opts.MinBackoff))
	default:
		q.makeReady(it)
	}
	q.wake()
	return true
}

// Resync is Add, but leaves a key that failed to its backoff.
func (q *Queue) Resync(key string) bool {
	q.mu.Lock()
	it := q.items[key]
	backingOff := it != nil && it.failures > 0
	q.mu.Unlock()
	return backingOff || q.Add(key)
}

// AddAfter makes the key ready after d, unless it is to be ready earlier.
func (q *Queue) AddAfter(key string, d time.Duration) bool {
	if d <= 0 {
		return q.Add(key)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.item(key)
	if it == nil {
		return false
	}
	q.delay(it, q.opts.Clock.Now().Add(d))
	q.wake()
	return true
}

// TryTake returns a ready key, oldest first, to a taker who must call Done, Retry
// or Forget with it.
func (q *Queue) TryTake() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.take()
}

// Take waits for a ready key until ctx ends.
func (q *Queue) Take(ctx context.Context) (key string, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		q.mu.Lock()
		key, ok := q.take()
		changed := q.changed
		var timer <-chan time.Time
		if !ok && len(q.delayed) > 0 {
			timer = q.opts.Clock.After(q.delayed[0].due.Sub(q.opts.Clock.Now()))
		}
		if !ok {
			q.waiting++
		}
		q.mu.Unlock()
		if ok {
			return key, nil
		}
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
		}
		q.mu.Lock()
		q.waiting--
		q.mu.Unlock()
	}
}

// Done ends the handling of a taken key that went well: its failures are forgotten.
func (q *Queue) Done(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil || !it.active {
		return
	}
	q.setFailures(it, 0)
	q.release(it)
}

// Retry ends the handling of a taken key that failed: it comes back after a
// backoff, which it returns, or after MinBackoff if it was added meanwhile.
func (q *Queue) Retry(key string) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil || !it.active {
		return 0
	}
	q.setFailures(it, it.failures+1)
	d := q.backoff(it.failures)
	if it.again {
		d = min(d, q.opts.MinBackoff)
	}
	it.again = false
	it.due = q.opts.Clock.Now().Add(d)
	q.release(it)
	return d
}

// Forget drops the key and its failures; of a key that is being handled, what
// was added meanwhile.
func (q *Queue) Forget(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	if it == nil {
		return
	}
	q.setFailures(it, 0)
	it.again, it.due = false, time.Time{}
	if it.active {
		return
	}
	if it.index >= 0 {
		heap.Remove(&q.delayed, it.index)
	}
	if it.ready {
		q.ready.remove(it)
	}
	delete(q.items, key)
}

// NextDue is when the earliest key is ready: now or before if one is.
func (q *Queue) NextDue() (at time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ready.length > 0 {
		return q.opts.Clock.Now(), true
	}
	if len(q.delayed) > 0 {
		return q.delayed[0].due, true
	}
	return time.Time{}, false
}

// Lengths counts the keys.
func (q *Queue) Lengths() Lengths {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Lengths{Ready: q.ready.length, Delayed: len(q.delayed), Active: q.active, Failing: q.failing, Dropped: q.dropped}
}

// item finds or makes the key's item; nil when the queue is full.
func (q *Queue) item(key string) *item {
	if it := q.items[key]; it != nil {
		return it
	}
	if len(q.items) >= q.opts.MaxKeys {
		q.dropped++
		return nil
	}
	it := &item{key: key, index: -1}
	q.items[key] = it
	return it
}

func (q *Queue) take() (string, bool) {
	now := q.opts.Clock.Now()
	for len(q.delayed) > 0 && !q.delayed[0].due.After(now) {
		q.makeReady(q.delayed[0])
	}
	it := q.ready.pop()
	if it == nil {
		return "", false
	}
	it.ready, it.active = false, true
	q.active++
	return it.key, true
}

// release ends the handling of an item: it becomes ready, delayed or unknown.
func (q *Queue) release(it *item) {
	it.active = false
	q.active--
	switch {
	case it.again:
		q.makeReady(it)
	case !it.due.IsZero():
		due := it.due
		it.due = time.Time{}
		q.delay(it, due)
	default:
		delete(q.items, it.key)
		return
	}
	q.wake()
}

func (q *Queue) makeReady(it *item) {
	if it.index >= 0 {
		heap.Remove(&q.delayed, it.index)
	}
	it.again, it.due = false, time.Time{}
	if !it.ready {
		it.ready = true
		q.ready.push(it)
	}
}

func (q *Queue) delay(it *item, due time.Time) {
	if it.ready || (!it.due.IsZero() && !due.Before(it.due)) {
		return
	}
	it.due = due
	if it.active {
		return
	}
	if it.index >= 0 {
		heap.Fix(&q.delayed, it.index)
		return
	}
	q.seq++
	it.seq = q.seq
	heap.Push(&q.delayed, it)
}

func (q *Queue) setFailures(it *item, n int) {
	if it.failures == 0 && n > 0 {
		q.failing++
	} else if it.failures > 0 && n == 0 {
		q.failing--
	}
	it.failures = n
}

// backoff is between one half and the whole of the doubled delay.
func (q *Queue) backoff(failures int) time.Duration {
	d := q.opts.MinBackoff
	for i := 1; i < failures && d < q.opts.MaxBackoff; i++ {
		d *= 2
	}
	d = min(d, q.opts.MaxBackoff)
	return d - time.Duration(q.opts.Jitter()*float64(d)/2)
}

func (q *Queue) wake() {
	if q.waiting == 0 {
		return
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

// delays is a heap of delayed items by due time.
type delays []*item

func (d delays) Len() int { return len(d) }

func (d delays) Less(i, j int) bool {
	if !d[i].due.Equal(d[j].due) {
		return d[i].due.Before(d[j].due)
	}
	return d[i].seq < d[j].seq
}

func (d delays) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *delays) Push(x any) {
	it := x.(*item)
	it.index = len(*d)
	*d = append(*d, it)
}

func (d *delays) Pop() any {
	old := *d
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	it.index = -1
	return it
}

// fifo is a queue whose removed items are skipped when their turn comes.
type fifo struct {
	items  []*item
	length int
}

func (f *fifo) push(it *item) {
	f.items = append(f.items, it)
	f.length++
}

func (f *fifo) pop() *item {
	for len(f.items) > 0 {
		it := f.items[0]
		f.items[0] = nil
		f.items = f.items[1:]
		if it.ready {
			f.length--
			return it
		}
	}
	return nil
}

func (f *fifo) remove(it *item) {
	it.ready = false
	f.length--
	if len(f.items) > 64 && len(f.items) > 2*f.length {
		f.items = slices.DeleteFunc(f.items, func(it *item) bool { return !it.ready })
	}
}
