package main

import (
	"context"
	"fmt"
	"os"

	"longshore.dev/longshore/internal/control"
)

// accessCommand lets people in, at this machine's running server.
type accessCommand struct {
	Admin accessAdmin `cmd:"" help:"Make a user that may do everything, and print its profile."`
	User  accessUser  `cmd:"" help:"Make a user that may do what its policies say, and print its profile."`
}

type accessAdmin struct {
	ownerFlags
	Name string `arg:"" help:"The user's name."`
}

// Run makes the user and prints its profile.
func (a *accessAdmin) Run(ctx context.Context, c *console) error {
	return letIn(ctx, c, a.ownerFlags, control.UserOptions{Name: a.Name, Policies: []string{"AdministratorAccess"}})
}

type accessUser struct {
	ownerFlags
	Name     string   `arg:"" help:"The user's name."`
	Policy   []string `help:"Managed policy: an ARN, or the name of one of AWS's, such as ReadOnlyAccess." placeholder:"POLICY"`
	Document string   `help:"File with a policy document of the user's own." type:"existingfile" placeholder:"FILE"`
}

// Run makes the user and prints its profile.
func (a *accessUser) Run(ctx context.Context, c *console) error {
	o := control.UserOptions{Name: a.Name, Policies: a.Policy}
	if a.Document != "" {
		text, err := os.ReadFile(a.Document)
		if err != nil {
			return fmt.Errorf("read the policy document: %w", err)
		}
		o.Document = string(text)
	}
	if len(o.Policies) == 0 && o.Document == "" {
		return fmt.Errorf("a user without a policy can do nothing: name one with --policy or --document, or make an administrator with `longshore access admin %s`", a.Name)
	}
	return letIn(ctx, c, a.ownerFlags, o)
}

// letIn makes a user and prints its profile for ~/.aws/config, and on the error stream
// what to do with it.
func letIn(ctx context.Context, c *console, data ownerFlags, o control.UserOptions) error {
	client, a, err := administer(data)
	if err != nil {
		return err
	}
	user, err := client.CreateUser(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "%s can sign in with this profile; its secret is not shown again. Add it to ~/.aws/config, then:\n\n  aws --profile %s sts get-caller-identity\n\n",
		user.ARN, o.Name)
	fmt.Fprintf(c.err, "(An AWS CLI before 1.29 or 2.13 does not read endpoint_url: give it --endpoint-url %s.)\n\n", a.Endpoint)
	c.say("[profile %s]", o.Name)
	c.say("region = %s", a.Region)
	c.say("endpoint_url = %s", a.Endpoint)
	if a.CAFile != "" {
		c.say("ca_bundle = %s", a.CAFile)
	}
	c.say("aws_access_key_id = %s", user.AccessKeyID)
	c.say("aws_secret_access_key = %s", user.SecretAccessKey)
	return nil
}
