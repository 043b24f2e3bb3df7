package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"longshore.dev/longshore/internal/control"
	"longshore.dev/longshore/internal/node"
)

// stopLimit bounds how long --stop-tasks waits for tasks to end.
const stopLimit = 2 * time.Minute

type upCommand struct {
	baseFlags
	serverFlags
	imageFlags
	StopTasks bool `help:"Stop this machine's tasks when longshore ends; without it they keep running." env:"LONGSHORE_STOP_TASKS"`
	NoSample  bool `help:"Do not run the sample web service." env:"LONGSHORE_NO_SAMPLE"`
}

// Run serves until the process is told to end.
func (u *upCommand) Run(ctx context.Context, c *console) error {
	log := c.logger(u.LogLevel)
	outlast(log)
	began := time.Now()
	server, err := control.Open(ctx, u.config(&u.baseFlags, log))
	if err != nil {
		return err
	}
	id, err := node.LocalID(u.Data)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	key, err := server.AddNode(ctx, id, true, true)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	c.say("server    up in %s", time.Since(began).Round(time.Millisecond))

	// The node ends before the server, so that the last states are still reported.
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	nodeCtx, stopNode := context.WithCancel(serverCtx)
	defer stopNode()
	group, serverCtx := errgroup.WithContext(serverCtx)
	group.Go(func() error { return server.Run(serverCtx) })
	n, err := node.Open(serverCtx, node.Options{
		DataDir: u.Data, Region: u.Region, Zone: u.Region + "a", Version: version, Endpoint: server.Endpoint(),
		Credentials: node.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret, CA: string(server.CA())}, Universal: true, Fargate: true, ENISubnets: server.Subnets(),
		Images: u.images(), Log: log,
	})
	if err != nil {
		stopServer()
		return errors.Join(err, group.Wait())
	}
	nodeDone := make(chan struct{})
	group.Go(func() error {
		defer close(nodeDone)
		return n.Run(nodeCtx)
	})
	group.Go(func() error {
		defer stopServer()
		defer func() { <-nodeDone }()
		defer stopNode()
		return u.attend(ctx, serverCtx, c, server, n)
	})
	return withoutCancel(group.Wait())
}

// attend shows the sample, waits for the user's end, and stops tasks if asked to.
func (u *upCommand) attend(ctx, running context.Context, c *console, server *control.Server, n *node.Node) error {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(running, cancel)()
	url := ""
	if !u.NoSample {
		var err error
		if url, err = runSample(both, server.Access(), c); err != nil && both.Err() == nil {
			c.say("sample    not running: %v", err)
		}
	}
	u.welcome(c, server, url)
	settle()
	<-both.Done()
	if running.Err() != nil {
		return nil
	}
	if !u.StopTasks {
		c.say("stopping  server and node; tasks keep running, and the next `longshore up` finds them")
		return nil
	}
	c.say("stopping  tasks, server and node")
	limit, cancelLimit := context.WithTimeout(running, stopLimit)
	defer cancelLimit()
	if err := n.StopTasks(limit); err != nil {
		return fmt.Errorf("not all tasks ended: %w", err)
	}
	return nil
}

func (u *upCommand) welcome(c *console, server *control.Server, url string) {
	a := server.Access()
	c.say("")
	if url != "" {
		c.say("Sample        %s", url)
	}
	c.say("API endpoint  %s%s", a.Endpoint, also443(server))
	c.say("Account       %s", a.Account)
	c.say("Region        %s", a.Region)
	c.say("")
	c.say("Point the AWS tools here:")
	c.say("")
	data := ""
	if u.Data != defaultData() {
		data = " --data " + quote(u.Data)
	}
	c.say(`  eval "$(%s env%s)"`, program(), data)
	c.say("")
	c.say("Ctrl-C stops server and node.")
}
