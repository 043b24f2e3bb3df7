package rollout

import "time"

// Stage is where a deployment stands that shifts traffic.
type Stage int

// The stages, in order. From PreShift on they are passed again for each step of the
// course.
const (
	// Reconcile: what another deployment had begun is taken back.
	Reconcile Stage = iota
	PreScaleUp
	ScaleUp
	PostScaleUp
	TestShift
	PostTestShift
	PreShift
	Shifting
	PostShift
	Bake
	CleanUp
	Shifted // it has come to its end
)

// Shift is how far the traffic has come from the deployment that has it to the first one.
type Shift struct {
	Stage Stage
	// Since is when it came to the stage; Step is the step of the course that is next, or
	// under way.
	Since time.Time
	Step  int
}

// Course is what a shift is to do.
type Course struct {
	// Steps are the percentages of the traffic that the first deployment gets, one after
	// the other; the last is 100.
	Steps []float64
	// StepBake is the time between steps, Bake that after the last.
	StepBake, Bake time.Duration
	// Back: the first deployment had the traffic before, and gets it back at once. From and
	// FromTest are the percentages of production and test traffic that it has had left.
	Back           bool
	From, FromTest float64
}

// Weights are the percentages of production and of test traffic that the first deployment
// gets; the one that had the traffic gets the rest.
func (s Shift) Weights(c Course) (production, test float64) {
	production, test = c.From, c.FromTest
	switch {
	case s.Stage > Shifting || c.Back && s.Stage == Shifting:
		return 100, 100
	case s.Stage == Shifting:
		production = c.Steps[s.Step]
	case s.Step > 0:
		production = c.Steps[s.Step-1]
	}
	if s.Stage >= TestShift {
		test = 100
	}
	return production, test
}

// Sight is what a shift has to know of the world.
type Sight struct {
	Now time.Time
	// Ready: the first deployment has all its tasks, and they are healthy.
	Ready bool
	// Weighed: the traffic is distributed as Weights says.
	Weighed bool
	// Hooked: something is still asked before the stage may end.
	Hooked bool
	// Others: there are tasks of deployments besides the first and the one that has the
	// traffic. Old: there are tasks of that one.
	Others, Old bool
}

// Next is the next stage, if it has come to that; until is when to look again, if that is
// known.
func (s Shift) Next(c Course, w Sight) (next Shift, until time.Time) {
	bakes := time.Duration(0)
	ends := true
	switch s.Stage {
	case Reconcile:
		ends = w.Weighed && !w.Others
	case ScaleUp:
		ends = w.Ready
	case TestShift:
		ends = w.Weighed
	case Shifting:
		ends = w.Weighed
		if s.Step < len(c.Steps)-1 {
			bakes = c.StepBake
		}
	case Bake:
		bakes = c.Bake
	case CleanUp:
		ends = w.Weighed && !w.Old && !w.Others && w.Ready
	case Shifted:
		ends = false
	}
	over := s.Since.Add(bakes)
	switch {
	case !ends || w.Hooked:
		return s, time.Time{}
	case w.Now.Before(over):
		return s, over
	}
	return s.after(c, w.Now), time.Time{}
}

// after is the stage that follows.
func (s Shift) after(c Course, now time.Time) Shift {
	switch {
	case c.Back && s.Stage == ScaleUp:
		return Shift{Stage: Shifting, Since: now}
	case c.Back && s.Stage == Shifting:
		return Shift{Stage: CleanUp, Since: now}
	case s.Stage == Shifting && s.Step < len(c.Steps)-1:
		return Shift{Stage: PreShift, Since: now, Step: s.Step + 1}
	}
	return Shift{Stage: s.Stage + 1, Since: now, Step: s.Step}
}

// ShiftState is all that NextShift looks at.
type ShiftState struct {
	State
	Shift  Shift
	Course Course
	// Live is the deployment that has the traffic, "" if none had it yet.
	Live string
	// Weighed and Hooked are as in Sight.
	Weighed, Hooked bool
}

// ShiftPlan is what to do now.
type ShiftPlan struct {
	Plan
	// Starts is how many tasks to start, by deployment.
	Starts map[string]int
	// Shift is where it stands now, Look when to look again, zero if that is not known.
	Shift Shift
	Look  time.Time
}

// NextShift is Next for a service whose traffic shifts: the deployment that has it, and from
// ScaleUp on the first one, have all tasks that are wanted, each by itself; a task is taken
// from neither before the traffic has gone. At most one stage is passed.
func NextShift(s ShiftState) ShiftPlan {
	first := s.Deployments[0].ID
	of := map[string][]Task{}
	for _, k := range s.Tasks {
		of[k.Deployment] = append(of[k.Deployment], k)
	}
	sight := Sight{Now: s.Now, Weighed: s.Weighed, Hooked: s.Hooked, Old: s.Live != first && len(of[s.Live]) > 0}
	alone := State{Service: s.Service, Deployments: s.Deployments[:1], Tasks: of[first], Now: s.Now}
	sight.Ready = count(&alone).freshHealthy >= s.Service.Desired
	for id, tasks := range of {
		sight.Others = sight.Others || id != first && id != s.Live && len(tasks) > 0
	}
	out := ShiftPlan{Starts: map[string]int{}, Shift: s.Shift}
	if !s.Deployments[0].GivenUp {
		out.Shift, out.Look = s.Shift.Next(s.Course, sight)
	}
	// What the stage lets go is let go when the traffic has left it.
	weighed := s.Weighed && out.Shift == s.Shift
	for i, d := range s.Deployments {
		service := s.Service
		d.Done = d.Done || i > 0 // only the first one can fail
		switch {
		case d.ID == first && out.Shift.Stage < ScaleUp,
			d.ID != first && d.ID == s.Live && out.Shift.Stage >= CleanUp && weighed,
			d.ID != first && d.ID != s.Live && weighed:
			service.Desired = 0
		}
		p := Next(State{Service: service, Deployments: []Deployment{d}, Tasks: of[d.ID], Now: s.Now})
		out.Starts[d.ID] = p.Start
		out.Stop = append(out.Stop, p.Stop...)
		if p.Hold == Backoff && (out.Until.IsZero() || p.Until.Before(out.Until)) {
			out.Until = p.Until
		}
		if i == 0 {
			out.Start, out.Failed, out.Hold = p.Start, p.Failed, p.Hold
		}
	}
	out.Drop = keep(empty(&s.State), s.Live, out.Shift.Stage)
	out.Complete = out.Shift.Stage == Shifted
	if out.Hold == Nothing && !out.Complete {
		out.Hold = Traffic
	}
	return out
}

// keep leaves the deployment that has the traffic in, while it may be returned to.
func keep(drop []string, live string, stage Stage) (out []string) {
	for _, id := range drop {
		if id != live || stage > CleanUp {
			out = append(out, id)
		}
	}
	return out
}
