package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCLIManagesIAM takes users, roles and policies through their life with the
// AWS CLI, and lets a user's key sign.
func TestCLIManagesIAM(t *testing.T) {
	t.Parallel()
	l := up(t, "--no-sample")
	document := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(document, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:*","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	var role struct {
		Role struct {
			Arn                      string
			AssumeRolePolicyDocument struct{ Version string }
		}
	}
	l.aws(&role, "iam", "create-role", "--role-name", "web", "--path", "/app/", "--assume-role-policy-document", trust, "--tags", "Key=a,Value=b c")
	if role.Role.Arn != "arn:aws:iam::000000000000:role/app/web" || role.Role.AssumeRolePolicyDocument.Version != "2012-10-17" {
		t.Errorf("create-role answered %+v", role)
	}
	var policy struct{ Policy struct{ Arn string } }
	l.aws(&policy, "iam", "create-policy", "--policy-name", "own", "--policy-document", "file://"+document)
	for _, arn := range []string{policy.Policy.Arn, "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"} {
		l.aws(nil, "iam", "attach-role-policy", "--role-name", "web", "--policy-arn", arn)
	}
	var attached struct{ AttachedPolicies []struct{ PolicyName string } }
	l.aws(&attached, "iam", "list-attached-role-policies", "--role-name", "web")
	if len(attached.AttachedPolicies) != 2 || attached.AttachedPolicies[1].PolicyName != "own" {
		t.Errorf("attached: %+v", attached)
	}
	if _, message, exit := l.cli("iam", "delete-role", "--role-name", "web"); exit != 254 || !strings.Contains(message, "(DeleteConflict) when calling the DeleteRole operation: Cannot delete entity, must detach all policies first.") {
		t.Errorf("delete-role: %d %s", exit, message)
	}

	l.aws(nil, "iam", "create-user", "--user-name", "alice")
	var key struct {
		AccessKey struct{ AccessKeyId, SecretAccessKey string }
	}
	l.aws(&key, "iam", "create-access-key", "--user-name", "alice")
	alice := func(args ...string) (string, error) {
		c := l.command(args...)
		c.Env = append(c.Env, "AWS_ACCESS_KEY_ID="+key.AccessKey.AccessKeyId, "AWS_SECRET_ACCESS_KEY="+key.AccessKey.SecretAccessKey)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := alice("sts", "get-caller-identity"); err != nil || !strings.Contains(out, `"arn:aws:iam::000000000000:user/alice"`) {
		t.Errorf("alice is %s: %v", out, err)
	}
	if out, err := alice("ecs", "list-clusters"); err == nil || !strings.Contains(out, "user/alice is not authorized to perform: ecs:ListClusters on resource: ") {
		t.Errorf("without a policy alice is answered %s", out)
	}
	l.aws(nil, "iam", "attach-user-policy", "--user-name", "alice", "--policy-arn", policy.Policy.Arn)
	if out, err := alice("ecs", "list-clusters"); err != nil || !strings.Contains(out, ":cluster/default") {
		t.Errorf("with a policy alice is answered %s", out)
	}
	l.end() // what was acknowledged outlives the server
	l.start()
	var users struct {
		Users []struct{ UserName, Arn string }
	}
	l.aws(&users, "iam", "list-users", "--path-prefix", "/")
	if len(users.Users) != 1 || users.Users[0].UserName != "alice" {
		t.Errorf("after a restart the users are %+v", users)
	}
	for _, args := range [][]string{
		{"detach-role-policy", "--role-name", "web", "--policy-arn", policy.Policy.Arn},
		{"detach-role-policy", "--role-name", "web", "--policy-arn", "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"},
		{"delete-role", "--role-name", "web"},
		{"detach-user-policy", "--user-name", "alice", "--policy-arn", policy.Policy.Arn},
		{"delete-policy", "--policy-arn", policy.Policy.Arn},
		{"delete-access-key", "--user-name", "alice", "--access-key-id", key.AccessKey.AccessKeyId},
		{"delete-user", "--user-name", "alice"},
	} {
		l.aws(nil, append([]string{"iam"}, args...)...)
	}
	if _, message, exit := l.cli("iam", "get-user", "--user-name", "alice"); exit != 254 || !strings.Contains(message, "(NoSuchEntity) when calling the GetUser operation: The user with name alice cannot be found.") {
		t.Errorf("get-user: %d %s", exit, message)
	}
}

// TestCLIAssumesARole gives a user a role's session and signs with it, before and
// after a restart.
func TestCLIAssumesARole(t *testing.T) {
	t.Parallel()
	l := up(t, "--no-sample")
	l.aws(nil, "iam", "create-user", "--user-name", "alice")
	var key struct {
		AccessKey struct{ AccessKeyId, SecretAccessKey string }
	}
	l.aws(&key, "iam", "create-access-key", "--user-name", "alice")
	const trust = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"sts:AssumeRole"}}`
	const lists = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:ListClusters","Resource":"*"}}`
	l.aws(nil, "iam", "create-role", "--role-name", "lister", "--assume-role-policy-document", trust)
	l.aws(nil, "iam", "put-role-policy", "--role-name", "lister", "--policy-name", "lists", "--policy-document", lists)
	as := func(id, secret, token string, args ...string) string {
		c := l.command(args...)
		c.Env = append(c.Env, "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_SESSION_TOKEN="+token)
		out, _ := c.CombinedOutput() // what it says is looked at
		return string(out)
	}
	var assumed struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	answer := as(key.AccessKey.AccessKeyId, key.AccessKey.SecretAccessKey, "", "sts", "assume-role", "--role-arn", "arn:aws:iam::000000000000:role/lister", "--role-session-name", "cli")
	if err := json.Unmarshal([]byte(answer), &assumed); err != nil {
		t.Fatalf("assume-role answered %s", answer)
	}
	session := assumed.Credentials
	look := func() {
		t.Helper()
		for want, args := range map[string][]string{
			`"arn:aws:sts::000000000000:assumed-role/lister/cli"`: {"sts", "get-caller-identity"},
			":cluster/default": {"ecs", "list-clusters"},
			"assumed-role/lister/cli is not authorized to perform: ecs:ListTasks on resource: ": {"ecs", "list-tasks"},
		} {
			if out := as(session.AccessKeyId, session.SecretAccessKey, session.SessionToken, args...); !strings.Contains(out, want) {
				t.Errorf("%v answered %s", args, out)
			}
		}
	}
	look()
	l.end()
	l.start()
	look()
	l.aws(nil, "iam", "delete-role-policy", "--role-name", "lister", "--policy-name", "lists")
	l.aws(nil, "iam", "delete-role", "--role-name", "lister")
	if out := as(session.AccessKeyId, session.SecretAccessKey, session.SessionToken, "ecs", "list-clusters"); !strings.Contains(out, "(UnrecognizedClientException)") {
		t.Errorf("without its role the session is answered %s", out)
	}
}
