package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/reconcile"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

const (
	account = "123456789012"
	region  = "eu-west-1"
)

// server is one process of the control plane: all that it holds in memory.
type server struct {
	w     *World
	kv    *serverKV
	db    *store.DB
	room  *ecs.Service
	acs   *acs.Server
	began time.Time
	loops []*reconcile.Loop
	free  []time.Time // when each loop can take its next step
	dead  bool
	// links are the sessions that the server believes in; woken those that were told
	// of a change.
	links map[string]*link
	woken []*link
	log   *journal
}

// start makes the two servers anew over the store, as a restarted process does.
func (w *World) start() {
	var err error
	if w.main, err = w.newServer(); err == nil {
		w.other, err = w.newServer()
	}
	if err != nil {
		w.fail("a server did not start: %v", err)
		return
	}
	w.quiet = true // what begins a process is not hit by another fault
	if err := w.main.room.ResetConnectivity(context.Background()); err != nil {
		w.fail("the connectivity was not reset: %v", err)
	}
	w.quiet = false
	w.sweep(w.main)
}

func (w *World) newServer() (*server, error) {
	s := &server{w: w, began: w.now, links: map[string]*link{}, log: &journal{w: w}}
	s.kv = newServerKV(w, s)
	log := slog.New(s.log)
	s.db = store.New(s.kv, store.Options{Jitter: func() float64 { return 0.5 }, CommitTimeout: time.Hour, Log: log})
	vpc := ecs.VPC{CIDR: netip.MustParsePrefix("10.9.0.0/16")}
	if w.SmallVPC {
		vpc.CIDR, vpc.Zones = netip.MustParsePrefix("10.9.0.0/24"), []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	}
	var err error
	s.room, err = ecs.New(ecs.Deps{
		DB: s.db, Now: func() time.Time { return w.now }, NewID: w.id, Log: log, Endpoint: "http://server:4566", VPC: vpc,
	})
	if err != nil {
		return nil, err
	}
	if err := s.db.Start(context.Background()); err != nil {
		return nil, err
	}
	<-s.kv.watched
	s.acs = acs.NewServer(sessionSource{s.room, s}, nil, w.id, log)
	s.loops = s.room.Loops()
	s.free = make([]time.Time, len(s.loops))
	return s, nil
}

// sweep is the part of ecs.Service.Run that is no loop.
func (w *World) sweep(s *server) {
	w.after(30*time.Second, "sweep", func() {
		if w.main != s || s.dead {
			return
		}
		if err := s.room.Sweep(context.Background()); err != nil && !passing(err) {
			w.fail("the sweep failed: %v", err)
		}
		w.sweep(s)
	})
}

// dueAt is when a loop takes its next step.
func (s *server) dueAt(i int) (time.Time, bool) {
	due, ok := s.loops[i].NextDue()
	if ok && due.Before(s.free[i]) {
		due = s.free[i]
	}
	return due, ok
}

func (s *server) stepLoop(i int) {
	s.w.trace.note(s.w.now, fmt.Sprint("loop ", i))
	s.loops[i].Step(context.Background())
	if n := s.loops[i].Stats().Panicked; n > 0 {
		s.w.fail("a loop panicked: %s", s.log.panicked)
	}
	s.free[i] = s.w.now.Add(s.w.between(0, s.w.LoopLatency))
}

// drain steps loops until they have nothing to do now.
func (s *server) drain(loops ...*reconcile.Loop) {
	for again := true; again; {
		again = false
		for i, l := range loops {
			for n := 0; l.Step(context.Background()); n++ {
				again = true
				if n > 10_000 {
					s.w.fail("loop %d does not come to rest", i)
					return
				}
			}
			if l.Stats().Panicked > 0 {
				s.w.fail("a loop panicked: %s", s.log.panicked)
			}
		}
		if s.w.failure != nil || s.dead {
			return
		}
	}
}

// die ends the process: what it has not committed is lost.
func (s *server) die(when string) {
	s.dead = true
	s.w.trace.note(s.w.now, "the server dies "+when)
}

// crash takes the dead servers away; a new process begins after a while.
func (w *World) crash() {
	w.stats.Crashes++
	dead := []*server{w.main, w.other}
	for _, l := range w.main.linksInOrder() {
		l.cut(w.between(0, 2*time.Second))
	}
	w.main, w.other = nil, nil
	for _, s := range dead {
		s.dead = true
		_ = s.db.Close() // ends its goroutines; what failed is the store's end
	}
	w.after(w.between(200*time.Millisecond, w.Downtime), "the server starts", w.start)
}

func (s *server) linksInOrder() []*link {
	var all []*link
	for _, l := range s.links {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *link) int { return a.number - b.number })
	return all
}

// passing tells errors that a caller meets with another try.
func passing(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled)
}

// as is the context of a call.
func as(p wire.Principal) context.Context {
	p.AccountID = account
	return wire.WithCall(context.Background(), &wire.Call{RequestID: "r", Account: account, Region: region, Service: "ecs", Principal: p})
}

func asOperator() context.Context {
	return as(wire.Principal{Kind: wire.PrincipalRoot, ARN: "arn:aws:iam::" + account + ":root"})
}

// sessionSource is the room as its sessions see it; it notes who was told of a change.
type sessionSource struct {
	*ecs.Service
	server *server
}

// Subscribe implements acs.Source.
func (s sessionSource) Subscribe(x acs.Session, changed func(task string)) (cancel func()) {
	return s.Service.Subscribe(x, func(task string) {
		changed(task)
		if l := s.server.links[x.Instance]; l != nil && l.session.ID == x.ID && !l.woken {
			l.woken = true
			s.server.woken = append(s.server.woken, l)
		}
	})
}

// journal keeps what the servers log.
type journal struct {
	w        *World
	panicked string
}

// Enabled implements slog.Handler.
func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "stack" {
			j.panicked = line + " " + a.Value.String()
			return true
		}
		line += " " + a.String()
		return true
	})
	j.w.trace.note(j.w.now, "log: "+line)
	return nil
}

// WithAttrs implements slog.Handler.
func (j *journal) WithAttrs([]slog.Attr) slog.Handler { return j }

// WithGroup implements slog.Handler.
func (j *journal) WithGroup(string) slog.Handler { return j }
