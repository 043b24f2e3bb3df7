package iam

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// asked is what authorisation has to be asked about each operation, as AWS's service
// authorization reference has it: the resource, and the condition keys besides the
// tags of the resource.
const asked = `
AddRoleToInstanceProfile instance-profile/x/i
AddUserToGroup group/x/g
AttachGroupPolicy group/x/g iam:PolicyARN
AttachRolePolicy role/x/r iam:PermissionsBoundary iam:PolicyARN
AttachUserPolicy user/x/u iam:PermissionsBoundary iam:PolicyARN
CreateAccessKey user/x/u
CreateAccountAlias *
CreateGroup group/new/g
CreateInstanceProfile instance-profile/new/i aws:RequestTag/t aws:TagKeys
CreatePolicy policy/new/p aws:RequestTag/t aws:TagKeys
CreatePolicyVersion policy/x/p
CreateRole role/new/r aws:RequestTag/t aws:TagKeys iam:PermissionsBoundary
CreateServiceLinkedRole role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS iam:AWSServiceName
CreateUser user/new/u aws:RequestTag/t aws:TagKeys iam:PermissionsBoundary
DeleteAccessKey user/x/u
DeleteAccountAlias *
DeleteAccountPasswordPolicy *
DeleteGroup group/x/g
DeleteGroupPolicy group/x/g
DeleteInstanceProfile instance-profile/x/i
DeletePolicy policy/x/p
DeletePolicyVersion policy/x/p
DeleteRole role/x/r
DeleteRolePermissionsBoundary role/x/r iam:PermissionsBoundary
DeleteRolePolicy role/x/r iam:PermissionsBoundary
DeleteServerCertificate server-certificate/x/c
DeleteServiceLinkedRole role/x/r
DeleteUser user/x/u
DeleteUserPermissionsBoundary user/x/u iam:PermissionsBoundary
DeleteUserPolicy user/x/u iam:PermissionsBoundary
DetachGroupPolicy group/x/g iam:PolicyARN
DetachRolePolicy role/x/r iam:PermissionsBoundary iam:PolicyARN
DetachUserPolicy user/x/u iam:PermissionsBoundary iam:PolicyARN
GetAccessKeyLastUsed user/x/u
GetAccountAuthorizationDetails *
GetAccountPasswordPolicy *
GetAccountSummary *
GetContextKeysForCustomPolicy *
GetContextKeysForPrincipalPolicy user/x/u
GetGroup group/x/g
GetGroupPolicy group/x/g
GetInstanceProfile instance-profile/x/i
GetPolicy policy/x/p
GetPolicyVersion policy/x/p
GetRole role/x/r
GetRolePolicy role/x/r
GetServerCertificate server-certificate/x/c
GetServiceLinkedRoleDeletionStatus role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS
GetUser user/x/u
GetUserPolicy user/x/u
ListAccessKeys user/x/u
ListAccountAliases *
ListAttachedGroupPolicies group/x/g
ListAttachedRolePolicies role/x/r
ListAttachedUserPolicies user/x/u
ListEntitiesForPolicy policy/x/p
ListGroupPolicies group/x/g
ListGroups group/x/
ListGroupsForUser user/x/u
ListInstanceProfileTags instance-profile/x/i
ListInstanceProfiles instance-profile/x/
ListInstanceProfilesForRole role/x/r
ListPolicies *
ListPolicyTags policy/x/p
ListPolicyVersions policy/x/p
ListRolePolicies role/x/r
ListRoleTags role/x/r
ListRoles role/x/
ListServerCertificateTags server-certificate/x/c
ListServerCertificates *
ListUserPolicies user/x/u
ListUserTags user/x/u
ListUsers user/x/
PutGroupPolicy group/x/g
PutRolePermissionsBoundary role/x/r iam:PermissionsBoundary
PutRolePolicy role/x/r iam:PermissionsBoundary
PutUserPermissionsBoundary user/x/u iam:PermissionsBoundary
PutUserPolicy user/x/u iam:PermissionsBoundary
RemoveRoleFromInstanceProfile instance-profile/x/i
RemoveUserFromGroup group/x/g
SetDefaultPolicyVersion policy/x/p
SimulateCustomPolicy *
SimulatePrincipalPolicy user/x/u
TagInstanceProfile instance-profile/x/i aws:RequestTag/t aws:TagKeys
TagPolicy policy/x/p aws:RequestTag/t aws:TagKeys
TagRole role/x/r aws:RequestTag/t aws:TagKeys
TagServerCertificate server-certificate/x/c aws:RequestTag/t aws:TagKeys
TagUser user/x/u aws:RequestTag/t aws:TagKeys
UntagInstanceProfile instance-profile/x/i aws:TagKeys
UntagPolicy policy/x/p aws:TagKeys
UntagRole role/x/r aws:TagKeys
UntagServerCertificate server-certificate/x/c aws:TagKeys
UntagUser user/x/u aws:TagKeys
UpdateAccessKey user/x/u
UpdateAccountPasswordPolicy *
UpdateAssumeRolePolicy role/x/r
UpdateGroup group/x/g
UpdateRole role/x/r
UpdateRoleDescription role/x/r
UpdateUser user/x/u
UploadServerCertificate server-certificate/new/c aws:RequestTag/t aws:TagKeys
`

// TestWhatAuthorisationIsAsked calls every served operation as a user who may do
// nothing, and looks at the question that was asked about it.
func TestWhatAuthorisationIsAsked(t *testing.T) {
	s := serve(t, Limits{})
	tags, x := []types.Tag{{Key: str("k"), Value: str("v")}}, str("/x/")
	p := ok(s, s.Client.CreatePolicy, &api.CreatePolicyInput{PolicyName: str("p"), Path: x, PolicyDocument: str(allowAll), Tags: tags}).Policy
	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("u"), Path: x, Tags: tags, PermissionsBoundary: p.Arn})
	ok(s, s.Client.CreateRole, &api.CreateRoleInput{RoleName: str("r"), Path: x, Tags: tags, PermissionsBoundary: p.Arn, AssumeRolePolicyDocument: str(trustEC2)})
	ok(s, s.Client.CreateGroup, &api.CreateGroupInput{GroupName: str("g"), Path: x})
	ok(s, s.Client.CreateInstanceProfile, &api.CreateInstanceProfileInput{InstanceProfileName: str("i"), Path: x, Tags: tags})
	body, private := pair(t, "shop.example")
	ok(s, s.Client.UploadServerCertificate, &api.UploadServerCertificateInput{ServerCertificateName: str("c"), Path: x, Tags: tags, CertificateBody: &body, PrivateKey: &private})
	k := ok(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{UserName: str("u")}).AccessKey
	values := map[string]any{
		"UserName": str("u"), "GroupName": str("g"), "RoleName": str("r"), "InstanceProfileName": str("i"), "PolicyName": str("p"), "PolicyArn": p.Arn,
		"Path": str("/new/"), "PathPrefix": x, "PermissionsBoundary": p.Arn, "AssumeRolePolicyDocument": str(trustEC2), "PolicyDocument": str(allowAll),
		"Tags": []types.Tag{{Key: str("t"), Value: str("v")}}, "TagKeys": []string{"t"}, "AWSServiceName": str("ecs.amazonaws.com"), "AccountAlias": str("alias"),
		"AccessKeyId": k.AccessKeyId, "Status": types.StatusTypeActive, "VersionId": str("v1"), "Description": str("d"),
		"PolicyInputList": []string{allowAll}, "ActionNames": []string{"ecs:RunTask"}, "PolicySourceArn": str("arn:aws:iam::123456789012:user/x/u"),
		"ServerCertificateName": str("c"), "CertificateBody": &body, "PrivateKey": &private,
		"DeletionTaskId": str("task/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS/1"),
	}
	client := reflect.ValueOf(s.as(AccessKey{*k.AccessKeyId, *k.SecretAccessKey}))
	want := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(asked)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[name] = rest
	}
	for line := range strings.Lines(operations) {
		name, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		if status == "absent" {
			continue
		}
		method := client.MethodByName(name)
		in := reflect.New(method.Type().In(1).Elem())
		for field, value := range values {
			if f := in.Elem().FieldByName(field); f.IsValid() {
				f.Set(reflect.ValueOf(value))
			}
		}
		if err, _ := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})[1].Interface().(error); err == nil || !strings.Contains(err.Error(), "AccessDenied: User: arn:aws:iam::123456789012:user/x/u is not authorized to perform: iam:"+name) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		q := s.last()
		got := []string{strings.TrimPrefix(q.Resources[0], "arn:aws:iam::123456789012:")}
		ofResource := 0
		for _, key := range slices.Sorted(maps.Keys(q.Conditions)) {
			if strings.Contains(key, ":ResourceTag/") {
				ofResource++
			} else {
				got = append(got, key)
			}
		}
		if strings.Join(got, " ") != want[name] || len(q.Resources) != 1 {
			t.Errorf("%s: asked about %s, want %s", name, strings.Join(got, " "), want[name])
		}
		if tagged := strings.Contains(got[0], "/x/") && !strings.HasSuffix(got[0], "/") && !strings.HasPrefix(got[0], "group/"); (ofResource == 2) != tagged {
			t.Errorf("%s: %d keys of the resource's tags", name, ofResource)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("never asked: %v", want)
	}
}

// TestHostileRequests sends what no SDK sends.
func TestHostileRequests(t *testing.T) {
	s := serve(t, Limits{})
	send := func(body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		sign(t, req, []byte(body), s.root)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out bytes.Buffer
		if _, err := out.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, out.String()
	}
	for name, c := range map[string]struct {
		body string
		want string
	}{
		"no action":                {"Version=2010-05-08", "MissingAction"},
		"an unknown action":        {"Action=Nonsense", "InvalidAction"},
		"an action that is absent": {"Action=CreateSAMLProvider&Version=2010-05-08", "Longshore does not implement"},
		"no name":                  {"Action=CreateUser", "ValidationError"},
		"a name of control bytes":  {"Action=CreateUser&UserName=%00%01", "ValidationError"},
		"a name that is not UTF-8": {"Action=CreateUser&UserName=%ff%fe", "<Error>"},
		"a path that climbs":       {"Action=CreateUser&UserName=a&Path=/../%2e%2e/", ""},
		"markup in a tag":          {"Action=TagUser&UserName=none&Tags.member.1.Key=%3Cscript%3E&Tags.member.1.Value=x", "ValidationError"},
		"51 tags":                  {"Action=TagUser&UserName=none" + manyTags(51), "ValidationError"},
		"a sparse list":            {"Action=TagUser&UserName=none&Tags.member.99999999.Key=a", "<Error>"},
		"a page of nothing":        {"Action=ListUsers&MaxItems=0", "ValidationError"},
		"a page of words":          {"Action=ListUsers&MaxItems=many", "<Error>"},
		"a deep document":          {"Action=CreatePolicy&PolicyName=p&PolicyDocument=" + strings.Repeat("%5B", 20_000), "MalformedPolicyDocument"},
		"a long document":          {"Action=CreatePolicy&PolicyName=p&PolicyDocument=" + strings.Repeat("a", 200_000), "ValidationError"},
	} {
		status, answer := send(c.body)
		if !strings.Contains(answer, c.want) || status >= 500 || c.want != "" && status < 400 {
			t.Errorf("%s: %d %.300s", name, status, answer)
		}
	}
	got := ok(s, s.Client.GetUser, &api.GetUserInput{UserName: str("a")}).User
	equal(t, "a path is no path of files", *got.Arn, "arn:aws:iam::123456789012:user/../../a")
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&Tags.member.%d.Key=k%d&Tags.member.%d.Value=v", i+1, i, i+1)
	}
	return b.String()
}

func sign(t *testing.T, r *http.Request, body []byte, key AccessKey) {
	t.Helper()
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, r,
		sigv4.Hash(body), "iam", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
}

// TestAUsersSecretIsStoredSealed looks at what reached the store, and at what the
// API tells afterwards.
func TestAUsersSecretIsStoredSealed(t *testing.T) {
	r := newRoom(t)
	ctx := asRoot(t.Context())
	if _, err := r.CreateUser(ctx, &api.CreateUserInput{UserName: str("u")}); err != nil {
		t.Fatal(err)
	}
	k := must[*api.CreateAccessKeyOutput](t)(r.CreateAccessKey(ctx, &api.CreateAccessKeyInput{UserName: str("u")})).AccessKey
	entries, _, err := r.kv.Range(t.Context(), "")
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v: %d entries", err, len(entries))
	}
	for _, e := range entries {
		for _, secret := range [][]byte{[]byte(*k.SecretAccessKey), []byte(base64.StdEncoding.EncodeToString([]byte(*k.SecretAccessKey)))} {
			if bytes.Contains(e.Value, secret) {
				t.Errorf("the secret is in %s", e.Key)
			}
		}
	}
	if c, err := r.Credential(ctx, *k.AccessKeyId, ""); err != nil || c.SecretAccessKey != *k.SecretAccessKey {
		t.Errorf("the key does not open: %v", err)
	}
	if _, ok := r.keys.Get(r.snapshot(), store.Scope{}, *k.AccessKeyId); !ok {
		t.Error("the key is not stored")
	}
}

// BenchmarkListing lists 5,000 users by pages of 100, as the SDK's client.
func BenchmarkListing(b *testing.B) {
	s := serve(b, Limits{})
	ctx := asRoot(b.Context())
	for n := range 5000 {
		name := fmt.Sprintf("user-%04d", n)
		if _, err := s.Service.CreateUser(ctx, &api.CreateUserInput{UserName: &name}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for p := api.NewListUsersPaginator(s.Client, &api.ListUsersInput{}); p.HasMorePages(); {
			out, err := p.NextPage(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			n += len(out.Users)
		}
		if n != 5000 {
			b.Fatal(n)
		}
	}
}
