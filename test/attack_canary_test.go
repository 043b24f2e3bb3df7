package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// canary is a secret, and where it may be seen.
type canary struct {
	text string
	// files are the beginnings of paths under the data directory that may hold it.
	files []string
	// environments: of processes other than the server's own.
	environments bool
}

// Secrets of every kind are found nowhere but where they belong: not in files, logs,
// the audit log, answers, or what other users of the machine see of processes.
func TestSecretsAreFoundNowhere(t *testing.T) {
	l := up(t, "--no-sample", "--log-level", "debug")
	ctx, name := context.Background(), aws.String("canary")
	canaries := map[string]canary{"the root user's secret": {text: secret}}

	users := iam.New(iam.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: aws.CredentialsProviderFunc(credentials)})
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}]}`
	all := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	_, err1 := users.CreateUser(ctx, &iam.CreateUserInput{UserName: name})
	_, err2 := users.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: name, PolicyDocument: &all})
	key, err3 := users.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: name})
	role, err4 := users.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: &trust})
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	canaries["a user's secret"] = canary{text: *key.AccessKey.SecretAccessKey}
	asUser := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey}, nil
	})
	session, err := sts.New(sts.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: asUser}).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: role.Role.Arn, RoleSessionName: name})
	if err != nil {
		t.Fatal(err)
	}
	canaries["a session's secret"] = canary{text: *session.Credentials.SecretAccessKey}
	canaries["a session's token"] = canary{text: *session.Credentials.SessionToken}
	// A call of the session's, and one that is refused.
	asSession := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		c := session.Credentials
		return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}, nil
	})
	if _, err := ecs.New(ecs.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: asSession}).ListClusters(ctx, nil); err == nil {
		t.Error("the session may list clusters")
	}

	made, err := exec.Command(l.binary, "token", "create", "--data", l.data).Output()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(made))
	canaries["a registration token"] = canary{text: strings.Split(token, ".")[2]}
	answer, err := http.Post(l.endpoint+"/_longshore/join", "application/json", strings.NewReader(fmt.Sprintf(`{"token":%q,"attempt":%q}`, token, strings.Repeat("ab", 32))))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var joined struct{ SecretAccessKey string }
	if err := json.NewDecoder(answer.Body).Decode(&joined); err != nil || joined.SecretAccessKey == "" {
		t.Fatalf("%s %v", answer.Status, err)
	}
	canaries["a node's secret"] = canary{text: joined.SecretAccessKey}

	// An environment is no place for secrets: DescribeTaskDefinition shows it, in AWS too.
	// So the store holds it, and the node's agent; but it goes no further than the task.
	const value, override = "canary-environment-48151623", "canary-override-42108"
	canaries["a definition's environment"] = canary{value, []string{"etcd/", "node/agent.db"}, true}
	canaries["a task's environment"] = canary{override, []string{"etcd/", "node/agent.db"}, true}
	l.web("canary", types.NetworkModeBridge, func(in *ecs.RegisterTaskDefinitionInput) {
		in.ContainerDefinitions[0].Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: aws.String(value)}}
	})
	l.run(&ecs.RunTaskInput{TaskDefinition: name, Overrides: &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{
		{Name: aws.String("web"), Environment: []types.KeyValuePair{{Name: aws.String("B"), Value: aws.String(override)}}},
	}}})

	if raw, err := os.ReadFile(filepath.Join(l.data, "root.key")); err == nil {
		own := []string{"root.key"}
		canaries["the root key"] = canary{text: string(raw), files: own}
		canaries["the root key in hex"] = canary{text: hex.EncodeToString(raw), files: own}
		canaries["the root key in base64"] = canary{text: base64.StdEncoding.EncodeToString(raw), files: own}
	}

	l.searchProcesses(canaries)
	l.searchFiles(canaries)
	if err := l.signal(syscall.SIGINT); err != nil {
		t.Errorf("longshore ended with %v", err)
	}
	l.searchFiles(canaries) // what an orderly end writes
	for what, c := range canaries {
		if strings.Contains(l.output.String(), c.text) {
			t.Errorf("%s is in the log", what)
		}
	}
}

// searchFiles looks for the canaries in every file of the data directory.
func (l *longshore) searchFiles(canaries map[string]canary) {
	l.t.Helper()
	files := 0
	err := filepath.WalkDir(l.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		files++
		relative := strings.TrimPrefix(path, l.data+"/")
		for what, c := range canaries {
			if bytes.Contains(raw, []byte(c.text)) && !startsWithAny(relative, c.files) {
				l.t.Errorf("%s is in %s", what, relative)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		l.t.Errorf("the data directory could not be searched: %d files, %v", files, err)
	}
}

func startsWithAny(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// searchProcesses looks for them in what `ps` shows of all processes, and in the
// environments of those that the server started.
func (l *longshore) searchProcesses(canaries map[string]canary) {
	l.t.Helper()
	parents := map[int]int{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, dir := range dirs {
		raw, _ := os.ReadFile(dir + "/stat")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if i := bytes.LastIndexByte(raw, ')'); i > 0 {
			parents[pid], _ = strconv.Atoi(strings.Fields(string(raw[i+1:]))[1])
		}
	}
	tasks := 0
	for pid := range parents {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		environment, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		ours := bytes.Contains(command, []byte(l.data)) || bytes.Contains(environment, []byte("canary-override"))
		for p := parents[pid]; !ours && p > 1; p = parents[p] {
			ours = p == l.process.Process.Pid
		}
		for what, c := range canaries {
			if bytes.Contains(command, []byte(c.text)) {
				l.t.Errorf("ps shows %s: %q", what, command)
			}
			if ours && pid != l.process.Process.Pid && !c.environments && bytes.Contains(environment, []byte(c.text)) {
				l.t.Errorf("%s is in the environment of %q", what, command)
			}
		}
		if bytes.Contains(environment, []byte("canary-override")) {
			tasks++
		}
	}
	if tasks == 0 {
		l.t.Error("no process has the task's environment: nothing was searched")
	}
}
