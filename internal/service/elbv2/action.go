package elbv2

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// maxGroupsOfAction is AWS's limit.
const maxGroupsOfAction = 5

func matched(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// wantedActions checks the actions of a listener or a rule, and completes them as AWS
// shows them.
func (s *Service) wantedActions(r store.Reader, sc store.Scope, b *loadBalancer, in []types.Action) ([]types.Action, error) {
	if len(in) != 1 {
		return nil, fail("InvalidLoadBalancerAction", "Exactly one action must be given: authenticate actions, which could come before it, are not supported")
	}
	a := in[0]
	a.Order = nil
	var err error
	switch a.Type {
	case types.ActionTypeEnumForward:
		err = s.wantedForward(r, sc, b, &a)
	case types.ActionTypeEnumRedirect:
		err = wantedRedirect(a.RedirectConfig)
	case types.ActionTypeEnumFixedResponse:
		err = wantedResponse(a.FixedResponseConfig)
	default:
		err = fail("InvalidLoadBalancerAction", "Actions of type '%s' are not supported: use forward, redirect or fixed-response", a.Type)
	}
	if err == nil && !b.application() && a.Type != types.ActionTypeEnumForward {
		err = fail("InvalidLoadBalancerAction", "Network Load Balancers take forward actions only")
	}
	return []types.Action{a}, err
}

func (s *Service) wantedForward(r store.Reader, sc store.Scope, b *loadBalancer, a *types.Action) error {
	f := a.ForwardConfig
	switch {
	case f == nil && a.TargetGroupArn == nil:
		return fail("ValidationError", "A target group ARN must be specified")
	case f == nil:
		f = &types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{{TargetGroupArn: a.TargetGroupArn, Weight: pointer(int32(1))}}}
	case a.TargetGroupArn != nil && (len(f.TargetGroups) != 1 || deref(f.TargetGroups[0].TargetGroupArn) != *a.TargetGroupArn):
		return fail("ValidationError", "The target group ARN and the forward configuration must name the same target group")
	}
	if n := len(f.TargetGroups); n == 0 || n > maxGroupsOfAction {
		return fail("ValidationError", "A forward action must have 1 to %d target groups", maxGroupsOfAction)
	}
	config := &types.ForwardActionConfig{TargetGroupStickinessConfig: &types.TargetGroupStickinessConfig{Enabled: pointer(false)}}
	if st := f.TargetGroupStickinessConfig; st != nil && deref(st.Enabled) {
		if n := deref(st.DurationSeconds); n < 1 || n > 604800 {
			return fail("ValidationError", "Target group stickiness duration must be between 1 and 604800 seconds")
		}
		config.TargetGroupStickinessConfig = st
	}
	for _, t := range f.TargetGroups {
		g, err := s.group(r, sc, deref(t.TargetGroupArn))
		if err != nil {
			return err
		}
		if g.layer4() == b.application() {
			return fail("IncompatibleProtocols", "Target group '%s' has the protocol %s, which a load balancer of type %s does not forward to", deref(t.TargetGroupArn), g.Group.Protocol, b.Type)
		}
		for _, other := range s.balancersOf(r, sc, g.arn(sc)) {
			if other != b.arn(sc) {
				return fail("TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: %s", g.arn(sc))
			}
		}
		weight := cmp.Or(t.Weight, pointer(int32(1)))
		if *weight < 0 || *weight > 999 {
			return fail("ValidationError", "A target group's weight must be between 0 and 999")
		}
		config.TargetGroups = append(config.TargetGroups, types.TargetGroupTuple{TargetGroupArn: t.TargetGroupArn, Weight: weight})
	}
	a.ForwardConfig, a.TargetGroupArn = config, nil
	if len(config.TargetGroups) == 1 {
		a.TargetGroupArn = config.TargetGroups[0].TargetGroupArn
	}
	return nil
}

func wantedRedirect(c *types.RedirectActionConfig) error {
	if c == nil {
		return fail("ValidationError", "A redirect action must have a redirect configuration")
	}
	if c.StatusCode != types.RedirectActionStatusCodeEnumHttp301 && c.StatusCode != types.RedirectActionStatusCodeEnumHttp302 {
		return fail("ValidationError", "The status code of a redirect must be HTTP_301 or HTTP_302")
	}
	for _, part := range []struct {
		at        **string
		byDefault string
	}{{&c.Protocol, "#{protocol}"}, {&c.Host, "#{host}"}, {&c.Port, "#{port}"}, {&c.Path, "/#{path}"}, {&c.Query, "#{query}"}} {
		if *part.at == nil {
			*part.at = pointer(part.byDefault)
		}
	}
	if !slices.Contains([]string{"HTTP", "HTTPS", "#{protocol}"}, *c.Protocol) {
		return fail("ValidationError", "The protocol of a redirect must be HTTP, HTTPS or #{protocol}")
	}
	if n, err := strconv.Atoi(*c.Port); *c.Port != "#{port}" && (err != nil || n < 1 || n > 65535) {
		return fail("ValidationError", "The port of a redirect must be between 1 and 65535, or #{port}")
	}
	if !strings.HasPrefix(*c.Path, "/") {
		return fail("ValidationError", "The path of a redirect must begin with '/'")
	}
	if *c.Protocol == "#{protocol}" && *c.Host == "#{host}" && *c.Port == "#{port}" && *c.Path == "/#{path}" {
		return fail("InvalidLoadBalancerAction", "The redirect configuration is not valid because it creates a loop.")
	}
	return nil
}

func wantedResponse(c *types.FixedResponseActionConfig) error {
	switch {
	case c == nil:
		return fail("ValidationError", "A fixed-response action must have a fixed response configuration")
	case !matched(`^[245][0-9][0-9]$`, deref(c.StatusCode)):
		return fail("ValidationError", "The status code '%.20s' of a fixed response must be 2XX, 4XX or 5XX", deref(c.StatusCode))
	case c.ContentType != nil && !slices.Contains([]string{"text/plain", "text/css", "text/html", "application/javascript", "application/json"}, *c.ContentType):
		return fail("ValidationError", "The content type '%.80s' of a fixed response is not valid", *c.ContentType)
	case len(deref(c.MessageBody)) > 1024:
		return fail("ValidationError", "The message body of a fixed response can have at most 1024 characters")
	}
	return nil
}

// maxConditionValues is AWS's limit for a rule.
const maxConditionValues = 5

// wantedConditions checks a rule's conditions, and completes them as AWS shows them.
func wantedConditions(in []types.RuleCondition) ([]types.RuleCondition, error) {
	if len(in) == 0 {
		return nil, fail("ValidationError", "A condition must be specified")
	}
	out, values := []types.RuleCondition{}, 0
	for i := range in {
		c := in[i]
		n, err := wantedCondition(&c)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fail("ValidationError", "A condition value must be specified")
		}
		values += n
		out = append(out, c)
	}
	if values > maxConditionValues {
		return nil, fail("ValidationError", "A rule can have at most %d condition values", maxConditionValues)
	}
	return out, nil
}

func wantedCondition(c *types.RuleCondition) (values int, err error) {
	if len(c.RegexValues) > 0 {
		return 0, fail("InvalidConfigurationRequest", "Regular expressions in conditions are not supported yet: use values")
	}
	switch deref(c.Field) {
	case "host-header":
		if c.HostHeaderConfig == nil {
			c.HostHeaderConfig = &types.HostHeaderConditionConfig{Values: c.Values}
		}
		c.Values = c.HostHeaderConfig.Values
		return len(c.Values), checkValues(c.Values, 128)
	case "path-pattern":
		if c.PathPatternConfig == nil {
			c.PathPatternConfig = &types.PathPatternConditionConfig{Values: c.Values}
		}
		c.Values = c.PathPatternConfig.Values
		return len(c.Values), checkValues(c.Values, 128)
	case "http-header":
		if c.HttpHeaderConfig == nil || !matched("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}$", deref(c.HttpHeaderConfig.HttpHeaderName)) {
			return 0, fail("ValidationError", "A condition on a header must have its name, of up to 40 characters")
		}
		return len(c.HttpHeaderConfig.Values), checkValues(c.HttpHeaderConfig.Values, 128)
	case "http-request-method":
		if c.HttpRequestMethodConfig == nil {
			return 0, nil
		}
		for _, m := range c.HttpRequestMethodConfig.Values {
			if !matched(`^[A-Z_-]{1,40}$`, m) {
				return 0, fail("ValidationError", "The method '%.40s' of a condition must have up to 40 capital letters, hyphens and underscores", m)
			}
		}
		return len(c.HttpRequestMethodConfig.Values), nil
	case "query-string":
		if c.QueryStringConfig == nil {
			return 0, nil
		}
		for _, q := range c.QueryStringConfig.Values {
			if deref(q.Value) == "" || len(deref(q.Value)) > 128 || len(deref(q.Key)) > 128 {
				return 0, fail("ValidationError", "A condition on the query must have values of up to 128 characters")
			}
		}
		return len(c.QueryStringConfig.Values), nil
	case "source-ip":
		if c.SourceIpConfig == nil {
			return 0, nil
		}
		for _, cidr := range c.SourceIpConfig.Values {
			if !validCIDR(cidr) {
				return 0, fail("ValidationError", "The value '%.60s' of a condition must be a CIDR block", cidr)
			}
		}
		return len(c.SourceIpConfig.Values), nil
	}
	return 0, fail("ValidationError", "Condition field '%.40s' must be one of '[path-pattern, host-header, http-header, http-request-method, query-string, source-ip]'", deref(c.Field))
}

func checkValues(values []string, longest int) error {
	for _, v := range values {
		if v == "" || len(v) > longest {
			return fail("ValidationError", "The value '%.140s' of a condition must have 1 to %d characters", v, longest)
		}
	}
	return nil
}
