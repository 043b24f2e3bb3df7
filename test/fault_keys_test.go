package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// longshoreCLI runs a command of the binary on this Longshore's data directory.
func (l *longshore) longshoreCLI(args ...string) (string, error) {
	c := exec.Command(l.binary, append(args[:len(args):len(args)], "--data", l.data)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// The root key is rotated again and again while the server is killed at random moments:
// every user that was acknowledged can sign in, and one key is left in the end.
func TestRotationsSurviveKills(t *testing.T) {
	l := up(t, "--no-sample")
	ctx := context.Background()
	type user struct{ id, secret string }
	var users []user
	for round := range 6 {
		name := fmt.Sprint("user-", round)
		if _, err := l.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err != nil {
			t.Fatal(err)
		}
		out, err := l.iam().CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, user{*out.AccessKey.AccessKeyId, *out.AccessKey.SecretAccessKey})
		rotated := make(chan error, 1)
		go func() {
			_, err := l.longshoreCLI("key", "rotate")
			rotated <- err
		}()
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		l.kill()
		<-rotated // it may have failed
		l.start()
		for i, u := range users {
			client := iam.New(iam.Options{Region: region, BaseEndpoint: &l.endpoint, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: u.id, SecretAccessKey: u.secret}, nil
			})})
			if _, err := client.GetUser(ctx, &iam.GetUserInput{}); code(err) != "AccessDenied" {
				t.Fatalf("in round %d user %d can't sign in: %v", round, i, err)
			}
		}
	}
	if out, err := l.longshoreCLI("key", "rotate"); err != nil || !strings.Contains(out, "are sealed by the new root key") {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := l.longshoreCLI("key", "status")
	if err != nil || strings.Count(out, "Sealed by") != 1 || !strings.Contains(out, "access keys' secrets") {
		t.Errorf("%v: %s", err, out)
	}
}

// A machine burns down; on another there are the backup and the root key.
func TestBackupMovesAServer(t *testing.T) {
	l := up(t, "--no-sample")
	ctx := context.Background()
	definition := l.web("web", "bridge", nil)
	task := aws.ToString(l.run(&ecs.RunTaskInput{TaskDefinition: &definition}).TaskArn)
	file := filepath.Join(t.TempDir(), "monday")
	out, err := l.longshoreCLI("backup", file)
	if err != nil || !strings.Contains(out, "read back whole") {
		t.Fatalf("%v: %s", err, out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v", info.Mode(), err)
	}
	if out, err := l.longshoreCLI("backup", file); err == nil || !strings.Contains(out, "exists") {
		t.Errorf("a backup over another: %v %s", err, out)
	}
	// After the backup: it is not known to the restored server.
	late := aws.ToString(l.run(&ecs.RunTaskInput{TaskDefinition: &definition}).TaskArn)

	// The server's part goes, the node's stays: its tasks run on.
	l.kill()
	gone := filepath.Join(t.TempDir(), "gone")
	if err := errors.Join(os.Mkdir(gone, 0o700), os.Rename(filepath.Join(l.data, "etcd"), filepath.Join(gone, "etcd")), os.Rename(filepath.Join(l.data, "bulk"), filepath.Join(gone, "bulk"))); err != nil {
		t.Fatal(err)
	}
	if out, err := l.longshoreCLI("restore", file); err != nil || !strings.Contains(out, "holds the server as of") {
		t.Fatalf("%v: %s", err, out)
	}
	l.start()
	if got := l.await("", task, "RUNNING"); aws.ToString(got.TaskDefinitionArn) != definition {
		t.Errorf("the task has the definition %s", aws.ToString(got.TaskDefinitionArn))
	}
	l.eventually("the task of after the backup is stopped", func() error {
		if all := l.processes(idOf(late)); len(all) > 0 {
			return fmt.Errorf("it has the processes %v", all)
		}
		return nil
	})
	if out, err := l.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: []string{late}}); err != nil || len(out.Tasks) != 0 {
		t.Errorf("the task of after the backup is known: %v", err)
	}
	if out, err := l.longshoreCLI("restore", file); err == nil || !strings.Contains(out, "Move it away first") {
		t.Errorf("a restore over a server: %v %s", err, out)
	}
}
