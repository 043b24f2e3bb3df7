package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire"
)

// link is one websocket of an agent, both ends. Frames arrive in their order or not
// at all: when the link is cut, what is under way is lost, and each end notices at
// a time of its own.
type link struct {
	w        *World
	number   int
	agent    *agent
	life     int // the agent's process that opened it
	server   *server
	session  acs.Session
	dialogue *acs.Dialogue
	opened   time.Time

	toAgent, toServer time.Time // when the latest frame arrives
	broken            bool
	over              bool // for the server
	woken             bool
	tickAt            time.Time
}

func (a *agent) principal() wire.Principal {
	return wire.Principal{Kind: wire.PrincipalNode, NodeID: a.name, AccountID: account}
}

// open is the handshake, at the server.
func (s *server) open(a *agent, life int) (*link, error) {
	w := s.w
	l := &link{w: w, number: int(w.seq), agent: a, life: life, server: s, opened: w.now, session: acs.Session{
		ID: w.id(), Principal: a.principal(), Region: region, Cluster: cluster, Instance: a.instance, Endpoint: "http://server:4566", AgentVersion: "1.0.0",
	}}
	ctx := context.Background()
	if err := s.room.Admit(ctx, l.session); err != nil {
		return nil, err
	}
	if earlier := s.links[a.instance]; earlier != nil {
		earlier.end() // superseded; the room hears of it in any order
	}
	opening, err := s.room.Opened(ctx, l.session)
	if err != nil {
		return nil, err
	}
	s.links[a.instance] = l
	l.dialogue = s.acs.NewDialogue(l.session, opening, func() time.Time { return w.now }, l.send)
	l.tickAt = w.now.Add(time.Hour)
	l.wake()
	if mean := w.Faults.CutEvery; mean > 0 && w.faulty {
		w.after(w.exponential(mean), a.name+": the link is cut", func() {
			if w.faulty {
				l.cut(w.between(0, time.Minute))
			}
		})
	}
	return l, nil
}

// wakeLinks has the sessions stepped that were told of changes.
func (s *server) wakeLinks() {
	for _, l := range s.woken {
		l.wake()
	}
	s.woken = s.woken[:0]
}

func (l *link) wake() {
	l.woken = true
	l.w.after(l.w.between(0, 20*time.Millisecond), l.agent.name+": session", func() {
		l.woken = false
		l.step()
	})
}

func (l *link) step() {
	if l.over || l.server.dead {
		return
	}
	l.stepped(l.dialogue.Step(context.Background()))
}

// stepped goes on after the session has done something.
func (l *link) stepped(err error) {
	w := l.w
	if err != nil {
		l.end()
		l.cut(w.between(0, time.Second))
		return
	}
	due := l.dialogue.NextDue()
	if due.Before(l.tickAt) || !l.tickAt.After(w.now) {
		l.tickAt = due
		w.after(due.Sub(w.now), l.agent.name+": session is due", l.step)
	}
}

// send carries a frame of the server's.
func (l *link) send(kind string, message any) error {
	if l.broken {
		return nil // nobody knows yet
	}
	l.toAgent = later(l.toAgent, l.w.now.Add(l.w.latency()))
	l.w.after(l.toAgent.Sub(l.w.now), l.agent.name+": "+kind, func() {
		if !l.broken && l.agent.link == l {
			l.agent.receive(l, kind, message)
		}
	})
	return nil
}

// answer carries a frame of the agent's.
func (l *link) answer(kind string, message any) {
	if l.broken {
		return
	}
	raw, err := json.Marshal(message)
	if err != nil {
		l.w.fail("a frame could not be encoded: %v", err)
		return
	}
	frame, _ := json.Marshal(acs.Envelope{Type: kind, Message: raw}) // of two strings
	l.toServer = later(l.toServer, l.w.now.Add(l.w.latency()))
	l.w.after(l.toServer.Sub(l.w.now), l.agent.name+" answers "+kind, func() {
		if !l.broken && !l.over && !l.server.dead {
			l.stepped(l.dialogue.Receive(context.Background(), frame))
		}
	})
}

// cut breaks the link; both ends notice within a time.
func (l *link) cut(within time.Duration) {
	if l.broken {
		return
	}
	w := l.w
	w.stats.Cuts++
	l.broken = true
	w.after(w.between(0, within), l.agent.name+": notices the cut", func() { l.agent.disconnected(l) })
	w.after(w.between(0, within), l.agent.name+": the server notices the cut", l.end)
}

// end is the session's end at the server.
func (l *link) end() {
	if l.over || l.server.dead {
		return
	}
	l.over = true
	l.dialogue.Close()
	s := l.server
	if s.links[l.session.Instance] == l {
		delete(s.links, l.session.Instance)
	}
	l.w.after(l.w.between(0, 100*time.Millisecond), l.agent.name+": closed", func() {
		if !s.dead {
			s.room.Closed(context.Background(), l.session)
		}
	})
	l.cut(l.w.between(0, time.Second))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var (
	errTimeout = errors.New("no answer in time")
	errNobody  = errors.New("connection refused")
)

func (w *World) latency() time.Duration {
	if w.chance(w.Faults.Slow) {
		return w.between(0, 20*time.Second)
	}
	return w.between(100*time.Microsecond, 5*time.Millisecond)
}

// request is an HTTP request and its answer: do is what the server does, done gets
// what the caller learns. Either may be lost, late, or, if it can be repeated, come
// twice; then the caller knows nothing of what was done.
func (w *World) request(label string, from *agent, repeatable bool, do func(s *server) error, done func(error)) {
	timeout := w.between(10*time.Second, 30*time.Second)
	if from != nil && w.now.Before(from.awayUntil) || w.chance(w.Faults.Lose) {
		w.after(timeout, label+": no answer", func() { done(errTimeout) })
		return
	}
	if repeatable && w.chance(w.Faults.Duplicate) {
		w.arrive(w.between(0, time.Minute), label+", again", func(s *server) {
			if s != nil {
				_ = do(s) // nobody waits for the answer any more
			}
		})
	}
	w.arrive(w.latency(), label, func(s *server) {
		if s == nil {
			w.after(w.latency(), label+": refused", func() { done(errNobody) })
			return
		}
		err := do(s)
		if s.dead || w.chance(w.Faults.Lose) {
			w.after(timeout, label+": no answer", func() { done(errTimeout) })
			return
		}
		w.after(w.latency(), label+": answered", func() { done(err) })
	})
}

// arrive has a request served after d, or earlier.
func (w *World) arrive(d time.Duration, label string, serve func(s *server)) {
	e := w.after(d, label, nil)
	e.serve = serve
	if w.Faults.Overtake > 0 {
		w.early = append(w.early, e)
		if len(w.early) > 1000 {
			w.early = w.early[500:]
		}
	}
}
