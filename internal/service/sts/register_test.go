package sts

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"longshore.dev/longshore/internal/wire"
)

// asker keeps the questions to the authoriser, and lets nobody do anything once it has
// heard as many as it wants to.
type asker struct {
	asked []string
	want  int
}

func (a *asker) Credential(context.Context, string, string) (wire.Credential, error) {
	return wire.Credential{}, wire.ErrNoCredential
}

func (a *asker) Authorize(_ context.Context, req *wire.AuthorizationRequest) error {
	a.asked = append(a.asked, fmt.Sprint(req.Action, " ", req.Resources, " ", slices.Sorted(maps.Keys(req.Conditions))))
	if len(a.asked) == a.want {
		return wire.Errorf("AccessDeniedException", "enough")
	}
	return nil
}

// Operations ask what the service authorization reference says of them: the role, the
// keys of the request, and the actions that tags and a source identity need.
func TestOperationsAskWhatTheReferenceSays(t *testing.T) {
	const role = "arn:aws:iam::111111111111:role/r"
	input := func(change func(*sts.AssumeRoleInput)) *sts.AssumeRoleInput {
		in := &sts.AssumeRoleInput{RoleArn: aws.String(role), RoleSessionName: aws.String("s1")}
		change(in)
		return in
	}
	const tagged = "aws:RequestTag/Team aws:TagKeys sts:RoleSessionName sts:SourceIdentity sts:TransitiveTagKeys]"
	for name, tt := range map[string]struct {
		call func(*wire.Registry, wire.Principal) error
		from *wire.Session
		want []string
	}{
		"GetCallerIdentity": {invoke[sts.GetCallerIdentityInput, sts.GetCallerIdentityOutput]("GetCallerIdentity", &sts.GetCallerIdentityInput{}), nil,
			[]string{"sts:GetCallerIdentity [*] []"}},
		"GetSessionToken": {invoke[sts.GetSessionTokenInput, sts.GetSessionTokenOutput]("GetSessionToken", &sts.GetSessionTokenInput{}), nil,
			[]string{"sts:GetSessionToken [*] []"}},
		"GetAccessKeyInfo": {invoke[sts.GetAccessKeyInfoInput, sts.GetAccessKeyInfoOutput]("GetAccessKeyInfo", &sts.GetAccessKeyInfoInput{AccessKeyId: aws.String("AKIA")}), nil,
			[]string{"sts:GetAccessKeyInfo [*] []"}},
		"AssumeRole": {assume(input(func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("id") })), nil,
			[]string{"sts:AssumeRole [" + role + "] [sts:ExternalId sts:RoleSessionName]"}},
		"AssumeRole with tags and a source": {assume(input(func(in *sts.AssumeRoleInput) {
			in.Tags, in.TransitiveTagKeys, in.SourceIdentity = []types.Tag{{Key: aws.String("Team"), Value: aws.String("red")}}, []string{"Team"}, aws.String("me")
		})), nil, []string{"sts:AssumeRole [" + role + "] [" + tagged, "sts:TagSession [" + role + "] [" + tagged, "sts:SetSourceIdentity [" + role + "] [" + tagged}},
		"AssumeRole with inherited ones": {assume(input(func(*sts.AssumeRoleInput) {})), &wire.Session{Transitive: []string{"Team"}, Tags: map[string]string{"Team": "red"}, SourceIdentity: "me"},
			[]string{"sts:AssumeRole [" + role + "] [sts:RoleSessionName sts:SourceIdentity]", "sts:TagSession [" + role + "] [sts:RoleSessionName sts:SourceIdentity]", "sts:SetSourceIdentity [" + role + "] [sts:RoleSessionName sts:SourceIdentity]"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asker{want: len(tt.want)}
			reg := wire.NewRegistry(wire.Chain{Credentials: a, Authorizer: a, Now: time.Now, NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler)})
			New(Deps{Now: time.Now}).Register(reg)
			err := tt.call(reg, wire.Principal{Kind: wire.PrincipalRole, Session: tt.from})
			if err == nil || !strings.Contains(err.Error(), "enough") {
				t.Errorf("ended with %v", err)
			}
			if !slices.Equal(a.asked, tt.want) {
				t.Errorf("asked %q\nwant  %q", a.asked, tt.want)
			}
		})
	}
}

func invoke[I, O any](operation string, in *I) func(*wire.Registry, wire.Principal) error {
	return func(reg *wire.Registry, p wire.Principal) error {
		_, err := wire.Invoke[I, O](context.Background(), reg, p, "111111111111", "eu-west-1", "sts", operation, in)
		return err
	}
}

func assume(in *sts.AssumeRoleInput) func(*wire.Registry, wire.Principal) error {
	return invoke[sts.AssumeRoleInput, sts.AssumeRoleOutput]("AssumeRole", in)
}
