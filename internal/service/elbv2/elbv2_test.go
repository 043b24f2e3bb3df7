package elbv2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
)

const (
	testAccount = "123456789012"
	testRegion  = "eu-west-1"
	testVPC     = "vpc-1"
)

// network is a VPC with three subnets, and the instance i-1.
type network struct{}

func (network) Subnets(string, string) []Subnet {
	return []Subnet{{"subnet-a", testVPC, "eu-west-1a"}, {"subnet-b", testVPC, "eu-west-1b"}, {"subnet-c", testVPC, "eu-west-1c"}}
}
func (network) DefaultSecurityGroup(string, string) string { return "sg-1" }
func (network) Instance(_, _, id string) (netip.Addr, bool) {
	return netip.MustParseAddr("10.0.0.1"), id == "i-1"
}

// certificates are two of the account's.
type certificates struct{}

func (certificates) ServerCertificate(arn string) (chain, key string, err error) {
	if arn != certA && arn != certB {
		return "", "", errors.New("none")
	}
	return "chain of " + arn, "key of " + arn, nil
}

const (
	certA = "arn:aws:iam::" + testAccount + ":server-certificate/a"
	certB = "arn:aws:iam::" + testAccount + ":server-certificate/b"
)

// room is a Service over an in-memory store, with a clock.
type room struct {
	*Service
	t     testing.TB
	clock atomic.Int64
	ids   atomic.Int64
	ctx   context.Context
}

func newRoom(t testing.TB) *room {
	t.Helper()
	r := &room{t: t}
	r.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	kv := memkv.New()
	db := store.New(kv, store.Options{})
	s, err := New(Deps{
		DB: db, Network: network{}, Now: func() time.Time { return time.Unix(0, r.clock.Load()).UTC() },
		NewID: func() string { return fmt.Sprintf("%032x", r.ids.Add(1)) }, Certificates: certificates{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), kv.Close()); err != nil {
			t.Error(err)
		}
	})
	r.Service, r.ctx = s, as(testAccount)
	return r
}

func as(account string) context.Context {
	return wire.WithCall(context.Background(), &wire.Call{Account: account, Region: testRegion})
}

func (r *room) advance(d time.Duration) { r.clock.Add(int64(d)) }

// refused fails the test unless an error has a code.
func refused(t testing.TB, what string, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func (r *room) balancer(name string) types.LoadBalancer {
	r.t.Helper()
	out, err := r.CreateLoadBalancer(r.ctx, &api.CreateLoadBalancerInput{Name: &name, Subnets: []string{"subnet-a", "subnet-b"}})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.LoadBalancers[0]
}

func (r *room) target(name string, kind types.TargetTypeEnum) *string {
	r.t.Helper()
	out, err := r.CreateTargetGroup(r.ctx, &api.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: aws.String(testVPC), TargetType: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.TargetGroups[0].TargetGroupArn
}

func forward(groups ...*string) []types.Action {
	a := types.Action{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{}}
	for _, g := range groups {
		a.ForwardConfig.TargetGroups = append(a.ForwardConfig.TargetGroups, types.TargetGroupTuple{TargetGroupArn: g})
	}
	return []types.Action{a}
}

func (r *room) listen(lb *string, port int32, actions []types.Action) *string {
	r.t.Helper()
	out, err := r.CreateListener(r.ctx, &api.CreateListenerInput{LoadBalancerArn: lb, Port: &port, Protocol: types.ProtocolEnumHttp, DefaultActions: actions})
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Listeners[0].ListenerArn
}

func path(pattern string) []types.RuleCondition {
	return []types.RuleCondition{{Field: aws.String("path-pattern"), Values: []string{pattern}}}
}

// states are a group's targets with their states and reasons.
func (r *room) states(group *string) (all []string) {
	r.t.Helper()
	out, err := r.DescribeTargetHealth(r.ctx, &api.DescribeTargetHealthInput{TargetGroupArn: group})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range out.TargetHealthDescriptions {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s", *d.Target.Id, *d.Target.Port, d.TargetHealth.State, d.TargetHealth.Reason)))
	}
	return all
}

func (r *room) wantStates(group *string, want ...string) {
	r.t.Helper()
	if got := r.states(group); !slices.Equal(got, want) {
		r.t.Errorf("the targets are %q, want %q", got, want)
	}
}

func TestLoadBalancers(t *testing.T) {
	r := newRoom(t)
	b := r.balancer("web")
	if b.State.Code != types.LoadBalancerStateEnumActive || b.Type != types.LoadBalancerTypeEnumApplication || b.Scheme != types.LoadBalancerSchemeEnumInternetFacing ||
		!strings.HasPrefix(*b.LoadBalancerArn, "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/") || len(b.AvailabilityZones) != 2 || *b.VpcId != testVPC || b.SecurityGroups[0] != "sg-1" {
		t.Errorf("made %+v", b)
	}
	if again := r.balancer("web"); *again.LoadBalancerArn != *b.LoadBalancerArn {
		t.Error("the same call made another one")
	}
	for code, in := range map[string]*api.CreateLoadBalancerInput{
		"DuplicateLoadBalancerName":   {Name: aws.String("web"), Subnets: []string{"subnet-a", "subnet-c"}},
		"SubnetNotFound":              {Name: aws.String("x"), Subnets: []string{"subnet-a", "subnet-z"}},
		"InvalidConfigurationRequest": {Name: aws.String("x"), Subnets: []string{"subnet-a"}},
		"InvalidSecurityGroup":        {Name: aws.String("x"), Subnets: []string{"subnet-a", "subnet-b"}, SecurityGroups: []string{"sg-2"}},
		"ValidationError":             {Name: aws.String("-x"), Subnets: []string{"subnet-a", "subnet-b"}},
	} {
		_, err := r.CreateLoadBalancer(r.ctx, in)
		refused(t, fmt.Sprintf("%+v", in), err, code)
	}
	other := r.balancer("other")
	tables := r.Table(testAccount)
	if len(tables.LoadBalancers) != 2 || tables.LoadBalancers[0].Address == tables.LoadBalancers[1].Address {
		t.Errorf("served are %+v", tables.LoadBalancers)
	}
	if got := r.Table("210987654321"); len(got.LoadBalancers) != 0 {
		t.Error("another account's nodes serve it")
	}
	page, err := r.DescribeLoadBalancers(r.ctx, &api.DescribeLoadBalancersInput{PageSize: aws.Int32(1)})
	if err != nil || len(page.LoadBalancers) != 1 || page.NextMarker == nil {
		t.Fatal(page, err)
	}
	if page, err = r.DescribeLoadBalancers(r.ctx, &api.DescribeLoadBalancersInput{PageSize: aws.Int32(1), Marker: page.NextMarker}); err != nil || len(page.LoadBalancers) != 1 || page.NextMarker != nil {
		t.Error(page, err)
	}
	// Protected, it stays.
	set := func(value string) {
		if _, err := r.ModifyLoadBalancerAttributes(r.ctx, &api.ModifyLoadBalancerAttributesInput{
			LoadBalancerArn: other.LoadBalancerArn, Attributes: []types.LoadBalancerAttribute{{Key: aws.String("deletion_protection.enabled"), Value: &value}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	set("true")
	_, err = r.DeleteLoadBalancer(r.ctx, &api.DeleteLoadBalancerInput{LoadBalancerArn: other.LoadBalancerArn})
	refused(t, "a protected one", err, "OperationNotPermitted")
	set("false")
	for range 2 { // deleting it again is no error
		if _, err := r.DeleteLoadBalancer(r.ctx, &api.DeleteLoadBalancerInput{LoadBalancerArn: other.LoadBalancerArn}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = r.DescribeLoadBalancers(r.ctx, &api.DescribeLoadBalancersInput{LoadBalancerArns: []string{*other.LoadBalancerArn}})
	refused(t, "a deleted one", err, "LoadBalancerNotFound")
	_, err = r.DescribeLoadBalancers(as("210987654321"), &api.DescribeLoadBalancersInput{LoadBalancerArns: []string{*b.LoadBalancerArn}})
	refused(t, "another account's", err, "LoadBalancerNotFound")
}

// Attributes that act change what is served; others keep their defaults.
func TestAttributes(t *testing.T) {
	r := newRoom(t)
	b := r.balancer("web")
	modify := func(key, value string) error {
		_, err := r.ModifyLoadBalancerAttributes(r.ctx, &api.ModifyLoadBalancerAttributesInput{LoadBalancerArn: b.LoadBalancerArn, Attributes: []types.LoadBalancerAttribute{{Key: &key, Value: &value}}})
		return err
	}
	if err := errors.Join(modify("idle_timeout.timeout_seconds", "7"), modify("routing.http2.enabled", "false"), modify("routing.http.desync_mitigation_mode", "strictest")); err != nil {
		t.Fatal(err)
	}
	if served := r.Table(testAccount).LoadBalancers[0]; served.IdleTimeoutSeconds != 7 || !served.NoHTTP2 || served.DesyncMode != "strictest" {
		t.Errorf("served %+v", served)
	}
	refused(t, "an unknown attribute", modify("x.y", "1"), "ValidationError")
	refused(t, "a wrong value", modify("idle_timeout.timeout_seconds", "0"), "ValidationError")
	refused(t, "what is not supported", modify("access_logs.s3.enabled", "true"), "InvalidConfigurationRequest")
	if err := modify("access_logs.s3.enabled", "false"); err != nil {
		t.Error(err)
	}
	g := r.target("web", "")
	group := func(attributes ...string) error {
		in := &api.ModifyTargetGroupAttributesInput{TargetGroupArn: g}
		for i := 0; i < len(attributes); i += 2 {
			in.Attributes = append(in.Attributes, types.TargetGroupAttribute{Key: &attributes[i], Value: &attributes[i+1]})
		}
		_, err := r.ModifyTargetGroupAttributes(r.ctx, in)
		return err
	}
	if err := group("stickiness.enabled", "true", "stickiness.lb_cookie.duration_seconds", "60", "deregistration_delay.timeout_seconds", "9", "load_balancing.algorithm.type", "least_outstanding_requests"); err != nil {
		t.Fatal(err)
	}
	if served := r.Table(testAccount).TargetGroups[0]; served.StickySeconds != 60 || *served.DeregistrationDelaySeconds != 9 || served.Algorithm != "least_outstanding_requests" {
		t.Errorf("served %+v", served)
	}
	refused(t, "slow start beside that algorithm", group("slow_start.duration_seconds", "30"), "InvalidConfigurationRequest")
	refused(t, "an application's cookie without its name", group("stickiness.type", "app_cookie"), "InvalidConfigurationRequest")
	shown, err := r.DescribeTargetGroupAttributes(r.ctx, &api.DescribeTargetGroupAttributesInput{TargetGroupArn: g})
	if err != nil || len(shown.Attributes) != len(groupAttributes) {
		t.Errorf("%d attributes are shown, %v", len(shown.Attributes), err)
	}
}

func TestTargetGroups(t *testing.T) {
	r := newRoom(t)
	arn := r.target("web", "")
	out, err := r.DescribeTargetGroups(r.ctx, &api.DescribeTargetGroupsInput{Names: []string{"web"}})
	if err != nil || len(out.TargetGroups) != 1 {
		t.Fatal(out, err)
	}
	g := out.TargetGroups[0]
	if *g.HealthCheckPath != "/" || *g.HealthCheckPort != "traffic-port" || *g.HealthCheckIntervalSeconds != 30 || *g.HealthCheckTimeoutSeconds != 5 || *g.HealthyThresholdCount != 5 ||
		*g.UnhealthyThresholdCount != 2 || *g.Matcher.HttpCode != "200" || *g.ProtocolVersion != "HTTP1" || g.TargetType != types.TargetTypeEnumInstance || len(g.LoadBalancerArns) != 0 {
		t.Errorf("made %+v", g)
	}
	if again := r.target("web", ""); *again != *arn {
		t.Error("the same call made another one")
	}
	with := func(change func(*api.CreateTargetGroupInput)) *api.CreateTargetGroupInput {
		in := &api.CreateTargetGroupInput{Name: aws.String("x"), Protocol: types.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: aws.String(testVPC)}
		change(in)
		return in
	}
	for what, c := range map[string]struct {
		code   string
		change func(*api.CreateTargetGroupInput)
	}{
		"another of the name": {"DuplicateTargetGroupName", func(in *api.CreateTargetGroupInput) { in.Name, in.Port = aws.String("web"), aws.Int32(81) }},
		"Lambda":              {"InvalidConfigurationRequest", func(in *api.CreateTargetGroupInput) { in.TargetType = types.TargetTypeEnumLambda }},
		"UDP":                 {"InvalidConfigurationRequest", func(in *api.CreateTargetGroupInput) { in.Protocol = types.ProtocolEnumUdp }},
		"no port":             {"ValidationError", func(in *api.CreateTargetGroupInput) { in.Port = nil }},
		"no VPC":              {"ValidationError", func(in *api.CreateTargetGroupInput) { in.VpcId = nil }},
		"another VPC":         {"ValidationError", func(in *api.CreateTargetGroupInput) { in.VpcId = aws.String("vpc-2") }},
		"a TCP check":         {"InvalidConfigurationRequest", func(in *api.CreateTargetGroupInput) { in.HealthCheckProtocol = types.ProtocolEnumTcp }},
		"a slow check":        {"ValidationError", func(in *api.CreateTargetGroupInput) { in.HealthCheckTimeoutSeconds = aws.Int32(31) }},
		"a wrong path":        {"ValidationError", func(in *api.CreateTargetGroupInput) { in.HealthCheckPath = aws.String("x") }},
		"a wrong matcher":     {"ValidationError", func(in *api.CreateTargetGroupInput) { in.Matcher = &types.Matcher{HttpCode: aws.String("ok")} }},
		"a wrong check port":  {"ValidationError", func(in *api.CreateTargetGroupInput) { in.HealthCheckPort = aws.String("70000") }},
		"a wrong version":     {"ValidationError", func(in *api.CreateTargetGroupInput) { in.ProtocolVersion = aws.String("HTTP9") }},
	} {
		_, err := r.CreateTargetGroup(r.ctx, with(c.change))
		refused(t, what, err, c.code)
	}
	if _, err := r.ModifyTargetGroup(r.ctx, &api.ModifyTargetGroupInput{TargetGroupArn: arn, HealthCheckPath: aws.String("/up"), HealthCheckPort: aws.String("81"), Matcher: &types.Matcher{HttpCode: aws.String("200-299,304")}}); err != nil {
		t.Fatal(err)
	}
	if check := r.Table(testAccount).TargetGroups[0].HealthCheck; check.Path != "/up" || check.Port != 81 || check.Matcher != "200-299,304" || check.IntervalSeconds != 30 {
		t.Errorf("served %+v", check)
	}
	b := r.balancer("web")
	r.listen(b.LoadBalancerArn, 80, forward(arn))
	_, err = r.DeleteTargetGroup(r.ctx, &api.DeleteTargetGroupInput{TargetGroupArn: arn})
	refused(t, "one that is in use", err, "ResourceInUse")
	if out, err = r.DescribeTargetGroups(r.ctx, &api.DescribeTargetGroupsInput{LoadBalancerArn: b.LoadBalancerArn}); err != nil || len(out.TargetGroups) != 1 || out.TargetGroups[0].LoadBalancerArns[0] != *b.LoadBalancerArn {
		t.Error(out, err)
	}
}

func TestListenersAndRules(t *testing.T) {
	r := newRoom(t)
	b, other := r.balancer("web"), r.balancer("other")
	one, two := r.target("one", ""), r.target("two", "")
	l := r.listen(b.LoadBalancerArn, 80, forward(one))
	create := func(lb *string, port int32, protocol types.ProtocolEnum, actions []types.Action) error {
		_, err := r.CreateListener(r.ctx, &api.CreateListenerInput{LoadBalancerArn: lb, Port: &port, Protocol: protocol, DefaultActions: actions})
		return err
	}
	http := types.ProtocolEnumHttp
	refused(t, "a second on the port", create(b.LoadBalancerArn, 80, http, forward(one)), "DuplicateListener")
	refused(t, "another's target group", create(other.LoadBalancerArn, 80, http, forward(one)), "TargetGroupAssociationLimit")
	refused(t, "TCP", create(b.LoadBalancerArn, 81, types.ProtocolEnumTcp, forward(one)), "UnsupportedProtocol")
	refused(t, "HTTPS without a certificate", create(b.LoadBalancerArn, 81, types.ProtocolEnumHttps, forward(one)), "ValidationError")
	refused(t, "no target group", create(b.LoadBalancerArn, 81, http, forward(aws.String(*one+"0"))), "TargetGroupNotFound")
	refused(t, "two actions", create(b.LoadBalancerArn, 81, http, slices.Concat(forward(one), forward(two))), "InvalidLoadBalancerAction")
	refused(t, "a login", create(b.LoadBalancerArn, 81, http, []types.Action{{Type: types.ActionTypeEnumAuthenticateOidc}}), "InvalidLoadBalancerAction")
	refused(t, "a loop", create(b.LoadBalancerArn, 81, http, []types.Action{{Type: types.ActionTypeEnumRedirect, RedirectConfig: &types.RedirectActionConfig{StatusCode: types.RedirectActionStatusCodeEnumHttp301}}}), "InvalidLoadBalancerAction")

	rule := func(priority int32, conditions []types.RuleCondition, actions []types.Action) (types.Rule, error) {
		out, err := r.CreateRule(r.ctx, &api.CreateRuleInput{ListenerArn: l, Priority: &priority, Conditions: conditions, Actions: actions})
		if err != nil {
			return types.Rule{}, err
		}
		return out.Rules[0], nil
	}
	later, err := rule(20, path("/b*"), forward(one, two))
	if err != nil {
		t.Fatal(err)
	}
	first, err := rule(10, []types.RuleCondition{
		{Field: aws.String("host-header"), HostHeaderConfig: &types.HostHeaderConditionConfig{Values: []string{"*.example"}}},
		{Field: aws.String("http-header"), HttpHeaderConfig: &types.HttpHeaderConditionConfig{HttpHeaderName: aws.String("X-A"), Values: []string{"1"}}},
		{Field: aws.String("query-string"), QueryStringConfig: &types.QueryStringConditionConfig{Values: []types.QueryStringKeyValuePair{{Key: aws.String("k"), Value: aws.String("v")}}}},
	}, []types.Action{{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: aws.String("503"), MessageBody: aws.String("closed")}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rule(10, path("/c"), forward(one))
	refused(t, "a priority that is taken", err, "PriorityInUse")
	_, err = rule(50001, path("/c"), forward(one))
	refused(t, "a wrong priority", err, "ValidationError")
	_, err = rule(30, nil, forward(one))
	refused(t, "no condition", err, "ValidationError")
	_, err = rule(30, []types.RuleCondition{{Field: aws.String("cookie"), Values: []string{"x"}}}, forward(one))
	refused(t, "an unknown condition", err, "ValidationError")
	_, err = rule(30, []types.RuleCondition{{Field: aws.String("source-ip"), SourceIpConfig: &types.SourceIpConditionConfig{Values: []string{"10.0.0.1"}}}}, forward(one))
	refused(t, "no CIDR block", err, "ValidationError")

	table := r.Table(testAccount)
	served := table.LoadBalancers
	i := slices.IndexFunc(served, func(x balance.LoadBalancer) bool { return x.ID == *b.LoadBalancerArn })
	rules := served[i].Listeners[0].Rules
	if err := table.Validate(); err != nil {
		t.Errorf("the data plane refuses the table: %v", err)
	}
	if len(rules) != 2 || rules[0].Priority != 10 || len(rules[0].Conditions) != 3 || rules[0].Conditions[1].HeaderName != "X-A" || rules[0].Conditions[2].Query[0].Value != "v" ||
		rules[0].Actions[0].FixedResponse.StatusCode != 503 || len(rules[1].Actions[0].Forward.Groups) != 2 {
		t.Errorf("served rules %+v", rules)
	}
	shown, err := r.DescribeRules(r.ctx, &api.DescribeRulesInput{ListenerArn: l})
	if err != nil || len(shown.Rules) != 3 || *shown.Rules[0].Priority != "10" || *shown.Rules[2].Priority != "default" || !*shown.Rules[2].IsDefault {
		t.Fatal(shown, err)
	}
	if set, err := r.SetRulePriorities(r.ctx, &api.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: later.RuleArn, Priority: aws.Int32(5)}}}); err != nil || *set.Rules[0].Priority != "5" {
		t.Error(set, err)
	}
	_, err = r.SetRulePriorities(r.ctx, &api.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: later.RuleArn, Priority: aws.Int32(10)}}})
	refused(t, "the other's priority", err, "PriorityInUse")
	_, err = r.DeleteRule(r.ctx, &api.DeleteRuleInput{RuleArn: shown.Rules[2].RuleArn})
	refused(t, "the default rule", err, "OperationNotPermitted")
	if _, err := r.DeleteRule(r.ctx, &api.DeleteRuleInput{RuleArn: first.RuleArn}); err != nil {
		t.Error(err)
	}
	if _, err := r.DeleteListener(r.ctx, &api.DeleteListenerInput{ListenerArn: l}); err != nil {
		t.Error(err)
	}
	_, err = r.DescribeRules(r.ctx, &api.DescribeRulesInput{RuleArns: []string{*later.RuleArn}})
	refused(t, "a rule of a listener that is gone", err, "RuleNotFound")
}

// A listener over TLS presents its certificates, the default one first.
func TestCertificatesOfListeners(t *testing.T) {
	r := newRoom(t)
	b, g := r.balancer("web"), r.target("web", "")
	https := func(port int32, policy *string, arns ...string) (*string, error) {
		in := &api.CreateListenerInput{LoadBalancerArn: b.LoadBalancerArn, Port: &port, Protocol: types.ProtocolEnumHttps, DefaultActions: forward(g), SslPolicy: policy}
		for _, arn := range arns {
			in.Certificates = append(in.Certificates, types.Certificate{CertificateArn: &arn})
		}
		out, err := r.CreateListener(r.ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Listeners[0].ListenerArn, nil
	}
	l, err := https(443, nil, certA)
	if err != nil {
		t.Fatal(err)
	}
	_, err = https(444, nil, certA, certB)
	refused(t, "two certificates", err, "ValidationError")
	_, err = https(444, nil, certA+"x")
	refused(t, "no certificate", err, "CertificateNotFound")
	_, err = https(444, nil, strings.Replace(certA, testAccount, "210987654321", 1))
	refused(t, "another account's", err, "CertificateNotFound")
	_, err = https(444, aws.String("ELBSecurityPolicy-TLS-1-0-2015-04"), certA)
	refused(t, "another policy", err, "SSLPolicyNotFound")
	second := []types.Certificate{{CertificateArn: aws.String(certB)}}
	if out, err := r.AddListenerCertificates(r.ctx, &api.AddListenerCertificatesInput{ListenerArn: l, Certificates: second}); err != nil || len(out.Certificates) != 2 || !*out.Certificates[0].IsDefault {
		t.Error(out, err)
	}
	if served := r.Table(testAccount).LoadBalancers[0].Listeners[0].Certificates; len(served) != 2 || served[1].KeyPEM != "key of "+certB {
		t.Errorf("served are %+v", served)
	}
	if user := r.CertificateUser(certB); user != *b.LoadBalancerArn {
		t.Errorf("it is used by %q", user)
	}
	_, err = r.RemoveListenerCertificates(r.ctx, &api.RemoveListenerCertificatesInput{ListenerArn: l, Certificates: []types.Certificate{{CertificateArn: aws.String(certA)}}})
	refused(t, "the default one", err, "OperationNotPermitted")
	if out, err := r.ModifyListener(r.ctx, &api.ModifyListenerInput{ListenerArn: l, Certificates: second}); err != nil || *out.Listeners[0].Certificates[0].CertificateArn != certB || *out.Listeners[0].SslPolicy != tlsPolicy {
		t.Error(out, err)
	}
	if user := r.CertificateUser(certA); user != "" {
		t.Errorf("the one that was replaced is used by %q", user)
	}
}

// A target is unused, initial, what the data plane says, draining, and gone: when its
// delay is over, or nothing of it is left.
func TestTargetsLive(t *testing.T) {
	r := newRoom(t)
	b, g := r.balancer("web"), r.target("web", "")
	register := func(id string, port int32) error {
		_, err := r.RegisterTargets(r.ctx, &api.RegisterTargetsInput{TargetGroupArn: g, Targets: []types.TargetDescription{{Id: &id, Port: &port}}})
		return err
	}
	refused(t, "no instance", register("i-2", 1), "InvalidTarget")
	if err := errors.Join(register("i-1", 8001), register("i-1", 8002), register("i-1", 8001)); err != nil {
		t.Fatal(err)
	}
	r.wantStates(g, "i-1:8001 unused Target.NotInUse", "i-1:8002 unused Target.NotInUse")
	r.listen(b.LoadBalancerArn, 80, forward(g))
	r.wantStates(g, "i-1:8001 initial Elb.RegistrationInProgress", "i-1:8002 initial Elb.RegistrationInProgress")
	var told atomic.Int64
	r.WatchGroups(func(account, region, group string) {
		if account == testAccount && region == testRegion && group == *g {
			told.Add(1)
		}
	})
	say := func(first, second string, inFlight int) {
		r.SetHealth(testAccount, Plane{Node: "n1"}, []Report{
			{Group: *g, ID: "i-1", Port: 8001, State: State{State: first}, InFlight: inFlight}, {Group: *g, ID: "i-1", Port: 8002, State: State{second, "Target.Timeout", "Request timed out"}},
		})
	}
	say("healthy", "unhealthy", 1)
	r.wantStates(g, "i-1:8001 healthy", "i-1:8002 unhealthy Target.Timeout")
	if n := told.Load(); n != 1 {
		t.Errorf("it was told %d times of one change", n)
	}
	r.SetHealth("210987654321", Plane{Node: "n9"}, []Report{{Group: *g, ID: "i-1", Port: 8002, State: State{State: "healthy"}}})
	r.wantStates(g, "i-1:8001 healthy", "i-1:8002 unhealthy Target.Timeout")

	deregister := func(port *int32) {
		if _, err := r.DeregisterTargets(r.ctx, &api.DeregisterTargetsInput{TargetGroupArn: g, Targets: []types.TargetDescription{{Id: aws.String("i-1"), Port: port}}}); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func() {
		if err := r.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	r.advance(staleAfter)
	deregister(aws.Int32(8001))
	sweep()
	r.wantStates(g, "i-1:8001 draining Target.DeregistrationInProgress", "i-1:8002 unhealthy Target.Timeout")
	if served := r.Table(testAccount).TargetGroups[0].Targets; !served[0].Draining || served[1].Draining || served[0].IP != "10.0.0.1" {
		t.Errorf("served %+v", served)
	}
	r.advance(time.Second)
	say("draining", "unhealthy", 1)
	sweep()
	r.wantStates(g, "i-1:8001 draining Target.DeregistrationInProgress", "i-1:8002 unhealthy Target.Timeout")
	r.advance(time.Second)
	say("draining", "unhealthy", 0)
	sweep()
	r.wantStates(g, "i-1:8002 unhealthy Target.Timeout")
	// A data plane that is heard of no more holds nothing up beyond the delay.
	deregister(nil)
	r.advance(299 * time.Second)
	sweep()
	r.wantStates(g, "i-1:8002 draining Target.DeregistrationInProgress")
	r.advance(time.Second)
	sweep()
	r.wantStates(g)
}

// While one process of a node's data plane takes over from another, a target is drained only
// when neither has requests of it; and one that was killed is not awaited.
func TestTargetDrainsInBothProcesses(t *testing.T) {
	r := newRoom(t)
	b, g := r.balancer("web"), r.target("web", "")
	r.listen(b.LoadBalancerArn, 80, forward(g))
	place := []types.TargetDescription{{Id: aws.String("i-1"), Port: aws.Int32(8001)}}
	say := func(from Plane, state string, inFlight int) {
		t.Helper()
		r.SetHealth(testAccount, from, []Report{{Group: *g, ID: "i-1", Port: 8001, State: State{State: state}, InFlight: inFlight}})
		if err := r.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	const drains = "i-1:8001 draining Target.DeregistrationInProgress"
	first, second := Plane{Node: "n1", Process: "1"}, Plane{Node: "n1", Process: "2"}
	begin := func() {
		t.Helper()
		if _, err := r.RegisterTargets(r.ctx, &api.RegisterTargetsInput{TargetGroupArn: g, Targets: place}); err != nil {
			t.Fatal(err)
		}
		say(first, "healthy", 1)
		if _, err := r.DeregisterTargets(r.ctx, &api.DeregisterTargetsInput{TargetGroupArn: g, Targets: place}); err != nil {
			t.Fatal(err)
		}
		r.advance(time.Second)
	}
	// A server that has just started does not know yet who has requests.
	begin()
	say(second, "draining", 0)
	r.wantStates(g, drains)

	r.advance(staleAfter)
	say(first, "healthy", 1)
	say(second, "draining", 0)
	r.wantStates(g, drains)
	say(first, "draining", 1)
	r.wantStates(g, drains)
	ends := first
	ends.Ends = true
	r.SetHealth(testAccount, ends, nil)
	say(second, "draining", 0)
	r.wantStates(g)

	begin()
	say(second, "draining", 0)
	r.wantStates(g, drains)
	say(Plane{Node: "n1", Process: "3", Alone: true}, "draining", 0)
	r.wantStates(g)

	for i := range 10 * maxPlanes {
		say(Plane{Node: "n1", Process: fmt.Sprint("many", i)}, "healthy", 0)
	}
	if n := len(r.health); n > maxPlanes {
		t.Errorf("%d processes of a node are kept", n)
	}
}

func TestTargetsByAddress(t *testing.T) {
	r := newRoom(t)
	g := r.target("web", types.TargetTypeEnumIp)
	register := func(id string) error {
		_, err := r.RegisterTargets(r.ctx, &api.RegisterTargetsInput{TargetGroupArn: g, Targets: []types.TargetDescription{{Id: &id}}})
		return err
	}
	if err := register("172.31.0.9"); err != nil {
		t.Fatal(err)
	}
	r.wantStates(g, "172.31.0.9:80 unused Target.NotInUse")
	for _, id := range []string{"8.8.8.8", "i-1", "::1", ""} {
		refused(t, id, register(id), "InvalidTarget")
	}
}

func TestTags(t *testing.T) {
	r := newRoom(t)
	b := r.balancer("web")
	g := r.target("web", "")
	l := r.listen(b.LoadBalancerArn, 80, forward(g))
	all := []string{*b.LoadBalancerArn, *g, *l}
	if _, err := r.AddTags(r.ctx, &api.AddTagsInput{ResourceArns: all, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}, {Key: aws.String("l")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveTags(r.ctx, &api.RemoveTagsInput{ResourceArns: all, TagKeys: []string{"l"}}); err != nil {
		t.Fatal(err)
	}
	out, err := r.DescribeTags(r.ctx, &api.DescribeTagsInput{ResourceArns: all})
	if err != nil || len(out.TagDescriptions) != 3 {
		t.Fatal(out, err)
	}
	for _, d := range out.TagDescriptions {
		if len(d.Tags) != 1 || *d.Tags[0].Key != "k" || *d.Tags[0].Value != "v" {
			t.Errorf("%s has %v", *d.ResourceArn, d.Tags)
		}
	}
	if c := r.resourceConditions(r.ctx, *g); c["aws:ResourceTag/k"][0] != "v" {
		t.Errorf("policies see %v", c)
	}
	_, err = r.AddTags(r.ctx, &api.AddTagsInput{ResourceArns: []string{*g}, Tags: []types.Tag{{Key: aws.String("a")}, {Key: aws.String("a")}}})
	refused(t, "a key twice", err, "DuplicateTagKeys")
	_, err = r.DescribeTags(r.ctx, &api.DescribeTagsInput{ResourceArns: []string{*g + "0"}})
	refused(t, "no resource", err, "TargetGroupNotFound")
}
