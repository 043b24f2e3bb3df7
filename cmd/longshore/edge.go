package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"longshore.dev/longshore/internal/edge"
)

// edgeCommand is the process that serves a node's load balancers. Nodes start it, and tell
// it on its standard input what it needs.
type edgeCommand struct{ logFlag }

// maxEdgeConfig bounds the configuration, in bytes.
const maxEdgeConfig = 1 << 20

// Run serves until another process takes over, or it is told to end.
func (e *edgeCommand) Run(ctx context.Context, c *console) error {
	log := c.logger(e.LogLevel)
	outlast(log)
	raw, err := io.ReadAll(io.LimitReader(os.Stdin, maxEdgeConfig))
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var config edge.Config
	if err := json.Unmarshal(raw, &config); err != nil || config.RunDir == "" || config.StateDir == "" {
		return fmt.Errorf("the edge is started by a node, which tells it on its standard input what it needs: %w", err)
	}
	return edge.Run(ctx, config, log)
}
