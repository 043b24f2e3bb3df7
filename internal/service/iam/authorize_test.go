package iam

import (
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/policy"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire"
)

// newUser makes a user with a tag and returns a client of its own.
func (s *served) newUser(name string) *api.Client {
	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: &name, Tags: []types.Tag{{Key: str("Team"), Value: str("red")}}})
	k := ok(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{UserName: &name}).AccessKey
	return s.as(AccessKey{ID: *k.AccessKeyId, Secret: *k.SecretAccessKey})
}

func (s *served) putUserPolicy(user, name, statements string) {
	s.t.Helper()
	text := `{"Version":"2012-10-17","Statement":[` + statements + `]}`
	ok(s, s.Client.PutUserPolicy, &api.PutUserPolicyInput{UserName: &user, PolicyName: &name, PolicyDocument: &text})
}

func (s *served) newPolicy(name, statements string) string {
	s.t.Helper()
	text := `{"Version":"2012-10-17","Statement":[` + statements + `]}`
	return *ok(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: &name, PolicyDocument: &text}).Policy.Arn
}

// Over the wire, a user may do what its policies say from one call to the next, and is
// told in AWS's words what it lacks.
func TestUsersMayDoWhatTheirPoliciesSay(t *testing.T) {
	s := serve(t, Limits{})
	alice := s.newUser("alice")
	s.newUser("bob")
	const who = "User: arn:aws:iam::123456789012:user/alice is not authorized to perform: iam:GetUser on resource: arn:aws:iam::123456789012:user/"
	get := func(name, why string) {
		t.Helper()
		in := &api.GetUserInput{UserName: &name}
		if why == "" {
			ok(s, alice.GetUser, in)
			return
		}
		refused(s, alice.GetUser, in, "AccessDenied", who+name+" "+why)
	}
	const lacks = "because no identity-based policy allows the iam:GetUser action"
	get("alice", lacks)
	s.putUserPolicy("alice", "self", `{"Effect":"Allow","Action":"iam:Get*","Resource":"arn:aws:iam::*:user/${aws:username}"}`)
	get("alice", "")
	get("bob", lacks)

	ok(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("readers")})
	ok(s, s.Client.AttachGroupPolicy, &api.AttachGroupPolicyInput{GroupName: str("readers"), PolicyArn: str("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	ok(s, s.Client.AddUserToGroup, &api.AddUserToGroupInput{GroupName: str("readers"), UserName: str("alice")})
	get("bob", "")
	s.putUserPolicy("alice", "not-bob", `{"Effect":"Deny","Action":"iam:*","Resource":"arn:aws:iam::123456789012:user/bob"}`)
	get("bob", "with an explicit deny in an identity-based policy")

	boundary := s.newPolicy("limit", `{"Effect":"Allow","Action":"ecs:*","Resource":"*"}`)
	ok(s, s.Client.PutUserPermissionsBoundary, &api.PutUserPermissionsBoundaryInput{UserName: str("alice"), PermissionsBoundary: &boundary})
	get("alice", "because no permissions boundary allows the iam:GetUser action")
	denying := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iam:GetUser","Resource":"*"}]}`
	ok(s, s.Client.CreatePolicyVersion, &api.CreatePolicyVersionInput{PolicyArn: &boundary, PolicyDocument: &denying, SetAsDefault: true})
	get("alice", "with an explicit deny in a permissions boundary")
	ok(s, s.Client.DeleteUserPermissionsBoundary, &api.DeleteUserPermissionsBoundaryInput{UserName: str("alice")})
	get("alice", "")
	ok(s, s.Client.RemoveUserFromGroup, &api.RemoveUserFromGroupInput{GroupName: str("readers"), UserName: str("alice")})
	ok(s, s.Client.DeleteUserPolicy, &api.DeleteUserPolicyInput{UserName: str("alice"), PolicyName: str("self")})
	get("alice", lacks)
}

// A role is put into a profile only by who may pass it to EC2.
func TestARoleInAProfileIsPassed(t *testing.T) {
	s := serve(t, Limits{})
	alice := s.newUser("alice")
	ok(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("p")})
	for _, role := range []string{"admin", "web"} {
		ok(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: str(trustEC2)})
	}
	add := func(role string) *api.AddRoleToInstanceProfileInput {
		return &api.AddRoleToInstanceProfileInput{InstanceProfileName: str("p"), RoleName: &role}
	}
	const lacks = "is not authorized to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/"
	s.putUserPolicy("alice", "add", `{"Effect":"Allow","Action":"iam:AddRoleToInstanceProfile","Resource":"*"}`)
	refused(s, alice.AddRoleToInstanceProfile, add("web"), "AccessDenied", lacks+"web")
	s.putUserPolicy("alice", "pass", `{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::*:role/web","Condition":{"StringEquals":{"iam:PassedToService":"ecs-tasks.amazonaws.com"}}}`)
	refused(s, alice.AddRoleToInstanceProfile, add("web"), "AccessDenied", lacks+"web")
	s.putUserPolicy("alice", "pass", `{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::*:role/web","Condition":{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}}`)
	refused(s, alice.AddRoleToInstanceProfile, add("admin"), "AccessDenied", lacks+"admin")
	ok(s, alice.AddRoleToInstanceProfile, add("web"))
}

// question is what the authoriser is asked about a call of alice's.
func (s *served) question(action string, resources ...string) *wire.AuthorizationRequest {
	u := ok(s, s.Client.GetUser, &api.GetUserInput{UserName: str("alice")}).User
	return &wire.AuthorizationRequest{
		Action: action, Resources: resources,
		Call: &wire.Call{
			Account: account, Region: "eu-west-1", Service: strings.Split(action, ":")[0], SourceIP: "127.0.0.1", UserAgent: "aws-cli/2", Secure: true,
			Time:      time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
			Principal: wire.Principal{Kind: wire.PrincipalUser, AccountID: account, ARN: *u.Arn, UserID: *u.UserId},
		},
	}
}

// Every global key has the call's value: a policy that asks for all of them allows,
// and one that asks for another value of any of them does not.
func TestGlobalConditionKeys(t *testing.T) {
	s := serve(t, Limits{})
	s.newUser("alice")
	const bucket = "arn:aws:s3:::b"
	req := s.question("s3:GetObject", bucket)
	req.Call.Via = []string{"ecs.amazonaws.com", "batch.amazonaws.com"}
	req.Conditions = map[string][]string{"aws:RequestTag/Env": {"test"}, "aws:TagKeys": {"Env"}, "aws:ResourceTag/Owner": {"x"}}
	conditions := map[string]string{
		"aws:PrincipalArn": "arn:aws:iam::123456789012:user/alice", "aws:PrincipalAccount": account, "aws:PrincipalType": "User",
		"aws:userid": req.Call.Principal.UserID, "aws:username": "alice", "aws:PrincipalTag/Team": "red", "aws:PrincipalIsAWSService": "false",
		"aws:SourceIp": "127.0.0.1", "aws:UserAgent": "aws-cli/2", "aws:SecureTransport": "true", "aws:CurrentTime": "2026-11-26T12:00:00Z",
		"aws:EpochTime": "1795694400", "aws:RequestedRegion": "eu-west-1", "aws:ResourceAccount": account, "aws:ViaAWSService": "true",
		"aws:CalledViaFirst": "ecs.amazonaws.com", "aws:CalledViaLast": "batch.amazonaws.com", "aws:RequestTag/Env": "test", "aws:ResourceTag/owner": "x",
	}
	a := &Authorizer{Holders: s.Service}
	with := func(key, value string) string {
		var list []string
		for k, v := range conditions {
			if k == key {
				v = value
			}
			list = append(list, fmt.Sprintf("%q:%q", k, v))
		}
		return `{"Effect":"Allow","Action":"s3:*","Resource":"` + bucket + `","Condition":{"StringEquals":{` + strings.Join(list, ",") +
			`},"ForAllValues:StringEquals":{"aws:TagKeys":["Env"],"aws:CalledVia":["ecs.amazonaws.com","batch.amazonaws.com"]},` +
			`"Null":{"aws:TokenIssueTime":"true","aws:MultiFactorAuthPresent":"true","aws:CalledVia":"false"}}}`
	}
	s.putUserPolicy("alice", "p", with("", ""))
	if err := a.Authorize(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for key := range conditions {
		s.putUserPolicy("alice", "p", with(key, "another"))
		if a.Authorize(t.Context(), req) == nil {
			t.Errorf("%s has any value", key)
		}
	}
}

// Each resource of a call has to be allowed, and the first that is not is named.
func TestEveryResourceIsAsked(t *testing.T) {
	s := serve(t, Limits{})
	s.newUser("alice")
	s.putUserPolicy("alice", "p", `{"Effect":"Allow","Action":"ecs:*","Resource":"arn:aws:ecs:*:123456789012:task/a"}`)
	a := &Authorizer{Holders: s.Service}
	const one, two = "arn:aws:ecs:eu-west-1:123456789012:task/a", "arn:aws:ecs:eu-west-1:123456789012:task/b"
	if err := a.Authorize(t.Context(), s.question("ecs:DescribeTasks", one, one)); err != nil {
		t.Error(err)
	}
	err := a.Authorize(t.Context(), s.question("ecs:DescribeTasks", one, two))
	if err == nil || !strings.Contains(err.Error(), "on resource: "+two+" because no identity-based policy allows the ecs:DescribeTasks action") {
		t.Errorf("got %v", err)
	}
	if a.Authorize(t.Context(), s.question("ecs:DescribeTasks")) == nil {
		t.Error("an operation without resources is allowed")
	}
}

func TestAnotherAccountsResources(t *testing.T) {
	s := serve(t, Limits{})
	s.newUser("alice")
	s.putUserPolicy("alice", "p", `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	a := &Authorizer{Holders: s.Service}
	root := wire.Principal{Kind: wire.PrincipalRoot, AccountID: account, ARN: "arn:aws:iam::123456789012:root", UserID: account}
	for _, who := range []wire.Principal{{}, root} {
		req := s.question("ecs:StopTask", "arn:aws:ecs:eu-west-1:210987654321:task/a")
		if who.Kind != "" {
			req.Call.Principal = who
		}
		err := a.Authorize(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), "because no resource-based policy allows the ecs:StopTask action") {
			t.Errorf("%s: got %v", req.Call.Principal.ARN, err)
		}
		req.Resources = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
		if err := a.Authorize(t.Context(), req); err != nil {
			t.Errorf("a policy that AWS manages: %v", err)
		}
	}
}

// Who somebody is, everybody may ask, whatever is denied.
func TestGetCallerIdentityNeedsNoPermission(t *testing.T) {
	s := serve(t, Limits{})
	s.newUser("alice")
	s.putUserPolicy("alice", "p", `{"Effect":"Deny","Action":"*","Resource":"*"}`)
	if err := (&Authorizer{Holders: s.Service}).Authorize(t.Context(), s.question("sts:GetCallerIdentity", "*")); err != nil {
		t.Error(err)
	}
}

// A policy that cannot be read might deny, and a principal that is gone has none:
// nothing is allowed then.
func TestWhatCannotBeKnownIsRefused(t *testing.T) {
	s := serve(t, Limits{})
	s.newUser("alice")
	s.putUserPolicy("alice", "p", `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	req := s.question("ecs:ListClusters", "*")
	a := &Authorizer{Holders: s.Service}
	if err := a.Authorize(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for name, principal := range map[string]wire.Principal{
		"the principal does not exist any more": {Kind: wire.PrincipalUser, AccountID: account, UserID: "AIDAGONE"},
		"nobody knows the policies":             {Kind: "something", AccountID: account},
	} {
		other := *req
		call := *req.Call
		call.Principal = principal
		other.Call = &call
		if err := a.Authorize(t.Context(), &other); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	err := s.deps.DB.Update(t.Context(), func(tx *store.Tx) error {
		return s.users.edit(tx, accountScope(account), "alice", func(i *identity) error {
			i.Inline = map[string]string{"p": i.Inline["p"], "broken": `{"Version":"2012-10-17","Statement":{"Effect":"Deny"}}`}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Authorize(t.Context(), req); err == nil || !strings.Contains(err.Error(), "the policy user_alice_broken cannot be read") {
		t.Errorf("got %v", err)
	}
}

// The kept documents are bounded, and the same text is parsed once.
func TestDocumentsAreKept(t *testing.T) {
	var c documents
	text := func(i int) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Id":"%0100000d","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, i)
	}
	var first *policy.Document
	for i := range 400 {
		d, err := c.get(text(i))
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := c.get(text(i)); again != d {
			t.Fatal("a text was parsed twice")
		}
		if i == 0 {
			first = d
		}
		if c.bytes > maxDocumentBytes || len(c.byText)*100_000 > maxDocumentBytes {
			t.Fatalf("%d documents of %d bytes are kept", len(c.byText), c.bytes)
		}
	}
	if d, _ := c.get(text(0)); d == first {
		t.Error("nothing was ever forgotten")
	}
}

func BenchmarkAuthorize(b *testing.B) {
	s := serve(b, Limits{})
	s.newUser("alice")
	for i := range 5 {
		s.putUserPolicy("alice", fmt.Sprint("p", i), `{"Effect":"Allow","Action":["s3:Get*","ecs:RunTask"],"Resource":"arn:aws:s3:::b/${aws:username}/*"}`)
	}
	for _, name := range []string{"ReadOnlyAccess", "PowerUserAccess"} {
		ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("alice"), PolicyArn: str("arn:aws:iam::aws:policy/" + name)})
	}
	boundary := s.newPolicy("limit", `{"Effect":"Allow","Action":"ecs:*","Resource":"*"}`)
	ok(s, s.Client.PutUserPermissionsBoundary, &api.PutUserPermissionsBoundaryInput{UserName: str("alice"), PermissionsBoundary: &boundary})
	req := s.question("ecs:RunTask", "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7")
	req.Conditions = map[string][]string{"ecs:cluster": {"arn:aws:ecs:eu-west-1:123456789012:cluster/prod"}}
	a := &Authorizer{Holders: s.Service}
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Authorize(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
