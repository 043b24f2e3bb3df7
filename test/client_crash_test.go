package test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (l *longshore) logs() *cloudwatchlogs.Client {
	return cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
}

// writer makes one thing after another, and keeps what was acknowledged.
type writer struct {
	write func(n int) (string, error)
	// missing returns what is not there of all that was acknowledged.
	missing func(all []string) []string
	acked   []string
}

// TestKilledServerLosesNothingAcknowledged kills the server while eight clients
// write, several times, and looks for everything that it had said yes to.
func TestKilledServerLosesNothingAcknowledged(t *testing.T) {
	l := up(t, "--no-sample")
	l.fleet("crash")
	l.machine("crash", "us-east-1a", 1<<20, 1<<20, nil).mute.Store(true)
	l.defineOne("crash", 10, 16)
	var writers []*writer
	for i := range 2 {
		writers = append(writers, l.clusterWriter(i), l.definitionWriter(i), l.taskWriter(), l.eventWriter(i))
	}
	for round := range 3 {
		var total atomic.Int64
		var group sync.WaitGroup
		for _, w := range writers {
			group.Go(func() {
				for {
					acked, err := w.write(len(w.acked))
					if err != nil {
						return // the server is gone
					}
					w.acked = append(w.acked, acked)
					total.Add(1)
				}
			})
		}
		l.eventually("the writers have written", func() error {
			if n := total.Load(); n < 400 {
				return errNotYet(fmt.Sprint(n, " writes"))
			}
			return nil
		})
		if err := l.signal(syscall.SIGKILL); err == nil {
			t.Fatal("the server ended well on SIGKILL")
		}
		group.Wait()
		l.start()
		for i, w := range writers {
			if len(w.acked) == 0 {
				t.Errorf("round %d: writer %d had nothing acknowledged", round, i)
			}
			if missing := w.missing(w.acked); len(missing) > 0 {
				t.Errorf("round %d: writer %d lost %d of %d: %.500v", round, i, len(missing), len(w.acked), missing)
			}
		}
	}
}

// once is a client that does not try again: what it is told is the server's word.
func once(o *ecs.Options) { o.RetryMaxAttempts = 1 }

func notIn(all []string, found map[string]bool) []string {
	var missing []string
	for _, a := range all {
		if !found[a] {
			missing = append(missing, a)
		}
	}
	return missing
}

func (l *longshore) clusterWriter(i int) *writer {
	ctx := context.Background()
	return &writer{
		write: func(n int) (string, error) {
			out, err := l.ecs().CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String(fmt.Sprintf("crash-%d-%d", i, n))}, once)
			if err != nil {
				return "", err
			}
			return *out.Cluster.ClusterArn, nil
		},
		missing: func(all []string) []string {
			found := map[string]bool{}
			for pages := ecs.NewListClustersPaginator(l.ecs(), &ecs.ListClustersInput{}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					l.t.Fatal(err)
				}
				for _, arn := range page.ClusterArns {
					found[arn] = true
				}
			}
			return notIn(all, found)
		},
	}
}

func (l *longshore) definitionWriter(i int) *writer {
	ctx, family := context.Background(), fmt.Sprintf("crash-%d", i)
	return &writer{
		write: func(int) (string, error) {
			out, err := l.ecs().RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{Family: &family, ContainerDefinitions: []types.ContainerDefinition{
				{Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(16)},
			}}, once)
			if err != nil {
				return "", err
			}
			return *out.TaskDefinition.TaskDefinitionArn, nil
		},
		missing: func(all []string) []string {
			found := map[string]bool{}
			for pages := ecs.NewListTaskDefinitionsPaginator(l.ecs(), &ecs.ListTaskDefinitionsInput{FamilyPrefix: &family}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					l.t.Fatal(err)
				}
				for _, arn := range page.TaskDefinitionArns {
					if found[arn] {
						l.t.Errorf("%s is listed twice", arn)
					}
					found[arn] = true
				}
			}
			return notIn(all, found)
		},
	}
}

func (l *longshore) taskWriter() *writer {
	ctx := context.Background()
	return &writer{
		write: func(int) (string, error) {
			out, err := l.ecs().RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String("crash"), TaskDefinition: aws.String("crash")}, once)
			if err != nil {
				return "", err
			}
			if len(out.Tasks) != 1 {
				return "", fmt.Errorf("not placed: %+v", out.Failures)
			}
			return *out.Tasks[0].TaskArn, nil
		},
		missing: func(all []string) []string {
			found := map[string]bool{}
			for pages := ecs.NewListTasksPaginator(l.ecs(), &ecs.ListTasksInput{Cluster: aws.String("crash")}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					l.t.Fatal(err)
				}
				for _, arn := range page.TaskArns {
					found[arn] = true
				}
			}
			return notIn(all, found)
		},
	}
}

func (l *longshore) eventWriter(i int) *writer {
	ctx, group, stream := context.Background(), aws.String("/crash"), aws.String(fmt.Sprint("stream-", i))
	if _, err := l.logs().CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: group}); err != nil && code(err) != "ResourceAlreadyExistsException" {
		l.t.Fatal(err)
	}
	if _, err := l.logs().CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: group, LogStreamName: stream}); err != nil {
		l.t.Fatal(err)
	}
	return &writer{
		write: func(n int) (string, error) {
			message := fmt.Sprintf("event %d", n)
			_, err := l.logs().PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: group, LogStreamName: stream,
				LogEvents: []logtypes.InputLogEvent{{Timestamp: aws.Int64(time.Now().UnixMilli()), Message: &message}},
			}, func(o *cloudwatchlogs.Options) { o.RetryMaxAttempts = 1 })
			return message, err
		},
		missing: func(all []string) []string {
			found := map[string]bool{}
			in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: group, LogStreamName: stream, StartFromHead: aws.Bool(true), Limit: aws.Int32(100)}
			for {
				out, err := l.logs().GetLogEvents(ctx, in)
				if err != nil {
					l.t.Fatal(err)
				}
				for _, e := range out.Events {
					found[*e.Message] = true
				}
				if in.NextToken != nil && *in.NextToken == *out.NextForwardToken {
					return notIn(all, found)
				}
				in.NextToken = out.NextForwardToken
			}
		},
	}
}
