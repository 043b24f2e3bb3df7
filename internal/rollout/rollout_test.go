package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tasks makes tasks of a deployment, one for each letter: p pending, w waiting for its
// health, h healthy, u unhealthy, s being stopped.
func tasks(deployment, letters string) (all []Task) {
	for i, c := range letters {
		k := Task{ID: fmt.Sprint(deployment, i), Deployment: deployment, CreatedAt: epoch.Add(time.Duration(i) * time.Second), Phase: Running}
		switch c {
		case 'p':
			k.Phase = Pending
		case 'w':
			k.Waiting = true
		case 'u':
			k.Unhealthy = true
		case 's':
			k.Phase = Stopping
		}
		all = append(all, k)
	}
	return all
}

// protect protects tasks by their number.
func protect(numbers ...int) func(*State) {
	return func(s *State) {
		for _, n := range numbers {
			s.Tasks[n].Protected = true
		}
	}
}

func TestNext(t *testing.T) {
	type want struct {
		start    int
		stop     string
		complete bool
		failed   bool
		hold     Hold
	}
	for name, c := range map[string]struct {
		desired, least, most int
		fresh, old           string
		change               func(*State)
		want                 want
	}{
		"a new service starts all":                    {4, 100, 200, "", "", nil, want{start: 4}},
		"it waits for its tasks":                      {4, 100, 200, "pppw", "", nil, want{hold: Health}},
		"it is there":                                 {2, 100, 200, "hh", "", nil, want{complete: true}},
		"and stays":                                   {2, 100, 200, "hh", "", func(s *State) { s.Deployments[0].Done = true }, want{}},
		"a task that ended is replaced":               {3, 100, 200, "hh", "", nil, want{start: 1}},
		"scaled out":                                  {5, 100, 200, "hhh", "", nil, want{start: 2}},
		"scaled in, the latest first":                 {1, 100, 200, "hhh", "", nil, want{stop: "new2 new1"}},
		"scaled in, first what does not serve":        {2, 100, 200, "phw", "", nil, want{stop: "new0"}},
		"scaled to nothing":                           {0, 100, 200, "hp", "", nil, want{stop: "new1 new0"}},
		"a new version starts beside the old":         {3, 100, 200, "", "hhh", nil, want{start: 3}},
		"the old stays until the new is healthy":      {3, 100, 200, "ppw", "hhh", nil, want{hold: Health}},
		"and goes one by one":                         {3, 100, 200, "hpw", "hhh", nil, want{stop: "old0"}},
		"the old is gone":                             {3, 100, 200, "hhh", "ss", nil, want{hold: Ends}},
		"half at a time":                              {4, 50, 100, "", "hhhh", nil, want{stop: "old0 old1"}},
		"what is being stopped counts":                {4, 50, 100, "", "sshh", nil, want{hold: Ends}},
		"no more than make the room that is missing":  {4, 0, 100, "hh", "shh", nil, want{stop: "old1"}},
		"and makes room when it is gone":              {4, 50, 100, "", "hh", nil, want{start: 2}},
		"with no minimum the old serves on":           {4, 0, 200, "pppp", "hhhh", nil, want{hold: Health}},
		"no room, and none may go":                    {1, 100, 100, "", "h", nil, want{hold: MaximumNoRoom}},
		"old ones that do not serve go at once":       {3, 100, 200, "", "hupw", nil, want{start: 2, stop: "old1 old2"}},
		"old ones that have just started serve":       {3, 100, 200, "", "www", nil, want{start: 3}},
		"and stay until the new are healthy":          {3, 100, 200, "wwp", "www", nil, want{hold: Health}},
		"and go then":                                 {3, 100, 200, "hwp", "hww", nil, want{stop: "old1"}},
		"and make room no further than the minimum":   {4, 50, 100, "", "wwww", nil, want{stop: "old0 old1"}},
		"a sick task is replaced first":               {2, 100, 200, "hu", "", nil, want{start: 1}},
		"and stopped then":                            {2, 100, 200, "huh", "", nil, want{stop: "new1"}},
		"or before, where there is no room":           {2, 50, 100, "hu", "", nil, want{stop: "new1"}},
		"all are sick, and there is no room":          {2, 100, 100, "uu", "", nil, want{stop: "new0 new1"}},
		"after failures it waits":                     {2, 100, 200, "h", "", func(s *State) { s.Deployments[0].NotBefore = epoch.Add(time.Second) }, want{hold: Backoff}},
		"and goes on":                                 {2, 100, 200, "h", "", func(s *State) { s.Deployments[0].NotBefore = epoch }, want{start: 1}},
		"the breaker opens":                           {4, 100, 200, "pp", "hhhh", func(s *State) { s.Service.Threshold, s.Deployments[0].Failed = 3, 3 }, want{failed: true}},
		"not for fewer":                               {4, 100, 200, "pppp", "hhhh", func(s *State) { s.Service.Threshold, s.Deployments[0].Failed = 3, 2 }, want{hold: Health}},
		"nor for a deployment that has been finished": {4, 100, 200, "hhh", "", func(s *State) { s.Service.Threshold, s.Deployments[0].Failed, s.Deployments[0].Done = 3, 9, true }, want{start: 1}},
		"what was given up gets no tasks":             {4, 100, 200, "p", "hhhh", func(s *State) { s.Deployments[0].GivenUp = true }, want{hold: GivenUp}},
		"protected tasks stay":                        {2, 100, 200, "hh", "hh", protect(2, 3), want{hold: Protection}},
		"those beside them do not":                    {2, 100, 200, "hh", "hh", protect(2), want{stop: "old1"}},
		"they may leave no room":                      {2, 0, 100, "", "hh", protect(0, 1), want{hold: Protection}},
		"protected at scaling in":                     {1, 100, 200, "hhh", "", protect(2), want{stop: "new1 new0"}},
		"a protected one that is sick":                {2, 100, 200, "hhu", "", protect(2), want{stop: "new2"}},
		"nor where there is none":                     {4, 100, 200, "pppp", "", func(s *State) { s.Deployments[0].Failed = 50 }, want{hold: Health}},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{
				Service: Service{Desired: c.desired, MinimumPercent: c.least, MaximumPercent: c.most}, Now: epoch,
				Deployments: []Deployment{{ID: "new"}, {ID: "old", Done: true}}, Tasks: slices.Concat(tasks("new", c.fresh), tasks("old", c.old)),
			}
			if c.change != nil {
				c.change(&s)
			}
			p := Next(s)
			stop := ""
			for _, k := range p.Stop {
				stop += " " + k.ID
			}
			got := want{p.Start, stop[min(1, len(stop)):], p.Complete, p.Failed, p.Hold}
			if got != c.want {
				t.Errorf("plan %+v, want %+v", got, c.want)
			}
			if drop := len(p.Drop) == 1; !p.Failed && drop != (c.old == "") {
				t.Errorf("dropped are %v", p.Drop)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for failed, want := range map[int]time.Duration{0: 0, 2: 0, 3: 10 * time.Second, 4: 20 * time.Second, 9: 640 * time.Second, 10: 15 * time.Minute, 1000: 15 * time.Minute} {
		if got := BackoffAfter(failed); got != want {
			t.Errorf("after %d failures it waits %s, want %s", failed, got, want)
		}
	}
}

// world plays a service's machines: what Next asks for happens, late and not always.
type world struct {
	State
	r    *rand.Rand
	next int
	// faulty: tasks fail and get sick.
	faulty bool
}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, seed))
	w := &world{r: r, faulty: true}
	w.Now = epoch
	w.Service = Service{Desired: r.IntN(12), MinimumPercent: r.IntN(5) * 25, MaximumPercent: 100 + r.IntN(5)*25}
	for i := range 1 + r.IntN(3) {
		w.Deployments = append(w.Deployments, Deployment{ID: fmt.Sprint("d", i), Done: i > 0})
	}
	for range r.IntN(2*w.Service.Desired + 4) {
		w.add(w.Deployments[r.IntN(len(w.Deployments))].ID, Phase(r.IntN(3)))
	}
	return w
}

func (w *world) add(deployment string, phase Phase) {
	w.next++
	w.Tasks = append(w.Tasks, Task{ID: fmt.Sprint("t", w.next), Deployment: deployment, CreatedAt: w.Now, Phase: phase, Waiting: w.r.IntN(2) == 0})
}

func (w *world) healthy() (n int) {
	for i := range w.Tasks {
		if w.Tasks[i].healthy() {
			n++
		}
	}
	return n
}

func (w *world) serving() (n int) {
	for i := range w.Tasks {
		if w.Tasks[i].serves() {
			n++
		}
	}
	return n
}

// carryOut does what a plan says, and checks the laws that hold for each single one.
func (w *world) carryOut(t *testing.T, p Plan) {
	t.Helper()
	before, serving := w.healthy(), w.serving()
	if p.Start > 0 && len(w.Tasks)+p.Start > w.Service.most() {
		t.Fatalf("%d tasks are there and %d are started: at most %d are allowed", len(w.Tasks), p.Start, w.Service.most())
	}
	for _, s := range p.Stop {
		i := slices.IndexFunc(w.Tasks, func(k Task) bool { return k.ID == s.ID })
		if i < 0 || w.Tasks[i].Phase == Stopping {
			t.Fatalf("%s is stopped, which is not there or is being stopped", s.ID)
		}
		if w.Tasks[i].Protected && s.Why != Unhealthy {
			t.Fatalf("%s is stopped, which is protected", s.ID)
		}
		w.Tasks[i].Phase = Stopping
	}
	if after := w.healthy(); after < min(before, w.Service.least()) {
		t.Fatalf("of %d healthy tasks %d are left, at least %d must be", before, after, w.Service.least())
	}
	if after := w.serving(); after < min(serving, w.Service.least()) {
		t.Fatalf("of %d tasks that serve %d are left, at least %d must be", serving, after, w.Service.least())
	}
	for range p.Start {
		w.add(w.Deployments[0].ID, Pending)
	}
	if p.Complete {
		w.Deployments[0].Done = true
	}
	w.Deployments = slices.DeleteFunc(w.Deployments, func(d Deployment) bool { return slices.Contains(p.Drop, d.ID) })
}

// happen moves some tasks on.
func (w *world) happen() {
	w.Now = w.Now.Add(time.Second)
	var left []Task
	for _, k := range w.Tasks {
		k.Protected = w.faulty && w.r.IntN(4) == 0
		switch luck := w.r.IntN(10); {
		case luck < 5:
		case k.Phase == Stopping:
			continue
		case w.faulty && luck == 9:
			if w.r.IntN(2) == 0 {
				continue // it ended
			}
			k.Unhealthy = k.Phase == Running
		case k.Phase == Pending:
			k.Phase = Running
		case !k.Unhealthy:
			k.Waiting = false
		}
		left = append(left, k)
	}
	w.Tasks = left
}

// Whatever happens, each plan keeps the bounds; and once nothing fails any more, the
// service has its tasks, all of the wanted deployment, unless its bounds forbid it.
func TestLaws(t *testing.T) {
	stuck := 0
	for seed := range uint64(3000) {
		w := newWorld(seed)
		for range 60 {
			w.carryOut(t, Next(w.State))
			w.happen()
			if w.r.IntN(20) == 0 {
				w.Service.Desired = w.r.IntN(12)
			}
			if w.r.IntN(20) == 0 {
				w.next++
				w.Deployments = append([]Deployment{{ID: fmt.Sprint("later", w.next)}}, w.Deployments...)
			}
		}
		w.faulty = false
		settled := false
		for range 400 {
			p := Next(w.State)
			if p.Hold == MaximumNoRoom {
				if w.Service.least() < w.healthy() && w.Service.most() > 0 {
					t.Fatalf("seed %d: it gives up although %d of %d healthy tasks could go", seed, w.healthy()-w.Service.least(), w.healthy())
				}
				stuck++
				settled = true
				break
			}
			w.carryOut(t, p)
			if settled = p.Start == 0 && len(p.Stop) == 0 && p.Hold == Nothing; settled {
				break
			}
			w.happen()
		}
		if !settled {
			t.Fatalf("seed %d: after 400 steps without a fault it still does something: %+v", seed, w.State)
		}
		if Next(w.State).Hold == MaximumNoRoom {
			continue
		}
		if len(w.Tasks) != w.Service.Desired || w.healthy() != w.Service.Desired || slices.ContainsFunc(w.Tasks, func(k Task) bool { return k.Deployment != w.Deployments[0].ID }) {
			t.Fatalf("seed %d: it rests with %d tasks, %d healthy, of %d", seed, len(w.Tasks), w.healthy(), w.Service.Desired)
		}
		if len(w.Deployments) != 1 || !w.Deployments[0].Done {
			t.Fatalf("seed %d: it rests with %+v", seed, w.Deployments)
		}
	}
	if stuck > 1000 {
		t.Errorf("%d of 3000 services had no room", stuck)
	}
}

// A plan that is carried out twice before anything happens asks for nothing more.
func TestNothingIsAskedForTwice(t *testing.T) {
	for seed := range uint64(2000) {
		w := newWorld(seed)
		w.carryOut(t, Next(w.State))
		for range 5 { // what makes room for what is a step of its own
			w.carryOut(t, Next(w.State))
		}
		if p := Next(w.State); p.Start > 0 || len(p.Stop) > 0 || p.Complete || len(p.Drop) > 0 {
			t.Fatalf("seed %d: again %+v in %+v", seed, p, w.State)
		}
	}
}
