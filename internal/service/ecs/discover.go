package ecs

import (
	"cmp"
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/wire"
)

// Paths of the agents' websockets below the server's base URL; agents add "/ws".
const (
	PathACS = "/_longshore/acs"
	PathTCS = "/_longshore/tcs"
)

// DiscoverPollEndpoint tells an agent where its websockets are: at the host by
// which it reached the server.
func (s *Service) DiscoverPollEndpoint(ctx context.Context, in *ecs.DiscoverPollEndpointInput) (*ecs.DiscoverPollEndpointOutput, error) {
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	if ref := deref(in.ContainerInstance); ref != "" {
		cluster, err := clusterOfMember(sc, ref, in.Cluster)
		if err != nil {
			return nil, err
		}
		if _, err := s.instance(snap, sc, cluster, ref); err != nil {
			return nil, err
		}
	}
	base := strings.TrimSuffix(cmp.Or(wire.CallFrom(ctx).Endpoint, s.deps.Endpoint), "/")
	return &ecs.DiscoverPollEndpointOutput{
		Endpoint: optional(base + PathACS), TelemetryEndpoint: optional(base + PathTCS),
	}, nil
}
