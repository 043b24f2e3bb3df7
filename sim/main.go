package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	total := flag.Duration("for", time.Minute, "how long to run fresh seeds")
	name := flag.String("scenario", "", "only this scenario: mixed, faultless, storm, tight, addresses or fleet")
	seed := flag.Uint64("seed", 0, "only this seed; 0: fresh ones")
	from := flag.Uint64("from", 0, "the first of the fresh seeds; 0: any")
	all := flag.Bool("trace", false, "print everything that happens")
	flag.Parse()
	if err := run(*total, *name, *seed, *from, *all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(total time.Duration, name string, seed, from uint64, all bool) error {
	list := scenarios()
	if name != "" {
		s, ok := named(name)
		if !ok {
			return fmt.Errorf("there is no scenario %s", name)
		}
		list = []Scenario{s}
	}
	began := time.Now()
	first := max(seed, from)
	if first == 0 {
		first = uint64(began.UnixNano())
	}
	var sum Stats
	runs := 0
	for ; runs == 0 || seed == 0 && time.Since(began) < total; runs++ {
		w := newWorld(list[runs%len(list)], first+uint64(runs))
		if all {
			w.trace.all = func(line string) { fmt.Println(line) }
		}
		err := w.Run()
		sum.add(w.stats)
		if err != nil {
			return fmt.Errorf("%w\nthe latest of what happened:\n%s\nit was run %d", err, w.trace.last(), runs+1)
		}
	}
	fmt.Printf("%d runs from seed %d in %s: %s\n", runs, first, time.Since(began).Round(time.Second), sum)
	return nil
}

func (s *Stats) add(o Stats) {
	s.Simulated += o.Simulated
	s.Events, s.Commits, s.Conflicts, s.Unknown, s.Starts = s.Events+o.Events, s.Commits+o.Commits, s.Conflicts+o.Conflicts, s.Unknown+o.Unknown, s.Starts+o.Starts
	s.Crashes, s.AgentCrashes, s.NodeLosses, s.Cuts, s.Tasks = s.Crashes+o.Crashes, s.AgentCrashes+o.AgentCrashes, s.NodeLosses+o.NodeLosses, s.Cuts+o.Cuts, s.Tasks+o.Tasks
	s.Probes, s.Explained = s.Probes+o.Probes, s.Explained+o.Explained
}

// String says what happened in words.
func (s Stats) String() string {
	return fmt.Sprintf("%s simulated, %d events, %d commits (%d lost a race, %d without an answer), %d tasks made, %d started; %d server crashes, %d agent crashes, %d machines lost, %d sessions cut; %d probes, %d explanations",
		s.Simulated, s.Events, s.Commits, s.Conflicts, s.Unknown, s.Tasks, s.Starts, s.Crashes, s.AgentCrashes, s.NodeLosses, s.Cuts, s.Probes, s.Explained)
}
