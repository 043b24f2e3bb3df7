package amazonagent

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/service/iam"
)

// apiCases are what the agent calls over HTTP.
var apiCases = map[string]func(*testing.T, *plane){
	"attributes come back with the same values": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(nil, object{"name": "stack", "value": "prod"}, object{"name": "rack", "value": ""}, object{"name": "flag"})
	},
	"the zone comes back": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		if zone := attributesOf(a.register(nil))["ecs.availability-zone"]; !strings.HasPrefix(zone, region) {
			t.Errorf("without a zone of its own the agent is in %q", zone)
		}
		b := p.newAgent(t, a.cluster)
		if zone := attributesOf(b.register(nil, object{"name": "ecs.availability-zone", "value": "us-east-1c"}))["ecs.availability-zone"]; zone != "us-east-1c" {
			t.Errorf("the agent's own zone came back as %q", zone)
		}
	},
	"unknown members are accepted": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(func(in object) { in["clientToken"], in["someLaterMember"] = "t", object{"x": []any{1, nil}} })
		out := a.ok("DiscoverPollEndpoint", object{"cluster": a.cluster, "containerInstance": a.arn, "zoneId": "use1-az1", "later": 1.5})
		for _, member := range []string{"endpoint", "telemetryEndpoint"} {
			if v, _ := out[member].(string); !strings.HasPrefix(v, "http") || strings.HasSuffix(v, "/") {
				t.Errorf("%s is %q", member, v)
			}
		}
	},
	"a retried registration makes one instance": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(nil)
		first := a.arn
		a.arn = "" // the answer was lost
		a.register(nil)
		if a.arn != first {
			t.Errorf("the agent is %s and %s", first, a.arn)
		}
	},
	"registration again by ARN": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(nil, object{"name": "stack", "value": "prod"})
		first := a.arn
		back := attributesOf(a.register(func(in object) { // custom attributes come but once; an upgrade announces more
			in["attributes"] = append(in["attributes"].([]any), object{"name": "ecs.capability.later"})
		}))
		if a.arn != first || back["stack"] != "prod" {
			t.Errorf("%s became %s, attributes %v", first, a.arn, back)
		}
		if _, ok := back["ecs.capability.later"]; !ok {
			t.Error("the new capability is not there")
		}
		a.register(nil)
		if got := attributesOf(a.register(nil)); got["ecs.capability.later"] != "" || len(got) != len(back)-1 {
			t.Errorf("a capability that is gone is still there: %d attributes, had %d", len(got), len(back))
		}
	},
	"errors decide whether the agent tries again": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		with := func(change func(object)) object { in := a.registration(); change(in); return in }
		// Exit 5: not to be restarted.
		a.fails("RegisterContainerInstance", with(func(in object) { in["totalResources"] = []any{} }), "InvalidParameterException")
		a.fails("RegisterContainerInstance", with(func(in object) {
			in["attributes"] = []any{object{"name": "a", "value": "1"}, object{"name": "a", "value": "2"}}
		}), "InvalidParameterException")
		// Exit 1, and for an empty cluster CreateCluster.
		a.fails("RegisterContainerInstance", with(func(in object) { in["cluster"] = "missing" }), "ClusterNotFoundException")
		b := p.joined(t, a.cluster)
		a.fails("RegisterContainerInstance", with(func(in object) { in["containerInstanceArn"] = b.arn }), "AccessDeniedException")
		a.register(nil)
		stolen := a.key
		a.key = iam.AccessKey{ID: "AKIAAAAAAAAAAAAAAAAA", Secret: stolen.Secret}
		a.fails("RegisterContainerInstance", a.registration(), "UnrecognizedClientException")
		a.key = iam.AccessKey{ID: stolen.ID, Secret: "wrong"}
		a.fails("RegisterContainerInstance", a.registration(), "InvalidSignatureException")
	},
	"reports are idempotent for a day": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		for range 3 {
			a.submit(arn, "RUNNING", running("main"))
		}
		before := p.task(t, a.cluster, arn)
		for range 3 {
			a.submit(arn, "STOPPED", stopped("main", 3))
		}
		a.submit(arn, "RUNNING", running("main")) // it was under way for long
		after := p.task(t, a.cluster, arn)
		if aws.ToString(before.LastStatus) != "RUNNING" || aws.ToString(after.LastStatus) != "STOPPED" || aws.ToInt32(after.Containers[0].ExitCode) != 3 {
			t.Errorf("RUNNING, STOPPED and RUNNING again is %s and %s with exit code %d", *before.LastStatus, *after.LastStatus, aws.ToInt32(after.Containers[0].ExitCode))
		}
		if after.PullStartedAt == nil || after.PullStoppedAt == nil || after.ExecutionStoppedAt == nil || len(after.Containers[0].NetworkBindings) != 1 {
			t.Errorf("times or ports are lost: %+v", after)
		}
		// A task that the control plane knows no more: the agent must be able to forget it.
		a.submit(arn[:len(arn)-4]+"ffff", "STOPPED", stopped("main", 0))
	},
	"a container twice in one report": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		a.submit(arn, "STOPPED", running("main"), stopped("main", 0))
		task := p.task(t, a.cluster, arn)
		c := task.Containers[0]
		if aws.ToString(task.LastStatus) != "STOPPED" || task.StopCode != types.TaskStopCodeEssentialContainerExited || c.ExitCode == nil || *c.ExitCode != 0 || len(c.NetworkBindings) != 1 {
			t.Errorf("%s %s, container %+v", *task.LastStatus, task.StopCode, c)
		}
	},
	"a report while images are pulled": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		a.submit(arn, "PENDING", object{"containerName": "main", "status": "MANIFEST_PULLED", "imageDigest": "sha256:abc"})
		if task := p.task(t, a.cluster, arn); *task.LastStatus != "PENDING" || aws.ToString(task.Containers[0].ImageDigest) != "sha256:abc" {
			t.Errorf("%s %+v", *task.LastStatus, task.Containers[0])
		}
	},
	"reports of containers and attachments": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		a.ok("SubmitContainerStateChange", object{"cluster": a.cluster, "task": arn, "containerName": "main", "status": "RUNNING", "networkBindings": []any{}})
		if got := *p.task(t, a.cluster, arn).Containers[0].LastStatus; got != "RUNNING" {
			t.Errorf("the container is %s", got)
		}
		gone := "arn:aws:ecs:us-east-1:000000000000:attachment/0b3a2bbd-5a02-4f5c-bd60-5a0d0e1f2c3b"
		out := a.ok("SubmitAttachmentStateChanges", object{"cluster": a.cluster, "attachments": []any{object{"attachmentArn": gone, "status": "ATTACHED"}}})
		if out["acknowledgment"] == "" {
			t.Error("the report is not acknowledged")
		}
	},
	"an interface is confirmed by the second form": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		// Such interfaces are only of our own agent yet; the form is the protocol's.
		back := attributesOf(a.register(nil, object{"name": "longshore.agent"}, object{"name": "ecs.capability.task-eni"}))
		a.acs()
		in := one(1, 10)
		in.NetworkMode = types.NetworkModeAwsvpc
		definition := p.define(t, in)
		out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &a.cluster, TaskDefinition: &definition,
			NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{back["ecs.subnet-id"]}}}})
		if err != nil || len(out.Tasks) != 1 {
			t.Fatalf("%+v %v", out, err)
		}
		arn := *out.Tasks[0].TaskArn
		s := a.acs()
		eni := s.payload()["elasticNetworkInterfaces"].([]any)[0].(object)
		for range 2 {
			a.ok("SubmitTaskStateChange", object{"cluster": a.cluster, "task": arn, "attachments": []any{object{"attachmentArn": eni["attachmentArn"], "status": "ATTACHED"}}})
		}
		task := p.task(t, a.cluster, arn)
		if got := aws.ToString(task.Attachments[0].Status); got != "ATTACHED" || *task.LastStatus != "PENDING" {
			t.Errorf("the interface is %s, the task %s", got, *task.LastStatus)
		}
	},
	"reports on what is not its own": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		b := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		b.fails("SubmitTaskStateChange", object{"cluster": a.cluster, "task": arn, "status": "STOPPED"}, "AccessDeniedException")
		b.fails("SubmitContainerStateChange", object{"cluster": a.cluster, "task": arn, "containerName": "main", "status": "STOPPED"}, "AccessDeniedException")
		b.fails("ListTagsForResource", object{"resourceArn": arn}, "AccessDeniedException")
		b.fails("DiscoverPollEndpoint", object{"cluster": a.cluster, "containerInstance": a.arn}, "AccessDeniedException")
		if got := *p.task(t, a.cluster, arn).DesiredStatus; got != "RUNNING" {
			t.Errorf("another node's report made the task %s", got)
		}
	},
	"tags of tasks and of the instance": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(func(in object) { in["tags"] = []any{object{"key": "team", "value": "a"}} })
		a.acs()
		definition := p.define(t, one(1, 10))
		out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &a.cluster, TaskDefinition: &definition, Tags: []types.Tag{{Key: aws.String("job"), Value: aws.String("b")}}})
		if err != nil || len(out.Tasks) != 1 {
			t.Fatalf("%v %s", err, failures(out))
		}
		for arn, key := range map[string]string{a.arn: "team", *out.Tasks[0].TaskArn: "job"} {
			tags := a.ok("ListTagsForResource", object{"resourceArn": arn})["tags"].([]any)
			if len(tags) != 1 || tags[0].(object)["key"] != key {
				t.Errorf("%s has tags %v", arn, tags)
			}
		}
	},
	"draining before its machine goes": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		a.ok("UpdateContainerInstancesState", object{"cluster": a.cluster, "containerInstances": []any{a.arn}, "status": "DRAINING"})
		if got := *p.instance(t, a.cluster, a.arn).Status; got != "DRAINING" {
			t.Errorf("the instance is %s", got)
		}
		if reason := p.tryRun(t, a.cluster, p.define(t, one(1, 10))); reason == "" {
			t.Error("a task was placed on a draining instance")
		}
	},
	"reasons have no end": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		a.ok("SubmitTaskStateChange", object{"cluster": a.cluster, "task": arn, "status": "STOPPED", "reason": strings.Repeat("é", 5000), "containers": []any{}})
		task := p.task(t, a.cluster, arn)
		if n := len([]rune(aws.ToString(task.StoppedReason))); n != 1024 || task.StopCode != types.TaskStopCodeTaskFailedToStart {
			t.Errorf("a reason of %d characters, %s", n, task.StopCode)
		}
	},
	"capacity is the agent's own": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t)) // 2048 CPU, 2000 MiB
		big := p.define(t, one(1000, 900))
		first, second := p.run(t, a.cluster, big), p.run(t, a.cluster, big)
		if reason := p.refused(t, a.cluster, big); !strings.HasPrefix(reason, "RESOURCE:") {
			t.Errorf("a third was refused for %s", reason)
		}
		a.submit(first, "RUNNING", running("main"))
		p.stopTask(t, a.cluster, first, "test")
		p.stopTask(t, a.cluster, second, "test")
		// Stopping, and still there: the agent would let a new one wait, and all after it.
		if reason := p.refused(t, a.cluster, big); !strings.HasPrefix(reason, "RESOURCE:") {
			t.Errorf("beside two that are stopping a third was refused for %s", reason)
		}
		a.submit(first, "STOPPED", stopped("main", 0))
		p.run(t, a.cluster, big)
		if reason := p.refused(t, a.cluster, big); !strings.HasPrefix(reason, "RESOURCE:") {
			t.Errorf("a fourth was refused for %s", reason)
		}
	},
	"fixed ports are the agent's own": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		port := func(n int32, protocol types.TransportProtocol) string {
			return p.define(t, one(1, 10, func(c *types.ContainerDefinition) {
				c.PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80), HostPort: &n, Protocol: protocol}}
			}))
		}
		if reason := p.refused(t, a.cluster, port(51678, "tcp")); reason != "RESOURCE:PORTS" {
			t.Errorf("the agent's own port: %s", reason)
		}
		web := port(8080, "tcp")
		first := p.run(t, a.cluster, web)
		if reason := p.refused(t, a.cluster, web); reason != "RESOURCE:PORTS" {
			t.Errorf("the port twice: %s", reason)
		}
		p.run(t, a.cluster, port(8080, "udp"))
		p.stopTask(t, a.cluster, first, "test")
		if reason := p.refused(t, a.cluster, web); reason != "RESOURCE:PORTS" {
			t.Errorf("the port of a task that is stopping: %s", reason)
		}
		a.submit(first, "STOPPED")
		p.run(t, a.cluster, web)
	},
	"no task that needs what is not there": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		for name, in := range map[string]*ecs.RegisterTaskDefinitionInput{
			"a log driver of others": one(1, 10, func(c *types.ContainerDefinition) {
				c.LogConfiguration = &types.LogConfiguration{LogDriver: "journald"}
			}),
			"a secret": one(1, 10, func(c *types.ContainerDefinition) {
				c.Secrets = []types.Secret{{Name: aws.String("S"), ValueFrom: aws.String("arn:aws:ssm:us-east-1:000000000000:parameter/s")}}
			}),
		} {
			in.ExecutionRoleArn = aws.String("arn:aws:iam::000000000000:role/r")
			if reason := p.refused(t, a.cluster, p.define(t, in)); reason != "ATTRIBUTE" {
				t.Errorf("%s: %s", name, reason)
			}
		}
	},
}

// tryRun runs a task and returns the reason of a refusal, "" for none.
func (p *plane) tryRun(t *testing.T, cluster, definition string) string {
	t.Helper()
	out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &cluster, TaskDefinition: &definition})
	switch {
	case err != nil:
		return code(err)
	case len(out.Failures) > 0:
		return aws.ToString(out.Failures[0].Reason)
	}
	return ""
}

func TestAmazonAgent(t *testing.T) {
	p := newPlane(t)
	for _, cases := range []map[string]func(*testing.T, *plane){apiCases, acsCases, tcsCases, payloadCases} {
		for name, run := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, p)
			})
		}
	}
}

// An agent with an empty ECS_CLUSTER uses default, and makes it where it is gone.
func TestAmazonAgentWithoutACluster(t *testing.T) {
	p := newPlane(t)
	a := p.newAgent(t, "default")
	a.register(nil)
	a.acs().close()
	if _, err := p.user().DeregisterContainerInstance(t.Context(), &ecs.DeregisterContainerInstanceInput{ContainerInstance: &a.arn}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.user().DeleteCluster(t.Context(), &ecs.DeleteClusterInput{Cluster: aws.String("default")}); err != nil {
		t.Fatal(err)
	}
	a.arn = ""
	a.fails("RegisterContainerInstance", a.registration(), "ClusterNotFoundException")
	if got := a.ok("CreateCluster", object{"clusterName": "default"})["cluster"].(object)["clusterName"]; got != "default" {
		t.Fatalf("the cluster is called %v", got)
	}
	a.fails("CreateCluster", object{"clusterName": "another"}, "AccessDeniedException")
	a.register(nil)
	a.acs().payloadless()
}

// payloadless expects the manifest of an instance without tasks.
func (s *socket) payloadless() {
	s.t.Helper()
	if m := s.expect("TaskManifestMessage"); len(m["tasks"].([]any)) != 0 {
		s.t.Errorf("the manifest names %v", m["tasks"])
	}
}

// An endpoint that DiscoverPollEndpoint gave is good for half a day, and longer
// where the call fails; what the server gave out must outlive it.
func TestAmazonAgentAcrossServerRestarts(t *testing.T) {
	p := newPlane(t)
	a := p.joined(t, p.cluster(t))
	target, telemetry := a.acsURL(true), a.tcsURL()
	arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
	s := a.acs()
	m := s.expect("PayloadMessage")
	s.ack(m)
	a.submit(arn, "RUNNING", running("main"))
	highest := m["seqNum"].(float64)
	for range 3 {
		socketsEnd := make(chan int, 1)
		go func() { socketsEnd <- int(s.ended()) }()
		p.restart()
		if code := <-socketsEnd; code != 1001 && code != -1 {
			t.Errorf("a stopping server closes with %d", code)
		}
		if got := p.instance(t, a.cluster, a.arn); got.AgentConnected {
			t.Error("the agent is connected before it has come back")
		}
		var status int
		var body object
		if s, status, body = a.handshake(target, a.key); s == nil {
			t.Fatalf("the endpoint from before the restart: %d %v", status, body)
		}
		manifest := s.expect("TaskManifestMessage")
		if n := manifest["timeline"].(float64); n <= highest {
			t.Fatalf("timeline %v after %v: the agent ignores it", n, highest)
		} else {
			highest = n
		}
		if tasks := manifest["tasks"].([]any); len(tasks) != 1 || tasks[0].(object)["taskArn"] != arn {
			t.Errorf("the manifest names %v", tasks)
		}
		if c, status, body := a.handshake(telemetry, a.key); c == nil {
			t.Fatalf("the telemetry endpoint from before the restart: %d %v", status, body)
		}
		if got := *p.task(t, a.cluster, arn).LastStatus; got != "RUNNING" {
			t.Errorf("the task is %s", got)
		}
	}
}
