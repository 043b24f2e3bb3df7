package ecs

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/rollout"
	"longshore.dev/longshore/internal/store"
)

// shift is how far a release has come that shifts traffic from the deployment that has it to
// the service's first one. It is part of the release; the loop in service_loop.go takes it
// on, the one in traffic.go tells the load balancers.
type shift struct {
	// Stage is one of stageNames.
	Stage string    `json:"stage"`
	Since time.Time `json:"since"`
	Step  int       `json:"step,omitempty"`
	// Live is the ID of the deployment that has the traffic; empty: none had it yet.
	Live string `json:"live,omitempty"`
	// Back, From and FromTest are as in rollout.Course.
	Back     bool    `json:"back,omitempty"`
	From     float64 `json:"from,omitempty"`
	FromTest float64 `json:"fromTest,omitempty"`
	// Hooks are those that were reached.
	Hooks []hookRun `json:"hooks,omitempty"`
}

// stageNames are AWS's names of the stages, in their order.
var stageNames = []string{
	"RECONCILE_SERVICE", "PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "POST_TEST_TRAFFIC_SHIFT",
	"PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT", "BAKE_TIME", "CLEAN_UP", "",
}

// Defaults of the strategies' settings, AWS's.
const (
	defaultStepPercent, defaultStepBake     = 10.0, 6
	defaultCanaryPercent, defaultCanaryBake = 5.0, 10
)

// shifts tells whether a configuration's deployments shift traffic.
func shifts(c *types.DeploymentConfiguration) bool {
	return c.Strategy != "" && c.Strategy != types.DeploymentStrategyRolling
}

func (h *shift) at() rollout.Shift {
	return rollout.Shift{Stage: rollout.Stage(slices.Index(stageNames, h.Stage)), Since: h.Since, Step: h.Step}
}

// move brings it to a stage; one that is over stays at its last.
func (h *shift) move(to rollout.Shift) {
	if name := stageNames[to.Stage]; name != "" {
		h.Stage, h.Since, h.Step = name, to.Since, to.Step
	}
}

// course is what a release's shift is to do. Where nothing has the traffic, all of it comes
// at once.
func (x *release) course() rollout.Course {
	h, c := x.Shift, &x.Configuration
	course := rollout.Course{Steps: []float64{100}, Back: h.Back, From: h.From, FromTest: h.FromTest}
	if h.Back || h.Live == "" {
		return course
	}
	course.Bake = minutes(deref(c.BakeTimeInMinutes))
	switch c.Strategy {
	case types.DeploymentStrategyCanary:
		percent, bake := defaultCanaryPercent, int32(defaultCanaryBake)
		if k := c.CanaryConfiguration; k != nil {
			percent, bake = or(k.CanaryPercent, percent), or(k.CanaryBakeTimeInMinutes, bake)
		}
		course.StepBake = minutes(bake)
		if percent < 100 {
			course.Steps = []float64{percent, 100}
		}
	case types.DeploymentStrategyLinear:
		percent, bake := defaultStepPercent, int32(defaultStepBake)
		if l := c.LinearConfiguration; l != nil {
			percent, bake = or(l.StepPercent, percent), or(l.StepBakeTimeInMinutes, bake)
		}
		course.StepBake, course.Steps = minutes(bake), nil
		for n := 1; ; n++ {
			// The percentages have one digit after the point.
			step := math.Round(float64(n)*percent*10) / 10
			if step >= 100 {
				break
			}
			course.Steps = append(course.Steps, step)
		}
		course.Steps = append(course.Steps, 100)
	}
	return course
}

func minutes(n int32) time.Duration { return time.Duration(n) * time.Minute }

// or is what p points to, or what there is without it.
func or[T any](p *T, without T) T {
	if p == nil {
		return without
	}
	return *p
}

// weights are the percentages of production and test traffic that the first deployment of a
// release is to have now.
func (x *release) weights() (production, test float64) {
	course := x.course()
	if x.Shift.Live == "" {
		course.From, course.FromTest = 100, 100
	}
	if x.over() {
		return 100, 100
	}
	return x.Shift.at().Weights(course)
}

// beginShift prepares the service's first deployment, which is new: which of the two target
// groups it takes, and, if its strategy shifts traffic, from where.
func (r *serviceRecord) beginShift(before *release, now time.Time) *shift {
	first := &r.Deployments[0]
	live := ""
	if len(r.Deployments) > 1 {
		live = r.Deployments[1].ID
	}
	if before != nil && before.Shift != nil && !before.over() {
		// What was under way had the traffic, or had not yet.
		if h := before.Shift; !h.Back && h.at().Stage <= rollout.Shifting {
			live = h.Live
		}
	}
	of := r.deployment(live)
	if of == nil {
		live = ""
	} else {
		first.takeGroup(of, shifts(&r.Configuration))
	}
	if !shifts(&r.Configuration) {
		return nil
	}
	stage := rollout.PreScaleUp
	if len(r.Deployments) > 2 || live == "" && len(r.Deployments) > 1 {
		stage = rollout.Reconcile
	}
	return &shift{Stage: stageNames[stage], Since: now, Live: live}
}

// takeGroup has a deployment take the target groups that another one has, or those that it
// has not.
func (d *deployment) takeGroup(live *deployment, other bool) {
	if len(d.LoadBalancers) == 0 || len(live.LoadBalancers) == 0 {
		return
	}
	for _, alternate := range []bool{false, true} {
		d.Alternate = alternate
		if same := d.groupOf(&d.LoadBalancers[0]) == live.groupOf(&live.LoadBalancers[0]); same != other {
			return
		}
	}
	d.Alternate = false
}

// deployment finds a deployment by its ID.
func (r *serviceRecord) deployment(id string) *deployment {
	i := slices.IndexFunc(r.Deployments, func(d deployment) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Deployments[i]
}

// shifting is the release whose traffic shifts, nil if none does.
func (s *Service) shifting(r store.Reader, sc store.Scope, x *serviceRecord) *release {
	rel, ok := s.releases.Get(r, sc, x.Key()+"/"+x.Release)
	if !ok || rel.over() || rel.Shift == nil || x.Status != statusActive {
		return nil
	}
	return rel
}

// mostStages bounds the stages of one step.
const mostStages = 24

// shift takes a release whose traffic shifts as far as it comes now. ok is false if there is
// none.
func (k *keeper) shift(tx *store.Tx, r *serviceRecord) (plan rollout.ShiftPlan, ok bool) {
	for range mostStages {
		x := k.room.shifting(tx, k.scope, r)
		if x == nil {
			return plan, false
		}
		next := k.room.releases.Clone(x)
		waits, failed := k.hooks(tx, r, next)
		if failed == "" {
			plan = rollout.NextShift(rollout.ShiftState{
				State: k.state(tx, r), Shift: next.Shift.at(), Course: next.course(), Live: next.Shift.Live,
				Weighed: k.room.weighed(tx, k.scope, r, next), Hooked: waits,
			})
		}
		moved := failed == "" && plan.Shift != next.Shift.at()
		if moved && !plan.Complete {
			next.Shift.move(plan.Shift)
			next.UpdatedAt = k.now
		}
		k.keepRelease(tx, x, next)
		switch {
		case failed != "":
			k.giveUp(tx, r, failed, reasonHook)
		case plan.Failed:
			k.fail(tx, r)
		case !moved || plan.Complete:
			if !plan.Look.IsZero() {
				k.look(plan.Look.Sub(k.now))
			}
			return plan, true
		}
	}
	k.look(time.Millisecond)
	return plan, true
}

// keepRelease writes a release that has changed.
func (k *keeper) keepRelease(tx *store.Tx, before, now *release) {
	if !reflect.DeepEqual(before, now) {
		k.room.releases.Put(tx, k.scope, now.key(), now)
	}
}

// giveUp ends a release for a reason of its own: the traffic goes back to where it was.
func (k *keeper) giveUp(tx *store.Tx, r *serviceRecord, why, reason string) {
	failed := &r.Deployments[0]
	failed.State, failed.Reason, failed.UpdatedAt = types.DeploymentRolloutStateFailed, why, k.now
	r.say(k.newID("event"), k.now, fmt.Sprintf("(service %s) (deployment %s) deployment failed: %s.", r.Name, failed.ID, why))
	if k.rollBack(tx, r, reason) {
		return
	}
	k.room.ofRelease(tx, k.scope, r, func(x *release) {
		status := types.ServiceDeploymentStatusStopped
		if x.Rollback != nil {
			status = types.ServiceDeploymentStatusRollbackFailed
		}
		x.end(r, status, reason, k.now)
	})
}

// shiftBack turns a shift round: the first deployment, which had the traffic, gets back what
// it has given away.
func (x *release) shiftBack(from string, now time.Time) {
	if x.Shift == nil {
		return
	}
	production, test := x.weights()
	x.Shift = &shift{Stage: stageNames[rollout.ScaleUp], Since: now, Live: from, Back: true, From: 100 - production, FromTest: 100 - test, Hooks: x.Shift.Hooks}
}

// startAll starts what a shift asks for, by deployment.
func (k *keeper) startAll(tx *store.Tx, r *serviceRecord, starts map[string]int) error {
	for i := range r.Deployments {
		d := &r.Deployments[i]
		if err := k.startOf(tx, r, d, starts[d.ID]); err != nil {
			return err
		}
	}
	return nil
}
