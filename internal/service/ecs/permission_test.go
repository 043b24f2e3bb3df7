package ecs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/wire"
)

// reference is what AWS's service authorization reference says of the operations that
// are served: the type of resource ("-" for none), the condition keys, and the actions
// that are needed besides. The keys of the resource's own tags, aws:ResourceTag and
// ecs:ResourceTag, hold for each action with a resource.
const reference = `
ContinueServiceDeployment service-deployment ecs:cluster,ecs:service
CreateCluster cluster aws:RequestTag,aws:TagKeys,ecs:capacity-provider,ecs:fargate-ephemeral-storage-kms-key ecs:TagResource
CreateService service aws:RequestTag,aws:TagKeys,ecs:capacity-provider,ecs:cluster,ecs:enable-ebs-volumes,ecs:enable-execute-command,ecs:enable-service-connect,ecs:enable-vpc-lattice,ecs:namespace,ecs:task-definition iam:PassRole,ecs:TagResource
DeleteAccountSetting - ecs:account-setting
DeleteAttributes container-instance ecs:cluster
DeleteCluster cluster
DeleteService service ecs:cluster
DeleteTaskDefinitions task-definition
DeregisterContainerInstance cluster
DeregisterTaskDefinition -
DescribeClusters cluster
DescribeContainerInstances container-instance ecs:cluster
DescribeServiceDeployments service-deployment ecs:cluster,ecs:service
DescribeServiceRevisions service-revision ecs:cluster,ecs:service
DescribeServices service ecs:cluster
DescribeTaskDefinition -
DescribeTasks task ecs:cluster
DiscoverPollEndpoint -
GetTaskProtection task ecs:cluster
ListAccountSettings -
ListAttributes cluster
ListClusters -
ListContainerInstances cluster
ListServiceDeployments service ecs:cluster
ListServices - ecs:cluster
ListTagsForResource cluster
ListTaskDefinitionFamilies -
ListTaskDefinitions -
ListTasks container-instance ecs:cluster
PutAccountSetting - ecs:account-setting
PutAccountSettingDefault - ecs:account-setting
PutAttributes container-instance ecs:cluster
PutClusterCapacityProviders cluster ecs:capacity-provider
RegisterContainerInstance cluster aws:RequestTag,aws:TagKeys ecs:TagResource
RegisterTaskDefinition task-definition aws:RequestTag,aws:TagKeys,ecs:compute-compatibility,ecs:privileged,ecs:task-cpu,ecs:task-memory iam:PassRole,ecs:TagResource
RunTask task-definition aws:RequestTag,aws:TagKeys,ecs:capacity-provider,ecs:cluster,ecs:enable-ebs-volumes,ecs:enable-execute-command iam:PassRole,ecs:TagResource
StartTask task-definition aws:RequestTag,aws:TagKeys,ecs:cluster,ecs:container-instances,ecs:enable-ebs-volumes,ecs:enable-execute-command iam:PassRole,ecs:TagResource
StopServiceDeployment service-deployment ecs:cluster,ecs:service
StopTask task ecs:cluster
SubmitAttachmentStateChanges cluster
SubmitContainerStateChange cluster
SubmitTaskStateChange cluster
TagResource cluster aws:RequestTag,aws:TagKeys
UntagResource cluster aws:TagKeys
UpdateCluster cluster ecs:fargate-ephemeral-storage-kms-key
UpdateClusterSettings cluster
UpdateContainerInstancesState container-instance ecs:cluster
UpdateService service ecs:capacity-provider,ecs:cluster,ecs:enable-ebs-volumes,ecs:enable-execute-command,ecs:enable-service-connect,ecs:enable-vpc-lattice,ecs:namespace,ecs:task-definition iam:PassRole
UpdateTaskProtection task ecs:cluster
`

// asker invokes operations and keeps the questions to the authoriser.
type asker struct {
	nobody
	reg   *wire.Registry
	asked []*wire.AuthorizationRequest
}

func (a *asker) Authorize(_ context.Context, req *wire.AuthorizationRequest) error {
	a.asked = append(a.asked, req)
	return nil
}

func newAsker(s *Service) *asker {
	a := &asker{}
	a.reg = wire.NewRegistry(wire.Chain{
		Credentials: a, Authorizer: a, Now: time.Now, NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
	})
	s.Register(a.reg)
	return a
}

// ask returns a function that invokes an operation; whether it succeeds is not looked
// at, what is asked before is.
func ask[I, O any](operation string, in *I) func(*testing.T, *asker) {
	return func(t *testing.T, a *asker) {
		root := wire.Principal{Kind: wire.PrincipalRoot, AccountID: testAccount}
		_, _ = wire.Invoke[I, O](t.Context(), a.reg, root, testAccount, testRegion, "ecs", operation, in)
	}
}

// world is a room in which everything that is asked about exists, and has a tag.
type world struct {
	*room
	cluster, definition, task, instance, release, revision *string
}

func newWorld(t *testing.T) world {
	r := newRoom(t)
	w := world{room: r, instance: r.join("n1", "default", 4096, 4096).ContainerInstanceArn}
	r.define(simple("web", 1, 6))
	out, err := r.RunTask(asRoot(), &ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	w.task, w.definition = out.Tasks[0].TaskArn, out.Tasks[0].TaskDefinitionArn
	w.cluster = aws.String(clusterARN(testScope, "default"))
	roled := simple("roled", 1, 6)
	roled.TaskRoleArn = aws.String("arn:aws:iam::123456789012:role/T")
	r.define(roled)
	service, err := r.CreateService(asRoot(), &ecs.CreateServiceInput{ServiceName: aws.String("svc"), TaskDefinition: aws.String("roled"), DesiredCount: aws.Int32(0)})
	if err != nil {
		t.Fatal(err)
	}
	w.release, w.revision = service.Service.CurrentServiceDeployment, service.Service.CurrentServiceRevisions[0].Arn
	for _, arn := range []*string{w.cluster, w.definition, w.task, w.instance, service.Service.ServiceArn} {
		if _, err := r.TagResource(asRoot(), &ecs.TagResourceInput{ResourceArn: arn, Tags: []types.Tag{{Key: aws.String("Owner"), Value: aws.String("x")}}}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// calls are the operations with inputs that give all that the reference has keys for.
func (w world) calls() map[string]func(*testing.T, *asker) {
	tags := []types.Tag{{Key: aws.String("Env"), Value: aws.String("test")}}
	configuration := &types.ClusterConfiguration{ManagedStorageConfiguration: &types.ManagedStorageConfiguration{FargateEphemeralStorageKmsKeyId: aws.String("key")}}
	attributes, overrides := []types.Attribute{{Name: aws.String("a"), TargetId: w.instance}}, &types.TaskOverride{TaskRoleArn: aws.String("arn:aws:iam::123456789012:role/T")}
	all := w.serviceCalls(tags)
	maps.Copy(all, map[string]func(*testing.T, *asker){
		"CreateCluster": ask[ecs.CreateClusterInput, ecs.CreateClusterOutput]("CreateCluster",
			&ecs.CreateClusterInput{ClusterName: aws.String("default"), Tags: tags, CapacityProviders: []string{"FARGATE"}, Configuration: configuration}),
		"DeleteAccountSetting": ask[ecs.DeleteAccountSettingInput, ecs.DeleteAccountSettingOutput]("DeleteAccountSetting", &ecs.DeleteAccountSettingInput{Name: types.SettingNameContainerInsights}),
		"DeleteAttributes":     ask[ecs.DeleteAttributesInput, ecs.DeleteAttributesOutput]("DeleteAttributes", &ecs.DeleteAttributesInput{Attributes: attributes}),
		"DeleteCluster":        ask[ecs.DeleteClusterInput, ecs.DeleteClusterOutput]("DeleteCluster", &ecs.DeleteClusterInput{Cluster: w.cluster}),
		"DeleteTaskDefinitions": ask[ecs.DeleteTaskDefinitionsInput, ecs.DeleteTaskDefinitionsOutput]("DeleteTaskDefinitions",
			&ecs.DeleteTaskDefinitionsInput{TaskDefinitions: []string{*w.definition}}),
		"DeregisterContainerInstance": ask[ecs.DeregisterContainerInstanceInput, ecs.DeregisterContainerInstanceOutput]("DeregisterContainerInstance",
			&ecs.DeregisterContainerInstanceInput{ContainerInstance: w.instance}),
		"DeregisterTaskDefinition": ask[ecs.DeregisterTaskDefinitionInput, ecs.DeregisterTaskDefinitionOutput]("DeregisterTaskDefinition",
			&ecs.DeregisterTaskDefinitionInput{TaskDefinition: w.definition}),
		"DescribeClusters": ask[ecs.DescribeClustersInput, ecs.DescribeClustersOutput]("DescribeClusters", &ecs.DescribeClustersInput{}),
		"DescribeContainerInstances": ask[ecs.DescribeContainerInstancesInput, ecs.DescribeContainerInstancesOutput]("DescribeContainerInstances",
			&ecs.DescribeContainerInstancesInput{ContainerInstances: []string{*w.instance}}),
		"DescribeTaskDefinition": ask[ecs.DescribeTaskDefinitionInput, ecs.DescribeTaskDefinitionOutput]("DescribeTaskDefinition",
			&ecs.DescribeTaskDefinitionInput{TaskDefinition: w.definition}),
		"DescribeTasks": ask[ecs.DescribeTasksInput, ecs.DescribeTasksOutput]("DescribeTasks", &ecs.DescribeTasksInput{Tasks: []string{*w.task}}),
		"DiscoverPollEndpoint": ask[ecs.DiscoverPollEndpointInput, ecs.DiscoverPollEndpointOutput]("DiscoverPollEndpoint",
			&ecs.DiscoverPollEndpointInput{ContainerInstance: w.instance}),
		"ListAccountSettings":    ask[ecs.ListAccountSettingsInput, ecs.ListAccountSettingsOutput]("ListAccountSettings", &ecs.ListAccountSettingsInput{}),
		"ListAttributes":         ask[ecs.ListAttributesInput, ecs.ListAttributesOutput]("ListAttributes", &ecs.ListAttributesInput{}),
		"ListClusters":           ask[ecs.ListClustersInput, ecs.ListClustersOutput]("ListClusters", &ecs.ListClustersInput{}),
		"ListContainerInstances": ask[ecs.ListContainerInstancesInput, ecs.ListContainerInstancesOutput]("ListContainerInstances", &ecs.ListContainerInstancesInput{}),
		"ListTagsForResource": ask[ecs.ListTagsForResourceInput, ecs.ListTagsForResourceOutput]("ListTagsForResource",
			&ecs.ListTagsForResourceInput{ResourceArn: w.cluster}),
		"ListTaskDefinitionFamilies": ask[ecs.ListTaskDefinitionFamiliesInput, ecs.ListTaskDefinitionFamiliesOutput]("ListTaskDefinitionFamilies", &ecs.ListTaskDefinitionFamiliesInput{}),
		"ListTaskDefinitions":        ask[ecs.ListTaskDefinitionsInput, ecs.ListTaskDefinitionsOutput]("ListTaskDefinitions", &ecs.ListTaskDefinitionsInput{}),
		"ListTasks":                  ask[ecs.ListTasksInput, ecs.ListTasksOutput]("ListTasks", &ecs.ListTasksInput{ContainerInstance: w.instance}),
		"PutAccountSetting":          ask[ecs.PutAccountSettingInput, ecs.PutAccountSettingOutput]("PutAccountSetting", &ecs.PutAccountSettingInput{Name: types.SettingNameContainerInsights}),
		"PutAccountSettingDefault": ask[ecs.PutAccountSettingDefaultInput, ecs.PutAccountSettingDefaultOutput]("PutAccountSettingDefault",
			&ecs.PutAccountSettingDefaultInput{Name: types.SettingNameContainerInsights}),
		"PutAttributes": ask[ecs.PutAttributesInput, ecs.PutAttributesOutput]("PutAttributes", &ecs.PutAttributesInput{Attributes: attributes}),
		"PutClusterCapacityProviders": ask[ecs.PutClusterCapacityProvidersInput, ecs.PutClusterCapacityProvidersOutput]("PutClusterCapacityProviders",
			&ecs.PutClusterCapacityProvidersInput{Cluster: w.cluster, CapacityProviders: []string{"FARGATE"}}),
		"RegisterContainerInstance": ask[ecs.RegisterContainerInstanceInput, ecs.RegisterContainerInstanceOutput]("RegisterContainerInstance",
			&ecs.RegisterContainerInstanceInput{Tags: tags}),
		"RegisterTaskDefinition": ask[ecs.RegisterTaskDefinitionInput, ecs.RegisterTaskDefinitionOutput]("RegisterTaskDefinition",
			&ecs.RegisterTaskDefinitionInput{
				Family: aws.String("web"), Tags: tags, TaskRoleArn: aws.String("T"), ExecutionRoleArn: aws.String("E"), Cpu: aws.String("256"), Memory: aws.String("512"),
				RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate}, ContainerDefinitions: []types.ContainerDefinition{{Privileged: aws.Bool(true)}},
			}),
		"RunTask": ask[ecs.RunTaskInput, ecs.RunTaskOutput]("RunTask", &ecs.RunTaskInput{
			TaskDefinition: aws.String("web"), Tags: tags, Overrides: overrides, CapacityProviderStrategy: []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE")}},
		}),
		"StartTask": ask[ecs.StartTaskInput, ecs.StartTaskOutput]("StartTask", &ecs.StartTaskInput{
			TaskDefinition: aws.String("web"), Tags: tags, Overrides: overrides, ContainerInstances: []string{*w.instance},
		}),
		"StopTask": ask[ecs.StopTaskInput, ecs.StopTaskOutput]("StopTask", &ecs.StopTaskInput{Task: w.task}),
		"SubmitAttachmentStateChanges": ask[ecs.SubmitAttachmentStateChangesInput, ecs.SubmitAttachmentStateChangesOutput]("SubmitAttachmentStateChanges",
			&ecs.SubmitAttachmentStateChangesInput{}),
		"SubmitContainerStateChange": ask[ecs.SubmitContainerStateChangeInput, ecs.SubmitContainerStateChangeOutput]("SubmitContainerStateChange",
			&ecs.SubmitContainerStateChangeInput{Task: w.task}),
		"SubmitTaskStateChange": ask[ecs.SubmitTaskStateChangeInput, ecs.SubmitTaskStateChangeOutput]("SubmitTaskStateChange",
			&ecs.SubmitTaskStateChangeInput{Task: w.task}),
		"TagResource":   ask[ecs.TagResourceInput, ecs.TagResourceOutput]("TagResource", &ecs.TagResourceInput{ResourceArn: w.cluster, Tags: tags}),
		"UntagResource": ask[ecs.UntagResourceInput, ecs.UntagResourceOutput]("UntagResource", &ecs.UntagResourceInput{ResourceArn: w.cluster, TagKeys: []string{"Env"}}),
		"UpdateCluster": ask[ecs.UpdateClusterInput, ecs.UpdateClusterOutput]("UpdateCluster", &ecs.UpdateClusterInput{Cluster: w.cluster, Configuration: configuration}),
		"UpdateClusterSettings": ask[ecs.UpdateClusterSettingsInput, ecs.UpdateClusterSettingsOutput]("UpdateClusterSettings",
			&ecs.UpdateClusterSettingsInput{Cluster: w.cluster}),
		"UpdateContainerInstancesState": ask[ecs.UpdateContainerInstancesStateInput, ecs.UpdateContainerInstancesStateOutput]("UpdateContainerInstancesState",
			&ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{*w.instance}}),
	})
	return all
}

// serviceCalls are those about services.
func (w world) serviceCalls(tags []types.Tag) map[string]func(*testing.T, *asker) {
	connect := &types.ServiceConnectConfiguration{Enabled: true, Namespace: aws.String("n")}
	providers := []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE")}}
	return map[string]func(*testing.T, *asker){
		"CreateService": ask[ecs.CreateServiceInput, ecs.CreateServiceOutput]("CreateService", &ecs.CreateServiceInput{
			ServiceName: aws.String("svc"), TaskDefinition: aws.String("roled"), Tags: tags, ServiceConnectConfiguration: connect, CapacityProviderStrategy: providers,
		}),
		"DeleteService":    ask[ecs.DeleteServiceInput, ecs.DeleteServiceOutput]("DeleteService", &ecs.DeleteServiceInput{Service: aws.String("svc")}),
		"DescribeServices": ask[ecs.DescribeServicesInput, ecs.DescribeServicesOutput]("DescribeServices", &ecs.DescribeServicesInput{Services: []string{"svc"}}),
		"DescribeServiceDeployments": ask[ecs.DescribeServiceDeploymentsInput, ecs.DescribeServiceDeploymentsOutput]("DescribeServiceDeployments",
			&ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{*w.release}}),
		"DescribeServiceRevisions": ask[ecs.DescribeServiceRevisionsInput, ecs.DescribeServiceRevisionsOutput]("DescribeServiceRevisions",
			&ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{*w.revision}}),
		"ListServiceDeployments": ask[ecs.ListServiceDeploymentsInput, ecs.ListServiceDeploymentsOutput]("ListServiceDeployments",
			&ecs.ListServiceDeploymentsInput{Service: aws.String("svc")}),
		"ContinueServiceDeployment": ask[ecs.ContinueServiceDeploymentInput, ecs.ContinueServiceDeploymentOutput]("ContinueServiceDeployment",
			&ecs.ContinueServiceDeploymentInput{ServiceDeploymentArn: w.release, HookId: aws.String("h")}),
		"StopServiceDeployment": ask[ecs.StopServiceDeploymentInput, ecs.StopServiceDeploymentOutput]("StopServiceDeployment",
			&ecs.StopServiceDeploymentInput{ServiceDeploymentArn: w.release}),
		"GetTaskProtection": ask[ecs.GetTaskProtectionInput, ecs.GetTaskProtectionOutput]("GetTaskProtection",
			&ecs.GetTaskProtectionInput{Cluster: w.cluster, Tasks: []string{*w.task}}),
		"UpdateTaskProtection": ask[ecs.UpdateTaskProtectionInput, ecs.UpdateTaskProtectionOutput]("UpdateTaskProtection",
			&ecs.UpdateTaskProtectionInput{Cluster: w.cluster, Tasks: []string{*w.task}}),
		"ListServices": ask[ecs.ListServicesInput, ecs.ListServicesOutput]("ListServices", &ecs.ListServicesInput{}),
		"UpdateService": ask[ecs.UpdateServiceInput, ecs.UpdateServiceOutput]("UpdateService", &ecs.UpdateServiceInput{
			Service: aws.String("svc"), TaskDefinition: aws.String("roled"), ServiceConnectConfiguration: connect, CapacityProviderStrategy: providers,
		}),
	}
}

// keyNames are the keys of a question, sorted, those of tags without the tag.
func keyNames(c map[string][]string) []string {
	var names []string
	for k, v := range c {
		name, _, _ := strings.Cut(k, "/")
		if len(v) > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Every operation asks what AWS's reference says: no coarser, and no more.
func TestOperationsAskWhatTheReferenceSays(t *testing.T) {
	rows := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(reference)) {
		f := append(strings.Fields(line), "", "")
		rows[f[0]] = f[1:4]
	}
	served := registry(newRoom(t).Service).Operations("ecs")
	if listed := slices.Sorted(maps.Keys(rows)); !slices.Equal(served, listed) {
		t.Fatalf("served: %v\nlisted: %v", served, listed)
	}
	for operation, row := range rows {
		t.Run(operation, func(t *testing.T) {
			w := newWorld(t)
			a := newAsker(w.Service)
			w.calls()[operation](t, a)
			if len(a.asked) == 0 {
				t.Fatal("nothing was asked")
			}
			own := a.asked[0]
			if own.Action != "ecs:"+operation {
				t.Errorf("action %s", own.Action)
			}
			for _, arn := range own.Resources {
				if row[0] == "-" && arn != "*" || row[0] != "-" && !strings.HasPrefix(arn, "arn:aws:ecs:"+testRegion+":"+testAccount+":"+row[0]+"/") {
					t.Errorf("resource %s, want one of type %s", arn, row[0])
				}
				keys := keyNames(own.OnResource(arn))
				if strings.HasPrefix(row[0], "service-") { // has no tags
					own.Conditions = own.OnResource(arn)
					continue
				}
				if exists := arn != "*" && !strings.HasSuffix(arn, ":*"); exists && !slices.Equal(keys, []string{"aws:ResourceTag", "ecs:ResourceTag"}) {
					t.Errorf("the tags of %s are %v", arn, keys)
				}
			}
			if got := strings.Join(keyNames(own.Conditions), ","); got != row[1] {
				t.Errorf("keys %s\nwant %s", got, row[1])
			}
			var also []string
			for _, q := range a.asked[1:] {
				also = append(also, q.Action)
			}
			if got := strings.Join(also, ","); got != row[2] {
				t.Errorf("needs %s besides, want %s", got, row[2])
			}
		})
	}
}

// What is needed besides is asked on the right resources with the right keys.
func TestRolesAreHandedOverAndTagsGivenByPermission(t *testing.T) {
	w := newWorld(t)
	d := simple("roles", 1, 6)
	d.TaskRoleArn, d.ExecutionRoleArn = aws.String("T"), aws.String("arn:aws:iam::"+testAccount+":role/path/E")
	w.define(d)
	const role = "arn:aws:iam::" + testAccount + ":role/"
	tags := []types.Tag{{Key: aws.String("Env"), Value: aws.String("test")}}
	for _, tt := range []struct {
		name      string
		call      func(*testing.T, *asker)
		pass, tag []string
	}{
		{"the definition's roles", ask[ecs.RunTaskInput, ecs.RunTaskOutput]("RunTask", &ecs.RunTaskInput{TaskDefinition: aws.String("roles")}),
			[]string{role + "T", role + "path/E"}, nil},
		{"overridden", ask[ecs.StartTaskInput, ecs.StartTaskOutput]("StartTask", &ecs.StartTaskInput{
			TaskDefinition: aws.String("roles"), ContainerInstances: []string{*w.instance}, Tags: tags,
			Overrides: &types.TaskOverride{TaskRoleArn: aws.String(role + "Admin"), ExecutionRoleArn: aws.String(role + "Admin")},
		}), []string{role + "Admin"}, []string{arnOf(testScope, "task", "default", "*")}},
		{"none", ask[ecs.RunTaskInput, ecs.RunTaskOutput]("RunTask", &ecs.RunTaskInput{TaskDefinition: aws.String("web")}), nil, nil},
		{"a definition", ask[ecs.RegisterTaskDefinitionInput, ecs.RegisterTaskDefinitionOutput]("RegisterTaskDefinition",
			&ecs.RegisterTaskDefinitionInput{Family: aws.String("f"), ExecutionRoleArn: aws.String("E"), Tags: tags}),
			[]string{role + "E"}, []string{arnOf(testScope, "task-definition", "f:*")}},
		{"a service's own role", ask[ecs.UpdateServiceInput, ecs.UpdateServiceOutput]("UpdateService", &ecs.UpdateServiceInput{Service: aws.String("s"), LoadBalancers: []types.LoadBalancer{
			{AdvancedConfiguration: &types.AdvancedConfiguration{RoleArn: aws.String(role + "Acts")}},
		}}), []string{role + "Acts"}, nil},
		{"a hook's role", ask[ecs.UpdateServiceInput, ecs.UpdateServiceOutput]("UpdateService", &ecs.UpdateServiceInput{Service: aws.String("s"), DeploymentConfiguration: &types.DeploymentConfiguration{
			LifecycleHooks: []types.DeploymentLifecycleHook{{RoleArn: aws.String(role + "Hook")}},
		}}), []string{role + "Hook"}, nil},
		{"a cluster", ask[ecs.CreateClusterInput, ecs.CreateClusterOutput]("CreateCluster", &ecs.CreateClusterInput{ClusterName: aws.String("c"), Tags: tags}),
			nil, []string{clusterARN(testScope, "c")}},
	} {
		a := newAsker(w.Service)
		tt.call(t, a)
		var pass, tag []string
		for _, q := range a.asked[1:] {
			switch q.Action {
			case "iam:PassRole":
				pass = q.Resources
				to := "ecs-tasks.amazonaws.com"
				if a.asked[0].Action == "ecs:UpdateService" {
					to = "ecs.amazonaws.com"
				}
				if got := q.Conditions["iam:PassedToService"]; !slices.Equal(got, []string{to}) {
					t.Errorf("%s: passed to %v", tt.name, got)
				}
			case "ecs:TagResource":
				tag = q.Resources
				if got := q.Conditions["ecs:CreateAction"]; !slices.Equal(got, []string{strings.TrimPrefix(a.asked[0].Action, "ecs:")}) || q.Conditions["aws:RequestTag/Env"] == nil {
					t.Errorf("%s: tagged with %v", tt.name, q.Conditions)
				}
			}
		}
		if !slices.Equal(pass, tt.pass) || !slices.Equal(tag, tt.tag) {
			t.Errorf("%s: passes %v and tags %v, want %v and %v", tt.name, pass, tag, tt.pass, tt.tag)
		}
	}
}
