package ecs

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// explained says why, and fails unless what is waited for, the facts and the advice
// contain the texts.
func (r *room) explained(ref, waiting string, facts ...string) Explanation {
	r.t.Helper()
	e, err := r.Explain(testAccount, testRegion, "", ref)
	if err != nil {
		r.t.Fatalf("%s: %v", ref, err)
	}
	if waiting == "" != (e.Waiting == "") || !strings.Contains(e.Waiting, waiting) || waiting != "" && (e.Since.IsZero() || e.Next == "") {
		r.t.Errorf("%s waits for %q since %s, and advises %q; want %q", ref, e.Waiting, e.Since, e.Next, waiting)
	}
	all := strings.Join(e.Why, "\n")
	for _, fact := range facts {
		if !strings.Contains(all, fact) {
			r.t.Errorf("%s: no fact says %q:\n%s", ref, fact, all)
		}
	}
	return e
}

// Whatever a service waits for, it says so, and since when.
func TestExplainService(t *testing.T) {
	r := serviceRoom(t)
	r.create(2)
	r.keep()
	began := r.now()
	r.explained("service/svc", "to be healthy", "(web:1, wanted): 0 tasks RUNNING, 2 on their way, 0 failed", "waits for its node to take it")
	r.obey()
	r.advanceClock(5 * time.Second)
	r.keep()
	if e := r.explained("service/svc", "to be healthy", "waits for 40s of running to count as healthy"); !e.Since.Equal(began) {
		t.Errorf("since %s, not %s", e.Since, began)
	}
	r.settle()
	r.explained("service/svc", "", "it has the 2 tasks that it wants")
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(1)})
	r.keep()
	r.keep()
	r.explained("service/svc", "being stopped to be gone", "waits for its containers to end")
	// No room for the new version beside the old.
	r.settle()
	big := simple("web", 1, 6)
	big.Revision, big.ContainerDefinitions[0].Memory = 3, aws.Int32(200_000)
	r.define(big)
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:3")})
	r.keep()
	r.explained("service/svc", "a place for its tasks: no container instance met all requirements (1 RESOURCE:MEMORY); the closest, arn:aws:ecs")
	deployment := "deployment/" + lastPart(deref(r.service().CurrentServiceDeployment))
	r.explained(deployment, "MiB of memory more", "(web:1, former): 1 tasks RUNNING")
	r.explained("deployment/"+lastPart(deref(r.service().Deployments[0].Id)), "MiB of memory more")
	r.explained(deref(r.service().CurrentServiceDeployment), "MiB of memory more")
}

func TestExplainServiceThatFails(t *testing.T) {
	r := serviceRoom(t)
	r.create(1, func(in *ecs.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true}}
	})
	r.settle()
	protected := r.serviceTasks(1)
	if _, err := r.UpdateTaskProtection(asRoot(), &ecs.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: protected, ProtectionEnabled: true}); err != nil {
		t.Fatal(err)
	}
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(0)})
	r.keep()
	r.explained("service/svc", "the protection of tasks to end")
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(1), TaskDefinition: aws.String("web:2"), DeploymentConfiguration: &types.DeploymentConfiguration{
		DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, ThresholdConfiguration: &types.ThresholdConfiguration{Type: types.ThresholdTypeCount, Value: 4}},
	}})
	for range 3 {
		r.keep()
		r.failing(2)
	}
	r.keep()
	r.explained("service/svc", "10s to pass before the next start, after 3 failed tasks in a row", "Essential container in task exited", "container main is STOPPED with exit code 1")
	r.advanceClock(time.Minute)
	r.keep()
	r.failing(2)
	r.keep()
	r.explained("service/svc", "another deployment: this one has failed")
	if e := r.explained("deployment/"+lastPart(deref(r.service().CurrentServiceDeployment)), "", reasonFailed); e.State != "STOPPED" {
		t.Errorf("its state is %s", e.State)
	}
}

func TestExplainTask(t *testing.T) {
	r := serviceRoom(t)
	out, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web:1")})
	if err != nil {
		t.Fatal(err)
	}
	arn := *out.Tasks[0].TaskArn
	task := "task/" + lastPart(arn)
	r.explained(task, "its node to take it", "container main is PENDING")
	r.report("n1", arn, "RUNNING", running("main"))
	r.explained(arn, "", "container main is RUNNING")
	if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &arn, Reason: aws.String("enough")}); err != nil {
		t.Fatal(err)
	}
	r.explained(task, "its containers to end", "it is being stopped: enough")
	r.report("n1", arn, "STOPPED", stopped("main", 137))
	r.explained(task, "", "UserInitiated: enough", "container main is STOPPED with exit code 137")
	for _, ref := range []string{"task/0123", "service/none", "deployment/none", "cluster/default", "", strings.Replace(arn, testAccount, "210987654321", 1)} {
		if e, err := r.Explain(testAccount, testRegion, "", ref); err == nil {
			t.Errorf("%q: %+v", ref, e)
		}
	}
}
