package ecs

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

func (r *room) createCluster(in *ecs.CreateClusterInput) types.Cluster {
	r.t.Helper()
	out, err := r.CreateCluster(asRoot(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return *out.Cluster
}

func (r *room) describeCluster(name string, include ...types.ClusterField) types.Cluster {
	r.t.Helper()
	out, err := r.DescribeClusters(asRoot(), &ecs.DescribeClustersInput{Clusters: []string{name}, Include: include})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(out.Clusters) != 1 {
		r.t.Fatalf("cluster %s is not described: %v", name, failures(out.Failures))
	}
	return out.Clusters[0]
}

func (r *room) deleteCluster(name string) error {
	_, err := r.DeleteCluster(asRoot(), &ecs.DeleteClusterInput{Cluster: &name})
	return err
}

func TestClusterLifecycle(t *testing.T) {
	r := newRoom(t)
	if c := r.createCluster(&ecs.CreateClusterInput{}); *c.ClusterName != "default" || *c.ClusterArn != "arn:aws:ecs:eu-west-1:123456789012:cluster/default" {
		t.Errorf("without a name: %s, %s", *c.ClusterName, *c.ClusterArn)
	}
	tags := []types.Tag{{Key: aws.String("team"), Value: aws.String("blue")}}
	made := r.createCluster(&ecs.CreateClusterInput{ClusterName: aws.String("demo"), Tags: tags})
	if *made.Status != "ACTIVE" || !reflect.DeepEqual(made.Tags, tags) {
		t.Errorf("made %s with tags %v", *made.Status, made.Tags)
	}
	// Making it again finds it as it is.
	again := r.createCluster(&ecs.CreateClusterInput{ClusterName: aws.String("demo"), Tags: []types.Tag{{Key: aws.String("other")}}})
	if !reflect.DeepEqual(again, made) {
		t.Errorf("made again: %+v, want %+v", again, made)
	}
	if c := r.describeCluster("demo"); len(c.Tags) != 0 || len(c.Settings) != 0 || len(c.Statistics) != 0 {
		t.Errorf("described without include: tags %v, settings %v, statistics %v", c.Tags, c.Settings, c.Statistics)
	}
	if err := r.deleteCluster(*made.ClusterArn); err != nil {
		t.Fatal(err)
	}
	if c := r.describeCluster("demo", types.ClusterFieldTags); *c.Status != "INACTIVE" || len(c.Tags) != 0 {
		t.Errorf("deleted: %s with tags %v", *c.Status, c.Tags)
	}
	_, err := r.RunTask(asRoot(), &ecs.RunTaskInput{Cluster: aws.String("demo"), TaskDefinition: aws.String("web")})
	wantError(t, err, "ClusterNotFoundException", "Cluster not found.")
	r.advanceClock(time.Hour)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := r.DescribeClusters(asRoot(), &ecs.DescribeClustersInput{Clusters: []string{"demo", "never"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"arn:aws:ecs:eu-west-1:123456789012:cluster/demo MISSING", "arn:aws:ecs:eu-west-1:123456789012:cluster/never MISSING"}
	if got := failures(out.Failures); !reflect.DeepEqual(got, want) {
		t.Errorf("failures %v, want %v", got, want)
	}
	wantError(t, r.deleteCluster("demo"), "ClusterNotFoundException", "Cluster not found.")
}

func TestDeleteClusterInUse(t *testing.T) {
	r := newRoom(t)
	r.createCluster(&ecs.CreateClusterInput{ClusterName: aws.String("demo")})
	ci := r.join("n1", "demo", 1024, 1024)
	wantError(t, r.deleteCluster("demo"), "ClusterContainsContainerInstancesException", "The Cluster cannot be deleted while Container Instances are active or draining.")
	if _, err := r.DeregisterContainerInstance(asRoot(), &ecs.DeregisterContainerInstanceInput{
		Cluster: aws.String("demo"), ContainerInstance: ci.ContainerInstanceArn,
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.deleteCluster("demo"); err != nil {
		t.Errorf("with a deregistered instance: %v", err)
	}
}

func TestUniversalNodesGoWithACluster(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 4096, 4096)
	r.createCluster(&ecs.CreateClusterInput{ClusterName: aws.String("demo")})
	if n := r.describeCluster("demo").RegisteredContainerInstancesCount; n != 1 {
		t.Fatalf("a new cluster has %d instances, want the universal node's", n)
	}
	r.define(simple("web", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{Cluster: aws.String("demo"), TaskDefinition: aws.String("web")})
	wantError(t, r.deleteCluster("demo"), "ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
	r.report("n1", arn, "STOPPED", stopped("main", 0))
	if err := r.deleteCluster("demo"); err != nil {
		t.Fatal(err)
	}
	if n := r.describeCluster("demo").RegisteredContainerInstancesCount; n != 0 {
		t.Errorf("a deleted cluster has %d instances", n)
	}
}

// An agent's sessions are in the name of the instance that it registered as:
// deleting that one's cluster must not take the node from the others.
func TestAUniversalNodeSurvivesItsHomeCluster(t *testing.T) {
	r := newRoom(t)
	home := r.joinUniversal("n1", 4096, 4096)
	r.createCluster(&ecs.CreateClusterInput{ClusterName: aws.String("demo")})
	if err := r.deleteCluster("default"); err != nil {
		t.Fatal(err)
	}
	r.advanceClock(2 * time.Hour)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.define(simple("web", 1, 6))
	arn := r.runOne(&ecs.RunTaskInput{Cluster: aws.String("demo"), TaskDefinition: aws.String("web")})
	if list := r.assignments("n1"); len(list) != 1 {
		t.Fatalf("the node is assigned %d tasks, want the one of cluster demo", len(list))
	}
	r.report("n1", arn, "STOPPED", stopped("main", 0))

	_, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	wantError(t, err, "ClusterNotFoundException", "")
	r.createCluster(&ecs.CreateClusterInput{})
	task := r.describe("default", r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")}))
	if *task.ContainerInstanceArn != *home.ContainerInstanceArn {
		t.Errorf("placed on %s, want the node's own instance %s", *task.ContainerInstanceArn, *home.ContainerInstanceArn)
	}
}

func TestDescribeClustersCounts(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 8192, 16384)
	r.define(simple("web", 1, 6))
	r.define(fargate("far"))
	running1 := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	r.report("n1", running1, "RUNNING", running("main"))
	vpc := &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{r.Subnets(testAccount, testRegion)[0].ID}}}
	r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("far"), LaunchType: types.LaunchTypeFargate, NetworkConfiguration: vpc})
	gone := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	r.report("n1", gone, "STOPPED", stopped("main", 0))

	out, err := r.DescribeClusters(asRoot(), &ecs.DescribeClustersInput{Include: []types.ClusterField{types.ClusterFieldStatistics}})
	if err != nil {
		t.Fatal(err)
	}
	c := out.Clusters[0]
	if c.RunningTasksCount != 1 || c.PendingTasksCount != 2 || c.RegisteredContainerInstancesCount != 1 || c.ActiveServicesCount != 0 {
		t.Errorf("%d running, %d pending, %d instances, %d services; want 1, 2, 1, 0",
			c.RunningTasksCount, c.PendingTasksCount, c.RegisteredContainerInstancesCount, c.ActiveServicesCount)
	}
	got := map[string]string{}
	for _, x := range c.Statistics {
		got[*x.Name] = *x.Value
	}
	want := map[string]string{
		"runningEC2TasksCount": "1", "pendingEC2TasksCount": "1", "runningFargateTasksCount": "0", "pendingFargateTasksCount": "1",
		"runningExternalTasksCount": "0", "pendingExternalTasksCount": "0",
		"activeEC2ServiceCount": "0", "drainingEC2ServiceCount": "0", "activeFargateServiceCount": "0", "drainingFargateServiceCount": "0",
		"activeExternalServiceCount": "0", "drainingExternalServiceCount": "0",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("statistics %v, want %v", got, want)
	}
}

func TestListClustersInPages(t *testing.T) {
	r := newRoom(t)
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("c%d", i)
		r.createCluster(&ecs.CreateClusterInput{ClusterName: &name})
		if i != 2 {
			want = append(want, clusterARN(testScope, name))
		}
	}
	if err := r.deleteCluster("c2"); err != nil {
		t.Fatal(err)
	}
	var got []string
	in := &ecs.ListClustersInput{MaxResults: aws.Int32(3)}
	for {
		out, err := r.ListClusters(asRoot(), in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, out.ClusterArns...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestClusterInputIsRefused(t *testing.T) {
	insights := func(value string) []types.ClusterSetting {
		return []types.ClusterSetting{{Name: types.ClusterSettingNameContainerInsights, Value: &value}}
	}
	exec := func(e types.ExecuteCommandConfiguration) *types.ClusterConfiguration {
		return &types.ClusterConfiguration{ExecuteCommandConfiguration: &e}
	}
	item := func(name string, weight, base int32) types.CapacityProviderStrategyItem {
		return types.CapacityProviderStrategyItem{CapacityProvider: &name, Weight: weight, Base: base}
	}
	both := []string{"FARGATE", "FARGATE_SPOT"}
	for _, c := range []struct {
		name, code, message string
		in                  ecs.CreateClusterInput
	}{
		{"a name", "InvalidParameterException", "", ecs.CreateClusterInput{ClusterName: aws.String("a b")}},
		{"a setting's value", "InvalidParameterException", "Setting value must be one of enabled, disabled, enhanced.", ecs.CreateClusterInput{Settings: insights("maybe")}},
		{"a setting's name", "InvalidParameterException", "Invalid cluster setting name: x", ecs.CreateClusterInput{Settings: []types.ClusterSetting{{Name: "x"}}}},
		{"an exec key", "UnsupportedFeatureException", "", ecs.CreateClusterInput{Configuration: exec(types.ExecuteCommandConfiguration{KmsKeyId: aws.String("k")})}},
		{"exec logging", "UnsupportedFeatureException", "", ecs.CreateClusterInput{Configuration: exec(types.ExecuteCommandConfiguration{Logging: types.ExecuteCommandLoggingNone})}},
		{"exec log configuration", "InvalidParameterException", "", ecs.CreateClusterInput{Configuration: exec(types.ExecuteCommandConfiguration{LogConfiguration: &types.ExecuteCommandLogConfiguration{}})}},
		{"managed storage", "UnsupportedFeatureException", "", ecs.CreateClusterInput{Configuration: &types.ClusterConfiguration{ManagedStorageConfiguration: &types.ManagedStorageConfiguration{KmsKeyId: aws.String("k")}}}},
		{"service connect", "UnsupportedFeatureException", "", ecs.CreateClusterInput{ServiceConnectDefaults: &types.ClusterServiceConnectDefaultsRequest{Namespace: aws.String("n")}}},
		{"an unknown provider", "InvalidParameterException", "The specified capacity provider 'mine' was not found.", ecs.CreateClusterInput{CapacityProviders: []string{"mine"}}},
		{"a provider twice", "InvalidParameterException", "", ecs.CreateClusterInput{CapacityProviders: []string{"FARGATE", "FARGATE"}}},
		{"a strategy of another provider", "InvalidParameterException", "", ecs.CreateClusterInput{CapacityProviders: both[:1], DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE_SPOT", 1, 0)}}},
		{"a strategy without weight", "InvalidParameterException", "", ecs.CreateClusterInput{CapacityProviders: both, DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE", 0, 0)}}},
		{"a weight", "InvalidParameterException", "", ecs.CreateClusterInput{CapacityProviders: both, DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE", 1001, 0)}}},
		{"two bases", "InvalidParameterException", "", ecs.CreateClusterInput{CapacityProviders: both, DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{item("FARGATE", 1, 1), item("FARGATE_SPOT", 1, 1)}}},
		{"a tag", "InvalidParameterException", "Tag keys can't start with aws:.", ecs.CreateClusterInput{Tags: []types.Tag{{Key: aws.String("aws:x")}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newRoom(t).CreateCluster(asRoot(), &c.in)
			wantError(t, err, c.code, c.message)
		})
	}
}

func TestUpdateCluster(t *testing.T) {
	r := newRoom(t)
	r.createCluster(&ecs.CreateClusterInput{})
	config := &types.ClusterConfiguration{ExecuteCommandConfiguration: &types.ExecuteCommandConfiguration{Logging: types.ExecuteCommandLoggingDefault}}
	setting := []types.ClusterSetting{{Name: types.ClusterSettingNameContainerInsights, Value: aws.String("enhanced")}}
	out, err := r.UpdateCluster(asRoot(), &ecs.UpdateClusterInput{Cluster: aws.String("default"), Configuration: config, Settings: setting})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(out.Cluster.Configuration, config) || !reflect.DeepEqual(out.Cluster.Settings, setting) {
		t.Errorf("updated: configuration %+v, settings %+v", out.Cluster.Configuration, out.Cluster.Settings)
	}
	setting[0].Value = aws.String("disabled")
	if _, err := r.UpdateClusterSettings(asRoot(), &ecs.UpdateClusterSettingsInput{Cluster: aws.String("default"), Settings: setting}); err != nil {
		t.Fatal(err)
	}
	c := r.describeCluster("default", types.ClusterFieldSettings, types.ClusterFieldConfigurations)
	if !reflect.DeepEqual(c.Configuration, config) || !reflect.DeepEqual(c.Settings, setting) {
		t.Errorf("described: configuration %+v, settings %+v", c.Configuration, c.Settings)
	}
	_, err = r.UpdateCluster(asRoot(), &ecs.UpdateClusterInput{Cluster: aws.String("no")})
	wantError(t, err, "ClusterNotFoundException", "Cluster not found.")
	_, err = r.UpdateClusterSettings(asRoot(), &ecs.UpdateClusterSettingsInput{Cluster: aws.String("default")})
	wantError(t, err, "InvalidParameterException", "Settings cannot be empty.")
}

func TestCapacityProvidersAct(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 8192, 16384)
	r.define(fargate("far"))
	put := func(providers ...string) error {
		_, err := r.PutClusterCapacityProviders(asRoot(), &ecs.PutClusterCapacityProvidersInput{
			Cluster: aws.String("default"), CapacityProviders: providers,
			DefaultCapacityProviderStrategy: []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE_SPOT"), Weight: 1}},
		})
		return err
	}
	wantError(t, put("FARGATE"), "InvalidParameterException", "")
	wantError(t, put("FARGATE_SPOT", "asg"), "InvalidParameterException", "The specified capacity provider 'asg' was not found.")
	if err := put("FARGATE", "FARGATE_SPOT"); err != nil {
		t.Fatal(err)
	}
	vpc := &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{r.Subnets(testAccount, testRegion)[0].ID}}}
	arn := r.runOne(&ecs.RunTaskInput{TaskDefinition: aws.String("far"), NetworkConfiguration: vpc})
	if p := r.describe("default", arn).CapacityProviderName; deref(p) != "FARGATE_SPOT" {
		t.Errorf("the default strategy gave provider %q", deref(p))
	}
	_, err := r.PutClusterCapacityProviders(asRoot(), &ecs.PutClusterCapacityProvidersInput{Cluster: aws.String("default"), CapacityProviders: []string{"FARGATE"}})
	wantError(t, err, "ResourceInUseException", "The specified capacity provider is in use and cannot be removed.")
}

// Whatever the order: either the task is there and the cluster stays, or the
// cluster is gone and the task is refused.
func TestDeletionMeetsPlacement(t *testing.T) {
	r := newRoom(t)
	r.joinUniversal("n1", 1<<20, 1<<20)
	r.define(simple("web", 1, 6))
	for i := range 30 {
		name := fmt.Sprintf("c%d", i)
		r.createCluster(&ecs.CreateClusterInput{ClusterName: &name})
		var wg sync.WaitGroup
		var deleted, ran error
		wg.Go(func() { deleted = r.deleteCluster(name) })
		wg.Go(func() {
			_, ran = r.RunTask(asRoot(), &ecs.RunTaskInput{Cluster: &name, TaskDefinition: aws.String("web")})
		})
		wg.Wait()
		if (deleted == nil) == (ran == nil) {
			t.Fatalf("round %d: deletion %v, placement %v", i, deleted, ran)
		}
	}
}

// Whatever the order: no instance is left in a cluster that is gone.
func TestDeletionMeetsRegistration(t *testing.T) {
	r := newRoom(t)
	for i := range 30 {
		name := fmt.Sprintf("c%d", i)
		r.createCluster(&ecs.CreateClusterInput{ClusterName: &name})
		var wg sync.WaitGroup
		var deleted, joined error
		wg.Go(func() { deleted = r.deleteCluster(name) })
		wg.Go(func() {
			_, joined = r.RegisterContainerInstance(asNode("node-"+name), &ecs.RegisterContainerInstanceInput{
				Cluster: &name, TotalResources: resources(1024, 1024),
			})
		})
		wg.Wait()
		if (deleted == nil) == (joined == nil) {
			t.Fatalf("round %d: deletion %v, registration %v", i, deleted, joined)
		}
	}
}
