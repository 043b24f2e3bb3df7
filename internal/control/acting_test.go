package control

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	ecsroom "longshore.dev/longshore/internal/service/ecs"
)

// What a service does to listeners and tasks it does as the role that it was given: one that
// trusts ECS, and as far as its policies go.
func TestServicesActUnderTheirRole(t *testing.T) {
	a := newArena(t)
	service := "arn:aws:ecs:" + testRegion + ":" + testAccount + ":service/default/web"
	role := func(name, trust, policy string) string {
		a.made(a.root, "iam:CreateRole", map[string]any{"RoleName": name, "AssumeRolePolicyDocument": *document(trust)})
		if policy != "" {
			a.made(a.root, "iam:PutRolePolicy", map[string]any{"RoleName": name, "PolicyName": "p", "PolicyDocument": *document(policy)})
		}
		return "arn:aws:iam::" + testAccount + ":role/" + name
	}
	ours, all := trusts(`"Service":"ecs.amazonaws.com"`, ""), may("*")
	for _, c := range []struct{ name, role, want string }{
		{"no role", "arn:aws:iam::" + testAccount + ":role/none", "sts:AssumeRole"},
		{"one that trusts tasks only", role("tasks", trusts(`"Service":"ecs-tasks.amazonaws.com"`, ""), all), "sts:AssumeRole"},
		{"one that trusts another account's services", role("bound", trusts(`"Service":"ecs.amazonaws.com"`, `,"Condition":{"StringEquals":{"aws:SourceAccount":"`+theirs+`"}}`), all), "sts:AssumeRole"},
		{"one that may nothing", role("nothing", ours, ""), "no identity-based policy allows"},
		{"one that may", role("all", ours, all), ""},
	} {
		as := ecsroom.Acting{Role: c.role, For: service}
		_, run := acting{a.Server}.RunTask(t.Context(), testAccount, testRegion, as, &ecs.RunTaskInput{TaskDefinition: aws.String("none")})
		forward := acting{a.Server}.Forward(t.Context(), testAccount, testRegion, as, "arn:aws:elasticloadbalancing:"+testRegion+":"+testAccount+":listener-rule/app/a/b/c/d", map[string]int32{"g": 1})
		for call, err := range map[string]error{"RunTask": run, "Forward": forward} {
			denied := err != nil && strings.Contains(err.Error(), "AccessDenied")
			if err == nil || denied != (c.want != "") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s as %s: %v, want %q", call, c.name, err, c.want)
			}
		}
	}
}
