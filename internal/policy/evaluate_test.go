package policy

import (
	"slices"
	"testing"
)

// Short policies for the tables below.
const (
	allowAll  = `"Effect":"Allow","Action":"*","Resource":"*"`
	allowS3   = `"Effect":"Allow","Action":"s3:*","Resource":"*"`
	allowLogs = `"Effect":"Allow","Action":"logs:*","Resource":"*"`
	denyAll   = `"Effect":"Deny","Action":"*","Resource":"*"`
	denyS3    = `"Effect":"Deny","Action":"s3:*","Resource":"*"`
)

func grants(principal string) string {
	return `"Effect":"Allow","Principal":` + principal + `,"Action":"s3:*","Resource":"*"`
}

// AWS's rules for policies of several types on one request, s3:GetObject on a bucket
// of account 123456789012.
func TestEvaluate(t *testing.T) {
	const (
		aliceOnly   = `{"AWS":"arn:aws:iam::123456789012:user/alice"}`
		roleOnly    = `{"AWS":"arn:aws:iam::123456789012:role/Worker"}`
		sessionOnly = `{"AWS":"arn:aws:sts::123456789012:assumed-role/Worker/s1"}`
		accountOnly = `{"AWS":"123456789012"}`
	)
	one := func(statements ...string) []Attached { return []Attached{identity(t, statements...)} }
	limit := func(statements ...string) *Attached { a := identity(t, statements...); return &a }
	for _, tt := range []struct {
		name string
		who  Principal
		p    Policies
		want Decision
	}{
		{"nothing", alice, Policies{}, Decision{By: IdentityBased}},
		{"identity", alice, Policies{Identity: one(allowS3)}, Decision{Allowed: true, By: IdentityBased}},
		{"identity of several", alice, Policies{Identity: append(one(allowLogs), one(allowS3)...)}, Decision{Allowed: true, By: IdentityBased}},
		{"deny after allow", alice, Policies{Identity: one(allowAll, denyS3)}, Decision{Explicit: true, By: IdentityBased}},
		{"deny before allow", alice, Policies{Identity: one(denyS3, allowAll)}, Decision{Explicit: true, By: IdentityBased}},
		{"deny in a second policy", alice, Policies{Identity: append(one(allowAll), one(denyAll)...)}, Decision{Explicit: true, By: IdentityBased}},

		{"resource alone", alice, Policies{Resource: resource(t, grants(aliceOnly))}, Decision{Allowed: true, By: ResourceBased}},
		{"resource names another", bob, Policies{Resource: resource(t, grants(aliceOnly))}, Decision{By: IdentityBased}},
		{"resource names everybody", bob, Policies{Resource: resource(t, grants(`"*"`))}, Decision{Allowed: true, By: ResourceBased}},
		{"resource names the unique id", alice, Policies{Resource: resource(t, grants(`{"AWS":"AIDAALICEALICEALICE12"}`))}, Decision{Allowed: true, By: ResourceBased}},
		{"the account is not its users", alice, Policies{Resource: resource(t, grants(accountOnly))}, Decision{By: IdentityBased}},
		{"the account, and an identity policy", alice, Policies{Identity: one(allowS3), Resource: resource(t, grants(accountOnly))}, Decision{Allowed: true, By: IdentityBased}},
		{"resource denies", alice, Policies{Identity: one(allowAll), Resource: resource(t, `"Effect":"Deny","Principal":`+accountOnly+`,"Action":"s3:Get*","Resource":"*"`)},
			Decision{Explicit: true, By: ResourceBased}},
		{"resource denies another", alice, Policies{Identity: one(allowAll), Resource: resource(t, `"Effect":"Deny","Principal":{"AWS":"210987654321"},"Action":"s3:*","Resource":"*"`)},
			Decision{Allowed: true, By: IdentityBased}},

		{"boundary allows", alice, Policies{Identity: one(allowAll), Boundary: limit(allowS3)}, Decision{Allowed: true, By: IdentityBased}},
		{"boundary lacks it", alice, Policies{Identity: one(allowAll), Boundary: limit(allowLogs)}, Decision{By: Boundary}},
		{"boundary denies", alice, Policies{Identity: one(allowAll), Boundary: limit(allowAll, denyS3)}, Decision{Explicit: true, By: Boundary}},
		{"boundary gives nothing", alice, Policies{Boundary: limit(allowAll)}, Decision{By: IdentityBased}},
		{"boundary does not limit the user's resource grant", alice, Policies{Boundary: limit(allowLogs), Resource: resource(t, grants(aliceOnly))},
			Decision{Allowed: true, By: ResourceBased}},
		{"an explicit deny of the boundary does", alice, Policies{Boundary: limit(denyS3), Resource: resource(t, grants(aliceOnly))},
			Decision{Explicit: true, By: Boundary}},

		{"session", worker, Policies{Identity: one(allowAll), Session: one(allowS3)}, Decision{Allowed: true, By: IdentityBased}},
		{"session lacks it", worker, Policies{Identity: one(allowAll), Session: one(allowLogs)}, Decision{By: Session}},
		{"session of several policies", worker, Policies{Identity: one(allowAll), Session: append(one(allowLogs), one(allowS3)...)}, Decision{Allowed: true, By: IdentityBased}},
		{"session denies", worker, Policies{Identity: one(allowAll), Session: one(allowAll, denyS3)}, Decision{Explicit: true, By: Session}},
		{"session gives nothing", worker, Policies{Session: one(allowAll)}, Decision{By: IdentityBased}},
		{"boundary before session", worker, Policies{Identity: one(allowAll), Boundary: limit(allowLogs), Session: one(allowLogs)}, Decision{By: Boundary}},

		{"role named: instead of an identity policy", worker, Policies{Resource: resource(t, grants(roleOnly))}, Decision{Allowed: true, By: ResourceBased}},
		{"role named: limited by the boundary", worker, Policies{Boundary: limit(allowLogs), Resource: resource(t, grants(roleOnly))}, Decision{By: Boundary}},
		{"role named: limited by the session", worker, Policies{Session: one(allowLogs), Resource: resource(t, grants(roleOnly))}, Decision{By: Session}},
		{"role named by its id", worker, Policies{Session: one(allowLogs), Resource: resource(t, grants(`{"AWS":"AROAWORKERWORKERWORK1"}`))}, Decision{By: Session}},
		{"session named: not limited", worker, Policies{Boundary: limit(allowLogs), Session: one(allowLogs), Resource: resource(t, grants(sessionOnly))},
			Decision{Allowed: true, By: ResourceBased}},
		{"everybody named: not limited", worker, Policies{Boundary: limit(allowLogs), Session: one(allowLogs), Resource: resource(t, grants(`{"AWS":"*"}`))},
			Decision{Allowed: true, By: ResourceBased}},
		{"role and session named: the better holds", worker, Policies{Session: one(allowLogs), Resource: resource(t, grants(roleOnly), grants(sessionOnly))},
			Decision{Allowed: true, By: ResourceBased}},

		{"another account: neither", carol, Policies{}, Decision{By: IdentityBased}},
		{"another account: identity alone", carol, Policies{Identity: one(allowAll)}, Decision{By: ResourceBased}},
		{"another account: resource alone", carol, Policies{Resource: resource(t, grants(`"*"`))}, Decision{By: IdentityBased}},
		{"another account: both", carol, Policies{Identity: one(allowAll), Resource: resource(t, grants(`{"AWS":"arn:aws:iam::210987654321:root"}`))},
			Decision{Allowed: true, By: IdentityBased}},
		{"another account: both, and a boundary", carol, Policies{Identity: one(allowAll), Boundary: limit(allowLogs), Resource: resource(t, grants(`"*"`))},
			Decision{By: Boundary}},

		{"root", root, Policies{}, Decision{Allowed: true}},
		{"root is denied by resources only", root, Policies{Identity: one(denyAll), Boundary: limit(denyAll)}, Decision{Allowed: true}},
		{"root, denied", root, Policies{Resource: resource(t, `"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"`)}, Decision{Explicit: true, By: ResourceBased}},
		{"root of another account", foreRoot, Policies{}, Decision{By: ResourceBased}},
		{"root of another account, named", foreRoot, Policies{Resource: resource(t, grants(`{"AWS":"210987654321"}`))}, Decision{Allowed: true, By: ResourceBased}},

		{"service", tasks, Policies{Resource: resource(t, grants(`{"Service":["x.amazonaws.com","ecs-tasks.amazonaws.com"]}`))}, Decision{Allowed: true, By: ResourceBased}},
		{"service, not named", tasks, Policies{Resource: resource(t, grants(`{"Service":"ecs.amazonaws.com"}`))}, Decision{By: ResourceBased}},
		{"a service's name is no ARN", tasks, Policies{Identity: one(allowAll), Resource: resource(t, grants(accountOnly))}, Decision{By: ResourceBased}},

		{"a key's policy rules: it lacks it", alice, Policies{ResourceRules: true, Identity: one(allowAll), Resource: resource(t, grants(`{"AWS":"210987654321"}`))}, Decision{By: ResourceBased}},
		{"a key's policy rules: there is none", alice, Policies{ResourceRules: true, Identity: one(allowAll)}, Decision{By: ResourceBased}},
		{"a key's policy hands it to the account", alice, Policies{ResourceRules: true, Identity: one(allowAll), Resource: resource(t, grants(accountOnly))},
			Decision{Allowed: true, By: IdentityBased}},
		{"a key's policy, for root", root, Policies{ResourceRules: true, Resource: resource(t, grants(aliceOnly))}, Decision{By: ResourceBased}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRequest(tt.who, "s3:GetObject", "arn:aws:s3:::b/x", nil)
			r.ResourceAccount = account
			if got := Evaluate(r, &tt.p); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if got := Explain(r, &tt.p).Decision; got != tt.want {
				t.Errorf("Explain: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNotPrincipal(t *testing.T) {
	deny := func(principals string) *Attached {
		return resource(t, `"Effect":"Deny","NotPrincipal":{"AWS":[`+principals+`]},"Action":"*","Resource":"*"`)
	}
	const chain = `"arn:aws:sts::123456789012:assumed-role/Worker/s1","arn:aws:iam::123456789012:role/Worker","arn:aws:iam::123456789012:root"`
	for _, tt := range []struct {
		name   string
		who    Principal
		policy *Attached
		want   bool
	}{
		{"user and account are spared", alice, deny(`"arn:aws:iam::123456789012:user/alice","123456789012"`), true},
		{"a user without the account is not", alice, deny(`"arn:aws:iam::123456789012:user/alice"`), false},
		{"the account alone spares no user", alice, deny(`"123456789012"`), false},
		{"the account spares its root", root, deny(`"123456789012"`), true},
		{"another user", bob, deny(`"arn:aws:iam::123456789012:user/alice","123456789012"`), false},
		{"session, role and account are spared", worker, deny(chain), true},
		{"role and account without the session are not", worker, deny(`"arn:aws:iam::123456789012:role/Worker","123456789012"`), false},
		{"an allowance leaves out who is named", alice, resource(t, `"Effect":"Allow","NotPrincipal":{"AWS":"123456789012"},"Action":"*","Resource":"*"`), true},
	} {
		r := NewRequest(tt.who, "s3:GetObject", "*", nil)
		p := &Policies{Identity: []Attached{identity(t, allowAll)}, Resource: tt.policy}
		if got := Evaluate(r, p).Allowed; got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
	p := &Policies{Resource: resource(t, `"Effect":"Allow","NotPrincipal":{"AWS":"123456789012"},"Action":"*","Resource":"*"`)}
	if Evaluate(NewRequest(alice, "s3:x", "*", nil), p).Allowed {
		t.Error("an allowance with NotPrincipal covers a user of the account that it names")
	}
	if !Evaluate(NewRequest(tasks, "s3:x", "*", nil), p).Allowed {
		t.Error("an allowance with NotPrincipal does not cover others")
	}
}

func TestTrustPolicy(t *testing.T) {
	assume := func(principal string) *Attached {
		return trust(t, `"Effect":"Allow","Principal":`+principal+`,"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"42"}}`)
	}
	may := []Attached{identity(t, `"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::123456789012:role/R"`)}
	for _, tt := range []struct {
		name     string
		who      Principal
		identity []Attached
		trust    *Attached
		external string
		want     Decision
	}{
		{"the account is trusted, the user may", alice, may, assume(`{"AWS":"123456789012"}`), "42", Decision{Allowed: true, By: IdentityBased}},
		{"the account is trusted, the user may not", alice, nil, assume(`{"AWS":"123456789012"}`), "42", Decision{By: IdentityBased}},
		{"the user is trusted", alice, nil, assume(`{"AWS":"arn:aws:iam::123456789012:user/alice"}`), "42", Decision{Allowed: true, By: RoleTrust}},
		{"nobody is trusted", alice, may, assume(`{"AWS":"210987654321"}`), "42", Decision{By: RoleTrust}},
		{"wrong external id", alice, may, assume(`{"AWS":"123456789012"}`), "43", Decision{By: RoleTrust}},
		{"another account's user", carol, nil, assume(`{"AWS":"arn:aws:iam::210987654321:user/carol"}`), "42", Decision{By: IdentityBased}},
		{"another account's user, who may", carol, may, assume(`{"AWS":"arn:aws:iam::210987654321:user/carol"}`), "42", Decision{Allowed: true, By: IdentityBased}},
		{"chained from a role", worker, nil, assume(`{"AWS":"arn:aws:iam::123456789012:role/Worker"}`), "42", Decision{Allowed: true, By: RoleTrust}},
		{"service", tasks, nil, assume(`{"Service":"ecs-tasks.amazonaws.com"}`), "42", Decision{Allowed: true, By: RoleTrust}},
		{"another service", tasks, nil, assume(`{"Service":"ec2.amazonaws.com"}`), "42", Decision{By: RoleTrust}},
		{"federated", provider, nil, assume(`{"Federated":"accounts.google.com"}`), "42", Decision{Allowed: true, By: RoleTrust}},
		{"denied", alice, may, trust(t, `"Effect":"Deny","Principal":"*","Action":"sts:*"`), "42", Decision{Explicit: true, By: RoleTrust}},
	} {
		r := NewRequest(tt.who, "sts:AssumeRole", "arn:aws:iam::123456789012:role/R", contextOf("sts:ExternalId="+tt.external))
		r.ResourceAccount = account
		if got := Evaluate(r, &Policies{Identity: tt.identity, Resource: tt.trust}); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestReason(t *testing.T) {
	for _, tt := range []struct {
		d    Decision
		want string
	}{
		{Decision{By: IdentityBased}, "because no identity-based policy allows the ecs:RunTask action"},
		{Decision{By: Boundary}, "because no permissions boundary allows the ecs:RunTask action"},
		{Decision{By: Session}, "because no session policy allows the ecs:RunTask action"},
		{Decision{By: ResourceBased}, "because no resource-based policy allows the ecs:RunTask action"},
		{Decision{By: RoleTrust}, "because no role trust policy allows the ecs:RunTask action"},
		{Decision{Explicit: true, By: IdentityBased}, "with an explicit deny in an identity-based policy"},
		{Decision{Explicit: true, By: Boundary}, "with an explicit deny in a permissions boundary"},
		{Decision{Explicit: true, By: RoleTrust}, "with an explicit deny in the role trust policy"},
	} {
		if got := tt.d.Reason("ecs:RunTask"); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	doc := mustParse(t, `{
  "Version": "2012-10-17",
  "Statement": [
    {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"StringLikeIfExists": {"s3:prefix": "*"}}},
    {
      "Effect": "Deny", "Action": "s3:Put*", "Resource": "arn:aws:s3:::${aws:username}"
    }
  ]
}`, Identity)
	boundary := identity(t, allowLogs)
	p := &Policies{Identity: []Attached{{"p1", doc}}, Boundary: &boundary}
	x := Explain(NewRequest(alice, "s3:PutObject", "arn:aws:s3:::alice", contextOf("aws:username=alice")), p)
	want := []Match{{"p1", IdentityBased, Position{5, 5}, Position{7, 6}}}
	if x.Allowed || !x.Explicit || !slices.Equal(x.Matched, want) || x.BoundaryAllows || !slices.Equal(x.Missing, []string{"s3:prefix"}) {
		t.Errorf("denial: got %v %v %v", x.Matched, x.BoundaryAllows, x.Missing)
	}
	p.Boundary = nil
	x = Explain(NewRequest(alice, "s3:GetObject", "*", nil), p)
	want = []Match{{"p1", IdentityBased, Position{4, 5}, Position{4, 116}}}
	if !x.Allowed || !slices.Equal(x.Matched, want) || !x.BoundaryAllows || !slices.Equal(x.Missing, []string{"aws:username", "s3:prefix"}) {
		t.Errorf("allowance: got %+v %+v", x.Matched, x.Missing)
	}
	if x = Explain(NewRequest(alice, "logs:x", "*", nil), p); x.Allowed || len(x.Matched) != 0 {
		t.Errorf("implicit denial: got %+v", x)
	}
}
