package iam

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func TestManagedPolicies(t *testing.T) {
	s := serve(t, Limits{})
	made := ok(s, s.Client.CreatePolicy, &api.CreatePolicyInput{
		PolicyName: str("Deploy"), Path: str("/team/"), PolicyDocument: str(allowAll), Description: str("d"), Tags: []types.Tag{{Key: str("k"), Value: str("v")}},
	}).Policy
	equal(t, "made", []any{*made.Arn, (*made.PolicyId)[:4], *made.DefaultVersionId, *made.AttachmentCount, made.IsAttachable},
		"[arn:aws:iam::123456789012:policy/team/Deploy ANPA v1 0 true]")
	equal(t, "asked for", s.last().Resources, "[arn:aws:iam::123456789012:policy/team/Deploy]")
	refused(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: str("deploy"), PolicyDocument: str(allowAll)}, "EntityAlreadyExists", "A policy called deploy already exists. Duplicate names are not allowed.")
	for _, document := range []string{"", "x", "[]", "{}", allowAll + "{}", `{"Statement":` + strings.Repeat("[", 10_000)} {
		if _, err := s.Client.CreatePolicy(t.Context(), &api.CreatePolicyInput{PolicyName: str("x"), PolicyDocument: &document}); err == nil {
			t.Errorf("a policy was made of %.40q", document)
		}
	}
	big := strings.Replace(allowAll, `"ecs:*"`, `"ecs:`+strings.Repeat("a", maxManaged)+`"`, 1)
	refused(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: str("x"), PolicyDocument: &big}, "LimitExceeded", "Cannot exceed quota for PolicySize: 6144")
	for _, arn := range []string{"arn:aws:iam::123456789012:policy/Deploy", "arn:aws:iam::999999999999:policy/team/Deploy", "arn:aws:iam::aws:policy/None", "arn:aws:iam::123456789012:role/team/Deploy"} {
		if _, err := s.Client.GetPolicy(t.Context(), &api.GetPolicyInput{PolicyArn: &arn}); err == nil {
			t.Errorf("%s was found", arn)
		}
	}

	arn := made.Arn
	s.user("u")
	s.role("r")
	ok(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("g")})
	ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("u"), PolicyArn: arn})
	ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("u"), PolicyArn: arn}) // twice is once
	ok(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("r"), PolicyArn: arn})
	equal(t, "conditions", s.last().Conditions, map[string][]string{"iam:PolicyARN": {*arn}})
	ok(s, s.Client.AttachGroupPolicy, &api.AttachGroupPolicyInput{GroupName: str("g"), PolicyArn: arn})
	ok(s, s.Client.PutRolePermissionsBoundary, &api.PutRolePermissionsBoundaryInput{RoleName: str("r"), PermissionsBoundary: arn})
	equal(t, "conditions", s.last().Conditions, map[string][]string{"iam:PermissionsBoundary": {*arn}})
	got := ok(s, s.Client.GetPolicy, &api.GetPolicyInput{PolicyArn: arn}).Policy
	equal(t, "counts", []any{*got.AttachmentCount, *got.PermissionsBoundaryUsageCount, *got.Description, len(got.Tags)}, "[3 1 d 1]")
	equal(t, "conditions", s.last().Conditions, map[string][]string{"aws:ResourceTag/k": {"v"}, "iam:ResourceTag/k": {"v"}})
	equal(t, "the role's boundary", *ok(s, s.Client.GetRole, &api.GetRoleInput{RoleName: str("r")}).Role.PermissionsBoundary.PermissionsBoundaryArn, *arn)

	entities := func(in api.ListEntitiesForPolicyInput) string {
		in.PolicyArn = arn
		out, names := ok(s, s.Client.ListEntitiesForPolicy, &in), []string{}
		for _, g := range out.PolicyGroups {
			names = append(names, *g.GroupName)
		}
		for _, r := range out.PolicyRoles {
			names = append(names, *r.RoleName)
		}
		for _, u := range out.PolicyUsers {
			names = append(names, *u.UserName)
		}
		return strings.Join(names, " ")
	}
	equal(t, "entities", entities(api.ListEntitiesForPolicyInput{}), "g r u")
	equal(t, "users", entities(api.ListEntitiesForPolicyInput{EntityFilter: types.EntityTypeUser}), "u")
	equal(t, "bounded", entities(api.ListEntitiesForPolicyInput{PolicyUsageFilter: types.PolicyUsageTypePermissionsBoundary}), "r")
	equal(t, "in a path", entities(api.ListEntitiesForPolicyInput{PathPrefix: str("/x/")}), "")

	refused(s, s.Client.DeletePolicy, &api.DeletePolicyInput{PolicyArn: arn}, "DeleteConflict", "Cannot delete a policy attached to entities.")
	refused(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("u")}, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
	ok(s, s.Client.DetachUserPolicy, &api.DetachUserPolicyInput{UserName: str("u"), PolicyArn: arn})
	refused(s, s.Client.DetachUserPolicy, &api.DetachUserPolicyInput{UserName: str("u"), PolicyArn: arn}, "NoSuchEntity", "was not found")
	ok(s, s.Client.DetachRolePolicy, &api.DetachRolePolicyInput{RoleName: str("r"), PolicyArn: arn})
	equal(t, "conditions", s.last().Conditions, map[string][]string{"iam:PermissionsBoundary": {*arn}, "iam:PolicyARN": {*arn}})
	ok(s, s.Client.DetachGroupPolicy, &api.DetachGroupPolicyInput{GroupName: str("g"), PolicyArn: arn})
	refused(s, s.Client.DeletePolicy, &api.DeletePolicyInput{PolicyArn: arn}, "DeleteConflict", "attached") // it still bounds the role
	ok(s, s.Client.DeleteRolePermissionsBoundary, &api.DeleteRolePermissionsBoundaryInput{RoleName: str("r")})
	ok(s, s.Client.DeletePolicy, &api.DeletePolicyInput{PolicyArn: arn})
	refused(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("r"), PolicyArn: arn}, "NoSuchEntity", "does not exist or is not attachable")
}

func TestPolicyVersions(t *testing.T) {
	s := serve(t, Limits{})
	arn := s.policyNamed("p")
	create := func(document string, isDefault bool) *api.CreatePolicyVersionInput {
		return &api.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: &document, SetAsDefault: isDefault}
	}
	for n := 2; n <= 5; n++ {
		v := ok(s, s.Client.CreatePolicyVersion, create(strings.ReplaceAll(allowAll, "ecs", fmt.Sprintf("s%d", n)), n == 3)).PolicyVersion
		equal(t, "version", []any{*v.VersionId, v.IsDefaultVersion}, []any{fmt.Sprintf("v%d", n), n == 3})
	}
	refused(s, s.Client.CreatePolicyVersion, create(allowAll, false), "LimitExceeded", "A managed policy can have up to 5 versions.")
	refused(s, s.Client.DeletePolicyVersion, &api.DeletePolicyVersionInput{PolicyArn: arn, VersionId: str("v3")}, "DeleteConflict", "Cannot delete the default version of a policy.")
	refused(s, s.Client.DeletePolicy, &api.DeletePolicyInput{PolicyArn: arn}, "DeleteConflict", "This policy has more than one version.")
	ok(s, s.Client.DeletePolicyVersion, &api.DeletePolicyVersionInput{PolicyArn: arn, VersionId: str("v5")})
	equal(t, "a number is not used again", *ok(s, s.Client.CreatePolicyVersion, create(allowAll, false)).PolicyVersion.VersionId, "v6")
	ok(s, s.Client.SetDefaultPolicyVersion, &api.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: str("v2")})
	equal(t, "default", *ok(s, s.Client.GetPolicy, &api.GetPolicyInput{PolicyArn: arn}).Policy.DefaultVersionId, "v2")
	v := ok(s, s.Client.GetPolicyVersion, &api.GetPolicyVersionInput{PolicyArn: arn, VersionId: str("v2")}).PolicyVersion
	equal(t, "document", decoded(t, v.Document), strings.ReplaceAll(allowAll, "ecs", "s2"))
	refused(s, s.Client.GetPolicyVersion, &api.GetPolicyVersionInput{PolicyArn: arn, VersionId: str("v5")}, "NoSuchEntity", "v5")
	var ids []string
	two := int32(2)
	for p := api.NewListPolicyVersionsPaginator(s.Client, &api.ListPolicyVersionsInput{PolicyArn: arn, MaxItems: &two}); p.HasMorePages(); {
		out := must[*api.ListPolicyVersionsOutput](t)(p.NextPage(t.Context()))
		for _, v := range out.Versions {
			ids = append(ids, *v.VersionId)
		}
	}
	equal(t, "versions", ids, "[v6 v4 v3 v2 v1]")
}

// TestThePoliciesOfAWS holds that each is found, valid and of the size that AWS allows.
func TestThePoliciesOfAWS(t *testing.T) {
	s := serve(t, Limits{})
	s.policyNamed("own")
	n, last := 0, ""
	for p := api.NewListPoliciesPaginator(s.Client, &api.ListPoliciesInput{Scope: types.PolicyScopeTypeAws, MaxItems: new(int32(7))}); p.HasMorePages(); {
		for _, policy := range must[*api.ListPoliciesOutput](t)(p.NextPage(t.Context())).Policies {
			if *policy.Arn <= last {
				t.Errorf("%s comes after %s", *policy.Arn, last)
			}
			n, last = n+1, *policy.Arn
			v := ok(s, s.Client.GetPolicyVersion, &api.GetPolicyVersionInput{PolicyArn: policy.Arn, VersionId: policy.DefaultVersionId}).PolicyVersion
			document := decoded(t, v.Document)
			if err := checkManaged(document); err != nil || !json.Valid([]byte(document)) {
				t.Errorf("%s: %v", *policy.Arn, err)
			}
		}
	}
	equal(t, "listed", n, len(s.aws()))
	for _, arn := range []string{
		"AdministratorAccess", "PowerUserAccess", "ReadOnlyAccess", "IAMFullAccess", "service-role/AmazonECSTaskExecutionRolePolicy",
		"service-role/AmazonEC2ContainerServiceforEC2Role", "AmazonECS_FullAccess", "AmazonSSMManagedInstanceCore",
	} {
		arn = awsPolicyPrefix + arn
		ok(s, s.Client.GetPolicy, &api.GetPolicyInput{PolicyArn: &arn})
		refused(s, s.Client.DeletePolicy, &api.DeletePolicyInput{PolicyArn: &arn}, "AccessDenied", "because AWS manages it")
	}
	equal(t, "own", len(ok(s, s.Client.ListPolicies, &api.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal}).Policies), 1)
	equal(t, "attached", len(ok(s, s.Client.ListPolicies, &api.ListPoliciesInput{OnlyAttached: true}).Policies), 0)
	s.role("r")
	ok(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("r"), PolicyArn: str(awsPolicyPrefix + "AdministratorAccess")})
	attached := ok(s, s.Client.ListPolicies, &api.ListPoliciesInput{OnlyAttached: true}).Policies
	equal(t, "attached", []any{len(attached), *attached[0].PolicyName, *attached[0].AttachmentCount}, "[1 AdministratorAccess 1]")
}
