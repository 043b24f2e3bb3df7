package control

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	logsapi "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	ecsapi "github.com/aws/aws-sdk-go-v2/service/ecs"
	elbapi "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	iamapi "github.com/aws/aws-sdk-go-v2/service/iam"
	stsapi "github.com/aws/aws-sdk-go-v2/service/sts"

	"longshore.dev/longshore/internal/service/iam"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// The attacks call every operation that is registered, so that one that is added is
// attacked from its first day. The SDK knows what an operation takes.
var attacked = map[string]struct {
	client  reflect.Type
	target  string // of X-Amz-Target; empty for awsQuery
	version string
	signing string // in the credential scope, where that is not the service's name
}{
	"ecs":   {client: reflect.TypeFor[*ecsapi.Client](), target: "AmazonEC2ContainerServiceV20141113."},
	"logs":  {client: reflect.TypeFor[*logsapi.Client](), target: "Logs_20140328."},
	"iam":   {client: reflect.TypeFor[*iamapi.Client](), version: "2010-05-08"},
	"sts":   {client: reflect.TypeFor[*stsapi.Client](), version: "2011-06-15"},
	"elbv2": {client: reflect.TypeFor[*elbapi.Client](), version: "2015-12-01", signing: "elasticloadbalancing"},
}

// arena is a server with two accounts.
type arena struct {
	*running
	client *http.Client
	// root is of testAccount, stranger of theirs: both root users.
	root, stranger sigv4.Credentials
}

func newArena(t *testing.T) *arena {
	t.Helper()
	r := serve(t, "off", func(c *Config) { none := 0.0; c.RequestRates = &none })
	key, err := r.iam.EnsureRoot(t.Context(), theirs, iam.AccessKey{})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	t.Cleanup(transport.CloseIdleConnections)
	return &arena{
		running: r, client: &http.Client{Transport: transport, Timeout: time.Minute},
		root:     sigv4.Credentials{AccessKeyID: r.Access().AccessKeyID, SecretAccessKey: r.Access().SecretAccessKey},
		stranger: sigv4.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret},
	}
}

// target is an operation under attack.
type target struct {
	service, name string
	input         reflect.Type
}

func (o target) scope() string { return cmp.Or(attacked[o.service].signing, o.service) }

func (o target) String() string { return o.service + ":" + o.name }

// targets are all that the server serves.
func (a *arena) targets() (all []target) {
	a.t.Helper()
	for _, service := range a.registry.Services() {
		api, ok := attacked[service]
		if !ok {
			a.t.Fatalf("nobody attacks %s: tell the attacks of its SDK", service)
		}
		for _, name := range a.registry.Operations(service) {
			m, ok := api.client.MethodByName(name)
			if !ok {
				a.t.Fatalf("the SDK has no %s %s", service, name)
			}
			all = append(all, target{service, name, m.Type.In(2).Elem()})
		}
	}
	if len(all) < 140 {
		a.t.Errorf("only %d operations are attacked", len(all))
	}
	return all
}

// pick chooses the value of the string at a path ("overrides.containerOverrides.0.name");
// "" leaves it to plausible, omitted leaves it out.
type pick func(path string) string

const omitted = "(omitted)"

// with is what an operation takes, one element in each list, in its wire form; enums have
// their first value. What rules other members out is left out.
func (o target) with(choose pick) map[string]any {
	return o.members(o.input, "", choose, misfits[o.String()])
}

// everything is all that it takes.
func (o target) everything(choose pick) map[string]any { return o.members(o.input, "", choose, nil) }

// misfits are members that rule others out, or that are not served.
var misfits = map[string][]string{
	"ecs:RunTask": {
		"capacityProviderStrategy", "networkConfiguration", "volumeConfigurations", "placementConstraints", "placementStrategy",
		"platformVersion", "referenceId", "overrides.inferenceAcceleratorOverrides", "overrides.cpu", "overrides.memory",
	},
	"ecs:StartTask": {
		"networkConfiguration", "volumeConfigurations", "referenceId", "overrides.inferenceAcceleratorOverrides", "overrides.cpu", "overrides.memory",
	},
	"ecs:RegisterTaskDefinition":  {"inferenceAccelerators", "proxyConfiguration", "ephemeralStorage", "volumes", "placementConstraints", "cpu", "memory", "containerDefinitions.0.dnsServers"},
	"ecs:CreateService":           unservedOfServices,
	"ecs:UpdateService":           unservedOfServices,
	"ecs:UpdateCluster":           {"configuration", "serviceConnectDefaults"},
	"ecs:SubmitTaskStateChange":   {"attachments", "managedAgents"},
	"elbv2:CreateLoadBalancer":    {"CustomerOwnedIpv4Pool", "IpamPools", "SubnetMappings"},
	"elbv2:CreateListener":        {"DefaultActions.0.RedirectConfig", "DefaultActions.0.FixedResponseConfig", "DefaultActions.0.AuthenticateCognitoConfig", "DefaultActions.0.AuthenticateOidcConfig", "DefaultActions.0.JwtValidationConfig"},
	"elbv2:ModifyListener":        {"DefaultActions.0.RedirectConfig", "DefaultActions.0.FixedResponseConfig", "DefaultActions.0.AuthenticateCognitoConfig", "DefaultActions.0.AuthenticateOidcConfig", "DefaultActions.0.JwtValidationConfig"},
	"elbv2:CreateRule":            {"Actions.0.RedirectConfig", "Actions.0.FixedResponseConfig", "Actions.0.AuthenticateCognitoConfig", "Actions.0.AuthenticateOidcConfig", "Actions.0.JwtValidationConfig"},
	"elbv2:ModifyRule":            {"Actions.0.RedirectConfig", "Actions.0.FixedResponseConfig", "Actions.0.AuthenticateCognitoConfig", "Actions.0.AuthenticateOidcConfig", "Actions.0.JwtValidationConfig"},
	"iam:SimulateCustomPolicy":    {"ResourceHandlingOption", "ResourcePolicy", "PermissionsBoundaryPolicyInputList", "OrderedOrganizationPolicyInputList"},
	"iam:SimulatePrincipalPolicy": {"ResourceHandlingOption", "ResourcePolicy", "PermissionsBoundaryPolicyInputList", "OrderedOrganizationPolicyInputList"},
	"logs:DescribeLogGroups":      {"logGroupNamePattern", "logGroupNamePrefix"},
	"logs:PutLogEvents":           {"entity"},
}

var unservedOfServices = []string{
	"loadBalancers", "serviceRegistries", "volumeConfigurations", "vpcLatticeConfigurations", "gatewayConnectors", "monitoring", "role",
	"deploymentConfiguration.lifecycleHooks", "deploymentConfiguration.linearConfiguration", "deploymentConfiguration.canaryConfiguration",
	"deploymentConfiguration.earlySuccessCriteria", "deploymentConfiguration.bakeTimeInMinutes", "serviceConnectConfiguration",
}

// around is what with gives, and the member that a leaf is of, if with leaves that out.
func (o target) around(leaf string, choose pick) map[string]any {
	without := slices.DeleteFunc(slices.Clone(misfits[o.String()]), func(path string) bool { return path == leaf || strings.HasPrefix(leaf, path+".") })
	return o.members(o.input, "", choose, without)
}

func (o target) members(t reflect.Type, path string, choose pick, without []string) map[string]any {
	all := map[string]any{}
	for f := range fieldsOf(t) {
		name := f.Name
		if attacked[o.service].target != "" {
			name = strings.ToLower(name[:1]) + name[1:]
		}
		if slices.Contains(without, path+name) {
			continue
		}
		if v := o.value(f.Type, path+name, choose, without); v != nil {
			all[name] = v
		}
	}
	return all
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Name != "ResultMetadata" && !yield(f) {
				return
			}
		}
	}
}

func (o target) value(t reflect.Type, path string, choose pick, without []string) any {
	if strings.Count(path, ".") > 12 {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return o.value(t.Elem(), path, choose, without)
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return 1
		}
		return o.members(t, path+".", choose, without)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "AA=="
		}
		if v := o.value(t.Elem(), path+".0", choose, without); v != nil {
			return []any{v}
		}
	case reflect.Map:
		if v := o.value(t.Elem(), path+".k", choose, without); v != nil {
			return map[string]any{"k": v, "l": v}
		}
	case reflect.String:
		switch v := choose(path); v {
		case omitted:
			return nil
		case "":
		default:
			return v
		}
		if m, ok := t.MethodByName("Values"); ok {
			return m.Func.Call([]reflect.Value{reflect.Zero(t)})[0].Index(0).String()
		}
		return plausible(path)
	case reflect.Bool:
		return false
	case reflect.Int32, reflect.Int64, reflect.Float64:
		return number(path)
	}
	return nil
}

// plausible is a string that passes the constraints of AWS's models.
func plausible(path string) string {
	switch name := memberOf(path); {
	case name == "assumerolepolicydocument":
		return *document(trusts(accountOfOurs, ""))
	case strings.Contains(name, "policydocument"), name == "policyinputlist", name == "policy":
		return *document(may("s3:GetObject"))
	case strings.HasSuffix(name, "arn"), strings.HasSuffix(name, "arns"), name == "permissionsboundary":
		return "arn:aws:iam::" + testAccount + ":role/plausible"
	case name == "path", name == "newpath", name == "pathprefix":
		return "/plausible/"
	case name == "accesskeyid":
		return "AKIAPLAUSIBLE0000000"
	case name == "versionid":
		return "v1"
	case name == "accountidentifiers":
		return testAccount
	case name == "actionnames":
		return "iam:CreateUser"
	case name == "tokencode":
		return "123456"
	}
	return "plausible"
}

// number passes them too.
func number(path string) int {
	switch memberOf(path) {
	case "durationseconds", "maxsessionduration":
		return 3600
	case "minimumpasswordlength":
		return 8
	case "resolutionseconds":
		return 60
	case "healthcheckintervalseconds", "healthchecktimeoutseconds", "healthythresholdcount", "unhealthythresholdcount":
		return 5
	}
	return 1
}

// memberOf is the last member's name on a path, in lower case.
func memberOf(path string) string {
	path = strings.TrimSuffix(path, ".0")
	return strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
}

// leaves are the paths of all strings that an operation takes.
func (o target) leaves() []string { return o.leavesOf(o.everything) }

func (o target) leavesOf(input func(pick) map[string]any) (all []string) {
	input(func(path string) string { all = append(all, path); return "" })
	return all
}

// invalid stands for bytes that are no UTF-8.
const invalid = "(invalid)"

// body encodes an input in the protocol of the service.
func (o target) body(t testing.TB, in map[string]any) []byte {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if version := attacked[o.service].version; version != "" {
		form := url.Values{"Action": {o.name}, "Version": {version}}
		flatten(form, "", in)
		raw = []byte(form.Encode())
		return bytes.ReplaceAll(raw, []byte(url.QueryEscape(invalid)), []byte("%FF%C0%80"))
	}
	return bytes.ReplaceAll(raw, []byte(invalid), []byte("\xff\xc0\x80"))
}

func flatten(form url.Values, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(form, strings.TrimPrefix(prefix+"."+k, "."), e)
		}
	case []any:
		for i, e := range v {
			flatten(form, fmt.Sprintf("%s.member.%d", prefix, i+1), e)
		}
	default:
		form.Set(prefix, fmt.Sprint(v))
	}
}

// request is one of an operation, not signed yet.
func (a *arena) request(o target, body []byte) *http.Request {
	a.t.Helper()
	r, err := http.NewRequest(http.MethodPost, a.Endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if prefix := attacked[o.service].target; prefix != "" {
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", prefix+o.name)
	}
	return r
}

func (a *arena) sign(r *http.Request, c sigv4.Credentials, service string, body []byte) {
	a.t.Helper()
	if err := sigv4.Sign(r, c, testRegion, service, sigv4.Hash(body), time.Now()); err != nil {
		a.t.Fatal(err)
	}
}

// reply is what the server answered.
type reply struct {
	status        int
	code, message string // of a refusal
	body          string
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s: %.300s", r.status, r.code, cmp.Or(r.message, r.body))
}

var xmlFault = regexp.MustCompile(`(?s)<Code>(.*?)</Code>\s*<Message>(.*?)</Message>`)

func (a *arena) send(r *http.Request) reply {
	a.t.Helper()
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	answer := reply{status: response.StatusCode, body: string(raw)}
	if answer.status == http.StatusOK {
		return answer
	}
	var fault struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if m := xmlFault.FindStringSubmatch(answer.body); m != nil {
		answer.code, answer.message = m[1], m[2]
	} else if json.Unmarshal(raw, &fault) == nil {
		answer.code, answer.message = fault.Type[strings.LastIndexByte(fault.Type, '#')+1:], fault.Message
	}
	return answer
}

// call makes one call with credentials.
func (a *arena) call(o target, c sigv4.Credentials, in map[string]any) reply {
	a.t.Helper()
	body := o.body(a.t, in)
	r := a.request(o, body)
	a.sign(r, c, o.scope(), body)
	return a.send(r)
}

// calm holds what the server logged against panics and failures of its own.
func (a *arena) calm() {
	a.t.Helper()
	a.stop()
	for line := range strings.Lines(a.log.String()) {
		if strings.Contains(line, "panicked") || strings.Contains(line, "request failed") {
			a.t.Errorf("the server says: %.2000s", line)
		}
	}
}

// user makes a user with these statements and a key.
func (a *arena) user(name, statements string) sigv4.Credentials {
	a.t.Helper()
	made, err := a.owner().CreateUser(a.t.Context(), UserOptions{Name: name, Document: *document(statements)})
	if err != nil {
		a.t.Fatal(err)
	}
	return sigv4.Credentials{AccessKeyID: made.AccessKeyID, SecretAccessKey: made.SecretAccessKey}
}
