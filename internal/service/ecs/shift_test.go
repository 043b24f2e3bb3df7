package ecs

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

const (
	otherGroup = testGroup + "-other"
	production = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener-rule/app/lb/1/2/3"
	testRule   = production + "4"
	actingRole = "arn:aws:iam::" + testAccount + ":role/acting"
)

// acts does what services ask for, unless their role is another one.
type acts struct {
	*balancer
	room *room
	as   []Acting
}

func (a *acts) Forward(_ context.Context, _, _ string, as Acting, rule string, weights map[string]int32) error {
	if as.Role != actingRole {
		return wire.Errorf("AccessDenied", "%s may not", as.Role)
	}
	a.as = append(a.as, as)
	a.rules[rule] = maps.Clone(weights)
	return nil
}

func (a *acts) RunTask(_ context.Context, _, _ string, as Acting, in *ecs.RunTaskInput) (*ecs.RunTaskOutput, error) {
	if as.Role != actingRole {
		return nil, wire.Errorf("AccessDenied", "%s may not", as.Role)
	}
	return a.room.RunTask(asRoot(), in)
}

// shiftRoom is a room with two target groups, and the rules that forward to the first.
func shiftRoom(t *testing.T) (*room, *acts) {
	b := &balancer{groups: map[string]TargetGroup{}, targets: map[Target]string{}, rules: map[string]map[string]int32{}}
	for _, g := range []string{testGroup, otherGroup} {
		b.groups[g] = TargetGroup{Type: "instance", LoadBalancers: []string{"lb"}}
	}
	b.rules[production], b.rules[testRule] = map[string]int32{testGroup: 1}, map[string]int32{testGroup: 1}
	a := &acts{balancer: b}
	r := newRoom(t, func(d *Deps) { d.Balancer, d.Infrastructure = b, a })
	a.room = r
	r.join("n1", "default", 100_000, 100_000)
	for revision := range int32(3) {
		d := simple("web", 1, 6)
		d.Revision = revision + 1
		d.ContainerDefinitions[0].PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80)}}
		r.define(d)
	}
	return r, a
}

func shifted(strategy types.DeploymentStrategy, change func(*types.DeploymentConfiguration)) func(*ecs.CreateServiceInput) {
	return func(in *ecs.CreateServiceInput) {
		balanced(in)
		in.LoadBalancers[0].AdvancedConfiguration = &types.AdvancedConfiguration{
			AlternateTargetGroupArn: aws.String(otherGroup), ProductionListenerRule: aws.String(production), TestListenerRule: aws.String(testRule), RoleArn: aws.String(actingRole),
		}
		in.DeploymentConfiguration = &types.DeploymentConfiguration{Strategy: strategy, BakeTimeInMinutes: aws.Int32(5)}
		if change != nil {
			change(in.DeploymentConfiguration)
		}
	}
}

// settles turns until the release is at a stage, all targets becoming healthy, and wants the
// weights of production and test: those of the first group.
func (r *room) settles(a *acts, stage string, productionWeight, testWeight string) {
	r.t.Helper()
	for range 12 {
		r.turn()
		a.move("initial", targetHealthy)
		a.move(targetDraining, "")
	}
	x := r.release()
	if string(x.LifecycleStage) != stage {
		r.t.Fatalf("it is at %s (%s, %s), want %s: %q", x.LifecycleStage, x.Status, aws.ToString(x.StatusReason), stage, messages(r.service()))
	}
	said := func(rule string) string { return fmt.Sprint(a.rules[rule][testGroup], "/", a.rules[rule][otherGroup]) }
	if p, q := said(production), said(testRule); p != productionWeight || q != testWeight {
		r.t.Fatalf("at %s the groups have %s and, for tests, %s; want %s and %s", stage, p, q, productionWeight, testWeight)
	}
}

// counts wants so many running tasks of the versions 1, 2 and 3.
func (r *room) counts(want ...int) {
	r.t.Helper()
	for i, n := range want {
		if got := len(r.serviceTasks(int32(i + 1))); got != n {
			r.t.Errorf("%d tasks of version %d, want %d", got, i+1, n)
		}
	}
}

// A new version runs beside the old one, gets all traffic at once, and the old one goes when
// the bake time is over. The next version takes the groups the other way round.
func TestBlueGreen(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(2, shifted(types.DeploymentStrategyBlueGreen, nil))
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	if x := r.release(); x.Status != types.ServiceDeploymentStatusSuccessful {
		t.Fatalf("the first deployment is %s", x.Status)
	}
	if a.as[0].For != *r.service().ServiceArn {
		t.Errorf("it acts for %s", a.as[0].For)
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.settles(a, "BAKE_TIME", "0/100", "0/100")
	r.counts(2, 2)
	x := r.release()
	if *x.TargetServiceRevision.RequestedProductionTrafficWeight != 100 || *x.SourceServiceRevisions[0].RequestedProductionTrafficWeight != 0 {
		t.Errorf("weights %+v", x)
	}
	r.explained("service/svc", "the time of BAKE_TIME, with 100 % of the traffic")
	r.advanceClock(5 * time.Minute)
	r.settles(a, "CLEAN_UP", "0/100", "0/100")
	r.counts(0, 2)
	if s := r.service(); len(s.Deployments) != 1 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
		t.Errorf("%+v", s.Deployments)
	}
	revisions, err := r.DescribeServiceRevisions(asRoot(), &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{*x.TargetServiceRevision.Arn}})
	if err != nil || *revisions.ServiceRevisions[0].ResolvedConfiguration.LoadBalancers[0].TargetGroupArn != otherGroup {
		t.Error(revisions, err)
	}
	// The desired count is kept as ever.
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(3)})
	r.settles(a, "CLEAN_UP", "0/100", "0/100")
	r.counts(0, 3)
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:3")})
	r.settles(a, "BAKE_TIME", "100/0", "100/0")
	r.counts(0, 3, 3)
}

// A canary gets a part, and all after its time; stopped in between, all of it goes back.
func TestCanaryAndBack(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(2, shifted(types.DeploymentStrategyCanary, func(c *types.DeploymentConfiguration) {
		c.CanaryConfiguration = &types.CanaryConfiguration{CanaryPercent: aws.Float64(4.5), CanaryBakeTimeInMinutes: aws.Int32(10)}
	}))
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.settles(a, "PRODUCTION_TRAFFIC_SHIFT", "955/45", "0/100")
	if _, err := r.StopServiceDeployment(asRoot(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: r.release().ServiceDeploymentArn}); err != nil {
		t.Fatal(err)
	}
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.counts(2, 0)
	if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackSuccessful || *x.SourceServiceRevisions[0].RequestedProductionTrafficWeight != 100 {
		t.Errorf("%s: %+v", x.Status, x.SourceServiceRevisions)
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:3")})
	r.settles(a, "PRODUCTION_TRAFFIC_SHIFT", "955/45", "0/100")
	r.advanceClock(10 * time.Minute)
	r.settles(a, "BAKE_TIME", "0/100", "0/100")
	r.advanceClock(5 * time.Minute)
	r.settles(a, "CLEAN_UP", "0/100", "0/100")
	r.counts(0, 0, 2)
}

func TestLinear(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(1, shifted(types.DeploymentStrategyLinear, func(c *types.DeploymentConfiguration) {
		c.LinearConfiguration = &types.LinearConfiguration{StepPercent: aws.Float64(40), StepBakeTimeInMinutes: aws.Int32(2)}
	}))
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	for _, weights := range []string{"60/40", "20/80"} {
		r.settles(a, "PRODUCTION_TRAFFIC_SHIFT", weights, "0/100")
		r.advanceClock(2 * time.Minute)
	}
	r.settles(a, "BAKE_TIME", "0/100", "0/100")
}

// A version that never comes up gets nothing, and is given up by the breaker.
func TestBlueGreenFails(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(2, shifted(types.DeploymentStrategyBlueGreen, func(c *types.DeploymentConfiguration) {
		c.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}
	}))
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	for range 40 {
		r.turn()
		for _, arn := range r.serviceTasks(2) {
			r.report("n1", arn, "STOPPED", stopped("main", 1))
		}
		r.advanceClock(time.Minute)
		if w := a.rules[production]; w[otherGroup] != 0 {
			t.Fatalf("the failing version gets traffic: %v", w)
		}
	}
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.counts(2, 0)
	if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackSuccessful {
		t.Errorf("it is %s", x.Status)
	}
}

// A version that supersedes another on its way takes its place: the traffic goes back first.
func TestBlueGreenSuperseded(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(2, shifted(types.DeploymentStrategyCanary, nil))
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.settles(a, "PRODUCTION_TRAFFIC_SHIFT", "95/5", "0/100")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:3")})
	r.turn()
	if x := r.release(); x.LifecycleStage != types.ServiceDeploymentLifecycleStageReconcileService {
		t.Errorf("it is at %s", x.LifecycleStage)
	}
	r.settles(a, "PRODUCTION_TRAFFIC_SHIFT", "95/5", "0/100")
	r.counts(2, 0, 2)
	_, err := r.UpdateService(asRoot(), &ecs.UpdateServiceInput{Service: aws.String("svc"), DeploymentConfiguration: &types.DeploymentConfiguration{Strategy: types.DeploymentStrategyRolling}})
	if err == nil || !strings.Contains(err.Error(), "in progress") {
		t.Errorf("the strategy was changed on the way: %v", err)
	}
}

// hooked gives a deployment a hook at a stage.
func hooked(hook types.DeploymentLifecycleHook, stage types.DeploymentLifecycleHookStage) func(*types.DeploymentConfiguration) {
	hook.LifecycleStages = []types.DeploymentLifecycleHookStage{stage}
	return func(c *types.DeploymentConfiguration) { c.LifecycleHooks = []types.DeploymentLifecycleHook{hook} }
}

// A pause lasts until somebody ends it, one way or the other, or its time is over.
func TestPauseHook(t *testing.T) {
	r, a := shiftRoom(t)
	pause := types.DeploymentLifecycleHook{TargetType: types.DeploymentLifecycleHookTargetTypePause, TimeoutConfiguration: &types.DeploymentLifecycleHookTimeoutConfiguration{TimeoutInMinutes: aws.Int32(30)}}
	r.create(1, shifted(types.DeploymentStrategyBlueGreen, hooked(pause, types.DeploymentLifecycleHookStagePostTestTrafficShift)))
	answer := func(action types.DeploymentLifecycleHookAction) {
		t.Helper()
		x := r.release()
		hook := x.LifecycleHookDetails[len(x.LifecycleHookDetails)-1]
		if hook.Status != types.DeploymentLifecycleHookStatusAwaitingAction {
			t.Fatalf("the hook is %s", hook.Status)
		}
		in := &ecs.ContinueServiceDeploymentInput{ServiceDeploymentArn: x.ServiceDeploymentArn, HookId: hook.HookId, Action: action}
		if _, err := r.ContinueServiceDeployment(asRoot(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ContinueServiceDeployment(asRoot(), in); err == nil {
			t.Error("it was ended twice")
		}
	}
	r.settles(a, "POST_TEST_TRAFFIC_SHIFT", "100/0", "100/0")
	answer("")
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.settles(a, "POST_TEST_TRAFFIC_SHIFT", "100/0", "0/100")
	if e := r.explained("service/svc", "somebody to end its pause"); !strings.Contains(e.Next, "continue-service-deployment") {
		t.Errorf("next is %q", e.Next)
	}
	answer(types.DeploymentLifecycleHookActionRollback)
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	r.counts(1, 0)
	if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackSuccessful || *x.StatusReason != reasonHook {
		t.Errorf("it is %s: %s", x.Status, aws.ToString(x.StatusReason))
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.settles(a, "POST_TEST_TRAFFIC_SHIFT", "100/0", "0/100")
	r.advanceClock(30 * time.Minute)
	r.settles(a, "CLEAN_UP", "100/0", "100/0")
	if x := r.release(); x.LifecycleHookDetails[0].Status != types.DeploymentLifecycleHookStatusTimedOut {
		t.Errorf("the hook is %s", x.LifecycleHookDetails[0].Status)
	}
}

// A hook's task is run under the hook's role, and its exit code decides.
func TestTaskHook(t *testing.T) {
	for exit, want := range map[int32]types.ServiceDeploymentStatus{0: types.ServiceDeploymentStatusSuccessful, 3: types.ServiceDeploymentStatusStopped} {
		r, a := shiftRoom(t)
		r.define(simple("check", 1, 6))
		hook := types.DeploymentLifecycleHook{HookTargetArn: aws.String(taskDefinitionARN(testScope, "check", 1)), RoleArn: aws.String(actingRole)}
		r.create(1, shifted(types.DeploymentStrategyBlueGreen, hooked(hook, types.DeploymentLifecycleHookStagePostScaleUp)))
		r.settles(a, "POST_SCALE_UP", "100/0", "100/0")
		var ran []*Task
		for _, task := range r.tasks.List(r.db.Snapshot(), testScope) {
			if task.ofHook() {
				ran = append(ran, task)
			}
		}
		if len(ran) != 1 || ran[0].Group != "hook:svc" {
			t.Fatalf("%d tasks were run", len(ran))
		}
		said := fmt.Sprint(ran[0].Overrides.ContainerOverrides[0].Environment)
		if len(said) == 0 || *ran[0].Overrides.ContainerOverrides[0].Environment[0].Value != "POST_SCALE_UP" {
			t.Errorf("it is told %s", said)
		}
		arn := taskARN(testScope, "default", ran[0].ID)
		r.report(ran[0].NodeID, arn, "RUNNING", running("main"))
		r.settles(a, "POST_SCALE_UP", "100/0", "100/0")
		r.report(ran[0].NodeID, arn, "STOPPED", stopped("main", exit))
		for range 12 {
			r.turn()
			a.move("initial", targetHealthy)
		}
		if x := r.release(); x.Status != want {
			t.Errorf("exit code %d: it is %s (%s, %s): %q", exit, x.Status, x.LifecycleStage, aws.ToString(x.StatusReason), messages(r.service()))
		}
	}
}

// A role that may not change the rule holds the deployment up, and the events say so.
func TestShiftUnderARoleThatMayNot(t *testing.T) {
	r, a := shiftRoom(t)
	r.create(1, func(in *ecs.CreateServiceInput) {
		shifted(types.DeploymentStrategyBlueGreen, nil)(in)
		in.LoadBalancers[0].AdvancedConfiguration.RoleArn = aws.String(actingRole + "-not")
	})
	r.settles(a, "TEST_TRAFFIC_SHIFT", "1/0", "1/0")
	r.wantEvent("unable to shift traffic with " + production + ": " + actingRole + "-not may not")
}

func TestShiftsThatAreRefused(t *testing.T) {
	hook := func(h types.DeploymentLifecycleHook) func(*ecs.CreateServiceInput) {
		return shifted(types.DeploymentStrategyBlueGreen, func(c *types.DeploymentConfiguration) { c.LifecycleHooks = []types.DeploymentLifecycleHook{h} })
	}
	advanced := func(change func(*types.AdvancedConfiguration)) func(*ecs.CreateServiceInput) {
		return func(in *ecs.CreateServiceInput) {
			shifted(types.DeploymentStrategyBlueGreen, nil)(in)
			change(in.LoadBalancers[0].AdvancedConfiguration)
		}
	}
	stage := []types.DeploymentLifecycleHookStage{types.DeploymentLifecycleHookStagePreScaleUp}
	for want, change := range map[string]func(*ecs.CreateServiceInput){
		"each load balancer must have an advancedConfiguration": func(in *ecs.CreateServiceInput) {
			shifted(types.DeploymentStrategyBlueGreen, nil)(in)
			in.LoadBalancers[0].AdvancedConfiguration = nil
		},
		"There is no Lambda here": hook(types.DeploymentLifecycleHook{HookTargetArn: aws.String("arn:aws:lambda:eu-west-1:1:function:f"), RoleArn: aws.String(actingRole), LifecycleStages: stage}),
		"must have a roleArn":     hook(types.DeploymentLifecycleHook{HookTargetArn: aws.String(taskDefinitionARN(testScope, "check", 1)), LifecycleStages: stage}),
		"PAUSE hooks are not valid at": hook(types.DeploymentLifecycleHook{TargetType: types.DeploymentLifecycleHookTargetTypePause,
			LifecycleStages: []types.DeploymentLifecycleHookStage{types.DeploymentLifecycleHookStageProductionTrafficShift}}),
		"must have lifecycleStages":            hook(types.DeploymentLifecycleHook{TargetType: types.DeploymentLifecycleHookTargetTypePause}),
		"must be another target group":         advanced(func(a *types.AdvancedConfiguration) { a.AlternateTargetGroupArn = aws.String(testGroup) }),
		"is no listener rule":                  advanced(func(a *types.AdvancedConfiguration) { a.ProductionListenerRule = aws.String("arn:none") }),
		"must have alternateTargetGroupArn":    advanced(func(a *types.AdvancedConfiguration) { a.RoleArn = nil }),
		"bakeTimeInMinutes must be between":    shifted(types.DeploymentStrategyBlueGreen, func(c *types.DeploymentConfiguration) { c.BakeTimeInMinutes = aws.Int32(1441) }),
		"only valid with the deployment strat": shifted(types.DeploymentStrategyRolling, nil),
		"canaryConfiguration is only valid":    shifted(types.DeploymentStrategyLinear, func(c *types.DeploymentConfiguration) { c.CanaryConfiguration = &types.CanaryConfiguration{} }),
		"stepPercent must be a multiple": shifted(types.DeploymentStrategyLinear, func(c *types.DeploymentConfiguration) {
			c.LinearConfiguration = &types.LinearConfiguration{StepPercent: aws.Float64(3.05)}
		}),
		"strategy SIDEWAYS is not valid": shifted("SIDEWAYS", nil),
	} {
		r, _ := shiftRoom(t)
		in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: aws.Int32(1)}
		change(in)
		if _, err := r.CreateService(asRoot(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
