package main

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
)

const (
	created = iota
	running
	stopped
)

// task is a task on a node, as its disk and its containers know it.
type task struct {
	agent      *agent
	arn        string
	cluster    string
	image      string // how it behaves
	containers []string
	enis       []acs.ENI

	status    int
	ran       bool
	stopAsked bool
	exit      int32
	failure   string
	health    types.HealthStatus
	pull      [2]*time.Time
	ended     *time.Time

	sentAttached, sentRunning, sentStopped bool

	// In the agent's process.
	starting, stopping, submitting bool
	tries                          int
}

func (t *task) id() string { return t.arn[strings.LastIndexByte(t.arn, '/')+1:] }

// drive does what can be done for a task now, as the agent's worker.
func (t *task) drive() {
	a, w := t.agent, t.agent.w
	if !a.up {
		return
	}
	switch {
	case t.status == created && t.stopAsked:
		t.status, t.ended = stopped, a.clock()
	case t.status == created && !t.starting:
		t.starting = true
		t.pull[0] = a.clock()
		took := w.between(200*time.Millisecond, 8*time.Second)
		if t.behaves("slow") {
			took = w.between(20*time.Second, 2*time.Minute)
		}
		a.later(took, t.id()+" starts", t.start)
	case t.status == running && t.stopAsked && !t.stopping:
		t.stopping = true
		a.later(w.between(50*time.Millisecond, 30*time.Second), t.id()+" ends", func() {
			if t.status == running {
				t.end(143, "")
				t.drive()
			}
		})
	}
	t.submit()
}

func (t *task) behaves(how string) bool { return strings.HasPrefix(t.image, how) }

// start runs the containers.
func (t *task) start() {
	a, w := t.agent, t.agent.w
	t.starting = false
	if t.status != created || t.stopAsked {
		t.drive()
		return
	}
	t.pull[1] = a.clock()
	if t.behaves("unpullable") {
		t.end(0, "CannotPullContainerError: there is no such image")
		t.drive()
		return
	}
	t.status, t.ran = running, true
	w.oracle.started(a, t)
	switch {
	case t.behaves("crash"):
		t.live(w.between(100*time.Millisecond, 5*time.Second), "crashes", func() { t.end(1, "") })
	case t.behaves("flaky"):
		t.live(w.exponential(8*time.Minute), "fails", func() {
			if w.faulty {
				t.end(1, "")
			}
		})
	case t.behaves("oneshot"):
		t.live(w.exponential(3*time.Minute), "is done", func() { t.end(0, "") })
	case t.behaves("checked"), t.behaves("sickly"), t.behaves("ill"):
		t.check()
	}
	t.drive()
}

// live has fn called after d if the containers still run then, whether or not the
// agent does.
func (t *task) live(d time.Duration, what string, fn func()) {
	a, boot := t.agent, t.agent.boots
	a.w.after(d, a.name+": "+t.id()+" "+what, func() {
		if a.on && a.boots == boot && t.status == running {
			fn()
			t.drive()
		}
	})
}

// check runs the health check.
func (t *task) check() {
	w := t.agent.w
	t.health = types.HealthStatusUnknown
	if t.behaves("ill") {
		t.live(w.between(10*time.Second, 40*time.Second), "is ill", func() { t.health = types.HealthStatusUnhealthy; t.agent.publish() })
		return
	}
	t.live(w.between(time.Second, 30*time.Second), "is healthy", func() {
		t.health = types.HealthStatusHealthy
		t.agent.publish()
		if t.behaves("sickly") {
			t.live(w.exponential(8*time.Minute), "is unhealthy", func() {
				if w.faulty {
					t.health = types.HealthStatusUnhealthy
					t.agent.publish()
				}
			})
		}
	})
}

func (t *task) end(exit int32, failure string) {
	t.status, t.exit, t.failure, t.ended = stopped, exit, failure, t.agent.clock()
}

// submit tells the server the next thing that it does not know, until it answers.
func (t *task) submit() {
	a, w := t.agent, t.agent.w
	if t.submitting || !a.up {
		return
	}
	in := &ecs.SubmitTaskStateChangeInput{Cluster: &t.cluster, Task: &t.arn, PullStartedAt: t.pull[0], PullStoppedAt: t.pull[1]}
	var sent *bool
	switch {
	case len(t.enis) > 0 && !t.sentAttached && t.ran:
		sent = &t.sentAttached
		for _, e := range t.enis {
			in.Attachments = append(in.Attachments, types.AttachmentStateChange{AttachmentArn: aws.String(e.AttachmentARN), Status: aws.String("ATTACHED")})
		}
	case t.ran && !t.sentRunning:
		sent = &t.sentRunning
		in.Status = aws.String("RUNNING")
		in.Containers = t.changes("RUNNING")
	case t.status == stopped && !t.sentStopped:
		sent = &t.sentStopped
		in.Status, in.ExecutionStoppedAt = aws.String("STOPPED"), t.ended
		if t.failure != "" {
			in.Reason = &t.failure
		}
		in.Containers = t.changes("STOPPED")
	default:
		if t.sentStopped {
			a.forget(t)
		}
		return
	}
	t.submitting = true
	life := a.life
	label := a.name + ": submit " + t.id() + " " + aws.ToString(in.Status)
	w.request(label, a, true, func(s *server) error {
		_, err := s.room.SubmitTaskStateChange(as(a.principal()), in)
		return err
	}, func(err error) {
		if !a.up || a.life != life {
			return
		}
		t.submitting = false
		if err == nil || final(err) {
			*sent, t.tries = true, 0
			t.drive()
			return
		}
		t.tries++
		t.submitting = true
		a.later(min(time.Duration(t.tries)*time.Second, 30*time.Second), "submits again", func() {
			t.submitting = false
			t.drive()
		})
	})
}

// changes are the containers' states. A container that has ended by now is told so.
func (t *task) changes(status string) (all []types.ContainerStateChange) {
	for _, name := range t.containers {
		c := types.ContainerStateChange{ContainerName: aws.String(name), Status: &status, RuntimeId: aws.String("rt-" + t.id())}
		if t.status == stopped && t.ran && status == "STOPPED" {
			c.ExitCode = aws.Int32(t.exit)
		}
		all = append(all, c)
	}
	return all
}
