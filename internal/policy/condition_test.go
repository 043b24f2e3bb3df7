package policy

import (
	"strings"
	"testing"
)

// Conditions one by one: whether a statement with them applies to a context.
func TestConditions(t *testing.T) {
	for _, tt := range []struct {
		condition string
		context   string // "key=value key=value"; "-" is an empty value
		want      bool
	}{
		{`{"StringEquals":{"aws:username":"alice"}}`, "aws:username=alice", true},
		{`{"StringEquals":{"AWS:UserName":["bob","alice"]}}`, "aws:username=alice", true},
		{`{"StringEquals":{"aws:username":"Alice"}}`, "aws:username=alice", false},
		{`{"StringEquals":{"aws:username":"al*"}}`, "aws:username=alice", false},
		{`{"StringEquals":{"aws:username":"alice"}}`, "", false},
		{`{"StringEqualsIfExists":{"aws:username":"alice"}}`, "", true},
		{`{"StringEqualsIfExists":{"aws:username":"alice"}}`, "aws:username=bob", false},
		{`{"StringEqualsIgnoreCase":{"aws:username":"ALICE"}}`, "aws:username=alice", true},
		{`{"StringNotEqualsIgnoreCase":{"aws:username":"ALICE"}}`, "aws:username=alice", false},
		{`{"StringNotEquals":{"aws:username":["alice","bob"]}}`, "aws:username=bob", false},
		{`{"StringNotEquals":{"aws:username":["alice","bob"]}}`, "aws:username=carol", true},
		{`{"StringNotEquals":{"aws:username":"alice"}}`, "", true},
		{`{"StringLike":{"s3:prefix":"home/*/x?"}}`, "s3:prefix=home/a:b/c/x1", true},
		{`{"StringLike":{"s3:prefix":"home/*/x?"}}`, "s3:prefix=home/a/x", false},
		{`{"StringLike":{"s3:prefix":"${*}${?}"}}`, "s3:prefix=*?", true},
		{`{"StringLike":{"s3:prefix":"${*}"}}`, "s3:prefix=ab", false},
		{`{"StringNotLike":{"s3:prefix":["a*","b*"]}}`, "s3:prefix=bx", false},
		{`{"StringNotLike":{"s3:prefix":["a*","b*"]}}`, "s3:prefix=cx", true},
		{`{"StringEquals":{"s3:prefix":"${aws:username}/"}}`, "aws:username=alice s3:prefix=alice/", true},
		{`{"StringLike":{"s3:prefix":"${aws:username}/*"}}`, "s3:prefix=/x", false},
		{`{"StringNotLike":{"s3:prefix":"${aws:username}/*"}}`, "s3:prefix=/x", true},
		{`{"StringLike":{"s3:prefix":"${aws:username, 'all'}/*"}}`, "s3:prefix=all/x", true},
		// What a variable brings in is no wildcard.
		{`{"StringLike":{"s3:prefix":"${aws:username}"}}`, "aws:username=* s3:prefix=bob", false},
		{`{"StringEqualsIgnoreCase":{"s3:prefix":"${aws:username}"}}`, "aws:username=Alice s3:prefix=aLICE", true},

		{`{"NumericLessThanEquals":{"s3:max-keys":"10"}}`, "s3:max-keys=10", true},
		{`{"NumericLessThan":{"s3:max-keys":10}}`, "s3:max-keys=10.5", false},
		{`{"NumericGreaterThan":{"s3:max-keys":["100","5"]}}`, "s3:max-keys=6", true},
		{`{"NumericGreaterThanEquals":{"s3:max-keys":"5"}}`, "s3:max-keys=4.99", false},
		{`{"NumericEquals":{"s3:max-keys":"5"}}`, "s3:max-keys=5.0", true},
		{`{"NumericEquals":{"s3:max-keys":"5"}}`, "s3:max-keys=five", false},
		{`{"NumericNotEquals":{"s3:max-keys":["5","6"]}}`, "s3:max-keys=6", false},
		{`{"NumericNotEquals":{"s3:max-keys":"5"}}`, "s3:max-keys=five", true},

		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-26T00:00:00Z"}}`, "aws:CurrentTime=2026-11-26T00:00:01Z", true},
		{`{"DateLessThan":{"aws:CurrentTime":"2026-11-26T02:00:00+02:00"}}`, "aws:CurrentTime=2026-11-26T00:00:00Z", false},
		{`{"DateEquals":{"aws:CurrentTime":"2026-11-26"}}`, "aws:CurrentTime=2026-11-26T00:00:00Z", true},
		{`{"DateLessThanEquals":{"aws:EpochTime":"1795651200"}}`, "aws:EpochTime=1795651200", true},
		{`{"DateGreaterThanEquals":{"aws:CurrentTime":"1795651201"}}`, "aws:CurrentTime=2026-11-26T00:00:00Z", false},
		{`{"DateNotEquals":{"aws:EpochTime":"2026"}}`, "aws:EpochTime=1", true},
		{`{"DateLessThan":{"aws:EpochTime":"9223372036854775807"}}`, "aws:EpochTime=1795651201", true},

		{`{"Bool":{"aws:SecureTransport":"True"}}`, "aws:SecureTransport=true", true},
		{`{"Bool":{"aws:SecureTransport":false}}`, "aws:SecureTransport=true", false},
		{`{"Bool":{"aws:SecureTransport":"false"}}`, "", false},
		{`{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}`, "", true},
		{`{"BinaryEquals":{"key":"QmluYXJ5VmFsdWVJbkJhc2U2NA=="}}`, "key=QmluYXJ5VmFsdWVJbkJhc2U2NA==", true},
		{`{"BinaryEquals":{"key":"QmluYXJ5"}}`, "key=QmluYXJ6", false},

		{`{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","2001:DB8:1234:5678::/64"]}}`, "aws:SourceIp=203.0.113.9", true},
		{`{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","2001:DB8:1234:5678::/64"]}}`, "aws:SourceIp=2001:db8:1234:5678::1", true},
		{`{"IpAddress":{"aws:SourceIp":"203.0.113.7"}}`, "aws:SourceIp=203.0.113.8", false},
		{`{"IpAddress":{"aws:SourceIp":"203.0.113.7/24"}}`, "aws:SourceIp=203.0.113.8", true},
		{`{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`, "aws:SourceIp=::ffff:203.0.113.8", true},
		{`{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`, "aws:SourceIp=nonsense", false},
		{`{"NotIpAddress":{"aws:SourceIp":["203.0.113.0/24","10.0.0.0/8"]}}`, "aws:SourceIp=10.1.2.3", false},
		{`{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`, "aws:SourceIp=192.0.2.1", true},
		{`{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`, "", true},

		{`{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:123456789012:t-?"}}`, "aws:SourceArn=arn:aws:sns:us-east-1:123456789012:t-1", true},
		{`{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:t"}}`, "aws:SourceArn=arn:aws:sns:us-east-1:123456789012:t", false},
		{`{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:*:*:*"}}`, "aws:SourceArn=arn:aws:ecs:us-east-1:123456789012:task-definition/f:1", true},
		{`{"ArnLike":{"aws:SourceArn":"arn:*"}}`, "aws:SourceArn=arn:aws:ecs:us-east-1:123456789012:x", true},
		{`{"ArnNotLike":{"aws:SourceArn":"arn:aws:ecs:*:*:*"}}`, "aws:SourceArn=arn:aws:sns:us-east-1:123456789012:x", true},
		{`{"ArnNotEquals":{"aws:SourceArn":"arn:aws:ecs:*:*:*"}}`, "", true},
		{`{"ArnEquals":{"a":"${aws:PrincipalArn}"}}`, "a=arn:aws:iam::1:user/x aws:PrincipalArn=arn:aws:iam::1:user/x", true},
		{`{"ArnEquals":{"a":"arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}"}}`, "a=arn:aws:iam::1:user/x aws:PrincipalAccount=1 aws:username=x", true},
		{`{"ArnLike":{"a":"*"}}`, "a=nothing", false},

		{`{"Null":{"aws:TokenIssueTime":"true"}}`, "", true},
		{`{"Null":{"aws:TokenIssueTime":"true"}}`, "aws:TokenIssueTime=2026-11-26T00:00:00Z", false},
		{`{"Null":{"aws:TokenIssueTime":"false"}}`, "aws:TokenIssueTime=2026-11-26T00:00:00Z", true},
		{`{"Null":{"aws:TagKeys":"false"}}`, "aws:TagKeys=-", false},

		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=a aws:TagKeys=b", true},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=a aws:TagKeys=c", false},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "", true},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=-", true},
		{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=c aws:TagKeys=d", true},
		{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=c aws:TagKeys=b", false},
		{`{"ForAnyValue:StringLike":{"aws:TagKeys":["a*"]}}`, "aws:TagKeys=x aws:TagKeys=ab", true},
		{`{"ForAnyValue:StringLike":{"aws:TagKeys":["a*"]}}`, "aws:TagKeys=x", false},
		{`{"ForAnyValue:StringLike":{"aws:TagKeys":["a*"]}}`, "", false},
		{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=a aws:TagKeys=c", true},
		{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, "aws:TagKeys=a aws:TagKeys=b", false},
		{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, "", false},
		{`{"ForAnyValue:StringEqualsIfExists":{"aws:TagKeys":["a"]}}`, "", true},

		// All keys of all operators have to hold.
		{`{"StringEquals":{"a":"1","b":"2"},"Bool":{"c":"true"}}`, "a=1 b=2 c=true", true},
		{`{"StringEquals":{"a":"1","b":"2"},"Bool":{"c":"true"}}`, "a=1 b=3 c=true", false},
		{`{"StringEquals":{"a":"1","b":"2"},"Bool":{"c":"true"}}`, "a=1 b=2 c=false", false},
		{`{"StringEquals":{"a":[]}}`, "a=1", false},
		{`{}`, "", true},
	} {
		doc := identity(t, `"Effect":"Allow","Action":"s3:x","Resource":"*","Condition":`+tt.condition)
		c := contextOf(strings.Fields(strings.ReplaceAll(tt.context, "=-", "="))...)
		got := Evaluate(NewRequest(alice, "s3:x", "*", c), &Policies{Identity: []Attached{doc}}).Allowed
		if got != tt.want {
			t.Errorf("%s with %s: got %t", tt.condition, tt.context, got)
		}
	}
}

// Variables belong to the second version of the language.
func TestVariablesNeedTheirVersion(t *testing.T) {
	text := `{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:x","Resource":"*","Condition":{"StringEquals":{"a":"${aws:username}"}}}}`
	p := &Policies{Resource: &Attached{Document: mustParse(t, text, Resource)}}
	for value, want := range map[string]bool{"alice": false, "${aws:username}": true} {
		if got := Evaluate(NewRequest(alice, "s3:x", "*", contextOf("aws:username=alice", "a="+value)), p).Allowed; got != want {
			t.Errorf("%s: got %t", value, got)
		}
	}
}

func TestResources(t *testing.T) {
	const cluster = "arn:aws:ecs:us-east-1:123456789012:cluster/prod"
	for _, tt := range []struct {
		pattern, resource string
		want              bool
	}{
		{"*", "*", true},
		{"*", cluster, true},
		{cluster, cluster, true},
		{cluster, "*", false},
		{cluster, cluster + "2", false},
		{"arn:aws:ecs:us-east-1:123456789012:CLUSTER/prod", cluster, false},
		{"arn:aws:ecs:*:123456789012:cluster/*", cluster, true},
		{"arn:aws:ecs:us-*-1:123456789012:cluster/*", cluster, true},
		{"arn:aws:ecs:*:*:*/prod", "arn:aws:ecs:a:b:c:d:cluster/prod", true}, // a * at a segment's end reaches over colons
		{"arn:aws:ecs:us*1:*:cluster/prod", cluster, true},
		{"arn:aws:ecs:us*2:*:cluster/prod", "arn:aws:ecs:us-east-1:2:cluster/prod", false}, // one within does not
		{"arn:aws:ecs:us-east-?:123456789012:cluster/pr?d", cluster, true},
		{"arn:aws:ecs:us-east-1:123456789012:cluster/p*d", cluster, true},
		{"arn:aws:logs:*:*:log-group:/a*b:*", "arn:aws:logs:eu-west-1:1:log-group:/a:x:b:log-stream:y", true},
		{"arn:aws:s3:::b/*/z", "arn:aws:s3:::b/x/y/z", true},
		{"arn:aws:s3:::b/*/z", "arn:aws:s3:::b/x/y/zz", false},
		{"arn:aws:s3:::b/é?z", "arn:aws:s3:::b/ééz", true},
		{"arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::home/alice/x", true},
		{"arn:aws:s3:::home/${aws:username}/*", "arn:aws:s3:::home/bob/x", false},
		{"arn:aws:s3:::home/${aws:userid}/*", "arn:aws:s3:::home//x", false},
		{"arn:aws:s3:::home/${aws:userid, 'public'}/*", "arn:aws:s3:::home/public/x", true},
		{"arn:aws:s3:::a${*}b", "arn:aws:s3:::a*b", true},
		{"arn:aws:s3:::a${*}b", "arn:aws:s3:::axb", false},
		{"arn:aws:s3:::${$}{x}", "arn:aws:s3:::${x}", true},
		{"arn:aws:ecs", cluster, true},
		{"arn:aws:s3:*", cluster, false},
	} {
		doc := identity(t, `"Effect":"Allow","Action":"s3:x","Resource":"`+tt.pattern+`"`)
		not := identity(t, `"Effect":"Allow","Action":"s3:x","NotResource":"`+tt.pattern+`"`)
		r := NewRequest(alice, "s3:x", tt.resource, contextOf("aws:username=alice"))
		if got := Evaluate(r, &Policies{Identity: []Attached{doc}}).Allowed; got != tt.want {
			t.Errorf("%s on %s: got %t", tt.pattern, tt.resource, got)
		}
		if got := Evaluate(r, &Policies{Identity: []Attached{not}}).Allowed; got == tt.want {
			t.Errorf("NotResource %s on %s: got %t", tt.pattern, tt.resource, got)
		}
	}
}

func TestActions(t *testing.T) {
	for _, tt := range []struct {
		actions, action string
		want            bool
	}{
		{`"*"`, "ecs:RunTask", true},
		{`"ecs:*"`, "ecs:RunTask", true},
		{`"ECS:runtask"`, "ecs:RunTask", true},
		{`"ecs:RunTasks"`, "ecs:RunTask", false},
		{`"ecs:Run*"`, "ecs:RunTask", true},
		{`"ecs:*Task"`, "ecs:RunTask", true},
		{`"ecs:?unTask"`, "ecs:RunTask", true},
		{`"ecs:Describe*"`, "ecs:RunTask", false},
		{`"e*:RunTask"`, "ecs:RunTask", true},
		{`"e*:RunTask"`, "ec2:RunTasks", false},
		{`"s3:*"`, "ecs:RunTask", false},
		{`["s3:*","logs:*","ecs:RunTask"]`, "ecs:RunTask", true},
	} {
		r := NewRequest(alice, tt.action, "*", nil)
		doc := identity(t, `"Effect":"Allow","Resource":"*","Action":`+tt.actions)
		if got := Evaluate(r, &Policies{Identity: []Attached{doc}}).Allowed; got != tt.want {
			t.Errorf("%s for %s: got %t", tt.actions, tt.action, got)
		}
		doc = identity(t, `"Effect":"Allow","Resource":"*","NotAction":`+tt.actions)
		if got := Evaluate(r, &Policies{Identity: []Attached{doc}}).Allowed; got == tt.want {
			t.Errorf("NotAction %s for %s: got %t", tt.actions, tt.action, got)
		}
	}
}
