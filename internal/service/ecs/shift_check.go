package ecs

import (
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// servicesService is to whom roles are passed under which services act.
const servicesService = "ecs.amazonaws.com"

// maxBake bounds times of a deployment, in minutes; maxHooks is how many hooks one has,
// maxHookMinutes how long one may take. The first is AWS's.
const maxBake, maxHooks, maxHookMinutes = 1440, 10, 20160

// checkShifting checks what of a configuration belongs to strategies that shift traffic.
func checkShifting(c *types.DeploymentConfiguration, daemon bool) error {
	rolling := !shifts(c)
	switch {
	case !slices.Contains(c.Strategy.Values(), c.Strategy):
		return errInvalidParameter("The deployment strategy %s is not valid: use ROLLING, BLUE_GREEN, LINEAR or CANARY.", clip(string(c.Strategy)))
	case daemon && !rolling:
		return errInvalidParameter("The deployment strategy %s is not valid with the DAEMON scheduling strategy.", c.Strategy)
	case rolling && (c.BakeTimeInMinutes != nil || len(c.LifecycleHooks) > 0):
		return errInvalidParameter("bakeTimeInMinutes and lifecycleHooks are only valid with the deployment strategies BLUE_GREEN, LINEAR and CANARY.")
	case c.LinearConfiguration != nil && c.Strategy != types.DeploymentStrategyLinear:
		return errInvalidParameter("linearConfiguration is only valid with the deployment strategy LINEAR.")
	case c.CanaryConfiguration != nil && c.Strategy != types.DeploymentStrategyCanary:
		return errInvalidParameter("canaryConfiguration is only valid with the deployment strategy CANARY.")
	case !bakes(c.BakeTimeInMinutes):
		return errInvalidParameter("bakeTimeInMinutes must be between 0 and %d.", maxBake)
	}
	if l := c.LinearConfiguration; l != nil {
		if !percents(l.StepPercent, 3) || !bakes(l.StepBakeTimeInMinutes) {
			return errInvalidParameter("stepPercent must be a multiple of 0.1 from 3.0 to 100.0, and stepBakeTimeInMinutes between 0 and %d.", maxBake)
		}
	}
	if k := c.CanaryConfiguration; k != nil {
		if !percents(k.CanaryPercent, 0.1) || !bakes(k.CanaryBakeTimeInMinutes) {
			return errInvalidParameter("canaryPercent must be a multiple of 0.1 from 0.1 to 100.0, and canaryBakeTimeInMinutes between 0 and %d.", maxBake)
		}
	}
	if len(c.LifecycleHooks) > maxHooks {
		return errInvalidParameter("A deployment can have at most %d lifecycleHooks.", maxHooks)
	}
	for i := range c.LifecycleHooks {
		if err := checkHook(&c.LifecycleHooks[i]); err != nil {
			return err
		}
	}
	return nil
}

func bakes(n *int32) bool { return n == nil || 0 <= *n && *n <= maxBake }

func percents(p *float64, least float64) bool {
	if p == nil {
		return true
	}
	tenths := *p * 10
	return *p >= least && *p <= 100 && math.Abs(tenths-math.Round(tenths)) < 1e-9
}

// checkHook refuses a lifecycle hook that could not be run.
func checkHook(h *types.DeploymentLifecycleHook) error {
	pause := h.TargetType == types.DeploymentLifecycleHookTargetTypePause
	switch {
	case h.TargetType != "" && !slices.Contains(h.TargetType.Values(), h.TargetType):
		return errInvalidParameter("The targetType %s of a lifecycle hook is not valid: use AWS_LAMBDA or PAUSE.", clip(string(h.TargetType)))
	case len(h.LifecycleStages) == 0:
		return errInvalidParameter("A lifecycle hook must have lifecycleStages.")
	case h.HookDetails != nil:
		return errUnsupported("hookDetails are not supported: a hook's task is told the stage, the service and the deployment in its environment.")
	case pause && (deref(h.HookTargetArn) != "" || deref(h.RoleArn) != ""):
		return errInvalidParameter("hookTargetArn and roleArn are not valid for PAUSE hooks.")
	}
	for _, stage := range h.LifecycleStages {
		if !slices.Contains(stage.Values(), stage) {
			return errInvalidParameter("The lifecycle stage %s is not valid.", clip(string(stage)))
		}
		if pause && (stage == types.DeploymentLifecycleHookStageTestTrafficShift || stage == types.DeploymentLifecycleHookStageProductionTrafficShift) {
			return errInvalidParameter("PAUSE hooks are not valid at %s.", stage)
		}
	}
	if t := h.TimeoutConfiguration; t != nil {
		if n := or(t.TimeoutInMinutes, 1); n < 1 || n > maxHookMinutes {
			return errInvalidParameter("timeoutInMinutes of a lifecycle hook must be between 1 and %d.", maxHookMinutes)
		}
		if t.Action != "" && !slices.Contains(t.Action.Values(), t.Action) {
			return errInvalidParameter("The timeout action %s of a lifecycle hook is not valid: use CONTINUE or ROLLBACK.", clip(string(t.Action)))
		}
	}
	if pause {
		return nil
	}
	if a, ok := parseARN(deref(h.HookTargetArn)); !ok || a.Kind != "task-definition" {
		return errUnsupported("There is no Lambda here: the hookTargetArn of a lifecycle hook must be the ARN of a task definition, whose task is run, and succeeds if it ends with 0.")
	}
	if deref(h.RoleArn) == "" {
		return errInvalidParameter("A lifecycle hook must have a roleArn, which is allowed to run its task.")
	}
	return nil
}

// checkAdvanced refuses what of a load balancer could not be shifted.
func (s *Service) checkAdvanced(sc store.Scope, d *types.TaskDefinition, b *types.LoadBalancer) error {
	a := b.AdvancedConfiguration
	if a == nil {
		return nil
	}
	alternate, production, test := deref(a.AlternateTargetGroupArn), deref(a.ProductionListenerRule), deref(a.TestListenerRule)
	switch {
	case alternate == "" || production == "" || deref(a.RoleArn) == "":
		return errInvalidParameter("advancedConfiguration must have alternateTargetGroupArn, productionListenerRule and roleArn.")
	case alternate == deref(b.TargetGroupArn):
		return errInvalidParameter("alternateTargetGroupArn must be another target group than targetGroupArn.")
	case production == test:
		return errInvalidParameter("testListenerRule must be another rule than productionListenerRule.")
	}
	if err := s.checkGroup(sc, d, alternate); err != nil {
		return err
	}
	for _, rule := range []string{production, test} {
		if rule == "" {
			continue
		}
		weights, ok := s.deps.Balancer.Rule(sc.Account, sc.Region, rule)
		if !ok {
			return errInvalidParameter("%s is no listener rule, and no listener, that forwards to target groups.", clip(rule))
		}
		for group := range weights {
			if group != alternate && group != deref(b.TargetGroupArn) {
				return errInvalidParameter("%s forwards to %s, which is neither the targetGroupArn nor the alternateTargetGroupArn.", rule, group)
			}
		}
	}
	return nil
}

// checkShift refuses a version whose traffic can't be shifted as the strategy asks for.
func (s *Service) checkShift(c *types.DeploymentConfiguration, v version) error {
	if !shifts(c) {
		return nil
	}
	if s.deps.Infrastructure == nil {
		return errUnsupported("The deployment strategy %s is not supported: nothing acts for services here.", c.Strategy)
	}
	for i := range v.LoadBalancers {
		if v.LoadBalancers[i].AdvancedConfiguration == nil {
			return errInvalidParameter("With the deployment strategy %s each load balancer must have an advancedConfiguration.", c.Strategy)
		}
	}
	return nil
}

// passingActing is the permission to hand over the roles under which a service acts.
func passingActing(configuration *types.DeploymentConfiguration, balancers []types.LoadBalancer) []wire.Permission {
	var roles []string
	add := func(role *string) {
		if arn := deref(role); arn != "" && !slices.Contains(roles, arn) {
			roles = append(roles, arn)
		}
	}
	if configuration != nil {
		for i := range configuration.LifecycleHooks {
			add(configuration.LifecycleHooks[i].RoleArn)
		}
	}
	for i := range balancers {
		if a := balancers[i].AdvancedConfiguration; a != nil {
			add(a.RoleArn)
		}
	}
	if len(roles) == 0 {
		return nil
	}
	return []wire.Permission{wire.PassRole(servicesService, roles...)}
}

// merged is a configuration with what an update gives of it. What belongs to another strategy
// than the one that it has from now on is dropped.
func merged(was types.DeploymentConfiguration, c *types.DeploymentConfiguration) types.DeploymentConfiguration {
	if c.Strategy != "" && c.Strategy != was.Strategy {
		was.Strategy, was.LinearConfiguration, was.CanaryConfiguration = c.Strategy, nil, nil
		if !shifts(c) {
			was.BakeTimeInMinutes, was.LifecycleHooks = nil, nil
		}
	}
	if c.MinimumHealthyPercent != nil {
		was.MinimumHealthyPercent = c.MinimumHealthyPercent
	}
	if c.MaximumPercent != nil {
		was.MaximumPercent = c.MaximumPercent
	}
	if c.DeploymentCircuitBreaker != nil {
		was.DeploymentCircuitBreaker = c.DeploymentCircuitBreaker
	}
	if c.BakeTimeInMinutes != nil {
		was.BakeTimeInMinutes = c.BakeTimeInMinutes
	}
	if c.LifecycleHooks != nil {
		was.LifecycleHooks = c.LifecycleHooks
	}
	if c.LinearConfiguration != nil {
		was.LinearConfiguration = c.LinearConfiguration
	}
	if c.CanaryConfiguration != nil {
		was.CanaryConfiguration = c.CanaryConfiguration
	}
	return was
}

// checkChange refuses an update that what is under way could not be brought to.
func (s *Service) checkChange(r store.Reader, sc store.Scope, old, changed *serviceRecord, v version) error {
	x, ok := s.releases.Get(r, sc, old.Key()+"/"+old.Release)
	if ok && !x.over() && x.Configuration.Strategy != changed.Configuration.Strategy && changed.Configuration.Strategy != old.Configuration.Strategy {
		return errInvalidParameter("The deployment strategy can't be changed while a service deployment is in progress: wait for its end, or stop it.")
	}
	return s.checkShift(&changed.Configuration, v)
}
