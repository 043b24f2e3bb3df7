package control

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// do makes one call by name: "iam:CreateUser".
func (a *arena) do(c sigv4.Credentials, action string, in map[string]any) reply {
	a.t.Helper()
	service, name, _ := strings.Cut(action, ":")
	return a.call(target{service: service, name: name}, c, in)
}

// made makes a call that has to succeed.
func (a *arena) made(c sigv4.Credentials, action string, in map[string]any) reply {
	a.t.Helper()
	got := a.do(c, action, in)
	if got.status != http.StatusOK {
		a.t.Fatalf("%s: %v", action, got)
	}
	return got
}

var handsOver = regexp.MustCompile(`(?i)^rolearn$|(task|execution|infrastructure|service)rolearn$|^role$`)

// Whoever hands a role over to a service needs iam:PassRole on that role for that
// service: in every operation and member that names a role.
func TestEveryRoleThatIsHandedOverNeedsPassRole(t *testing.T) {
	a := newArena(t)
	a.furnish(a.root, testAccount, "plausible")
	const role = "arn:aws:iam::" + testAccount + ":role/plausible"
	all := `{"Effect":"Allow","NotAction":"iam:PassRole","Resource":"*"}`
	passing := func(resource, service string) string {
		return all + `,{"Effect":"Allow","Action":"iam:PassRole","Resource":"` + resource + `","Condition":{"StringEquals":{"iam:PassedToService":["` + service + `"]}}}`
	}
	callers := []struct {
		name string
		c    sigv4.Credentials
		may  []string // the services, and what they hand the role over to
	}{
		{"without iam:PassRole", a.user("without", all), nil},
		{"who may pass another role", a.user("another", passing("arn:aws:iam::*:role/other", "*")), nil},
		{"who may pass it to another service", a.user("elsewhere", passing("*", "lambda.amazonaws.com")), nil},
		{"who may pass it to tasks", a.user("tasks", passing(role, "ecs-tasks.amazonaws.com")), []string{"ecs"}},
		{"who may pass it to services", a.user("services", passing(role, `ecs.amazonaws.com","ecs-tasks.amazonaws.com`)), []string{"ecs", "ecs services"}},
		{"who may pass it to machines", a.user("machines", passing(role, "ec2.amazonaws.com")), []string{"iam"}},
	}
	var tried []string
	for _, o := range a.targets() {
		for _, leaf := range o.leaves() {
			if member := memberOf(leaf); o.service == "sts" || !handsOver.MatchString(member) && o.name != "AddRoleToInstanceProfile" || member == "instanceprofilename" {
				continue
			}
			tried = append(tried, o.String()+" "+leaf)
			to := o.service
			if strings.Contains(leaf, "advancedConfiguration") || strings.Contains(leaf, "lifecycleHooks") {
				to = "ecs services"
			}
			for _, caller := range callers {
				got := a.call(o, caller.c, o.around(leaf, func(path string) string {
					switch {
					case path == leaf && o.service != "iam":
						return role
					case handsOver.MatchString(memberOf(path)):
						return omitted
					}
					return ""
				}))
				denied := strings.HasPrefix(got.code, "AccessDenied") && strings.Contains(got.message, "iam:PassRole on resource: "+role)
				if denied == slices.Contains(caller.may, to) && got.code != "UnsupportedFeatureException" {
					t.Errorf("%s of %s, by one %s: %v", leaf, o, caller.name, got)
				}
			}
		}
	}
	for _, want := range []string{"ecs:RegisterTaskDefinition taskRoleArn", "ecs:RegisterTaskDefinition executionRoleArn", "ecs:RunTask overrides.taskRoleArn",
		"ecs:RunTask overrides.executionRoleArn", "ecs:StartTask overrides.taskRoleArn", "ecs:StartTask overrides.executionRoleArn",
		"ecs:CreateService loadBalancers.0.advancedConfiguration.roleArn", "ecs:UpdateService deploymentConfiguration.lifecycleHooks.0.roleArn", "iam:AddRoleToInstanceProfile RoleName"} {
		if !slices.Contains(tried, want) {
			t.Errorf("%s was not tried: %v", want, tried)
		}
	}
	a.calm()
}

// An administrator of IAM who is held by a permissions boundary, in the way AWS
// recommends, becomes no more than that: by no policy, version, group, user or role.
func TestABoundedAdministratorStaysBounded(t *testing.T) {
	a := newArena(t)
	type in = map[string]any
	const (
		iam      = "arn:aws:iam::" + testAccount + ":"
		boundary = iam + "policy/boundary"
		admin    = "arn:aws:iam::aws:policy/AdministratorAccess"
		self     = iam + "user/mallory"
	)
	everything, trust := *document(may("*")), *document(trusts(`"AWS":"`+testAccount+`"`, ""))
	a.made(a.root, "iam:CreatePolicy", in{"PolicyName": "boundary", "PolicyDocument": *document(
		may("iam:*") + "," + may("sts:*") + "," + may("ecs:ListClusters") +
			`,{"Effect":"Deny","Action":["iam:DeleteUserPermissionsBoundary","iam:DeleteRolePermissionsBoundary"],"Resource":"*"}` +
			`,{"Effect":"Deny","Action":["iam:CreateUser","iam:CreateRole","iam:PutUserPermissionsBoundary","iam:PutRolePermissionsBoundary"],"Resource":"*","Condition":{"StringNotEquals":{"iam:PermissionsBoundary":"` + boundary + `"}}}` +
			`,{"Effect":"Deny","Action":"iam:*","NotResource":["` + self + `","` + iam + `group/admins","` + iam + `user/puppet*","` + iam + `role/puppet*"]}`)})
	a.made(a.root, "iam:CreateGroup", in{"GroupName": "admins"})
	a.made(a.root, "iam:AttachGroupPolicy", in{"GroupName": "admins", "PolicyArn": admin})
	a.made(a.root, "iam:CreateRole", in{"RoleName": "boss", "AssumeRolePolicyDocument": *document(trusts(`"AWS":"`+iam+`root"`, `,"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`))})
	a.made(a.root, "iam:AttachRolePolicy", in{"RoleName": "boss", "PolicyArn": admin})
	a.user("boss", may("*"))
	mallory := a.user("mallory", may("*"))
	a.made(a.root, "iam:PutUserPermissionsBoundary", in{"UserName": "mallory", "PermissionsBoundary": boundary})

	puppet, session := mallory, mallory
	for _, step := range []struct {
		action string
		in     in
		ok     bool
	}{
		// What gives her nothing, as the boundary stays.
		{"iam:AttachUserPolicy", in{"UserName": "mallory", "PolicyArn": admin}, true},
		{"iam:PutUserPolicy", in{"UserName": "mallory", "PolicyName": "all", "PolicyDocument": everything}, true},
		{"iam:AddUserToGroup", in{"UserName": "mallory", "GroupName": "admins"}, true},
		{"iam:UpdateUser", in{"UserName": "mallory", "NewUserName": "boss2"}, false},
		{"iam:UpdateUser", in{"UserName": "mallory", "NewPath": "/bosses/"}, false},
		{"iam:UpdateGroup", in{"GroupName": "admins", "NewGroupName": "bosses"}, false},
		// The boundary itself.
		{"iam:DeleteUserPermissionsBoundary", in{"UserName": "mallory"}, false},
		{"iam:PutUserPermissionsBoundary", in{"UserName": "mallory", "PermissionsBoundary": admin}, false},
		{"iam:CreatePolicyVersion", in{"PolicyArn": boundary, "PolicyDocument": everything, "SetAsDefault": true}, false},
		{"iam:SetDefaultPolicyVersion", in{"PolicyArn": boundary, "VersionId": "v1"}, false},
		{"iam:DeletePolicyVersion", in{"PolicyArn": boundary, "VersionId": "v1"}, false},
		{"iam:DeletePolicy", in{"PolicyArn": boundary}, false},
		{"iam:TagPolicy", in{"PolicyArn": boundary, "Tags": []any{in{"Key": "a", "Value": "b"}}}, false},
		// Others who may more.
		{"iam:CreateAccessKey", in{"UserName": "boss"}, false},
		{"iam:UpdateAssumeRolePolicy", in{"RoleName": "boss", "PolicyDocument": trust}, false},
		{"iam:PutRolePolicy", in{"RoleName": "boss", "PolicyName": "p", "PolicyDocument": everything}, false},
		{"sts:AssumeRole", in{"RoleArn": iam + "role/boss", "RoleSessionName": "night"}, false},
		// Puppets of hers without the boundary, and then with it.
		{"iam:CreateUser", in{"UserName": "puppet"}, false},
		{"iam:CreateUser", in{"UserName": "puppet", "PermissionsBoundary": admin}, false},
		{"iam:CreateRole", in{"RoleName": "puppet", "AssumeRolePolicyDocument": trust}, false},
		{"iam:CreateUser", in{"UserName": "puppet", "PermissionsBoundary": boundary}, true},
		{"iam:AttachUserPolicy", in{"UserName": "puppet", "PolicyArn": admin}, true},
		{"iam:DeleteUserPermissionsBoundary", in{"UserName": "puppet"}, false},
		{"iam:CreateAccessKey", in{"UserName": "puppet"}, true},
		{"iam:CreateRole", in{"RoleName": "puppet", "AssumeRolePolicyDocument": trust, "PermissionsBoundary": boundary}, true},
		{"iam:AttachRolePolicy", in{"RoleName": "puppet", "PolicyArn": admin}, true},
		{"iam:DeleteRolePermissionsBoundary", in{"RoleName": "puppet"}, false},
		{"sts:AssumeRole", in{"RoleArn": iam + "role/puppet", "RoleSessionName": "night"}, true},
		{"sts:GetSessionToken", in{}, true},
	} {
		got := a.do(mallory, step.action, step.in)
		if refused := strings.HasPrefix(got.code, "AccessDenied"); refused == step.ok || step.ok && got.status != http.StatusOK {
			t.Errorf("%s %v: %v", step.action, step.in, got)
		}
		if keys := xmlKeys(got.body); keys.AccessKeyID != "" {
			puppet, session = session, keys
		}
		for who, c := range map[string]sigv4.Credentials{"mallory": mallory, "an earlier puppet": puppet, "a puppet": session} {
			if got := a.do(c, "ecs:CreateCluster", in{"clusterName": "loot"}); !strings.HasPrefix(got.code, "AccessDenied") {
				t.Fatalf("%s escaped by %s: %v", who, step.action, got)
			}
			if got := a.do(c, "ecs:ListClusters", in{}); got.status != http.StatusOK {
				t.Errorf("%s may not what the boundary and its policies allow: %v", who, got)
			}
		}
	}
	a.calm()
}

// xmlKeys are the credentials in an answer of IAM's or STS's.
func xmlKeys(body string) sigv4.Credentials {
	get := func(name string) string {
		_, rest, _ := strings.Cut(body, "<"+name+">")
		value, _, _ := strings.Cut(rest, "</"+name+">")
		return value
	}
	return sigv4.Credentials{AccessKeyID: get("AccessKeyId"), SecretAccessKey: get("SecretAccessKey"), SessionToken: get("SessionToken")}
}

// The owner's paths are for the root user: not for a user who may do everything, nor
// for who writes the path in another way; and another account's root user finds and
// changes nothing of this one.
func TestTheOwnersPaths(t *testing.T) {
	a := newArena(t)
	token := a.token(TokenOptions{Uses: 5})
	admin := a.user("admin", may("*"))
	send := func(method, path, body string, c *sigv4.Credentials) reply {
		t.Helper()
		r, err := http.NewRequest(method, a.Endpoint()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			a.sign(r, *c, "ecs", []byte(body))
		}
		response, err := a.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, _ := io.ReadAll(response.Body)
		return reply{status: response.StatusCode, body: string(raw)}
	}
	newUser, newToken := `{"name":"loot","policies":["AdministratorAccess"]}`, `{"lifeSeconds":60,"uses":1}`
	for _, p := range []struct{ method, path, body string }{
		{"GET", tokensPath, ""}, {"POST", tokensPath, newToken}, {"DELETE", tokensPath + "/" + token.Info.ID, ""},
		{"GET", nodesPath, ""}, {"DELETE", nodesPath + "/i-00000000000000000", ""}, {"POST", usersPath, newUser},
		{"GET", keyPath, ""}, {"POST", keyPath, ""}, {"GET", backupPath, ""},
		{"GET", "/" + tokensPath, ""}, {"GET", "/x/.." + tokensPath, ""}, {"GET", "/_longshore/x/../tokens", ""},
		{"GET", "/%5Flongshore/tokens", ""}, {"GET", "/_longshore%2Ftokens", ""}, {"GET", "/_LONGSHORE/tokens", ""}, {"GET", tokensPath + "/", ""},
		{"PUT", tokensPath, newToken}, {"PATCH", usersPath, newUser}, {"GET", "/_longshore/", ""}, {"GET", "/_longshore/debug/pprof/", ""},
	} {
		for _, c := range []*sigv4.Credentials{nil, &admin} {
			got := send(p.method, p.path, p.body, c)
			if got.status < 400 || got.status >= 500 || strings.Contains(got.body, token.Info.ID) {
				t.Errorf("%s %s, signed %v: %v", p.method, p.path, c != nil, got)
			}
		}
	}
	for _, p := range []struct{ method, path, body string }{{"GET", tokensPath, ""}, {"DELETE", tokensPath + "/" + token.Info.ID, ""}, {"GET", nodesPath, ""}} {
		if got := send(p.method, p.path, p.body, &a.stranger); (got.status == http.StatusOK) != (p.method == "GET") || p.method == "GET" && strings.Contains(got.body, token.Info.ID) {
			t.Errorf("%s %s by another account: %v", p.method, p.path, got)
		}
	}
	if list, err := a.owner().Tokens(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("the tokens are %v %v", list, err)
	}
	if got := a.do(a.root, "iam:GetUser", map[string]any{"UserName": "loot"}); got.code != "NoSuchEntity" {
		t.Errorf("a user was made: %v", got)
	}
	a.calm()
}
