package node

import (
	"context"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/agent"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/runtime"
)

type logDrivers struct {
	region string
	client *cloudwatchlogs.Client
	log    *slog.Logger
}

type tmpDriver struct{}

func (tmpDriver) Prepare(context.Context) error { return nil }
func (tmpDriver) Output() runtime.Output        { return runtime.Output{} }
func (tmpDriver) Run(ctx context.Context, s runtime.Spool) error {
	return nil
}

func (d *logDrivers) Driver(config acs.LogConfig, c logdriver.Container) (agent.LogDriver, error) {
	return tmpDriver{}, nil
}
