package rollout

import (
	"cmp"
	"slices"
	"time"
)

// Service is what a service asks for.
type Service struct {
	// Desired is how many tasks there should be.
	Desired int
	// MinimumPercent of Desired, rounded up, stay healthy while tasks are replaced.
	// MaximumPercent of Desired, rounded down, is how many there are at most, those that
	// are being stopped included.
	MinimumPercent, MaximumPercent int
	// Threshold of failed tasks ends a deployment; 0: none does.
	Threshold int
	// Rebalance: tasks are moved until the zones have as many as each other.
	Rebalance bool
}

func (s Service) least() int { return (s.Desired*s.MinimumPercent + 99) / 100 }
func (s Service) most() int  { return s.Desired * s.MaximumPercent / 100 }

// Phase is where a task stands that is not STOPPED.
type Phase int

// The phases, in order.
const (
	Pending Phase = iota
	Running
	Stopping
)

// Task is one task of the service.
type Task struct {
	ID         string
	Deployment string
	CreatedAt  time.Time
	Phase      Phase
	// Waiting: it runs, and its health check has not passed yet. Unhealthy: it fails.
	Waiting, Unhealthy bool
	// Protected: it is stopped for nothing but its health.
	Protected bool
	// Node is where it is, for NextDaemon, and Zone that of the node.
	Node, Zone string
}

func (t *Task) healthy() bool { return t.Phase == Running && !t.Waiting && !t.Unhealthy }

// serves tells whether a task may be what the service's users meet: it is healthy, or
// will be soon, but for its check or the time that this takes.
func (t *Task) serves() bool { return t.Phase == Running && !t.Unhealthy }

// Deployment is one version of the service.
type Deployment struct {
	ID string
	// Failed counts its tasks that ended by themselves, until one is healthy.
	Failed int
	// Done: it had all tasks healthy once. GivenUp: it failed, and gets no more tasks.
	Done, GivenUp bool
	// NotBefore is when its next task may be started, after failures.
	NotBefore time.Time
}

// State is all that Next looks at. The first deployment is the one that is wanted.
type State struct {
	Service     Service
	Deployments []Deployment
	Tasks       []Task
	Now         time.Time
	// Zones are those in which tasks can be, for Rebalance.
	Zones []string
}

// Why a task is stopped.
type Why int

// The reasons, from the one that ends first.
const (
	Superseded Why = iota // it is of another deployment
	Surplus               // there are more than desired
	Unhealthy             // its health check fails
)

// Stop is a task to stop.
type Stop struct {
	ID  string
	Why Why
}

// Hold is what a service waits for.
type Hold int

// What can hold a service back.
const (
	Nothing       Hold = iota
	Health             // tasks that were started to be healthy
	Ends               // tasks that are being stopped to be gone
	Backoff            // the time after failures
	MaximumNoRoom      // nothing: the maximum leaves no room, and the minimum lets none be stopped
	GivenUp            // another deployment: this one has failed
	Refused            // what is asked for can't be had; Next never says so
	Protection         // the end of the protection of tasks that are to be stopped
	Traffic            // the stage of a shift to end; Next never says so
)

// Plan is what to do now.
type Plan struct {
	// Start is how many tasks of the first deployment to start.
	Start int
	// StartIn is the zone to start one task more in; empty: none.
	StartIn string
	// StartOn are the nodes to start one on each, of NextDaemon.
	StartOn []string
	Stop    []Stop
	// Complete: the first deployment has all its tasks, and no other has any.
	Complete bool
	// Failed: the first deployment is to be given up.
	Failed bool
	// Drop are deployments that have no task left, and never will.
	Drop []string
	Hold Hold
	// Until is when to look again, for Backoff.
	Until time.Time
}

// patience is how many tasks may fail in a row before starts wait.
const patience = 3

// Bounds of the time between starts after failures.
const firstBackoff, mostBackoff = 10 * time.Second, 15 * time.Minute

// BackoffAfter is how long to wait after so many failures in a row.
func BackoffAfter(failed int) time.Duration {
	wait := time.Duration(0)
	for n := patience; n <= failed && wait < mostBackoff; n++ {
		wait = max(2*wait, firstBackoff)
	}
	return min(wait, mostBackoff)
}

// tally is what a state's tasks come to.
type tally struct {
	fresh, old         []*Task // not being stopped
	stopping           int
	healthy, serving   int // of fresh and old
	freshHealthy, sick int // of fresh
	oldServing         int // of old
	protected          int // of fresh and old
}

func count(s *State) tally {
	var t tally
	for i := range s.Tasks {
		k := &s.Tasks[i]
		switch {
		case k.Phase == Stopping:
			t.stopping++
			continue
		case k.Deployment == s.Deployments[0].ID:
			t.fresh = append(t.fresh, k)
			if k.healthy() {
				t.freshHealthy++
			}
			if k.Unhealthy {
				t.sick++
			}
		default:
			t.old = append(t.old, k)
			if k.serves() {
				t.oldServing++
			}
		}
		if k.Protected {
			t.protected++
		}
		if k.healthy() {
			t.healthy++
		}
		if k.serves() {
			t.serving++
		}
	}
	return t
}

// Next returns what a service does now. It has at least one deployment.
func Next(s State) Plan {
	var p Plan
	first, t := s.Deployments[0], count(&s)
	if n := s.Service.Threshold; n > 0 && first.Failed >= n && !first.Done && !first.GivenUp {
		return Plan{Failed: true}
	}
	missing := max(s.Service.Desired-(len(t.fresh)-t.sick), 0)
	room := max(s.Service.most()-len(s.Tasks), 0)
	switch {
	case first.GivenUp:
		missing, p.Hold = 0, GivenUp
	case s.Now.Before(first.NotBefore) && missing > 0:
		p.Hold, p.Until = Backoff, first.NotBefore
	default:
		p.Start = min(missing, room)
	}
	p.Stop = stops(&s, t, missing-room)
	p.Drop = empty(&s)
	settled := t.freshHealthy >= s.Service.Desired && len(s.Tasks) == len(t.fresh) && len(p.Stop) == 0
	p.Complete = settled && !first.Done && !first.GivenUp
	if settled {
		p.StartIn = s.rebalance(t)
	}
	if p.Hold == Nothing && p.Start == 0 && p.StartIn == "" && len(p.Stop) == 0 {
		p.Hold = held(&s, t, missing, settled)
	}
	return p
}

// held says what a service waits for that can do nothing now.
func held(s *State, t tally, missing int, settled bool) Hold {
	surplus := len(t.fresh) + len(t.old) - s.Service.Desired
	switch {
	case s.arriving(t) > 0:
		return Health
	case settled && surplus > 0:
		return Protection
	case settled:
		return Nothing
	case t.stopping > 0:
		return Ends
	case t.protected > 0 && len(t.fresh) == t.freshHealthy && (missing > 0 || surplus > 0):
		return Protection
	case missing == 0 || len(t.fresh) > t.freshHealthy:
		return Health
	default:
		return MaximumNoRoom
	}
}

// stops chooses the tasks to stop. short is how many that are missing have no room.
func stops(s *State, t tally, short int) []Stop {
	var out []Stop
	// How many healthy ones may go, and how many that serve.
	spare, spareServing := t.healthy-s.Service.least(), t.serving-s.Service.least()
	take := func(tasks []*Task, n int, why Why) {
		for _, k := range tasks {
			if n == 0 {
				return
			}
			if k.Protected && why != Unhealthy || k.healthy() && spare <= 0 || k.serves() && spareServing <= 0 {
				continue
			}
			if k.healthy() {
				spare--
			}
			if k.serves() {
				spareServing--
			}
			out = append(out, Stop{k.ID, why})
			n--
		}
	}
	// Of former deployments: what does not serve goes at once. What does goes as far as
	// there are healthy ones in its place, or as far as it has to make room.
	var useless, serving []*Task
	for _, k := range t.old {
		if k.serves() {
			serving = append(serving, k)
		} else {
			useless = append(useless, k)
		}
	}
	slices.SortFunc(serving, func(a, b *Task) int {
		return cmp.Or(compareBools(a.healthy(), b.healthy()), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	take(useless, len(useless), Superseded)
	replaced := max(t.oldServing+t.freshHealthy-s.Service.Desired, 0)
	take(serving, min(len(serving), max(replaced, short-t.stopping-len(out))), Superseded)

	well := slices.DeleteFunc(slices.Clone(t.fresh), func(k *Task) bool { return k.Unhealthy })
	if surplus := len(well) - s.Service.Desired - s.arriving(t); surplus > 0 {
		take(byNeed(well), surplus, Surplus)
	}
	// A sick one goes when others are there in its place, or to make room for one.
	sick := slices.DeleteFunc(slices.Clone(t.fresh), func(k *Task) bool { return !k.Unhealthy })
	byAge(sick)
	if t.freshHealthy >= s.Service.Desired {
		take(sick, len(sick), Unhealthy)
	} else {
		take(sick, min(len(sick), max(short-t.stopping-len(out), 0)), Unhealthy)
	}
	return out
}

func byAge(tasks []*Task) {
	slices.SortFunc(tasks, func(a, b *Task) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) })
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// empty are the former deployments without tasks.
func empty(s *State) (ids []string) {
	has := map[string]bool{}
	for _, k := range s.Tasks {
		has[k.Deployment] = true
	}
	for _, d := range s.Deployments[1:] {
		if !has[d.ID] {
			ids = append(ids, d.ID)
		}
	}
	return ids
}
