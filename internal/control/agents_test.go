package control

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"

	"longshore.dev/longshore/internal/node"
)

// Payloads and tasks' credentials travel over the agents' websockets: a user gets in
// with ecs:Poll or ecs:StartTelemetrySession on the instance, and not without.
func TestWhoMayActAsAnAgent(t *testing.T) {
	s := steal(t)
	w := &world{t: t, url: s.Endpoint()}
	root := w.as(aws.Credentials{AccessKeyID: s.Access().AccessKeyID, SecretAccessKey: s.Access().SecretAccessKey})
	w.root = map[string]party{ours: root}
	w.user(ours, "alice", "")
	key := must[*iamapi.CreateAccessKeyOutput](t)(root.CreateAccessKey(t.Context(), &iamapi.CreateAccessKeyInput{UserName: aws.String("alice")})).AccessKey
	alice := node.Credentials{AccessKeyID: *key.AccessKeyId, SecretAccessKey: *key.SecretAccessKey}
	try := func(kind, instance, want string) {
		t.Helper()
		c, err := s.dial(kind, alice, instance)
		if err == nil {
			c.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s of %s: %v, want %q", kind, instance, err, want)
		}
	}
	allow := func(statement string) {
		must[*iamapi.PutUserPolicyOutput](t)(root.PutUserPolicy(t.Context(), &iamapi.PutUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("p"), PolicyDocument: document(statement)}))
	}
	try("acs", s.instance, "not authorized to perform: ecs:Poll on resource: "+s.instance)
	try("tcs", s.instance, "not authorized to perform: ecs:StartTelemetrySession on resource: "+s.instance)
	cluster := strings.Replace(s.instance[:strings.LastIndexByte(s.instance, '/')], "container-instance", "cluster", 1)
	allow(`{"Effect":"Allow","Action":["ecs:Poll","ecs:StartTelemetrySession"],"Resource":"*","Condition":{"ArnEquals":{"ecs:cluster":"` + cluster + `x"}}}`)
	try("acs", s.instance, "ecs:Poll")
	allow(`{"Effect":"Allow","Action":["ecs:Poll","ecs:StartTelemetrySession"],"Resource":"` + s.instance + `","Condition":{"ArnEquals":{"ecs:cluster":"` + cluster + `"}}}`)
	try("acs", s.instance, "")
	try("tcs", s.instance, "")
	try("acs", s.instance[strings.LastIndexByte(s.instance, '/')+1:], "by its ARN")
}
