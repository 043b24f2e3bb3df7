package control

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	stsapi "github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/wire"
)

// BenchmarkAssumeRole is a service that assumes a role inside of the server.
func BenchmarkAssumeRole(b *testing.B) {
	w := newWorld(b)
	arn := w.role("task", trusts(`"Service":"ecs-tasks.amazonaws.com"`, ""), may("iam:ListUsers"))
	p := wire.ServicePrincipal("ecs-tasks.amazonaws.com", ours, "arn:aws:ecs:eu-west-1:"+ours+":task/default/1")
	for b.Loop() {
		if _, err := wire.Invoke[stsapi.AssumeRoleInput, stsapi.AssumeRoleOutput](b.Context(), w.reg, p, ours, "eu-west-1", "sts", "AssumeRole",
			&stsapi.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("task")}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSessionToken is what a session adds to a call: its token is opened.
func BenchmarkSessionToken(b *testing.B) {
	w := newWorld(b)
	alice := w.user(ours, "alice", may("sts:*"))
	arn := w.role("task", trusts(accountOfOurs, ""), "")
	out := must[*stsapi.AssumeRoleOutput](b)(w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &arn, Tags: manyTags(5, 20), Policy: document(may("*"))}))
	for b.Loop() {
		if _, err := w.iam.Credential(b.Context(), *out.Credentials.AccessKeyId, *out.Credentials.SessionToken); err != nil {
			b.Fatal(err)
		}
	}
}
