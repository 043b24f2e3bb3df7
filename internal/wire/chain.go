package wire

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
)

// call takes one call down the chain: constraints, authorisation, throttling,
// operation; the audit log hears of the result whichever link ended it. The
// principal has been established by the caller.
func (r *Registry) call(ctx context.Context, c *Call, op *operation, in any, present func(string) bool) (out any, err error) {
	ctx = WithCall(ctx, c)
	var resources []string
	defer func() {
		if p := recover(); p != nil {
			r.chain.Log.Error("operation panicked", "request", c.RequestID, "service", c.Service,
				"operation", c.Operation, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out, err = nil, errPanicked
		}
		if r.chain.Auditor != nil && !op.readOnly {
			r.chain.Auditor.Record(ctx, c, resources, err)
		}
	}()
	if err := r.constrain(c, in, present); err != nil {
		return nil, err
	}
	if resources, err = r.authorize(ctx, c, op, in); err != nil {
		return nil, err
	}
	if r.chain.Throttler != nil {
		if err := r.chain.Throttler.Admit(ctx, c); err != nil {
			return nil, err
		}
	}
	return op.run(ctx, in)
}

func (r *Registry) constrain(c *Call, in any, present func(string) bool) error {
	if r.chain.Constraints == nil {
		return nil
	}
	return r.chain.Constraints(c.Service, c.Operation, in, present)
}

// authorize asks for the operation's own permission and then for those that it needs
// besides. It returns the resources of the first.
func (r *Registry) authorize(ctx context.Context, c *Call, op *operation, in any) ([]string, error) {
	own := Permission{Action: op.action}
	if op.resources != nil {
		own.Resources = op.resources(ctx, in)
	}
	if op.conditions != nil {
		own.Conditions = op.conditions(ctx, in)
	}
	err := r.ask(ctx, c, &own, in)
	if err != nil || op.also == nil {
		return own.Resources, err
	}
	for _, p := range op.also(ctx, in) {
		if err := r.ask(ctx, c, &p, in); err != nil {
			return own.Resources, err
		}
	}
	return own.Resources, nil
}

func (r *Registry) ask(ctx context.Context, c *Call, p *Permission, in any) error {
	if len(p.Resources) == 0 {
		p.Resources = []string{"*"}
	}
	return r.chain.Authorizer.Authorize(ctx, &AuthorizationRequest{
		Call: c, Action: p.Action, Resources: p.Resources, Conditions: p.Conditions, Input: in,
		OnResource: func(arn string) map[string][]string { return r.onResource(ctx, arn) },
	})
}

// onResource asks the service that an ARN belongs to.
func (r *Registry) onResource(ctx context.Context, arn string) map[string][]string {
	parts := strings.SplitN(arn, ":", 4)
	if len(parts) < 4 || parts[0] != "arn" {
		return nil
	}
	s := r.bySigning[parts[2]]
	if s == nil || s.Info.ResourceConditions == nil {
		return nil
	}
	return s.Info.ResourceConditions(ctx, arn)
}

// errPanicked is answered as an internal failure; the panic itself is in the log.
var errPanicked = fmt.Errorf("wire: the operation panicked")
