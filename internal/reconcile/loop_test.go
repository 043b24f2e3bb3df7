package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func keys(list ...string) func() iter.Seq[string] {
	return func() iter.Seq[string] { return slices.Values(list) }
}

func TestLoopSteps(t *testing.T) {
	clock := newManual()
	var seen []string
	fail := true
	l := New(Options{
		QueueOptions: QueueOptions{Clock: clock, MinBackoff: time.Second},
		Resync:       time.Hour,
		Keys:         keys("a", "b"),
		Reconcile: func(_ context.Context, key string) (time.Duration, error) {
			seen = append(seen, key)
			switch {
			case key == "a":
				return 10 * time.Second, nil
			case key == "b" && fail:
				return 0, errors.New("not yet")
			}
			return 0, nil
		},
	})
	run := func(d time.Duration) []string {
		clock.pass(d)
		seen = nil
		for l.Step(t.Context()) {
		}
		return seen
	}
	steps := []struct {
		pass time.Duration
		want []string
	}{
		{0, []string{"a", "b"}},               // the first resync
		{time.Second, []string{"b"}},          // the retry
		{time.Second, nil},                    // the retry's backoff has doubled
		{time.Second, []string{"b"}},          //
		{7 * time.Second, []string{"b", "a"}}, // the third retry; asked to be looked at again
	}
	for i, s := range steps {
		if got := run(s.pass); !slices.Equal(got, s.want) {
			t.Errorf("step %d: handled %v, want %v", i, got, s.want)
		}
	}
	fail = false
	if got := run(time.Minute); !slices.Contains(got, "b") {
		t.Errorf("the last retry did not come: %v", got)
	}
	if at, ok := l.NextDue(); !ok || !at.Equal(clock.now.Add(10*time.Second)) {
		t.Errorf("next due %v, %v; want when a asked for", at, ok)
	}
	if s := l.Stats(); s.Failed != 4 || s.Failing != 0 || s.Panicked != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestLoopRunsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		handled := map[string]int{}
		var busy, most atomic.Int32
		l := New(Options{
			Workers: 4,
			Resync:  time.Hour,
			Keys:    keys("a", "b", "c", "d", "e", "f"),
			Reconcile: func(ctx context.Context, key string) (time.Duration, error) {
				most.Store(max(most.Load(), busy.Add(1)))
				defer busy.Add(-1)
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				handled[key]++
				return 0, ctx.Err()
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		time.Sleep(2*time.Hour + time.Minute)
		mu.Lock()
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			if handled[key] != 3 {
				t.Errorf("%s was handled %d times, want at the start and at two resyncs", key, handled[key])
			}
		}
		mu.Unlock()
		if most.Load() != 4 {
			t.Errorf("%d keys were handled at a time, want 4", most.Load())
		}
		l.Add("g")
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		if busy.Load() != 0 || handled["g"] != 1 {
			t.Errorf("Run returned while %d workers were busy; g was handled %d times", busy.Load(), handled["g"])
		}
	})
}

func TestLoopContainsPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		others := make(chan string, 1)
		l := New(Options{
			Workers: 1,
			Reconcile: func(_ context.Context, key string) (time.Duration, error) {
				if key == "bad" && calls.Add(1) < 3 {
					panic("out of order")
				}
				if key == "good" {
					others <- key
				}
				return 0, nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		l.Add("bad")
		l.Add("good")
		<-others
		time.Sleep(time.Minute)
		if s := l.Stats(); s.Panicked != 2 || s.Handled != 4 || s.Failing != 0 {
			t.Errorf("stats %+v, want two panics, then a success", s)
		}
		cancel()
		<-ended
	})
}

func TestLoopBoundsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		l := New(Options{
			Timeout: 3 * time.Second,
			Reconcile: func(ctx context.Context, _ string) (time.Duration, error) {
				<-ctx.Done()
				return 0, fmt.Errorf("waited: %w", ctx.Err())
			},
		})
		l.Add("a")
		l.Step(t.Context())
		if d := time.Since(start); d != 3*time.Second || l.Stats().Failed != 1 {
			t.Errorf("the call took %v, stats %+v", d, l.Stats())
		}
	})
}

func BenchmarkQueue(b *testing.B) {
	q := NewQueue(QueueOptions{})
	names := make([]string, 1024)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	i := 0
	for b.Loop() {
		q.Add(names[i%len(names)])
		key, _ := q.TryTake()
		q.Done(key)
		i++
	}
}
