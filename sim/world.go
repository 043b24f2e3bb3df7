package main

import (
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"longshore.dev/longshore/internal/store/memkv"
)

// World is one run: everything that there is, and what happens next.
type World struct {
	Scenario
	Seed uint64

	rnd     *rand.Rand
	began   time.Time
	now     time.Time
	queue   events
	seq     uint64
	drawn   uint64 // ids
	faulty  bool   // faults happen
	trace   trace
	failure error

	mem *memkv.KV
	// main is the server, other a second one over the same store, which serves what
	// comes between another's reading and its commit; both nil while it is down.
	main, other *server
	quiet       bool // no fault happens in commits
	agents      []*agent
	byInstance  map[string]*agent
	early       []*event // requests under way that may arrive at any moment
	oracle      *oracle
	operator    *operator
	capability  []string // attributes that agents announce
	subnets     []string
	stats       Stats
}

// Stats say what a run was made of.
type Stats struct {
	Simulated                                      time.Duration
	Events, Commits, Conflicts, Unknown, Starts    int
	Crashes, AgentCrashes, NodeLosses, Cuts, Tasks int
	Probes, Explained                              int
}

// epoch is when every simulation begins.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(s Scenario, seed uint64) *World {
	w := &World{
		Scenario: s, Seed: seed, rnd: rand.New(rand.NewPCG(seed, 0x10065)),
		began: epoch, now: epoch, mem: memkv.New(), byInstance: map[string]*agent{},
	}
	w.trace = trace{hash: fnv.New64a()}
	w.oracle = newOracle(w)
	w.operator = &operator{w: w}
	return w
}

// event is something that happens at a time.
type event struct {
	at    time.Time
	seq   uint64
	label string
	fn    func()
	// serve is for a request that arrives: by main as a rule, by other between
	// another's reading and its commit. fn is nil then.
	serve func(s *server)
	gone  bool // it was served early
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// after has fn called after d.
func (w *World) after(d time.Duration, label string, fn func()) *event {
	w.seq++
	e := &event{at: w.now.Add(max(d, 0)), seq: w.seq, label: label, fn: fn}
	heap.Push(&w.queue, e)
	return e
}

// run lets everything happen that is due within d, and tells whether all went well.
func (w *World) run(d time.Duration) bool {
	until := w.now.Add(d)
	for w.failure == nil {
		at, do := w.next()
		if do == nil || at.After(until) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		w.stats.Events++
		do()
		w.afterEvent()
	}
	if w.failure == nil {
		w.now = until
	}
	w.stats.Simulated = w.now.Sub(w.began)
	return w.failure == nil
}

// next is what happens next: an event, or a step of a loop that is due before it.
func (w *World) next() (time.Time, func()) {
	var at time.Time
	var do func()
	for len(w.queue) > 0 && w.queue[0].gone {
		heap.Pop(&w.queue)
	}
	if len(w.queue) > 0 {
		e := w.queue[0]
		at, do = e.at, func() {
			heap.Pop(&w.queue)
			w.trace.note(w.now, e.label)
			if e.serve != nil {
				e.gone = true
				e.serve(w.main)
				return
			}
			e.fn()
		}
	}
	if w.main == nil {
		return at, do
	}
	for i := range w.main.loops {
		if due, ok := w.main.dueAt(i); ok && (do == nil || due.Before(at)) {
			at, do = due, func() { w.main.stepLoop(i) }
		}
	}
	return at, do
}

// afterEvent lets the server die that was hit during the event, and has sessions
// stepped that were told of changes.
func (w *World) afterEvent() {
	if w.main == nil {
		return
	}
	if w.main.dead {
		w.crash()
		return
	}
	w.main.wakeLinks()
}

// fail notes the first thing that went wrong.
func (w *World) fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf(format, args...)
		w.trace.note(w.now, "FAILED: "+w.failure.Error())
	}
}

// id returns the next of the ids that are like random ones.
func (w *World) id() string {
	w.drawn++
	r := rand.New(rand.NewPCG(w.Seed^0x5eed, w.drawn))
	return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
}

// chance is true with probability p while faults happen.
func (w *World) chance(p float64) bool { return w.faulty && p > 0 && w.rnd.Float64() < p }

// between draws a duration.
func (w *World) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(w.rnd.Int64N(int64(to-from)))
}

// exponential draws the time to something that comes every mean.
func (w *World) exponential(mean time.Duration) time.Duration {
	return min(time.Duration(w.rnd.ExpFloat64()*float64(mean)), 20*mean)
}

// trace keeps a digest of all that happened, and the latest of it in words.
type trace struct {
	hash  hash.Hash64
	lines []string
	next  int
	all   func(line string) // gets every line; nil: nobody does
}

// tracedLines is how much of the past a failure shows.
const tracedLines = 80

func (t *trace) note(now time.Time, line string) {
	line = now.Sub(epoch).String() + " " + line
	t.hash.Write([]byte(line))
	if t.all != nil {
		t.all(line)
	}
	if len(t.lines) < tracedLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % tracedLines
}

func (t *trace) last() string {
	return strings.Join(append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...), "\n")
}
