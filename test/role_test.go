package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

const trustTasks = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

func (l *longshore) iam() *iam.Client {
	return iam.New(iam.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
}

// role makes a role that tasks may have, and that allows actions.
func (l *longshore) role(name string, actions ...string) string {
	l.t.Helper()
	out, err := l.iam().CreateRole(context.Background(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(trustTasks)})
	if err != nil {
		l.t.Fatal(err)
	}
	if len(actions) > 0 {
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":"*"}]}`
		if _, err := l.iam().PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String("p"), PolicyDocument: &policy}); err != nil {
			l.t.Fatal(err)
		}
	}
	return aws.ToString(out.Role.Arn)
}

// probing builds roleprobe, and makes containers run it.
func probing(t *testing.T) func(*ecs.RegisterTaskDefinitionInput, *types.ContainerDefinition) {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "roleprobe"), "./roleprobe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build roleprobe: %v\n%s", err, out)
	}
	return func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
		in.Volumes = []types.Volume{{Name: aws.String("probe"), Host: &types.HostVolumeProperties{SourcePath: &dir}}}
		c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("probe"), ContainerPath: aws.String("/probe"), ReadOnly: aws.Bool(true)}}
		c.EntryPoint = []string{"/probe/roleprobe"}
	}
}

// A program with AWS's SDK and nothing configured is its task's role, in every
// network mode, and may do what that may.
func TestTaskIsItsRole(t *testing.T) {
	l := up(t, "--no-sample")
	app := l.role("app", "ecs:ListClusters")
	other, probe := l.role("other", "ecs:*"), probing(t)
	for name, c := range map[string]struct {
		mode     types.NetworkMode
		role     *string
		override *string
		want     string // without the task's id
	}{
		"bridge":              {mode: types.NetworkModeBridge, role: &app, want: "identity: arn:aws:sts::000000000000:assumed-role/app/ID\nListClusters: allowed\nCreateCluster: AccessDeniedException\n"},
		"awsvpc":              {mode: types.NetworkModeAwsvpc, role: &app, want: "identity: arn:aws:sts::000000000000:assumed-role/app/ID\nListClusters: allowed\nCreateCluster: AccessDeniedException\n"},
		"host":                {mode: types.NetworkModeHost, role: &app, want: "identity: arn:aws:sts::000000000000:assumed-role/app/ID\nListClusters: allowed\nCreateCluster: AccessDeniedException\n"},
		"another by override": {mode: types.NetworkModeBridge, role: &app, override: &other, want: "identity: arn:aws:sts::000000000000:assumed-role/other/ID\nListClusters: allowed\nCreateCluster: allowed\n"},
		"by override alone":   {mode: types.NetworkModeBridge, override: &app, want: "identity: arn:aws:sts::000000000000:assumed-role/app/ID\nListClusters: allowed\nCreateCluster: AccessDeniedException\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.within(t)
			family := strings.ReplaceAll(name, " ", "-")
			in := &ecs.RegisterTaskDefinitionInput{Family: &family, NetworkMode: c.mode, TaskRoleArn: c.role, ContainerDefinitions: []types.ContainerDefinition{container(family, "app")}}
			probe(in, &in.ContainerDefinitions[0])
			run := &ecs.RunTaskInput{TaskDefinition: aws.String(l.define(in)), Overrides: &types.TaskOverride{TaskRoleArn: c.override}}
			if c.mode == types.NetworkModeAwsvpc {
				run.NetworkConfiguration = l.anySubnet()
			}
			arn := l.launchOne(run)
			l.ended(arn)
			if got := strings.ReplaceAll(l.written(family, "app", arn), idOf(arn), "ID"); got != c.want {
				t.Errorf("the task says\n%s\nwant\n%s", got, c.want)
			}
		})
	}
	t.Run("no role, no credentials", func(t *testing.T) {
		l := l.within(t)
		_, out := l.one("plain", probe)
		if !strings.HasPrefix(out, "identity: ") || strings.Contains(out, "arn:") || strings.Contains(out, "allowed") {
			t.Errorf("the task says %s", out)
		}
		if _, env := l.one("env", nil, "env"); strings.Contains(env, "AWS_CONTAINER_CREDENTIALS") || !strings.Contains(env, "AWS_ENDPOINT_URL=http://169.254.170.2:4566\n") {
			t.Errorf("the task's environment is %s", env)
		}
	})
	t.Run("Debian's awscli", func(t *testing.T) {
		l := l.within(t)
		_ = l.command() // skips where it is not installed
		_, out := l.one("cli", func(in *ecs.RegisterTaskDefinitionInput, c *types.ContainerDefinition) {
			in.TaskRoleArn = &app
			for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64", "/etc/ssl"} {
				name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
				in.Volumes = append(in.Volumes, types.Volume{Name: &name, Host: &types.HostVolumeProperties{SourcePath: aws.String(dir)}})
				c.MountPoints = append(c.MountPoints, types.MountPoint{SourceVolume: &name, ContainerPath: aws.String(dir), ReadOnly: aws.Bool(true)})
			}
			c.Memory, c.EntryPoint = aws.Int32(256), []string{debianCLI}
		}, "--endpoint-url", "http://169.254.170.2:4566", // this version knows no AWS_ENDPOINT_URL yet
			"sts", "get-caller-identity", "--query", "Arn", "--output", "text")
		if !strings.HasPrefix(out, "arn:aws:sts::000000000000:assumed-role/app/") {
			t.Errorf("the CLI says %s", out)
		}
	})
	t.Run("a role that does not trust tasks", func(t *testing.T) {
		l := l.within(t)
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("untrusted"), ContainerDefinitions: []types.ContainerDefinition{container("untrusted", "app", "sleep", "600")}}
		in.TaskRoleArn = aws.String("arn:aws:iam::000000000000:role/missing")
		task := l.ended(l.begin(in))
		if task.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(aws.ToString(task.StoppedReason), "ECS was unable to assume the role 'arn:aws:iam::000000000000:role/missing' that was provided for this task.") {
			t.Errorf("it stopped with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
		}
	})
}

// launchOne runs a task and returns its ARN.
func (l *longshore) launchOne(in *ecs.RunTaskInput) string {
	l.t.Helper()
	out, err := l.ecs().RunTask(context.Background(), in)
	if err != nil || len(out.Tasks) != 1 {
		l.t.Fatalf("no task was placed: %+v, %v", out, err)
	}
	return aws.ToString(out.Tasks[0].TaskArn)
}

// A task's credentials are its own, survive the node's and the server's death, and die
// with their role.
func TestRoleIsTheTasksAlone(t *testing.T) {
	l := up(t, "--no-sample")
	app, probe := l.role("app", "ecs:ListClusters"), probing(t)
	start := func(family string, role *string) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: &family, TaskRoleArn: role, ContainerDefinitions: []types.ContainerDefinition{container(family, "app", "go on")}}
		probe(in, &in.ContainerDefinitions[0])
		return aws.ToString(l.run(&ecs.RunTaskInput{TaskDefinition: aws.String(l.define(in))}).TaskArn)
	}
	owner, neighbour := start("owner", &app), start("neighbour", nil)
	uri := l.environmentOf(idOf(owner), "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
	if got := l.inside(idOf(owner), "http://169.254.170.2"+uri); !strings.Contains(got, app) {
		t.Fatalf("the owner gets %s", got)
	}
	if status := l.statusInside(idOf(neighbour), "http://169.254.170.2"+uri); status != 400 {
		t.Errorf("a neighbour that knows the id gets %d", status)
	}
	says := func(after, want string) {
		t.Helper()
		before := len(l.written("owner", "app", owner))
		l.eventually("after "+after+", the owner says "+want, func() error {
			if out := l.written("owner", "app", owner)[before:]; !strings.Contains(out, want) {
				return fmt.Errorf("it says %s", out)
			}
			return nil
		})
	}
	says("its start", "identity: arn:aws:sts::000000000000:assumed-role/app/"+idOf(owner))
	l.kill()
	l.start()
	says("the server and the node were killed", "ListClusters: allowed")
	ctx := context.Background()
	if _, err := l.iam().DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("app"), PolicyName: aws.String("p")}); err != nil {
		t.Fatal(err)
	}
	says("its policy was deleted", "ListClusters: AccessDeniedException")
	if _, err := l.iam().DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	says("its role was deleted", "identity: InvalidClientTokenId")
	if task := l.await("", owner, "RUNNING"); aws.ToString(task.DesiredStatus) != "RUNNING" {
		t.Errorf("the task is desired %s", aws.ToString(task.DesiredStatus))
	}
	for _, task := range []string{owner, neighbour} {
		l.stop(task)
		l.ended(task)
	}
}

// What the agent does for a task it does under the task's execution role.
func TestLogsNeedTheExecutionRolesPermission(t *testing.T) {
	l := up(t, "--no-sample")
	none := l.role("none")
	logs := l.role("logs")
	if _, err := l.iam().AttachRolePolicy(context.Background(), &iam.AttachRolePolicyInput{
		RoleName: aws.String("logs"), PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"),
	}); err != nil {
		t.Fatal(err)
	}
	task := func(role string) *ecs.RegisterTaskDefinitionInput {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("f"), ExecutionRoleArn: &role, ContainerDefinitions: []types.ContainerDefinition{container("f", "app", "echo", "hello")}}
		delete(in.ContainerDefinitions[0].LogConfiguration.Options, "awslogs-create-group") // the policy has no CreateLogGroup
		return in
	}
	l.aws(nil, "logs", "create-log-group", "--log-group-name", "/test")
	arn := l.begin(task(logs))
	l.ended(arn)
	if out := l.written("f", "app", arn); out != "hello\n" {
		t.Errorf("under the role came %q", out)
	}
	stopped := l.ended(l.begin(task(none)))
	if reason := aws.ToString(stopped.StoppedReason) + aws.ToString(stopped.Containers[0].Reason); !strings.Contains(reason, "AccessDeniedException") || !strings.Contains(reason, "assumed-role/none/") {
		t.Errorf("without permission it stopped with %q", reason)
	}
}

// environmentOf is a variable in the environment of a task's process.
func (l *longshore) environmentOf(task, name string) (value string) {
	l.t.Helper()
	// A task is RUNNING a moment before its process is the container's own.
	l.eventually("the container has "+name, func() error {
		raw, err := os.ReadFile("/proc/" + l.taskProcess(task) + "/environ")
		for _, pair := range strings.Split(string(raw), "\x00") {
			if v, ok := strings.CutPrefix(pair, name+"="); ok {
				value = v
				return nil
			}
		}
		return fmt.Errorf("its environment is %q (%v)", raw, err)
	})
	return value
}
