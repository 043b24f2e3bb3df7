package main

import "time"

// Faults are what goes wrong, and how often.
type Faults struct {
	// Probabilities of a request or its answer to be lost, to come twice, and to be slow.
	Lose, Duplicate, Slow float64
	// Disk: of a payload, that the agent can't record it, or that its answer is lost.
	Disk float64
	// Of a commit: that the process dies at it, that the store does not answer, that
	// another request is served in between, that a record is touched in between.
	Crash, Store, Overtake, Conflict float64
	// CutEvery is the mean life of a session; 0: it lives on.
	CutEvery time.Duration
	// ChaosEvery is the mean time between a node's or its agent's failures, anywhere.
	ChaosEvery time.Duration
	// Skew is how far agents' clocks are off.
	Skew time.Duration
}

// chaos has something happen to a node from time to time.
func (w *World) chaos() {
	if w.Faults.ChaosEvery == 0 {
		return
	}
	w.after(w.exponential(w.Faults.ChaosEvery), "chaos", func() {
		if !w.faulty {
			return
		}
		a := w.agents[w.rnd.IntN(len(w.agents))]
		switch w.rnd.IntN(4) {
		case 0, 1:
			w.crashAgent(a)
		case 2:
			w.isolate(a)
		case 3:
			w.loseNode(a)
		}
		w.chaos()
	})
}

// crashAgent ends an agent's process; it comes back.
func (w *World) crashAgent(a *agent) {
	if !a.up {
		return
	}
	w.stats.AgentCrashes++
	w.trace.note(w.now, a.name+": the agent dies")
	a.kill()
	w.after(w.between(time.Second, 30*time.Second), a.name+": the agent starts", a.begin)
}

// isolate cuts a node off for a while.
func (w *World) isolate(a *agent) {
	if w.now.Before(a.awayUntil) || !a.on {
		return
	}
	w.trace.note(w.now, a.name+": is cut off")
	a.awayFrom, a.awayUntil = w.now, w.now.Add(w.between(5*time.Second, 15*time.Minute))
	if a.link != nil {
		a.link.cut(80 * time.Second)
	}
}

// loseNode ends a machine, which comes back, or does not before all is calm.
func (w *World) loseNode(a *agent) {
	if !a.on {
		return
	}
	w.stats.NodeLosses++
	w.trace.note(w.now, a.name+": the machine dies")
	a.lose()
	if w.rnd.IntN(4) > 0 {
		w.after(w.between(30*time.Second, 15*time.Minute), a.name+": the machine starts", func() {
			if !a.on {
				a.power()
			}
		})
	}
}

// calm ends all faults. Half of the machines that are away come back.
func (w *World) calm() {
	w.faulty = false
	w.operator.resting = true
	w.trace.note(w.now, "calm")
	for _, a := range w.agents {
		a.awayUntil = w.now
		if !a.on && w.rnd.IntN(2) == 0 {
			a.power()
		}
	}
}

// goneSince is since when the server can't have heard of a node; false if it can.
func (a *agent) goneSince() (time.Time, bool) {
	switch {
	case !a.on:
		return a.downSince, true
	case a.w.now.Before(a.awayUntil):
		return a.awayFrom, true
	}
	return time.Time{}, false
}
