package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/node"
)

type agentCommand struct {
	dataFlag
	logFlag
	imageFlags
	Join      string `help:"URL of the server to join." env:"LONGSHORE_JOIN" required:"" placeholder:"URL"`
	Token     string `help:"Registration token (see longshore token create), needed the first time only. In a file or the variable other users don't see it." env:"LONGSHORE_TOKEN" placeholder:"TOKEN" xor:"token"`
	TokenFile string `help:"File with the registration token." env:"LONGSHORE_TOKEN_FILE" placeholder:"FILE" type:"path" xor:"token"`
	CA        string `name:"ca" help:"PEM file of the authority behind a server's certificate that is not its own; the machine's when empty." env:"LONGSHORE_CA" placeholder:"FILE" type:"path"`
	Region    string `help:"Region to register in; the token's when empty." env:"LONGSHORE_REGION"`
	Cluster   string `help:"Cluster to register in; the token's, or default, when empty." env:"LONGSHORE_CLUSTER"`
	Zone      string `help:"Availability zone of the node; the region's first when empty." env:"LONGSHORE_ZONE"`
}

// maxTokenFile bounds what is read of a token's file, in bytes.
const maxTokenFile = 4 << 10

// Run is a node's life until the process is told to end.
func (a *agentCommand) Run(ctx context.Context, c *console) error {
	log := c.logger(a.LogLevel)
	outlast(log)
	token, err := a.token()
	if err != nil {
		return err
	}
	var authorities []byte
	if a.CA != "" {
		if authorities, err = os.ReadFile(a.CA); err != nil {
			return fmt.Errorf("read the authority's certificate: %w", err)
		}
	}
	is, err := node.Join(ctx, node.JoinOptions{DataDir: a.Data, Server: a.Join, Token: token, Authorities: authorities, Log: log})
	if err != nil {
		return err
	}
	region := cmp.Or(a.Region, is.Region)
	n, err := node.Open(ctx, node.Options{
		DataDir: a.Data, Cluster: cmp.Or(a.Cluster, is.Cluster), Region: region, Zone: cmp.Or(a.Zone, region+"a"), Version: version,
		Endpoint: a.Join, Credentials: is, Fargate: is.Fargate, ENISubnets: is.Subnets, Images: a.images(), Log: log,
	})
	if err != nil {
		return err
	}
	c.say("node      %s joins %s", is.NodeID, a.Join)
	err = n.Run(ctx)
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w (a node that was revoked, or whose server is another one now, can join as a new node: remove %s and give it a token)",
			err, node.CredentialsFile(a.Data))
	}
	return err
}

func (a *agentCommand) token() (string, error) {
	if a.TokenFile == "" {
		return a.Token, nil
	}
	info, err := os.Stat(a.TokenFile)
	if os.IsNotExist(err) {
		return "", nil // a node that has joined needs none; one that has not is told so
	}
	if err != nil || info.Size() > maxTokenFile {
		return "", fmt.Errorf("the file %s does not hold a registration token: %w", a.TokenFile, cmp.Or(err, errTooLong))
	}
	raw, err := os.ReadFile(a.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the registration token: %w", err)
	}
	return string(raw), nil
}
