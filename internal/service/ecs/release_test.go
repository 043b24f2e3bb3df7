package ecs

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// release describes the service's latest release.
func (r *room) release() types.ServiceDeployment {
	r.t.Helper()
	out, err := r.DescribeServiceDeployments(asRoot(), &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{deref(r.service().CurrentServiceDeployment)}})
	if err != nil || len(out.ServiceDeployments) != 1 {
		r.t.Fatalf("%v %v", out, err)
	}
	return out.ServiceDeployments[0]
}

func (r *room) revisionOf(arn *string) types.ServiceRevision {
	r.t.Helper()
	out, err := r.DescribeServiceRevisions(asRoot(), &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{deref(arn)}})
	if err != nil || len(out.ServiceRevisions) != 1 {
		r.t.Fatalf("%v %v", out, err)
	}
	return out.ServiceRevisions[0]
}

// A release is PENDING until the loop begins with it, and SUCCESSFUL when all its tasks
// are healthy; both revisions of it can be described.
func TestReleaseFromRevisionToRevision(t *testing.T) {
	r := serviceRoom(t)
	r.create(2)
	if x := r.release(); x.Status != types.ServiceDeploymentStatusPending || x.StartedAt != nil || len(x.SourceServiceRevisions) != 0 {
		t.Errorf("made, it is %+v", x)
	}
	r.keep()
	if x := r.release(); x.Status != types.ServiceDeploymentStatusInProgress || x.StartedAt == nil || x.TargetServiceRevision.RequestedTaskCount != 2 || x.TargetServiceRevision.PendingTaskCount != 2 {
		t.Errorf("begun, it is %+v", x)
	}
	r.settle()
	first := r.release()
	if first.Status != types.ServiceDeploymentStatusSuccessful || first.FinishedAt == nil || first.DeploymentCircuitBreaker.Status != types.ServiceDeploymentRollbackMonitorsStatusDisabled {
		t.Errorf("over, it is %+v", first)
	}
	r.advanceClock(time.Hour)
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(3)})
	if got := r.release(); *got.ServiceDeploymentArn != *first.ServiceDeploymentArn {
		t.Error("scaling made a release")
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.keep()
	second := r.release()
	if len(second.SourceServiceRevisions) != 1 || *second.SourceServiceRevisions[0].Arn != *first.TargetServiceRevision.Arn || second.SourceServiceRevisions[0].RunningTaskCount != 2 {
		t.Errorf("from %+v", second.SourceServiceRevisions)
	}
	v := r.revisionOf(second.TargetServiceRevision.Arn)
	if !strings.HasSuffix(deref(v.TaskDefinition), "/web:2") || v.LaunchType != types.LaunchTypeEc2 || len(v.ContainerImages) != 1 || deref(v.ContainerImages[0].ContainerName) != "main" {
		t.Errorf("to %+v", v)
	}
	if digits := lastPart(*v.ServiceRevisionArn); deref(r.service().Deployments[0].Id) != "ecs-svc/"+digits || len(digits) != 19 {
		t.Errorf("the revision is %s, the deployment %s", digits, deref(r.service().Deployments[0].Id))
	}
	// A third release before the second is over.
	r.advanceClock(time.Second)
	r.updateService(&ecs.UpdateServiceInput{ForceNewDeployment: true})
	out, err := r.ListServiceDeployments(asRoot(), &ecs.ListServiceDeploymentsInput{Service: aws.String("svc"), MaxResults: aws.Int32(2)})
	if err != nil || len(out.ServiceDeployments) != 2 || out.NextToken == nil || out.ServiceDeployments[0].Status != types.ServiceDeploymentStatusPending ||
		*out.ServiceDeployments[1].ServiceDeploymentArn != *second.ServiceDeploymentArn || out.ServiceDeployments[1].Status != types.ServiceDeploymentStatusStopped {
		t.Fatalf("%+v %v", out, err)
	}
	out, err = r.ListServiceDeployments(asRoot(), &ecs.ListServiceDeploymentsInput{Service: aws.String("svc"), MaxResults: aws.Int32(2), NextToken: out.NextToken})
	if err != nil || len(out.ServiceDeployments) != 1 || out.NextToken != nil || *out.ServiceDeployments[0].ServiceDeploymentArn != *first.ServiceDeploymentArn {
		t.Errorf("%+v %v", out, err)
	}
	out, err = r.ListServiceDeployments(asRoot(), &ecs.ListServiceDeploymentsInput{
		Service: aws.String("svc"), Status: []types.ServiceDeploymentStatus{types.ServiceDeploymentStatusSuccessful}, CreatedAt: &types.CreatedAt{Before: aws.Time(r.now())},
	})
	if err != nil || len(out.ServiceDeployments) != 1 {
		t.Errorf("filtered: %+v %v", out, err)
	}
	if _, err := r.DeleteService(asRoot(), &ecs.DeleteServiceInput{Service: aws.String("svc"), Force: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if x := r.release(); x.Status != types.ServiceDeploymentStatusStopped || x.StoppedAt == nil {
		t.Errorf("deleted, it is %+v", x)
	}
}

// A release that the breaker ends says so, and where it has returned to.
func TestReleaseThatTheBreakerEnds(t *testing.T) {
	for _, rollback := range []bool{true, false} {
		r := serviceRoom(t)
		r.create(2, func(in *ecs.CreateServiceInput) {
			in.DeploymentConfiguration = &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: rollback}}
		})
		r.settle()
		first := r.release().TargetServiceRevision.Arn
		r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
		for range 4 {
			r.keep()
			r.failing(2)
			r.advanceClock(time.Minute)
		}
		r.keep()
		x := r.release()
		if b := x.DeploymentCircuitBreaker; b.Status != types.ServiceDeploymentRollbackMonitorsStatusTriggered || b.Threshold != 3 {
			t.Errorf("breaker %+v", b)
		}
		if !rollback {
			if x.Status != types.ServiceDeploymentStatusStopped || x.Rollback != nil || x.DeploymentCircuitBreaker.FailureCount < 3 {
				t.Errorf("without rollback: %+v", x)
			}
			continue
		}
		if x.Rollback == nil || *x.Rollback.ServiceRevisionArn != *first {
			t.Errorf("returned to: %+v", x.Rollback)
		}
		if s := r.settle(); *s.CurrentServiceRevisions[0].Arn != *first || len(s.CurrentServiceRevisions) != 1 {
			t.Errorf("it has returned to %+v", s.CurrentServiceRevisions)
		}
		if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackSuccessful || !strings.Contains(deref(x.StatusReason), "circuit breaker") {
			t.Errorf("rolled back: %s %s", x.Status, deref(x.StatusReason))
		}
	}
}

// StopServiceDeployment returns to the revision before, without a breaker.
func TestReleaseStoppedByHand(t *testing.T) {
	r := serviceRoom(t)
	r.create(2)
	r.settle()
	stop := func() error {
		_, err := r.StopServiceDeployment(asRoot(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: r.service().CurrentServiceDeployment})
		return err
	}
	var conflict *types.ConflictException
	if err := stop(); !errors.As(err, &conflict) {
		t.Errorf("one that is over: %v", err)
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	r.keep()
	r.obey()
	for range 2 { // stopping it again changes nothing
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackRequested {
		t.Errorf("asked to stop, it is %s", x.Status)
	}
	if s := r.settle(); len(s.Deployments) != 1 || !strings.HasSuffix(deref(s.TaskDefinition), "/web:1") || s.RunningCount != 2 {
		t.Errorf("it has %d deployments, %s, %d tasks", len(s.Deployments), deref(s.TaskDefinition), s.RunningCount)
	}
	if x := r.release(); x.Status != types.ServiceDeploymentStatusRollbackSuccessful || x.DeploymentCircuitBreaker.Status != types.ServiceDeploymentRollbackMonitorsStatusDisabled {
		t.Errorf("%+v", x)
	}
	for name, arn := range map[string]string{
		"of nothing":         strings.Replace(deref(r.service().CurrentServiceDeployment), "svc/", "svc/x", 1),
		"of another account": strings.Replace(deref(r.service().CurrentServiceDeployment), testAccount, "210987654321", 1),
	} {
		var missing *types.ServiceDeploymentNotFoundException
		if _, err := r.StopServiceDeployment(asRoot(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: &arn}); !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
		out, err := r.DescribeServiceDeployments(asRoot(), &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{arn}})
		if err != nil || len(out.Failures) != 1 || deref(out.Failures[0].Reason) != "MISSING" {
			t.Errorf("%s: %+v %v", name, out, err)
		}
	}
}

// The first release of a service has nothing to return to.
func TestFirstReleaseStopped(t *testing.T) {
	r := serviceRoom(t)
	r.create(2)
	r.keep()
	if _, err := r.StopServiceDeployment(asRoot(), &ecs.StopServiceDeploymentInput{ServiceDeploymentArn: r.service().CurrentServiceDeployment}); err != nil {
		t.Fatal(err)
	}
	r.keep()
	if x, s := r.release(), r.service(); x.Status != types.ServiceDeploymentStatusStopped || s.Deployments[0].RolloutState != types.DeploymentRolloutStateFailed {
		t.Errorf("%s, %s", x.Status, s.Deployments[0].RolloutState)
	}
}

// Releases and revisions are kept as long as AWS does, and no more than a hundred.
func TestOldReleasesAreForgotten(t *testing.T) {
	r := serviceRoom(t)
	r.create(1)
	r.settle()
	for range maxReleases + 5 {
		r.updateService(&ecs.UpdateServiceInput{ForceNewDeployment: true})
		r.advanceClock(time.Second)
	}
	count := func() (releases, revisions int) {
		for range r.releases.ListPrefix(r.db.Snapshot(), testScope, "default/svc/") {
			releases++
		}
		for range r.revisions.ListPrefix(r.db.Snapshot(), testScope, "default/svc/") {
			revisions++
		}
		return releases, revisions
	}
	if n, _ := count(); n > maxReleases+1 {
		t.Errorf("%d are kept", n)
	}
	r.settle()
	r.advanceClock(releaseLife)
	r.updateService(&ecs.UpdateServiceInput{ForceNewDeployment: true})
	if n, v := count(); n != 1 || v != 2 {
		t.Errorf("after 90 days there are %d releases and %d revisions", n, v)
	}
	if all := messages(r.settle()); !slices.ContainsFunc(all, func(m string) bool { return strings.Contains(m, "steady state") }) {
		t.Errorf("%q", all)
	}
}
