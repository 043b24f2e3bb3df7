package wire

import (
	"context"
	"fmt"
	"runtime/debug"
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

func (r *Registry) authorize(ctx context.Context, c *Call, op *operation, in any) ([]string, error) {
	req := &AuthorizationRequest{Call: c, Action: op.action, Resources: []string{"*"}, Input: in}
	if op.resources != nil {
		if arns := op.resources(ctx, in); len(arns) > 0 {
			req.Resources = arns
		}
	}
	if op.conditions != nil {
		req.Conditions = op.conditions(ctx, in)
	}
	return req.Resources, r.chain.Authorizer.Authorize(ctx, req)
}

// errPanicked is answered as an internal failure; the panic itself is in the log.
var errPanicked = fmt.Errorf("wire: the operation panicked")
