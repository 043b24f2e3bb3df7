package elbv2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"longshore.dev/longshore/internal/store"
)

// AWS's limits of a target group, and of one call.
const (
	maxTargets       = 1000
	maxTargetsOfCall = 200
)

// place is a target as a call names it.
func (g *targetGroup) place(t types.TargetDescription) target {
	port := cmp.Or(deref(t.Port), deref(g.Group.Port))
	return target{Group: g.Path, ID: deref(t.Id), Port: port, Zone: deref(t.AvailabilityZone)}
}

// wantedTarget refuses a target that can't be reached.
func (s *Service) wantedTarget(sc store.Scope, g *targetGroup, t types.TargetDescription) (target, error) {
	x := g.place(t)
	if x.Port < 1 || x.Port > 65535 {
		return x, fail("ValidationError", "The port '%d' of a target must be between 1 and 65535", x.Port)
	}
	if g.Group.TargetType == types.TargetTypeEnumInstance {
		if _, ok := s.deps.Network.Instance(sc.Account, sc.Region, x.ID); !ok {
			return x, fail("InvalidTarget", "The following targets are not in a running state and cannot be registered: '%.60s'", x.ID)
		}
		return x, nil
	}
	a, err := netip.ParseAddr(x.ID)
	if err != nil || !a.Is4() || !a.IsPrivate() && !a.IsLoopback() && !netip.MustParsePrefix("100.64.0.0/10").Contains(a) {
		return x, fail("InvalidTarget", "The IP address '%.60s' is not a valid IPv4 address of a private network", x.ID)
	}
	x.ID = a.String()
	return x, nil
}

// RegisterTargets adds targets, or keeps those that drain.
func (s *Service) RegisterTargets(ctx context.Context, in *api.RegisterTargetsInput) (*api.RegisterTargetsOutput, error) {
	if err := s.register(ctx, scopeOf(ctx), deref(in.TargetGroupArn), in.Targets); err != nil {
		return nil, err
	}
	return &api.RegisterTargetsOutput{}, nil
}

func (s *Service) register(ctx context.Context, sc store.Scope, group string, targets []types.TargetDescription) error {
	if len(targets) == 0 || len(targets) > maxTargetsOfCall {
		return fail("ValidationError", "Between 1 and %d targets must be specified", maxTargetsOfCall)
	}
	now := s.deps.Now().UTC()
	return s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, group)
		if err != nil {
			return err
		}
		count := 0
		for range s.targets.ListPrefix(tx, sc, g.Path+"/") {
			count++
		}
		for _, t := range targets {
			x, err := s.wantedTarget(sc, g, t)
			if err != nil {
				return err
			}
			old, there := s.targets.Get(tx, sc, x.key())
			if there && old.DrainingSince.IsZero() {
				continue
			}
			if count++; count > maxTargets && !there {
				return fail("TooManyTargets", "The maximum number of targets for the target group '%s' has been reached: %d", group, maxTargets)
			}
			x.RegisteredAt = now
			s.targets.Put(tx, sc, x.key(), &x)
		}
		return nil
	})
}

// DeregisterTargets lets targets drain. One that is not registered is no error.
func (s *Service) DeregisterTargets(ctx context.Context, in *api.DeregisterTargetsInput) (*api.DeregisterTargetsOutput, error) {
	if err := s.deregister(ctx, scopeOf(ctx), deref(in.TargetGroupArn), in.Targets); err != nil {
		return nil, err
	}
	return &api.DeregisterTargetsOutput{}, nil
}

func (s *Service) deregister(ctx context.Context, sc store.Scope, group string, targets []types.TargetDescription) error {
	if len(targets) == 0 || len(targets) > maxTargetsOfCall {
		return fail("ValidationError", "Between 1 and %d targets must be specified", maxTargetsOfCall)
	}
	now := s.deps.Now().UTC()
	return s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, group)
		if err != nil {
			return err
		}
		used := len(s.balancersOf(tx, sc, group)) > 0
		for _, t := range targets {
			asked := g.place(t)
			for key, old := range s.targets.ListPrefix(tx, sc, g.Path+"/") {
				// Without a port it is every port of the target.
				if old.ID != asked.ID || t.Port != nil && old.Port != asked.Port || !old.DrainingSince.IsZero() {
					continue
				}
				if !used {
					s.targets.Delete(tx, sc, key)
					continue
				}
				x := s.targets.Clone(old)
				x.DrainingSince = now
				s.targets.Put(tx, sc, key, x)
			}
		}
		return nil
	})
}

// heard is what a node's data plane has said of a target.
type heard struct {
	State
	inFlight int
}

// plane is what a process of a node's data plane has said last, and when.
type plane struct {
	account, node string
	at            time.Time
	targets       map[string]heard
}

// Plane is a process of a node's data plane. A node has several while one takes over from
// another.
type Plane struct {
	Node, Process string
	// Alone: the node has no other. Ends: it has no requests any more.
	Alone, Ends bool
}

// maxPlanes bounds the processes of a node that are believed to have requests.
const maxPlanes = 8

// State is a target's state, with AWS's words.
type State struct{ State, Reason, Description string }

// Report is what a data plane says of one target.
type Report struct {
	Group, ID string // the group's ARN
	Port      int
	State
	// InFlight counts the requests and flows that it has.
	InFlight int
}

// staleAfter is how long what a data plane said counts.
const staleAfter = 20 * time.Second

func reportKey(group, id string, port int) string { return group + "|" + id + ":" + strconv.Itoa(port) }

// SetHealth takes in what a process of a node's data plane says of all its targets, in place
// of what it said before. What it says of another account's does not count. It is kept in
// memory: it is said again every few seconds.
func (s *Service) SetHealth(account string, from Plane, reports []Report) {
	now, key := s.deps.Now(), account+"/"+from.Node+"/"+from.Process
	next := &plane{account: account, node: from.Node, at: now, targets: make(map[string]heard, len(reports))}
	for _, r := range reports {
		if f := strings.SplitN(r.Group, ":", 6); len(f) == 6 && f[4] == account {
			next.targets[reportKey(r.Group, r.ID, r.Port)] = heard{r.State, r.InFlight}
		}
	}
	s.mu.Lock()
	changed := map[string]bool{}
	s.health[key].differs(next, changed)
	s.health[key] = next
	if from.Ends {
		delete(s.health, key)
	}
	for other, p := range s.health {
		if p.stale(now) || from.Alone && other != key && p.account == account && p.node == from.Node {
			p.differs(&plane{}, changed)
			delete(s.health, other)
		}
	}
	s.forgetPlanes(account, from.Node)
	s.mu.Unlock()
	for group := range changed {
		s.tell(group)
	}
}

// forgetPlanes keeps a node from having too many; with the lock held.
func (s *Service) forgetPlanes(account, node string) {
	for {
		oldest, count := "", 0
		for key, p := range s.health {
			if p.account != account || p.node != node {
				continue
			}
			if count++; oldest == "" || p.at.Before(s.health[oldest].at) {
				oldest = key
			}
		}
		if count <= maxPlanes {
			return
		}
		delete(s.health, oldest)
	}
}

// differs notes the groups of which the next says something else.
func (p *plane) differs(next *plane, changed map[string]bool) {
	var before map[string]heard
	if p != nil {
		before = p.targets
	}
	for key, h := range next.targets {
		if old, ok := before[key]; !ok || old.State != h.State || (old.inFlight == 0) != (h.inFlight == 0) {
			changed[groupOfReport(key)] = true
		}
	}
	for key := range before {
		if _, ok := next.targets[key]; !ok {
			changed[groupOfReport(key)] = true
		}
	}
}

func groupOfReport(key string) string { return key[:strings.IndexByte(key, '|')] }

func (p *plane) stale(now time.Time) bool { return now.Sub(p.at) > staleAfter }

// tell notifies those that watch a group.
func (s *Service) tell(group string) {
	f := strings.SplitN(group, ":", 6)
	if len(f) != 6 {
		return
	}
	s.mu.Lock()
	notify := s.groups
	s.mu.Unlock()
	for _, fn := range notify {
		fn(f[4], f[3], group)
	}
}

// heardOf is what data planes say of a target: of several the best, since one that reaches
// it sends it requests.
func (s *Service) heardOf(group, id string, port int32) (best heard, ok bool) {
	now, key := s.deps.Now(), reportKey(group, id, int(port))
	rank := func(state string) int {
		return slices.Index([]string{"healthy", "draining", "initial", "unhealthy"}, state)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.health {
		h, there := p.targets[key]
		if !there || p.stale(now) {
			continue
		}
		inFlight := best.inFlight + h.inFlight
		if !ok || uint(rank(h.State.State)) < uint(rank(best.State.State)) {
			best = h
		}
		best.inFlight, ok = inFlight, true
	}
	return best, ok
}

// stateOf is a target's state as DescribeTargetHealth shows it.
func (s *Service) stateOf(r store.Reader, sc store.Scope, g *targetGroup, x *target) State {
	switch h, ok := s.heardOf(g.arn(sc), x.ID, x.Port); {
	case !x.DrainingSince.IsZero():
		return State{"draining", "Target.DeregistrationInProgress", "Target deregistration is in progress"}
	case len(s.balancersOf(r, sc, g.arn(sc))) == 0:
		return State{"unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"}
	case !ok || h.State.State == "draining" || h.State.State == "unused":
		return State{"initial", "Elb.RegistrationInProgress", "Target registration is in progress"}
	default:
		return h.State
	}
}

// DescribeTargetHealth shows the states of those targets that are named, or of all.
func (s *Service) DescribeTargetHealth(ctx context.Context, in *api.DescribeTargetHealthInput) (*api.DescribeTargetHealthOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	g, err := s.group(snap, sc, deref(in.TargetGroupArn))
	if err != nil {
		return nil, err
	}
	out := &api.DescribeTargetHealthOutput{TargetHealthDescriptions: []types.TargetHealthDescription{}}
	show := func(x *target, state State) {
		port := deref(g.Group.HealthCheckPort)
		if port == "traffic-port" {
			port = strconv.Itoa(int(x.Port))
		}
		d := types.TargetHealthDescription{
			HealthCheckPort: &port, Target: &types.TargetDescription{Id: &x.ID, Port: &x.Port},
			TargetHealth: &types.TargetHealth{State: types.TargetHealthStateEnum(state.State)},
		}
		if x.Zone != "" {
			d.Target.AvailabilityZone = &x.Zone
		}
		if state.Reason != "" {
			d.TargetHealth.Reason = types.TargetHealthReasonEnum(state.Reason)
		}
		if state.Description != "" {
			d.TargetHealth.Description = &state.Description
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, d)
	}
	if len(in.Targets) == 0 {
		for _, x := range s.targets.ListPrefix(snap, sc, g.Path+"/") {
			show(x, s.stateOf(snap, sc, g, x))
		}
		return out, nil
	}
	for _, t := range in.Targets {
		x := g.place(t)
		if there, ok := s.targets.Get(snap, sc, x.key()); ok {
			show(there, s.stateOf(snap, sc, g, there))
		} else {
			show(&x, State{"unused", "Target.NotRegistered", "Target is not registered to the target group"})
		}
	}
	return out, nil
}

// Run removes targets that have drained, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("targets that have drained were not removed; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Sweep removes targets that have drained: their delay is over, or every data plane has
// said, since it knows, that nothing is left. It is one step of Run.
func (s *Service) Sweep(ctx context.Context) error {
	snap, now := s.db.Snapshot(), s.deps.Now()
	var over []store.Ref
	for ref, x := range s.draining.ListAll(snap, "yes") {
		g, ok := s.groupsOf.Get(snap, ref.Scope, x.Group)
		delay := time.Duration(0)
		if ok {
			delay = time.Duration(g.seconds("deregistration_delay.timeout_seconds")) * time.Second
		}
		if now.Sub(x.DrainingSince) >= delay || s.empty(ref.Scope, x) {
			over = append(over, ref)
		}
	}
	if len(over) == 0 {
		return nil
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		for _, ref := range over {
			if x, ok := s.targets.Get(tx, ref.Scope, ref.ID); ok && !x.DrainingSince.IsZero() {
				s.targets.Delete(tx, ref.Scope, ref.ID)
			}
		}
		return nil
	})
}

// empty tells whether all data planes say that a target drains and has nothing left. After
// a start all are awaited that may have something.
func (s *Service) empty(sc store.Scope, x *target) bool {
	now, key := s.deps.Now(), reportKey(arnOf(sc, kindGroup, x.Group), x.ID, int(x.Port))
	if now.Sub(s.started) < staleAfter {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	heardOf := 0
	for _, p := range s.health {
		if p.account != sc.Account || p.stale(now) {
			continue
		}
		heardOf++
		if h, ok := p.targets[key]; !ok || h.State.State != "draining" || h.inFlight > 0 || !p.at.After(x.DrainingSince) {
			return false
		}
	}
	return heardOf > 0
}
