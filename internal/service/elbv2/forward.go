package elbv2

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// Rule returns the weights of the target groups that a rule forwards to, or a listener by
// default; ok is false if there is none, or it does not forward.
func (s *Service) Rule(account, region, arn string) (weights map[string]int32, ok bool) {
	sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
	actions := s.actionsOf(snap, sc, arn)
	if len(actions) != 1 || actions[0].Type != types.ActionTypeEnumForward || actions[0].ForwardConfig == nil {
		return nil, false
	}
	weights = map[string]int32{}
	for _, t := range actions[0].ForwardConfig.TargetGroups {
		weights[deref(t.TargetGroupArn)] = deref(t.Weight)
	}
	return weights, true
}

// Reweighed is what a rule, or a listener by default, forwards by other weights: what it says
// of stickiness stays.
func (s *Service) Reweighed(account, region, arn string, weights map[string]int32) []types.Action {
	config := &types.ForwardActionConfig{}
	for _, group := range slices.Sorted(maps.Keys(weights)) {
		config.TargetGroups = append(config.TargetGroups, types.TargetGroupTuple{TargetGroupArn: pointer(group), Weight: pointer(weights[group])})
	}
	sc := store.Scope{Account: account, Region: region}
	if was := s.actionsOf(s.db.Snapshot(), sc, arn); len(was) == 1 && was[0].ForwardConfig != nil {
		config.TargetGroupStickinessConfig = was[0].ForwardConfig.TargetGroupStickinessConfig
	}
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: config}}
}

func (s *Service) actionsOf(r store.Reader, sc store.Scope, arn string) []types.Action {
	if x, ok := s.rules.Get(r, sc, pathOf(sc, kindRule, arn)); ok {
		return x.Actions
	}
	if l := s.ListenerOf(sc.Account, sc.Region, arn); l != "" {
		if x, ok := s.listeners.Get(r, sc, pathOf(sc, kindListener, l)); ok {
			return x.Actions
		}
	}
	return nil
}

// ListenerOf is the ARN of the listener whose default action an ARN names: a default rule's,
// or its own; empty for any other.
func (s *Service) ListenerOf(account, region, arn string) string {
	sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
	if path := pathOf(sc, kindListener, arn); path != "" {
		if _, ok := s.listeners.Get(snap, sc, path); ok {
			return arn
		}
		return ""
	}
	// A default rule's path begins with its listener's.
	path := pathOf(sc, kindRule, arn)
	if at := strings.LastIndexByte(path, '/'); at > 0 {
		if l, ok := s.listeners.Get(snap, sc, path[:at]); ok && defaultRule(l.Path) == path {
			return arnOf(sc, kindListener, l.Path)
		}
	}
	return ""
}
