package etcdkv_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/etcdkv"
)

const (
	crashEnv     = "LONGSHORE_TEST_CRASH_DIR"
	crashPadEnv  = "LONGSHORE_TEST_CRASH_PAD" // bytes that make each log entry larger
	crashWriters = 8
	crashKeys    = 4 // keys that each transaction stamps
	crashKills   = 50
)

// stamp is the record of the crash test.
type stamp struct {
	Seq int    `json:"seq"`
	Pad string `json:"pad,omitempty"`
}

// crashDB is what the writers write. Each transaction of a writer raises the
// sequence number of all its stamps, adds a log entry of that number, and every
// fourth one counts in a counter that all writers share.
type crashDB struct {
	pad      string
	db       *store.DB
	stamps   *store.Table[stamp]
	log      *store.Table[stamp]
	counters *store.Table[stamp]
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		if err := crashChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// crashChild reports what the store holds, then writes until it is killed, and
// reports each acknowledged transaction.
func crashChild(dir string) error {
	ctx := context.Background()
	kv, err := etcdkv.OpenEmbedded(ctx, etcdkv.Embedded{Dir: dir})
	if err != nil {
		return err
	}
	pad, _ := strconv.Atoi(os.Getenv(crashPadEnv))
	c := crashDB{db: store.New(kv, store.Options{}), pad: strings.Repeat("x", pad)}
	c.stamps = store.NewTable[stamp](c.db, "stamps")
	c.log = store.NewTable[stamp](c.db, "log")
	c.counters = store.NewTable[stamp](c.db, "counters")
	if err := c.db.Start(ctx); err != nil {
		return err
	}
	at := c.report()
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		go func() {
			for seq := at[w] + 1; ; seq++ {
				if err := c.write(ctx, w, seq); err != nil {
					errs <- err
					return
				}
				fmt.Printf("ack %d %d\n", w, seq) // one write of one line
			}
		}()
	}
	return <-errs
}

func (c *crashDB) write(ctx context.Context, w, seq int) error {
	return c.db.Update(ctx, func(tx *store.Tx) error {
		for k := range crashKeys {
			id := fmt.Sprintf("%d/%d", w, k)
			if cur, ok := c.stamps.Get(tx, store.Scope{}, id); ok && cur.Seq != seq-1 {
				return fmt.Errorf("writer %d at %d finds stamp %d", w, seq, cur.Seq)
			}
			c.stamps.Put(tx, store.Scope{}, id, &stamp{Seq: seq})
		}
		c.log.Put(tx, store.Scope{}, fmt.Sprintf("%d/%08d", w, seq), &stamp{Seq: seq, Pad: c.pad})
		if seq%4 == 0 {
			n := 0
			if cur, ok := c.counters.Get(tx, store.Scope{}, "all"); ok {
				n = cur.Seq
			}
			c.counters.Put(tx, store.Scope{}, "all", &stamp{Seq: n + 1})
		}
		return nil
	})
}

// report prints the state and returns each writer's sequence number.
func (c *crashDB) report() (at [crashWriters]int) {
	snap := c.db.Snapshot()
	var b strings.Builder
	for w := range crashWriters {
		for id, s := range c.stamps.ListPrefix(snap, store.Scope{}, fmt.Sprintf("%d/", w)) {
			fmt.Fprintf(&b, "stamp %d %d %s\n", w, s.Seq, id)
			at[w] = s.Seq
		}
		entries, last := 0, 0
		for _, s := range c.log.ListPrefix(snap, store.Scope{}, fmt.Sprintf("%d/", w)) {
			entries, last = entries+1, s.Seq
		}
		fmt.Fprintf(&b, "log %d %d %d\n", w, entries, last)
	}
	counter := 0
	if s, ok := c.counters.Get(snap, store.Scope{}, "all"); ok {
		counter = s.Seq
	}
	fmt.Fprintf(&b, "counter %d\nready\n", counter)
	os.Stdout.WriteString(b.String())
	return at
}

// TestKilledAtRandom kills a process with eight writers, again and again: no
// acknowledged transaction may be missing, and none half applied.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var acked [crashWriters]int
	total, early := 0, 0
	for kill := 1; kill <= crashKills; kill++ {
		if rng.IntN(6) == 0 { // some die while they recover
			early++
			crashEarly(t, dir, time.Duration(rng.IntN(80))*time.Millisecond)
			continue
		}
		total += crashRun(t, dir, &acked, crashOptions{stopAfter: rng.IntN(150)}).acks
		if t.Failed() {
			t.Fatalf("after kill %d", kill)
		}
	}
	crashRun(t, dir, &acked, crashOptions{})
	t.Logf("%d kills, %d of them while starting; %d acknowledged transactions", crashKills, early, total)
	if total == 0 {
		t.Error("nothing was written")
	}
}

// TestKilledInItsFirstStart: wherever the first start of all is cut short, the
// next one works.
func TestKilledInItsFirstStart(t *testing.T) {
	t.Parallel()
	for i := range 12 {
		dir := t.TempDir()
		crashEarly(t, dir, time.Duration(10+6*i)*time.Millisecond)
		var acked [crashWriters]int
		if crashRun(t, dir, &acked, crashOptions{stopAfter: 3}).acks < 3 {
			t.Errorf("killed after %d ms, the next start does not work", 10+6*i)
		}
	}
}

func crashCommand(t *testing.T, dir string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func crashEarly(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd, _ := crashCommand(t, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after) // the moment of death is what varies here
	cmd.Process.Kill()
	cmd.Wait()
}

type crashOptions struct {
	stopAfter int    // kill after so many acknowledgements; -1: let it end by itself
	acking    func() // called at the first acknowledgement
}

type crashResult struct {
	acks   int
	stderr string
}

// crashRun starts a writer process, checks the state that it found against what
// was acknowledged before, and ends it.
func crashRun(t *testing.T, dir string, acked *[crashWriters]int, opts crashOptions) crashResult {
	t.Helper()
	cmd, stderr := crashCommand(t, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { cmd.Process.Kill() })
	watchdog := time.AfterFunc(30*time.Second, kill)
	defer watchdog.Stop()

	found := crashState{stamps: map[int][]int{}, log: map[int][2]int{}}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		found.read(lines.Text())
	}
	acks := 0
	if opts.stopAfter == 0 {
		kill()
	}
	for lines.Scan() {
		var w, seq int
		if _, err := fmt.Sscanf(lines.Text(), "ack %d %d", &w, &seq); err != nil {
			break // cut off by the kill
		}
		// What was acknowledged after the state was reported is checked next time.
		found.later = append(found.later, [2]int{w, seq})
		acks++
		if acks == 1 && opts.acking != nil {
			opts.acking()
		}
		if acks == opts.stopAfter {
			kill()
		}
	}
	io.Copy(io.Discard, out)
	cmd.Wait()
	if opts.stopAfter >= 0 && stderr.Len() > 0 {
		t.Errorf("the writer process says: %s", stderr)
	}
	found.check(t, acked)
	for _, a := range found.later {
		acked[a[0]] = max(acked[a[0]], a[1])
	}
	return crashResult{acks, stderr.String()}
}

type crashState struct {
	stamps  map[int][]int
	log     map[int][2]int // entries, last
	counter int
	later   [][2]int
}

func (s *crashState) read(line string) {
	var w, a, b int
	if n, _ := fmt.Sscanf(line, "stamp %d %d", &w, &a); n == 2 {
		s.stamps[w] = append(s.stamps[w], a)
	} else if n, _ := fmt.Sscanf(line, "log %d %d %d", &w, &a, &b); n == 3 {
		s.log[w] = [2]int{a, b}
	} else {
		fmt.Sscanf(line, "counter %d", &s.counter)
	}
}

func (s *crashState) check(t *testing.T, acked *[crashWriters]int) {
	t.Helper()
	if len(s.log) != crashWriters {
		t.Error("the writer process did not report the store's state")
		return
	}
	counted := 0
	for w := range crashWriters {
		entries, last := s.log[w][0], s.log[w][1]
		counted += last / 4
		if entries != last {
			t.Errorf("writer %d: %d log entries up to number %d", w, entries, last)
		}
		if last < acked[w] {
			t.Errorf("writer %d: %d is acknowledged, the store ends at %d", w, acked[w], last)
		}
		if last > 0 && len(s.stamps[w]) != crashKeys {
			t.Errorf("writer %d: %d stamps, want %d", w, len(s.stamps[w]), crashKeys)
		}
		for _, seq := range s.stamps[w] {
			if seq != last {
				t.Errorf("writer %d: half applied: stamps %v, log up to %d", w, s.stamps[w], last)
			}
		}
	}
	if s.counter != counted {
		t.Errorf("the counter is %d, the logs say %d", s.counter, counted)
	}
}
