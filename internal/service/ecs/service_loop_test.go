package ecs

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/store"
)

// serviceRoom is a room with a node, versions 1 and 2 of "web", and a service's loop
// that a test steps.
func serviceRoom(t *testing.T) *room {
	r := newRoom(t)
	r.join("n1", "default", 100_000, 100_000)
	r.define(simple("web", 1, 6))
	second := simple("web", 2, 6)
	second.Revision = 2
	r.define(second)
	return r
}

func (r *room) create(desired int32, change ...func(*ecs.CreateServiceInput)) types.Service {
	r.t.Helper()
	in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: &desired}
	for _, c := range change {
		c(in)
	}
	out, err := r.CreateService(asRoot(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return *out.Service
}

func (r *room) updateService(in *ecs.UpdateServiceInput) {
	r.t.Helper()
	in.Service = aws.String("svc")
	if _, err := r.UpdateService(asRoot(), in); err != nil {
		r.t.Fatal(err)
	}
}

// keep runs the loop until it has nothing more to do, and returns the service.
func (r *room) keep() types.Service {
	r.t.Helper()
	for range 20 {
		if _, err := r.reconcileService(context.Background(), testAccount+"/"+testRegion+"/default/svc"); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.service()
}

func (r *room) service() types.Service {
	r.t.Helper()
	out, err := r.DescribeServices(asRoot(), &ecs.DescribeServicesInput{Services: []string{"svc"}})
	if err != nil || len(out.Services) != 1 {
		r.t.Fatalf("%v %v", out, err)
	}
	return out.Services[0]
}

// serviceTasks are the service's tasks of a version (0: any) that are desired RUNNING.
func (r *room) serviceTasks(version int32) (arns []string) {
	for _, t := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
		if t.DesiredStatus == taskRunning && (version == 0 || t.Revision == version) {
			arns = append(arns, taskARN(testScope, "default", t.ID))
		}
	}
	return arns
}

// obey does as the node's agent: what is to run runs, what is to stop stops.
func (r *room) obey() {
	r.t.Helper()
	for _, t := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
		arn := taskARN(testScope, "default", t.ID)
		switch {
		case t.LastStatus == taskStopped:
		case t.DesiredStatus == taskStopped:
			r.report(t.NodeID, arn, "STOPPED", stopped("main", 0))
		case t.LastStatus != taskRunning:
			r.report(t.NodeID, arn, "RUNNING", running("main"))
		}
	}
}

// settle lets the service come to rest on a node that obeys.
func (r *room) settle() types.Service {
	r.t.Helper()
	for range 12 {
		r.keep()
		r.obey()
		r.advanceClock(DefaultHealthyAfter)
	}
	return r.keep()
}

func messages(s types.Service) (all []string) {
	for _, e := range s.Events {
		all = append(all, deref(e.Message))
	}
	return all
}

func (r *room) wantEvent(text string) {
	r.t.Helper()
	if all := messages(r.service()); !slices.ContainsFunc(all, func(m string) bool { return strings.Contains(m, text) }) {
		r.t.Errorf("no event says %q: %q", text, all)
	}
}

func TestServiceStartsItsTasksAndKeepsThem(t *testing.T) {
	r := serviceRoom(t)
	made := r.create(3, func(in *ecs.CreateServiceInput) {
		in.EnableECSManagedTags, in.PropagateTags = true, types.PropagateTagsService
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}
	})
	if deref(made.Status) != "ACTIVE" || made.DesiredCount != 3 || len(made.Deployments) != 1 || deref(made.Deployments[0].Status) != "PRIMARY" ||
		*made.DeploymentConfiguration.MinimumHealthyPercent != 100 || *made.DeploymentConfiguration.MaximumPercent != 200 {
		t.Errorf("made %+v", made)
	}
	s := r.keep()
	tasks := r.serviceTasks(1)
	if len(tasks) != 3 || s.PendingCount != 3 || s.RunningCount != 0 {
		t.Fatalf("%d tasks, %d pending", len(tasks), s.PendingCount)
	}
	task := r.describe("default", tasks[0])
	tags := map[string]string{}
	for _, tag := range task.Tags {
		tags[*tag.Key] = *tag.Value
	}
	if deref(task.Group) != "service:svc" || deref(task.StartedBy) != deref(s.Deployments[0].Id) || tags["team"] != "a" || tags["aws:ecs:serviceName"] != "svc" || tags["aws:ecs:clusterName"] != "default" {
		t.Errorf("a task has the group %s, the starter %s, the tags %v", deref(task.Group), deref(task.StartedBy), tags)
	}
	r.obey()
	if s = r.keep(); s.RunningCount != 3 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateInProgress {
		t.Errorf("%d run, the rollout is %s", s.RunningCount, s.Deployments[0].RolloutState)
	}
	r.advanceClock(DefaultHealthyAfter)
	if s = r.keep(); s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
		t.Errorf("the rollout is %s", s.Deployments[0].RolloutState)
	}
	r.wantEvent("(service svc) has started 3 tasks: (task ")
	r.wantEvent("(service svc) has reached a steady state.")
	events := len(s.Events)
	if r.keep(); len(r.service().Events) != events {
		t.Errorf("at rest it says %q", messages(r.service()))
	}
	// One ends, another is stopped by hand: both are replaced.
	r.report("n1", tasks[0], "STOPPED", stopped("main", 1))
	if _, err := r.StopTask(asRoot(), &ecs.StopTaskInput{Task: &tasks[1]}); err != nil {
		t.Fatal(err)
	}
	r.report("n1", tasks[1], "STOPPED", stopped("main", 137))
	if s = r.settle(); s.RunningCount != 3 || len(r.serviceTasks(1)) != 3 {
		t.Errorf("%d run afterwards", s.RunningCount)
	}
}

// During a rollout the healthy tasks never fall below the minimum, nor do all rise
// above the maximum.
func TestServiceRollsToANewVersion(t *testing.T) {
	r := serviceRoom(t)
	r.create(4, func(in *ecs.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(75), MaximumPercent: aws.Int32(125)}
	})
	r.settle()
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	if s := r.service(); len(s.Deployments) != 2 || deref(s.Deployments[1].Status) != "ACTIVE" || s.Deployments[1].RunningCount != 4 {
		t.Errorf("deployments %+v", s.Deployments)
	}
	for range 30 {
		r.keep()
		there, healthy := 0, 0
		for _, k := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
			if k.LastStatus != taskStopped {
				there++
			}
			if k.LastStatus == taskRunning && k.DesiredStatus == taskRunning && r.now().Sub(k.StartedAt) >= DefaultHealthyAfter {
				healthy++
			}
		}
		if there > 5 || healthy < 3 {
			t.Fatalf("%d tasks are there, %d healthy", there, healthy)
		}
		r.obey()
		r.advanceClock(DefaultHealthyAfter)
	}
	s := r.keep()
	if len(s.Deployments) != 1 || s.RunningCount != 4 || len(r.serviceTasks(2)) != 4 || len(r.serviceTasks(1)) != 0 {
		t.Errorf("%d deployments, %d running, %d of the new version", len(s.Deployments), s.RunningCount, len(r.serviceTasks(2)))
	}
	r.wantEvent("has stopped 1 running tasks: (task ")
	r.wantEvent("deployment completed.")
}

// failing ends every task of a version as soon as it is there.
func (r *room) failing(version int32) {
	for _, arn := range r.serviceTasks(version) {
		r.report("n1", arn, "STOPPED", stopped("main", 1))
	}
}

func TestBreakerRollsBack(t *testing.T) {
	for _, rollback := range []bool{true, false} {
		r := serviceRoom(t)
		r.create(2, func(in *ecs.CreateServiceInput) {
			in.DeploymentConfiguration = &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: rollback}}
		})
		r.settle()
		r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
		for range 4 {
			r.keep()
			r.failing(2)
			r.advanceClock(time.Minute)
		}
		s := r.keep()
		r.wantEvent("deployment failed: tasks failed to start.")
		if !rollback {
			if s.Deployments[0].RolloutState != types.DeploymentRolloutStateFailed || s.Deployments[0].FailedTasks < 3 || len(r.serviceTasks(1)) != 2 || len(r.serviceTasks(2)) != 0 {
				t.Errorf("without rollback: %s after %d failures, %d and %d tasks", s.Deployments[0].RolloutState, s.Deployments[0].FailedTasks, len(r.serviceTasks(1)), len(r.serviceTasks(2)))
			}
			continue
		}
		r.wantEvent("rolling back to deployment ecs-svc/")
		if s = r.settle(); len(s.Deployments) != 1 || s.RunningCount != 2 || len(r.serviceTasks(1)) != 2 || !strings.HasSuffix(deref(s.TaskDefinition), "web:1") {
			t.Errorf("rolled back to %s with %d tasks, %d deployments", deref(s.TaskDefinition), s.RunningCount, len(s.Deployments))
		}
	}
}

// health has a task's container report its health.
func (r *room) health(arn string, status types.HealthStatus) {
	r.update(func(tx *store.Tx) {
		key := memberKey("default", lastPart(arn))
		old, _ := r.tasks.Get(tx, testScope, key)
		k := r.tasks.Clone(old)
		k.setHealth(map[string]types.HealthStatus{"main": status})
		r.tasks.Put(tx, testScope, key, k)
	})
}

// A version whose tasks run but are never healthy is rolled back too.
func TestBreakerCountsTasksThatAreNeverHealthy(t *testing.T) {
	r := serviceRoom(t)
	checked := simple("web", 1, 6)
	checked.Revision = 3
	checked.ContainerDefinitions[0].HealthCheck = &types.HealthCheck{Command: []string{"CMD", "check"}}
	r.define(checked)
	r.create(2, func(in *ecs.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
	})
	r.settle()
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:3")})
	for range 5 {
		r.keep()
		r.obey()
		for _, arn := range r.serviceTasks(3) {
			r.health(arn, types.HealthStatusUnhealthy)
		}
		r.keep()
		r.obey()
		r.advanceClock(time.Minute)
	}
	r.wantEvent("deployment failed: tasks failed to start.")
	if s := r.settle(); len(s.Deployments) != 1 || s.RunningCount != 2 || len(r.serviceTasks(1)) != 2 {
		t.Errorf("%d deployments, %d running, %d of the old version: %q", len(s.Deployments), s.RunningCount, len(r.serviceTasks(1)), messages(s))
	}
}

// A task definition that is deregistered, or is being deleted, still serves the services
// that have it, or return to it: Terraform deregisters the former one at each change.
func TestServiceGoesOnWithADefinitionThatIsDeregistered(t *testing.T) {
	r := serviceRoom(t)
	r.create(2, func(in *ecs.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
	})
	r.settle()
	if _, err := r.DeregisterTaskDefinition(asRoot(), &ecs.DeregisterTaskDefinitionInput{TaskDefinition: aws.String("web:1")}); err != nil {
		t.Fatal(err)
	}
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(3)})
	if s := r.settle(); s.RunningCount != 3 {
		t.Errorf("scaled, it has %d tasks: %q", s.RunningCount, messages(s))
	}
	if _, err := r.DeleteTaskDefinitions(asRoot(), &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{"web:1"}}); err != nil {
		t.Fatal(err)
	}
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	for range 4 {
		r.keep()
		r.failing(2)
		if err := r.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.settle(); s.RunningCount != 3 || len(r.serviceTasks(1)) != 3 {
		t.Errorf("rolled back, it has %d tasks: %q", s.RunningCount, messages(s))
	}
	r.failing(1)
	if s := r.settle(); s.RunningCount != 3 {
		t.Errorf("after its tasks ended, it has %d: %q", s.RunningCount, messages(s))
	}
	if _, err := r.UpdateService(asRoot(), &ecs.UpdateServiceInput{Service: aws.String("svc"), TaskDefinition: aws.String("web:1")}); err == nil {
		t.Error("an update to a definition that is being deleted was taken")
	}
}

// Tasks that fail again and again are started less and less often, and it says so.
func TestFailingTasksAreStartedLessAndLessOften(t *testing.T) {
	r := serviceRoom(t)
	r.create(1)
	starts := 0
	for range 600 { // ten minutes
		r.keep()
		if n := len(r.serviceTasks(1)); n > 0 {
			starts += n
			r.failing(1)
		}
		r.advanceClock(time.Second)
	}
	if starts < 5 || starts > 12 {
		t.Errorf("in ten minutes %d tasks were started", starts)
	}
	r.wantEvent("is unable to consistently start tasks successfully")
}

func TestServiceThatFindsNoPlaceSaysWhy(t *testing.T) {
	r := newRoom(t)
	r.join("n1", "default", 1000, 1000)
	r.define(simple("web", 1, 700))
	r.create(2)
	s := r.keep()
	if len(r.serviceTasks(0)) != 1 {
		t.Errorf("%d tasks", len(r.serviceTasks(0)))
	}
	r.wantEvent("was unable to place a task because no container instance met all of its requirements. Reason: RESOURCE:MEMORY. ")
	if n := len(s.Events); n > 3 {
		t.Errorf("it says the same again: %q", messages(s))
	}
	r.join("n2", "default", 1000, 1000)
	if r.keep(); len(r.serviceTasks(0)) != 2 {
		t.Errorf("with another instance it has %d tasks", len(r.serviceTasks(0)))
	}
}

func TestServiceLeavesAnInstanceThatIsDrained(t *testing.T) {
	r := serviceRoom(t)
	r.create(2)
	r.settle()
	second := r.join("n2", "default", 100_000, 100_000)
	first := r.assignments("n1")
	n, _ := r.node(r.db.Snapshot(), testScope, "n1")
	drained := instanceARN(testScope, "default", n.HomeInstance)
	if _, err := r.UpdateContainerInstancesState(asRoot(), &ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{drained}, Status: types.ContainerInstanceStatusDraining}); err != nil {
		t.Fatal(err)
	}
	s := r.settle()
	if len(first) != 2 || s.RunningCount != 2 || len(r.assignments("n1")) != 0 || len(r.assignments("n2")) != 2 {
		t.Errorf("%d run, %d on the drained instance, %d on %s", s.RunningCount, len(r.assignments("n1")), len(r.assignments("n2")), *second.ContainerInstanceArn)
	}
}

func TestUnhealthyTaskIsReplaced(t *testing.T) {
	r := serviceRoom(t)
	d := simple("checked", 1, 6)
	d.ContainerDefinitions[0].HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}}
	r.define(d)
	r.create(1, func(in *ecs.CreateServiceInput) { in.TaskDefinition = aws.String("checked") })
	health := func(status types.HealthStatus) {
		r.update(func(tx *store.Tx) {
			for key, k := range r.tasksByService.List(tx, testScope, "default/svc") {
				k = r.tasks.Clone(k)
				if k.LastStatus == taskRunning && k.DesiredStatus == taskRunning && k.Health == types.HealthStatusUnknown || status == types.HealthStatusUnhealthy {
					k.setHealth(map[string]types.HealthStatus{"main": status})
					r.tasks.Put(tx, testScope, key, k)
				}
			}
		})
	}
	r.keep()
	r.obey()
	r.advanceClock(time.Hour)
	if s := r.keep(); s.Deployments[0].RolloutState != types.DeploymentRolloutStateInProgress {
		t.Errorf("before its check has passed, the rollout is %s", s.Deployments[0].RolloutState)
	}
	health(types.HealthStatusHealthy)
	if s := r.keep(); s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
		t.Errorf("when it has, the rollout is %s", s.Deployments[0].RolloutState)
	}
	sick := r.serviceTasks(0)[0]
	health(types.HealthStatusUnhealthy)
	if r.keep(); len(r.serviceTasks(0)) != 2 {
		t.Fatalf("%d tasks, want one in its place first", len(r.serviceTasks(0)))
	}
	r.obey()
	health(types.HealthStatusHealthy)
	r.keep()
	if got := r.describe("default", sick); deref(got.StoppedReason) != "Task failed container health checks" || got.StopCode != types.TaskStopCodeServiceSchedulerInitiated {
		t.Errorf("the sick one is stopped for %s %q", got.StopCode, deref(got.StoppedReason))
	}
}

func TestServiceIsScaledAndDeleted(t *testing.T) {
	r := serviceRoom(t)
	made := r.create(1)
	r.settle()
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(15)})
	if s := r.settle(); s.RunningCount != 15 || len(s.Deployments) != 1 || deref(s.Deployments[0].Id) != deref(made.Deployments[0].Id) {
		t.Errorf("%d run in %d deployments", s.RunningCount, len(s.Deployments))
	}
	r.updateService(&ecs.UpdateServiceInput{DesiredCount: aws.Int32(2)})
	if s := r.settle(); s.RunningCount != 2 {
		t.Errorf("%d run", s.RunningCount)
	}
	r.updateService(&ecs.UpdateServiceInput{ForceNewDeployment: true})
	if s := r.settle(); s.RunningCount != 2 || deref(s.Deployments[0].Id) == deref(made.Deployments[0].Id) {
		t.Errorf("after a forced deployment %d run in %s", s.RunningCount, deref(s.Deployments[0].Id))
	}
	cluster := func() types.Cluster {
		out, err := r.DescribeClusters(asRoot(), &ecs.DescribeClustersInput{Include: []types.ClusterField{types.ClusterFieldStatistics}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Clusters[0]
	}
	if n := cluster().ActiveServicesCount; n != 1 {
		t.Errorf("the cluster counts %d services", n)
	}
	_, err := r.DeleteCluster(asRoot(), &ecs.DeleteClusterInput{Cluster: aws.String("default")})
	wantError(t, err, "ClusterContainsContainerInstancesException", "")
	_, err = r.DeleteService(asRoot(), &ecs.DeleteServiceInput{Service: aws.String("svc")})
	wantError(t, err, "InvalidParameterException", "The service cannot be stopped while it is scaled above 0.")
	out, err := r.DeleteService(asRoot(), &ecs.DeleteServiceInput{Service: made.ServiceArn, Force: aws.Bool(true)})
	if err != nil || deref(out.Service.Status) != "DRAINING" {
		t.Fatalf("%v %v", out, err)
	}
	_, err = r.CreateService(asRoot(), &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web"), DesiredCount: aws.Int32(1)})
	wantError(t, err, "InvalidParameterException", "Unable to Start a service that is still Draining.")
	if s := r.settle(); deref(s.Status) != "INACTIVE" || s.RunningCount != 0 || len(s.Deployments) != 0 {
		t.Errorf("deleted, it is %s with %d tasks", deref(s.Status), s.RunningCount)
	}
	if list, err := r.ListServices(asRoot(), &ecs.ListServicesInput{}); err != nil || len(list.ServiceArns) != 0 {
		t.Errorf("listed are %v, %v", list, err)
	}
	_, err = r.UpdateService(asRoot(), &ecs.UpdateServiceInput{Service: aws.String("svc"), DesiredCount: aws.Int32(1)})
	wantError(t, err, "ServiceNotActiveException", "")
	r.create(1) // the name is free again
	if s := r.settle(); s.RunningCount != 1 {
		t.Errorf("made again, it has %d tasks", s.RunningCount)
	}
}

func TestCreateServiceIsIdempotentByItsToken(t *testing.T) {
	r := serviceRoom(t)
	in := func(token string, desired int32) *ecs.CreateServiceInput {
		return &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: &desired, ClientToken: &token}
	}
	first, err := r.CreateService(asRoot(), in("t", 1))
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.CreateService(asRoot(), in("t", 1))
	if err != nil || deref(again.Service.Deployments[0].Id) != deref(first.Service.Deployments[0].Id) {
		t.Errorf("the same call again: %v", err)
	}
	for _, other := range []*ecs.CreateServiceInput{in("u", 1), in("t", 2)} {
		_, err := r.CreateService(asRoot(), other)
		wantError(t, err, "InvalidParameterException", "Creation of service was not idempotent.")
	}
}

func TestServicesThatAreRefused(t *testing.T) {
	r := serviceRoom(t)
	for code, changes := range map[string][]func(*ecs.CreateServiceInput){
		"UnsupportedFeatureException": {
			func(in *ecs.CreateServiceInput) {
				in.DeploymentController = &types.DeploymentController{Type: types.DeploymentControllerTypeExternal}
			},
			func(in *ecs.CreateServiceInput) {
				in.LoadBalancers = []types.LoadBalancer{{ContainerName: aws.String("main")}}
			},
			func(in *ecs.CreateServiceInput) { in.ServiceRegistries = []types.ServiceRegistry{{}} },
			func(in *ecs.CreateServiceInput) {
				in.ServiceConnectConfiguration = &types.ServiceConnectConfiguration{Enabled: true}
			},
			func(in *ecs.CreateServiceInput) {
				in.DeploymentConfiguration = &types.DeploymentConfiguration{Strategy: types.DeploymentStrategyBlueGreen}
			},
			func(in *ecs.CreateServiceInput) {
				in.DeploymentConfiguration = &types.DeploymentConfiguration{Alarms: &types.DeploymentAlarms{Enable: true}}
			},
			func(in *ecs.CreateServiceInput) { in.EnableExecuteCommand = true },
		},
		"InvalidParameterException": {
			func(in *ecs.CreateServiceInput) {
				in.AvailabilityZoneRebalancing = types.AvailabilityZoneRebalancingEnabled
				in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeBinpack, Field: aws.String("memory")}}
			},
			func(in *ecs.CreateServiceInput) { in.AvailabilityZoneRebalancing = "PERHAPS" },
			func(in *ecs.CreateServiceInput) { in.ServiceName = aws.String("a b") },
			func(in *ecs.CreateServiceInput) { in.DesiredCount = nil },
			func(in *ecs.CreateServiceInput) { in.DesiredCount = aws.Int32(-1) },
			func(in *ecs.CreateServiceInput) { in.DesiredCount = aws.Int32(5001) },
			func(in *ecs.CreateServiceInput) { in.TaskDefinition = nil },
			func(in *ecs.CreateServiceInput) { in.HealthCheckGracePeriodSeconds = aws.Int32(5) },
			func(in *ecs.CreateServiceInput) { in.LaunchType = types.LaunchTypeFargate }, // the definition is not for it
			func(in *ecs.CreateServiceInput) {
				in.DeploymentConfiguration = &types.DeploymentConfiguration{MaximumPercent: aws.Int32(100)}
			},
			func(in *ecs.CreateServiceInput) {
				in.PlacementStrategy = []types.PlacementStrategy{{Type: "nonsense"}}
			},
		},
		"ClusterNotFoundException": {func(in *ecs.CreateServiceInput) { in.Cluster = aws.String("none") }},
	} {
		for i, change := range changes {
			in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), DesiredCount: aws.Int32(1)}
			change(in)
			_, err := r.CreateService(asRoot(), in)
			if err == nil {
				t.Errorf("%s %d was taken", code, i)
				continue
			}
			wantError(t, err, code, "")
		}
	}
	_, err := r.UpdateService(asRoot(), &ecs.UpdateServiceInput{Service: aws.String("none")})
	wantError(t, err, "ServiceNotFoundException", "Service not found.")
	out, err := r.DescribeServices(asRoot(), &ecs.DescribeServicesInput{Services: []string{"none"}})
	if err != nil || len(out.Failures) != 1 || deref(out.Failures[0].Reason) != "MISSING" {
		t.Errorf("%v %v", out, err)
	}
}
