package control

import (
	"context"

	"longshore.dev/longshore/internal/service/ecs"
	"longshore.dev/longshore/internal/wire"
)

// logsForNodes lets a node write the logs of its tasks: the rooms of logs and ECS
// know nothing of each other.
type logsForNodes struct{ ecs *ecs.Service }

// NodeMay implements iam.Nodes.
func (l logsForNodes) NodeMay(ctx context.Context, req *wire.AuthorizationRequest) error {
	return l.ecs.NodeMayLog(ctx, req)
}
