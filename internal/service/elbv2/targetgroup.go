package elbv2

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strconv"
	"strings"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

const maxGroups = 3000

func (g *targetGroup) arn(sc store.Scope) string { return arnOf(sc, kindGroup, g.Path) }

func (g *targetGroup) layer4() bool {
	return g.Group.Protocol == types.ProtocolEnumTcp || g.Group.Protocol == types.ProtocolEnumTls
}

// CreateTargetGroup makes a target group. One that is there with the same settings is
// returned.
func (s *Service) CreateTargetGroup(ctx context.Context, in *api.CreateTargetGroupInput) (*api.CreateTargetGroupOutput, error) {
	sc, id := scopeOf(ctx), derive(s.deps.NewID(), "target group", 16)
	g, err := s.wantedGroup(sc, in)
	if err != nil {
		return nil, err
	}
	g.Path = deref(in.Name) + "/" + id
	g.Group.TargetGroupArn = pointer(g.arn(sc))
	made := g
	var shown types.TargetGroup
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		count := 0
		made = g
		for _, old := range s.groupsOf.List(tx, sc) {
			if count++; deref(old.Group.TargetGroupName) != deref(in.Name) {
				continue
			}
			same := g.Group
			same.TargetGroupArn = old.Group.TargetGroupArn
			if !reflect.DeepEqual(same, old.Group) {
				return fail("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", deref(in.Name))
			}
			made = old
		}
		if count >= maxGroups {
			return fail("TooManyTargetGroups", "The maximum number of target groups has been reached: %d.", maxGroups)
		}
		if made == g {
			s.groupsOf.Put(tx, sc, g.Path, g)
		}
		shown = s.groupView(tx, sc, made)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateTargetGroupOutput{TargetGroups: []types.TargetGroup{shown}}, nil
}

func (s *Service) wantedGroup(sc store.Scope, in *api.CreateTargetGroupInput) (*targetGroup, error) {
	if err := checkName(deref(in.Name)); err != nil {
		return nil, err
	}
	v := types.TargetGroup{
		TargetGroupName: in.Name, Protocol: in.Protocol, Port: in.Port, VpcId: in.VpcId, TargetType: cmp.Or(in.TargetType, types.TargetTypeEnumInstance),
		IpAddressType: types.TargetGroupIpAddressTypeEnumIpv4, HealthCheckEnabled: pointer(true),
	}
	switch {
	case v.TargetType != types.TargetTypeEnumInstance && v.TargetType != types.TargetTypeEnumIp:
		return nil, fail("InvalidConfigurationRequest", "Targets of type %s are not supported: use instance or ip.", v.TargetType)
	case in.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv6:
		return nil, fail("InvalidConfigurationRequest", "IPv6 targets are not supported: use ipv4.")
	case !slices.Contains([]types.ProtocolEnum{types.ProtocolEnumHttp, types.ProtocolEnumHttps, types.ProtocolEnumTcp, types.ProtocolEnumTls}, v.Protocol):
		return nil, fail("InvalidConfigurationRequest", "The protocol '%s' of a target group is not supported: use HTTP, HTTPS, TCP or TLS.", v.Protocol)
	case v.Port == nil:
		return nil, fail("ValidationError", "A port must be specified")
	case v.VpcId == nil:
		return nil, fail("ValidationError", "A VPC ID must be specified")
	case in.HealthCheckEnabled != nil && !*in.HealthCheckEnabled:
		return nil, fail("InvalidConfigurationRequest", "Health checks must be enabled for target groups with target type '%s'", v.TargetType)
	}
	if !slices.ContainsFunc(s.deps.Network.Subnets(sc.Account, sc.Region), func(n Subnet) bool { return n.VPC == *v.VpcId }) {
		return nil, fail("ValidationError", "The VPC ID '%.60s' is not found", *v.VpcId)
	}
	g := &targetGroup{}
	if !layer4(v.Protocol) {
		v.ProtocolVersion = pointer(cmp.Or(strings.ToUpper(deref(in.ProtocolVersion)), "HTTP1"))
		if !slices.Contains([]string{"HTTP1", "HTTP2", "GRPC"}, *v.ProtocolVersion) {
			return nil, fail("ValidationError", "The protocol version '%.20s' must be one of HTTP1, HTTP2, GRPC", *v.ProtocolVersion)
		}
	} else if in.ProtocolVersion != nil {
		return nil, fail("InvalidConfigurationRequest", "A protocol version cannot be specified for the protocol %s", v.Protocol)
	}
	g.Group = v
	err := g.check(healthSettings{
		in.HealthCheckProtocol, in.HealthCheckPort, in.HealthCheckPath, in.HealthCheckIntervalSeconds, in.HealthCheckTimeoutSeconds,
		in.HealthyThresholdCount, in.UnhealthyThresholdCount, in.Matcher,
	})
	if err != nil {
		return nil, err
	}
	g.Tags, err = tagged(nil, in.Tags)
	return g, err
}

func layer4(p types.ProtocolEnum) bool {
	return p == types.ProtocolEnumTcp || p == types.ProtocolEnumTls
}

// healthSettings are the members of CreateTargetGroup and ModifyTargetGroup about the
// health check.
type healthSettings struct {
	protocol                              types.ProtocolEnum
	port, path                            *string
	interval, timeout, healthy, unhealthy *int32
	matcher                               *types.Matcher
}

func (g *targetGroup) grpc() bool { return deref(g.Group.ProtocolVersion) == "GRPC" }

// check sets the health check: what is given, else what there is, else AWS's default.
func (g *targetGroup) check(h healthSettings) error {
	v := &g.Group
	first := func(given, had *int32, byDefault int32) *int32 {
		return cmp.Or(given, had, &byDefault)
	}
	checks := cmp.Or(h.protocol, v.HealthCheckProtocol)
	if checks == "" {
		if checks = types.ProtocolEnumHttp; g.layer4() {
			checks = types.ProtocolEnumTcp
		}
	}
	if !slices.Contains([]types.ProtocolEnum{types.ProtocolEnumHttp, types.ProtocolEnumHttps, types.ProtocolEnumTcp}, checks) || checks == types.ProtocolEnumTcp && !g.layer4() {
		return fail("InvalidConfigurationRequest", "Health check protocol '%s' is not supported for target groups of protocol %s", checks, v.Protocol)
	}
	http := checks != types.ProtocolEnumTcp
	timeout := int32(5)
	if g.layer4() {
		if timeout = 10; http {
			timeout = 6
		}
	}
	v.HealthCheckProtocol, v.HealthCheckPort = checks, cmp.Or(h.port, v.HealthCheckPort, pointer("traffic-port"))
	v.HealthCheckIntervalSeconds, v.HealthCheckTimeoutSeconds = first(h.interval, v.HealthCheckIntervalSeconds, 30), first(h.timeout, v.HealthCheckTimeoutSeconds, timeout)
	v.HealthyThresholdCount, v.UnhealthyThresholdCount = first(h.healthy, v.HealthyThresholdCount, 5), first(h.unhealthy, v.UnhealthyThresholdCount, 2)
	path, matcher := "/", &types.Matcher{HttpCode: pointer("200")}
	switch {
	case g.grpc():
		path, matcher = "/AWS.ALB/healthcheck", &types.Matcher{GrpcCode: pointer("12")}
	case g.layer4():
		matcher = &types.Matcher{HttpCode: pointer("200-399")}
	}
	if v.HealthCheckPath, v.Matcher = cmp.Or(h.path, v.HealthCheckPath, &path), cmp.Or(h.matcher, v.Matcher, matcher); !http {
		v.HealthCheckPath, v.Matcher = nil, nil
	}
	return g.checkHealth()
}

var codesRE = `^[0-9]{1,3}([-,][0-9]{1,3})*$`

func (g *targetGroup) checkHealth() error {
	v := &g.Group
	if p := *v.HealthCheckPort; p != "traffic-port" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return fail("ValidationError", "Health check port '%.20s' must be a value between 1 and 65535, or 'traffic-port'", p)
		}
	}
	for _, c := range []struct {
		what        string
		value       int32
		least, most int32
	}{
		{"Health check interval", *v.HealthCheckIntervalSeconds, 5, 300}, {"Health check timeout", *v.HealthCheckTimeoutSeconds, 2, 120},
		{"Healthy threshold count", *v.HealthyThresholdCount, 2, 10}, {"Unhealthy threshold count", *v.UnhealthyThresholdCount, 2, 10},
	} {
		if c.value < c.least || c.value > c.most {
			return fail("ValidationError", "%s '%d' must be between %d and %d", c.what, c.value, c.least, c.most)
		}
	}
	if *v.HealthCheckTimeoutSeconds > *v.HealthCheckIntervalSeconds {
		return fail("ValidationError", "Health check timeout '%d' must be smaller than or equal to the interval '%d'", *v.HealthCheckTimeoutSeconds, *v.HealthCheckIntervalSeconds)
	}
	if v.HealthCheckPath != nil && (!strings.HasPrefix(*v.HealthCheckPath, "/") || len(*v.HealthCheckPath) > 1024) {
		return fail("ValidationError", "Health check path '%.80s' must begin with '/', and have at most 1024 characters", *v.HealthCheckPath)
	}
	if m := v.Matcher; m != nil {
		codes := cmp.Or(deref(m.HttpCode), deref(m.GrpcCode))
		if (m.GrpcCode != nil) != g.grpc() || !matched(codesRE, codes) {
			return fail("ValidationError", "Health check matcher '%.80s' is not valid for this target group", codes)
		}
	}
	return nil
}

// groupView is a target group as the API shows it.
func (s *Service) groupView(r store.Reader, sc store.Scope, g *targetGroup) types.TargetGroup {
	v := g.Group
	v.LoadBalancerArns = s.balancersOf(r, sc, g.arn(sc))
	return v
}

// balancersOf are the load balancers that forward to a group.
func (s *Service) balancersOf(r store.Reader, sc store.Scope, group string) []string {
	arns := []string{}
	add := func(balancer string) {
		if arn := arnOf(sc, kindBalancer, balancer); !slices.Contains(arns, arn) {
			arns = append(arns, arn)
		}
	}
	for _, l := range s.listeners.List(r, sc) {
		if slices.Contains(groupsIn(l.Actions), group) {
			add(l.Balancer)
		}
	}
	for _, x := range s.rules.List(r, sc) {
		if slices.Contains(groupsIn(x.Actions), group) {
			add(x.Listener[:strings.LastIndexByte(x.Listener, '/')])
		}
	}
	slices.Sort(arns)
	return arns
}

// groupsIn are the target groups that actions forward to.
func groupsIn(actions []types.Action) (arns []string) {
	for i := range actions {
		if f := actions[i].ForwardConfig; f != nil {
			for _, g := range f.TargetGroups {
				arns = append(arns, deref(g.TargetGroupArn))
			}
		}
	}
	return arns
}

// group finds a target group by its ARN.
func (s *Service) group(r store.Reader, sc store.Scope, arn string) (*targetGroup, error) {
	if g, ok := s.groupsOf.Get(r, sc, pathOf(sc, kindGroup, arn)); ok {
		return g, nil
	}
	return nil, fail("TargetGroupNotFound", "Target groups '%.300s' not found", arn)
}

// DescribeTargetGroups describes those that are named, those of a load balancer, or all.
func (s *Service) DescribeTargetGroups(ctx context.Context, in *api.DescribeTargetGroupsInput) (*api.DescribeTargetGroupsOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	out := &api.DescribeTargetGroupsOutput{TargetGroups: []types.TargetGroup{}}
	for _, arn := range in.TargetGroupArns {
		g, err := s.group(snap, sc, arn)
		if err != nil {
			return nil, err
		}
		out.TargetGroups = append(out.TargetGroups, s.groupView(snap, sc, g))
	}
	if in.LoadBalancerArn != nil {
		if _, err := s.balancer(snap, sc, *in.LoadBalancerArn); err != nil {
			return nil, err
		}
	}
	for _, name := range in.Names {
		if !s.hasGroup(snap, sc, name) {
			return nil, fail("TargetGroupNotFound", "One or more target groups not found")
		}
	}
	if len(in.TargetGroupArns) > 0 {
		return out, nil
	}
	list, marker, err := page(func(yield func(string, types.TargetGroup) bool) {
		for key, g := range s.groupsOf.List(snap, sc) {
			v := s.groupView(snap, sc, g)
			if in.LoadBalancerArn != nil && !slices.Contains(v.LoadBalancerArns, *in.LoadBalancerArn) || len(in.Names) > 0 && !slices.Contains(in.Names, *v.TargetGroupName) {
				continue
			}
			if !yield(key, v) {
				return
			}
		}
	}, in.Marker, in.PageSize)
	out.TargetGroups, out.NextMarker = append(out.TargetGroups, list...), marker
	return out, err
}

func (s *Service) hasGroup(r store.Reader, sc store.Scope, name string) bool {
	for _, g := range s.groupsOf.ListPrefix(r, sc, name+"/") {
		if deref(g.Group.TargetGroupName) == name {
			return true
		}
	}
	return false
}

// changeGroup changes a target group's record.
func (s *Service) changeGroup(ctx context.Context, arn string, change func(*targetGroup) error) (changed *targetGroup, err error) {
	sc := scopeOf(ctx)
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		old, err := s.group(tx, sc, arn)
		if err != nil {
			return err
		}
		changed = s.groupsOf.Clone(old)
		if err := change(changed); err != nil {
			return err
		}
		s.groupsOf.Put(tx, sc, changed.Path, changed)
		return nil
	})
	return changed, err
}

// ModifyTargetGroup changes the health check.
func (s *Service) ModifyTargetGroup(ctx context.Context, in *api.ModifyTargetGroupInput) (*api.ModifyTargetGroupOutput, error) {
	g, err := s.changeGroup(ctx, deref(in.TargetGroupArn), func(g *targetGroup) error {
		if in.HealthCheckEnabled != nil && !*in.HealthCheckEnabled {
			return fail("InvalidConfigurationRequest", "Health checks must be enabled for target groups with target type '%s'", g.Group.TargetType)
		}
		return g.check(healthSettings{
			in.HealthCheckProtocol, in.HealthCheckPort, in.HealthCheckPath, in.HealthCheckIntervalSeconds, in.HealthCheckTimeoutSeconds,
			in.HealthyThresholdCount, in.UnhealthyThresholdCount, in.Matcher,
		})
	})
	if err != nil {
		return nil, err
	}
	return &api.ModifyTargetGroupOutput{TargetGroups: []types.TargetGroup{s.groupView(s.db.Snapshot(), scopeOf(ctx), g)}}, nil
}

// DeleteTargetGroup removes a target group that no listener forwards to. One that is not
// there is no error.
func (s *Service) DeleteTargetGroup(ctx context.Context, in *api.DeleteTargetGroupInput) (*api.DeleteTargetGroupOutput, error) {
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		g, ok := s.groupsOf.Get(tx, sc, pathOf(sc, kindGroup, deref(in.TargetGroupArn)))
		if !ok {
			return nil
		}
		if len(s.balancersOf(tx, sc, g.arn(sc))) > 0 {
			return fail("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", g.arn(sc))
		}
		for key := range s.targets.ListPrefix(tx, sc, g.Path+"/") {
			s.targets.Delete(tx, sc, key)
		}
		s.groupsOf.Delete(tx, sc, g.Path)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteTargetGroupOutput{}, nil
}
