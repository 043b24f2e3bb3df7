package test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// cli runs the CLI to its end and returns what it printed and its exit code.
func (l *longshore) cli(args ...string) (stdout, stderr string, exit int) {
	l.t.Helper()
	var out, errs strings.Builder
	c := l.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	var ended *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &ended) {
		l.t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// TestCLIAsScriptsUseIt holds what shell scripts rely on: exit codes, messages,
// the shape of the output, paging and waiting.
func TestCLIAsScriptsUseIt(t *testing.T) {
	t.Parallel() // the waiters sleep for six seconds
	l := up(t, "--no-sample")
	for _, c := range []struct {
		args    []string
		exit    int
		message string
	}{
		{[]string{"ecs", "describe-task-definition", "--task-definition", "nobody"}, 254,
			"An error occurred (ClientException) when calling the DescribeTaskDefinition operation: Unable to describe task definition."},
		{[]string{"ecs", "list-tasks", "--cluster", "nobody"}, 254,
			"An error occurred (ClusterNotFoundException) when calling the ListTasks operation: Cluster not found."},
		{[]string{"logs", "get-log-events", "--log-group-name", "nobody", "--log-stream-name", "x"}, 254,
			"An error occurred (ResourceNotFoundException) when calling the GetLogEvents operation: The specified log group does not exist."},
		{[]string{"ecs", "describe-task-sets", "--cluster", "default", "--service", "x"}, 254, "An error occurred (UnknownOperationException) when calling the DescribeTaskSets operation"},
		{[]string{"sts", "decode-authorization-message", "--encoded-message", "x"}, 254, "An error occurred (InvalidAction) when calling the DecodeAuthorizationMessage operation: Longshore does not implement"},
	} {
		if _, message, exit := l.cli(c.args...); exit != c.exit || !strings.Contains(message, c.message) {
			t.Errorf("aws %s: exit code %d, %s", strings.Join(c.args, " "), exit, message)
		}
	}
	l.aws(nil, "ecs", "register-task-definition", "--cli-input-json",
		`{"family":"cli","containerDefinitions":[{"name":"main","image":"longshore/sample","memory":32}],"tags":[{"key":"a","value":"b"}]}`)
	var ran struct{ Tasks []struct{ TaskArn string } }
	l.aws(&ran, "ecs", "run-task", "--task-definition", "cli", "--count", "3", "--started-by", "script")
	if len(ran.Tasks) != 3 {
		t.Fatalf("run-task started %d tasks, want 3", len(ran.Tasks))
	}
	tasks := []string{ran.Tasks[0].TaskArn, ran.Tasks[1].TaskArn, ran.Tasks[2].TaskArn}
	l.aws(nil, append([]string{"ecs", "wait", "tasks-running", "--tasks"}, tasks...)...)
	l.hasMembers(t, append([]string{"ecs", "describe-tasks", "--tasks"}, tasks...), []string{"failures"}, "tasks",
		"attachments", "attributes", "containers", "overrides", "tags", "createdAt", "startedAt", "pullStartedAt", "version", "healthStatus", "enableExecuteCommand")
	l.hasMembers(t, []string{"ecs", "describe-clusters"}, []string{"failures"}, "clusters",
		"runningTasksCount", "pendingTasksCount", "activeServicesCount", "statistics", "tags", "settings", "capacityProviders", "defaultCapacityProviderStrategy")

	var page struct {
		TaskArns  []string `json:"taskArns"`
		NextToken string
	}
	seen, token := map[string]bool{}, ""
	for {
		args := []string{"ecs", "list-tasks", "--started-by", "script", "--page-size", "1", "--max-items", "2"}
		if token != "" {
			args = append(args, "--starting-token", token)
		}
		page.TaskArns, page.NextToken = nil, ""
		l.aws(&page, args...)
		for _, arn := range page.TaskArns {
			seen[arn] = true
		}
		if token = page.NextToken; token == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("by pages of two there are %d of 3 tasks", len(seen))
	}
	if out, _, exit := l.cli("ecs", "list-tasks", "--output", "table"); exit != 0 || !strings.Contains(out, tasks[0]) || !strings.Contains(out, "ListTasks") {
		t.Errorf("as a table: %d %s", exit, out)
	}
	for _, task := range tasks {
		l.aws(nil, "ecs", "stop-task", "--task", task)
	}
	l.aws(nil, append([]string{"ecs", "wait", "tasks-stopped", "--tasks"}, tasks...)...)
}

// hasMembers checks that a command's output has members, empty or not, at the
// top and in each element of a list.
func (l *longshore) hasMembers(t *testing.T, args, top []string, list string, members ...string) {
	t.Helper()
	var out map[string]json.RawMessage
	l.aws(&out, args...)
	for _, name := range top {
		if _, ok := out[name]; !ok {
			t.Errorf("aws %s: there is no %s", args[1], name)
		}
	}
	var elements []map[string]json.RawMessage
	if err := json.Unmarshal(out[list], &elements); err != nil || len(elements) == 0 {
		t.Fatalf("aws %s: %s is %s: %v", args[1], list, out[list], err)
	}
	for _, element := range elements {
		for _, name := range members {
			if _, ok := element[name]; !ok {
				t.Errorf("aws %s: an element of %s has no %s", args[1], list, name)
			}
		}
	}
}
