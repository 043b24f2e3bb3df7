package ecs

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// daemonRoom is a room with a DAEMON service of "web:1", on the nodes n1 and n2.
func daemonRoom(t *testing.T, change ...func(*ecs.CreateServiceInput)) *room {
	r := serviceRoom(t)
	r.join("n2", "default", 4096, 4096)
	in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), SchedulingStrategy: types.SchedulingStrategyDaemon}
	for _, c := range change {
		c(in)
	}
	if _, err := r.CreateService(asRoot(), in); err != nil {
		t.Fatal(err)
	}
	return r
}

// on are the nodes that have a task of a version, in order.
func (r *room) on(version int32) (nodes []string) {
	for _, t := range r.tasksByService.List(r.db.Snapshot(), testScope, "default/svc") {
		if t.DesiredStatus == taskRunning && (version == 0 || t.Revision == version) {
			nodes = append(nodes, t.NodeID)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func (r *room) wantOn(version int32, nodes ...string) {
	r.t.Helper()
	if got := r.on(version); !slices.Equal(got, nodes) {
		r.t.Errorf("version %d is on %v, want %v: %q", version, got, nodes, messages(r.service()))
	}
}

func (r *room) setInstance(arn *string, status types.ContainerInstanceStatus) {
	r.t.Helper()
	if _, err := r.UpdateContainerInstancesState(asRoot(), &ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{*arn}, Status: status}); err != nil {
		r.t.Fatal(err)
	}
}

// Each instance has one task, one that joins gets its own, and all get the new version.
func TestDaemonIsOnEachInstance(t *testing.T) {
	r := daemonRoom(t)
	s := r.settle()
	r.wantOn(1, "n1", "n2")
	if s.SchedulingStrategy != types.SchedulingStrategyDaemon || s.DesiredCount != 2 || s.RunningCount != 2 || *s.DeploymentConfiguration.MinimumHealthyPercent != 0 ||
		*s.DeploymentConfiguration.MaximumPercent != 100 || s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted {
		t.Errorf("%+v", s)
	}
	third := r.join("n3", "default", 4096, 4096).ContainerInstanceArn
	r.settle()
	r.wantOn(1, "n1", "n2", "n3")
	r.updateService(&ecs.UpdateServiceInput{TaskDefinition: aws.String("web:2")})
	if s = r.settle(); s.RunningCount != 3 || len(s.Deployments) != 1 {
		t.Errorf("rolled, %d run, %d deployments", s.RunningCount, len(s.Deployments))
	}
	r.wantOn(2, "n1", "n2", "n3")
	// Drained, the instance keeps it until its other tasks are gone.
	other, err := r.StartTask(asRoot(), &ecs.StartTaskInput{TaskDefinition: aws.String("web:1"), ContainerInstances: []string{*third}})
	if err != nil {
		t.Fatal(err)
	}
	r.report("n3", *other.Tasks[0].TaskArn, "RUNNING", running("main"))
	r.setInstance(third, types.ContainerInstanceStatusDraining)
	r.settle()
	r.wantOn(2, "n1", "n2", "n3")
	r.report("n3", *other.Tasks[0].TaskArn, "STOPPED", stopped("main", 0))
	if s = r.settle(); s.DesiredCount != 2 {
		t.Errorf("%d are desired", s.DesiredCount)
	}
	r.wantOn(2, "n1", "n2")
	r.setInstance(third, types.ContainerInstanceStatusActive)
	r.settle()
	r.wantOn(2, "n1", "n2", "n3")
	for _, service := range []types.SchedulingStrategy{types.SchedulingStrategyDaemon, types.SchedulingStrategyReplica} {
		list, err := r.ListServices(asRoot(), &ecs.ListServicesInput{SchedulingStrategy: service})
		if err != nil || len(list.ServiceArns) == 1 != (service == types.SchedulingStrategyDaemon) {
			t.Errorf("%s: %v %v", service, list, err)
		}
	}
	if _, err := r.DeleteService(asRoot(), &ecs.DeleteServiceInput{Service: aws.String("svc")}); err != nil {
		t.Fatal(err)
	}
	if s = r.settle(); deref(s.Status) != "INACTIVE" {
		t.Errorf("deleted, it is %s", deref(s.Status))
	}
}

// Constraints choose the instances, and what chooses no longer stops the task.
func TestDaemonFollowsItsConstraints(t *testing.T) {
	r := daemonRoom(t, func(in *ecs.CreateServiceInput) {
		in.PlacementConstraints = []types.PlacementConstraint{{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("attribute:disk == ssd")}}
	})
	if s := r.settle(); s.DesiredCount != 0 {
		t.Errorf("%d are desired", s.DesiredCount)
	}
	list, err := r.ListContainerInstances(asRoot(), &ecs.ListContainerInstancesInput{Filter: aws.String("ec2InstanceId == n2")})
	if err != nil || len(list.ContainerInstanceArns) != 1 {
		t.Fatal(list, err)
	}
	attribute := []types.Attribute{{Name: aws.String("disk"), Value: aws.String("ssd"), TargetId: &list.ContainerInstanceArns[0]}}
	if _, err := r.PutAttributes(asRoot(), &ecs.PutAttributesInput{Attributes: attribute}); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.wantOn(0, "n2")
	if _, err := r.DeleteAttributes(asRoot(), &ecs.DeleteAttributesInput{Attributes: attribute}); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.wantOn(0)
}

// Where there is no room it says what is lacking, and starts when there is.
func TestDaemonWithoutRoom(t *testing.T) {
	r := serviceRoom(t)
	full := r.join("n2", "default", 4096, 8).ContainerInstanceArn
	taken, err := r.StartTask(asRoot(), &ecs.StartTaskInput{TaskDefinition: aws.String("web:1"), ContainerInstances: []string{*full}})
	if err != nil || len(taken.Tasks) != 1 {
		t.Fatal(taken, err)
	}
	if _, err := r.CreateService(asRoot(), &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), SchedulingStrategy: types.SchedulingStrategyDaemon}); err != nil {
		t.Fatal(err)
	}
	if s := r.settle(); s.DesiredCount != 2 || s.RunningCount != 1 {
		t.Errorf("%d of %d run", s.RunningCount, s.DesiredCount)
	}
	r.wantOn(0, "n1")
	r.wantEvent("Reason: RESOURCE:MEMORY.")
	r.report("n2", *taken.Tasks[0].TaskArn, "STOPPED", stopped("main", 0))
	r.settle()
	r.wantOn(0, "n1", "n2")
}

func TestWhatADaemonCanNotHave(t *testing.T) {
	r := serviceRoom(t)
	for name, change := range map[string]func(*ecs.CreateServiceInput){
		"a count": func(in *ecs.CreateServiceInput) { in.DesiredCount = aws.Int32(1) },
		"Fargate": func(in *ecs.CreateServiceInput) { in.LaunchType = types.LaunchTypeFargate },
		"a maximum": func(in *ecs.CreateServiceInput) {
			in.DeploymentConfiguration = &types.DeploymentConfiguration{MaximumPercent: aws.Int32(200)}
		},
		"a strategy": func(in *ecs.CreateServiceInput) {
			in.PlacementStrategy = []types.PlacementStrategy{{Type: types.PlacementStrategyTypeRandom}}
		},
		"a provider": func(in *ecs.CreateServiceInput) {
			in.CapacityProviderStrategy = []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE")}}
		},
	} {
		in := &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("web:1"), SchedulingStrategy: types.SchedulingStrategyDaemon}
		change(in)
		_, err := r.CreateService(asRoot(), in)
		if err == nil {
			t.Errorf("%s was taken", name)
			continue
		}
		wantError(t, err, "InvalidParameterException", "")
	}
}

// An update of one percentage is checked beside the other that the service has.
func TestPercentagesAreCheckedTogether(t *testing.T) {
	r := serviceRoom(t)
	r.create(2, func(in *ecs.CreateServiceInput) {
		in.DeploymentConfiguration = &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(50)}
	})
	r.updateService(&ecs.UpdateServiceInput{DeploymentConfiguration: &types.DeploymentConfiguration{MaximumPercent: aws.Int32(100)}})
	_, err := r.UpdateService(asRoot(), &ecs.UpdateServiceInput{Service: aws.String("svc"), DeploymentConfiguration: &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(100)}})
	wantError(t, err, "InvalidParameterException", "")
}
