package main

import (
	"context"
	"errors"
	"os"

	"longshore.dev/longshore/internal/control"
	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/service/iam"
)

type agentCommand struct {
	baseFlags
	imageFlags
	Join    string `help:"URL of the server to join. The first time, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its root user are needed; after that the node has credentials of its own." env:"LONGSHORE_JOIN" required:"" placeholder:"URL"`
	Cluster string `help:"Cluster to register in." env:"LONGSHORE_CLUSTER" default:"default"`
	Zone    string `help:"Availability zone of the node; the region's first when empty." env:"LONGSHORE_ZONE"`
}

// Run is a node's life until the process is told to end.
func (a *agentCommand) Run(ctx context.Context, c *console) error {
	id, err := node.LocalID(a.Data)
	if err != nil {
		return err
	}
	key, joined, err := node.SavedCredentials(a.Data)
	if err != nil {
		return err
	}
	if !joined {
		root := iam.AccessKey{ID: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY")}
		if root.ID == "" || root.Secret == "" {
			return errors.New("this node has not joined yet: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the server's root user (`longshore env` on the server prints them), once")
		}
		given, err := control.Join(ctx, a.Join, a.Region, root, id)
		if err != nil {
			return err
		}
		key = node.Credentials{AccessKeyID: given.ID, SecretAccessKey: given.Secret}
		if err := node.SaveCredentials(a.Data, key); err != nil {
			return err
		}
	}
	zone := a.Zone
	if zone == "" {
		zone = a.Region + "a"
	}
	n, err := node.Open(ctx, node.Options{
		DataDir: a.Data, Cluster: a.Cluster, Region: a.Region, Zone: zone, Version: version, Endpoint: a.Join,
		Credentials: key, Images: a.images(), Log: c.logger(a.LogLevel),
	})
	if err != nil {
		return err
	}
	c.say("node      %s joins %s", id, a.Join)
	return n.Run(ctx)
}
