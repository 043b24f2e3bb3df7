package balance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// worker is a candidate.
type worker struct {
	outstanding int
	share       float64
}

func (w *worker) Outstanding() int { return w.outstanding }
func (w *worker) Share() float64   { return w.share }

func TestRoundRobinTakesTurns(t *testing.T) {
	all := []*worker{{share: 1}, {share: 1}, {share: 1}}
	count := map[*worker]int{}
	for turn := range uint64(30) {
		count[Choose(RoundRobin, all, nil, turn, 0)]++
	}
	for i, w := range all {
		if count[w] != 10 {
			t.Errorf("target %d was chosen %d times of 30", i, count[w])
		}
	}
}

func TestWeightedRandomFollowsTheRoll(t *testing.T) {
	all := []*worker{{share: 1}, {share: 1}, {share: 1}}
	count := map[*worker]int{}
	for roll := range 30 {
		count[Choose(WeightedRandom, all, nil, 7, float64(roll)/30)]++
	}
	for i, w := range all {
		if count[w] != 10 {
			t.Errorf("target %d was chosen %d times of 30", i, count[w])
		}
	}
}

func TestWhatWasTriedIsNotChosen(t *testing.T) {
	all := []*worker{{share: 1}, {share: 1}}
	for _, algorithm := range []string{RoundRobin, LeastOutstanding, WeightedRandom} {
		for turn := range uint64(4) {
			if got := Choose(algorithm, all, all[:1], turn, 0); got != all[1] {
				t.Errorf("%s chose what had been tried", algorithm)
			}
			if got := Choose(algorithm, all, all, turn, 0); got != nil {
				t.Errorf("%s chose one of two that had been tried", algorithm)
			}
		}
	}
	if Choose(RoundRobin, nil, []*worker(nil), 1, 0) != nil {
		t.Error("chosen from nothing")
	}
}

func TestLeastOutstanding(t *testing.T) {
	all := []*worker{{3, 1}, {1, 1}, {2, 1}}
	if Choose(LeastOutstanding, all, nil, 0, 0) != all[1] {
		t.Error("not the one with the fewest")
	}
	idle := []*worker{{0, 1}, {0, 1}}
	if Choose(LeastOutstanding, idle, nil, 0, 0) == Choose(LeastOutstanding, idle, nil, 1, 0) {
		t.Error("equals do not take turns")
	}
}

func TestSlowStartGetsLess(t *testing.T) {
	all := []*worker{{share: 1}, {share: SlowShare(30*time.Second, time.Minute)}}
	slow := 0
	for i := range uint64(300) {
		if Choose(RoundRobin, all, nil, i, float64(i)/300) == all[1] {
			slow++
		}
	}
	if slow != 100 {
		t.Errorf("half way through its slow start the target got %d of 300, want 100", slow)
	}
	if s := SlowShare(0, time.Minute); s <= 0 || s >= 0.1 {
		t.Errorf("it begins with a share of %v", s)
	}
	if SlowShare(time.Minute, time.Minute) != 1 || SlowShare(0, 0) != 1 {
		t.Error("no full share after the slow start")
	}
}

func TestGroupsGetTheirWeights(t *testing.T) {
	f := Forward{Groups: []WeightedGroup{{"a", 90}, {"b", 10}, {"c", 0}}}
	count := map[string]int{}
	for roll := range uint64(1000) {
		count[f.PickGroup(roll)]++
	}
	if count["a"] != 900 || count["b"] != 100 || count["c"] != 0 {
		t.Errorf("%v", count)
	}
	if !f.Has("a") || f.Has("c") || f.Has("d") {
		t.Error("a client may stay where there is a weight, and nowhere else")
	}
	if got := (&Forward{Groups: []WeightedGroup{{"a", 0}, {"b", 0}}}).PickGroup(1); got != "" {
		t.Errorf("no weights, and yet %s", got)
	}
	if got := (&Forward{Groups: []WeightedGroup{{ID: "a"}}}).PickGroup(1); got != "a" {
		t.Errorf("the only group needs no weight; got %q", got)
	}
}

// A target that goes takes only its own flows with it, and flows spread evenly.
func TestFlowsStayWithTheirTargets(t *testing.T) {
	names := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"}
	count := map[string]int{}
	for i := range 4000 {
		flow := fmt.Sprintf("192.168.0.%d:%d", i%250, 1024+i)
		first := names[ByFlow(names, flow)[0]]
		count[first]++
		if first != names[3] && names[ByFlow(names[:3], flow)[0]] != first {
			t.Fatalf("flow %s moved away from %s, which is still there", flow, first)
		}
	}
	for name, n := range count {
		if n < 850 || n > 1150 {
			t.Errorf("%s got %d of 4000 flows", name, n)
		}
	}
}

func TestHealth(t *testing.T) {
	pass, fail := Result{Passed: true}, Result{Code: "500"}
	application := TargetGroup{Protocol: HTTP, HealthCheck: HealthCheck{HealthyThreshold: 3, UnhealthyThreshold: 2}}
	network := TargetGroup{Protocol: TCP, HealthCheck: HealthCheck{HealthyThreshold: 2, UnhealthyThreshold: 2}}
	for name, c := range map[string]struct {
		group   TargetGroup
		results []Result
		want    string
	}{
		"registered":                      {application, nil, "initial Elb.RegistrationInProgress: Target registration is in progress"},
		"one passed check is enough":      {application, []Result{pass}, "healthy"},
		"of a network load balancer not":  {network, []Result{pass}, "initial Elb.InitialHealthChecking: Initial health checks in progress"},
		"but the threshold":               {network, []Result{pass, pass}, "healthy"},
		"one failure is not the end":      {application, []Result{fail}, "initial Elb.InitialHealthChecking: Initial health checks in progress"},
		"two are":                         {application, []Result{fail, fail}, "unhealthy Target.ResponseCodeMismatch: Health checks failed with these codes: [500]"},
		"a healthy one survives one":      {application, []Result{pass, fail, pass, fail}, "healthy"},
		"and not two":                     {application, []Result{pass, fail, fail}, "unhealthy Target.ResponseCodeMismatch: Health checks failed with these codes: [500]"},
		"the reason is that of the last":  {application, []Result{fail, fail, {TimedOut: true}}, "unhealthy Target.Timeout: Request timed out"},
		"no connection":                   {application, []Result{fail, {}}, "unhealthy Target.FailedHealthChecks: Health checks failed"},
		"it takes the threshold to come":  {application, []Result{fail, fail, pass, pass}, "unhealthy Target.ResponseCodeMismatch: Health checks failed with these codes: [500]"},
		"back":                            {application, []Result{fail, fail, pass, pass, pass}, "healthy"},
		"in a row":                        {application, []Result{fail, fail, pass, pass, fail, pass}, "unhealthy Target.ResponseCodeMismatch: Health checks failed with these codes: [500]"},
		"failures before the first count": {application, []Result{fail, pass}, "healthy"},
	} {
		h := NewHealth()
		for _, r := range c.results {
			h = h.Next(&c.group, r)
		}
		got := h.State
		if h.Reason != "" {
			got += " " + h.Reason + ": " + h.Description
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		group TargetGroup
		code  int
		want  bool
	}{
		{TargetGroup{Protocol: HTTP}, 200, true},
		{TargetGroup{Protocol: HTTP}, 204, false},
		{TargetGroup{Protocol: TCP}, 302, true},
		{TargetGroup{Protocol: HTTP, ProtocolVersion: GRPC}, 12, true},
		{TargetGroup{Protocol: HTTP, ProtocolVersion: GRPC}, 0, false},
		{TargetGroup{Protocol: HTTP, HealthCheck: HealthCheck{Matcher: "200-299, 401"}}, 401, true},
		{TargetGroup{Protocol: HTTP, HealthCheck: HealthCheck{Matcher: "200-299,401"}}, 250, true},
		{TargetGroup{Protocol: HTTP, HealthCheck: HealthCheck{Matcher: "200-299,401"}}, 400, false},
	} {
		if got := c.group.Matches(c.code); got != c.want {
			t.Errorf("%+v, code %d: %v", c.group, c.code, got)
		}
	}
}

func TestTableIsJSON(t *testing.T) {
	delay, query := 0, ""
	table := Table{
		LoadBalancers: []LoadBalancer{{ID: "lb", Listeners: []Listener{{ID: "l", Port: 80, Protocol: HTTP, DefaultActions: []Action{
			{Type: RedirectAction, Redirect: &Redirect{Query: &query, StatusCode: 301}}}}}}},
		TargetGroups: []TargetGroup{{ID: "g", Protocol: HTTP, DeregistrationDelaySeconds: &delay, Targets: []Target{{ID: "i", IP: "::1", Port: 1, Draining: true}}}},
	}
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	var back Table
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(table, back) {
		t.Errorf("%v\n%+v\nis not\n%+v", err, back, table)
	}
}
