package reconcile

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// manual is a clock that a test moves.
type manual struct{ now time.Time }

func newManual() *manual                               { return &manual{time.Unix(1_000_000, 0)} }
func (m *manual) Now() time.Time                       { return m.now }
func (m *manual) After(time.Duration) <-chan time.Time { return nil }
func (m *manual) pass(d time.Duration)                 { m.now = m.now.Add(d) }
func (m *manual) queue(change func(*QueueOptions)) *Queue {
	opts := QueueOptions{Clock: m, MinBackoff: time.Second, MaxBackoff: 10 * time.Second}
	if change != nil {
		change(&opts)
	}
	return NewQueue(opts)
}

// takeAll takes every ready key.
func takeAll(q *Queue) []string {
	var keys []string
	for key, ok := q.TryTake(); ok; key, ok = q.TryTake() {
		keys = append(keys, key)
	}
	return keys
}

func TestKeysComeInOrderAndOnce(t *testing.T) {
	q := newManual().queue(nil)
	for _, key := range []string{"a", "b", "a", "c", "b"} {
		q.Add(key)
	}
	if got := takeAll(q); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("took %v", got)
	}
}

func TestKeyAddedWhileHandledComesBackOnce(t *testing.T) {
	q := newManual().queue(nil)
	q.Add("a")
	q.TryTake()
	q.Add("a")
	q.Add("a")
	if got := takeAll(q); got != nil {
		t.Errorf("took %v while it is being handled", got)
	}
	q.Done("a")
	if got := takeAll(q); !slices.Equal(got, []string{"a"}) {
		t.Errorf("took %v after Done", got)
	}
	q.Done("a")
	if got := takeAll(q); got != nil {
		t.Errorf("took %v, nothing was added", got)
	}
	if l := q.Lengths(); l != (Lengths{}) {
		t.Errorf("the empty queue counts %+v", l)
	}
}

func TestDelayedKeys(t *testing.T) {
	clock := newManual()
	q := clock.queue(nil)
	q.AddAfter("later", 3*time.Second)
	q.AddAfter("sooner", 2*time.Second)
	q.AddAfter("later", 9*time.Second) // the earlier one stays
	q.AddAfter("moved", 5*time.Second)
	q.AddAfter("moved", time.Second)
	if at, ok := q.NextDue(); !ok || !at.Equal(clock.now.Add(time.Second)) {
		t.Errorf("next due %v, %v", at, ok)
	}
	var got []string
	for range 4 {
		got = append(got, fmt.Sprint(takeAll(q)))
		clock.pass(time.Second)
	}
	if want := []string{"[]", "[moved]", "[sooner]", "[later]"}; !slices.Equal(got, want) {
		t.Errorf("second by second: %v, want %v", got, want)
	}
	q = clock.queue(nil)
	q.AddAfter("a", time.Hour)
	q.Add("a")
	if got := takeAll(q); !slices.Equal(got, []string{"a"}) {
		t.Errorf("Add of a delayed key: took %v", got)
	}
}

func TestBackoffGrowsAndIsForgotten(t *testing.T) {
	clock := newManual()
	q := clock.queue(nil)
	q.Add("a")
	var waits []time.Duration
	for range 6 {
		key, ok := q.TryTake()
		if !ok {
			t.Fatal("the key did not come back in time")
		}
		d := q.Retry(key)
		waits = append(waits, d)
		if l := q.Lengths(); l.Failing != 1 || l.Delayed != 1 {
			t.Errorf("after a failure: %+v", l)
		}
		clock.pass(d - 1)
		if _, early := q.TryTake(); early {
			t.Error("the key came back too early")
		}
		clock.pass(1)
	}
	want := []time.Duration{1, 2, 4, 8, 10, 10}
	for i := range want {
		if waits[i] != want[i]*time.Second {
			t.Errorf("waits %v, want %v seconds", waits, want)
			break
		}
	}
	q.TryTake()
	q.Done("a")
	q.Add("a")
	q.TryTake()
	if d := q.Retry("a"); d != time.Second {
		t.Errorf("after a success the first wait is %v", d)
	}
}

func TestJitterOnlyShortens(t *testing.T) {
	for _, tt := range []struct {
		jitter float64
		want   time.Duration
	}{{0, time.Second}, {0.5, 750 * time.Millisecond}, {0.999999, 500_000_500}} {
		q := newManual().queue(func(o *QueueOptions) { o.Jitter = func() float64 { return tt.jitter } })
		q.Add("a")
		q.TryTake()
		if d := q.Retry("a"); d != tt.want {
			t.Errorf("jitter %v: wait %v, want %v", tt.jitter, d, tt.want)
		}
	}
}

// TestFailingKeyIsNoBusyLoop: a handler that fails and thereby causes its key
// to be added again waits all the same.
func TestFailingKeyIsNoBusyLoop(t *testing.T) {
	clock := newManual()
	q := clock.queue(nil)
	q.Add("a")
	for range 4 { // grow the backoff to 8 s
		q.TryTake()
		clock.pass(q.Retry("a"))
	}
	q.TryTake()
	q.Add("a") // while it is handled
	if d := q.Retry("a"); d != time.Second {
		t.Errorf("added while handled: waits %v, want MinBackoff", d)
	}
	clock.pass(time.Second)
	q.TryTake()
	q.Retry("a")
	q.Add("a") // after it failed
	q.Resync("a")
	if got := takeAll(q); got != nil {
		t.Error("a failed key is ready at once")
	}
	if at, _ := q.NextDue(); !at.Equal(clock.now.Add(time.Second)) {
		t.Errorf("ready in %v, want MinBackoff", at.Sub(clock.now))
	}
}

func TestForget(t *testing.T) {
	clock := newManual()
	q := clock.queue(nil)
	q.Add("ready")
	q.Add("stays")
	q.AddAfter("delayed", time.Second)
	q.Forget("ready")
	q.Forget("delayed")
	q.Forget("unknown")
	clock.pass(time.Minute)
	if got := takeAll(q); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("took %v", got)
	}
	q.Add("stays")
	q.Forget("stays")
	q.Done("stays")
	if l := q.Lengths(); l != (Lengths{}) {
		t.Errorf("after Forget: %+v", l)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newManual().queue(func(o *QueueOptions) { o.MaxKeys = 2 })
	if !q.Add("a") || !q.AddAfter("b", time.Second) || q.Add("c") || q.AddAfter("d", time.Second) {
		t.Error("two keys fit, a third does not")
	}
	if !q.Add("a") {
		t.Error("a known key is refused")
	}
	if l := q.Lengths(); l.Dropped != 2 || l.Ready != 1 || l.Delayed != 1 {
		t.Errorf("lengths %+v", l)
	}
	q.TryTake()
	q.Done("a")
	if !q.Add("c") {
		t.Error("no room after a key was done")
	}
}

func TestTakeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		taken := make(chan string)
		for range 3 {
			go func() {
				for {
					key, err := q.Take(ctx)
					if err != nil {
						taken <- ""
						return
					}
					taken <- fmt.Sprintf("%s at %v", key, time.Since(start))
					q.Done(key)
				}
			}()
		}
		synctest.Wait() // all wait without a timer
		q.AddAfter("slow", time.Hour)
		synctest.Wait() // all wait for an hour
		q.AddAfter("fast", time.Minute)
		q.Add("now")
		for _, want := range []string{"now at 0s", "fast at 1m0s", "slow at 1h0m0s"} {
			if got := <-taken; got != want {
				t.Errorf("took %s, want %s", got, want)
			}
		}
		cancel()
		for range 3 {
			if got := <-taken; got != "" {
				t.Errorf("took %s after the end", got)
			}
		}
	})
}

// TestQueueProperties: whatever is done, no key is lost, given out twice at a
// time, or out before its time.
func TestQueueProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := newManual()
		q := clock.queue(nil)
		owed := map[string]bool{}   // must be given out some time
		active := map[string]bool{} // given out
		key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		rt.Repeat(map[string]func(*rapid.T){
			"add":   func(rt *rapid.T) { k := key.Draw(rt, "key"); q.Add(k); owed[k] = true },
			"delay": func(rt *rapid.T) { k := key.Draw(rt, "key"); q.AddAfter(k, time.Second); owed[k] = true },
			"pass":  func(rt *rapid.T) { clock.pass(700 * time.Millisecond) },
			"take": func(rt *rapid.T) {
				k, ok := q.TryTake()
				if !ok {
					return
				}
				if active[k] || !owed[k] {
					rt.Fatalf("%s: given out twice or without being added", k)
				}
				active[k] = true
				delete(owed, k)
			},
			"done": func(rt *rapid.T) { k := key.Draw(rt, "key"); q.Done(k); delete(active, k) },
			"retry": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				q.Retry(k)
				if active[k] {
					owed[k] = true
				}
				delete(active, k)
			},
			"forget": func(rt *rapid.T) { k := key.Draw(rt, "key"); q.Forget(k); delete(owed, k) },
			"": func(rt *rapid.T) {
				if l := q.Lengths(); l.Active != len(active) || l.Ready+l.Delayed > 5 {
					rt.Fatalf("lengths %+v with %v active", l, active)
				}
			},
		})
		for k := range active {
			q.Done(k)
		}
		for len(owed) > 0 {
			clock.pass(time.Minute)
			got := takeAll(q)
			if len(got) == 0 {
				rt.Fatalf("lost: %v", owed)
			}
			for _, k := range got {
				if !owed[k] {
					rt.Fatalf("%s was given out, only %v are owed", k, owed)
				}
				delete(owed, k)
				q.Done(k)
			}
		}
		if l := q.Lengths(); l.Ready+l.Delayed+l.Active+l.Failing != 0 {
			rt.Fatalf("in the end: %+v", l)
		}
	})
}
