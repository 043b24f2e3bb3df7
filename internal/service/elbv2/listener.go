package elbv2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// AWS's limits of a load balancer and of a listener.
const (
	maxListeners = 50
	maxRules     = 100
)

func validCIDR(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func (l *listener) arn(sc store.Scope) string { return arnOf(sc, kindListener, l.Path) }

// checkProtocol refuses protocols that the load balancer does not listen with.
func checkProtocol(b *loadBalancer, p types.ProtocolEnum, port *int32) error {
	want := []types.ProtocolEnum{types.ProtocolEnumTcp, types.ProtocolEnumTls}
	if b.application() {
		want = []types.ProtocolEnum{types.ProtocolEnumHttp, types.ProtocolEnumHttps}
	}
	switch {
	case port == nil || *port < 1 || *port > 65535:
		return fail("ValidationError", "A port between 1 and 65535 must be specified")
	case !slices.Contains(want, p):
		return fail("UnsupportedProtocol", "The protocol '%s' is not supported with a load balancer of type %s: use %s or %s.", p, b.Type, want[0], want[1])
	}
	return nil
}

// CreateListener makes a listener.
func (s *Service) CreateListener(ctx context.Context, in *api.CreateListenerInput) (*api.CreateListenerOutput, error) {
	sc, id := scopeOf(ctx), derive(s.deps.NewID(), "listener", 16)
	tags, err := tagged(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	if in.MutualAuthentication != nil && deref(in.MutualAuthentication.Mode) != "off" || len(in.AlpnPolicy) > 0 {
		return nil, fail("InvalidConfigurationRequest", "Mutual authentication and ALPN policies are not supported yet.")
	}
	var shown types.Listener
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		b, err := s.balancer(tx, sc, deref(in.LoadBalancerArn))
		if err != nil {
			return err
		}
		if err := checkProtocol(b, in.Protocol, in.Port); err != nil {
			return err
		}
		certificates, err := s.wantedCertificates(sc, in.Protocol, in.SslPolicy, in.Certificates)
		if err != nil {
			return err
		}
		count := 0
		for _, other := range s.listeners.ListPrefix(tx, sc, b.Path+"/") {
			if count++; other.Port == *in.Port {
				return fail("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", b.arn(sc))
			}
		}
		if count >= maxListeners {
			return fail("TooManyListeners", "The maximum number of listeners has been reached on load balancer '%s'", b.arn(sc))
		}
		actions, err := s.wantedActions(tx, sc, b, in.DefaultActions)
		if err != nil {
			return err
		}
		l := &listener{Path: b.Path + "/" + id, Balancer: b.Path, Port: *in.Port, Protocol: in.Protocol, Actions: actions, Certificates: certificates, Tags: tags}
		s.listeners.Put(tx, sc, l.Path, l)
		shown = l.view(sc)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateListenerOutput{Listeners: []types.Listener{shown}}, nil
}

func (l *listener) view(sc store.Scope) types.Listener {
	v := types.Listener{
		ListenerArn: pointer(l.arn(sc)), LoadBalancerArn: pointer(arnOf(sc, kindBalancer, l.Balancer)), Port: &l.Port, Protocol: l.Protocol, DefaultActions: l.Actions,
	}
	if overTLS(l.Protocol) {
		v.SslPolicy, v.Certificates = pointer(tlsPolicy), []types.Certificate{{CertificateArn: pointer(l.Certificates[0])}}
		v.MutualAuthentication = &types.MutualAuthenticationAttributes{Mode: pointer("off")}
	}
	return v
}

// listener finds a listener by its ARN.
func (s *Service) listener(r store.Reader, sc store.Scope, arn string) (*listener, error) {
	if l, ok := s.listeners.Get(r, sc, pathOf(sc, kindListener, arn)); ok {
		return l, nil
	}
	return nil, fail("ListenerNotFound", "Listener '%.300s' not found", arn)
}

// DescribeListeners describes those that are named, or those of a load balancer.
func (s *Service) DescribeListeners(ctx context.Context, in *api.DescribeListenersInput) (*api.DescribeListenersOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	out := &api.DescribeListenersOutput{Listeners: []types.Listener{}}
	for _, arn := range in.ListenerArns {
		l, err := s.listener(snap, sc, arn)
		if err != nil {
			return nil, err
		}
		out.Listeners = append(out.Listeners, l.view(sc))
	}
	switch {
	case len(in.ListenerArns) > 0:
		return out, nil
	case in.LoadBalancerArn == nil:
		return nil, fail("ValidationError", "You must specify either listener ARNs or a load balancer ARN")
	}
	b, err := s.balancer(snap, sc, *in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	list, marker, err := page(s.listeners.ListPrefix(snap, sc, b.Path+"/"), in.Marker, in.PageSize)
	for _, l := range list {
		out.Listeners = append(out.Listeners, l.view(sc))
	}
	out.NextMarker = marker
	return out, err
}

// changeListener changes a listener's record.
func (s *Service) changeListener(ctx context.Context, arn string, change func(*listener) error) (changed *listener, err error) {
	sc := scopeOf(ctx)
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		changed, err = s.rewriteListener(tx, sc, arn, change)
		return err
	})
	return changed, err
}

func (s *Service) rewriteListener(tx *store.Tx, sc store.Scope, arn string, change func(*listener) error) (*listener, error) {
	old, err := s.listener(tx, sc, arn)
	if err != nil {
		return nil, err
	}
	l := s.listeners.Clone(old)
	if err := change(l); err != nil {
		return nil, err
	}
	s.listeners.Put(tx, sc, l.Path, l)
	return l, nil
}

// changeProtocol changes what a listener speaks, and what it presents.
func (s *Service) changeProtocol(sc store.Scope, b *loadBalancer, l *listener, in *api.ModifyListenerInput, port *int32) error {
	protocol := cmp.Or(in.Protocol, l.Protocol)
	if err := checkProtocol(b, protocol, port); err != nil {
		return err
	}
	given := in.Certificates
	if given == nil && overTLS(protocol) && len(l.Certificates) > 0 {
		given = []types.Certificate{{CertificateArn: &l.Certificates[0]}}
	}
	certificates, err := s.wantedCertificates(sc, protocol, in.SslPolicy, given)
	if err != nil {
		return err
	}
	if len(certificates) > 0 {
		for i, arn := range l.Certificates {
			if i > 0 && arn != certificates[0] {
				certificates = append(certificates, arn)
			}
		}
	}
	l.Protocol, l.Certificates = protocol, certificates
	return nil
}

// ModifyListener changes a listener's port, or what it does by default.
func (s *Service) ModifyListener(ctx context.Context, in *api.ModifyListenerInput) (*api.ModifyListenerOutput, error) {
	sc := scopeOf(ctx)
	var shown types.Listener
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		l, err := s.rewriteListener(tx, sc, deref(in.ListenerArn), func(l *listener) error {
			b, ok := s.balancers.Get(tx, sc, l.Balancer)
			if !ok {
				return fail("ListenerNotFound", "Listener '%s' not found", deref(in.ListenerArn))
			}
			port := cmp.Or(in.Port, &l.Port)
			if err := s.changeProtocol(sc, b, l, in, port); err != nil {
				return err
			}
			for _, other := range s.listeners.ListPrefix(tx, sc, b.Path+"/") {
				if other.Path != l.Path && other.Port == *port {
					return fail("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", b.arn(sc))
				}
			}
			l.Port = *port
			if in.DefaultActions == nil {
				return nil
			}
			actions, err := s.wantedActions(tx, sc, b, in.DefaultActions)
			l.Actions = actions
			return err
		})
		if err == nil {
			shown = l.view(sc)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyListenerOutput{Listeners: []types.Listener{shown}}, nil
}

// DeleteListener removes a listener with its rules.
func (s *Service) DeleteListener(ctx context.Context, in *api.DeleteListenerInput) (*api.DeleteListenerOutput, error) {
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		l, err := s.listener(tx, sc, deref(in.ListenerArn))
		if err == nil {
			s.dropListener(tx, sc, l)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteListenerOutput{}, nil
}

func (s *Service) dropListener(tx *store.Tx, sc store.Scope, l *listener) {
	for key := range s.rules.ListPrefix(tx, sc, l.Path+"/") {
		s.rules.Delete(tx, sc, key)
	}
	s.listeners.Delete(tx, sc, l.Path)
}

// defaultRule is the ID of a listener's own rule, by the listener's.
func defaultRule(path string) string { return path + "/" + derive(path, "default rule", 16) }

func (l *listener) ruleView(sc store.Scope) types.Rule {
	return types.Rule{RuleArn: pointer(arnOf(sc, kindRule, defaultRule(l.Path))), Priority: pointer("default"), IsDefault: pointer(true), Conditions: []types.RuleCondition{}, Actions: l.Actions}
}

func (x *rule) view(sc store.Scope) types.Rule {
	return types.Rule{
		RuleArn: pointer(arnOf(sc, kindRule, x.Path)), Priority: pointer(strconv.Itoa(int(x.Priority))), IsDefault: pointer(false), Conditions: x.Conditions, Actions: x.Actions,
	}
}

// rulesOf are a listener's rules by priority.
func (s *Service) rulesOf(r store.Reader, sc store.Scope, l *listener) (all []*rule) {
	for _, x := range s.rules.ListPrefix(r, sc, l.Path+"/") {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return all
}

func checkPriority(p *int32) error {
	if p == nil || *p < 1 || *p > 50000 {
		return fail("ValidationError", "A priority between 1 and 50000 must be specified")
	}
	return nil
}

// CreateRule makes a rule of an Application Load Balancer's listener.
func (s *Service) CreateRule(ctx context.Context, in *api.CreateRuleInput) (*api.CreateRuleOutput, error) {
	sc, id := scopeOf(ctx), derive(s.deps.NewID(), "rule", 16)
	tags, err := tagged(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	if err := checkPriority(in.Priority); err != nil {
		return nil, err
	}
	if len(in.Transforms) > 0 {
		return nil, fail("InvalidConfigurationRequest", "Transforms are not supported yet.")
	}
	conditions, err := wantedConditions(in.Conditions)
	if err != nil {
		return nil, err
	}
	var shown types.Rule
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		l, err := s.listener(tx, sc, deref(in.ListenerArn))
		if err != nil {
			return err
		}
		b, ok := s.balancers.Get(tx, sc, l.Balancer)
		if !ok || !b.application() {
			return fail("UnsupportedProtocol", "Listeners of Network Load Balancers have no rules but the default one")
		}
		rules := s.rulesOf(tx, sc, l)
		if len(rules) >= maxRules {
			return fail("TooManyRules", "The maximum number of rules has been reached for the listener")
		}
		if slices.ContainsFunc(rules, func(x *rule) bool { return x.Priority == *in.Priority }) {
			return fail("PriorityInUse", "Priority '%d' is currently in use", *in.Priority)
		}
		actions, err := s.wantedActions(tx, sc, b, in.Actions)
		if err != nil {
			return err
		}
		x := &rule{Path: l.Path + "/" + id, Listener: l.Path, Priority: *in.Priority, Conditions: conditions, Actions: actions, Tags: tags}
		s.rules.Put(tx, sc, x.Path, x)
		shown = x.view(sc)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateRuleOutput{Rules: []types.Rule{shown}}, nil
}

// rule finds a rule that is no default one by its ARN.
func (s *Service) rule(r store.Reader, sc store.Scope, arn string) (*rule, error) {
	path := pathOf(sc, kindRule, arn)
	if x, ok := s.rules.Get(r, sc, path); ok {
		return x, nil
	}
	if l := s.defaultOf(r, sc, path); l != nil {
		return nil, fail("OperationNotPermitted", "Default rule '%s' cannot be changed: change its listener", arn)
	}
	return nil, fail("RuleNotFound", "One or more rules not found")
}

// defaultOf is the listener whose default rule has the path, nil if there is none.
func (s *Service) defaultOf(r store.Reader, sc store.Scope, path string) *listener {
	for _, l := range s.listeners.List(r, sc) {
		if path != "" && defaultRule(l.Path) == path {
			return l
		}
	}
	return nil
}

// DescribeRules describes those that are named, or those of a listener, the default one last.
func (s *Service) DescribeRules(ctx context.Context, in *api.DescribeRulesInput) (*api.DescribeRulesOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	out := &api.DescribeRulesOutput{Rules: []types.Rule{}}
	for _, arn := range in.RuleArns {
		path := pathOf(sc, kindRule, arn)
		if x, ok := s.rules.Get(snap, sc, path); ok {
			out.Rules = append(out.Rules, x.view(sc))
		} else if l := s.defaultOf(snap, sc, path); l != nil {
			out.Rules = append(out.Rules, l.ruleView(sc))
		} else {
			return nil, fail("RuleNotFound", "One or more rules not found")
		}
	}
	switch {
	case len(in.RuleArns) > 0:
		return out, nil
	case in.ListenerArn == nil:
		return nil, fail("ValidationError", "You must specify either listener rule ARNs or a listener ARN")
	}
	l, err := s.listener(snap, sc, *in.ListenerArn)
	if err != nil {
		return nil, err
	}
	for _, x := range s.rulesOf(snap, sc, l) {
		out.Rules = append(out.Rules, x.view(sc))
	}
	out.Rules = append(out.Rules, l.ruleView(sc))
	return out, nil
}

// ModifyRule changes a rule's conditions or actions.
func (s *Service) ModifyRule(ctx context.Context, in *api.ModifyRuleInput) (*api.ModifyRuleOutput, error) {
	sc := scopeOf(ctx)
	var shown types.Rule
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		old, err := s.rule(tx, sc, deref(in.RuleArn))
		if err != nil {
			return err
		}
		x := s.rules.Clone(old)
		if in.Conditions != nil {
			if x.Conditions, err = wantedConditions(in.Conditions); err != nil {
				return err
			}
		}
		if in.Actions != nil {
			b, ok := s.balancers.Get(tx, sc, x.Listener[:strings.LastIndexByte(x.Listener, '/')])
			if !ok {
				return fail("RuleNotFound", "One or more rules not found")
			}
			if x.Actions, err = s.wantedActions(tx, sc, b, in.Actions); err != nil {
				return err
			}
		}
		s.rules.Put(tx, sc, x.Path, x)
		shown = x.view(sc)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyRuleOutput{Rules: []types.Rule{shown}}, nil
}

// DeleteRule removes a rule.
func (s *Service) DeleteRule(ctx context.Context, in *api.DeleteRuleInput) (*api.DeleteRuleOutput, error) {
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		x, err := s.rule(tx, sc, deref(in.RuleArn))
		if err == nil {
			s.rules.Delete(tx, sc, x.Path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteRuleOutput{}, nil
}

// SetRulePriorities gives rules of one listener other priorities, all at once.
func (s *Service) SetRulePriorities(ctx context.Context, in *api.SetRulePrioritiesInput) (*api.SetRulePrioritiesOutput, error) {
	sc := scopeOf(ctx)
	out := &api.SetRulePrioritiesOutput{}
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		out.Rules = []types.Rule{}
		var l *listener
		for _, pair := range in.RulePriorities {
			if err := checkPriority(pair.Priority); err != nil {
				return err
			}
			old, err := s.rule(tx, sc, deref(pair.RuleArn))
			if err != nil {
				return err
			}
			if l != nil && l.Path != old.Listener {
				return fail("ValidationError", "All rules must be of the same listener")
			}
			if l, err = s.listener(tx, sc, arnOf(sc, kindListener, old.Listener)); err != nil {
				return err
			}
			x := s.rules.Clone(old)
			x.Priority = *pair.Priority
			s.rules.Put(tx, sc, x.Path, x)
			out.Rules = append(out.Rules, x.view(sc))
		}
		if l == nil {
			return fail("ValidationError", "A rule must be specified")
		}
		rules := s.rulesOf(tx, sc, l)
		for i := range len(rules) - 1 {
			if rules[i].Priority == rules[i+1].Priority {
				return fail("PriorityInUse", "Priority '%d' is currently in use", rules[i].Priority)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
