package amazonagent

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/coder/websocket"
)

func (p *plane) deregister(t *testing.T, a *agent, force bool) {
	t.Helper()
	if _, err := p.user().DeregisterContainerInstance(t.Context(), &ecs.DeregisterContainerInstanceInput{Cluster: &a.cluster, ContainerInstance: &a.arn, Force: &force}); err != nil {
		t.Fatal(err)
	}
}

// refusedOn checks how both sockets refuse the agent.
func (a *agent) refusedOn(sockets map[string]string, code string, key func(*agent)) {
	a.t.Helper()
	good := a.key
	key(a)
	bad := a.key
	a.key = good
	for name, target := range sockets {
		s, status, body := a.handshake(target, bad)
		if s != nil {
			a.t.Errorf("%s: admitted", name)
			continue
		}
		message, _ := body["message"].(object)
		text, _ := message["message"].(string)
		if status == http.StatusSwitchingProtocols || body["type"] != code || text == "" {
			a.t.Errorf("%s: refused with %d %v, want %s with a message", name, status, body, code)
		}
	}
}

// acsCases are the assignments socket.
var acsCases = map[string]func(*testing.T, *plane){
	"both sockets refuse who is not registered": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		sockets := map[string]string{"acs": a.acsURL(true), "tcs": a.tcsURL()}
		same := func(*agent) {}
		a.refusedOn(sockets, "InvalidSignatureException", func(a *agent) { a.key.Secret = "wrong" })
		a.refusedOn(sockets, "UnrecognizedClientException", func(a *agent) { a.key.ID = "AKIAAAAAAAAAAAAAAAAA" })
		p.deregister(t, a, false)
		a.refusedOn(sockets, "InactiveInstanceException", same)
		unknown := a.arn[:len(a.arn)-4] + "0000"
		for name := range sockets {
			sockets[name] = strings.ReplaceAll(sockets[name], strings.ReplaceAll(strings.ReplaceAll(a.arn, ":", "%3A"), "/", "%2F"), strings.ReplaceAll(strings.ReplaceAll(unknown, ":", "%3A"), "/", "%2F"))
		}
		a.refusedOn(sockets, "InactiveInstanceException", same)
	},
	"a socket of another node's instance is refused": func(t *testing.T, p *plane) {
		a, b := p.joined(t, p.cluster(t)), p.joined(t, p.cluster(t))
		s := a.acs()
		s.payloadless()
		for _, target := range []string{a.acsURL(true), a.tcsURL()} {
			if c, status, body := b.handshake(target, b.key); c != nil || body["type"] == "" {
				t.Errorf("admitted, or refused without a reason: %d %v", status, body)
			}
		}
		if !p.instance(t, a.cluster, a.arn).AgentConnected {
			t.Error("a stranger's attempt disconnected the agent")
		}
		s.quiet()
	},
	"the cluster by its name or ARN": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		name := a.cluster
		for _, cluster := range []string{name, "arn:aws:ecs:us-east-1:000000000000:cluster/" + name} {
			a.cluster = cluster
			s := a.acs()
			m := s.expect("TaskManifestMessage")
			if m["clusterArn"] != "arn:aws:ecs:us-east-1:000000000000:cluster/"+name || m["containerInstanceArn"] != a.arn {
				t.Errorf("an agent in %s is told of %v, %v", cluster, m["clusterArn"], m["containerInstanceArn"])
			}
			s.close()
		}
	},
	"a start, its frames and their numbers": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		definition := p.define(t, one(1, 10))
		arns := []string{p.run(t, a.cluster, definition), p.run(t, a.cluster, definition)}
		s := a.acs()
		var last float64
		for _, arn := range arns {
			m := s.expect("PayloadMessage")
			for _, member := range []string{"messageId", "clusterArn", "containerInstanceArn"} {
				if v, _ := m[member].(string); v == "" {
					t.Errorf("a payload without %s", member)
				}
			}
			n, _ := m["seqNum"].(float64)
			if task := only(t, m); n <= last || task["arn"] != arn || task["desiredStatus"] != "RUNNING" {
				t.Errorf("payload %v after %v: %v", n, last, task)
			}
			last = n
			s.ack(m)
		}
		m := s.expect("TaskManifestMessage")
		if n, _ := m["timeline"].(float64); n <= last || m["messageId"] == "" {
			t.Errorf("the manifest's timeline %v is not above the payloads' %v", n, last)
		}
		listed := map[string]bool{}
		for _, x := range m["tasks"].([]any) {
			k := x.(object)
			listed[k["taskArn"].(string)] = k["desiredStatus"] == "RUNNING" && k["taskClusterArn"] == m["clusterArn"]
		}
		if len(listed) != 2 || !listed[arns[0]] || !listed[arns[1]] {
			t.Errorf("the manifest lists %v", m["tasks"])
		}
		s.ack(m)
		s.quiet()
	},
	"a stop names the task and nothing more": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		s := a.acs()
		s.payload()
		s.ack(s.expect("TaskManifestMessage"))
		a.submit(arn, "RUNNING", running("main"))
		p.stopTask(t, a.cluster, arn, "enough")
		task := s.payload()
		delete(task, "taskClusterArn")
		if len(task) != 2 || task["arn"] != arn || task["desiredStatus"] != "STOPPED" {
			t.Errorf("the stop is %v", task)
		}
		a.submit(arn, "STOPPED", stopped("main", 143))
		if got := p.task(t, a.cluster, arn); got.StopCode != types.TaskStopCodeUserInitiated || *got.StoppedReason != "enough" || aws.ToInt32(got.Containers[0].ExitCode) != 143 {
			t.Errorf("the task ended with %s %s", got.StopCode, *got.StoppedReason)
		}
	},
	"stops come before starts": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		big := p.define(t, one(1, 900))
		first, second := p.run(t, a.cluster, big), p.run(t, a.cluster, p.define(t, one(1, 10)))
		a.submit(first, "RUNNING", running("main"))
		third := p.run(t, a.cluster, big)
		p.stopTask(t, a.cluster, first, "x") // the oldest is to stop, two are to start
		s := a.acs()
		var got []string
		for range 3 {
			task := s.payload()
			got = append(got, task["desiredStatus"].(string)+" "+task["arn"].(string))
		}
		if want := []string{"STOPPED " + first, "RUNNING " + second, "RUNNING " + third}; strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("came %v, want %v", got, want)
		}
	},
	"what was reported is not sent again": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		definition := p.define(t, one(1, 10))
		known, lost := p.run(t, a.cluster, definition), p.run(t, a.cluster, definition)
		s := a.acs()
		s.payload()
		s.payload()
		a.submit(known, "RUNNING", running("main"))
		s.close() // before the second was written to the agent's disk
		s = a.acs()
		if task := s.payload(); task["arn"] != lost {
			t.Errorf("again came %v", task["arn"])
		}
		if m := s.expect("TaskManifestMessage"); len(m["tasks"].([]any)) != 2 {
			t.Errorf("the manifest names %v", m["tasks"])
		}
	},
	"an invalid task is refused by a report": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		definition := p.define(t, one(1, 10))
		bad, good := p.run(t, a.cluster, definition), p.run(t, a.cluster, definition)
		s := a.acs()
		if m := s.expect("PayloadMessage"); only(t, m)["arn"] != bad { // and no acknowledgement
			t.Fatal("another task came first")
		}
		if task := s.payload(); task["arn"] != good {
			t.Errorf("the next is %v", task["arn"])
		}
		a.ok("SubmitTaskStateChange", object{"cluster": a.cluster, "task": bad, "status": "STOPPED", "reason": "UnrecognizedTaskError: Error loading task - json: cannot unmarshal"})
		s.expect("TaskManifestMessage")
		task := p.task(t, a.cluster, bad)
		if *task.LastStatus != "STOPPED" || task.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.Contains(*task.StoppedReason, "UnrecognizedTaskError") {
			t.Errorf("the task is %s: %s %s", *task.LastStatus, task.StopCode, aws.ToString(task.StoppedReason))
		}
		s.close()
		s = a.acs()
		if task := s.payload(); task["arn"] != good {
			t.Errorf("after a reconnection came %v", task["arn"])
		}
		s.expect("TaskManifestMessage")
		s.quiet()
	},
	"extras are verified before they stop": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		ghost := arn[:len(arn)-4] + "dead"
		s := a.acs()
		s.payload()
		m := s.expect("TaskManifestMessage")
		s.ack(m)
		candidates := []any{object{"taskArn": ghost, "taskClusterArn": m["clusterArn"], "desiredStatus": "STOPPED"},
			object{"taskArn": arn, "taskClusterArn": m["clusterArn"], "desiredStatus": "STOPPED"}}
		s.send("TaskStopVerificationMessage", object{"messageId": "another", "stopCandidates": candidates})
		s.send("TaskStopVerificationMessage", object{"messageId": m["messageId"], "stopCandidates": candidates})
		answer := s.expect("TaskStopVerificationAck")
		tasks, _ := answer["stopTasks"].([]any)
		if answer["messageId"] != m["messageId"] || len(tasks) != 1 || tasks[0].(object)["taskArn"] != ghost || tasks[0].(object)["desiredStatus"] != "STOPPED" {
			t.Errorf("confirmed was %v", answer)
		}
	},
	"roles' credentials come with the task, and again with a session": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		name := "roled-" + a.cluster
		role := p.role(t, name)
		in := one(1, 10)
		in.TaskRoleArn, in.ExecutionRoleArn = &role, &role
		arn := p.run(t, a.cluster, p.define(t, in))
		s := a.acs()
		task := s.payload()
		first := map[string]object{"TaskApplication": task["roleCredentials"].(object), "TaskExecution": task["executionRoleCredentials"].(object)}
		for kind, c := range first {
			if c["roleArn"] != role || c["credentialsId"] == "" || c["accessKeyId"] == "" || c["secretAccessKey"] == "" || c["sessionToken"] == "" || c["expiration"] == "" {
				t.Errorf("%s has %v", kind, c)
			}
		}
		env := task["containers"].([]any)[0].(object)["environment"].(object)
		if env["AWS_ENDPOINT_URL"] != p.endpoint() {
			t.Errorf("the container is told of the endpoint %v", env["AWS_ENDPOINT_URL"])
		}
		s.expect("TaskManifestMessage")
		a.submit(arn, "RUNNING", running("main"))
		s.close()
		// An agent that begins has forgotten them, and says so.
		s = a.acs()
		s.expect("TaskManifestMessage")
		for range first {
			m := s.expect("IAMRoleCredentialsMessage")
			kind, c := m["roleType"].(string), m["roleCredentials"].(object)
			if m["taskArn"] != arn || c["credentialsId"] != first[kind]["credentialsId"] || c["accessKeyId"] == first[kind]["accessKeyId"] {
				t.Errorf("%s was renewed by %v, after %v", kind, m, first[kind])
			}
			s.send("IAMRoleCredentialsAckRequest", object{"messageId": m["messageId"], "credentialsId": c["credentialsId"], "expiration": c["expiration"]})
		}
	},
	"sendCredentials either way": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		for _, send := range []bool{true, false} {
			s, status, body := a.handshake(a.acsURL(send), a.key)
			if s == nil {
				t.Fatalf("%v: %d %v", send, status, body)
			}
			task := s.payload() // it has no roles
			if task["arn"] != arn || task["roleCredentials"] != nil || task["executionRoleCredentials"] != nil {
				t.Errorf("%v: the task has credentials: %v", send, task)
			}
			s.send("IAMRoleCredentialsAckRequest", object{"messageId": "m", "credentialsId": "c", "expiration": "2030-01-01T00:00:00Z"})
			s.expect("TaskManifestMessage")
			s.quiet()
		}
	},
	"unknown messages are ignored": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		s := a.acs()
		s.payloadless()
		s.send("SomeLaterMessage", object{"x": 1})
		s.send("NackRequest", object{"cluster": "c", "containerInstance": "i", "messageId": "m", "reason": "Cannot update"})
		s.send("AckRequest", object{"messageId": "never sent"})
		s.raw([]byte("garbage"))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		if task := s.payload(); task["arn"] != arn {
			t.Errorf("after that came %v", task)
		}
	},
	"its presence follows its sessions": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(nil)
		connected := func() bool { return p.instance(t, a.cluster, a.arn).AgentConnected }
		if connected() {
			t.Error("connected before it opened a session")
		}
		first := a.acs()
		first.payloadless()
		if !connected() {
			t.Error("not connected with a session")
		}
		second := a.acs() // the first one's connection is half-open
		if code := first.ended(); code != websocket.StatusPolicyViolation {
			t.Errorf("the earlier session ended with %d", code)
		}
		second.payloadless()
		if !connected() {
			t.Error("the earlier session's end disconnected the agent")
		}
		second.close()
		eventually(t, "the agent is disconnected", func() bool { return !connected() })
		if v := p.instance(t, a.cluster, a.arn).VersionInfo; v == nil || aws.ToString(v.AgentVersion) != "1.105.0" || !strings.Contains(aws.ToString(v.DockerVersion), "20.10") {
			t.Errorf("its version is %+v", v)
		}
	},
	"deregistered while it is connected": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		s := a.acs()
		s.payload()
		a.submit(arn, "RUNNING", running("main"))
		target := a.acsURL(true)
		p.deregister(t, a, true)
		if code := s.ended(); code != websocket.StatusNormalClosure {
			t.Errorf("the session ended with %d", code)
		}
		a.refusedOn(map[string]string{"acs": target}, "InactiveInstanceException", func(*agent) {})
		a.submit(arn, "STOPPED", stopped("main", 137)) // late, and harmless
		if got := *p.task(t, a.cluster, arn).LastStatus; got != "STOPPED" {
			t.Errorf("its task is %s", got)
		}
	},
	"a window of unacknowledged payloads": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(func(in object) {
			in["totalResources"] = []any{object{"name": "CPU", "type": "INTEGER", "integerValue": 100000}, object{"name": "MEMORY", "type": "INTEGER", "integerValue": 100000}}
		})
		a.acs()
		definition := p.define(t, one(1, 10))
		for range 8 {
			out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &a.cluster, TaskDefinition: &definition, Count: aws.Int32(10)})
			if err != nil || len(out.Tasks) != 10 {
				t.Fatalf("%+v %v", out, err)
			}
		}
		s := a.acs()
		seen, held := map[any]bool{}, []object{}
		for len(seen) < 80 {
			m := s.expect("PayloadMessage")
			seen[only(t, m)["arn"]] = true
			if held = append(held, m); len(held) == 16 { // acknowledgements come late, and in another order
				for i := range held {
					s.ack(held[len(held)-1-i])
				}
				held = nil
			}
		}
		if m := s.expect("TaskManifestMessage"); len(m["tasks"].([]any)) != 80 {
			t.Errorf("the manifest names %d tasks", len(m["tasks"].([]any)))
		}
	},
	"a flood of frames": func(t *testing.T, p *plane) {
		a, b := p.joined(t, p.cluster(t)), p.joined(t, p.cluster(t))
		flood, calm := a.acs(), b.acs()
		flood.payloadless()
		calm.payloadless()
		big := []byte(`{"type":"AckRequest","message":{"messageId":"` + strings.Repeat("x", 1<<20) + `"}}`)
		for i := range 3000 {
			if i%300 == 0 {
				flood.raw(big)
			} else {
				flood.send("AckRequest", object{"messageId": "nothing"})
			}
		}
		definition := p.define(t, one(1, 10))
		for s, x := range map[*socket]*agent{flood: a, calm: b} {
			arn := p.run(t, x.cluster, definition)
			if task := s.payload(); task["arn"] != arn {
				t.Errorf("came %v", task)
			}
		}
	},
	"frames over 2 MiB end the session": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		for _, s := range []*socket{a.acs(), a.tcs()} {
			s.raw([]byte(strings.Repeat("x", 2<<20+2)))
			if code := s.ended(); code != websocket.StatusMessageTooBig {
				t.Errorf("closed with %d", code)
			}
		}
		a.acs().payloadless()
	},
}
