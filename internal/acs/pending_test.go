package acs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

func TestPendingChangesAreBounded(t *testing.T) {
	p := newPending()
	if tasks, all := p.take(); !all || len(tasks) != 0 {
		t.Error("a session does not begin with everything")
	}
	<-p.wake
	for range 3 {
		p.add("a")
	}
	p.add("b")
	<-p.wake
	if tasks, all := p.take(); all || len(tasks) != 2 {
		t.Errorf("took %v, all: %v", tasks, all)
	}
	for i := range maxPending + 1 {
		p.add(fmt.Sprint(i))
	}
	p.add("z")
	if tasks, all := p.take(); !all || len(tasks) != 0 {
		t.Errorf("took %d tasks, all: %v, of more than can wait", len(tasks), all)
	}
	<-p.wake
	select {
	case <-p.wake:
		t.Error("woken for nothing")
	default:
	}
}

// deltas is a session of which a test reads the payloads, and acknowledges them.
type deltas struct {
	*virtual
	conn *websocket.Conn
	// replies are written on the side: the pipe between the two has no room, and
	// the server may be writing too.
	replies chan reply
}

type reply struct {
	kind    string
	message any
}

// payload reads until a payload comes, answering nothing but heartbeats.
func (d *deltas) payload() (Payload, error) {
	d.t.Helper()
	for {
		e, err := frame(d.t, d.conn)
		if err != nil {
			return Payload{}, err
		}
		var p Payload
		if err := json.Unmarshal(e.Message, &p); err != nil {
			d.t.Fatal(err)
		}
		switch e.Type {
		case TypeHeartbeat:
			d.send(TypeHeartbeatAck, HeartbeatAck{MessageID: p.MessageID})
		case TypePayload:
			return p, nil
		}
	}
}

func (d *deltas) send(kind string, message any) {
	d.replies <- reply{kind, message}
}

func (d *deltas) ack(p Payload) { d.send(TypeAck, Ack{MessageID: p.MessageID}) }

// add adds tasks, and has the session told of them if loud.
func (p *plane) add(loud bool, tasks ...Assignment) {
	p.mu.Lock()
	p.tasks = append(p.tasks, tasks...)
	wakes := make([]func(string), 0, len(p.wakes))
	for _, w := range p.wakes {
		wakes = append(wakes, w)
	}
	p.mu.Unlock()
	for _, as := range tasks {
		for _, w := range wakes {
			if loud {
				w(as.TaskARN)
			}
		}
	}
}

func (p *plane) looks() (full, single int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full, p.single
}

// withSession runs a test with a session that has been told of n tasks.
func withSession(t *testing.T, n int, test func(d *deltas)) {
	synctest.Test(t, func(t *testing.T) {
		v := startVirtual(t)
		for i := range n {
			v.add(false, running(fmt.Sprintf("old%04d", i)))
		}
		d := &deltas{v, v.socket("/acs", "i"), make(chan reply, 1000)}
		defer close(d.replies)
		go func() {
			for r := range d.replies {
				_ = write(t.Context(), d.conn, r.kind, r.message)
			}
		}()
		for i := range n {
			p, err := d.payload()
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("old%04d", i); p.Tasks[0].ARN != want {
				t.Fatalf("payload %d is of %s, want %s", i, p.Tasks[0].ARN, want)
			}
			d.ack(p)
		}
		if e, err := frame(t, d.conn); err != nil || e.Type != TypeManifest {
			t.Fatalf("after the payloads came %s, %v", e.Type, err)
		}
		test(d)
	})
}

// What a change costs does not depend on how many tasks the instance has; more
// than can be in flight waits for acknowledgements, and nothing is left out.
func TestAChangeCostsItselfOnly(t *testing.T) {
	withSession(t, 3*maxUnacked, func(d *deltas) {
		synctest.Wait()
		full, single := d.looks()
		d.add(true, running("new"))
		p, err := d.payload()
		if err != nil || p.Tasks[0].ARN != "new" {
			d.t.Fatalf("told of %+v, %v", p.Tasks, err)
		}
		synctest.Wait()
		if fullAfter, singleAfter := d.looks(); fullAfter != full || singleAfter != single+1 {
			d.t.Errorf("a change had %d looks at everything and %d at a task", fullAfter-full, singleAfter-single)
		}
	})
}

// Events only say where to look earlier: a change that nobody told of is found.
func TestAChangeThatNobodyToldOfIsFound(t *testing.T) {
	withSession(t, 1, func(d *deltas) {
		began := time.Now()
		d.add(false, running("silent"))
		p, err := d.payload()
		if err != nil || p.Tasks[0].ARN != "silent" {
			d.t.Fatalf("told of %+v, %v", p.Tasks, err)
		}
		if took := time.Since(began); took > (beatsPerLook+1)*heartbeatEvery {
			d.t.Errorf("it took %s", took)
		}
	})
}

// A report on a task is as good as its acknowledgement: lost acknowledgements
// must not fill what may be in flight for ever.
func TestAReportStandsForAnAcknowledgement(t *testing.T) {
	withSession(t, 0, func(d *deltas) {
		var first []Assignment
		for i := range maxUnacked {
			first = append(first, running(fmt.Sprintf("a%02d", i)))
		}
		d.add(true, first...)
		for range first {
			if _, err := d.payload(); err != nil {
				d.t.Fatal(err)
			}
		}
		for i := range first {
			first[i].Started = true
		}
		d.mu.Lock()
		d.tasks = first
		d.mu.Unlock()
		d.add(true, running("next"))
		if p, err := d.payload(); err != nil || p.Tasks[0].ARN != "next" {
			d.t.Fatalf("told of %+v, %v", p.Tasks, err)
		}
	})
}

func TestADeregisteredInstancesSessionEnds(t *testing.T) {
	withSession(t, 1, func(d *deltas) {
		d.mu.Lock()
		d.refuse = ErrInactiveInstance
		d.mu.Unlock()
		d.add(true, running("late"))
		_, err := d.payload()
		var closed websocket.CloseError
		if !errors.As(err, &closed) || errors.Is(err, context.Canceled) {
			d.t.Errorf("the session goes on: %v", err)
		}
	})
}
