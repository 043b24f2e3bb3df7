package iam

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/wire"
)

// Holders finds what policies a principal has.
type Holders interface {
	// Holder returns a principal with its policies, or errNoHolder for one that is gone.
	Holder(p wire.Principal) (*Holder, error)
}

// Authorizer decides on every call: by policies for users and root, by the room
// that owns what a node acts on for nodes. Longshore's own rooms may do everything.
type Authorizer struct {
	// Nodes decides, by the service of the call, what a node may do.
	Nodes map[string]Nodes
	// Holders finds policies; without it users may do nothing.
	Holders Holders
}

// Authorize implements wire.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, req *wire.AuthorizationRequest) error {
	switch req.Call.Principal.Kind {
	case wire.PrincipalService:
		return nil
	case wire.PrincipalNode:
		return a.node(ctx, req)
	}
	if free[req.Action] {
		return nil
	}
	if len(req.Resources) == 0 {
		return denied(req, "*", "because the operation does not state its resources")
	}
	h, err := a.holder(req.Call.Principal)
	if err != nil {
		return denied(req, req.Resources[0], "because "+err.Error())
	}
	var ofCall *policy.Context // who has no policies needs none
	if h.hasPolicies() {
		ofCall = h.conditions(req)
	}
	for _, resource := range req.Resources {
		account := accountOf(resource, req.Call.Account)
		r := policy.NewRequest(h.Principal, req.Action, resource, withResource(ofCall, req, resource, account))
		r.ResourceAccount = account
		if d := policy.Evaluate(r, &h.Policies); !d.Allowed {
			return denied(req, resource, d.Reason(req.Action))
		}
	}
	return nil
}

// withResource adds to the conditions of a call those of one of its resources.
func withResource(ofCall *policy.Context, req *wire.AuthorizationRequest, resource, account string) *policy.Context {
	if ofCall == nil {
		return nil
	}
	c := ofCall
	if req.OnResource != nil {
		if tags := req.OnResource(resource); len(tags) > 0 {
			c = ofCall.Clone()
			c.Merge(tags)
		}
	}
	c.Set("aws:ResourceAccount", account)
	return c
}

// free are the actions that need no permission, and that no policy can deny.
var free = map[string]bool{"sts:GetCallerIdentity": true, "sts:GetSessionToken": true}

func (a *Authorizer) holder(p wire.Principal) (*Holder, error) {
	if p.Kind == wire.PrincipalRoot {
		return rootHolder(p), nil
	}
	if a.Holders == nil {
		return &Holder{Principal: policy.Principal{Account: p.AccountID, ARN: p.ARN}}, nil
	}
	return a.Holders.Holder(p)
}

func (a *Authorizer) node(ctx context.Context, req *wire.AuthorizationRequest) error {
	for _, resource := range req.Resources {
		if account := req.Call.Principal.AccountID; accountOf(resource, account) != account {
			return denied(req, resource, "because the resource belongs to another account")
		}
	}
	err := errors.New("a node may act for its own container instances and tasks only")
	if room := a.Nodes[req.Call.Service]; room != nil {
		err = room.NodeMay(ctx, req)
	} else if req.Action == "sts:GetCallerIdentity" {
		err = nil
	}
	if err != nil {
		return denied(req, strings.Join(req.Resources, ", "), "because "+err.Error())
	}
	return nil
}

// accountOf returns the account that an ARN names. What names none is the given
// account's, and so is a policy that AWS manages: every account has it.
func accountOf(resource, own string) string {
	parts := strings.SplitN(resource, ":", 6)
	if len(parts) < 6 || parts[4] == "" || parts[4] == "*" || strings.HasPrefix(resource, awsPolicyPrefix) {
		return own
	}
	return parts[4]
}

func denied(req *wire.AuthorizationRequest, resource, why string) error {
	return &wire.Error{
		Code: "AccessDeniedException", Status: http.StatusBadRequest,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", req.Call.Principal.ARN, req.Action, resource, why),
	}
}
