package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/runtime/fake"
)

// What a control plane wants of a task in the end.
const (
	wishRun    = iota // to run for ever
	wishOnce          // to run, and end by itself
	wishStop          // to run until it is told to stop
	wishForget        // to be gone, though nobody tells it: only manifests lack it
	wishKinds
)

// wish is one task of the faulty control plane.
type wish struct {
	id    string
	kind  int
	since time.Time // from then on it exists
	until time.Time // from then on it should be gone
	// What the control plane has seen.
	acked, running, stopped bool
}

func (w *wish) wanted(now time.Time) bool {
	return now.After(w.since) && !w.stopped && (w.kind == wishRun || w.kind == wishOnce || now.Before(w.until))
}

// chaos is a control plane that loses, delays, repeats and reorders frames and
// answers, cuts connections and kills the agent, until it is healed. What it does
// follows from its seed; only the agent's own jitter does not.
type chaos struct {
	*scene
	seed uint64
	// lossy loses single frames, and so lists in manifests only what was acknowledged.
	lossy bool

	lock     sync.Mutex
	wishes   []*wish
	rolls    map[string]uint64
	healed   bool
	sequence int64
	starts   map[string]int
	helpers  sync.WaitGroup
}

// roll returns the randomness of the next event of a kind.
func (c *chaos) roll(kind string) *rand.Rand {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.rolls[kind]++
	h := fnv.New64a()
	fmt.Fprint(h, kind, c.rolls[kind])
	return rand.New(rand.NewPCG(c.seed, h.Sum64()))
}

func (c *chaos) well() bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.healed
}

const (
	chaosTasks = 24
	chaosLasts = 15 * time.Minute
)

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{seed: seed, rolls: map[string]uint64{}, starts: map[string]int{}, lossy: seed%2 == 0}
	program := func(ends bool) fake.Program {
		return func(ctx context.Context, p *fake.Process) int {
			c.lock.Lock()
			c.starts[p.Args[0]]++
			c.lock.Unlock()
			if !ends {
				<-ctx.Done()
			}
			return 0
		}
	}
	c.scene = newScene(t, fake.Options{Programs: map[string]fake.Program{"serve": program(false), "once": program(true)}})
	for i := range chaosTasks {
		r := c.roll("wish")
		w := &wish{id: fmt.Sprint("t", i), kind: r.IntN(wishKinds)}
		w.since = time.Now().Add(time.Duration(r.Int64N(int64(chaosLasts / 2))))
		w.until = w.since.Add(time.Duration(r.Int64N(int64(chaosLasts / 2))))
		c.wishes = append(c.wishes, w)
	}
	c.judge = c.answer
	return c
}

// answer decides on a call: some are refused for a while, some are taken and the
// answer is lost.
func (c *chaos) answer(op string, in map[string]any) (how reply) {
	task, _ := in["task"].(string)
	if !c.well() {
		switch r := c.roll(op + task); r.IntN(12) {
		case 0:
			return reply{status: 500, code: "ServerException"}
		case 1:
			return reply{status: 400, code: "ThrottlingException"}
		case 2:
			how.lost = true
		case 3:
			how.hang = true
			if r.IntN(2) == 0 {
				return how // and nothing was taken
			}
		}
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, w := range c.wishes {
		if op == "SubmitTaskStateChange" && taskOf(w.id).ARN == task {
			w.running = w.running || in["status"] == "RUNNING"
			w.stopped = w.stopped || in["status"] == "STOPPED"
		}
	}
	return how
}

// emit sends a frame: perhaps late, twice or never.
func (c *chaos) emit(p *peer, kind string, message any) {
	raw, err := json.Marshal(message)
	if err == nil {
		raw, err = json.Marshal(acs.Envelope{Type: kind, Message: raw})
	}
	if err != nil {
		c.t.Error(err)
		return
	}
	copies, r := 1, c.roll("emit"+kind)
	if !c.well() {
		switch r.IntN(6) {
		case 0:
			copies = 2
		case 1:
			if c.lossy {
				return
			}
		}
	}
	for range copies {
		var late time.Duration
		if !c.well() && r.IntN(3) == 0 {
			late = time.Duration(r.Int64N(int64(10 * time.Second)))
		}
		c.helpers.Go(func() {
			select {
			case <-time.After(late):
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				_ = p.conn.Write(ctx, websocket.MessageText, raw) // a session that ended
			case <-p.gone:
			}
		})
	}
}

// attend is the control plane's side of one session.
func (c *chaos) attend(p *peer) {
	sent, acked, manifest := map[string]time.Time{}, map[string]bool{}, ""
	ticker := time.NewTicker(3 * time.Second)
	defer ticker.Stop()
	for tick := 0; ; {
		select {
		case <-p.gone:
			return
		case <-ticker.C:
			if tick++; tick%8 == 0 {
				c.emit(p, acs.TypeHeartbeat, acs.Heartbeat{MessageID: "h"})
			}
			if !c.well() && c.roll("cut").IntN(40) == 0 {
				p.conn.CloseNow()
				return
			}
			all := c.tell(p, sent, acked)
			if all && (manifest == "" || tick%20 == 0) && manifest != "acknowledged" {
				manifest = c.list(p)
			}
		case e := <-p.frames:
			if !c.well() && c.lossy && c.roll("lose"+e.Type).IntN(5) == 0 {
				continue
			}
			var m acs.StopVerification
			if json.Unmarshal(e.Message, &m) != nil {
				continue
			}
			switch e.Type {
			case acs.TypeAck:
				if m.MessageID == manifest {
					manifest = "acknowledged"
				}
				acked[m.MessageID] = true
				c.took(m.MessageID)
			case acs.TypeStopVerification:
				c.emit(p, acs.TypeStopVerificationAk, c.confirm(m))
			}
		}
	}
}

// tell sends what the agent has not acknowledged in this session; it reports
// whether everything has been sent.
func (c *chaos) tell(p *peer, sent map[string]time.Time, acked map[string]bool) bool {
	now := time.Now()
	type assignment struct {
		message string
		task    acs.Task
	}
	var out []assignment
	c.lock.Lock()
	for _, w := range c.wishes {
		task := taskOf(w.id, "serve", w.id)
		if w.kind == wishOnce {
			task.Containers[0].Command[0] = "once"
		}
		message := "start-" + w.id
		if w.kind == wishStop && now.After(w.until) && now.After(w.since) && !w.stopped {
			message, task = "stop-"+w.id, stopOf(w.id)
		} else if !w.wanted(now) || w.running {
			continue
		}
		if !acked[message] && now.Sub(sent[message]) > 15*time.Second {
			sent[message] = now
			out = append(out, assignment{message, task})
		}
	}
	c.lock.Unlock()
	for _, a := range out {
		c.emit(p, acs.TypePayload, payloadOf(a.message, c.next(), a.task))
	}
	return true
}

func (c *chaos) next() int64 {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.sequence++
	return c.sequence
}

// list sends a manifest.
func (c *chaos) list(p *peer) string {
	timeline := c.next()
	m := manifestOf(fmt.Sprint("manifest-", timeline), timeline)
	c.lock.Lock()
	for _, w := range c.wishes {
		if w.wanted(time.Now()) && (!c.lossy || w.acked || w.running) {
			m.Tasks = append(m.Tasks, acs.ManifestTask{TaskARN: taskOf(w.id).ARN, TaskClusterARN: testCluster, DesiredStatus: acs.DesiredRunning})
		}
	}
	c.lock.Unlock()
	c.emit(p, acs.TypeManifest, m)
	return m.MessageID
}

func (c *chaos) took(message string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, w := range c.wishes {
		w.acked = w.acked || message == "start-"+w.id
	}
}

func (c *chaos) confirm(ask acs.StopVerification) acs.StopVerificationAck {
	c.lock.Lock()
	defer c.lock.Unlock()
	answer := acs.StopVerificationAck{MessageID: ask.MessageID, StopTasks: []acs.ManifestTask{}}
	for _, candidate := range ask.StopCandidates {
		i := slices.IndexFunc(c.wishes, func(w *wish) bool { return taskOf(w.id).ARN == candidate.TaskARN })
		if i >= 0 && !c.wishes[i].wanted(time.Now()) {
			answer.StopTasks = append(answer.StopTasks, candidate)
		}
	}
	return answer
}

// run plays the faults, heals, and waits until all has settled.
func (c *chaos) run() {
	done := make(chan struct{})
	c.helpers.Go(func() {
		for {
			select {
			case p := <-c.acs:
				c.helpers.Go(func() { c.attend(p) })
			case p := <-c.tcs:
				c.helpers.Go(func() {
					for {
						select {
						case <-p.frames:
						case <-p.gone:
							return
						case <-time.After(25 * time.Second):
							c.emit(p, acs.TypeHeartbeat, acs.Heartbeat{})
						}
					}
				})
			case <-done:
				return
			}
		}
	})
	c.boot()
	for began := time.Now(); time.Since(began) < chaosLasts; {
		r := c.roll("fault")
		time.Sleep(time.Duration(r.Int64N(int64(2 * time.Minute))))
		switch r.IntN(3) {
		case 0:
			c.halt()
			time.Sleep(time.Duration(r.Int64N(int64(20 * time.Second))))
			c.boot()
		case 1:
			c.net.setDown(true)
			c.net.each(func(m *memoryConn) { m.Close() })
			time.Sleep(time.Duration(r.Int64N(int64(40 * time.Second))))
			c.net.setDown(false)
		case 2:
			c.net.each(func(m *memoryConn) { m.freeze() })
		}
	}
	c.lock.Lock()
	c.healed = true
	c.lock.Unlock()
	time.Sleep(15 * time.Minute)
	synctest.Wait()
	c.check()
	c.halt()
	close(done)
	c.hangUp()
	c.helpers.Wait()
}

// check holds the end against what was wished.
func (c *chaos) check() {
	c.lock.Lock()
	defer c.lock.Unlock()
	alive := 0
	for _, w := range c.wishes {
		statuses := c.statuses(w.id)
		if i := slices.Index(statuses, "STOPPED"); i >= 0 && slices.Contains(statuses[i:], "RUNNING") {
			c.t.Errorf("%s was reported RUNNING after its end: %v", w.id, statuses)
		}
		running, starts := c.containers(w.id), c.starts[w.id]
		ok := starts <= 1 && running == 0 && (w.stopped || starts == 0 && !w.acked && len(statuses) == 0)
		switch w.kind {
		case wishRun:
			ok = starts == 1 && running == 1 && w.running && !w.stopped
			alive++
		case wishOnce:
			ok = starts == 1 && running == 0 && w.running && w.stopped
		}
		if !ok {
			c.t.Errorf("wish %d: %s was started %d times, %d of it run; the control plane heard %v", w.kind, w.id, starts, running, statuses)
		}
	}
	records, damaged, err := c.agent.db.tasks()
	unfinished := slices.DeleteFunc(records, func(r *record) bool { return !r.FinishedAt.IsZero() })
	e := c.agent.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || len(damaged) > 0 || len(unfinished) != alive || len(e.workers) != alive || len(e.metadata) != alive || len(e.asking) != 0 || len(e.attaching) != 0 {
		c.t.Errorf("%d tasks run; %d records, %d workers, %d metadata ids, %d stops are left (%v)", alive, len(unfinished), len(e.workers), len(e.metadata), len(e.asking), err)
	}
	if len(c.images.snapshots) != alive || len(c.nets.sandboxes) != alive {
		c.t.Errorf("%d tasks run; %d root file systems and %d networks are left", alive, len(c.images.snapshots), len(c.nets.sandboxes))
	}
}

// Whatever is lost, late, repeated or reordered, and whenever the agent is ended:
// once things work again, what should run runs and was started once, and what
// should not is gone and reported. LONGSHORE_SEED replays one run's faults.
func TestAgentConvergesAfterAnyFaults(t *testing.T) {
	first, n := uint64(1), uint64(4)
	if os.Getenv("LONGSHORE_SOAK") != "" {
		n = 300
	}
	if s := os.Getenv("LONGSHORE_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, n = seed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChaos(t, seed)
				defer c.close()
				c.run()
			})
		})
		if t.Failed() {
			t.Fatalf("replay it with LONGSHORE_SEED=%d", seed)
		}
	}
}
