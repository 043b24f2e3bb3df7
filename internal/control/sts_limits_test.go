package control

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	stsapi "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"pgregory.net/rapid"
)

func tags(pairs ...string) (list []types.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return list
}

// A session policy takes away and gives nothing; a managed one that is gone allows nothing.
func TestSessionPoliciesLimitASession(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:*"))
	arn := w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers"))
	lists := must[*iamapi.CreatePolicyOutput](t)(w.root[ours].CreatePolicy(t.Context(), &iamapi.CreatePolicyInput{PolicyName: aws.String("lists"), PolicyDocument: document(may("iam:List*"))})).Policy.Arn
	const lacks = "AccessDenied: because no session policy allows the iam:ListUsers action"
	w.list(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn, Policy: document(may("iam:GetUser"))}), lacks)
	all := w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn, Policy: document(may("*"))})
	w.list(all, "")
	w.get(all, "AccessDenied: because no identity-based policy")
	managed := w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn, PolicyArns: []types.PolicyDescriptorType{{Arn: lists}}})
	w.list(managed, "")
	must[*iamapi.DeletePolicyOutput](t)(w.root[ours].DeletePolicy(t.Context(), &iamapi.DeletePolicyInput{PolicyArn: lists}))
	w.list(managed, "AccessDenied: ")
	for name, tt := range map[string]struct {
		in   stsapi.AssumeRoleInput
		want string
	}{
		"no policy":         {stsapi.AssumeRoleInput{Policy: aws.String("{}")}, "MalformedPolicyDocument: "},
		"one that is gone":  {stsapi.AssumeRoleInput{PolicyArns: []types.PolicyDescriptorType{{Arn: lists}}}, "ValidationError: does not exist"},
		"too many":          {stsapi.AssumeRoleInput{PolicyArns: slices.Repeat([]types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}}, 11)}, "ValidationError: "},
		"too long":          {stsapi.AssumeRoleInput{Policy: document(may("iam:" + strings.Repeat("x", 2048)))}, "ValidationError: "},
		"more than is room": {stsapi.AssumeRoleInput{Tags: manyTags(40, 256)}, "PackedPolicyTooLarge: "},
		"too long for it":   {stsapi.AssumeRoleInput{DurationSeconds: aws.Int32(3601)}, "ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		"too short":         {stsapi.AssumeRoleInput{DurationSeconds: aws.Int32(899)}, "ValidationError: "},
		"a second factor":   {stsapi.AssumeRoleInput{SerialNumber: aws.String("arn:aws:iam::1:mfa/x"), TokenCode: aws.String("123456")}, "AccessDenied: MultiFactorAuthentication failed"},
		"a name":            {stsapi.AssumeRoleInput{RoleSessionName: aws.String("a/b")}, "ValidationError: "},
		"AWS's tag":         {stsapi.AssumeRoleInput{Tags: tags("AWS:x", "y")}, "ValidationError: "},
		"a tag twice":       {stsapi.AssumeRoleInput{Tags: tags("x", "1", "X", "2")}, "ValidationError: "},
		"no such tag":       {stsapi.AssumeRoleInput{TransitiveTagKeys: []string{"x"}}, "ValidationError: "},
	} {
		tt.in.RoleArn = &arn
		_, err := w.assume(alice, tt.in)
		w.answers(name, err, tt.want)
	}
	out := must[*stsapi.AssumeRoleOutput](t)(w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &arn, Tags: manyTags(20, 256)}))
	//lint:ignore SA1019 clients still read it
	if size := aws.ToInt32(out.PackedPolicySize); size < 60 || size > 70 {
		t.Errorf("packed size %d%%", size)
	}
}

func manyTags(n, length int) (list []types.Tag) {
	for i := range n {
		list = append(list, tags(fmt.Sprint("key", i), strings.Repeat("v", length))...)
	}
	return list
}

// What a session was tagged and named with is what policies see, along a chain too.
func TestAChainKeepsTagsAndSourceIdentity(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:*"))
	tagged := func(key, value string) string {
		return `{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/` + key + `":"` + value + `","aws:SourceIdentity":"alice"}}}`
	}
	first := w.role("first", trusts(accountOfOurs, ""), tagged("Team", "blue")+","+may("sts:*"))
	second := w.role("second", trusts(`"AWS":"`+first+`"`, ""), tagged("Cost", "12"))
	bare := w.role("bare", `{"Effect":"Allow","Principal":{"AWS":"`+ours+`"},"Action":"sts:AssumeRole"}`, "")
	in := stsapi.AssumeRoleInput{RoleArn: &first, Tags: tags("team", "blue", "Cost", "12"), TransitiveTagKeys: []string{"cost"}, SourceIdentity: aws.String("alice")}
	one := w.session(alice, in)
	w.list(one, "") // the session's tag in place of the role's
	w.list(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &first, SourceIdentity: aws.String("alice")}), "AccessDenied: ")
	out := must[*stsapi.AssumeRoleOutput](t)(w.assume(one, stsapi.AssumeRoleInput{RoleArn: &second}))
	if aws.ToString(out.SourceIdentity) != "alice" {
		t.Errorf("source identity %q", aws.ToString(out.SourceIdentity))
	}
	w.list(w.with(out.Credentials), "")
	for name, tt := range map[string]struct {
		in   stsapi.AssumeRoleInput
		want string
	}{
		"another source":    {stsapi.AssumeRoleInput{RoleArn: &second, SourceIdentity: aws.String("bob")}, "AccessDenied: "},
		"an inherited tag":  {stsapi.AssumeRoleInput{RoleArn: &second, Tags: tags("COST", "1")}, "ValidationError: conflicts"},
		"more than an hour": {stsapi.AssumeRoleInput{RoleArn: &second, DurationSeconds: aws.Int32(3601)}, "ValidationError: role chaining"},
		"no tags wanted":    {stsapi.AssumeRoleInput{RoleArn: &bare}, "AccessDenied: sts:TagSession on resource: " + bare},
	} {
		_, err := w.assume(one, tt.in)
		w.answers(name, err, tt.want)
	}
	_, err := w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &bare, SourceIdentity: aws.String("x1")})
	w.answers("no source identity wanted", err, "AccessDenied: sts:SetSourceIdentity on resource: "+bare)
	_, err = one.sts.GetSessionToken(t.Context(), &stsapi.GetSessionTokenInput{})
	w.answers("a longer session", err, "AccessDenied: Cannot call GetSessionToken with session credentials")
}

// A user's own session does what the user may, but for IAM; it ends with its key.
func TestAUsersSession(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("*"))
	arn := w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers"))
	get := func(p party, seconds int32) *types.Credentials {
		return must[*stsapi.GetSessionTokenOutput](t)(p.sts.GetSessionToken(t.Context(), &stsapi.GetSessionTokenInput{DurationSeconds: &seconds})).Credentials
	}
	if c := get(w.root[ours], 36000); time.Until(*c.Expiration) > time.Hour {
		t.Errorf("root's session lasts until %v", c.Expiration)
	}
	session := w.with(get(alice, 900))
	who := must[*stsapi.GetCallerIdentityOutput](t)(session.sts.GetCallerIdentity(t.Context(), &stsapi.GetCallerIdentityInput{}))
	if *who.Arn != "arn:aws:iam::"+ours+":user/alice" {
		t.Error(*who.Arn)
	}
	w.list(session, "InvalidClientTokenId: ")
	w.list(w.with(get(w.root[ours], 900)), "InvalidClientTokenId: ")
	w.list(w.session(session, stsapi.AssumeRoleInput{RoleArn: &arn}), "")
	_, err := session.sts.GetSessionToken(t.Context(), &stsapi.GetSessionTokenInput{})
	w.answers("another one", err, "AccessDenied: ")
	keys := must[*iamapi.ListAccessKeysOutput](t)(w.root[ours].ListAccessKeys(t.Context(), &iamapi.ListAccessKeysInput{UserName: aws.String("alice")}))
	info := must[*stsapi.GetAccessKeyInfoOutput](t)(alice.sts.GetAccessKeyInfo(t.Context(), &stsapi.GetAccessKeyInfoInput{AccessKeyId: keys.AccessKeyMetadata[0].AccessKeyId}))
	if *info.Account != ours {
		t.Errorf("the key is of %s", *info.Account)
	}
	_, err = w.root[theirs].sts.GetAccessKeyInfo(t.Context(), &stsapi.GetAccessKeyInfoInput{AccessKeyId: aws.String("AKIANOBODYSKEY000000")})
	w.answers("nobody's key", err, "ValidationError: ")
	must[*iamapi.UpdateAccessKeyOutput](t)(w.root[ours].UpdateAccessKey(t.Context(), &iamapi.UpdateAccessKeyInput{
		UserName: aws.String("alice"), AccessKeyId: keys.AccessKeyMetadata[0].AccessKeyId, Status: iamtypes.StatusTypeInactive,
	}))
	_, err = session.sts.GetCallerIdentity(t.Context(), &stsapi.GetCallerIdentityInput{})
	w.answers("after its key", err, "InvalidClientTokenId: ")
}

// Whatever a session is given, it may do nothing that its role may not.
func TestASessionMayNoMoreThanItsRole(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:AssumeRole"))
	actions := []string{"iam:ListUsers", "iam:ListRoles", "iam:List*", "iam:*", "ecs:*", "*"}
	arn := w.role("role", trusts(accountOfOurs, ""), may("ecs:*"))
	try := func(p party) [2]bool {
		_, users := p.ListUsers(context.Background(), &iamapi.ListUsersInput{})
		_, roles := p.ListRoles(context.Background(), &iamapi.ListRolesInput{})
		return [2]bool{users == nil, roles == nil}
	}
	statement := rapid.Custom(func(r *rapid.T) string {
		return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":"*"}`, rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(r, "effect"), rapid.SampledFrom(actions).Draw(r, "action"))
	})
	rapid.Check(t, func(r *rapid.T) {
		put := &iamapi.PutRolePolicyInput{RoleName: aws.String("role"), PolicyName: aws.String("role"), PolicyDocument: document(strings.Join(rapid.SliceOfN(statement, 1, 3).Draw(r, "role"), ","))}
		must[*iamapi.PutRolePolicyOutput](t)(w.root[ours].PutRolePolicy(context.Background(), put))
		role := try(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn}))
		limited := try(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn, Policy: document(strings.Join(rapid.SliceOfN(statement, 1, 3).Draw(r, "session"), ","))}))
		for i := range role {
			if limited[i] && !role[i] {
				r.Fatalf("the session may %v, its role %v", limited, role)
			}
		}
	})
}

// A trust policy keeps whom it names, by whatever name they go, and nobody who comes
// after them.
func TestTrustIsInPeopleAndNotInNames(t *testing.T) {
	w := newWorld(t)
	root := w.root[ours]
	alice := w.user(ours, "alice", "")
	const name = "arn:aws:iam::" + ours + ":user/alice"
	arn := w.role("reader", trusts(`"AWS":["`+name+`","`+theirs+`"],"Service":"ec2.amazonaws.com"`, `,"Condition":{"StringNotEquals":{"aws:username":"`+name+`"}}`), may("iam:ListUsers"))
	shown := func() string {
		role := must[*iamapi.GetRoleOutput](t)(root.GetRole(t.Context(), &iamapi.GetRoleInput{RoleName: aws.String("reader")})).Role
		text, err := url.PathUnescape(*role.AssumeRolePolicyDocument)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	given := shown()
	if strings.Count(given, `"`+name+`"`) != 2 {
		t.Error(given)
	}
	must[*iamapi.UpdateAssumeRolePolicyOutput](t)(root.UpdateAssumeRolePolicy(t.Context(), &iamapi.UpdateAssumeRolePolicyInput{RoleName: aws.String("reader"), PolicyDocument: &given}))
	if again := shown(); again != given {
		t.Errorf("%s\nbecame %s", given, again)
	}
	must[*iamapi.UpdateUserOutput](t)(root.UpdateUser(t.Context(), &iamapi.UpdateUserInput{UserName: aws.String("alice"), NewUserName: aws.String("alicia")}))
	w.list(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn}), "")
	if got := shown(); !strings.Contains(got, "user/alicia") {
		t.Error(got)
	}
	_, err := w.assume(w.user(ours, "alice", ""), stsapi.AssumeRoleInput{RoleArn: &arn})
	w.answers("another alice", err, "AccessDenied: no role trust policy")
	keys := must[*iamapi.ListAccessKeysOutput](t)(root.ListAccessKeys(t.Context(), &iamapi.ListAccessKeysInput{UserName: aws.String("alicia")}))
	must[*iamapi.DeleteAccessKeyOutput](t)(root.DeleteAccessKey(t.Context(), &iamapi.DeleteAccessKeyInput{UserName: aws.String("alicia"), AccessKeyId: keys.AccessKeyMetadata[0].AccessKeyId}))
	must[*iamapi.DeleteUserOutput](t)(root.DeleteUser(t.Context(), &iamapi.DeleteUserInput{UserName: aws.String("alicia")}))
	if got := shown(); !strings.Contains(got, `"AIDA`) {
		t.Error(got)
	}
	for _, who := range []string{"arn:aws:iam::" + ours + ":user/nobody", "arn:aws:iam::" + ours + ":user/path/alice", "arn:aws:iam::" + theirs + ":role/alice", "AIDAAAAAAAAAAAAAAAAAA"} {
		_, err := root.CreateRole(t.Context(), &iamapi.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: document(trusts(`"AWS":"`+who+`"`, ""))})
		w.answers(who, err, `MalformedPolicyDocument: Invalid principal in policy: "AWS":"`+who+`"`)
	}
}

// Policies see a session by its role and as what it is: one that asks for all keys
// allows, and one that asks for another value of any does not.
func TestConditionKeysOfASession(t *testing.T) {
	w := newWorld(t)
	root := w.root[ours]
	alice := w.user(ours, "alice", may("sts:*"))
	arn := w.role("role", trusts(accountOfOurs, `,"Condition":{"StringEquals":{"aws:ResourceTag/Team":"red","iam:ResourceTag/Team":"red","sts:RoleSessionName":"night"}}`), "")
	out := must[*stsapi.AssumeRoleOutput](t)(w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &arn}))
	session := w.with(out.Credentials)
	keys := map[string]string{
		"aws:PrincipalArn": arn, "aws:userid": *out.AssumedRoleUser.AssumedRoleId, "aws:PrincipalType": "AssumedRole", "aws:PrincipalAccount": ours,
		"aws:PrincipalTag/Team": "red", "aws:MultiFactorAuthPresent": "false", "aws:PrincipalIsAWSService": "false",
		"aws:TokenIssueTime": out.Credentials.Expiration.Add(-time.Hour).UTC().Format(time.RFC3339),
	}
	put := func(other string) {
		var list []string
		for key, value := range keys {
			if key == other {
				value = "another"
			}
			list = append(list, fmt.Sprintf("%q:%q", key, value))
		}
		must[*iamapi.PutRolePolicyOutput](t)(root.PutRolePolicy(t.Context(), &iamapi.PutRolePolicyInput{RoleName: aws.String("role"), PolicyName: aws.String("p"), PolicyDocument: document(
			`{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*","Condition":{"StringEquals":{` + strings.Join(list, ",") + `},"Null":{"aws:username":"true","aws:SourceIdentity":"true"}}}`)}))
	}
	put("")
	w.list(session, "")
	for key := range keys {
		put(key)
		_, err := session.ListUsers(t.Context(), &iamapi.ListUsersInput{})
		w.answers("another "+key, err, "AccessDenied: ")
	}
	put("")
	limit := must[*iamapi.CreatePolicyOutput](t)(root.CreatePolicy(t.Context(), &iamapi.CreatePolicyInput{PolicyName: aws.String("limit"), PolicyDocument: document(may("ecs:*"))})).Policy.Arn
	must[*iamapi.PutRolePermissionsBoundaryOutput](t)(root.PutRolePermissionsBoundary(t.Context(), &iamapi.PutRolePermissionsBoundaryInput{RoleName: aws.String("role"), PermissionsBoundary: limit}))
	w.list(session, "AccessDenied: because no permissions boundary allows")
}
