package main

import (
	"context"
	"encoding/json"
	"fmt"
)

// eventsCommand follows what happens.
type eventsCommand struct{ ownerFlags }

// Run prints events until it is interrupted, or the server ends.
func (e *eventsCommand) Run(ctx context.Context, c *console) error {
	client, _, err := administer(e.ownerFlags)
	if err != nil {
		return err
	}
	return client.Events(ctx, func(event json.RawMessage) error {
		_, err := fmt.Fprintf(c.out, "%s\n", event)
		return err
	})
}
