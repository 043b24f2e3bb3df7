package test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// machine is a container instance without a machine: it is registered through
// the API and speaks Amazon's agent protocol, and its tasks do nothing.
type machine struct {
	l       *longshore
	cluster string
	arn     string
	mute    atomic.Bool // acknowledges tasks, and never says that they run
	patient atomic.Bool // says it again until the server is there

	mu   sync.Mutex
	seen map[string]string // task ARN → last status submitted
}

// machine registers one and keeps its session until the test's end.
func (l *longshore) machine(cluster, zone string, cpu, memory int32, attributes map[string]string) *machine {
	l.t.Helper()
	in := &ecs.RegisterContainerInstanceInput{Cluster: &cluster, TotalResources: []types.Resource{
		{Name: aws.String("CPU"), Type: aws.String("INTEGER"), IntegerValue: cpu},
		{Name: aws.String("MEMORY"), Type: aws.String("INTEGER"), IntegerValue: memory},
		{Name: aws.String("PORTS"), Type: aws.String("STRINGSET"), StringSetValue: []string{"22"}},
	}, Attributes: []types.Attribute{
		{Name: aws.String("ecs.availability-zone"), Value: &zone},
		{Name: aws.String("com.amazonaws.ecs.capability.docker-remote-api.1.18")},
	}}
	for name, value := range attributes {
		in.Attributes = append(in.Attributes, types.Attribute{Name: &name, Value: &value})
	}
	out, err := l.ecs().RegisterContainerInstance(context.Background(), in)
	if err != nil {
		l.t.Fatal(err)
	}
	m := &machine{l: l, cluster: cluster, arn: aws.ToString(out.ContainerInstance.ContainerInstanceArn), seen: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { m.serve(ctx) })
	l.t.Cleanup(func() {
		cancel()
		done.Wait()
		// Its tasks end with it; the cluster may be gone already.
		_, err := l.ecs().DeregisterContainerInstance(context.Background(), &ecs.DeregisterContainerInstanceInput{
			Cluster: &cluster, ContainerInstance: &m.arn, Force: aws.Bool(true)})
		if err != nil && code(err) != "ClusterNotFoundException" {
			l.t.Errorf("deregister %s: %v", m.arn, err)
		}
	})
	l.eventually("the machine is connected", func() error {
		if !m.describe().AgentConnected {
			return errNotYet("not connected")
		}
		return nil
	})
	return m
}

func (m *machine) describe() types.ContainerInstance {
	m.l.t.Helper()
	out, err := m.l.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{
		Cluster: &m.cluster, ContainerInstances: []string{m.arn}})
	if err != nil || len(out.ContainerInstances) != 1 {
		m.l.t.Fatalf("describe %s: %+v %v", m.arn, out, err)
	}
	return out.ContainerInstances[0]
}

// remaining is the amount that an instance has left of CPU or MEMORY.
func (m *machine) remaining(name string) int32 {
	for _, r := range m.describe().RemainingResources {
		if aws.ToString(r.Name) == name {
			return r.IntegerValue
		}
	}
	m.l.t.Fatalf("the instance has no %s", name)
	return 0
}

// serve keeps a session open.
func (m *machine) serve(ctx context.Context) {
	sign := func(r *http.Request, body []byte) error {
		return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, region, "ecs", sigv4.Hash(body), time.Now())
	}
	for ctx.Err() == nil {
		endpoint, err := m.l.ecs().DiscoverPollEndpoint(ctx, &ecs.DiscoverPollEndpointInput{Cluster: &m.cluster, ContainerInstance: &m.arn})
		if err == nil {
			var client *acs.Client
			client, err = acs.Dial(ctx, aws.ToString(endpoint.Endpoint), url.Values{
				"clusterArn": {m.cluster}, "containerInstanceArn": {m.arn}, "agentHash": {"x"}, "agentVersion": {"1.99.0"},
				"seqNum": {"1"}, "protocolVersion": {"2"}, "sendCredentials": {"true"},
			}, sign, nil)
			if err == nil {
				m.session(ctx, client)
				client.Close()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *machine) session(ctx context.Context, client *acs.Client) {
	for {
		frame, err := client.Read(ctx)
		if err != nil {
			return
		}
		var payload acs.Payload
		if json.Unmarshal(frame.Message, &payload) != nil {
			continue
		}
		switch frame.Type {
		case acs.TypeHeartbeat:
			_ = client.Send(ctx, acs.TypeHeartbeatAck, acs.HeartbeatAck{MessageID: payload.MessageID})
		case acs.TypePayload, acs.TypeManifest:
			_ = client.Send(ctx, acs.TypeAck, acs.Ack{Cluster: payload.ClusterARN, ContainerInstance: payload.ContainerInstanceARN, MessageID: payload.MessageID})
			if frame.Type == acs.TypePayload && !m.mute.Load() {
				m.submit(ctx, payload.Tasks)
			}
		}
	}
}

// submit says of each task that it is as desired.
func (m *machine) submit(ctx context.Context, tasks []acs.Task) {
	for _, t := range tasks {
		m.mu.Lock()
		known := m.seen[t.ARN] == t.DesiredStatus
		m.seen[t.ARN] = t.DesiredStatus
		m.mu.Unlock()
		if known {
			continue
		}
		in := &ecs.SubmitTaskStateChangeInput{Cluster: &m.cluster, Task: aws.String(t.ARN), Status: aws.String(t.DesiredStatus)}
		for _, c := range t.Containers {
			in.Containers = append(in.Containers, types.ContainerStateChange{ContainerName: aws.String(c.Name), Status: aws.String(t.DesiredStatus)})
		}
		_, err := m.l.ecs().SubmitTaskStateChange(ctx, in)
		for err != nil && m.patient.Load() && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			_, err = m.l.ecs().SubmitTaskStateChange(ctx, in)
		}
		if err != nil && ctx.Err() == nil {
			m.l.t.Errorf("submit %s of %s: %v", t.DesiredStatus, t.ARN, err)
		}
	}
}

// fleet makes a cluster whose only machines are those that the test adds: the
// real node is drained in it.
func (l *longshore) fleet(cluster string) {
	l.t.Helper()
	ctx := context.Background()
	if _, err := l.ecs().CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &cluster}); err != nil {
		l.t.Fatal(err)
	}
	list, err := l.ecs().ListContainerInstances(ctx, &ecs.ListContainerInstancesInput{Cluster: &cluster})
	if err != nil || len(list.ContainerInstanceArns) != 1 {
		l.t.Fatalf("the new cluster's instances: %+v %v", list, err)
	}
	drained, err := l.ecs().UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateInput{
		Cluster: &cluster, ContainerInstances: list.ContainerInstanceArns, Status: types.ContainerInstanceStatusDraining})
	if err != nil || len(drained.ContainerInstances) != 1 || aws.ToString(drained.ContainerInstances[0].Status) != "DRAINING" {
		l.t.Fatalf("draining: %+v %v", drained, err)
	}
}

// defineOne registers a one-container definition and returns its ARN.
func (l *longshore) defineOne(family string, cpu, memory int32) string {
	l.t.Helper()
	out, err := l.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{
		Family: &family, ContainerDefinitions: []types.ContainerDefinition{
			{Name: aws.String("main"), Image: aws.String("longshore/sample"), Cpu: cpu, Memory: &memory},
		}, Tags: []types.Tag{{Key: aws.String("origin"), Value: aws.String("definition")}},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return aws.ToString(out.TaskDefinition.TaskDefinitionArn)
}

// runTasks runs tasks, of which all must be placed.
func (l *longshore) runTasks(in *ecs.RunTaskInput) []types.Task {
	l.t.Helper()
	call := *in // the SDK leaves its token in what it is given
	out, err := l.ecs().RunTask(context.Background(), &call)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(out.Failures) > 0 || len(out.Tasks) != int(max(aws.ToInt32(in.Count), 1)) {
		l.t.Fatalf("%d tasks, failures %+v", len(out.Tasks), out.Failures)
	}
	return out.Tasks
}

// tally counts tasks by their instances.
func tally(tasks []types.Task) map[string]int {
	n := map[string]int{}
	for _, t := range tasks {
		n[aws.ToString(t.ContainerInstanceArn)]++
	}
	return n
}

func arns(tasks []types.Task) []string {
	var all []string
	for _, t := range tasks {
		all = append(all, aws.ToString(t.TaskArn))
	}
	return all
}
