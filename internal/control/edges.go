package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"

	"longshore.dev/longshore/internal/edge"
	"longshore.dev/longshore/internal/nodestate"
	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/service/elbv2"
	"longshore.dev/longshore/internal/wire"
)

// maxHealth bounds what an edge tells of its targets at once, in bytes.
const maxHealth = 16 << 20

// maxProcessName bounds the name of an edge's process, in bytes.
const maxProcessName = 64

// balancers gives the load balancers' room to the ECS room.
type balancers struct{ elb *elbv2.Service }

// TargetGroup implements ecs.Balancer.
func (b balancers) TargetGroup(account, region, arn string) (ecs.TargetGroup, bool) {
	g, ok := b.elb.Group(account, region, arn)
	return ecs.TargetGroup{Type: g.Type, LoadBalancers: g.LoadBalancers}, ok
}

// RegisterTarget implements ecs.Balancer.
func (b balancers) RegisterTarget(ctx context.Context, account, region, group string, t ecs.Target) error {
	return b.elb.RegisterTarget(ctx, account, region, group, t.ID, t.Port)
}

// DeregisterTarget implements ecs.Balancer.
func (b balancers) DeregisterTarget(ctx context.Context, account, region, group string, t ecs.Target) error {
	return b.elb.DeregisterTarget(ctx, account, region, group, t.ID, t.Port)
}

// TargetHealth implements ecs.Balancer.
func (b balancers) TargetHealth(account, region, group string, t ecs.Target) ecs.TargetHealth {
	return ecs.TargetHealth(b.elb.TargetState(account, region, group, t.ID, t.Port))
}

// Rule implements ecs.Balancer.
func (b balancers) Rule(account, region, arn string) (map[string]int32, bool) {
	return b.elb.Rule(account, region, arn)
}

// Subscribe implements ecs.Balancer.
func (b balancers) Subscribe(notify func(account, region, group string)) { b.elb.WatchGroups(notify) }

// balancerNetwork gives the built-in VPC, and the nodes as its instances, to the load
// balancers' room.
type balancerNetwork struct{ server *Server }

// Subnets implements elbv2.Network.
func (n balancerNetwork) Subnets(account, region string) (all []elbv2.Subnet) {
	for _, s := range n.server.ecs.Subnets(account, region) {
		all = append(all, elbv2.Subnet{ID: s.ID, VPC: ecs.VPCID(account, region), Zone: s.Zone})
	}
	return all
}

// DefaultSecurityGroup implements elbv2.Network.
func (n balancerNetwork) DefaultSecurityGroup(account, region string) string {
	return ecs.DefaultSecurityGroup(account, region)
}

// Instance implements elbv2.Network.
func (n balancerNetwork) Instance(account, region, id string) (netip.Addr, bool) {
	return n.server.ecs.NodeAddress(account, region, id)
}

// handleEdges serves the nodes' edges: what they are to do, and how their targets are.
func (s *Server) handleEdges() {
	s.state = nodestate.NewHub()
	s.state.Provide(edge.Kind, func(v nodestate.Viewer) (nodestate.Entries, error) {
		t := s.elb.Table(v.Account)
		return edge.Entries(&t)
	})
	s.elb.Subscribe(func() { s.state.Changed(edge.Kind) })
	s.api.HandleInternal("GET "+edge.StatePath, s.ofNode("FollowState", func(w http.ResponseWriter, r *http.Request, _ []byte, p wire.Principal) {
		if err := s.state.Serve(w, r, nodestate.Viewer{Account: p.AccountID, NodeID: p.NodeID}); err != nil {
			s.log.Debug("a node's stream ended", "node", p.NodeID, "reason", err)
		}
	}))
	s.api.HandleInternal("POST "+edge.HealthPath, s.ofNode("ReportHealth", s.takeHealth))
}

// ofNode wraps what only nodes may ask for.
func (s *Server) ofNode(operation string, serve func(http.ResponseWriter, *http.Request, []byte, wire.Principal)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHealth))
		if err != nil {
			s.answerAdmin(w, operation, adminAnswer{}, &wire.Error{Code: "RequestEntityTooLarge", Message: "The request is too large.", Status: http.StatusRequestEntityTooLarge})
			return
		}
		principal, _, err := s.authenticate(r, body)
		if err == nil && principal.Kind != wire.PrincipalNode {
			err = wire.Errorf("AccessDeniedException", "Only nodes may do %s.", operation)
		}
		if err != nil {
			s.answerAdmin(w, operation, adminAnswer{}, err)
			return
		}
		serve(w, r, body, principal)
	})
}

func (s *Server) takeHealth(w http.ResponseWriter, _ *http.Request, body []byte, p wire.Principal) {
	var health edge.Health
	if err := json.Unmarshal(body, &health); err != nil {
		s.answerAdmin(w, "ReportHealth", adminAnswer{}, wire.Errorf("SerializationException", "The report can't be read."))
		return
	}
	reports := make([]elbv2.Report, 0, len(health.Targets))
	for _, t := range health.Targets {
		reports = append(reports, elbv2.Report{
			Group: t.GroupID, ID: t.TargetID, Port: t.Port, InFlight: t.InFlight,
			State: elbv2.State{State: t.State, Reason: t.Reason, Description: t.Description},
		})
	}
	if len(health.Process) > maxProcessName {
		s.answerAdmin(w, "ReportHealth", adminAnswer{}, wire.Errorf("InvalidParameterException", "The name of the process is longer than %d bytes.", maxProcessName))
		return
	}
	s.elb.SetHealth(p.AccountID, elbv2.Plane{Node: p.NodeID, Process: health.Process, Alone: health.Alone, Ends: health.Ends}, reports)
	writeJSON(w, http.StatusOK, struct{}{})
}
