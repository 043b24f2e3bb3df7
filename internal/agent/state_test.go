package agent

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/runtime"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// recordOf makes a task's record; each container is essential unless its name
// begins with "side".
func recordOf(containers ...acs.Container) *record {
	n := 0
	task := acs.Task{ARN: "arn:aws:ecs:r:a:task/c/t1", Containers: containers}
	return newRecord(task, epoch, func() string { n++; return fmt.Sprint("id", n) })
}

func idle(int) bool { return false }

func TestContainersAreStartedInTheOrderOfTheirDependencies(t *testing.T) {
	r := recordOf(
		acs.Container{Name: "app", Essential: true, DependsOn: []acs.Dependency{{ContainerName: "init", Condition: "SUCCESS"}, {ContainerName: "db", Condition: "HEALTHY"}}},
		acs.Container{Name: "init"},
		acs.Container{Name: "db"},
	)
	if got, want := decide(r, idle), []action{{stepPull, 0}, {stepPull, 1}, {stepPull, 2}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("first %v, want %v: pulls do not wait for each other", got, want)
	}
	for i := range r.Containers {
		r.Containers[i].Status = StatusPulled
	}
	if got, want := decide(r, idle), []action{{stepCreate, 1}, {stepCreate, 2}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("then %v, want %v", got, want)
	}
	end(r, 1, 0)
	begin(r, 2)
	if got := decide(r, idle); len(got) != 0 {
		t.Fatalf("app was started before db is healthy: %v", got)
	}
	r.Containers[2].Health = HealthHealthy
	if got, want := decide(r, idle), []action{{stepCreate, 0}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("at last %v, want %v", got, want)
	}
}

func begin(r *record, i int) {
	r.Containers[i].Status, r.Containers[i].StartedAt = StatusRunning, epoch
}

func end(r *record, i, code int) {
	begin(r, i)
	exited(i, runtime.Exit{Code: code, At: epoch.Add(time.Second)})(r)
}

func TestHopelessDependencies(t *testing.T) {
	tests := []struct {
		name      string
		condition string
		arrange   func(r *record)
		hopeless  bool
	}{
		{"success after failure", "SUCCESS", func(r *record) { end(r, 1, 3) }, true},
		{"success pending", "SUCCESS", func(r *record) { begin(r, 1) }, false},
		{"complete after failure", "COMPLETE", func(r *record) { end(r, 1, 3) }, false},
		{"start of what never started", "START", func(r *record) { r.Containers[1].Status = StatusStopped }, true},
		{"healthy after exit", "HEALTHY", func(r *record) { end(r, 1, 0) }, true},
		{"healthy when unhealthy", "HEALTHY", func(r *record) { begin(r, 1); r.Containers[1].Health = HealthUnhealthy }, true},
		{"healthy within the start timeout", "HEALTHY", func(r *record) { begin(r, 1); r.Task.Containers[1].StartTimeout = 60 }, false},
		{"healthy beyond the start timeout", "HEALTHY", func(r *record) { begin(r, 1); r.Task.Containers[1].StartTimeout = 5 }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := recordOf(
				acs.Container{Name: "app", Essential: true, DependsOn: []acs.Dependency{{ContainerName: "side", Condition: tt.condition}}},
				acs.Container{Name: "side"},
			)
			tt.arrange(r)
			if err := dependenciesHopeless(r, 0, epoch.Add(10*time.Second)); (err != nil) != tt.hopeless {
				t.Fatalf("error = %v, want hopeless: %v", err, tt.hopeless)
			}
		})
	}
}

func TestContainersStopBeforeThoseThatTheyDependOn(t *testing.T) {
	r := recordOf(
		acs.Container{Name: "db", Essential: true},
		acs.Container{Name: "app", Essential: true, DependsOn: []acs.Dependency{{ContainerName: "db", Condition: "START"}}},
	)
	begin(r, 0)
	begin(r, 1)
	r.StopRequested = true
	if got, want := decide(r, idle), []action{{stepStop, 1}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("first %v, want %v", got, want)
	}
	end(r, 1, 0)
	if got, want := decide(r, idle), []action{{stepStop, 0}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("then %v, want %v", got, want)
	}
	end(r, 0, 0)
	if got, want := decide(r, idle), []action{{stepRelease, -1}}; !reflect.DeepEqual(got, want) {
		t.Fatalf("at last %v, want %v", got, want)
	}
}

func TestTheEndOfAContainer(t *testing.T) {
	r := recordOf(acs.Container{Name: "app", Essential: true}, acs.Container{Name: "side"})
	begin(r, 0)
	begin(r, 1)
	end(r, 1, 0)
	if r.stopping() {
		t.Fatal("the end of a container that is not essential stops the task")
	}
	end(r, 0, 7)
	if !r.stopping() || r.ExecutionStoppedAt.IsZero() {
		t.Fatal("the end of an essential container does not stop the task")
	}
}

func TestRestartPolicy(t *testing.T) {
	policy := &acs.RestartPolicy{Enabled: true, IgnoredExitCodes: []int64{0}, RestartAttemptPeriod: 60}
	tests := []struct {
		name    string
		code    int
		ran     time.Duration
		stopped bool
		want    Status
	}{
		{"ran long enough", 1, 90 * time.Second, false, StatusPulled},
		{"ran too briefly", 1, 10 * time.Second, false, StatusStopped},
		{"ignored exit code", 0, 90 * time.Second, false, StatusStopped},
		{"task is stopping", 1, 90 * time.Second, true, StatusStopped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := recordOf(acs.Container{Name: "app", Essential: true, RestartPolicy: policy})
			begin(r, 0)
			before := r.runtimeID(0)
			r.StopRequested = tt.stopped
			exited(0, runtime.Exit{Code: tt.code, At: epoch.Add(tt.ran)})(r)
			if r.Containers[0].Status != tt.want {
				t.Fatalf("status = %s, want %s", r.Containers[0].Status, tt.want)
			}
			if restarted := r.runtimeID(0) != before; restarted != (tt.want == StatusPulled) {
				t.Fatalf("runtime id %s after %s", r.runtimeID(0), before)
			}
		})
	}
}

// A task of any shape, whose steps succeed or fail at random and which may be
// stopped at any time, ends with nothing left and has reported its states in order.
func TestEveryTaskEndsAndReportsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := recordOf(drawContainers(t)...)
		var reported []string
		for turn := 0; ; turn++ {
			if turn > 500 {
				t.Fatalf("the task never ends: %+v", r)
			}
			if turn > 100 || rapid.IntRange(0, 30).Draw(t, "stop") == 0 {
				r.StopRequested = true
			}
			if s := nextSubmission(r); s != nil {
				if s.task != nil && s.task.Status != nil {
					reported = append(reported, *s.task.Status)
				}
				s.acknowledged(r)
				continue
			}
			if r.SentStopped {
				break
			}
			stepOnce(t, r)
			if !r.Ran && r.allStarted() {
				r.Ran = true
			}
		}
		want := []string{"STOPPED"}
		if r.Ran {
			want = []string{"RUNNING", "STOPPED"}
		}
		if !reflect.DeepEqual(reported, want) {
			t.Fatalf("reported %v, want %v", reported, want)
		}
		for i := range r.Containers {
			if r.Containers[i].Status != StatusStopped {
				t.Fatalf("container %d is %s at the task's end", i, r.Containers[i].Status)
			}
		}
	})
}

func drawContainers(t *rapid.T) []acs.Container {
	var all []acs.Container
	for i := range rapid.IntRange(1, 4).Draw(t, "containers") {
		c := acs.Container{Name: fmt.Sprint("c", i), Essential: i == 0 || rapid.Bool().Draw(t, "essential")}
		for j := range i {
			if rapid.Bool().Draw(t, "depends") {
				condition := rapid.SampledFrom([]string{"START", "COMPLETE", "SUCCESS", "HEALTHY"}).Draw(t, "condition")
				c.DependsOn = append(c.DependsOn, acs.Dependency{ContainerName: all[j].Name, Condition: condition})
			}
		}
		all = append(all, c)
	}
	return all
}

// stepOnce does one of the things that can be done, or lets something happen to
// a container that runs.
func stepOnce(t *rapid.T, r *record) {
	for i := range r.Containers {
		if err := dependenciesHopeless(r, i, epoch); err != nil && r.Containers[i].Status == StatusPulled && !r.stopping() {
			r.Failure = err.Error()
		}
	}
	actions := decide(r, idle)
	if len(actions) == 0 || rapid.IntRange(0, 3).Draw(t, "happens") == 0 {
		for i := range r.Containers {
			if r.Containers[i].Status == StatusRunning {
				switch rapid.IntRange(0, 2).Draw(t, "what") {
				case 0:
					r.Containers[i].Health = HealthHealthy
				case 1:
					exited(i, runtime.Exit{Code: rapid.IntRange(0, 1).Draw(t, "code"), At: epoch})(r)
				}
			}
		}
		return
	}
	a := actions[rapid.IntRange(0, len(actions)-1).Draw(t, "action")]
	if a.step == stepRelease {
		r.Released = true
		return
	}
	c := &r.Containers[a.index]
	fails := rapid.IntRange(0, 5).Draw(t, "fails") == 0
	switch {
	case a.step == stepStop:
		exited(a.index, runtime.Exit{Code: 143, At: epoch})(r)
	case a.step == stepDiscard:
		c.Status = StatusStopped
	case fails:
		failed(a.index, "it failed", epoch)(r)
	case a.step == stepPull:
		c.Status = StatusPulled
	case a.step == stepCreate:
		c.Status = StatusCreated
	default:
		c.Status, c.StartedAt = StatusRunning, epoch
	}
}
