package control

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/wire/sigv4"
)

// furnish makes one thing of each kind in the account of c, called name.
func (a *arena) furnish(c sigv4.Credentials, account, name string) {
	a.t.Helper()
	type in = map[string]any
	role := "arn:aws:iam::" + account + ":role/" + name
	policy := "arn:aws:iam::" + account + ":policy/" + name
	jsonTags, queryTags := []any{in{"key": "canary", "value": "canary-" + account}}, []any{in{"Key": "canary", "Value": "canary-" + account}}
	trust := *document(trusts(`"AWS":"`+account+`"`, ""))
	for _, step := range []struct {
		service, name string
		in            in
	}{
		{"ecs", "CreateCluster", in{"clusterName": name, "tags": jsonTags}},
		{"ecs", "RegisterContainerInstance", in{"cluster": name, "tags": jsonTags, "totalResources": []any{
			in{"name": "CPU", "type": "INTEGER", "integerValue": 1024}, in{"name": "MEMORY", "type": "INTEGER", "integerValue": 1024},
		}}},
		{"ecs", "RegisterTaskDefinition", in{"family": name, "tags": jsonTags, "containerDefinitions": []any{in{"name": name, "image": "x", "memory": 64}}}},
		{"logs", "CreateLogGroup", in{"logGroupName": name, "tags": in{"canary": "canary-" + account}}},
		{"logs", "CreateLogStream", in{"logGroupName": name, "logStreamName": name}},
		{"logs", "PutLogEvents", in{"logGroupName": name, "logStreamName": name, "logEvents": []any{in{"timestamp": a.now().UnixMilli(), "message": "canary-" + account}}}},
		{"iam", "CreateUser", in{"UserName": name, "Tags": queryTags}},
		{"iam", "CreateGroup", in{"GroupName": name}},
		{"iam", "CreateRole", in{"RoleName": name, "AssumeRolePolicyDocument": trust, "Description": "canary-" + account, "Tags": queryTags}},
		{"iam", "CreatePolicy", in{"PolicyName": name, "PolicyDocument": *document(may("s3:canary-" + account)), "Tags": queryTags}},
		{"iam", "CreateInstanceProfile", in{"InstanceProfileName": name, "Tags": queryTags}},
		{"iam", "AddRoleToInstanceProfile", in{"InstanceProfileName": name, "RoleName": name}},
		{"iam", "AttachUserPolicy", in{"UserName": name, "PolicyArn": policy}},
		{"iam", "PutRolePermissionsBoundary", in{"RoleName": name, "PermissionsBoundary": policy}},
		{"ecs", "RegisterTaskDefinition", in{"family": name, "taskRoleArn": role, "containerDefinitions": []any{in{"name": name, "image": "x", "memory": 64}}}},
	} {
		if got := a.call(target{service: step.service, name: step.name}, c, step.in); got.status != 200 {
			a.t.Fatalf("%s: %v", step.name, got)
		}
	}
}

// arnsOf are the ARNs of what furnish made, by kind.
func (a *arena) arnsOf(c sigv4.Credentials, account, name string) map[string]string {
	a.t.Helper()
	var instances struct{ ContainerInstanceArns []string }
	got := a.call(target{service: "ecs", name: "ListContainerInstances"}, c, map[string]any{"cluster": name})
	if err := json.Unmarshal([]byte(got.body), &instances); err != nil || len(instances.ContainerInstanceArns) != 1 {
		a.t.Fatal(got)
	}
	ecs, iam := "arn:aws:ecs:"+testRegion+":"+account+":", "arn:aws:iam::"+account+":"
	return map[string]string{
		"cluster": ecs + "cluster/" + name, "instance": instances.ContainerInstanceArns[0], "definition": ecs + "task-definition/" + name + ":1",
		"task": ecs + "task/" + name + "/" + strings.Repeat("0", 32),
		"user": iam + "user/" + name, "group": iam + "group/" + name, "role": iam + "role/" + name, "policy": iam + "policy/" + name,
		"profile": iam + "instance-profile/" + name, "root": iam + "root",
		"logs": "arn:aws:logs:" + testRegion + ":" + account + ":log-group:" + name,
	}
}

// everythingOf is all that an account holds, as its root user sees it.
func (a *arena) everythingOf(c sigv4.Credentials, name string) string {
	a.t.Helper()
	var all strings.Builder
	type in = map[string]any
	arns := a.arnsOf(c, theirs, name)
	for _, look := range []struct {
		service, name string
		in            in
	}{
		{"ecs", "DescribeClusters", in{"clusters": []string{name}, "include": []string{"TAGS", "SETTINGS"}}},
		{"ecs", "DescribeContainerInstances", in{"cluster": name, "containerInstances": []string{arns["instance"]}, "include": []string{"TAGS"}}},
		{"ecs", "ListTasks", in{"cluster": name}},
		{"ecs", "ListTaskDefinitions", in{}},
		{"ecs", "ListAttributes", in{"cluster": name, "targetType": "container-instance"}},
		{"ecs", "ListAccountSettings", in{}},
		{"ecs", "DescribeTaskDefinition", in{"taskDefinition": name, "include": []string{"TAGS"}}},
		{"iam", "GetAccountAuthorizationDetails", in{}},
		{"iam", "ListInstanceProfiles", in{}},
		{"iam", "ListAccountAliases", in{}},
		{"iam", "ListAccessKeys", in{"UserName": name}},
		{"iam", "ListPolicyTags", in{"PolicyArn": arns["policy"]}},
		{"logs", "DescribeLogGroups", in{}},
		{"logs", "DescribeLogStreams", in{"logGroupName": name}},
		{"logs", "GetLogEvents", in{"logGroupName": name, "logStreamName": name}},
		{"logs", "ListTagsForResource", in{"resourceArn": arns["logs"]}},
	} {
		got := a.call(target{service: look.service, name: look.name}, c, look.in)
		if got.status != 200 {
			a.t.Fatalf("%s: %v", look.name, got)
		}
		all.WriteString(requestID.ReplaceAllString(got.body, "") + "\n")
	}
	return all.String()
}

// requestID is what differs in any two answers: ids, tokens.
var requestID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|"next(Forward|Backward)Token":"[^"]*"`)

// identifies tells whether a member can name something, so that a strange ARN belongs in it.
var identifies = regexp.MustCompile(`(?i)(arn|cluster|task|instance|definition|resource|role|policy|user|group|identifier|boundary|family|profile|name|principal)s?$`)

// An ARN of another account opens nothing in any member of any operation, for a root
// user and for an administrator; it changes nothing there; and an answer does not tell
// whether there is such a thing.
func TestAnotherAccountsARNs(t *testing.T) {
	a := newArena(t)
	a.furnish(a.root, testAccount, "plausible")
	a.furnish(a.stranger, theirs, "victim")
	admin := a.user("admin", may("*"))
	before := a.everythingOf(a.stranger, "victim")
	there, nowhere := a.arnsOf(a.stranger, theirs, "victim"), map[string]string{}
	for kind, arn := range there {
		if kind != "root" {
			nowhere[kind] = strings.ReplaceAll(arn, "victim", "nobody")
		}
	}
	nowhere["instance"] = there["instance"][:strings.LastIndexByte(there["instance"], '/')+1] + strings.Repeat("0", 32)
	for _, o := range a.targets() {
		for _, leaf := range o.leaves() {
			if !identifies.MatchString(memberOf(leaf)) || memberOf(leaf) == "name" {
				continue
			}
			for kind, arn := range there {
				if !fits(kind, leaf) {
					continue
				}
				for who, c := range map[string]sigv4.Credentials{"root": a.root, "an administrator": admin} {
					aimed := func(arn string) reply {
						return a.call(o, c, o.aimed(leaf, arn))
					}
					got := aimed(arn)
					if strings.Contains(got.body, "canary-"+theirs) {
						t.Errorf("%s shows %s what is another account's, with its %s in %s: %v", o, who, kind, leaf, got)
					}
					if got.status >= 500 {
						t.Errorf("%s with %s in %s: %v", o, kind, leaf, got)
					}
					other, ok := nowhere[kind]
					if !ok {
						continue
					}
					if missing := aimed(other); missing.status != got.status || normal(missing, other, arn) != normal(got, arn, arn) {
						t.Errorf("%s tells %s whether another account has a %s, in %s:\n%v\n%v", o, who, kind, leaf, got, missing)
					}
				}
			}
		}
	}
	if after := a.everythingOf(a.stranger, "victim"); after != before {
		t.Errorf("another account's things have changed:\n%s\n%s", before, after)
	}
	a.calm()
}

// fits tells whether an ARN of a kind is worth a try at a leaf: one of what the member is
// named after, or any where the name tells nothing.
func fits(kind, leaf string) bool {
	name := memberOf(leaf)
	for _, k := range []string{"cluster", "instance", "definition", "task", "user", "group", "role", "policy", "profile", "log"} {
		if strings.Contains(name, k) {
			return strings.HasPrefix(kind, k) || k == "policy" && strings.Contains(name, "source") || k == "group" && strings.Contains(name, "log") && kind == "logs"
		}
	}
	return true
}

// normal is an answer without what differs in any two, and without what was asked for.
func normal(r reply, asked, instead string) string {
	body := strings.ReplaceAll(requestID.ReplaceAllString(r.body, ""), asked, instead)
	return strings.ReplaceAll(strings.ReplaceAll(body, "nobody", "victim"), strings.Repeat("0", 32), "")
}

// aimed is an input that names something of ours wherever it must, and arn at leaf.
func (o target) aimed(leaf, arn string) map[string]any {
	return o.with(func(path string) string {
		switch name := memberOf(path); {
		case path == leaf:
			return arn
		case name == "nexttoken", name == "marker":
			return omitted
		case o.service == "logs" && (leaf == "logGroupName" && path == "logGroupIdentifier" || leaf != "logGroupName" && path == "logGroupName"):
			return omitted // one of both
		case name == "value" && o.service == "ecs":
			return "enabled"
		}
		return ""
	})
}
