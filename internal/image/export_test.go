package image

import (
	"context"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// DropLayers removes all unpacked layers and keeps their content.
func (s *Local) DropLayers(ctx context.Context) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	var names []string
	err := s.layers.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		names = append(names, i.Name)
		return nil
	})
	for _, n := range names {
		if err == nil {
			err = s.layers.Remove(ctx, n)
		}
	}
	s.cache.reset()
	return err
}
