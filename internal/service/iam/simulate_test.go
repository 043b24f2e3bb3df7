package iam

import (
	"slices"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func document(statement string) string {
	return `{"Version":"2012-10-17","Statement":[` + statement + `]}`
}

// decisions are those of a simulation, by "action resource".
func decisions(results []types.EvaluationResult) map[string]string {
	all := map[string]string{}
	for _, r := range results {
		all[*r.EvalActionName] = string(r.EvalDecision)
		for _, one := range r.ResourceSpecificResults {
			all[*r.EvalActionName+" "+*one.EvalResourceName] = string(one.EvalResourceDecision)
		}
	}
	return all
}

// A simulation decides as the authoriser would, says by which statement, and names
// the condition keys that it was not given.
func TestSimulateCustomPolicy(t *testing.T) {
	s := serve(t, Limits{})
	allow := document(`{"Effect":"Allow","Action":"ecs:*","Resource":"arn:aws:ecs:*:*:task/*"},
{"Effect":"Deny","Action":"ecs:StopTask","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"guests"}}}`)
	const task = "arn:aws:ecs:us-east-1:123456789012:task/default/1"
	in := &api.SimulateCustomPolicyInput{
		PolicyInputList: []string{allow}, ActionNames: []string{"ecs:StopTask", "ecs:DescribeTasks", "iam:GetUser"}, ResourceArns: []string{task, "arn:aws:s3:::b"},
	}
	out := ok(s, s.Client.SimulateCustomPolicy, in)
	got := decisions(out.EvaluationResults)
	for key, want := range map[string]string{
		"ecs:StopTask " + task: "allowed", "ecs:StopTask arn:aws:s3:::b": "implicitDeny", "ecs:StopTask": "implicitDeny",
		"ecs:DescribeTasks " + task: "allowed", "iam:GetUser " + task: "implicitDeny",
	} {
		if got[key] != want {
			t.Errorf("%s: %s, want %s", key, got[key], want)
		}
	}
	if missing := out.EvaluationResults[0].MissingContextValues; !slices.Equal(missing, []string{"aws:PrincipalTag/team"}) {
		t.Errorf("missing keys %v", missing)
	}
	one := out.EvaluationResults[0].ResourceSpecificResults[0]
	if len(one.MatchedStatements) != 1 || *one.MatchedStatements[0].SourcePolicyId != "PolicyInputList.1" || one.MatchedStatements[0].StartPosition.Line != 1 {
		t.Errorf("matched statements %+v", one.MatchedStatements)
	}

	in.ContextEntries = []types.ContextEntry{{ContextKeyName: str("aws:PrincipalTag/team"), ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: []string{"guests"}}}
	out = ok(s, s.Client.SimulateCustomPolicy, in)
	if d := out.EvaluationResults[0]; d.EvalDecision != "explicitDeny" || len(d.MatchedStatements) != 1 || d.MatchedStatements[0].StartPosition.Line != 2 {
		t.Errorf("a denied call: %s by %+v", d.EvalDecision, d.MatchedStatements)
	}
	in.PermissionsBoundaryPolicyInputList = []string{document(`{"Effect":"Allow","Action":"ecs:Stop*","Resource":"*"}`)}
	out = ok(s, s.Client.SimulateCustomPolicy, in)
	one = out.EvaluationResults[1].ResourceSpecificResults[0]
	if one.EvalResourceDecision != "implicitDeny" || one.PermissionsBoundaryDecisionDetail == nil || one.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
		t.Errorf("beyond the boundary: %+v", one)
	}
	in.ActionNames = []string{"ecs:*"}
	refused(s, s.Client.SimulateCustomPolicy, in, "InvalidInput", "Invalid action name: ecs:*")
	in.ActionNames, in.PolicyInputList = []string{"ecs:StopTask"}, []string{"{"}
	refused(s, s.Client.SimulateCustomPolicy, in, "InvalidInput", "PolicyInputList.1")
}

// What SimulatePrincipalPolicy answers about a user is what the user then meets.
func TestSimulatePrincipalPolicy(t *testing.T) {
	s := serve(t, Limits{})
	alice := s.newUser("alice")
	s.putUserPolicy("alice", "self", `{"Effect":"Allow","Action":"iam:GetUser","Resource":"arn:aws:iam::*:user/${aws:username}"}`)
	managed := s.newPolicy("wide", `{"Effect":"Allow","Action":"iam:List*","Resource":"*"}`)
	ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("alice"), PolicyArn: &managed})
	const user = "arn:aws:iam::123456789012:user/"
	in := &api.SimulatePrincipalPolicyInput{
		PolicySourceArn: str(user + "alice"), ActionNames: []string{"iam:GetUser", "iam:ListUsers"}, ResourceArns: []string{user + "alice", user + "bob"},
	}
	got := decisions(ok(s, s.Client.SimulatePrincipalPolicy, in).EvaluationResults)
	for key, want := range map[string]string{
		"iam:GetUser " + user + "alice": "allowed", "iam:GetUser " + user + "bob": "implicitDeny", "iam:ListUsers " + user + "bob": "allowed",
	} {
		if got[key] != want {
			t.Errorf("%s: %s, want %s", key, got[key], want)
		}
	}
	ok(s, alice.GetUser, &api.GetUserInput{UserName: str("alice")})
	ok(s, alice.ListUsers, &api.ListUsersInput{})
	s.newUser("bob")
	refused(s, alice.GetUser, &api.GetUserInput{UserName: str("bob")}, "AccessDenied", "iam:GetUser")

	keys := ok(s, s.Client.GetContextKeysForPrincipalPolicy, &api.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: str(user + "alice")}).ContextKeyNames
	if !slices.Equal(keys, []string{"aws:username"}) {
		t.Errorf("keys of alice's policies: %v", keys)
	}
	in.PolicyExclusionList = []types.PolicyIdentifier{&types.PolicyIdentifierMemberPolicyArn{Value: managed}}
	if got := decisions(ok(s, s.Client.SimulatePrincipalPolicy, in).EvaluationResults); got["iam:ListUsers"] != "implicitDeny" || got["iam:GetUser "+user+"alice"] != "allowed" {
		t.Errorf("without the managed policy: %v", got)
	}
	in.PolicyExclusionList = []types.PolicyIdentifier{&types.PolicyIdentifierMemberPolicyType{Value: types.PolicyIdentifierPolicyTypeInline}}
	if got := decisions(ok(s, s.Client.SimulatePrincipalPolicy, in).EvaluationResults); got["iam:ListUsers"] != "allowed" || got["iam:GetUser "+user+"alice"] != "implicitDeny" {
		t.Errorf("without the embedded policies: %v", got)
	}
	in.PolicySourceArn = str(user + "nobody")
	refused(s, s.Client.SimulatePrincipalPolicy, in, "NoSuchEntity", "nobody")
}
