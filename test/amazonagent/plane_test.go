// Package amazonagent plays Amazon's agent, frame by frame, against the real
// control plane over real HTTP and websockets. It shares no shapes and no code with
// internal/acs: what travels is written here as the protocol has it.
package amazonagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/control"
	"longshore.dev/longshore/internal/service/iam"
)

const (
	region  = "us-east-1"
	account = "000000000000"
)

var root = iam.AccessKey{ID: "AKIAEXAMPLEEXAMPLE00", Secret: "example/secret/of/the/end/to/end/tests00"}

// plane is a control plane that can be restarted in place.
type plane struct {
	t      *testing.T
	dir    string
	listen string

	server *control.Server
	cancel context.CancelFunc
	done   chan error
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, dir: t.TempDir(), listen: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func (p *plane) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	server, err := control.Open(ctx, control.Config{
		DataDir: p.dir, Listen: p.listen, Region: region, Account: account, Root: root, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		cancel()
		p.t.Fatal(err)
	}
	p.server, p.cancel, p.done = server, cancel, make(chan error, 1)
	go func() { p.done <- server.Run(ctx) }()
}

func (p *plane) stop() {
	p.cancel()
	if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
		p.t.Errorf("the server stopped: %v", err)
	}
}

func (p *plane) restart() {
	p.t.Helper()
	p.stop()
	p.start()
}

func (p *plane) endpoint() string { return "http://" + p.listen }

// user is a client of the API with the root user's key.
func (p *plane) user() *ecs.Client {
	return ecs.New(ecs.Options{
		Region: region, BaseEndpoint: aws.String(p.endpoint()),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: root.ID, SecretAccessKey: root.Secret}, nil
		}),
	})
}

// role makes a role that tasks may have.
func (p *plane) role(t *testing.T, name string) string {
	t.Helper()
	client := iamapi.New(iamapi.Options{Region: "us-east-1", BaseEndpoint: aws.String(p.endpoint()), Credentials: p.user().Options().Credentials})
	out, err := client.CreateRole(t.Context(), &iamapi.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.Role.Arn)
}

// cluster makes a cluster of its own for a test.
func (p *plane) cluster(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("c-%d", counter.next())
	if _, err := p.user().CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: &name}); err != nil {
		t.Fatal(err)
	}
	return name
}

var counter numbers

type numbers struct {
	mu sync.Mutex
	n  int
}

func (n *numbers) next() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n++
	return n.n
}

// define registers a task definition and returns its ARN.
func (p *plane) define(t *testing.T, in *ecs.RegisterTaskDefinitionInput) string {
	t.Helper()
	if in.Family == nil {
		in.Family = aws.String(fmt.Sprintf("f-%d", counter.next()))
	}
	out, err := p.user().RegisterTaskDefinition(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.TaskDefinition.TaskDefinitionArn
}

// one is a definition of one container.
func one(cpu, memory int32, change ...func(*types.ContainerDefinition)) *ecs.RegisterTaskDefinitionInput {
	c := types.ContainerDefinition{Name: aws.String("main"), Image: aws.String("busybox"), Cpu: cpu, Memory: &memory, Command: []string{"serve"}}
	for _, f := range change {
		f(&c)
	}
	return &ecs.RegisterTaskDefinitionInput{ContainerDefinitions: []types.ContainerDefinition{c}}
}

// run runs one task, which must be placed, and returns its ARN.
func (p *plane) run(t *testing.T, cluster, definition string) string {
	t.Helper()
	out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &cluster, TaskDefinition: &definition})
	if err != nil || len(out.Tasks) != 1 {
		t.Fatalf("run: %v, %s", err, failures(out))
	}
	return *out.Tasks[0].TaskArn
}

func failures(out *ecs.RunTaskOutput) (text string) {
	if out == nil {
		return ""
	}
	for _, f := range out.Failures {
		text += aws.ToString(f.Reason) + " " + aws.ToString(f.Detail) + "\n"
	}
	return text
}

// refused runs one task that must not be placed, and returns the reason.
func (p *plane) refused(t *testing.T, cluster, definition string) string {
	t.Helper()
	out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &cluster, TaskDefinition: &definition})
	if err != nil || len(out.Tasks) != 0 || len(out.Failures) != 1 {
		t.Fatalf("run: %v, %s; want one refusal", err, failures(out))
	}
	return aws.ToString(out.Failures[0].Reason)
}

func (p *plane) stopTask(t *testing.T, cluster, arn, reason string) {
	t.Helper()
	if _, err := p.user().StopTask(t.Context(), &ecs.StopTaskInput{Cluster: &cluster, Task: &arn, Reason: &reason}); err != nil {
		t.Fatal(err)
	}
}

func (p *plane) task(t *testing.T, cluster, arn string) types.Task {
	t.Helper()
	out, err := p.user().DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: []string{arn}})
	if err != nil || len(out.Tasks) != 1 {
		t.Fatalf("describe %s: %+v %v", arn, out, err)
	}
	return out.Tasks[0]
}

func (p *plane) instance(t *testing.T, cluster, arn string) types.ContainerInstance {
	t.Helper()
	out, err := p.user().DescribeContainerInstances(t.Context(), &ecs.DescribeContainerInstancesInput{
		Cluster: &cluster, ContainerInstances: []string{arn}, Include: []types.ContainerInstanceField{types.ContainerInstanceFieldContainerInstanceHealth},
	})
	if err != nil || len(out.ContainerInstances) != 1 {
		t.Fatalf("describe %s: %+v %v", arn, out, err)
	}
	return out.ContainerInstances[0]
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}
