package ecs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
)

const (
	testAccount = "123456789012"
	testRegion  = "eu-west-1"
)

var testScope = store.Scope{Account: testAccount, Region: testRegion}

// room is a Service over an in-memory store, with a clock and callers.
type room struct {
	*Service
	t     testing.TB
	clock atomic.Int64
	ids   atomic.Int64
}

func newRoom(t testing.TB, options ...func(*Deps)) *room {
	t.Helper()
	r := &room{t: t}
	r.clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	kv := memkv.New()
	db := store.New(kv, store.Options{})
	deps := Deps{
		DB: db, Endpoint: "http://127.0.0.1:4566",
		Now:   func() time.Time { return time.Unix(0, r.clock.Load()).UTC() },
		NewID: func() string { return fmt.Sprintf("%032x", r.ids.Add(1)) },
	}
	for _, o := range options {
		o(&deps)
	}
	s, err := New(deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), kv.Close()); err != nil {
			t.Error(err)
		}
	})
	r.Service = s
	return r
}

func (r *room) advanceClock(d time.Duration) { r.clock.Add(int64(d)) }

// as is the context of a call by a principal.
func as(p wire.Principal) context.Context {
	p.AccountID = testAccount
	return wire.WithCall(context.Background(), &wire.Call{
		RequestID: "r-1", Account: testAccount, Region: testRegion, Service: "ecs", Principal: p,
	})
}

func asRoot() context.Context { return as(wire.Principal{Kind: wire.PrincipalRoot}) }

func asNode(id string) context.Context {
	return as(wire.Principal{Kind: wire.PrincipalNode, NodeID: id})
}

// define stores an ACTIVE task definition revision.
func (r *room) define(d types.TaskDefinition) string {
	r.t.Helper()
	if d.Compatibilities == nil {
		d.Compatibilities = []types.Compatibility{types.CompatibilityEc2, types.CompatibilityExternal}
	}
	if d.Revision == 0 {
		d.Revision = 1
	}
	d.Status = types.TaskDefinitionStatusActive
	d.TaskDefinitionArn = aws.String(taskDefinitionARN(testScope, *d.Family, d.Revision))
	r.update(func(tx *store.Tx) {
		r.definitions.Put(tx, testScope, definitionID(*d.Family, d.Revision), &TaskDefinition{Definition: d})
		r.families.Put(tx, testScope, *d.Family, &Family{Name: *d.Family, LastRevision: d.Revision, LatestActive: d.Revision})
	})
	return *d.TaskDefinitionArn
}

func (r *room) update(fn func(tx *store.Tx)) {
	r.t.Helper()
	if err := r.db.Update(context.Background(), func(tx *store.Tx) error { fn(tx); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) addClusterNamed(name string) {
	r.t.Helper()
	c := &Cluster{Name: name, Generation: r.id(), Status: statusActive, CreatedAt: r.now()}
	r.update(func(tx *store.Tx) { r.addCluster(tx, testScope, c) })
}

// simple is a task definition of one container.
func simple(family string, cpu, memory int32, hostPorts ...int32) types.TaskDefinition {
	c := types.ContainerDefinition{Name: aws.String("main"), Image: aws.String("longshore/sample"), Cpu: cpu, Memory: &memory}
	for _, p := range hostPorts {
		c.PortMappings = append(c.PortMappings, types.PortMapping{ContainerPort: aws.Int32(80), HostPort: aws.Int32(p)})
	}
	return types.TaskDefinition{Family: &family, ContainerDefinitions: []types.ContainerDefinition{c}}
}

// fargate is a task definition that Fargate takes.
func fargate(family string) types.TaskDefinition {
	d := simple(family, 0, 512)
	d.Cpu, d.Memory, d.NetworkMode = aws.String("256"), aws.String("512"), types.NetworkModeAwsvpc
	d.Compatibilities = []types.Compatibility{types.CompatibilityEc2, types.CompatibilityFargate}
	return d
}

func resources(cpu, memory int32) []types.Resource {
	return []types.Resource{
		{Name: aws.String("CPU"), Type: aws.String("INTEGER"), IntegerValue: cpu},
		{Name: aws.String("MEMORY"), Type: aws.String("INTEGER"), IntegerValue: memory},
		{Name: aws.String("PORTS"), Type: aws.String("STRINGSET"), StringSetValue: []string{"22", "51678"}},
		{Name: aws.String("PORTS_UDP"), Type: aws.String("STRINGSET"), StringSetValue: []string{}},
	}
}

// join registers a node in a cluster and connects its agent.
func (r *room) join(node, cluster string, cpu, memory int32, attributes ...types.Attribute) types.ContainerInstance {
	r.t.Helper()
	out, err := r.RegisterContainerInstance(asNode(node), &ecs.RegisterContainerInstanceInput{
		Cluster: &cluster, TotalResources: resources(cpu, memory), Attributes: attributes,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.Opened(context.Background(), r.session(node, *out.ContainerInstance.ContainerInstanceArn)); err != nil {
		r.t.Fatal(err)
	}
	return *out.ContainerInstance
}

// joinUniversal does so with a node that serves every cluster and Fargate.
func (r *room) joinUniversal(node string, cpu, memory int32) types.ContainerInstance {
	r.t.Helper()
	if err := r.PutNode(context.Background(), testAccount, testRegion, Admission{NodeID: node, All: true, Fargate: true}); err != nil {
		r.t.Fatal(err)
	}
	return r.join(node, "default", cpu, memory, attribute(AttributeUniversal, "true"), attribute(AttributeFargate, "true"))
}

func attribute(name, value string) types.Attribute {
	return types.Attribute{Name: &name, Value: &value}
}

func (r *room) session(node, instance string) acs.Session {
	return acs.Session{
		ID: "session-of-" + node, Region: testRegion, Cluster: "default", Instance: instance, Endpoint: "http://cp:4566",
		Principal: wire.Principal{Kind: wire.PrincipalNode, NodeID: node, AccountID: testAccount},
	}
}

func (r *room) run(in *ecs.RunTaskInput) *ecs.RunTaskOutput {
	r.t.Helper()
	out, err := r.RunTask(asRoot(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// runOne runs one task and returns its ARN.
func (r *room) runOne(in *ecs.RunTaskInput) string {
	r.t.Helper()
	out := r.run(in)
	if len(out.Tasks) != 1 || len(out.Failures) != 0 {
		r.t.Fatalf("%d tasks, failures %v; want one task", len(out.Tasks), failures(out.Failures))
	}
	return *out.Tasks[0].TaskArn
}

func (r *room) describe(cluster, arn string) types.Task {
	r.t.Helper()
	out, err := r.DescribeTasks(asRoot(), &ecs.DescribeTasksInput{
		Cluster: &cluster, Tasks: []string{arn}, Include: []types.TaskField{types.TaskFieldTags},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(out.Tasks) != 1 {
		r.t.Fatalf("task %s is not described: %v", arn, failures(out.Failures))
	}
	return out.Tasks[0]
}

// report reports a task's status as its node's agent.
func (r *room) report(node, arn, status string, containers ...types.ContainerStateChange) {
	r.t.Helper()
	_, err := r.SubmitTaskStateChange(asNode(node), &ecs.SubmitTaskStateChangeInput{
		Cluster: aws.String("default"), Task: &arn, Status: &status, Containers: containers,
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func running(name string) types.ContainerStateChange {
	return types.ContainerStateChange{ContainerName: &name, Status: aws.String("RUNNING"), RuntimeId: aws.String("rt-" + name)}
}

func stopped(name string, code int32) types.ContainerStateChange {
	return types.ContainerStateChange{ContainerName: &name, Status: aws.String("STOPPED"), ExitCode: &code}
}

func failures(list []types.Failure) (text []string) {
	for _, f := range list {
		text = append(text, deref(f.Arn)+" "+deref(f.Reason))
	}
	return text
}

// wantError checks an API error's code and message.
func wantError(t testing.TB, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("error %v; want %s", err, code)
	}
	if api.ErrorCode() != code || message != "" && api.ErrorMessage() != message {
		t.Fatalf("%s: %q; want %s: %q", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

// smallVPC has subnets of 28 addresses or so, so that tests can exhaust one.
var smallVPC = VPC{CIDR: netip.MustParsePrefix("10.9.0.0/24"), Zones: []string{"a", "b", "c", "d", "e", "f", "g", "h"}}

// assignments are what a node's agent is told.
func (r *room) assignments(node string) []acs.Assignment {
	r.t.Helper()
	n, ok := r.node(r.db.Snapshot(), testScope, node)
	if !ok {
		r.t.Fatalf("node %s is unknown", node)
	}
	list, err := r.Assignments(context.Background(), r.session(node, instanceARN(testScope, n.HomeCluster, n.HomeInstance)))
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
