package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	stsapi "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/seal"
	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/service/sts"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
	"longshore.dev/longshore/internal/wire/constraint"
	"longshore.dev/longshore/internal/wire/wiretest"
)

// Two accounts.
const (
	ours   = "111111111111"
	theirs = "222222222222"
)

// world is IAM and STS behind a real server, with two accounts, and a clock that can
// be put forward.
type world struct {
	t       testing.TB
	url     string
	iam     *iam.Service
	reg     *wire.Registry
	forward atomic.Int64 // nanoseconds
	root    map[string]party
}

// party signs with its credentials.
type party struct {
	*iamapi.Client
	sts *stsapi.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: map[string]party{}}
	now := func() time.Time { return time.Now().Add(time.Duration(w.forward.Load())) }
	kv := memkv.New()
	db := store.New(kv, store.Options{})
	w.iam = iam.New(iam.Deps{DB: db, Sealer: sealer, Now: now})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.reg = wire.NewRegistry(wire.Chain{
		Credentials: w.iam, Authorizer: w.iam.Noting(&iam.Authorizer{Holders: w.iam}), Constraints: constraint.New().Check,
		Now: time.Now, NewID: newID, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	w.iam.Register(w.reg)
	sts.New(sts.Deps{Roles: w.iam, Now: now}).Register(w.reg)
	server := httptest.NewServer(wire.NewServer(w.reg))
	t.Cleanup(func() {
		server.Close()
		if err := errors.Join(db.Close(), kv.Close()); err != nil {
			t.Error(err)
		}
	})
	w.url = server.URL
	for _, account := range []string{ours, theirs} {
		key, err := w.iam.EnsureRoot(t.Context(), account, iam.AccessKey{})
		if err != nil {
			t.Fatal(err)
		}
		w.root[account] = w.as(aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret})
	}
	return w
}

func (w *world) as(c aws.Credentials) party {
	transport := &http.Transport{}
	w.t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: wiretest.PlainBodies{Transport: transport}}
	provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
	return party{
		iamapi.New(iamapi.Options{Region: "eu-west-1", BaseEndpoint: &w.url, RetryMaxAttempts: 1, HTTPClient: client, Credentials: provider}),
		stsapi.New(stsapi.Options{Region: "eu-west-1", BaseEndpoint: &w.url, RetryMaxAttempts: 1, HTTPClient: client, Credentials: provider}),
	}
}

func (w *world) with(c *types.Credentials) party {
	return w.as(aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken})
}

// must returns what an operation that has to succeed answers.
func must[O any](t testing.TB) func(O, error) O {
	return func(out O, err error) O {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// answers holds an error against "" or a code and a part of the message: "AccessDenied: …".
func (w *world) answers(what string, err error, want string) {
	w.t.Helper()
	code, part, _ := strings.Cut(want, ": ")
	var api smithy.APIError
	switch {
	case want == "" && err == nil:
	case !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), part):
		w.t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

// user makes a user of an account, with a policy where there are statements.
func (w *world) user(account, name, statements string) party {
	w.t.Helper()
	root := w.root[account]
	must[*iamapi.CreateUserOutput](w.t)(root.CreateUser(w.t.Context(), &iamapi.CreateUserInput{UserName: &name}))
	if statements != "" {
		must[*iamapi.PutUserPolicyOutput](w.t)(root.PutUserPolicy(w.t.Context(), &iamapi.PutUserPolicyInput{UserName: &name, PolicyName: &name, PolicyDocument: document(statements)}))
	}
	key := must[*iamapi.CreateAccessKeyOutput](w.t)(root.CreateAccessKey(w.t.Context(), &iamapi.CreateAccessKeyInput{UserName: &name})).AccessKey
	return w.as(aws.Credentials{AccessKeyID: *key.AccessKeyId, SecretAccessKey: *key.SecretAccessKey})
}

// role makes a role of our account that may do what statements say; it returns its ARN.
func (w *world) role(name, trust, statements string) string {
	w.t.Helper()
	root := w.root[ours]
	role := must[*iamapi.CreateRoleOutput](w.t)(root.CreateRole(w.t.Context(), &iamapi.CreateRoleInput{
		RoleName: &name, Path: aws.String("/app/"), AssumeRolePolicyDocument: document(trust),
		Tags: []iamtypes.Tag{{Key: aws.String("Team"), Value: aws.String("red")}},
	})).Role
	if statements != "" {
		must[*iamapi.PutRolePolicyOutput](w.t)(root.PutRolePolicy(w.t.Context(), &iamapi.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: document(statements)}))
	}
	return *role.Arn
}

func (w *world) deleteRole(name string) {
	w.t.Helper()
	root := w.root[ours]
	must[*iamapi.DeleteRolePolicyOutput](w.t)(root.DeleteRolePolicy(w.t.Context(), &iamapi.DeleteRolePolicyInput{RoleName: &name, PolicyName: &name}))
	must[*iamapi.DeleteRoleOutput](w.t)(root.DeleteRole(w.t.Context(), &iamapi.DeleteRoleInput{RoleName: &name}))
}

func document(statements string) *string {
	return aws.String(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)
}

// trusts is a trust policy's statement on a principal, with more elements of it.
func trusts(principal, more string) string {
	return `{"Effect":"Allow","Principal":{` + principal + `},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]` + more + `}`
}

func may(action string) string {
	return `{"Effect":"Allow","Action":"` + action + `","Resource":"*"}`
}

func (w *world) assume(p party, in stsapi.AssumeRoleInput) (*stsapi.AssumeRoleOutput, error) {
	if in.RoleSessionName == nil {
		in.RoleSessionName = aws.String("night")
	}
	return p.sts.AssumeRole(w.t.Context(), &in)
}

// session is that of a role which has to be given.
func (w *world) session(p party, in stsapi.AssumeRoleInput) party {
	w.t.Helper()
	return w.with(must[*stsapi.AssumeRoleOutput](w.t)(w.assume(p, in)).Credentials)
}

// list and get try what a session may or may not do.
func (w *world) list(p party, want string) {
	w.t.Helper()
	_, err := p.ListUsers(w.t.Context(), &iamapi.ListUsersInput{})
	w.answers("ListUsers", err, want)
}

func (w *world) get(p party, want string) {
	w.t.Helper()
	_, err := p.ListRoles(w.t.Context(), &iamapi.ListRolesInput{})
	w.answers("ListRoles", err, want)
}

const accountOfOurs = `"AWS":"` + ours + `"`

func TestARolesSessionIsTheRole(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:AssumeRole"))
	arn := w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers"))
	out := must[*stsapi.AssumeRoleOutput](t)(w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &arn, DurationSeconds: aws.Int32(900)}))
	session := w.with(out.Credentials)
	who := must[*stsapi.GetCallerIdentityOutput](t)(session.sts.GetCallerIdentity(t.Context(), &stsapi.GetCallerIdentityInput{}))
	const want = "arn:aws:sts::" + ours + ":assumed-role/reader/night"
	role := must[*iamapi.GetRoleOutput](t)(w.root[ours].GetRole(t.Context(), &iamapi.GetRoleInput{RoleName: aws.String("reader")})).Role
	if *who.Arn != want || *out.AssumedRoleUser.Arn != want || *who.Account != ours || *who.UserId != *role.RoleId+":night" || *out.AssumedRoleUser.AssumedRoleId != *who.UserId {
		t.Errorf("caller %s %s, user %s", *who.Arn, *who.UserId, *out.AssumedRoleUser.AssumedRoleId)
	}
	if until := time.Until(*out.Credentials.Expiration); until < 14*time.Minute || until > 15*time.Minute || !strings.HasPrefix(*out.Credentials.AccessKeyId, "ASIA") {
		t.Errorf("%s lasts %v", *out.Credentials.AccessKeyId, until)
	}
	w.list(session, "")
	w.get(session, "AccessDenied: User: "+want+" is not authorized to perform: iam:ListRoles on resource: arn:aws:iam::"+ours+":role/ because no identity-based policy allows the iam:ListRoles action")
	role = must[*iamapi.GetRoleOutput](t)(w.root[ours].GetRole(t.Context(), &iamapi.GetRoleInput{RoleName: aws.String("reader")})).Role
	if role.RoleLastUsed == nil || role.RoleLastUsed.LastUsedDate == nil || *role.RoleLastUsed.Region != "eu-west-1" {
		t.Errorf("last used %+v", role.RoleLastUsed)
	}
	w.forward.Store(int64(15*time.Minute + time.Second))
	w.list(session, "ExpiredToken: The security token included in the request is expired")
}

func TestWhoMayAssumeARole(t *testing.T) {
	w := newWorld(t)
	allowed, plain := w.user(ours, "allowed", may("sts:AssumeRole")), w.user(ours, "plain", "")
	denied := w.user(ours, "denied", `{"Effect":"Deny","Action":"sts:*","Resource":"*"}`)
	foreign, foreignPlain := w.user(theirs, "foreign", may("sts:AssumeRole")), w.user(theirs, "plain", "")
	byAccount := w.role("account", trusts(accountOfOurs, ""), "")
	byName := w.role("name", trusts(`"AWS":["arn:aws:iam::`+ours+`:user/plain","arn:aws:iam::`+ours+`:user/denied"]`, ""), "")
	byStrangers := w.role("strangers", trusts(`"AWS":"`+theirs+`"`, `,"Condition":{"StringEquals":{"sts:ExternalId":"s3cret"}}`), "")
	const lacksTrust, lacksPolicy = "because no role trust policy allows the sts:AssumeRole action", "because no identity-based policy allows the sts:AssumeRole action"
	for _, tt := range []struct {
		name     string
		who      party
		role, id string
		want     string
	}{
		{"account trusted, user allowed", allowed, byAccount, "", ""},
		{"account trusted, user not allowed", plain, byAccount, "", "AccessDenied: User: arn:aws:iam::" + ours + ":user/plain is not authorized to perform: sts:AssumeRole on resource: " + byAccount + " " + lacksPolicy},
		{"user trusted by name", plain, byName, "", ""},
		{"user allowed, not trusted", allowed, byName, "", "AccessDenied: " + byName + " " + lacksTrust},
		{"user trusted, and denied", denied, byName, "", "AccessDenied: explicit deny in an identity-based policy"},
		{"stranger", foreign, byAccount, "", "AccessDenied: " + lacksTrust},
		{"stranger trusted", foreign, byStrangers, "s3cret", ""},
		{"stranger with another id", foreign, byStrangers, "guess", "AccessDenied: " + lacksTrust},
		{"stranger without the id", foreign, byStrangers, "", "AccessDenied: " + lacksTrust},
		{"stranger whose account does not allow", foreignPlain, byStrangers, "s3cret", "AccessDenied: " + lacksPolicy},
		{"no such role", allowed, byAccount + "x", "", "AccessDenied: " + lacksTrust},
		{"a role of another path", allowed, strings.Replace(byAccount, "/app/", "/", 1), "", "AccessDenied: " + lacksTrust},
		{"no role at all", allowed, "arn:aws:iam::" + ours + ":user/plain", "", "AccessDenied: " + lacksTrust},
		{"no ARN", allowed, "account-of-some-length", "", "AccessDenied: "},
		{"root", w.root[ours], byAccount, "", "AccessDenied: Roles may not be assumed by root accounts."},
	} {
		in := stsapi.AssumeRoleInput{RoleArn: &tt.role}
		if tt.id != "" {
			in.ExternalId = &tt.id
		}
		_, err := w.assume(tt.who, in)
		w.answers(tt.name, err, tt.want)
	}
}

// A session that is presented in any other way than it was issued is nobody's.
func TestSessionTokensThatAreNot(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:AssumeRole"))
	arn := w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers"))
	issue := func() *types.Credentials {
		return must[*stsapi.AssumeRoleOutput](t)(w.assume(alice, stsapi.AssumeRoleInput{RoleArn: &arn})).Credentials
	}
	a, b := issue(), issue()
	token := *a.SessionToken
	const unknown, mismatch = "InvalidClientTokenId: The security token included in the request is invalid", "SignatureDoesNotMatch: "
	for name, tt := range map[string]struct {
		id, secret, token, want string
	}{
		"as issued":        {*a.AccessKeyId, *a.SecretAccessKey, token, ""},
		"no token":         {*a.AccessKeyId, *a.SecretAccessKey, "", unknown},
		"another's token":  {*a.AccessKeyId, *a.SecretAccessKey, *b.SessionToken, unknown},
		"another's id":     {*b.AccessKeyId, *a.SecretAccessKey, token, unknown},
		"another's secret": {*a.AccessKeyId, *b.SecretAccessKey, token, mismatch},
		"cut off":          {*a.AccessKeyId, *a.SecretAccessKey, token[:len(token)-8], unknown},
		"cut to a head":    {*a.AccessKeyId, *a.SecretAccessKey, token[:16], unknown},
		"no base64":        {*a.AccessKeyId, *a.SecretAccessKey, "{" + token[1:], unknown},
		"too long":         {*a.AccessKeyId, *a.SecretAccessKey, strings.Repeat("A", 40_000), unknown},
	} {
		t.Run(name, func(t *testing.T) {
			w.list(w.as(aws.Credentials{AccessKeyID: tt.id, SecretAccessKey: tt.secret, SessionToken: tt.token}), tt.want)
		})
	}
	for i := 0; i < len(token); i += 37 {
		changed := []byte(token)
		changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
		if _, err := w.iam.Credential(t.Context(), *a.AccessKeyId, string(changed)); !errors.Is(err, wire.ErrNoCredential) {
			t.Errorf("changed at %d: %v", i, err)
		}
	}
}

func TestSessionsDieWithTheirRole(t *testing.T) {
	w := newWorld(t)
	alice := w.user(ours, "alice", may("sts:AssumeRole"))
	arn := w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers"))
	session := w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn})
	revoke := fmt.Sprintf(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":%q}}}`, time.Now().Add(time.Minute).UTC().Format(time.RFC3339))
	put := &iamapi.PutRolePolicyInput{RoleName: aws.String("reader"), PolicyName: aws.String("revoked"), PolicyDocument: document(revoke)}
	must[*iamapi.PutRolePolicyOutput](t)(w.root[ours].PutRolePolicy(t.Context(), put))
	w.list(session, "AccessDenied: explicit deny")
	w.forward.Store(int64(2 * time.Minute))
	w.list(w.session(alice, stsapi.AssumeRoleInput{RoleArn: &arn}), "")
	must[*iamapi.DeleteRolePolicyOutput](t)(w.root[ours].DeleteRolePolicy(t.Context(), &iamapi.DeleteRolePolicyInput{RoleName: put.RoleName, PolicyName: put.PolicyName}))
	w.list(session, "")
	w.deleteRole("reader")
	w.list(session, "InvalidClientTokenId: ")
	w.role("reader", trusts(accountOfOurs, ""), may("iam:ListUsers")) // another one of the same name
	w.list(session, "InvalidClientTokenId: ")
}

// A service assumes a role that trusts it, for what the role trusts it for, and can do
// nothing else.
func TestAServiceIsHeldToTheTrustPolicy(t *testing.T) {
	w := newWorld(t)
	const task = "arn:aws:ecs:eu-west-1:" + ours + ":task/default/1"
	open := w.role("open", trusts(`"Service":"ecs-tasks.amazonaws.com"`, ""), may("iam:ListUsers"))
	bound := w.role("bound", trusts(`"Service":"ecs-tasks.amazonaws.com"`, `,"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:*:`+ours+`:*"},"StringEquals":{"aws:SourceAccount":"`+ours+`"}}`), "")
	users := w.role("users", trusts(accountOfOurs, ""), "")
	must[*iamapi.CreateServiceLinkedRoleOutput](t)(w.root[ours].CreateServiceLinkedRole(t.Context(), &iamapi.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("ecs.amazonaws.com")}))
	const linked = "arn:aws:iam::" + ours + ":role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
	alice := w.user(ours, "alice", may("sts:AssumeRole"))
	_, err := w.assume(alice, stsapi.AssumeRoleInput{RoleArn: aws.String(linked)})
	w.answers("a user and a service's role", err, "AccessDenied: ")
	for _, tt := range []struct{ service, account, source, role, want string }{
		{"ecs-tasks.amazonaws.com", ours, task, open, ""},
		{"ecs-tasks.amazonaws.com", ours, task, bound, ""},
		{"ecs-tasks.amazonaws.com", theirs, strings.Replace(task, ours, theirs, 1), bound, "AccessDeniedException: no role trust policy"},
		{"ecs-tasks.amazonaws.com", theirs, task, bound, "AccessDeniedException: no role trust policy"},
		{"ecs-tasks.amazonaws.com", ours, task, users, "AccessDeniedException: no role trust policy"},
		{"ecs-tasks.amazonaws.com", ours, task, linked, "AccessDeniedException: no role trust policy"},
		{"ecs.amazonaws.com", ours, task, linked, ""},
		{"lambda.amazonaws.com", ours, task, open, "AccessDeniedException: no role trust policy"},
	} {
		p := wire.ServicePrincipal(tt.service, tt.account, tt.source)
		out, err := wire.Invoke[stsapi.AssumeRoleInput, stsapi.AssumeRoleOutput](t.Context(), w.reg, p, tt.account, "eu-west-1", "sts", "AssumeRole",
			&stsapi.AssumeRoleInput{RoleArn: &tt.role, RoleSessionName: aws.String("task")})
		w.answers(tt.service+" for "+tt.source+" as "+tt.role, err, tt.want)
		if err == nil && tt.role == open {
			w.list(w.with(out.Credentials), "")
		}
	}
	service := wire.ServicePrincipal("ecs.amazonaws.com", ours, task)
	_, err = wire.Invoke[iamapi.ListUsersInput, iamapi.ListUsersOutput](t.Context(), w.reg, service, ours, "eu-west-1", "iam", "ListUsers", &iamapi.ListUsersInput{})
	w.answers("ListUsers by a service", err, "AccessDeniedException: ")
}
