package elbv2

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/edge/balance"
	"longshore.dev/longshore/internal/store"
)

// watch has those told that subscribe, when what is served or a target may have changed.
func (s *Service) watch() {
	s.balancers.Subscribe(func(store.Change[loadBalancer]) { s.changed() })
	s.listeners.Subscribe(func(store.Change[listener]) { s.changed() })
	s.rules.Subscribe(func(store.Change[rule]) { s.changed() })
	s.groupsOf.Subscribe(func(store.Change[targetGroup]) { s.changed() })
	s.targets.Subscribe(func(c store.Change[target]) {
		s.changed()
		s.tell(arnOf(c.Scope, kindGroup, cmp.Or(c.New, c.Old).Group))
	})
}

func (s *Service) changed() {
	s.mu.Lock()
	notify := s.notify
	s.mu.Unlock()
	for _, fn := range notify {
		fn()
	}
}

// Subscribe has notify called when Table may have changed. It must not block.
func (s *Service) Subscribe(notify func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = append(slices.Clip(s.notify), notify)
}

// WatchGroups has notify called when the state of a group's targets may have changed. It
// must not block.
func (s *Service) WatchGroups(notify func(account, region, group string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = append(slices.Clip(s.groups), notify)
}

// Group is what others need of a target group.
type Group struct {
	Type          string // instance or ip
	LoadBalancers []string
}

// Group describes a target group; ok is false if there is none.
func (s *Service) Group(account, region, arn string) (Group, bool) {
	sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
	g, err := s.group(snap, sc, arn)
	if err != nil {
		return Group{}, false
	}
	return Group{string(g.Group.TargetType), s.balancersOf(snap, sc, arn)}, true
}

// Register registers one target, for a service.
func (s *Service) RegisterTarget(ctx context.Context, account, region, group, id string, port int32) error {
	return s.register(ctx, store.Scope{Account: account, Region: region}, group, []types.TargetDescription{{Id: &id, Port: &port}})
}

// DeregisterTarget lets one target drain, for a service. Where there is no group any more,
// there is nothing to do.
func (s *Service) DeregisterTarget(ctx context.Context, account, region, group, id string, port int32) error {
	sc := store.Scope{Account: account, Region: region}
	if _, err := s.group(s.db.Snapshot(), sc, group); err != nil {
		return nil
	}
	return s.deregister(ctx, sc, group, []types.TargetDescription{{Id: &id, Port: &port}})
}

// TargetState is a target's state, the zero value for one that is not registered.
func (s *Service) TargetState(account, region, group, id string, port int32) State {
	sc, snap := store.Scope{Account: account, Region: region}, s.db.Snapshot()
	g, err := s.group(snap, sc, group)
	if err != nil {
		return State{}
	}
	x := target{Group: g.Path, ID: id, Port: port}
	there, ok := s.targets.Get(snap, sc, x.key())
	if !ok {
		return State{}
	}
	return s.stateOf(snap, sc, g, there)
}

// Table is what the data planes of an account's nodes serve, of all regions.
func (s *Service) Table(account string) balance.Table {
	snap := s.db.Snapshot()
	var t balance.Table
	for ref, b := range s.balancers.ListAll(snap) {
		if ref.Account != account {
			continue
		}
		t.LoadBalancers = append(t.LoadBalancers, s.balancerTable(snap, ref.Scope, b))
	}
	for ref, g := range s.groupsOf.ListAll(snap) {
		if ref.Account != account {
			continue
		}
		t.TargetGroups = append(t.TargetGroups, s.groupTable(snap, ref.Scope, g))
	}
	return t
}

func (s *Service) balancerTable(r store.Reader, sc store.Scope, b *loadBalancer) balance.LoadBalancer {
	out := balance.LoadBalancer{ID: b.arn(sc), Name: b.dnsName(sc), Address: b.Address}
	if b.application() {
		is := func(key string) bool { return b.attribute(key) == "true" }
		out.IdleTimeoutSeconds, _ = strconv.Atoi(b.attribute("idle_timeout.timeout_seconds"))
		out.ClientKeepAliveSeconds, _ = strconv.Atoi(b.attribute("client_keep_alive.seconds"))
		out.DesyncMode, out.ForwardedMode = b.attribute("routing.http.desync_mitigation_mode"), b.attribute("routing.http.xff_header_processing.mode")
		out.DropInvalidHeaders, out.PreserveHost = is("routing.http.drop_invalid_header_fields.enabled"), is("routing.http.preserve_host_header.enabled")
		out.TLSHeaders, out.ForwardedPort, out.NoHTTP2 = is("routing.http.x_amzn_tls_version_and_cipher_suite.enabled"), is("routing.http.xff_client_port.enabled"), !is("routing.http2.enabled")
	}
	for _, l := range s.listeners.ListPrefix(r, sc, b.Path+"/") {
		served := balance.Listener{ID: l.arn(sc), Address: b.Address, Port: int(l.Port), Protocol: string(l.Protocol), DefaultActions: actionsTable(l.Actions), Certificates: s.certificateTable(l)}
		if overTLS(l.Protocol) && len(served.Certificates) == 0 {
			continue // it can present nothing
		}
		if v, ok := l.Attributes["tcp.idle_timeout.seconds"]; ok {
			served.TCPIdleTimeoutSeconds, _ = strconv.Atoi(v)
		}
		for _, x := range s.rulesOf(r, sc, l) {
			served.Rules = append(served.Rules, balance.Rule{ID: arnOf(sc, kindRule, x.Path), Priority: int(x.Priority), Conditions: conditionsTable(x.Conditions), Actions: actionsTable(x.Actions)})
		}
		out.Listeners = append(out.Listeners, served)
	}
	return out
}

func actionsTable(actions []types.Action) (out []balance.Action) {
	for i := range actions {
		a := &actions[i]
		served := balance.Action{Type: string(a.Type)}
		switch {
		case a.ForwardConfig != nil:
			f := &balance.Forward{}
			for _, g := range a.ForwardConfig.TargetGroups {
				f.Groups = append(f.Groups, balance.WeightedGroup{ID: deref(g.TargetGroupArn), Weight: int(deref(g.Weight))})
			}
			if st := a.ForwardConfig.TargetGroupStickinessConfig; st != nil && deref(st.Enabled) {
				f.StickySeconds = int(deref(st.DurationSeconds))
			}
			served.Forward = f
		case a.RedirectConfig != nil:
			c := a.RedirectConfig
			served.Redirect = &balance.Redirect{Protocol: deref(c.Protocol), Host: deref(c.Host), Port: deref(c.Port), Path: deref(c.Path), Query: c.Query, StatusCode: 302}
			if c.StatusCode == types.RedirectActionStatusCodeEnumHttp301 {
				served.Redirect.StatusCode = 301
			}
		case a.FixedResponseConfig != nil:
			c := a.FixedResponseConfig
			code, _ := strconv.Atoi(deref(c.StatusCode))
			served.FixedResponse = &balance.FixedResponse{StatusCode: code, ContentType: deref(c.ContentType), Body: deref(c.MessageBody)}
		}
		out = append(out, served)
	}
	return out
}

func conditionsTable(conditions []types.RuleCondition) (out []balance.Condition) {
	for i := range conditions {
		c := &conditions[i]
		served := balance.Condition{Field: deref(c.Field), Values: c.Values}
		switch {
		case c.HttpHeaderConfig != nil:
			served.HeaderName, served.Values = deref(c.HttpHeaderConfig.HttpHeaderName), c.HttpHeaderConfig.Values
		case c.HttpRequestMethodConfig != nil:
			served.Values = c.HttpRequestMethodConfig.Values
		case c.SourceIpConfig != nil:
			served.Values = c.SourceIpConfig.Values
		case c.QueryStringConfig != nil:
			for _, q := range c.QueryStringConfig.Values {
				served.Query = append(served.Query, balance.QueryPair{Key: deref(q.Key), Value: deref(q.Value)})
			}
		}
		out = append(out, served)
	}
	return out
}

func (s *Service) groupTable(r store.Reader, sc store.Scope, g *targetGroup) balance.TargetGroup {
	v := &g.Group
	delay := g.seconds("deregistration_delay.timeout_seconds")
	out := balance.TargetGroup{
		ID: g.arn(sc), Protocol: string(v.Protocol), ProtocolVersion: deref(v.ProtocolVersion), DeregistrationDelaySeconds: &delay,
		HealthCheck: balance.HealthCheck{
			Protocol: string(v.HealthCheckProtocol), Path: deref(v.HealthCheckPath), IntervalSeconds: int(deref(v.HealthCheckIntervalSeconds)),
			TimeoutSeconds: int(deref(v.HealthCheckTimeoutSeconds)), HealthyThreshold: int(deref(v.HealthyThresholdCount)), UnhealthyThreshold: int(deref(v.UnhealthyThresholdCount)),
		},
	}
	if m := v.Matcher; m != nil {
		out.HealthCheck.Matcher = cmp.Or(deref(m.GrpcCode), deref(m.HttpCode))
	}
	if p := deref(v.HealthCheckPort); p != "traffic-port" {
		out.HealthCheck.Port, _ = strconv.Atoi(p)
	}
	sticky := g.attribute("stickiness.enabled") == "true"
	if g.layer4() {
		out.StickySource, out.ProxyProtocol = sticky, g.attribute("proxy_protocol_v2.enabled") == "true"
		out.KeepConnections = g.attribute("deregistration_delay.connection_termination.enabled") == "false"
		out.KeepUnhealthyConnections = g.attribute("target_health_state.unhealthy.connection_termination.enabled") == "false"
	} else {
		out.SlowStartSeconds, out.Algorithm = g.seconds("slow_start.duration_seconds"), g.attribute("load_balancing.algorithm.type")
		switch kind := g.attribute("stickiness.type"); {
		case sticky && kind == "app_cookie":
			out.StickySeconds, out.StickyCookie = g.seconds("stickiness.app_cookie.duration_seconds"), g.attribute("stickiness.app_cookie.cookie_name")
		case sticky:
			out.StickySeconds = g.seconds("stickiness.lb_cookie.duration_seconds")
		}
	}
	for _, x := range s.targets.ListPrefix(r, sc, g.Path+"/") {
		t := balance.Target{ID: x.ID, IP: x.ID, Port: int(x.Port), Draining: !x.DrainingSince.IsZero()}
		if v.TargetType == types.TargetTypeEnumInstance {
			a, ok := s.deps.Network.Instance(sc.Account, sc.Region, x.ID)
			if !ok {
				continue // it is gone, with all that ran there
			}
			t.IP = a.String()
		}
		out.Targets = append(out.Targets, t)
	}
	slices.SortFunc(out.Targets, func(a, b balance.Target) int { return cmp.Or(strings.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port)) })
	return out
}
