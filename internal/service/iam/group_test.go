package iam

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func (s *served) group(name string) *types.Group {
	s.t.Helper()
	return ok(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: &name}).Group
}

func TestGroups(t *testing.T) {
	s := serve(t, Limits{GroupsPerUser: 2})
	made := s.group("Dev")
	equal(t, "made", []any{*made.Arn, (*made.GroupId)[:4]}, "[arn:aws:iam::123456789012:group/Dev AGPA]")
	refused(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("DEV")}, "EntityAlreadyExists", "Group with name DEV already exists.")
	refused(s, s.Client.GetGroup, &api.GetGroupInput{GroupName: str("x")}, "NoSuchEntity", "The group with name x cannot be found.")
	s.user("bob")
	s.user("alice")
	add := func(group, user string) *api.AddUserToGroupInput {
		return &api.AddUserToGroupInput{GroupName: &group, UserName: &user}
	}
	for _, user := range []string{"bob", "alice", "bob"} { // twice is once
		ok(s, s.Client.AddUserToGroup, add("Dev", user))
	}
	refused(s, s.Client.AddUserToGroup, add("Dev", "carol"), "NoSuchEntity", "The user with name carol")
	refused(s, s.Client.AddUserToGroup, add("Ops", "bob"), "NoSuchEntity", "The group with name Ops")
	members := func(group string) (names []string) {
		for _, u := range ok(s, s.Client.GetGroup, &api.GetGroupInput{GroupName: &group}).Users {
			names = append(names, *u.UserName)
		}
		return names
	}
	equal(t, "members", members("Dev"), "[alice bob]")
	refused(s, s.Client.DeleteGroup, &api.DeleteGroupInput{GroupName: str("Dev")}, "DeleteConflict", "Cannot delete entity, must remove users from group first.")
	refused(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("bob")}, "DeleteConflict", "must remove users from group first")
	ok(s, s.Client.UpdateGroup, &api.UpdateGroupInput{GroupName: str("Dev"), NewGroupName: str("Devs"), NewPath: str("/x/")})
	ok(s, s.Client.UpdateUser, &api.UpdateUserInput{UserName: str("bob"), NewUserName: str("rob")})
	equal(t, "members after renaming both", members("Devs"), "[alice rob]")
	s.group("Ops")
	s.group("QA")
	ok(s, s.Client.AddUserToGroup, add("Ops", "rob"))
	refused(s, s.Client.AddUserToGroup, add("QA", "rob"), "LimitExceeded", "Cannot exceed quota for GroupsPerUser: 2")
	var groups []string
	for _, g := range ok(s, s.Client.ListGroupsForUser, &api.ListGroupsForUserInput{UserName: str("rob")}).Groups {
		groups = append(groups, *g.GroupName)
	}
	equal(t, "groups", groups, "[Devs Ops]")
	remove := func(group, user string) *api.RemoveUserFromGroupInput {
		return &api.RemoveUserFromGroupInput{GroupName: &group, UserName: &user}
	}
	refused(s, s.Client.RemoveUserFromGroup, remove("QA", "rob"), "NoSuchEntity", "")
	for _, user := range []string{"rob", "alice"} {
		ok(s, s.Client.RemoveUserFromGroup, remove("Devs", user))
	}
	ok(s, s.Client.DeleteGroup, &api.DeleteGroupInput{GroupName: str("Devs")})
}

// TestWhatAppliesToAUser: its own policies, those of its groups, and its boundary,
// each in its default version.
func TestWhatAppliesToAUser(t *testing.T) {
	s := serve(t, Limits{})
	u := s.user("alice")
	s.group("dev")
	ok(s, s.Client.AddUserToGroup, &api.AddUserToGroupInput{GroupName: str("dev"), UserName: str("alice")})
	arn, bound := s.policyNamed("own"), s.policyNamed("bound")
	second := strings.ReplaceAll(allowAll, "ecs", "s3")
	ok(s, s.Client.CreatePolicyVersion, &api.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: &second, SetAsDefault: true})
	ok(s, s.Client.PutUserPolicy, &api.PutUserPolicyInput{UserName: str("alice"), PolicyName: str("i"), PolicyDocument: str(allowAll)})
	ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("alice"), PolicyArn: arn})
	ok(s, s.Client.PutGroupPolicy, &api.PutGroupPolicyInput{GroupName: str("dev"), PolicyName: str("j"), PolicyDocument: str(allowAll)})
	ok(s, s.Client.AttachGroupPolicy, &api.AttachGroupPolicyInput{GroupName: str("dev"), PolicyArn: str(awsPolicyPrefix + "ReadOnlyAccess")})
	ok(s, s.Client.PutUserPermissionsBoundary, &api.PutUserPermissionsBoundaryInput{UserName: str("alice"), PermissionsBoundary: bound})

	snap, sc := s.snapshot(), accountScope(account)
	applied := s.policiesOf(snap, sc, s.users, s.users.find(snap, sc, *u.UserId))
	var got []string
	for _, p := range applied.Identity {
		got = append(got, fmt.Sprintf("%s (%s)", p.ID, p.Type))
	}
	equal(t, "applied", got, "[user_alice_i (user) own (user-managed) group_dev_j (group) ReadOnlyAccess (aws-managed)]")
	equal(t, "the default version", applied.Identity[1].Text, second)
	equal(t, "boundary", []any{applied.Boundary.ARN, applied.Boundary.Text}, []any{*bound, allowAll})
	if s.users.find(snap, accountScope("999999999999"), *u.UserId) != nil || s.roles.find(snap, sc, *u.UserId) != nil {
		t.Error("a user was found in another account, or as a role")
	}
	r := s.role("web")
	ok(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("web"), PolicyArn: arn})
	snap = s.snapshot()
	role := s.policiesOf(snap, sc, s.roles, s.roles.find(snap, sc, *r.RoleId))
	equal(t, "the role's", []any{len(role.Identity), role.Identity[0].ARN, role.Boundary == nil}, []any{1, *arn, true})
}

func TestListsArePagedByName(t *testing.T) {
	s := serve(t, Limits{})
	var want []string
	for n := range 25 {
		name := fmt.Sprintf("U%02d", n*7%25)
		ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: &name, Path: str(fmt.Sprintf("/p%d/", n%2))})
		want = append(want, name)
	}
	slices.Sort(want)
	var got []string
	four, pages := int32(4), 0
	for p := api.NewListUsersPaginator(s.Client, &api.ListUsersInput{MaxItems: &four}); p.HasMorePages(); pages++ {
		out := must[*api.ListUsersOutput](t)(p.NextPage(t.Context()))
		if len(out.Users) > 4 || out.IsTruncated != (out.Marker != nil) {
			t.Errorf("page of %d, truncated %v", len(out.Users), out.IsTruncated)
		}
		for _, u := range out.Users {
			got = append(got, *u.UserName)
		}
		if pages == 0 { // what a page ended with may go meanwhile
			ok(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("U03")})
		}
	}
	equal(t, "users", got, want)
	equal(t, "pages", pages, 7)
	equal(t, "in a path", len(ok(s, s.Client.ListUsers, &api.ListUsersInput{PathPrefix: str("/p1/")}).Users), 12)
	equal(t, "resource", s.last().Resources, "[arn:aws:iam::123456789012:user/p1/]")
	for _, marker := range []string{"x", "!", "YWZ0ZXI", strings.Repeat("A", 320)} {
		refused(s, s.Client.ListUsers, &api.ListUsersInput{Marker: &marker}, "ValidationError", "Invalid Marker")
	}
}

func TestQuotasOfAnAccount(t *testing.T) {
	s := serve(t, Limits{Users: 2, Groups: 1, Roles: 1, Policies: 1, InstanceProfiles: 1, AttachedPolicies: 1})
	s.user("a")
	s.user("b")
	refused(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("c")}, "LimitExceeded", "Cannot exceed quota for UsersPerAccount: 2")
	s.group("a")
	refused(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("b")}, "LimitExceeded", "GroupsPerAccount: 1")
	s.role("a")
	refused(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("b"), AssumeRolePolicyDocument: str(trustEC2)}, "LimitExceeded", "RolesPerAccount: 1")
	arn := s.policyNamed("a")
	refused(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: str("b"), PolicyDocument: str(allowAll)}, "LimitExceeded", "PoliciesPerAccount: 1")
	ok(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("a")})
	refused(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("b")}, "LimitExceeded", "InstanceProfilesPerAccount: 1")
	ok(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("a"), PolicyArn: arn})
	refused(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("a"), PolicyArn: str(awsPolicyPrefix + "ReadOnlyAccess")}, "LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 1")
}

func TestAccount(t *testing.T) {
	s := serve(t, Limits{})
	refused(s, s.Client.GetAccountPasswordPolicy, &api.GetAccountPasswordPolicyInput{}, "NoSuchEntity", "The Password Policy with domain name 123456789012 cannot be found.")
	age := int32(90)
	ok(s, s.Client.UpdateAccountPasswordPolicy, &api.UpdateAccountPasswordPolicyInput{MaxPasswordAge: &age, RequireNumbers: true})
	p := ok(s, s.Client.GetAccountPasswordPolicy, &api.GetAccountPasswordPolicyInput{}).PasswordPolicy
	equal(t, "password policy", []any{*p.MinimumPasswordLength, *p.MaxPasswordAge, p.ExpirePasswords, p.RequireNumbers, p.RequireSymbols}, "[6 90 true true false]")
	ok(s, s.Client.DeleteAccountPasswordPolicy, &api.DeleteAccountPasswordPolicyInput{})
	refused(s, s.Client.DeleteAccountPasswordPolicy, &api.DeleteAccountPasswordPolicyInput{}, "NoSuchEntity", "")

	for _, name := range []string{"one", "two"} { // the second takes the first's place
		ok(s, s.Client.CreateAccountAlias, &api.CreateAccountAliasInput{AccountAlias: &name})
	}
	refused(s, s.Client.CreateAccountAlias, &api.CreateAccountAliasInput{AccountAlias: str("two")}, "EntityAlreadyExists", "The account alias two already exists.")
	equal(t, "aliases", ok(s, s.Client.ListAccountAliases, &api.ListAccountAliasesInput{}).AccountAliases, "[two]")
	refused(s, s.Client.DeleteAccountAlias, &api.DeleteAccountAliasInput{AccountAlias: str("one")}, "NoSuchEntity", "")
	ok(s, s.Client.DeleteAccountAlias, &api.DeleteAccountAliasInput{AccountAlias: str("two")})
	equal(t, "aliases", ok(s, s.Client.ListAccountAliases, &api.ListAccountAliasesInput{}).AccountAliases, "[]")

	s.user("u")
	s.group("g")
	s.role("r")
	arn := s.policyNamed("p")
	ok(s, s.Client.AddUserToGroup, &api.AddUserToGroupInput{GroupName: str("g"), UserName: str("u")})
	ok(s, s.Client.AttachRolePolicy, &api.AttachRolePolicyInput{RoleName: str("r"), PolicyArn: str(awsPolicyPrefix + "ReadOnlyAccess")})
	ok(s, s.Client.AttachUserPolicy, &api.AttachUserPolicyInput{UserName: str("u"), PolicyArn: arn})
	ok(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("i")})
	ok(s, s.Client.AddRoleToInstanceProfile, &api.AddRoleToInstanceProfileInput{InstanceProfileName: str("i"), RoleName: str("r")})
	sum := ok(s, s.Client.GetAccountSummary, &api.GetAccountSummaryInput{}).SummaryMap
	equal(t, "summary", []any{sum["Users"], sum["Groups"], sum["Roles"], sum["Policies"], sum["InstanceProfiles"], sum["AccountAccessKeysPresent"], sum["UsersQuota"]}, "[1 1 1 1 1 1 5000]")

	d := ok(s, s.Client.GetAccountAuthorizationDetails, &api.GetAccountAuthorizationDetailsInput{})
	equal(t, "user", []any{*d.UserDetailList[0].UserName, d.UserDetailList[0].GroupList, *d.UserDetailList[0].AttachedManagedPolicies[0].PolicyArn}, []any{"u", "[g]", *arn})
	equal(t, "role", []any{*d.RoleDetailList[0].RoleName, *d.RoleDetailList[0].InstanceProfileList[0].InstanceProfileName, decoded(t, d.RoleDetailList[0].AssumeRolePolicyDocument)}, []any{"r", "i", trustEC2})
	equal(t, "policies", []any{*d.Policies[0].PolicyName, *d.Policies[1].PolicyName, len(d.Policies)}, "[ReadOnlyAccess p 2]")
	one, n := int32(1), 0
	for p := api.NewGetAccountAuthorizationDetailsPaginator(s.Client, &api.GetAccountAuthorizationDetailsInput{MaxItems: &one}); p.HasMorePages(); n++ {
		must[*api.GetAccountAuthorizationDetailsOutput](t)(p.NextPage(t.Context()))
	}
	equal(t, "pages", n, 5)
	d = ok(s, s.Client.GetAccountAuthorizationDetails, &api.GetAccountAuthorizationDetailsInput{Filter: []types.EntityType{types.EntityTypeGroup, types.EntityTypeLocalManagedPolicy}})
	equal(t, "filtered", []any{len(d.UserDetailList), len(d.GroupDetailList), len(d.RoleDetailList), len(d.Policies)}, "[0 1 0 1]")
}
