package policy

import (
	"slices"
	"strings"
	"testing"
)

const arnForm = ` must be in ARN format or "*".`

// What IAM answers to texts that are no policies, several errors in one among them.
func TestParseRefuses(t *testing.T) {
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":{` + s + `}}` }
	good := `"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::b"`
	with := func(resource string) string {
		return statement(`"Effect":"Allow","Action":"s3:ListBucket","Resource":"` + resource + `"`)
	}
	condition := func(c string) string { return statement(good + `,"Condition":` + c) }
	const old = "Policy document must be version 2012-10-17 or greater."
	for _, tt := range []struct{ text, want string }{
		{`no json`, syntaxErrors},
		{``, syntaxErrors},
		{`[]`, syntaxErrors},
		{`{"Version":"2012-10-17"}`, syntaxErrors},
		{`{"Version":"2012-10-17","Statement":[]}`, syntaxErrors},
		{`{"Version":"2012-10-17","Statement":["afd"]}`, syntaxErrors},
		{`{"Version":"2013-10-17","Statement":{` + good + `}}`, syntaxErrors},
		{`{"Version":"2012-10-17","Id":{},"Statement":{` + good + `}}`, syntaxErrors},
		{`{"Version":"2012-10-17","Extra":"value","Statement":{` + good + `}}`, syntaxErrors},
		{statement(good) + `{}`, syntaxErrors},
		{statement(good + `,"Extra":"value"`), syntaxErrors},
		{statement(good + `,"Effect":"Deny"`), syntaxErrors},
		{statement(good + `,"NotAction":"a:b"`), syntaxErrors},
		{statement(good + `,"NotResource":"*"`), syntaxErrors},
		{statement(good + `,"Sid":{}`), syntaxErrors},
		{statement(`"Action":"s3:ListBucket","Resource":"*"`), syntaxErrors},
		{statement(`"Effect":"invalid","Action":"s3:ListBucket","Resource":"*"`), syntaxErrors},
		{statement(`"Effect":"Allow","Action":{},"Resource":"*"`), syntaxErrors},
		{statement(`"Effect":"Deny","Action":[[]],"Resource":"*"`), syntaxErrors},
		{statement(`"Effect":"Deny","Action":"s3:x","Resource":["adfdf",{}]`), syntaxErrors},
		{with(`arn:aws:s3:::b/${aws:username`), syntaxErrors},
		{with(`arn:aws:s3:::b/${aws:username, x}`), syntaxErrors},
		{condition(`[]`), syntaxErrors},
		{condition(`"a"`), syntaxErrors},
		{condition(`{"a":"b"}`), syntaxErrors},
		{condition(`{"x":{"a":"1"}}`), syntaxErrors},
		{condition(`{"DateGreaterThan":{"a":{}}}`), syntaxErrors},
		{condition(`{"ForAnyValue::StringEqualsIfExists":{"a":"asf"}}`), syntaxErrors},
		{condition(`{"NullIfExists":{"a":"true"}}`), syntaxErrors},
		{condition(`{"StringEquals":{"a":"1","A":"2"}}`), syntaxErrors},
		{`{"Statement":{` + good + `}}`, old},
		{`{"Version":"2008-10-17","Statement":{` + good + `}}`, old},
		{`{"Statement":[{"Sid":"x",` + good + `},{"Sid":"x","Effect":"Allow"}]}`, old},
		{`{"Statement":{"Effect":"denY","Action":"s3:x","Resource":"*"}}`, old},
		{statement(`"Effect":"denY","Action":"s3:x","Resource":"*"`), legacyErrors},
		{statement(`"Effect":"allow","Resource":"arn:aws:s3:us-east-1::b"`), legacyErrors},
		{statement(`"Effect":"Allow","Resource":"arn:aws:s3::b"`), legacyErrors},
		{with(`arn:aws:s3::b`), legacyErrors},
		{with(`arn:aws::::b`), legacyErrors},
		{with(`arn:aws::b`), legacyErrors},
		{condition(`{"DateGreaterThan":{"a":"sdfdsf"}}`), legacyErrors},
		{condition(`{"DateLessThanEquals":{"a":"234-13"}}`), legacyErrors},
		{condition(`{"DateLessThanEquals":{"a":"2016-12-13t2:00:00.593194+1"}}`), legacyErrors},
		{condition(`{"DateLessThan":{"a":"9223372036854775808"}}`), legacyErrors},
		{condition(`{"NumericEquals":{"a":"0x10"}}`), legacyErrors},
		{condition(`{"IpAddress":{"a":"10.0.0.0/33"}}`), legacyErrors},
		{condition(`{"Bool":{"a":"maybe"}}`), legacyErrors},
		{condition(`{"BinaryEquals":{"a":"%%"}}`), legacyErrors},
		{policyOf(`"Sid":"x",`+good, `"Sid":"x","Effect":"Allow"`), "Statement IDs (SID) in a single policy must be unique."},
		{statement(good + `,"Sid":"a b"`), "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"},
		{with(`invalid resource`), "Resource invalid resource" + arnForm},
		{with(``), "Resource " + arnForm},
		{statement(`"Effect":"Allow","Action":"s:3:x","Resource":"sdf"`), "Resource sdf" + arnForm},
		{with(`a:bsdfdsafsad`), `Partition "bsdfdsafsad" is not valid for resource "arn:bsdfdsafsad:*:*:*:*".`},
		{with(`a:b:c:d:e:f:g:h`), `Partition "b" is not valid for resource "arn:b:c:d:e:f:g:h".`},
		{with(`aws:s3:::b`), `Partition "s3" is not valid for resource "arn:s3:::b:*".`},
		{with(`arn:aws`), "Resource vendor must be fully qualified and cannot contain regexes."},
		{with(`arn:aws:iam:us-east-1::b`), "IAM resource arn:aws:iam:us-east-1::b cannot contain region information."},
		{with(`arn:aws:s3:us-east-1::b`), "Resource arn:aws:s3:us-east-1::b can not contain region information."},
		{with(`arn:aws:iam:::b`), `IAM resource path must either be "*" or start with user/, federated-user/, role/, group/, instance-profile/, mfa/, ` +
			`server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/.`},
		{statement(`"Effect":"Allow","Action":"invalid"`), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{statement(`"Effect":"Allow","NotAction":"","Resource":"*"`), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{statement(`"Effect":"Allow","Action":"a a:List","Resource":"*"`), "Vendor a a is not valid"},
		{statement(`"Effect":"Allow","Action":"s3:List:Bucket","Resource":"*"`), "Actions/Condition can contain only one colon."},
		{statement(`"Effect":"Allow"`), "Policy statement must contain actions."},
		{statement(`"Effect":"Allow","Action":[],"Resource":"*"`), "Policy statement must contain actions."},
		{statement(`"Effect":"Allow","Action":"s3:x"`), "Policy statement must contain resources."},
		{statement(`"Effect":"Allow","Action":"s3:x","Resource":[]`), "Policy statement must contain resources."},
		{statement(good + `,"Principal":"*"`), "Policy document should not specify a principal."},
		{strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100), syntaxErrors},
		{strings.Repeat(`[`, 1<<20), syntaxErrors},
		{"{\"Version\":\"2012-10-17\",\"Id\":\"\xff\"}", syntaxErrors},
	} {
		if _, err := Parse([]byte(tt.text), Identity); messageOf(err) != tt.want {
			t.Errorf("%.200s:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestParseTakes(t *testing.T) {
	for _, s := range []string{
		`"Effect":"Allow","Action":"s3:ListBucket","Resource":["arn:aws:s3:::b","*"]`,
		`"Effect":"Allow","Action":"*","Resource":"arn:aws:fdsasf"`,
		`"Effect":"Allow","Action":"iam: asdf safdsf af ","Resource":"arn:aws:iam:::user/x"`,
		`"Effect":"Allow","Action":"s3:x","Resource":"arn:aws:invalid-service:us-east-1::x"`,
		`"Effect":"Allow","Action":"s3:x","Resource":"*","Condition":{}`,
		`"Effect":"Allow","Action":"s3:x","Resource":"*","Condition":{"a":{}}`,
		`"Effect":"Allow","Action":"s3:x","Resource":"*","Condition":{"DateGreaterThan":{"a":[]}}`,
		`"Effect":"Allow","Action":"s3:x","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"s3:max-keys":10}}`,
		`"Effect":"Allow","Action":"s3:x","Resource":"arn:aws:s3:us-east-1:123456789012:accesspoint/x"`,
		`"Effect":"Allow","Action":"s3:x","Resource":"arn:aws:codebuild:*"`,
		`"Effect":"Allow","Action":"s3:x","Resource":"arn:aws*:s3:::b"`,
		`"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::${aws:PrincipalTag/team, 'none'}/*"`,
	} {
		mustParse(t, policyOf(s), Identity)
	}
}

func TestParseOtherKinds(t *testing.T) {
	const malformed = "Invalid principal in policy: "
	for _, tt := range []struct {
		kind       Kind
		text, want string
	}{
		{Trust, `"Effect":"Allow","Action":"sts:AssumeRole"`, "Missing required field Principal"},
		{Trust, `"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"`, "Has prohibited field Resource"},
		{Trust, `"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","NotResource":"*"`, "Has prohibited field NotResource"},
		{Trust, `"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"sts:AssumeRole"`, "Has prohibited field NotPrincipal"},
		{Trust, `"Effect":"Allow","Principal":"*","Action":"s3:GetObject"`, "AssumeRole policy may only specify STS AssumeRole actions."},
		{Trust, `"Effect":"Allow","Principal":"*","Action":"*"`, "AssumeRole policy may only specify STS AssumeRole actions."},
		{Trust, `"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/*"},"Action":"sts:AssumeRole"`,
			malformed + `"AWS":"arn:aws:iam::123456789012:user/*"`},
		{Trust, `"Effect":"Allow","Principal":{"Service":"nobody"},"Action":"sts:AssumeRole"`, malformed + `"Service":"nobody"`},
		{Trust, `"Effect":"Allow","Principal":{"Someone":"x"},"Action":"sts:AssumeRole"`, syntaxErrors},
		{Trust, `"Effect":"Allow","Principal":"alice","Action":"sts:AssumeRole"`, malformed + `"alice"`},
		{Trust, `"Effect":"Allow","Principal":{"AWS":["123456789012","arn:aws:iam::123456789012:root","AIDAALICEALICEALICE12"],` +
			`"Service":"ecs-tasks.amazonaws.com","Federated":["accounts.google.com","arn:aws:iam::123456789012:saml-provider/x"]},` +
			`"Action":["sts:AssumeRole","sts:TagSession"]`, ""},
		{Resource, `"Effect":"Allow","Principal":"*","Action":"s3:x"`, "Policy statement must contain resources."},
		{Resource, `"Effect":"Allow","Action":"s3:x","Resource":"*"`, "Missing required field Principal"},
		{Resource, `"Effect":"Allow","NotPrincipal":{"CanonicalUser":"` + strings.Repeat("ab", 32) + `"},"Action":"s3:x","Resource":"*"`, ""},
	} {
		_, err := Parse([]byte(policyOf(tt.text)), tt.kind)
		if tt.want == "" && err != nil || tt.want != "" && messageOf(err) != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
	mustParse(t, `{"Version":"2008-10-17","Id":"old","Statement":{"Sid":"with spaces","Effect":"Allow","Principal":"*","Action":"s3:x","Resource":"*"}}`, Resource)
}

// A syntax error says where it is and what.
func TestParseErrorTellsWhere(t *testing.T) {
	_, err := Parse([]byte("{\n \"Version\": \"2012-10-17\",\n \"Statement\": [{\"Effect\": \"Allow\", \"Actions\": \"s3:x\"}]\n}"), Identity)
	if err == nil || !strings.Contains(err.Error(), `line 3`) || !strings.Contains(err.Error(), `"Actions" is no element of a statement`) {
		t.Errorf("got %v", err)
	}
	_, err = Parse([]byte(`{"Version":"2012-10-17","Version":"2012-10-17"}`), Identity)
	if err == nil || !strings.Contains(err.Error(), `the key "Version" is there twice`) {
		t.Errorf("got %v", err)
	}
}

func TestContextKeys(t *testing.T) {
	d := mustParse(t, policyOf(
		`"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::${aws:username}/${*}","*"],"Condition":{"StringLike":{"s3:prefix":"${aws:userid}/*","AWS:UserName":"x"}}`,
		`"Effect":"Deny","Action":"*","NotResource":"*","Condition":{"Null":{"aws:TokenIssueTime":"true"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/${aws:PrincipalTag/Team, 'x'}"}}`), Identity)
	want := []string{"aws:PrincipalArn", "aws:PrincipalTag/Team", "aws:TokenIssueTime", "aws:userid", "aws:username", "s3:prefix"}
	if got := d.ContextKeys(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The first version of the language has no variables.
	d = mustParse(t, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::${aws:username}"}}`, Resource)
	if got := d.ContextKeys(); len(got) != 0 {
		t.Errorf("got %q from a policy without variables", got)
	}
}
