package control

import (
	"net/http"
	"strings"

	"longshore.dev/longshore/internal/wire"
)

// Paths of the agents' websockets.
const (
	acsPath = "/_longshore/acs/ws"
	tcsPath = "/_longshore/tcs/ws"
)

// authenticateAgent verifies the handshake of an agent's websocket, or a frame that is
// signed as one. A node's own agent is admitted by the room; whoever else comes, as
// Amazon's agent does with the credentials of a user or role, needs ecs:Poll or
// ecs:StartTelemetrySession on the container instance: its tasks' credentials travel
// here.
func (s *Server) authenticateAgent(r *http.Request, body []byte) (wire.Principal, string, error) {
	principal, region, err := s.authenticate(r, body)
	if err != nil || principal.Kind == wire.PrincipalNode {
		return principal, region, err
	}
	operation, instance := "Poll", r.URL.Query().Get("containerInstanceArn")
	if r.URL.Path == tcsPath {
		operation, instance = "StartTelemetrySession", r.URL.Query().Get("containerInstance")
	}
	if !strings.HasPrefix(instance, "arn:") {
		return wire.Principal{}, "", wire.Errorf("InvalidParameterException", "The container instance has to be named by its ARN.")
	}
	call := s.callOf(r, operation)
	call.Service, call.Principal, call.Account, call.Region, call.Secure = "ecs", principal, principal.AccountID, region, r.TLS != nil
	err = s.authorizer.Authorize(r.Context(), &wire.AuthorizationRequest{
		Call: call, Action: "ecs:" + operation, Resources: []string{instance}, Conditions: ofCluster(instance),
	})
	return principal, region, err
}

// ofCluster is the condition key of the cluster that a container instance is in.
func ofCluster(instance string) map[string][]string {
	head, member, _ := strings.Cut(instance, ":container-instance/")
	cluster, _, ok := strings.Cut(member, "/")
	if !ok {
		return nil
	}
	return map[string][]string{"ecs:cluster": {head + ":cluster/" + cluster}}
}
