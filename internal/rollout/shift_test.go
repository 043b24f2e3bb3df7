package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	blueGreen = Course{Steps: []float64{100}, Bake: 10 * time.Minute}
	canary    = Course{Steps: []float64{5, 100}, StepBake: 5 * time.Minute, Bake: time.Minute}
	linear    = Course{Steps: []float64{30, 60, 90, 100}, StepBake: time.Minute}
	back      = Course{Steps: []float64{100}, Back: true, From: 95, FromTest: 0}
)

func TestShiftStages(t *testing.T) {
	at := func(stage Stage, step int) Shift { return Shift{Stage: stage, Since: epoch, Step: step} }
	for name, c := range map[string]struct {
		from   Shift
		course Course
		after  time.Duration
		sight  Sight
		want   Stage
		step   int
		looks  time.Duration
	}{
		"what another had begun is taken back":  {at(Reconcile, 0), blueGreen, 0, Sight{Weighed: true, Others: true}, Reconcile, 0, 0},
		"its traffic too":                       {at(Reconcile, 0), blueGreen, 0, Sight{}, Reconcile, 0, 0},
		"and then it begins":                    {at(Reconcile, 0), blueGreen, 0, Sight{Weighed: true}, PreScaleUp, 0, 0},
		"a hook holds it":                       {at(PreScaleUp, 0), blueGreen, time.Hour, Sight{Weighed: true, Hooked: true}, PreScaleUp, 0, 0},
		"not all tasks are there":               {at(ScaleUp, 0), blueGreen, time.Hour, Sight{Weighed: true}, ScaleUp, 0, 0},
		"they are":                              {at(ScaleUp, 0), blueGreen, 0, Sight{Weighed: true, Ready: true}, PostScaleUp, 0, 0},
		"test traffic has not come":             {at(TestShift, 0), blueGreen, 0, Sight{Ready: true}, TestShift, 0, 0},
		"nor production traffic":                {at(Shifting, 0), blueGreen, 0, Sight{Ready: true}, Shifting, 0, 0},
		"it has":                                {at(Shifting, 0), blueGreen, 0, Sight{Weighed: true, Ready: true}, PostShift, 0, 0},
		"a canary is baked":                     {at(Shifting, 0), canary, time.Minute, Sight{Weighed: true, Ready: true}, Shifting, 0, 5 * time.Minute},
		"and the next step prepared":            {at(Shifting, 0), canary, 5 * time.Minute, Sight{Weighed: true, Ready: true}, PreShift, 1, 0},
		"the last step is not":                  {at(Shifting, 1), canary, 0, Sight{Weighed: true, Ready: true}, PostShift, 1, 0},
		"all is baked":                          {at(Bake, 0), blueGreen, time.Minute, Sight{Weighed: true, Ready: true}, Bake, 0, 10 * time.Minute},
		"and done":                              {at(Bake, 0), blueGreen, 10 * time.Minute, Sight{Weighed: true, Ready: true}, CleanUp, 0, 0},
		"the old ones are there yet":            {at(CleanUp, 0), blueGreen, 0, Sight{Weighed: true, Ready: true, Old: true}, CleanUp, 0, 0},
		"they are gone":                         {at(CleanUp, 0), blueGreen, 0, Sight{Weighed: true, Ready: true}, Shifted, 0, 0},
		"that is the end":                       {at(Shifted, 0), blueGreen, time.Hour, Sight{Weighed: true, Ready: true}, Shifted, 0, 0},
		"what goes back waits for its tasks":    {at(ScaleUp, 0), back, 0, Sight{Weighed: true}, ScaleUp, 0, 0},
		"and gets its traffic without more ado": {at(ScaleUp, 0), back, 0, Sight{Weighed: true, Ready: true}, Shifting, 0, 0},
		"and the others go":                     {at(Shifting, 0), back, 0, Sight{Weighed: true, Ready: true}, CleanUp, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.sight.Now = epoch.Add(c.after)
			next, until := c.from.Next(c.course, c.sight)
			if next.Stage != c.want || next.Step != c.step {
				t.Errorf("it is at %d, step %d; want %d, step %d", next.Stage, next.Step, c.want, c.step)
			}
			if want := epoch.Add(c.looks); c.looks > 0 && !until.Equal(want) || c.looks == 0 && !until.IsZero() {
				t.Errorf("it looks again at %s, want %s", until, want)
			}
		})
	}
}

func TestShiftWeights(t *testing.T) {
	for _, c := range []struct {
		shift            Shift
		course           Course
		production, test float64
	}{
		{Shift{Stage: ScaleUp}, blueGreen, 0, 0}, {Shift{Stage: TestShift}, blueGreen, 0, 100}, {Shift{Stage: PreShift}, blueGreen, 0, 100},
		{Shift{Stage: Shifting}, blueGreen, 100, 100}, {Shift{Stage: Bake}, blueGreen, 100, 100}, {Shift{Stage: Shifted}, blueGreen, 100, 100},
		{Shift{Stage: Shifting}, canary, 5, 100}, {Shift{Stage: PreShift, Step: 1}, canary, 5, 100}, {Shift{Stage: Shifting, Step: 1}, canary, 100, 100},
		{Shift{Stage: PreShift, Step: 2}, linear, 60, 100}, {Shift{Stage: Shifting, Step: 2}, linear, 90, 100},
		{Shift{Stage: ScaleUp}, back, 95, 0}, {Shift{Stage: Shifting}, back, 100, 100}, {Shift{Stage: CleanUp}, back, 100, 100},
	} {
		if production, test := c.shift.Weights(c.course); production != c.production || test != c.test {
			t.Errorf("%+v of %v: %v %% and %v %%, want %v and %v", c.shift, c.course.Steps, production, test, c.production, c.test)
		}
	}
}

// shiftWorld plays the machines and the load balancers of a service whose traffic shifts.
type shiftWorld struct {
	ShiftState
	r      *rand.Rand
	next   int
	faulty bool
}

func newShiftWorld(seed uint64) *shiftWorld {
	r := rand.New(rand.NewPCG(seed, seed))
	courses := []Course{blueGreen, canary, linear, back}
	w := &shiftWorld{r: r, faulty: true}
	w.Now, w.Course = epoch, courses[r.IntN(len(courses))]
	w.Service = Service{Desired: r.IntN(6), MinimumPercent: 100, MaximumPercent: 200}
	w.Deployments = []Deployment{{ID: "green"}, {ID: "blue"}}
	w.Live = "blue"
	if w.Course.Back {
		w.Shift.Stage = ScaleUp
	}
	w.Tasks = tasks("blue", "hhhhhh"[:w.Service.Desired])
	if r.IntN(3) == 0 && !w.Course.Back {
		// Another deployment had begun.
		w.Deployments = append(w.Deployments, Deployment{ID: "left"})
		w.Tasks = append(w.Tasks, tasks("left", "hpw"[:r.IntN(4)])...)
	}
	return w
}

// step does what is asked for, lets the world move, and checks the laws.
func (w *shiftWorld) step(t *testing.T) ShiftPlan {
	t.Helper()
	w.Weighed = !w.faulty || w.r.IntN(3) > 0
	w.Hooked = w.faulty && w.r.IntN(4) == 0
	p := NextShift(w.ShiftState)
	production, _ := p.Shift.Weights(w.Course)
	before, _ := w.Shift.Weights(w.Course)
	w.laws(t, p, before)
	if production > before && w.Shift.Stage < PostScaleUp && !w.Course.Back {
		t.Fatalf("green gets %v %% before it is there", production)
	}
	if p.Shift.Stage < w.Shift.Stage && (w.Shift.Stage != Shifting || p.Shift.Step != w.Shift.Step+1) {
		t.Fatalf("from stage %d back to %d", w.Shift.Stage, p.Shift.Stage)
	}
	w.Shift = p.Shift
	for id, n := range p.Starts {
		for range n {
			w.next++
			w.Tasks = append(w.Tasks, Task{ID: fmt.Sprint("t", w.next), Deployment: id, CreatedAt: w.Now})
		}
	}
	for i := range w.Tasks {
		if slices.ContainsFunc(p.Stop, func(s Stop) bool { return s.ID == w.Tasks[i].ID }) {
			w.Tasks[i].Phase = Stopping
		}
	}
	w.Now = w.Now.Add(30 * time.Second)
	w.Tasks = slices.DeleteFunc(w.Tasks, func(k Task) bool {
		return k.Phase == Stopping && w.r.IntN(2) == 0 || w.faulty && w.r.IntN(20) == 0
	})
	for i := range w.Tasks {
		k := &w.Tasks[i]
		switch {
		case k.Phase == Pending && w.r.IntN(2) == 0:
			k.Phase, k.Waiting = Running, true
		case k.Waiting && w.r.IntN(2) == 0:
			k.Waiting = false
		case w.faulty && k.Phase == Running && w.r.IntN(20) == 0:
			k.Unhealthy = true
		case k.Unhealthy && !w.faulty:
			k.Unhealthy = false
		}
	}
	return p
}

// laws: who may get requests keeps its healthy tasks.
func (w *shiftWorld) laws(t *testing.T, p ShiftPlan, production float64) {
	t.Helper()
	for id, part := range map[string]float64{"green": production, "blue": 100 - production} {
		if part == 0 && w.Weighed {
			continue
		}
		healthy := 0
		for _, k := range w.Tasks {
			if k.Deployment == id && k.healthy() && !slices.ContainsFunc(p.Stop, func(s Stop) bool { return s.ID == k.ID }) {
				healthy++
			}
		}
		for _, s := range p.Stop {
			i := slices.IndexFunc(w.Tasks, func(k Task) bool { return k.ID == s.ID })
			if w.Tasks[i].Deployment == id && w.Tasks[i].healthy() && healthy < w.Service.Desired {
				t.Fatalf("stage %d: %s of %s is stopped, which gets %v %%: %d of %d are left", w.Shift.Stage, s.ID, id, part, healthy, w.Service.Desired)
			}
		}
	}
}

// From any state, and after any faults, the traffic and all tasks are the first
// deployment's; nobody who may get requests loses a healthy task before.
func TestShiftLaws(t *testing.T) {
	for seed := range uint64(3000) {
		w := newShiftWorld(seed)
		for range w.r.IntN(60) {
			w.step(t)
		}
		w.faulty = false
		var p ShiftPlan
		for range 400 {
			if p = w.step(t); p.Complete && len(w.Tasks) == w.Service.Desired {
				break
			}
		}
		if !p.Complete || len(w.Tasks) != w.Service.Desired || slices.ContainsFunc(w.Tasks, func(k Task) bool { return k.Deployment != "green" }) {
			t.Fatalf("seed %d: stage %d, tasks %+v of %d", seed, w.Shift.Stage, w.Tasks, w.Service.Desired)
		}
	}
}

// One that has failed starts nothing more, and keeps its place until it is decided.
func TestShiftFails(t *testing.T) {
	s := ShiftState{Shift: Shift{Stage: ScaleUp, Since: epoch}, Course: blueGreen, Live: "blue", Weighed: true}
	s.Now, s.Service = epoch, Service{Desired: 2, MinimumPercent: 100, MaximumPercent: 200, Threshold: 3}
	s.Deployments, s.Tasks = []Deployment{{ID: "green", Failed: 3}, {ID: "blue", Failed: 9}}, tasks("blue", "hh")
	if p := NextShift(s); !p.Failed || len(p.Stop) > 0 {
		t.Errorf("plan %+v", p)
	}
	s.Deployments[0].GivenUp = true
	if p := NextShift(s); p.Failed || p.Start > 0 || p.Starts["green"] > 0 || len(p.Stop) > 0 || p.Shift != s.Shift || p.Hold != GivenUp {
		t.Errorf("given up: plan %+v", p)
	}
}
