package main

import (
	"context"
	"fmt"
	"time"
)

// explainCommand says why something is as it is.
type explainCommand struct {
	ownerFlags
	Resource string `arg:"" help:"task/ID, service/NAME, deployment/ID, or the ARN of one."`
	Cluster  string `help:"The cluster that it is in." default:"default"`
}

// Run prints the explanation.
func (e *explainCommand) Run(ctx context.Context, c *console) error {
	client, _, err := administer(e.ownerFlags)
	if err != nil {
		return err
	}
	x, err := client.Explain(ctx, e.Cluster, e.Resource)
	if err != nil {
		return err
	}
	c.say("%s", x.ARN)
	state := x.State
	if !x.Since.IsZero() && x.Waiting == "" {
		state += " since " + x.Since.Format(time.RFC3339)
	}
	fmt.Fprintf(c.out, "state    %s\n", state)
	if x.Waiting != "" {
		fmt.Fprintf(c.out, "waiting  for %s\n", x.Waiting)
		if !x.Since.IsZero() {
			fmt.Fprintf(c.out, "since    %s (%s ago)\n", x.Since.Format(time.RFC3339), time.Since(x.Since).Round(time.Second))
		}
	}
	for i, why := range x.Why {
		label := "why"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(c.out, "%-7s  %s\n", label, why)
	}
	if x.Next != "" {
		fmt.Fprintf(c.out, "next     %s\n", x.Next)
	}
	return nil
}
