package acs

import (
	"context"
	"errors"
	"hash/fnv"
	"time"
)

const (
	// grantRetry is how long credentials may stay without an acknowledgement before
	// new ones are sent; it doubles up to grantRetryMost. So does the wait after a
	// refusal, or a failure to make them.
	grantRetry, grantRetryMost = 15 * time.Second, 5 * time.Minute
	// grantSpread is over how long the credentials of tasks that run when a session
	// begins are renewed, so that a fleet that comes back does not ask for all at once.
	grantSpread = 5 * time.Minute
)

// grants is what a session knows of the credentials that its agent holds. They
// travel with the payloads, and are renewed at half of their life. What an earlier
// session sent is not known, so a session begins by sending all of them.
type grants struct {
	tasks map[string]*grant // by task ARN
	now   func() time.Time
	next  time.Time // when the first is due; zero: none is
}

// grant is a task's credentials.
type grant struct {
	// due is when new ones are sent, renewAt when they would be if all goes well.
	due, renewAt time.Time
	// wait is the time to the next attempt.
	wait time.Duration
	// untold: the task was not sent yet, for there are no credentials.
	untold  bool
	cluster string // the task's, an ARN
	// unacked are the messages without an answer.
	unacked map[string]struct{}
}

func newGrants(now func() time.Time) grants {
	return grants{tasks: map[string]*grant{}, now: now}
}

// schedule has the task's credentials sent at a time.
func (g *grants) schedule(t *grant, at time.Time) {
	t.due = at
	if g.next.IsZero() || at.Before(g.next) {
		g.next = at
	}
}

// reschedule finds the first that is due.
func (g *grants) reschedule() {
	g.next = time.Time{}
	for _, t := range g.tasks {
		g.schedule(t, t.due)
	}
}

func (g *grants) drop(arn string) { delete(g.tasks, arn) } // renew finds nothing due

// untold tells whether the agent has not been sent the task for want of credentials.
func (g *grants) untold(arn string) bool { t := g.tasks[arn]; return t != nil && t.untold }

// keep drops the tasks that are not among the current ones.
func (g *grants) keep(current map[string]bool) {
	for arn := range g.tasks {
		if !current[arn] {
			delete(g.tasks, arn)
		}
	}
}

// acked takes the agent's answer to credentials.
func (g *grants) acked(message string) {
	for _, t := range g.tasks {
		if _, ok := t.unacked[message]; !ok {
			continue
		}
		delete(t.unacked, message)
		if len(t.unacked) == 0 {
			t.wait = grantRetry
			g.schedule(t, t.renewAt)
		}
		return
	}
}

// of returns a task's grant, a new one where there is none.
func (g *grants) of(as *Assignment) *grant {
	t := g.tasks[as.TaskARN]
	if t == nil {
		t = &grant{wait: grantRetry, cluster: as.ClusterARN}
		g.tasks[as.TaskARN] = t
	}
	return t
}

// made notes that credentials were made now.
func (t *grant) made(all []Grant, now time.Time) {
	t.untold, t.unacked = false, map[string]struct{}{}
	t.renewAt = now.Add(grantRetryMost)
	for i, c := range all {
		if half := now.Add(c.Expires.Sub(now) / 2); i == 0 || half.Before(t.renewAt) {
			t.renewAt = half
		}
	}
}

// backOff has the task tried again later, and later each time.
func (g *grants) backOff(t *grant) {
	g.schedule(t, g.now().Add(t.wait))
	t.wait = min(2*t.wait, grantRetryMost)
}

// render makes a task's payload with the credentials of its roles. unfit says why
// there can't be one; neither a payload nor that is returned while the credentials
// can't be made for a fault of ours: the task is tried again later.
func (a *assignmentSession) render(ctx context.Context, as *Assignment) (task *Task, unfit error) {
	rendered, err := as.Render()
	if err != nil || len(as.Roles) == 0 {
		return &rendered, err
	}
	all, err := a.server.source.Credentials(ctx, a.session, as.TaskARN)
	var refused *RefusedRoleError
	if errors.As(err, &refused) {
		return nil, err
	}
	t := a.grants.of(as)
	if err != nil {
		if !t.untold { // else this is the attempt that grantAnew has counted
			a.grants.backOff(t)
		}
		t.untold = true
		a.server.log.Error("a task waits for credentials of its roles", "task", as.TaskARN, "error", err, "nextAttemptAt", t.due)
		return nil, nil
	}
	for i := range all {
		switch all[i].RoleType {
		case RoleTask:
			rendered.RoleCredentials = &all[i].Credentials
		case RoleExecution:
			rendered.ExecutionRoleCredentials = &all[i].Credentials
		}
	}
	// The payload's own acknowledgement says that they have come.
	t.made(all, a.now())
	a.grants.schedule(t, t.renewAt)
	return &rendered, nil
}

// expectGrants has a task's credentials sent that this session has not sent yet:
// soon where the agent says that it holds none (it has just begun).
func (a *assignmentSession) expectGrants(as *Assignment) {
	if len(as.Roles) == 0 || a.grants.tasks[as.TaskARN] != nil {
		return
	}
	at := a.now()
	if !a.session.SendCredentials {
		h := fnv.New64a()
		h.Write([]byte(as.TaskARN))
		at = at.Add(time.Duration(h.Sum64() % uint64(grantSpread)))
	}
	a.grants.schedule(a.grants.of(as), at)
}

// renew sends new credentials of one task that is due. One that can't be given any,
// for its role is gone or trusts it no more, keeps what it has and is tried again.
func (a *assignmentSession) renew(ctx context.Context) error {
	now := a.now()
	for arn, t := range a.grants.tasks {
		if t.due.After(now) {
			continue
		}
		if err := a.grantAnew(ctx, arn, t); err != nil {
			return err
		}
		break // what else is due comes next: the session has other work, too
	}
	a.grants.reschedule()
	return nil
}

func (a *assignmentSession) grantAnew(ctx context.Context, arn string, t *grant) error {
	a.grants.backOff(t)
	if t.untold {
		return a.tellAgain(ctx, arn)
	}
	all, err := a.server.source.Credentials(ctx, a.session, arn)
	if err != nil {
		if errors.Is(err, ErrInactiveInstance) {
			return err
		}
		a.server.log.Warn("a task's credentials can't be renewed; trying again", "task", arn, "error", err, "nextAttemptAt", t.due)
		return nil
	}
	if len(all) == 0 {
		a.grants.drop(arn)
		return nil
	}
	t.made(all, a.now())
	for _, c := range all {
		m := CredentialsMessage{MessageID: a.server.newID(), TaskARN: arn, TaskClusterARN: t.cluster, RoleType: c.RoleType, Credentials: c.Credentials}
		t.unacked[m.MessageID] = struct{}{}
		if err := a.send(ctx, TypeCredentials, m); err != nil {
			return err
		}
	}
	return nil
}
