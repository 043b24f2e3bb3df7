package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/acs"
	"longshore.dev/longshore/internal/join"
	"longshore.dev/longshore/internal/node"
	"longshore.dev/longshore/internal/wire/sigv4"
)

// theft has a victim, a node with a task that logs, and a thief: another node of the
// same server, whose key is in the wrong hands.
type theft struct {
	*running
	victim, thief  node.Credentials
	instance, task string // the victim's ARNs
}

func steal(t *testing.T) *theft {
	r := serve(t, "off")
	s := &theft{running: r}
	for _, c := range []*node.Credentials{&s.victim, &s.thief} {
		joined, err := node.Join(within(t, time.Minute), joinOptions(t, r.Endpoint(), r.token(TokenOptions{}).Text))
		if err != nil {
			t.Fatal(err)
		}
		*c = joined
		in := registration("default")
		for _, name := range []string{"com.amazonaws.ecs.capability.logging-driver.awslogs", "ecs.capability.logging-driver.awslogs-create-group", "ecs.capability.execution-role-awslogs"} {
			in.Attributes = append(in.Attributes, types.Attribute{Name: aws.String(name)})
		}
		for minor := range 45 {
			in.Attributes = append(in.Attributes, types.Attribute{Name: aws.String(fmt.Sprintf("com.amazonaws.ecs.capability.docker-remote-api.1.%d", minor))})
		}
		out, err := r.as(joined).RegisterContainerInstance(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if s.instance == "" {
			s.instance = aws.ToString(out.ContainerInstance.ContainerInstanceArn)
		}
	}
	session, err := s.dial("acs", s.victim, s.instance)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	root := r.as(node.Credentials{AccessKeyID: r.Access().AccessKeyID, SecretAccessKey: r.Access().SecretAccessKey})
	_, err = root.RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String("main"), Image: aws.String("longshore/sample"), Memory: aws.Int32(64),
			LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{
				"awslogs-group": "/victim", "awslogs-region": testRegion, "awslogs-stream-prefix": "web", "awslogs-create-group": "true",
			}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	run, err := root.RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String("web")})
	if err != nil || len(run.Tasks) != 1 || aws.ToString(run.Tasks[0].ContainerInstanceArn) != s.instance {
		t.Fatalf("%v %+v", err, run)
	}
	s.task = aws.ToString(run.Tasks[0].TaskArn)
	return s
}

func signer(c node.Credentials) acs.Signer {
	return func(r *http.Request, body []byte) error {
		return sigv4.Sign(r, sigv4.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}, testRegion, "ecs", sigv4.Hash(body), time.Now())
	}
}

func (s *theft) dial(kind string, c node.Credentials, instance string) (*acs.Client, error) {
	query := url.Values{"clusterArn": {"default"}, "containerInstanceArn": {instance}, "cluster": {"default"}, "containerInstance": {instance}, "agentVersion": {"1"}}
	return acs.Dial(within(s.t, 10*time.Second), s.Endpoint()+"/_longshore/"+kind, query, signer(c), http.DefaultClient)
}

// call makes one call of an awsJson service with a key, and returns code and message.
func (s *theft) call(c node.Credentials, service, target string, body []byte) (code, message string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.Endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	keys := sigv4.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
	if err := sigv4.Sign(r, keys, testRegion, service, sigv4.Hash(body), time.Now()); err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var fault struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if response.StatusCode != http.StatusOK {
		if err := json.Unmarshal(raw, &fault); err != nil {
			s.t.Fatalf("%s: %s", target, raw)
		}
	}
	return fault.Type[strings.LastIndexByte(fault.Type, '#')+1:], fault.Message
}

// everything is a body that names an instance and a task wherever an operation of
// ECS or CloudWatch Logs might look.
func everything(instance, task string) map[string]any {
	release := "arn:aws:ecs:" + testRegion + ":" + testAccount + ":service-deployment/default/svc/0123456789abcdefghijk"
	id := task[strings.LastIndexByte(task, '/')+1:]
	return map[string]any{
		"cluster": "default", "clusters": []string{"default"}, "clusterName": "other",
		"containerInstance": instance, "containerInstances": []string{instance}, "containerInstanceArn": instance,
		"task": task, "tasks": []string{task}, "taskDefinition": "web:1", "taskDefinitions": []string{"web:1"}, "family": "web",
		"containerName": "main", "status": "DRAINING", "reason": "stolen",
		"containerDefinitions": []any{map[string]any{"name": "main", "image": "x", "memory": 64}},
		"totalResources":       []any{map[string]any{"name": "CPU", "type": "INTEGER", "integerValue": 1}, map[string]any{"name": "MEMORY", "type": "INTEGER", "integerValue": 1}},
		"attributes":           []any{map[string]any{"name": "a", "value": "b", "targetType": "container-instance", "targetId": instance}}, "targetType": "container-instance",
		"attachments": []any{map[string]any{"attachmentArn": task, "status": "ATTACHED"}},
		"resourceArn": task, "tags": []any{map[string]any{"key": "k", "value": "v"}}, "tagKeys": []string{"k"},
		"name": "serviceLongArnFormat", "value": "enabled", "settings": []any{map[string]any{"name": "containerInsights", "value": "disabled"}},
		"capacityProviders": []string{"FARGATE"}, "defaultCapacityProviderStrategy": []any{map[string]any{"capacityProvider": "FARGATE"}},
		"force": true, "service": "svc", "services": []string{"svc"}, "serviceName": "svc", "desiredCount": 1,
		"protectionEnabled": true, "hookId": "h", "serviceDeploymentArn": release, "serviceDeploymentArns": []string{release}, "serviceRevisionArns": []string{strings.Replace(release, "deployment", "revision", 1)},

		"logGroupName": "/victim", "logStreamName": "web/main/" + id, "logEvents": []any{map[string]any{"timestamp": time.Now().UnixMilli(), "message": "forged"}},
		"retentionInDays": 1, "filterName": "f", "filterPattern": "", "destinationArn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
		"metricTransformations": []any{map[string]any{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}},
		"queryString":           "fields @message", "startTime": 1, "endTime": 2, "queryId": "q", "logGroupIdentifier": "/victim",
	}
}

func body(t *testing.T, change map[string]any, instance, task string) []byte {
	t.Helper()
	all := everything(instance, task)
	for k, v := range change {
		all[k] = v
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestAStolenKeyOpensNothingElse makes every call that is served with the key of
// one node on what is another's. An operation that is added is in it by itself.
func TestAStolenKeyOpensNothingElse(t *testing.T) {
	s := steal(t)
	root := s.as(node.Credentials{AccessKeyID: s.Access().AccessKeyID, SecretAccessKey: s.Access().SecretAccessKey})
	see := func() (seen [2]any) {
		tasks, err := root.DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{s.task}, Include: []types.TaskField{types.TaskFieldTags}})
		instances, err2 := root.DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{s.instance}})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return [2]any{tasks.Tasks, instances.ContainerInstances}
	}
	before := see()
	const nobody = "00000000000000000000000000000000"
	noInstance := s.instance[:strings.LastIndexByte(s.instance, '/')+1] + nobody
	noTask := s.task[:strings.LastIndexByte(s.task, '/')+1] + nobody
	// What the members of everything are called otherwise in some operations.
	change := map[string]map[string]any{
		"ecs ListTaskDefinitionFamilies": {"status": "ALL"}, "ecs ListTaskDefinitions": {"status": "ACTIVE"},
		"ecs ListServiceDeployments": {"status": []string{"PENDING"}},
		"logs CreateLogGroup":        {"tags": map[string]string{"k": "v"}}, "logs TagResource": {"tags": map[string]string{"k": "v"}},
		"logs TagLogGroup": {"tags": map[string]string{"k": "v"}}, "logs UntagLogGroup": {"tags": []string{"k"}},
		"logs PutLogGroupDeletionProtection": {"deletionProtectionEnabled": true},
	}
	// These answer for what is not there (any more), so that agents forget it: ids are
	// 128 random bits, which nobody guesses.
	forgotten := []string{"SubmitTaskStateChange", "SubmitContainerStateChange"}
	made := 0
	for service, prefix := range map[string]string{"ecs": "AmazonEC2ContainerServiceV20141113.", "logs": "Logs_20140328."} {
		for _, operation := range s.registry.Operations(service) {
			made++
			code, message := s.call(s.thief, service, prefix+operation, body(t, change[service+" "+operation], s.instance, s.task))
			if operation == "SubmitAttachmentStateChanges" {
				if code != "" { // it is told nothing, and nothing happens: see below
					t.Errorf("%s: %s %s", operation, code, message)
				}
				continue
			}
			if code != "AccessDeniedException" {
				t.Errorf("%s of the victim's: %q %s", operation, code, message)
				continue
			}
			if slices.Contains(forgotten, operation) {
				continue
			}
			code, other := s.call(s.thief, service, prefix+operation, body(t, change[service+" "+operation], noInstance, noTask))
			for _, ids := range [][2]string{{noInstance, s.instance}, {noTask, s.task}, {nobody, s.task[strings.LastIndexByte(s.task, '/')+1:]}} {
				other = strings.ReplaceAll(other, ids[0], ids[1])
			}
			if code != "AccessDeniedException" || other != message {
				t.Errorf("%s tells what is there from what is not:\n%s\n%s %s", operation, message, code, other)
			}
		}
	}
	if made < 50 {
		t.Errorf("only %d operations were tried", made)
	}
	if after := see(); !reflect.DeepEqual(before, after) {
		t.Errorf("something was changed:\n%+v\n%+v", before, after)
	}
	s.sockets(noInstance)
	s.ownersPaths()
}

// sockets: neither websocket opens on another's instance, and both say the same of
// one that is not there.
func (s *theft) sockets(noInstance string) {
	for _, kind := range []string{"acs", "tcs"} {
		var told []string
		for _, instance := range []string{s.instance, noInstance} {
			client, err := s.dial(kind, s.thief, instance)
			if err == nil {
				client.Close()
				s.t.Fatalf("%s opened on %s", kind, instance)
			}
			var refused *acs.RefusedError
			if !errors.As(err, &refused) {
				s.t.Fatalf("%s on %s: %v", kind, instance, err)
			}
			told = append(told, refused.Code+refused.Message)
		}
		if told[0] != told[1] {
			s.t.Errorf("%s tells another's instance from none: %q", kind, told)
		}
	}
	// The region is part of who one is.
	in := registration("default")
	client := ecs.New(ecs.Options{Region: "us-west-2", BaseEndpoint: aws.String(s.Endpoint()), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.thief.AccessKeyID, SecretAccessKey: s.thief.SecretAccessKey}, nil
		})})
	if _, err := client.RegisterContainerInstance(context.Background(), in); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		s.t.Errorf("the node registered in another region than it joined: %v", err)
	}
}

// ownersPaths: a node is not the owner, nor is who signs with nothing.
func (s *theft) ownersPaths() {
	for _, p := range []struct{ method, path string }{
		{"POST", tokensPath}, {"GET", tokensPath}, {"DELETE", tokensPath + "/0123456789abcdef"},
		{"GET", nodesPath}, {"DELETE", nodesPath + "/" + s.victim.NodeID}, {"DELETE", nodesPath + "/i-00000000000000000"},
	} {
		for _, signed := range []bool{true, false} {
			text := `{"lifeSeconds":60,"uses":1}`
			r, err := http.NewRequest(p.method, s.Endpoint()+p.path, strings.NewReader(text))
			if err != nil {
				s.t.Fatal(err)
			}
			want := "MissingAuthenticationTokenException"
			if signed {
				want = "AccessDeniedException"
				if err := signer(s.thief)(r, []byte(text)); err != nil {
					s.t.Fatal(err)
				}
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				s.t.Fatal(err)
			}
			raw, err := io.ReadAll(io.LimitReader(response.Body, join.MaxBody))
			response.Body.Close()
			if err != nil || response.StatusCode == http.StatusOK || !bytes.Contains(raw, []byte(want)) {
				s.t.Errorf("%s %s, signed %v: %s %s %v", p.method, p.path, signed, response.Status, raw, err)
			}
		}
	}
}
