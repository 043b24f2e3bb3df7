package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"longshore.dev/longshore/internal/control"
)

var errTooLong = errors.New("it is too long")

// tokenCommand makes and ends registration tokens, at this machine's running server.
type tokenCommand struct {
	Create tokenCreate `cmd:"" help:"Make a registration token, with which nodes join."`
	List   tokenList   `cmd:"" help:"List the registration tokens."`
	Revoke tokenRevoke `cmd:"" help:"End a registration token; nodes that joined with it stay."`
}

type tokenCreate struct {
	ownerFlags
	Expires time.Duration `help:"How long the token is valid." default:"1h"`
	Uses    int           `help:"How many nodes may join with it." default:"1"`
	Cluster string        `help:"The only cluster that the nodes may register in; any when empty."`
	Fargate bool          `help:"Let the nodes take FARGATE tasks."`
}

// Run prints the token alone on the output, and what to do with it besides.
func (t *tokenCreate) Run(ctx context.Context, c *console) error {
	client, a, err := administer(t.ownerFlags)
	if err != nil {
		return err
	}
	made, err := client.CreateToken(ctx, control.TokenOptions{
		LifeSeconds: int64((t.Expires + time.Second - 1) / time.Second), Uses: t.Uses, Cluster: t.Cluster, Fargate: t.Fargate,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "For %d node(s), until %s; the token is not shown again. On the node:\n\n", made.Info.Uses, made.Info.ExpiresAt.Format(time.RFC3339))
	fmt.Fprintf(c.err, "  LONGSHORE_TOKEN=… longshore agent --join %s\n\n(with an address of this machine that the node reaches)\n\n", a.Endpoint)
	c.say("%s", made.Text)
	return nil
}

type tokenList struct{ ownerFlags }

// Run lists the tokens, without their secrets, which nobody has.
func (t *tokenList) Run(ctx context.Context, c *console) error {
	client, _, err := administer(t.ownerFlags)
	if err != nil {
		return err
	}
	tokens, err := client.Tokens(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tEXPIRES\tUSED\tCLUSTER\tFARGATE")
	for _, k := range tokens {
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%t\n", k.ID, k.ExpiresAt.Format(time.RFC3339), k.Used, k.Uses, cmp.Or(k.Cluster, "any"), k.Fargate)
	}
	return w.Flush()
}

type tokenRevoke struct {
	ownerFlags
	ID string `arg:"" help:"The token's id, from longshore token list."`
}

// Run ends the token.
func (t *tokenRevoke) Run(ctx context.Context, _ *console) error {
	client, _, err := administer(t.ownerFlags)
	if err != nil {
		return err
	}
	return client.RevokeToken(ctx, t.ID)
}

// nodeCommand looks after the nodes of this machine's running server.
type nodeCommand struct {
	List   nodeList   `cmd:"" help:"List the nodes."`
	Revoke nodeRevoke `cmd:"" help:"End a node's key at once, and deregister it by force: for a machine that is lost or stolen."`
}

type nodeList struct{ ownerFlags }

// Run lists the nodes.
func (n *nodeList) Run(ctx context.Context, c *console) error {
	client, _, err := administer(n.ownerFlags)
	if err != nil {
		return err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tCLUSTER\tSTATE\tSINCE\tTASKS\tCONTAINER INSTANCE")
	for _, k := range nodes {
		since := "-"
		if !k.Since.IsZero() {
			since = k.Since.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", k.ID, cmp.Or(k.Cluster, "-"), k.State, since, k.Tasks, cmp.Or(k.Instance, "-"))
	}
	return w.Flush()
}

type nodeRevoke struct {
	ownerFlags
	ID string `arg:"" help:"The node's id, from longshore node list."`
}

// Run revokes the node.
func (n *nodeRevoke) Run(ctx context.Context, _ *console) error {
	client, _, err := administer(n.ownerFlags)
	if err != nil {
		return err
	}
	return client.RevokeNode(ctx, n.ID)
}

// administer opens the way to the server of a data directory, as its owner.
func administer(data ownerFlags) (*control.Client, control.Access, error) {
	a, err := control.ReadAccess(data.Data, data.rootKey())
	if err != nil {
		return nil, a, err
	}
	client, err := control.NewClient(a)
	return client, a, err
}
