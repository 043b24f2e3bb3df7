package iam

import (
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"longshore.dev/longshore/internal/wire"
)

func TestUsersHaveNamesPathsAndIDs(t *testing.T) {
	s := serve(t, Limits{})
	made := ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("Alice"), Path: str("/team/a/"), Tags: []types.Tag{{Key: str("Dept"), Value: str("x")}}}).User
	equal(t, "ARN", *made.Arn, "arn:aws:iam::123456789012:user/team/a/Alice")
	if !strings.HasPrefix(*made.UserId, "AIDA") || len(*made.UserId) != 21 {
		t.Errorf("user id %s", *made.UserId)
	}
	equal(t, "created", made.CreateDate.UTC(), s.now)
	got := ok(s, s.Client.GetUser, &api.GetUserInput{UserName: str("Alice")}).User
	equal(t, "tags", *got.Tags[0].Key+"="+*got.Tags[0].Value, "Dept=x")
	refused(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("ALICE")}, "EntityAlreadyExists", "User with name ALICE already exists.")
	refused(s, s.Client.GetUser, &api.GetUserInput{UserName: str("bob")}, "NoSuchEntity", "The user with name bob cannot be found.")
	refused(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("bob")}, "NoSuchEntity", "The user with name bob cannot be found.")

	ok(s, s.Client.UpdateUser, &api.UpdateUserInput{UserName: str("Alice"), NewUserName: str("alice2"), NewPath: str("/")})
	got = ok(s, s.Client.GetUser, &api.GetUserInput{UserName: str("alice2")}).User
	equal(t, "ID after renaming", *got.UserId, *made.UserId)
	equal(t, "ARN after renaming", *got.Arn, "arn:aws:iam::123456789012:user/alice2")
	refused(s, s.Client.GetUser, &api.GetUserInput{UserName: str("Alice")}, "NoSuchEntity", "")
	ok(s, s.Client.UpdateUser, &api.UpdateUserInput{UserName: str("alice2"), NewUserName: str("ALICE2")}) // only its case
	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("alice")})
	refused(s, s.Client.UpdateUser, &api.UpdateUserInput{UserName: str("alice"), NewUserName: str("alice2")}, "EntityAlreadyExists", "User with name alice2")

	ok(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("ALICE2")})
	again := ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("alice2")}).User
	if *again.UserId == *made.UserId {
		t.Error("a user's ID was used again")
	}
}

func TestWhatAUserIsMadeOfIsChecked(t *testing.T) {
	s := serve(t, Limits{})
	for what, in := range map[string]*api.CreateUserInput{
		"a name with a slash":   {UserName: str("a/b")},
		"a long name":           {UserName: str(strings.Repeat("a", 65))},
		"an empty name":         {UserName: str("")},
		"a path without an end": {UserName: str("a"), Path: str("/x")},
		"a path with a space":   {UserName: str("a"), Path: str("/x y/")},
		"a bad tag":             {UserName: str("a"), Tags: []types.Tag{{Key: str("<>"), Value: str("")}}},
	} {
		if _, err := s.Client.CreateUser(t.Context(), in); err == nil || !strings.Contains(err.Error(), "ValidationError") {
			t.Errorf("%s: %v", what, err)
		}
	}
	tags := func(keys ...string) []types.Tag {
		var list []types.Tag
		for _, k := range keys {
			list = append(list, types.Tag{Key: &k, Value: str("v")})
		}
		return list
	}
	refused(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("a"), Tags: tags("Key", "kEY")}, "InvalidInput", "Duplicate tag keys")
	refused(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("a"), Tags: tags("aws:x")}, "InvalidInput", "reserved")
	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("a"), Tags: tags("One", "Two")})
	ok(s, s.Client.TagUser, &api.TagUserInput{UserName: str("a"), Tags: tags("ONE", "three")})
	ok(s, s.Client.UntagUser, &api.UntagUserInput{UserName: str("a"), TagKeys: []string{"tWO", "none"}})
	var keys []string
	for _, tag := range ok(s, s.Client.ListUserTags, &api.ListUserTagsInput{UserName: str("a")}).Tags {
		keys = append(keys, *tag.Key)
	}
	equal(t, "tags", keys, "[ONE three]")
}

func TestUsersKeysSign(t *testing.T) {
	s := serve(t, Limits{})
	made := ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("alice"), Path: str("/x/")}).User
	k := ok(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{UserName: str("alice")}).AccessKey
	if !strings.HasPrefix(*k.AccessKeyId, "AKIA") || len(*k.SecretAccessKey) != 40 || k.Status != types.StatusTypeActive {
		t.Errorf("key %+v", k)
	}
	alice := s.as(AccessKey{*k.AccessKeyId, *k.SecretAccessKey})
	refused(s, alice.GetUser, &api.GetUserInput{}, "AccessDenied", "arn:aws:iam::123456789012:user/x/alice is not authorized to perform: iam:GetUser")
	p := s.last().Call.Principal
	equal(t, "principal", []any{p.Kind, p.UserID, p.AccountID, p.ARN}, []any{wire.PrincipalUser, *made.UserId, account, *made.Arn})
	equal(t, "resource", s.last().Resources, []string{*made.Arn})

	s.open = true
	equal(t, "who am I", *ok(s, alice.GetUser, &api.GetUserInput{}).User.UserName, "alice")
	second := ok(s, alice.CreateAccessKey, &api.CreateAccessKeyInput{}).AccessKey
	equal(t, "its owner", *second.UserName, "alice")
	refused(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{UserName: str("alice")}, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
	refused(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("alice")}, "DeleteConflict", "must delete access keys first")

	ok(s, s.Client.UpdateUser, &api.UpdateUserInput{UserName: str("alice"), NewUserName: str("alicia")}) // her keys stay hers
	equal(t, "who am I now", *ok(s, alice.GetUser, &api.GetUserInput{}).User.UserName, "alicia")

	ok(s, s.Client.UpdateAccessKey, &api.UpdateAccessKeyInput{UserName: str("alicia"), AccessKeyId: k.AccessKeyId, Status: types.StatusTypeInactive})
	refused(s, alice.GetUser, &api.GetUserInput{}, "InvalidClientTokenId", "The security token included in the request is invalid")
	ok(s, s.Client.UpdateAccessKey, &api.UpdateAccessKeyInput{UserName: str("alicia"), AccessKeyId: k.AccessKeyId, Status: types.StatusTypeActive})
	ok(s, alice.GetUser, &api.GetUserInput{})

	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("bob")})
	refused(s, s.Client.DeleteAccessKey, &api.DeleteAccessKeyInput{UserName: str("bob"), AccessKeyId: k.AccessKeyId}, "NoSuchEntity", "The Access Key with id "+*k.AccessKeyId)
	for _, id := range []*string{k.AccessKeyId, second.AccessKeyId} {
		ok(s, s.Client.DeleteAccessKey, &api.DeleteAccessKeyInput{UserName: str("alicia"), AccessKeyId: id})
	}
	refused(s, alice.GetUser, &api.GetUserInput{}, "InvalidClientTokenId", "")
	refused(s, s.Client.DeleteAccessKey, &api.DeleteAccessKeyInput{UserName: str("alicia"), AccessKeyId: k.AccessKeyId}, "NoSuchEntity", "")
	ok(s, s.Client.DeleteUser, &api.DeleteUserInput{UserName: str("alicia")})
}

func TestTheRootUser(t *testing.T) {
	s := serve(t, Limits{})
	root := ok(s, s.Client.GetUser, &api.GetUserInput{}).User
	equal(t, "root", []any{*root.Arn, *root.UserId, root.UserName}, []any{"arn:aws:iam::123456789012:root", account, (*string)(nil)})
	list := ok(s, s.Client.ListAccessKeys, &api.ListAccessKeysInput{}).AccessKeyMetadata
	if len(list) != 1 || *list[0].AccessKeyId != s.root.ID {
		t.Errorf("root's keys: %+v", list)
	}
	second := ok(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{}).AccessKey
	ok(s, s.as(AccessKey{*second.AccessKeyId, *second.SecretAccessKey}).GetUser, &api.GetUserInput{})
	ok(s, s.Client.UpdateAccessKey, &api.UpdateAccessKeyInput{AccessKeyId: &s.root.ID, Status: types.StatusTypeInactive})
	key := must[AccessKey](t)(s.EnsureRoot(t.Context(), account, AccessKey{}))
	equal(t, "the key of a server that starts again", key.ID, *second.AccessKeyId)
}

func TestTheLastUseOfAKey(t *testing.T) {
	s := serve(t, Limits{})
	ok(s, s.Client.CreateUser, &api.CreateUserInput{UserName: str("alice")})
	k := ok(s, s.Client.CreateAccessKey, &api.CreateAccessKeyInput{UserName: str("alice")}).AccessKey
	use := func() *api.GetAccessKeyLastUsedOutput {
		return ok(s, s.Client.GetAccessKeyLastUsed, &api.GetAccessKeyLastUsedInput{AccessKeyId: k.AccessKeyId})
	}
	if out := use(); out.AccessKeyLastUsed.LastUsedDate != nil || *out.AccessKeyLastUsed.Region != "N/A" || *out.UserName != "alice" {
		t.Errorf("never used: %+v", out.AccessKeyLastUsed)
	}
	equal(t, "resource", s.last().Resources, "[arn:aws:iam::123456789012:user/alice]")
	wrong := s.as(AccessKey{*k.AccessKeyId, strings.Repeat("x", 40)})
	refused(s, wrong.GetUser, &api.GetUserInput{}, "SignatureDoesNotMatch", "")
	if out := use(); out.AccessKeyLastUsed.LastUsedDate != nil {
		t.Error("a wrong signature counts as a use")
	}
	_, _ = s.as(AccessKey{*k.AccessKeyId, *k.SecretAccessKey}).GetUser(t.Context(), &api.GetUserInput{})
	for _, when := range []string{"noted", "written"} {
		out := use().AccessKeyLastUsed
		if out.LastUsedDate == nil || *out.ServiceName != "iam" || *out.Region != "eu-west-1" {
			t.Errorf("%s: %+v", when, out)
		}
		if err := s.WriteUses(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ok(s, s.Client.DeleteAccessKey, &api.DeleteAccessKeyInput{UserName: str("alice"), AccessKeyId: k.AccessKeyId})
	s.uses.note(*k.AccessKeyId, keyUse{}) // it was in use at that moment
	if err := s.WriteUses(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(s, s.Client.GetAccessKeyLastUsed, &api.GetAccessKeyLastUsedInput{AccessKeyId: k.AccessKeyId}, "NoSuchEntity", "")
	for range s.keyUses.ListAll(s.snapshot()) {
		for ref := range s.keyUses.ListAll(s.snapshot()) {
			if ref.ID == *k.AccessKeyId {
				t.Error("the use of a key that is gone was kept")
			}
		}
	}
}
