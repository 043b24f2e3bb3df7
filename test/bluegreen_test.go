package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// actingRole is a role under which services may shift traffic and run tasks.
func (l *longshore) actingRole() string {
	l.t.Helper()
	l.aws(nil, "iam", "create-role", "--role-name", "acts", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)
	l.aws(nil, "iam", "attach-role-policy", "--role-name", "acts", "--policy-arn", "arn:aws:iam::aws:policy/AmazonECSInfrastructureRolePolicyForLoadBalancers")
	l.aws(nil, "iam", "put-role-policy", "--role-name", "acts", "--policy-name", "hooks", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:RunTask","Resource":"*"}]}`)
	return "arn:aws:iam::" + l.account() + ":role/acts"
}

func (l *longshore) account() string {
	l.t.Helper()
	var who struct{ Account string }
	l.aws(&who, "sts", "get-caller-identity")
	return who.Account
}

// deployed waits until the service's latest deployment has a status, and, if one is given, is
// at a stage.
func (l *longshore) deployed(service string, status types.ServiceDeploymentStatus, stage string) (x types.ServiceDeployment) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("the deployment of %s is %s %s", service, status, stage), func() error {
		out, err := l.ecs().DescribeServiceDeployments(l.t.Context(), &ecs.DescribeServiceDeploymentsInput{
			ServiceDeploymentArns: []string{aws.ToString(l.serviceNow(service).CurrentServiceDeployment)},
		})
		if err != nil {
			return err
		}
		x = out.ServiceDeployments[0]
		if x.Status != status || stage != "" && string(x.LifecycleStage) != stage {
			return fmt.Errorf("it is %s at %s (%s); %q", x.Status, x.LifecycleStage, aws.ToString(x.StatusReason), eventsOf(l.serviceNow(service)))
		}
		return nil
	})
	return x
}

// A team shifts a service's traffic from blue to green: behind a pause, with a task that has
// to agree, back again when it does not, while server and node are killed. No request fails,
// and testers see green before anybody else does.
func TestStoryOfABlueGreenDeployment(t *testing.T) {
	l := up(t, "--no-sample", "--stop-tasks")
	version := func(n string) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{container("web", "app")}}
		c := &in.ContainerDefinitions[0]
		c.LogConfiguration, c.PortMappings = nil, []types.PortMapping{{ContainerPort: aws.Int32(80)}}
		c.Environment = []types.KeyValuePair{{Name: aws.String("VERSION_" + n), Value: &n}}
		return l.define(in)
	}
	check := func(exit string) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("check"), ContainerDefinitions: []types.ContainerDefinition{container("check", "app", "exit", exit)}}
		in.ContainerDefinitions[0].LogConfiguration = nil
		return l.define(in)
	}
	role, blue, green := l.actingRole(), l.targetGroup("blue"), l.targetGroup("green")
	b := l.balancer("shop", blue)
	rule := func(priority, path string) string {
		var made struct{ Rules []struct{ RuleArn string } }
		l.aws(&made, "elbv2", "create-rule", "--listener-arn", b.listener, "--priority", priority, "--conditions", "Field=path-pattern,Values="+path,
			"--actions", `[{"Type":"forward","ForwardConfig":{"TargetGroups":[{"TargetGroupArn":"`+blue+`","Weight":1},{"TargetGroupArn":"`+green+`","Weight":0}]}}]`)
		return made.Rules[0].RuleArn
	}
	test, production := rule("1", "/test*"), rule("2", "/*")
	// Debian's awscli knows nothing of these strategies yet.
	configuration := func(hooks ...types.DeploymentLifecycleHook) *types.DeploymentConfiguration {
		return &types.DeploymentConfiguration{Strategy: types.DeploymentStrategyBlueGreen, BakeTimeInMinutes: aws.Int32(0), LifecycleHooks: hooks}
	}
	hooks := func(definition string) *types.DeploymentConfiguration {
		return configuration(
			types.DeploymentLifecycleHook{HookTargetArn: &definition, RoleArn: &role, LifecycleStages: []types.DeploymentLifecycleHookStage{types.DeploymentLifecycleHookStagePostTestTrafficShift}},
			types.DeploymentLifecycleHook{TargetType: types.DeploymentLifecycleHookTargetTypePause, LifecycleStages: []types.DeploymentLifecycleHookStage{types.DeploymentLifecycleHookStagePreProductionTrafficShift}},
		)
	}
	agrees, refuses := hooks(check("0")), hooks(check("7"))
	if _, err := l.ecs().CreateService(t.Context(), &ecs.CreateServiceInput{
		ServiceName: aws.String("web"), TaskDefinition: aws.String(version("1")), DesiredCount: aws.Int32(2), DeploymentConfiguration: configuration(),
		LoadBalancers: []types.LoadBalancer{{TargetGroupArn: &blue, ContainerName: aws.String("app"), ContainerPort: aws.Int32(80), AdvancedConfiguration: &types.AdvancedConfiguration{
			AlternateTargetGroupArn: &green, ProductionListenerRule: &production, TestListenerRule: &test, RoleArn: &role,
		}}},
	}); err != nil {
		t.Fatal(err)
	}
	l.deployed("web", types.ServiceDeploymentStatusSuccessful, "")

	end := l.load(b.url+"/", b.url+"/a")
	defer end()
	paused := func() types.ServiceDeployment {
		x := l.deployed("web", types.ServiceDeploymentStatusInProgress, "PRE_PRODUCTION_TRAFFIC_SHIFT")
		if production, tested := l.get(b.url+"/env"), l.get(b.url+"/test"); !strings.Contains(production, "VERSION_1") || strings.Contains(tested, "VERSION_1") {
			t.Errorf("before the shift production has %s, tests have %s", production, tested)
		}
		return x
	}
	update := func(c *types.DeploymentConfiguration, definition string) {
		if _, err := l.ecs().UpdateService(t.Context(), &ecs.UpdateServiceInput{Service: aws.String("web"), TaskDefinition: &definition, DeploymentConfiguration: c}); err != nil {
			t.Fatal(err)
		}
	}
	proceed := func(x types.ServiceDeployment, action types.DeploymentLifecycleHookAction) {
		hook := x.LifecycleHookDetails[len(x.LifecycleHookDetails)-1].HookId
		if _, err := l.ecs().ContinueServiceDeployment(t.Context(), &ecs.ContinueServiceDeploymentInput{ServiceDeploymentArn: x.ServiceDeploymentArn, HookId: hook, Action: action}); err != nil {
			t.Fatal(err)
		}
	}

	update(agrees, version("2"))
	proceed(paused(), types.DeploymentLifecycleHookActionRollback)
	l.deployed("web", types.ServiceDeploymentStatusRollbackSuccessful, "")

	update(refuses, version("3"))
	if x := l.deployed("web", types.ServiceDeploymentStatusRollbackSuccessful, ""); !strings.Contains(aws.ToString(x.StatusReason), "lifecycle hook") {
		t.Errorf("it went back because %s", aws.ToString(x.StatusReason))
	}

	update(agrees, version("4"))
	l.kill()
	l.start()
	x := paused()
	l.kill()
	l.start()
	proceed(x, types.DeploymentLifecycleHookActionContinue)
	l.deployed("web", types.ServiceDeploymentStatusSuccessful, "")
	end()
	if production := l.get(b.url + "/env"); !strings.Contains(production, "VERSION_4") {
		t.Errorf("at the end production has %s", production)
	}
	if s := l.serviceNow("web"); len(s.Deployments) != 1 || s.RunningCount != 2 {
		t.Errorf("%d tasks run in %d deployments", s.RunningCount, len(s.Deployments))
	}
}
