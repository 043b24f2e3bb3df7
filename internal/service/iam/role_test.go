package iam

import (
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func (s *served) role(name string) *types.Role {
	s.t.Helper()
	return ok(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: str(trustEC2)}).Role
}

func (s *served) user(name string) *types.User {
	s.t.Helper()
	return ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: &name}).User
}

func (s *served) policyNamed(name string) *string {
	s.t.Helper()
	return ok(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: &name, PolicyDocument: str(allowAll)}).Policy.Arn
}

func TestRoles(t *testing.T) {
	s := serve(t, Limits{})
	made := ok(s, s.Client.CreateRole, &api.CreateRoleInput{
		RoleName: str("web"), Path: str("/app/"), AssumeRolePolicyDocument: str(trustEC2), Description: str("über"),
	}).Role
	equal(t, "ARN", *made.Arn, "arn:aws:iam::123456789012:role/app/web")
	equal(t, "trust", decoded(t, made.AssumeRolePolicyDocument), trustEC2)
	if strings.ContainsAny(*made.AssumeRolePolicyDocument, `{}":/ +`) {
		t.Errorf("not encoded by RFC 3986: %s", *made.AssumeRolePolicyDocument)
	}
	equal(t, "session", *made.MaxSessionDuration, 3600)
	refused(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("WEB"), AssumeRolePolicyDocument: str(trustEC2)}, "EntityAlreadyExists", "Role with name WEB already exists.")
	refused(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("x"), AssumeRolePolicyDocument: str("{")}, "MalformedPolicyDocument", "")
	refused(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("x"), AssumeRolePolicyDocument: str(trustEC2), PermissionsBoundary: str("arn:aws:iam::123456789012:policy/none")}, "NoSuchEntity", "")
	refused(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("x"), AssumeRolePolicyDocument: str(trustEC2), Path: str("/aws-service-role/ecs.amazonaws.com/")}, "InvalidInput", "reserved")
	if _, err := s.Client.CreateRole(t.Context(), &api.CreateRoleInput{RoleName: str("x"), AssumeRolePolicyDocument: str(trustEC2), MaxSessionDuration: new(int32)}); err == nil {
		t.Error("a session of no time")
	}
	long := int32(7200)
	ok(s, s.Client.UpdateRole, &api.UpdateRoleInput{RoleName: str("web"), MaxSessionDuration: &long, Description: str("")})
	ok(s, s.Client.UpdateAssumeRolePolicy, &api.UpdateAssumeRolePolicyInput{RoleName: str("web"), PolicyDocument: str(strings.ReplaceAll(trustEC2, "ec2", "ecs-tasks"))})
	got := ok(s, s.Client.GetRole, &api.GetRoleInput{RoleName: str("web")}).Role
	equal(t, "session and description", []any{*got.MaxSessionDuration, got.Description == nil}, []any{7200, true})
	if !strings.Contains(*got.AssumeRolePolicyDocument, "ecs-tasks") {
		t.Error("the trust policy was not replaced")
	}
	equal(t, "the answer of UpdateRoleDescription", *ok(s, s.Client.UpdateRoleDescription, &api.UpdateRoleDescriptionInput{RoleName: str("web"), Description: str("new")}).Role.Description, "new")
	ok(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: str("web")})
	refused(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: str("web")}, "NoSuchEntity", "The role with name web cannot be found.")
}

func TestEmbeddedPolicies(t *testing.T) {
	s := serve(t, Limits{})
	s.role("web")
	put := func(name, document string) *api.PutRolePolicyInput {
		return &api.PutRolePolicyInput{RoleName: str("web"), PolicyName: &name, PolicyDocument: &document}
	}
	ok(s, s.Client.PutRolePolicy, put("b", allowAll))
	ok(s, s.Client.PutRolePolicy, put("a", allowAll))
	ok(s, s.Client.PutRolePolicy, put("a", strings.ReplaceAll(allowAll, "ecs", "s3")))
	equal(t, "names", ok(s, s.Client.ListRolePolicies, &api.ListRolePoliciesInput{RoleName: str("web")}).PolicyNames, "[a b]")
	got := ok(s, s.Client.GetRolePolicy, &api.GetRolePolicyInput{RoleName: str("web"), PolicyName: str("a")})
	equal(t, "document", decoded(t, got.PolicyDocument), strings.ReplaceAll(allowAll, "ecs", "s3"))
	refused(s, s.Client.GetRolePolicy, &api.GetRolePolicyInput{RoleName: str("web"), PolicyName: str("c")}, "NoSuchEntity", "The role policy with name c cannot be found.")
	refused(s, s.Client.PutRolePolicy, put("c", `{"Version":"2012-10-17"}`), "MalformedPolicyDocument", "")
	big := strings.Replace(allowAll, `"ecs:*"`, `"ecs:`+strings.Repeat("a", maxRoleInline)+`"`, 1)
	refused(s, s.Client.PutRolePolicy, put("c", big), "LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role web")
	ok(s, s.Client.PutRolePolicy, put("c", strings.ReplaceAll(allowAll, ",", ","+strings.Repeat(" ", maxRoleInline)))) // white space does not count
	ok(s, s.Client.DeleteRolePolicy, &api.DeleteRolePolicyInput{RoleName: str("web"), PolicyName: str("c")})
	refused(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: str("web")}, "DeleteConflict", "Cannot delete entity, must delete policies first.")
	for _, name := range []string{"a", "b"} {
		ok(s, s.Client.DeleteRolePolicy, &api.DeleteRolePolicyInput{RoleName: str("web"), PolicyName: &name})
	}
	refused(s, s.Client.DeleteRolePolicy, &api.DeleteRolePolicyInput{RoleName: str("web"), PolicyName: str("a")}, "NoSuchEntity", "")

	s.user("u") // users and groups have less room
	ok(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("g")})
	middle := strings.Replace(allowAll, `"ecs:*"`, `"ecs:`+strings.Repeat("a", 3000)+`"`, 1)
	refused(s, s.Client.PutUserPolicy, &api.PutUserPolicyInput{UserName: str("u"), PolicyName: str("p"), PolicyDocument: &middle}, "LimitExceeded", "2048 bytes exceeded for user u")
	ok(s, s.Client.PutGroupPolicy, &api.PutGroupPolicyInput{GroupName: str("g"), PolicyName: str("p"), PolicyDocument: &middle})
	refused(s, s.Client.PutGroupPolicy, &api.PutGroupPolicyInput{GroupName: str("g"), PolicyName: str("q"), PolicyDocument: &middle}, "LimitExceeded", "5120 bytes exceeded for group g")
	ok(s, s.Client.PutUserPolicy, &api.PutUserPolicyInput{UserName: str("u"), PolicyName: str("p"), PolicyDocument: str(allowAll)})
	equal(t, "user's", decoded(t, ok(s, s.Client.GetUserPolicy, &api.GetUserPolicyInput{UserName: str("u"), PolicyName: str("p")}).PolicyDocument), allowAll)
	equal(t, "group's", ok(s, s.Client.ListGroupPolicies, &api.ListGroupPoliciesInput{GroupName: str("g")}).PolicyNames, "[p]")
}

func TestInstanceProfiles(t *testing.T) {
	s := serve(t, Limits{})
	s.role("web")
	s.role("other")
	made := ok(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("p"), Path: str("/x/"), Tags: []types.Tag{{Key: str("k"), Value: str("")}}}).InstanceProfile
	equal(t, "made", []any{*made.Arn, (*made.InstanceProfileId)[:4], len(made.Roles)}, "[arn:aws:iam::123456789012:instance-profile/x/p AIPA 0]")
	refused(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("P")}, "EntityAlreadyExists", "Instance Profile P already exists.")
	refused(s, s.Client.GetInstanceProfile, &api.GetInstanceProfileInput{InstanceProfileName: str("q")}, "NoSuchEntity", "Instance Profile q cannot be found.")
	add := func(role string) *api.AddRoleToInstanceProfileInput {
		return &api.AddRoleToInstanceProfileInput{InstanceProfileName: str("p"), RoleName: &role}
	}
	refused(s, s.Client.AddRoleToInstanceProfile, add("none"), "NoSuchEntity", "The role with name none")
	ok(s, s.Client.AddRoleToInstanceProfile, add("web"))
	equal(t, "the role that is passed", s.last().Resources, "[arn:aws:iam::123456789012:role/web]")
	refused(s, s.Client.AddRoleToInstanceProfile, add("other"), "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
	equal(t, "its role", *ok(s, s.Client.GetInstanceProfile, &api.GetInstanceProfileInput{InstanceProfileName: str("p")}).InstanceProfile.Roles[0].RoleName, "web")
	equal(t, "of the role", len(ok(s, s.Client.ListInstanceProfilesForRole, &api.ListInstanceProfilesForRoleInput{RoleName: str("web")}).InstanceProfiles), 1)
	equal(t, "of the other", len(ok(s, s.Client.ListInstanceProfilesForRole, &api.ListInstanceProfilesForRoleInput{RoleName: str("other")}).InstanceProfiles), 0)
	refused(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: str("web")}, "DeleteConflict", "must remove roles from instance profile first")
	refused(s, s.Client.DeleteInstanceProfile, &api.DeleteInstanceProfileInput{InstanceProfileName: str("p")}, "DeleteConflict", "must remove roles from instance profile first")
	refused(s, s.Client.RemoveRoleFromInstanceProfile, &api.RemoveRoleFromInstanceProfileInput{InstanceProfileName: str("p"), RoleName: str("other")}, "NoSuchEntity", "")
	ok(s, s.Client.RemoveRoleFromInstanceProfile, &api.RemoveRoleFromInstanceProfileInput{InstanceProfileName: str("p"), RoleName: str("web")})
	ok(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: str("web")})
	ok(s, s.Client.TagInstanceProfile, &api.TagInstanceProfileInput{InstanceProfileName: str("p"), Tags: []types.Tag{{Key: str("l"), Value: str("v")}}})
	ok(s, s.Client.UntagInstanceProfile, &api.UntagInstanceProfileInput{InstanceProfileName: str("p"), TagKeys: []string{"k"}})
	equal(t, "tags", *ok(s, s.Client.ListInstanceProfileTags, &api.ListInstanceProfileTagsInput{InstanceProfileName: str("p")}).Tags[0].Key, "l")
	equal(t, "below /x/", len(ok(s, s.Client.ListInstanceProfiles, &api.ListInstanceProfilesInput{PathPrefix: str("/x")}).InstanceProfiles), 1)
	equal(t, "below /y/", len(ok(s, s.Client.ListInstanceProfiles, &api.ListInstanceProfilesInput{PathPrefix: str("/y/")}).InstanceProfiles), 0)
	ok(s, s.Client.DeleteInstanceProfile, &api.DeleteInstanceProfileInput{InstanceProfileName: str("p")})
}

func TestServiceLinkedRoles(t *testing.T) {
	s := serve(t, Limits{})
	ecs := "ecs.amazonaws.com"
	role := ok(s, s.Client.CreateServiceLinkedRole, &api.CreateServiceLinkedRoleInput{AWSServiceName: &ecs}).Role
	equal(t, "ARN", *role.Arn, "arn:aws:iam::123456789012:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS")
	equal(t, "asked", []any{s.last().Resources, s.last().Conditions}, []any{[]string{*role.Arn}, map[string][]string{"iam:AWSServiceName": {ecs}}})
	refused(s, s.Client.CreateServiceLinkedRole, &api.CreateServiceLinkedRoleInput{AWSServiceName: &ecs}, "InvalidInput", "AWSServiceRoleForECS has been taken in this account")
	refused(s, s.Client.CreateServiceLinkedRole, &api.CreateServiceLinkedRoleInput{AWSServiceName: &ecs, CustomSuffix: str("x")}, "InvalidInput", "Custom suffix is not allowed")
	refused(s, s.Client.CreateServiceLinkedRole, &api.CreateServiceLinkedRoleInput{AWSServiceName: str("none.amazonaws.com")}, "InvalidInput", "none.amazonaws.com")
	attached := ok(s, s.Client.ListAttachedRolePolicies, &api.ListAttachedRolePoliciesInput{RoleName: role.RoleName}).AttachedPolicies
	equal(t, "policy", *attached[0].PolicyArn, "arn:aws:iam::aws:policy/aws-service-role/AmazonECSServiceRolePolicy")
	for service, linked := range linkedServices {
		if _, ok := s.aws()["arn:aws:iam::aws:policy/aws-service-role/"+linked.policy]; !ok {
			t.Errorf("the policy of %s is missing", service)
		}
	}
	const protected = "Cannot perform the operation on the protected role 'AWSServiceRoleForECS'"
	refused(s, s.Client.DeleteRole, &api.DeleteRoleInput{RoleName: role.RoleName}, "UnmodifiableEntity", protected)
	refused(s, s.Client.PutRolePolicy, &api.PutRolePolicyInput{RoleName: role.RoleName, PolicyName: str("p"), PolicyDocument: str(allowAll)}, "UnmodifiableEntity", protected)
	refused(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: role.RoleName, PolicyArn: s.policyNamed("p")}, "UnmodifiableEntity", protected)
	refused(s, s.Client.DetachRolePolicy, &api.DetachRolePolicyInput{RoleName: role.RoleName, PolicyArn: attached[0].PolicyArn}, "UnmodifiableEntity", protected)
	refused(s, s.Client.UpdateAssumeRolePolicy, &api.UpdateAssumeRolePolicyInput{RoleName: role.RoleName, PolicyDocument: str(trustEC2)}, "UnmodifiableEntity", protected)
	refused(s, s.Client.PutRolePermissionsBoundary, &api.PutRolePermissionsBoundaryInput{RoleName: role.RoleName, PermissionsBoundary: s.policyNamed("q")}, "UnmodifiableEntity", protected)
	ok(s, s.Client.TagRole, &api.TagRoleInput{RoleName: role.RoleName, Tags: []types.Tag{{Key: str("k"), Value: str("v")}}})
	ok(s, s.Client.UpdateRoleDescription, &api.UpdateRoleDescriptionInput{RoleName: role.RoleName, Description: str("d")})

	s.role("mine")
	refused(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("mine"), PolicyArn: attached[0].PolicyArn}, "PolicyNotAttachable", "Cannot attach a Service Role Policy to a Customer Role.")
	refused(s, s.Client.DeleteServiceLinkedRole, &api.DeleteServiceLinkedRoleInput{RoleName: str("mine")}, "InvalidInput", "DeleteRole")
	task := ok(s, s.Client.DeleteServiceLinkedRole, &api.DeleteServiceLinkedRoleInput{RoleName: role.RoleName}).DeletionTaskId
	status := ok(s, s.Client.GetServiceLinkedRoleDeletionStatus, &api.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: task})
	equal(t, "status", status.Status, "SUCCEEDED")
	equal(t, "resource", s.last().Resources, []string{*role.Arn})
	refused(s, s.Client.GetRole, &api.GetRoleInput{RoleName: role.RoleName}, "NoSuchEntity", "")
	refused(s, s.Client.GetServiceLinkedRoleDeletionStatus, &api.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: str("task/none")}, "NoSuchEntity", "")
	ok(s, s.Client.CreateServiceLinkedRole, &api.CreateServiceLinkedRoleInput{AWSServiceName: str("autoscaling.amazonaws.com"), CustomSuffix: str("x")})
}
