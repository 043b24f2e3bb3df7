package ecs

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"longshore.dev/longshore/internal/wire"
)

type nobody struct{}

func (nobody) Credential(context.Context, string, string) (wire.Credential, error) {
	return wire.Credential{}, wire.ErrNoCredential
}

func (nobody) Authorize(context.Context, *wire.AuthorizationRequest) error { return nil }

func registry(s *Service) *wire.Registry {
	r := wire.NewRegistry(wire.Chain{
		Credentials: nobody{}, Authorizer: nobody{}, Now: time.Now,
		NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
	})
	s.Register(r)
	return r
}

func TestOperationsFileTellsTheTruth(t *testing.T) {
	r := newRoom(t)
	served := registry(r.Service).Operations("ecs")
	client := reflect.TypeFor[*ecs.Client]()
	listed := []string{}
	for line := range strings.Lines(operations) {
		name, status, ok := strings.Cut(strings.TrimSpace(line), " ")
		listed = append(listed, name)
		if kind, missing, partial := strings.Cut(status, ": "); !ok || !slices.Contains([]string{"full", "partial", "absent"}, kind) || partial != (kind == "partial") || partial && missing == "" {
			t.Errorf("%q is not NAME full, NAME absent or NAME partial: what is missing", line)
		}
		if absent := status == "absent"; absent == slices.Contains(served, name) {
			t.Errorf("%s is said to be %s, served: %v", name, status, !absent)
		}
		if _, ok := client.MethodByName(name); !ok {
			t.Errorf("%s is not an operation of ECS", name)
		}
	}
	if len(listed) != 88 || !slices.IsSorted(listed) {
		t.Errorf("%d operations are listed (sorted: %v), ECS has 88", len(listed), slices.IsSorted(listed))
	}
	for _, name := range served {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is served and not listed", name)
		}
	}
}

func TestAnAgentMayActForItselfOnly(t *testing.T) {
	r := newRoom(t)
	mine := r.join("n1", "default", 1024, 1024)
	other := r.join("n2", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	task := func(instance *string) *string {
		out, err := r.StartTask(asRoot(), &ecs.StartTaskInput{TaskDefinition: aws.String("web"), ContainerInstances: []string{*instance}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Tasks[0].TaskArn
	}
	myTask, otherTask := task(mine.ContainerInstanceArn), task(other.ContainerInstanceArn)
	for _, c := range []struct {
		name    string
		input   any
		allowed bool
	}{
		{"register", &ecs.RegisterContainerInstanceInput{}, true},
		{"register as its own instance", &ecs.RegisterContainerInstanceInput{ContainerInstanceArn: mine.ContainerInstanceArn}, true},
		{"register as another's instance", &ecs.RegisterContainerInstanceInput{ContainerInstanceArn: other.ContainerInstanceArn}, false},
		{"report on its own task", &ecs.SubmitTaskStateChangeInput{Task: myTask}, true},
		{"report on another's task", &ecs.SubmitTaskStateChangeInput{Task: otherTask}, false},
		{"report on another's container", &ecs.SubmitContainerStateChangeInput{Task: otherTask}, false},
		{"find its endpoint", &ecs.DiscoverPollEndpointInput{ContainerInstance: mine.ContainerInstanceArn}, true},
		{"drain itself", &ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{*mine.ContainerInstanceArn}}, true},
		{"drain itself and another", &ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{*mine.ContainerInstanceArn, *other.ContainerInstanceArn}}, false},
		{"read its task's tags", &ecs.ListTagsForResourceInput{ResourceArn: myTask}, true},
		{"read another's task's tags", &ecs.ListTagsForResourceInput{ResourceArn: otherTask}, false},
		{"make the default cluster", &ecs.CreateClusterInput{}, true},
		{"make another cluster", &ecs.CreateClusterInput{ClusterName: aws.String("x")}, false},
		{"run a task", &ecs.RunTaskInput{TaskDefinition: aws.String("web")}, false},
		{"list tasks", &ecs.ListTasksInput{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := r.NodeMay(t.Context(), &wire.AuthorizationRequest{
				Call: wire.CallFrom(asNode("n1")), Action: "ecs:" + c.name, Input: c.input,
			})
			if (err == nil) != c.allowed {
				t.Errorf("%v, want allowed: %v", err, c.allowed)
			}
		})
	}
}

// resourceRecorder records what the authoriser is asked about.
type resourceRecorder struct {
	nobody
	asked [][]string
}

func (r *resourceRecorder) Authorize(_ context.Context, req *wire.AuthorizationRequest) error {
	r.asked = append(r.asked, append([]string{req.Action}, append(req.Resources, req.Conditions["ecs:cluster"]...)...))
	return nil
}

func TestCallsAreAuthorisedOnWhatTheyName(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1024, 1024)
	r.define(simple("web", 1, 6))
	recorder := &resourceRecorder{}
	reg := wire.NewRegistry(wire.Chain{
		Credentials: nobody{}, Authorizer: recorder, Now: time.Now,
		NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
	})
	r.Register(reg)
	root := wire.Principal{Kind: wire.PrincipalRoot, AccountID: testAccount}
	out, err := wire.Invoke[ecs.RunTaskInput, ecs.RunTaskOutput](t.Context(), reg, root, testAccount, testRegion, "ecs", "RunTask",
		&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	arn := *out.Tasks[0].TaskArn
	if _, err := wire.Invoke[ecs.StopTaskInput, ecs.StopTaskOutput](t.Context(), reg, root, testAccount, testRegion, "ecs", "StopTask",
		&ecs.StopTaskInput{Task: aws.String(lastPart(arn))}); err != nil {
		t.Fatal(err)
	}
	cluster := clusterARN(testScope, "default")
	want := [][]string{
		{"ecs:RunTask", taskDefinitionARN(testScope, "web", 1), cluster},
		{"ecs:StopTask", arn, cluster},
	}
	if !reflect.DeepEqual(recorder.asked, want) {
		t.Errorf("asked %v, want %v", recorder.asked, want)
	}
}
