package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/acs"
)

const cluster = "default"

// agent is a node: its machine, its disk, and the agent's process on it.
type agent struct {
	w    *World
	name string
	zone string
	cpu  int32
	mem  int32
	skew time.Duration // of its clock

	on        bool // the machine
	up        bool // the process
	life      int  // counts processes: what an earlier one had begun is over
	boots     int  // counts the machine's starts: what ran before has ended
	awayFrom  time.Time
	awayUntil time.Time
	downSince time.Time // of the machine or its network; zero: it is there
	retired   bool      // its instance was deregistered

	// On its disk.
	instance string // ARN
	tasks    map[string]*task
	order    []*task
	finished map[string]bool
	timeline int64

	// In the process.
	link    *link
	refused map[string]bool
	missing []acs.ManifestTask
	overdue time.Time
	asked   string
	askedOf map[string]bool
}

func (w *World) addAgent(i int) *agent {
	a := &agent{
		w: w, name: fmt.Sprintf("n%05d", i), zone: region + string(rune('a'+i%3)), cpu: w.NodeCPU, mem: w.NodeMemory,
		tasks: map[string]*task{}, finished: map[string]bool{}, refused: map[string]bool{}, askedOf: map[string]bool{},
	}
	if w.Faults.Skew > 0 {
		a.skew = w.between(-w.Faults.Skew, w.Faults.Skew)
	}
	w.agents = append(w.agents, a)
	return a
}

func (a *agent) clock() *time.Time { return aws.Time(a.w.now.Add(a.skew)) }

// later has fn called after d if the process still lives then.
func (a *agent) later(d time.Duration, what string, fn func()) {
	life := a.life
	a.w.after(d, a.name+": "+what, func() {
		if a.up && a.life == life {
			fn()
		}
	})
}

// power starts the machine: what ran on it has ended.
func (a *agent) power() {
	a.on, a.downSince = true, time.Time{}
	a.boots++
	for _, t := range a.order {
		if t.status != stopped && t.ran {
			t.end(137, "the machine was started again")
		}
	}
	a.begin()
}

// begin starts the agent's process.
func (a *agent) begin() {
	if !a.on || a.up {
		return
	}
	a.up = true
	a.life++
	a.link, a.missing, a.asked = nil, nil, ""
	a.refused, a.askedOf = map[string]bool{}, map[string]bool{}
	for _, t := range slices.Clone(a.order) {
		t.submitting, t.starting, t.stopping = false, false, false
		t.drive()
	}
	a.register()
	a.healthLoop()
}

// kill ends the agent's process; containers run on.
func (a *agent) kill() {
	a.up = false
	if a.link != nil {
		a.link.cut(a.w.between(0, 80*time.Second))
	}
}

// lose ends the machine.
func (a *agent) lose() {
	a.kill()
	a.on, a.downSince = false, a.w.now
}

// register is what an agent does first.
func (a *agent) register() {
	in := &ecs.RegisterContainerInstanceInput{Cluster: aws.String(cluster), TotalResources: a.resources()}
	if a.instance != "" {
		in.ContainerInstanceArn = &a.instance
	}
	in.Attributes = append(in.Attributes, types.Attribute{Name: aws.String("ecs.availability-zone"), Value: &a.zone})
	for _, name := range a.w.capability {
		in.Attributes = append(in.Attributes, types.Attribute{Name: aws.String(name)})
	}
	var instance string
	life := a.life
	a.w.request(a.name+": register", a, true, func(s *server) error {
		out, err := s.room.RegisterContainerInstance(as(a.principal()), in)
		if err == nil {
			instance = *out.ContainerInstance.ContainerInstanceArn
		}
		return err
	}, func(err error) {
		if !a.up || a.life != life {
			return
		}
		if err != nil {
			a.later(a.w.between(time.Second, 5*time.Second), "registers again", a.register)
			return
		}
		if a.instance != instance {
			delete(a.w.byInstance, a.instance)
			a.instance = instance
			a.w.byInstance[instance] = a
		}
		a.connect()
	})
}

func (a *agent) resources() []types.Resource {
	integer := func(name string, n int32) types.Resource {
		return types.Resource{Name: &name, Type: aws.String("INTEGER"), IntegerValue: n}
	}
	ports := func(name string, list ...string) types.Resource {
		return types.Resource{Name: &name, Type: aws.String("STRINGSET"), StringSetValue: list}
	}
	return []types.Resource{integer("CPU", a.cpu), integer("MEMORY", a.mem), ports("PORTS", "22"), ports("PORTS_UDP")}
}

// connect opens the session, again and again.
func (a *agent) connect() {
	if a.retired {
		return
	}
	var opened *link
	life := a.life
	done := func(err error) {
		if !a.up || a.life != life || a.link != nil {
			return
		}
		if opened != nil && a.w.now.Before(a.awayUntil) {
			opened.cut(80 * time.Second)
		}
		if err == nil && opened != nil && !opened.broken {
			a.link = opened
			return
		}
		a.later(a.w.between(200*time.Millisecond, 10*time.Second), "connects again", a.connect)
	}
	w := a.w
	if w.now.Before(a.awayUntil) {
		a.later(a.awayUntil.Sub(w.now)+w.between(0, 10*time.Second), "connects again", a.connect)
		return
	}
	w.after(w.latency(), a.name+": connects", func() {
		if w.main == nil {
			done(errNobody)
			return
		}
		var err error
		if opened, err = w.main.open(a, life); err != nil {
			done(err)
			return
		}
		// Frames that follow come after this.
		opened.toAgent = w.now.Add(w.latency())
		w.after(opened.toAgent.Sub(w.now), a.name+": connected", func() { done(nil) })
	})
}

// disconnected is when the agent notices that its link is cut.
func (a *agent) disconnected(l *link) {
	if a.link == l {
		a.link = nil
		if a.up {
			a.later(a.w.between(100*time.Millisecond, 5*time.Second), "connects again", a.connect)
		}
	}
}

// receive takes a frame of the server's.
func (a *agent) receive(l *link, kind string, message any) {
	if !a.up {
		return
	}
	if len(a.missing) > 0 && !a.w.now.Before(a.overdue) {
		a.reportMissing()
	}
	switch m := message.(type) {
	case acs.Heartbeat:
		l.answer(acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: m.MessageID})
	case acs.Payload:
		a.payload(l, m)
	case acs.Manifest:
		a.manifest(l, m)
	case acs.StopVerificationAck:
		for _, t := range m.StopTasks {
			if m.MessageID == a.asked && a.askedOf[t.TaskARN] {
				a.accept(acs.Task{ARN: t.TaskARN, TaskClusterARN: t.TaskClusterARN, DesiredStatus: acs.DesiredStopped})
			}
		}
	default:
		a.w.fail("the agent %s does not know the message %s (%T)", a.name, kind, message)
	}
}

func (a *agent) payload(l *link, m acs.Payload) {
	a.timeline = max(a.timeline, m.SeqNum)
	if a.w.chance(a.w.Faults.Disk) {
		for _, t := range m.Tasks {
			if a.tasks[t.ARN] == nil && !a.finished[t.ARN] {
				a.refused[t.ARN] = true
			}
		}
		return // not acknowledged: it comes again
	}
	for _, t := range m.Tasks {
		a.accept(t)
	}
	if !a.w.chance(a.w.Faults.Disk) {
		l.answer(acs.TypeAck, acs.Ack{MessageID: m.MessageID})
	}
}

// manifest compares what should run with what does.
func (a *agent) manifest(l *link, m acs.Manifest) {
	if m.Timeline <= a.timeline {
		a.w.fail("the agent %s was sent a manifest of %d, which is older than %d", a.name, m.Timeline, a.timeline)
		return
	}
	a.timeline = m.Timeline
	wanted := map[string]bool{}
	a.missing, a.overdue = nil, a.w.now.Add(30*time.Second)
	for _, t := range m.Tasks {
		wanted[t.TaskARN] = true
		if a.tasks[t.TaskARN] == nil {
			a.missing = append(a.missing, t)
		}
	}
	var extra []acs.ManifestTask
	a.asked, a.askedOf = m.MessageID, map[string]bool{}
	for _, t := range a.order {
		if !wanted[t.arn] && t.status != stopped && !t.stopAsked {
			extra = append(extra, acs.ManifestTask{TaskARN: t.arn, TaskClusterARN: t.cluster, DesiredStatus: acs.DesiredStopped})
			a.askedOf[t.arn] = true
		}
	}
	l.answer(acs.TypeAck, acs.Ack{MessageID: m.MessageID})
	if len(extra) > 0 {
		l.answer(acs.TypeStopVerification, acs.StopVerification{MessageID: m.MessageID, StopCandidates: extra})
	}
}

// reportMissing reports what a manifest named and what has not come since.
func (a *agent) reportMissing() {
	for _, m := range a.missing {
		if a.tasks[m.TaskARN] != nil || a.refused[m.TaskARN] {
			continue
		}
		delete(a.finished, m.TaskARN) // its end was not heard
		t := a.add(acs.Task{ARN: m.TaskARN, TaskClusterARN: m.TaskClusterARN})
		t.end(0, "the task's container instance lost its records")
		t.drive()
	}
	a.missing = nil
}

// accept takes a task of a payload.
func (a *agent) accept(t acs.Task) {
	if a.finished[t.ARN] {
		return
	}
	known := a.tasks[t.ARN]
	if known == nil {
		known = a.add(t)
	}
	delete(a.refused, t.ARN)
	if t.DesiredStatus == acs.DesiredStopped {
		known.stopAsked = true
	}
	known.drive()
}

func (a *agent) add(t acs.Task) *task {
	k := &task{agent: a, arn: t.ARN, cluster: t.TaskClusterARN, enis: t.ENIs}
	for _, c := range t.Containers {
		k.containers = append(k.containers, c.Name)
		k.image = c.Image
	}
	a.tasks[t.ARN] = k
	a.order = append(a.order, k)
	return k
}

// forget drops a task whose end the server knows.
func (a *agent) forget(t *task) {
	delete(a.tasks, t.arn)
	a.finished[t.arn] = true
	a.order = slices.DeleteFunc(a.order, func(k *task) bool { return k == t })
}

// healthLoop publishes the health of containers every 20 seconds.
func (a *agent) healthLoop() {
	if a.w.NoHealth {
		return
	}
	a.later(a.w.between(15*time.Second, 25*time.Second), "health", func() {
		a.publish()
		a.healthLoop()
	})
}

func (a *agent) publish() {
	h := &acs.PublishHealth{}
	for _, t := range a.order {
		if t.health == "" || t.status != running {
			continue
		}
		th := acs.TaskHealth{TaskARN: t.arn}
		for _, c := range t.containers {
			th.Containers = append(th.Containers, acs.ContainerHealth{ContainerName: c, HealthStatus: string(t.health)})
		}
		h.Tasks = append(h.Tasks, th)
	}
	if len(h.Tasks) == 0 || a.link == nil {
		return
	}
	session := a.link.session
	a.w.request(a.name+": publish health", a, false, func(s *server) error { return s.room.Health(as(a.principal()), session, h) }, func(error) {})
}

// final tells refusals that an agent does not try to change.
func final(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient && cmp.Or(api.ErrorCode(), "") != "ThrottlingException"
}

// renew wipes the node, which registers as a new instance.
func (a *agent) renew() {
	if !a.retired {
		return
	}
	a.kill()
	for _, t := range a.order {
		a.finished[t.arn] = true
	}
	a.retired, a.tasks, a.order = false, map[string]*task{}, nil
	delete(a.w.byInstance, a.instance)
	a.instance = ""
	a.boots++
	if a.on {
		a.begin()
	}
}
