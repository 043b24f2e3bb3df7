package balance

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Validate says what in the table cannot be served. It does not look at certificates'
// contents, nor at conditions: NewRouter does at those.
func (t *Table) Validate() error {
	var wrong []error
	groups := map[string]*TargetGroup{}
	for i := range t.TargetGroups {
		g := &t.TargetGroups[i]
		if groups[g.ID] != nil {
			wrong = append(wrong, fmt.Errorf("there are two target groups %s", g.ID))
		}
		groups[g.ID] = g
		if err := g.validate(); err != nil {
			wrong = append(wrong, fmt.Errorf("target group %s: %w", g.ID, err))
		}
	}
	balancers, listeners := map[string]bool{}, map[string]bool{}
	for i := range t.LoadBalancers {
		lb := &t.LoadBalancers[i]
		if balancers[lb.ID] {
			wrong = append(wrong, fmt.Errorf("there are two load balancers %s", lb.ID))
		}
		balancers[lb.ID] = true
		for j := range lb.Listeners {
			l := &lb.Listeners[j]
			if listeners[l.ID] {
				wrong = append(wrong, fmt.Errorf("there are two listeners %s", l.ID))
			}
			listeners[l.ID] = true
			if err := l.validate(groups); err != nil {
				wrong = append(wrong, fmt.Errorf("listener %s: %w", l.ID, err))
			}
		}
	}
	return errors.Join(wrong...)
}

func (g *TargetGroup) validate() error {
	switch g.Protocol {
	case HTTP, HTTPS, TCP, TLS:
	default:
		return fmt.Errorf("the protocol %q is not served; use HTTP, HTTPS, TCP or TLS", g.Protocol)
	}
	switch g.CheckProtocol() {
	case HTTP, HTTPS, TCP:
	default:
		return fmt.Errorf("the health check protocol %q is not served; use HTTP, HTTPS or TCP", g.HealthCheck.Protocol)
	}
	switch g.Algorithm {
	case "", RoundRobin, LeastOutstanding, WeightedRandom:
	default:
		return fmt.Errorf("the algorithm %q is not served; use %s, %s or %s", g.Algorithm, RoundRobin, LeastOutstanding, WeightedRandom)
	}
	switch g.Version() {
	case HTTP1, HTTP2, GRPC:
	default:
		return fmt.Errorf("the protocol version %q is not served; use HTTP1, HTTP2 or GRPC", g.ProtocolVersion)
	}
	if g.HealthCheck.Matcher != "" {
		for part := range strings.SplitSeq(g.HealthCheck.Matcher, ",") {
			if _, _, err := codeRange(part); err != nil {
				return err
			}
		}
	}
	seen := map[Target]bool{}
	for _, t := range g.Targets {
		if _, err := netip.ParseAddr(t.IP); err != nil || t.Port < 1 || t.Port > 65535 {
			return fmt.Errorf("target %s has the address %q and port %d; give an IP address and a port from 1 to 65535", t.ID, t.IP, t.Port)
		}
		if key := (Target{ID: t.ID, Port: t.Port}); seen[key] {
			return fmt.Errorf("target %s with port %d is there twice", t.ID, t.Port)
		} else {
			seen[key] = true
		}
	}
	return nil
}

func (l *Listener) validate(groups map[string]*TargetGroup) error {
	layer4 := false
	switch l.Protocol {
	case TCP:
		layer4 = true
	case TLS:
		layer4 = true
		fallthrough
	case HTTPS:
		if len(l.Certificates) == 0 {
			return errors.New("there is no certificate; give at least one")
		}
	case HTTP:
	default:
		return fmt.Errorf("the protocol %q is not served; use HTTP, HTTPS, TCP or TLS", l.Protocol)
	}
	if _, err := netip.ParseAddr(l.Address); l.Address != "" && err != nil {
		return fmt.Errorf("the address %q is not an IP address", l.Address)
	}
	if l.Port < 0 || l.Port > 65535 {
		return fmt.Errorf("the port %d is not one", l.Port)
	}
	actions := l.DefaultActions
	for _, r := range l.Rules {
		actions = append(actions[:len(actions):len(actions)], r.Actions...)
	}
	for _, a := range actions {
		if a.Forward == nil {
			if layer4 {
				return fmt.Errorf("the action %s is not one for %s; use forward", a.Type, l.Protocol)
			}
			continue
		}
		for _, w := range a.Forward.Groups {
			g := groups[w.ID]
			switch {
			case g == nil:
				return fmt.Errorf("it forwards to target group %s, which is not in the table", w.ID)
			case g.Layer4() != layer4:
				return fmt.Errorf("it is a listener of %s, and forwards to target group %s of %s", l.Protocol, w.ID, g.Protocol)
			case w.Weight < 0:
				return fmt.Errorf("the weight %d of target group %s is below 0", w.Weight, w.ID)
			}
		}
	}
	return nil
}
