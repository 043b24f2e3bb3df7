package elbv2

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// attribute is one that can be set: its default, and what values it takes. One that
// nothing here acts on takes its default only.
type attribute struct {
	byDefault string
	takes     func(string) bool
}

func oneOf(values ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(values, v) }
}

func between(least, most int) func(string) bool {
	return func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && n >= least && n <= most
	}
}

var (
	boolean  = oneOf("true", "false")
	cookieRE = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]{1,512}$`)
)

// balancerAttributes are those of Application Load Balancers, networkAttributes of Network
// Load Balancers.
var balancerAttributes = map[string]attribute{
	"access_logs.s3.enabled": {"false", nil}, "access_logs.s3.bucket": {"", nil}, "access_logs.s3.prefix": {"", nil},
	"connection_logs.s3.enabled": {"false", nil}, "connection_logs.s3.bucket": {"", nil}, "connection_logs.s3.prefix": {"", nil},
	"client_keep_alive.seconds":                                {"3600", between(60, 604800)},
	"deletion_protection.enabled":                              {"false", boolean},
	"idle_timeout.timeout_seconds":                             {"60", between(1, 4000)},
	"load_balancing.cross_zone.enabled":                        {"true", nil},
	"routing.http.desync_mitigation_mode":                      {"defensive", oneOf("monitor", "defensive", "strictest")},
	"routing.http.drop_invalid_header_fields.enabled":          {"false", boolean},
	"routing.http.preserve_host_header.enabled":                {"false", boolean},
	"routing.http.x_amzn_tls_version_and_cipher_suite.enabled": {"false", boolean},
	"routing.http.xff_client_port.enabled":                     {"false", boolean},
	"routing.http.xff_header_processing.mode":                  {"append", oneOf("append", "preserve", "remove")},
	"routing.http2.enabled":                                    {"true", boolean},
	"waf.fail_open.enabled":                                    {"false", nil},
	"zonal_shift.config.enabled":                               {"false", nil},
}

var networkAttributes = map[string]attribute{
	"access_logs.s3.enabled": {"false", nil}, "access_logs.s3.bucket": {"", nil}, "access_logs.s3.prefix": {"", nil},
	"deletion_protection.enabled":       {"false", boolean},
	"load_balancing.cross_zone.enabled": {"false", oneOf("true", "false")}, // there is one zone of a load balancer
	"dns_record.client_routing_policy":  {"any_availability_zone", nil},
	"zonal_shift.config.enabled":        {"false", nil},
}

// groupAttributes are those of target groups for HTTP, flowAttributes for TCP.
var groupAttributes = map[string]attribute{
	"deregistration_delay.timeout_seconds":                                           {"300", between(0, 3600)},
	"load_balancing.algorithm.type":                                                  {"round_robin", oneOf("round_robin", "least_outstanding_requests", "weighted_random")},
	"load_balancing.cross_zone.enabled":                                              {"use_load_balancer_configuration", nil},
	"slow_start.duration_seconds":                                                    {"0", func(v string) bool { return v == "0" || between(30, 900)(v) }},
	"stickiness.enabled":                                                             {"false", boolean},
	"stickiness.type":                                                                {"lb_cookie", oneOf("lb_cookie", "app_cookie")},
	"stickiness.lb_cookie.duration_seconds":                                          {"86400", between(1, 604800)},
	"stickiness.app_cookie.duration_seconds":                                         {"86400", between(1, 604800)},
	"stickiness.app_cookie.cookie_name":                                              {"", func(v string) bool { return v == "" || cookieRE.MatchString(v) && !strings.HasPrefix(v, "AWSALB") }},
	"load_balancing.algorithm.anomaly_mitigation":                                    {"off", nil},
	"target_group_health.dns_failover.minimum_healthy_targets.count":                 {"1", nil},
	"target_group_health.dns_failover.minimum_healthy_targets.percentage":            {"off", nil},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      {"1", nil},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": {"off", nil},
}

var flowAttributes = map[string]attribute{
	"deregistration_delay.timeout_seconds":                                           {"300", between(0, 3600)},
	"deregistration_delay.connection_termination.enabled":                            {"false", boolean},
	"load_balancing.cross_zone.enabled":                                              {"use_load_balancer_configuration", nil},
	"preserve_client_ip.enabled":                                                     {"false", nil},
	"proxy_protocol_v2.enabled":                                                      {"false", boolean},
	"stickiness.enabled":                                                             {"false", boolean},
	"stickiness.type":                                                                {"source_ip", oneOf("source_ip")},
	"target_health_state.unhealthy.connection_termination.enabled":                   {"true", boolean},
	"target_health_state.unhealthy.draining_interval_seconds":                        {"0", nil},
	"target_group_health.dns_failover.minimum_healthy_targets.count":                 {"1", nil},
	"target_group_health.dns_failover.minimum_healthy_targets.percentage":            {"off", nil},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      {"1", nil},
	"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": {"off", nil},
}

var (
	listenerAttributes     = map[string]attribute{}
	flowListenerAttributes = map[string]attribute{"tcp.idle_timeout.seconds": {"350", between(60, 6000)}}
)

// setAttribute checks and sets one attribute.
func setAttribute(known map[string]attribute, set map[string]string, key, value string) error {
	a, ok := known[key]
	switch {
	case !ok:
		return fail("ValidationError", "The attribute '%.80s' is not supported here", key)
	case a.takes == nil && value != a.byDefault:
		return fail("InvalidConfigurationRequest", "The attribute '%s' can only be '%s': what it is about is not supported yet", key, a.byDefault)
	case a.takes != nil && !a.takes(value):
		return fail("ValidationError", "The value '%.80s' of the attribute '%s' is not valid", value, key)
	}
	set[key] = value
	return nil
}

// all are the values of all attributes, in order of their keys.
func all(known map[string]attribute, set map[string]string, yield func(key, value string)) {
	for _, key := range slices.Sorted(maps.Keys(known)) {
		yield(key, valueOf(known, set, key))
	}
}

func valueOf(known map[string]attribute, set map[string]string, key string) string {
	if v, ok := set[key]; ok {
		return v
	}
	return known[key].byDefault
}

func (b *loadBalancer) attributes() map[string]attribute {
	if b.application() {
		return balancerAttributes
	}
	return networkAttributes
}

func (b *loadBalancer) attribute(key string) string {
	return valueOf(b.attributes(), b.Attributes, key)
}

func (g *targetGroup) attributes() map[string]attribute {
	if g.layer4() {
		return flowAttributes
	}
	return groupAttributes
}

func (g *targetGroup) attribute(key string) string { return valueOf(g.attributes(), g.Attributes, key) }

func (g *targetGroup) seconds(key string) int {
	n, _ := strconv.Atoi(g.attribute(key)) // it was checked
	return n
}

func (l *listener) attributes() map[string]attribute {
	if l.Protocol == types.ProtocolEnumTcp || l.Protocol == types.ProtocolEnumTls {
		return flowListenerAttributes
	}
	return listenerAttributes
}

// cloned is a map that can be written to.
func cloned(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// ModifyLoadBalancerAttributes sets attributes.
func (s *Service) ModifyLoadBalancerAttributes(ctx context.Context, in *api.ModifyLoadBalancerAttributesInput) (*api.ModifyLoadBalancerAttributesOutput, error) {
	b, err := s.changeBalancer(ctx, deref(in.LoadBalancerArn), func(b *loadBalancer) error {
		b.Attributes = cloned(b.Attributes)
		for _, a := range in.Attributes {
			if err := setAttribute(b.attributes(), b.Attributes, deref(a.Key), deref(a.Value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyLoadBalancerAttributesOutput{Attributes: b.attributeView()}, nil
}

func (b *loadBalancer) attributeView() (out []types.LoadBalancerAttribute) {
	all(b.attributes(), b.Attributes, func(key, value string) { out = append(out, types.LoadBalancerAttribute{Key: &key, Value: &value}) })
	return out
}

// DescribeLoadBalancerAttributes shows all attributes.
func (s *Service) DescribeLoadBalancerAttributes(ctx context.Context, in *api.DescribeLoadBalancerAttributesInput) (*api.DescribeLoadBalancerAttributesOutput, error) {
	b, err := s.balancer(s.db.Snapshot(), scopeOf(ctx), deref(in.LoadBalancerArn))
	if err != nil {
		return nil, err
	}
	return &api.DescribeLoadBalancerAttributesOutput{Attributes: b.attributeView()}, nil
}

// ModifyTargetGroupAttributes sets attributes.
func (s *Service) ModifyTargetGroupAttributes(ctx context.Context, in *api.ModifyTargetGroupAttributesInput) (*api.ModifyTargetGroupAttributesOutput, error) {
	g, err := s.changeGroup(ctx, deref(in.TargetGroupArn), func(g *targetGroup) error {
		g.Attributes = cloned(g.Attributes)
		for _, a := range in.Attributes {
			if err := setAttribute(g.attributes(), g.Attributes, deref(a.Key), deref(a.Value)); err != nil {
				return err
			}
		}
		if g.attribute("slow_start.duration_seconds") != "0" && g.attribute("load_balancing.algorithm.type") == "least_outstanding_requests" {
			return fail("InvalidConfigurationRequest", "Slow start mode cannot be enabled with the least_outstanding_requests algorithm")
		}
		if g.attribute("stickiness.enabled") == "true" && g.attribute("stickiness.type") == "app_cookie" && g.attribute("stickiness.app_cookie.cookie_name") == "" {
			return fail("InvalidConfigurationRequest", "stickiness.app_cookie.cookie_name must be set for stickiness by an application's cookie")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyTargetGroupAttributesOutput{Attributes: g.attributeView()}, nil
}

func (g *targetGroup) attributeView() (out []types.TargetGroupAttribute) {
	all(g.attributes(), g.Attributes, func(key, value string) { out = append(out, types.TargetGroupAttribute{Key: &key, Value: &value}) })
	return out
}

// DescribeTargetGroupAttributes shows all attributes.
func (s *Service) DescribeTargetGroupAttributes(ctx context.Context, in *api.DescribeTargetGroupAttributesInput) (*api.DescribeTargetGroupAttributesOutput, error) {
	g, err := s.group(s.db.Snapshot(), scopeOf(ctx), deref(in.TargetGroupArn))
	if err != nil {
		return nil, err
	}
	return &api.DescribeTargetGroupAttributesOutput{Attributes: g.attributeView()}, nil
}

// ModifyListenerAttributes sets attributes.
func (s *Service) ModifyListenerAttributes(ctx context.Context, in *api.ModifyListenerAttributesInput) (*api.ModifyListenerAttributesOutput, error) {
	l, err := s.changeListener(ctx, deref(in.ListenerArn), func(l *listener) error {
		l.Attributes = cloned(l.Attributes)
		for _, a := range in.Attributes {
			if err := setAttribute(l.attributes(), l.Attributes, deref(a.Key), deref(a.Value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyListenerAttributesOutput{Attributes: l.attributeView()}, nil
}

func (l *listener) attributeView() []types.ListenerAttribute {
	out := []types.ListenerAttribute{}
	all(l.attributes(), l.Attributes, func(key, value string) { out = append(out, types.ListenerAttribute{Key: &key, Value: &value}) })
	return out
}

// DescribeListenerAttributes shows all attributes.
func (s *Service) DescribeListenerAttributes(ctx context.Context, in *api.DescribeListenerAttributesInput) (*api.DescribeListenerAttributesOutput, error) {
	l, err := s.listener(s.db.Snapshot(), scopeOf(ctx), deref(in.ListenerArn))
	if err != nil {
		return nil, err
	}
	return &api.DescribeListenerAttributesOutput{Attributes: l.attributeView()}, nil
}
