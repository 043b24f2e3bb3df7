package ecs

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// A protected task outlives a scale-in and a deployment, until its time is over.
func TestProtectedTask(t *testing.T) {
	r := serviceRoom(t)
	r.create(3)
	r.settle()
	kept := r.serviceTasks(1)[0]
	out, err := r.UpdateTaskProtection(asRoot(), &ecs.UpdateTaskProtectionInput{
		Cluster: aws.String("default"), Tasks: []string{kept}, ProtectionEnabled: true, ExpiresInMinutes: aws.Int32(60),
	})
	if err != nil || len(out.ProtectedTasks) != 1 || !out.ProtectedTasks[0].ProtectionEnabled || !out.ProtectedTasks[0].ExpirationDate.Equal(r.now().Add(time.Hour)) {
		t.Fatalf("%+v %v", out, err)
	}
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(1)})
	if r.settle(); !slices.Equal(r.serviceTasks(0), []string{kept}) {
		t.Errorf("scaled in, %v are left", r.serviceTasks(0))
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	s := r.settle()
	if !slices.Contains(r.serviceTasks(1), kept) || len(r.serviceTasks(2)) != 1 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateInProgress {
		t.Errorf("%d and %d tasks, the rollout is %s", len(r.serviceTasks(1)), len(r.serviceTasks(2)), s.Deployments[0].RolloutState)
	}
	r.advanceClock(time.Hour)
	if s = r.settle(); len(r.serviceTasks(1)) != 0 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
		t.Errorf("after its time %d are left, the rollout is %s", len(r.serviceTasks(1)), s.Deployments[0].RolloutState)
	}
	got, err := r.GetTaskProtection(asRoot(), &ecs.GetTaskProtectionInput{Cluster: aws.String("default"), Tasks: r.serviceTasks(2)})
	if err != nil || len(got.ProtectedTasks) != 1 || got.ProtectedTasks[0].ProtectionEnabled || got.ProtectedTasks[0].ExpirationDate != nil {
		t.Errorf("%+v %v", got, err)
	}
}

// Protection ends by hand, and with its service.
func TestProtectionEnds(t *testing.T) {
	for _, byHand := range []bool{true, false} {
		r := serviceRoom(t)
		r.create(2)
		r.settle()
		protect := func(on bool) {
			t.Helper()
			if out, err := r.UpdateTaskProtection(asRoot(), &ecs.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: r.serviceTasks(1), ProtectionEnabled: on}); err != nil || len(out.ProtectedTasks) != 2 {
				t.Fatalf("%+v %v", out, err)
			}
		}
		protect(true)
		r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(0)})
		if r.keep(); len(r.serviceTasks(1)) != 2 {
			t.Errorf("%d of 2 protected tasks are left", len(r.serviceTasks(1)))
		}
		if byHand {
			protect(false)
		} else if _, err := r.DeleteService(asRoot(), &ecs.DeleteServiceInput{Service: aws.String("svc")}); err != nil {
			t.Fatal(err)
		}
		if r.keep(); len(r.serviceTasks(1)) != 0 {
			t.Errorf("%d are left afterwards", len(r.serviceTasks(1)))
		}
	}
}

// What can't be protected is a failure with AWS's reason.
func TestWhatCanNotBeProtected(t *testing.T) {
	r := serviceRoom(t)
	run, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web:1")})
	if err != nil {
		t.Fatal(err)
	}
	missing := "0123456789abcdef0123456789abcdef"
	out, err := r.UpdateTaskProtection(asRoot(), &ecs.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: []string{*run.Tasks[0].TaskArn, missing}, ProtectionEnabled: true})
	if err != nil || len(out.Failures) != 2 || *out.Failures[0].Reason != "TASK_NOT_VALID" || *out.Failures[1].Reason != "MISSING" {
		t.Errorf("%+v %v", out, err)
	}
	for _, in := range []*ecs.UpdateTaskProtectionInput{
		{Cluster: aws.String("default"), ProtectionEnabled: true},
		{Cluster: aws.String("default"), ProtectionEnabled: true, Tasks: slices.Repeat([]string{missing}, 11)},
		{Cluster: aws.String("default"), ProtectionEnabled: true, Tasks: []string{missing}, ExpiresInMinutes: aws.Int32(2881)},
		{Cluster: aws.String("default"), ProtectionEnabled: true, Tasks: []string{missing}, ExpiresInMinutes: aws.Int32(0)},
		{Cluster: aws.String("default"), ProtectionEnabled: true, Tasks: []string{"no task"}},
	} {
		if _, err := r.UpdateTaskProtection(asRoot(), in); err == nil {
			t.Errorf("%+v was taken", in)
		}
	}
}
