package iam

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"longshore.dev/longshore/internal/wire"
)

// Authorizer decides by the kind of the principal.
type Authorizer struct {
	// Nodes decides, by the service of the call, what a node may do.
	Nodes map[string]Nodes
}

// Authorize implements wire.Authorizer.
func (a *Authorizer) Authorize(ctx context.Context, req *wire.AuthorizationRequest) error {
	p := req.Call.Principal
	if !ownAccount(p.AccountID, req.Resources) {
		return denied(req, "the resource belongs to another account")
	}
	switch p.Kind {
	case wire.PrincipalRoot, wire.PrincipalService:
		return nil
	case wire.PrincipalNode:
		if room := a.Nodes[req.Call.Service]; room != nil {
			if err := room.NodeMay(ctx, req); err != nil {
				return denied(req, err.Error())
			}
			return nil
		}
		if req.Action == "sts:GetCallerIdentity" {
			return nil
		}
		return denied(req, "a node may act for its own container instances and tasks only")
	default:
		return denied(req, "no identity-based policy allows the action")
	}
}

// ownAccount tells whether every ARN that names an account names this one, or is a
// policy that AWS manages, which every account sees.
func ownAccount(account string, resources []string) bool {
	for _, arn := range resources {
		parts := strings.SplitN(arn, ":", 6)
		if len(parts) == 6 && parts[4] != "" && parts[4] != "*" && parts[4] != account && !strings.HasPrefix(arn, awsPolicyPrefix) {
			return false
		}
	}
	return true
}

func denied(req *wire.AuthorizationRequest, why string) error {
	return &wire.Error{
		Code: "AccessDeniedException", Status: http.StatusBadRequest,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because %s",
			req.Call.Principal.ARN, req.Action, strings.Join(req.Resources, ", "), why),
	}
}
