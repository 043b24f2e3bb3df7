package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/image"
	"longshore.dev/longshore/internal/logdriver"
	"longshore.dev/longshore/internal/network"
	"longshore.dev/longshore/internal/runtime"
)

// LogDriver carries one container's output; see package logdriver.
type LogDriver interface {
	logdriver.Driver
	// Output is how the shim must keep the output for this driver.
	Output() runtime.Output
}

// LogDrivers makes the driver that a container's log configuration names.
type LogDrivers interface {
	// Driver returns one that delivers under a role, or with nil as the node. When the
	// role's provider says ErrRoleOver, the node delivers what is left.
	Driver(config acs.LogConfig, c logdriver.Container, role aws.CredentialsProvider) (LogDriver, error)
}

// ErrRoleOver is a role whose task is over, and whose credentials have ended.
var ErrRoleOver = errors.New("the task is over, and the credentials of its execution role have ended")

// controlPlane is what the agent asks of the ECS API: the SDK's client.
type controlPlane interface {
	RegisterContainerInstance(context.Context, *ecs.RegisterContainerInstanceInput, ...func(*ecs.Options)) (*ecs.RegisterContainerInstanceOutput, error)
	DiscoverPollEndpoint(context.Context, *ecs.DiscoverPollEndpointInput, ...func(*ecs.Options)) (*ecs.DiscoverPollEndpointOutput, error)
	SubmitTaskStateChange(context.Context, *ecs.SubmitTaskStateChangeInput, ...func(*ecs.Options)) (*ecs.SubmitTaskStateChangeOutput, error)
	SubmitContainerStateChange(context.Context, *ecs.SubmitContainerStateChangeInput, ...func(*ecs.Options)) (*ecs.SubmitContainerStateChangeOutput, error)
}

// onlyOnce leaves repeating to the agent, which knows how long to wait for what.
func onlyOnce(o *ecs.Options) { o.Retryer = aws.NopRetryer{} }

// parts are what tasks are run with.
type parts struct {
	images   image.Store
	networks network.Network
	runtime  runtime.Runtime
	logs     LogDrivers
	control  controlPlane
	// submitting bounds the submissions under way.
	submitting chan struct{}
	db         *db
	vault      *vault
	// volumes is the directory of the tasks' own volumes.
	volumes string
	region  string
	// cleanImages is how often unused images are looked for; 0 means cleanEvery.
	cleanImages time.Duration
	now         func() time.Time
	newID       func() string
	log         *slog.Logger
}

// backoff waits between attempts: 250 ms, growing by half, at most limit.
type backoff struct {
	wait, limit time.Duration
}

func newBackoff(limit time.Duration) *backoff {
	return &backoff{wait: 250 * time.Millisecond, limit: limit}
}

// next returns how long to wait now, and grows.
func (b *backoff) next() time.Duration {
	wait := jittered(b.wait)
	b.wait = min(b.wait+b.wait/2, b.limit)
	return wait
}

// jittered is a fifth more or less, so that nodes do not come back all at once.
func jittered(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

// sleep waits, and returns false when ctx ended.
func (b *backoff) sleep(ctx context.Context) bool { return pause(ctx, b.next()) }

// pause waits for d, and returns false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
