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
	// Trust returns the trust policy and the tags of the role of an ARN. Of a role that
	// does not exist it is one that trusts nobody.
	Trust(roleARN string) (*policy.Attached, map[string]string, error)
}

// Authorizer decides on every call: by policies for users, sessions, services and
// root, by the room that owns what a node acts on for nodes.
type Authorizer struct {
	// Nodes decides, by the service of the call, what a node may do.
	Nodes map[string]Nodes
	// Holders finds policies; without it users may do nothing.
	Holders Holders
}

// Authorize implements wire.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, req *wire.AuthorizationRequest) error {
	if req.Call.Principal.Kind == wire.PrincipalNode {
		return a.node(ctx, req)
	}
	if free[req.Action] {
		return nil
	}
	if err := withoutMFA(req); err != nil {
		return err
	}
	if len(req.Resources) == 0 {
		return denied(req, "*", "because the operation does not state its resources")
	}
	h, err := a.holder(req.Call.Principal)
	if err != nil {
		return denied(req, req.Resources[0], "because "+err.Error())
	}
	byTrust := trusted[req.Action] && a.Holders != nil
	var ofCall *policy.Context // where no policies are asked none are needed
	if h.hasPolicies() || byTrust {
		ofCall = h.conditions(req)
	}
	for _, resource := range req.Resources {
		account := accountOf(resource, req.Call.Account)
		c, policies := withResource(ofCall, req, resource, account), h.Policies
		if byTrust {
			var tags map[string]string
			if policies.Resource, tags, err = a.Holders.Trust(resource); err != nil {
				return denied(req, resource, "because "+err.Error())
			}
			c = withTags(c, tags)
		}
		r := policy.NewRequest(h.Principal, req.Action, resource, c)
		r.ResourceAccount = account
		if d := policy.Evaluate(r, &policies); !d.Allowed {
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

// withTags adds the tags of the role that is the resource.
func withTags(c *policy.Context, tags map[string]string) *policy.Context {
	if len(tags) == 0 {
		return c
	}
	c, keys := c.Clone(), map[string][]string{}
	for k, v := range tags {
		keys["aws:ResourceTag/"+k] = []string{v}
		keys["iam:ResourceTag/"+k] = []string{v}
	}
	c.Merge(keys)
	return c
}

// withoutMFA refuses what the sessions of users and root users cannot do unless they
// proved a second factor, which there is none of here: IAM, and STS but for roles.
func withoutMFA(req *wire.AuthorizationRequest) error {
	p := &req.Call.Principal
	if p.Session == nil || p.Kind == wire.PrincipalRole || trusted[req.Action] {
		return nil
	}
	if vendor, _, _ := strings.Cut(req.Action, ":"); vendor != "iam" && vendor != "sts" {
		return nil
	}
	return &wire.Error{Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid", Status: http.StatusForbidden}
}

// free are the actions that need no permission, and that no policy can deny.
var free = map[string]bool{"sts:GetCallerIdentity": true, "sts:GetSessionToken": true}

func (a *Authorizer) holder(p wire.Principal) (*Holder, error) {
	switch p.Kind {
	case wire.PrincipalRoot:
		return rootHolder(p), nil
	case wire.PrincipalService:
		return serviceHolder(p), nil
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
