package balance

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// States of targets.
const (
	Initial   = "initial"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
	Unused    = "unused"
	Draining  = "draining"
)

// Reason codes of states.
const (
	RegistrationInProgress   = "Elb.RegistrationInProgress"
	InitialHealthChecking    = "Elb.InitialHealthChecking"
	ResponseCodeMismatch     = "Target.ResponseCodeMismatch"
	Timeout                  = "Target.Timeout"
	FailedHealthChecks       = "Target.FailedHealthChecks"
	NotRegistered            = "Target.NotRegistered"
	NotInUse                 = "Target.NotInUse"
	DeregistrationInProgress = "Target.DeregistrationInProgress"
)

// Health is a target's state and what AWS says about it.
type Health struct {
	State, Reason, Description string
	// Passed and Failed count the checks in a row.
	Passed, Failed int
}

// NewHealth is the health of a target that has just been registered.
func NewHealth() Health {
	return Health{State: Initial, Reason: RegistrationInProgress, Description: "Target registration is in progress"}
}

// The healths that no check decides.
var (
	InUnusedGroup = Health{State: Unused, Reason: NotInUse, Description: "Target group is not configured to receive traffic from the load balancer"}
	BeingDrained  = Health{State: Draining, Reason: DeregistrationInProgress, Description: "Target deregistration is in progress"}
	Gone          = Health{State: Unused, Reason: NotRegistered, Description: "Target is not registered to the target group"}
)

// Result is what a check has found.
type Result struct {
	// Passed, or one of the others.
	Passed bool
	// TimedOut: there was no answer in time.
	TimedOut bool
	// Code of an answer that is not in the matcher; "" if there was none.
	Code string
}

// Next is the health after a check. An initial target of an application load balancer is
// healthy after one check, as AWS has it.
func (h Health) Next(g *TargetGroup, r Result) Health {
	if r.Passed {
		h.Passed, h.Failed = h.Passed+1, 0
	} else {
		h.Passed, h.Failed = 0, h.Failed+1
	}
	need := g.HealthCheck.Healthy()
	if h.State == Initial && !g.Layer4() {
		need = 1
	}
	switch {
	case r.Passed && (h.State == Healthy || h.Passed >= need):
		return Health{State: Healthy, Passed: h.Passed}
	case !r.Passed && (h.State == Unhealthy || h.Failed >= g.HealthCheck.Unhealthy()):
		h.State = Unhealthy
		h.Reason, h.Description = r.why()
	case h.State == Initial:
		h.Reason, h.Description = InitialHealthChecking, "Initial health checks in progress"
	}
	return h
}

func (r Result) why() (reason, description string) {
	switch {
	case r.TimedOut:
		return Timeout, "Request timed out"
	case r.Code != "":
		return ResponseCodeMismatch, "Health checks failed with these codes: [" + r.Code + "]"
	}
	return FailedHealthChecks, "Health checks failed"
}

// Interval between checks.
func (c *HealthCheck) Interval() time.Duration { return seconds(c.IntervalSeconds, 30) }

// Healthy is how many checks in a row an unhealthy target has to pass.
func (c *HealthCheck) Healthy() int { return cmp.Or(c.HealthyThreshold, 5) }

// Unhealthy is how many checks in a row a healthy target has to fail.
func (c *HealthCheck) Unhealthy() int { return cmp.Or(c.UnhealthyThreshold, 2) }

// CheckProtocol is the protocol of the group's health checks.
func (g *TargetGroup) CheckProtocol() string {
	switch {
	case g.HealthCheck.Protocol != "":
		return g.HealthCheck.Protocol
	case g.Layer4():
		return TCP
	}
	return HTTP
}

// CheckTimeout is how long a check of the group may take.
func (g *TargetGroup) CheckTimeout() time.Duration {
	if g.Protocol == HTTP {
		return seconds(g.HealthCheck.TimeoutSeconds, 6)
	}
	return seconds(g.HealthCheck.TimeoutSeconds, 10)
}

// CheckPath is what a check asks for.
func (g *TargetGroup) CheckPath() string {
	if g.Version() == GRPC {
		return cmp.Or(g.HealthCheck.Path, "/AWS.ALB/healthcheck")
	}
	return cmp.Or(g.HealthCheck.Path, "/")
}

// CheckPort is where a check of the target goes.
func (g *TargetGroup) CheckPort(t *Target) int { return cmp.Or(g.HealthCheck.Port, t.Port) }

// Matches tells whether a code is one that the group's matcher takes.
func (g *TargetGroup) Matches(code int) bool {
	matcher := g.HealthCheck.Matcher
	switch {
	case matcher != "":
	case g.Version() == GRPC:
		matcher = "12"
	case g.Layer4():
		matcher = "200-399"
	default:
		matcher = "200"
	}
	for part := range strings.SplitSeq(matcher, ",") {
		if low, high, err := codeRange(part); err == nil && low <= code && code <= high {
			return true
		}
	}
	return false
}

func codeRange(text string) (low, high int, err error) {
	first, last, ranged := strings.Cut(strings.TrimSpace(text), "-")
	if !ranged {
		last = first
	}
	if low, err = strconv.Atoi(first); err == nil {
		high, err = strconv.Atoi(last)
	}
	if err != nil || low > high {
		return 0, 0, fmt.Errorf("the matcher %q is neither a code nor a range of codes such as 200-299", text)
	}
	return low, high, nil
}
