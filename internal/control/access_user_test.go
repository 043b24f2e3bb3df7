package control

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"
)

// A user is made with its policies and a key, or not at all: one whose policy does not
// exist leaves nothing behind that would be in the way of the next attempt.
func TestAccessMakesUsersWholly(t *testing.T) {
	r := serve(t, "off")
	refused := func(o UserOptions, want string) {
		t.Helper()
		if _, err := r.owner().CreateUser(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", o, err, want)
		}
	}
	refused(UserOptions{Name: "ann"}, "name one")
	refused(UserOptions{Name: "ann", Policies: []string{"ReadOnlyAccess", "NoSuchPolicy"}}, "NoSuchEntity")
	refused(UserOptions{Name: "ann", Document: `{"Version":"2012-10-17"}`}, "MalformedPolicyDocument")
	refused(UserOptions{Name: "no/slash", Policies: []string{"ReadOnlyAccess"}}, "ValidationError")
	refused(UserOptions{Name: "ann", Policies: make([]string, maxAccessPolicies+1)}, "at most 10")

	made, err := r.owner().CreateUser(t.Context(), UserOptions{
		Name: "ann", Policies: []string{"ReadOnlyAccess"},
		Document: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:CreateCluster","Resource":"*"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:iam::" + testAccount + ":user/ann"; made.ARN != want {
		t.Errorf("made %s, want %s", made.ARN, want)
	}
	refused(UserOptions{Name: "ann", Policies: []string{"ReadOnlyAccess"}}, "EntityAlreadyExists")

	a := &Access{Endpoint: r.Endpoint(), Region: testRegion, AccessKeyID: made.AccessKeyID, SecretAccessKey: made.SecretAccessKey}
	config := aws.Config{
		Region: testRegion, BaseEndpoint: &a.Endpoint, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: made.AccessKeyID, SecretAccessKey: made.SecretAccessKey}, nil
		}),
	}
	users := iamapi.NewFromConfig(config)
	if _, err := ecs.NewFromConfig(config).CreateCluster(t.Context(), &ecs.CreateClusterInput{}); err != nil {
		t.Errorf("its own policy does not count: %v", err)
	}
	if _, err := users.ListUsers(t.Context(), &iamapi.ListUsersInput{}); err != nil {
		t.Errorf("its managed policy does not count: %v", err)
	}
	if _, err := users.CreateUser(t.Context(), &iamapi.CreateUserInput{UserName: aws.String("eve")}); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("it creates users: %v", err)
	}
	client, err := NewClient(*a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateUser(t.Context(), UserOptions{Name: "eve", Policies: []string{"AdministratorAccess"}}); err == nil {
		t.Error("a limited user makes administrators")
	}
	audit, err := os.ReadFile(filepath.Join(r.data, "audit.log"))
	if err != nil || !bytes.Contains(audit, []byte("CreateAccess")) || bytes.Contains(audit, []byte(made.SecretAccessKey)) {
		t.Errorf("the audit log has not what was done, or the secret (%v):\n%s", err, audit)
	}
}
