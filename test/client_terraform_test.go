package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// terraform is Terraform in a working directory of its own, with the AWS
// provider from a directory on this machine: tests ask no registry.
type terraform struct {
	t   *testing.T
	dir string
	env []string
}

func (l *longshore) terraform(source string) *terraform {
	l.t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		l.t.Skip("terraform is not installed")
	}
	mirror := providerMirror()
	if mirror == "" {
		l.t.Skip("no directory of this machine holds Terraform's AWS provider; put it into /usr/local/share/terraform/plugins")
	}
	dir := l.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		l.t.Fatal(err)
	}
	config := filepath.Join(l.t.TempDir(), "terraform.rc")
	text := "disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = \"" + mirror + "\"\n  }\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return &terraform{t: l.t, dir: dir, env: append(os.Environ(),
		"TF_CLI_CONFIG_FILE="+config, "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_VAR_endpoint="+l.endpoint,
		"AWS_ACCESS_KEY_ID="+keyID, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_EC2_METADATA_DISABLED=true",
	)}
}

// providerMirror is a directory laid out as Terraform's filesystem mirrors are.
func providerMirror() string {
	home, _ := os.UserHomeDir()
	for _, pattern := range []string{
		filepath.Join(home, ".terraform.d/plugins"), "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins", "/opt/*",
	} {
		found, _ := filepath.Glob(filepath.Join(pattern, "registry.terraform.io/hashicorp/aws"))
		if len(found) > 0 {
			return filepath.Clean(filepath.Join(found[0], "../../.."))
		}
	}
	return ""
}

// run runs a subcommand and returns its exit code and output.
func (tf *terraform) run(args ...string) (int, string) {
	tf.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "terraform", args...)
	c.Dir, c.Env, c.WaitDelay = tf.dir, tf.env, 10*time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	if c.ProcessState == nil {
		tf.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String()
}

func (tf *terraform) must(args ...string) string {
	tf.t.Helper()
	code, out := tf.run(args...)
	if code != 0 {
		tf.t.Fatalf("terraform %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// settled checks that a plan finds nothing to do: what was applied reads back
// as it was written.
func (tf *terraform) settled(vars ...string) {
	tf.t.Helper()
	if code, out := tf.run(append([]string{"plan", "-no-color", "-detailed-exitcode"}, vars...)...); code != 0 {
		tf.t.Fatalf("a plan right after apply ended with %d, want no changes:\n%s", code, out)
	}
}

// TestTerraformAppliesAndSettles takes a configuration through its life with
// Terraform's own AWS provider.
func TestTerraformAppliesAndSettles(t *testing.T) {
	t.Parallel() // it mostly waits: the provider polls every ten seconds
	l := up(t, "--no-sample")
	tf := l.terraform("terraform")
	ctx := context.Background()
	tf.must("init", "-no-color")
	tf.must("apply", "-no-color", "-auto-approve")
	tf.settled()
	if out := tf.must("output", "-no-color", "-raw", "account"); out != "000000000000" {
		t.Errorf("account = %q", out)
	}
	if out := tf.must("output", "-no-color", "-raw", "task_role"); out != "arn:aws:iam::000000000000:role/tf-task" {
		t.Errorf("task_role = %q", out)
	}

	ran, err := l.ecs().RunTask(ctx, &ecs.RunTaskInput{Cluster: aws.String("tf"), TaskDefinition: aws.String("tf-web"), LaunchType: types.LaunchTypeEc2})
	if err != nil || len(ran.Tasks) != 1 {
		t.Fatalf("a task of the applied definition: %+v %v", ran, err)
	}
	task := aws.ToString(ran.Tasks[0].TaskArn)
	l.awaitStatus("tf", task, "RUNNING")
	if _, err := l.ecs().StopTask(ctx, &ecs.StopTaskInput{Cluster: aws.String("tf"), Task: &task}); err != nil {
		t.Fatal(err)
	}
	l.awaitStopped("tf", []string{task})

	changed := []string{"-var", "memory=256", "-var", "retention=14", "-var", `actions=["logs:PutLogEvents","logs:CreateLogStream"]`}
	tf.must(append([]string{"apply", "-no-color", "-auto-approve"}, changed...)...)
	described, err := l.ecs().DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String("tf-web")})
	if err != nil {
		t.Fatal(err)
	}
	if d := described.TaskDefinition; d.Revision != 2 || aws.ToInt32(d.ContainerDefinitions[0].Memory) != 256 {
		t.Errorf("after the change: revision %d with %d MiB", d.Revision, aws.ToInt32(d.ContainerDefinitions[0].Memory))
	}

	tf.must("destroy", "-no-color", "-auto-approve")
	clusters, err := l.ecs().DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{"tf"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(clusters.Clusters) == 1 && aws.ToString(clusters.Clusters[0].Status) != "INACTIVE" {
		t.Errorf("the destroyed cluster is %s", aws.ToString(clusters.Clusters[0].Status))
	}
	var left struct{ Users, Groups, Roles, Policies, InstanceProfiles int }
	l.aws(&left, "iam", "get-account-summary", "--query", "SummaryMap")
	if left.Users+left.Groups+left.Roles+left.Policies+left.InstanceProfiles != 0 {
		t.Errorf("after destroy there are %+v", left)
	}
}

// awaitStatus waits until a task has a status, and fails when it stops instead.
func (l *longshore) awaitStatus(cluster, task, status string) {
	l.t.Helper()
	l.eventually(task+" is "+status, func() error {
		out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: []string{task}})
		if err != nil {
			return err
		}
		if len(out.Tasks) != 1 {
			l.t.Fatalf("DescribeTasks answered %+v", out.Failures)
		}
		switch last := aws.ToString(out.Tasks[0].LastStatus); {
		case last == status:
			return nil
		case last == "STOPPED":
			l.t.Fatalf("the task has stopped: %s", aws.ToString(out.Tasks[0].StoppedReason))
			return nil
		default:
			return errNotYet(last)
		}
	})
}

// errNotYet says how far something has come.
type errNotYet string

func (e errNotYet) Error() string { return "it is " + string(e) }

// TestTerraformBalancesAService takes a service behind a load balancer through its life.
func TestTerraformBalancesAService(t *testing.T) {
	t.Parallel() // it mostly waits
	l := up(t, "--no-sample", "--stop-tasks")
	tf := l.terraform("terraform-balancer")
	vars := []string{"-var", "vpc=" + l.vpc(), "-var", `subnets=["` + strings.Join(l.subnets(), `","`) + `"]`}
	tf.must("init", "-no-color")
	tf.must(append([]string{"apply", "-no-color", "-auto-approve"}, vars...)...)
	out, err := l.ecs().DescribeServices(context.Background(), &ecs.DescribeServicesInput{Cluster: aws.String("tf"), Services: []string{"web"}})
	if err != nil || len(out.Services) != 1 || out.Services[0].RunningCount != 2 {
		t.Errorf("Terraform has waited for a steady state of %+v, %v", out, err)
	}
	tf.settled(vars...)
	url := tf.must("output", "-no-color", "-raw", "url")
	if page := l.get(url + "/"); !strings.Contains(page, `"method": "GET"`) {
		t.Errorf("the service says %.200q", page)
	}
	changed := append(vars[:len(vars):len(vars)], "-var", "idle=30", "-var", "drain=3")
	tf.must(append([]string{"apply", "-no-color", "-auto-approve"}, changed...)...)
	tf.must(append([]string{"destroy", "-no-color", "-auto-approve"}, changed...)...)
}
