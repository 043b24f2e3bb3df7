package node

import (
	"context"
	"errors"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/agent"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/runtime"
)

// logDrivers makes the drivers that tasks name, with the credentials of their
// execution role or else the node's own towards its control plane.
type logDrivers struct {
	region string
	node   aws.CredentialsProvider
	logs   func(region, endpoint string, credentials aws.CredentialsProvider) *cloudwatchlogs.Client
	log    *slog.Logger
}

// Driver implements agent.LogDrivers.
func (d *logDrivers) Driver(config acs.LogConfig, c logdriver.Container, role aws.CredentialsProvider) (agent.LogDriver, error) {
	c.Region = d.region
	credentials := d.node
	if role != nil {
		credentials = orNode(role, d.node)
	}
	settings, err := logdriver.Parse(config.Type, config.Config, c)
	if err != nil {
		return nil, err
	}
	driver, err := logdriver.New(settings, logdriver.Deps{
		Client: func(region, endpoint string) (logdriver.LogsClient, error) {
			return d.logs(region, endpoint, credentials), nil
		},
		Log: d.log,
	})
	if err != nil {
		return nil, err
	}
	return &logDriver{driver, settings.Output}, nil
}

// logDriver is a driver with how the shim must keep the output for it.
type logDriver struct {
	logdriver.Driver
	output runtime.Output
}

// Output implements agent.LogDriver.
func (d *logDriver) Output() runtime.Output { return d.output }

// orNode provides a role's credentials, and the node's once the role is over.
func orNode(role, node aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := role.Retrieve(ctx)
		if errors.Is(err, agent.ErrRoleOver) {
			return node.Retrieve(ctx)
		}
		return c, err
	})
}

// logsClients returns a maker of clients: the control plane serves every region,
// and an endpoint of the task's own choice gets no credentials.
func logsClients(o Options, client cloudwatchlogs.HTTPClient) func(region, endpoint string, credentials aws.CredentialsProvider) *cloudwatchlogs.Client {
	return func(region, endpoint string, credentials aws.CredentialsProvider) *cloudwatchlogs.Client {
		options := cloudwatchlogs.Options{Region: region, BaseEndpoint: aws.String(o.Endpoint), Credentials: credentials, HTTPClient: client}
		if endpoint != "" && endpoint != o.Endpoint {
			options.BaseEndpoint, options.Credentials = aws.String(endpoint), aws.AnonymousCredentials{}
		}
		return cloudwatchlogs.New(options)
	}
}
