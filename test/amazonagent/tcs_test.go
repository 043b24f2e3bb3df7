package amazonagent

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/coder/websocket"
)

func seconds() float64 { return float64(time.Now().UnixMilli()) / 1000 }

func (a *agent) metadata(more object) object {
	m := object{"cluster": a.cluster, "containerInstance": a.arn, "messageId": "11111111-2222-3333-4444-555555555555", "idle": false, "fin": true}
	for k, v := range more {
		m[k] = v
	}
	return m
}

// containerMetric is one as the agent measures it, with sets beyond 63 bits.
func containerMetric(name string) object {
	set := object{"min": 0.5, "max": 99.25, "sum": 199.5, "sampleCount": 4}
	counter := object{"min": 0, "max": int64(1<<63 - 1), "sum": int64(1<<63 - 1), "sampleCount": 4, "overflowMax": 12, "overflowSum": 7}
	return object{
		"containerName": name, "cpuStatsSet": set, "memoryStatsSet": set, "restartStatsSet": object{"restartCount": 2},
		"networkStatsSet": object{"rxBytes": counter, "rxDropped": counter, "rxErrors": counter, "rxPackets": counter, "rxBytesPerSecond": set,
			"txBytes": counter, "txDropped": counter, "txErrors": counter, "txPackets": counter, "txBytesPerSecond": set},
		"storageStatsSet": object{"readSizeBytes": counter, "writeSizeBytes": counter},
	}
}

// tcsCases are the telemetry socket.
var tcsCases = map[string]func(*testing.T, *plane){
	"measurements by pages": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		arn := p.run(t, a.cluster, p.define(t, one(1, 10)))
		s := a.tcs()
		for page := range 3 {
			m := object{"metadata": a.metadata(object{"fin": page == 2}), "timestamp": seconds(), "taskMetrics": []any{object{
				"taskArn": arn, "taskDefinitionFamily": "f", "taskDefinitionVersion": "1", "containerMetrics": []any{containerMetric("main")},
				"volumeMetrics": []any{object{"volumeId": "vol-1", "volumeName": "v", "utilized": object{}, "size": object{}}}, "ephemeralStorageMetrics": nil,
			}}}
			if page == 0 {
				m["instanceMetrics"] = object{"storage": object{"dataFilesystem": 12.5}}
			}
			if got := s.publish("PublishMetricsRequest", m); got != "AckPublishMetric" {
				t.Errorf("page %d was answered with %s", page, got)
			}
		}
	},
	"an idle instance": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		s := a.tcs()
		if got := s.publish("PublishMetricsRequest", object{"metadata": a.metadata(object{"idle": true}), "timestamp": seconds(), "taskMetrics": []any{}}); got != "AckPublishMetric" {
			t.Errorf("answered with %s", got)
		}
	},
	"health of containers": func(t *testing.T, p *plane) {
		a, b := p.joined(t, p.cluster(t)), p.joined(t, p.cluster(t))
		checked := one(1, 10, func(c *types.ContainerDefinition) {
			c.HealthCheck = &types.HealthCheck{Command: []string{"CMD-SHELL", "true"}}
		})
		arn := p.run(t, a.cluster, p.define(t, checked))
		a.submit(arn, "RUNNING", running("main"))
		says := func(s *socket, status string) {
			t.Helper()
			got := s.publish("PublishHealthRequest", object{"metadata": s.agent.metadata(nil), "timestamp": seconds(), "tasks": []any{
				object{"taskArn": arn, "taskDefinitionFamily": "f", "taskDefinitionVersion": "1", "containers": []any{
					object{"containerName": "main", "healthStatus": status, "statusSince": seconds(), "statusMessage": "exit 1"}, object{"containerName": "nobody", "healthStatus": status}}},
				object{"taskArn": "not an ARN", "containers": []any{}},
			}})
			if got != "AckPublishHealth" {
				t.Errorf("answered with %s", got)
			}
		}
		own := a.tcs()
		for _, status := range []types.HealthStatus{"UNKNOWN", "HEALTHY", "UNHEALTHY", "HEALTHY"} {
			says(own, string(status))
			if task := p.task(t, a.cluster, arn); task.HealthStatus != status || task.Containers[0].HealthStatus != status {
				t.Errorf("after %s the task is %s", status, task.HealthStatus)
			}
		}
		says(b.tcs(), "UNHEALTHY") // another node's opinion
		if got := p.task(t, a.cluster, arn).HealthStatus; got != "HEALTHY" {
			t.Errorf("another node made the task %s", got)
		}
	},
	"health of the instance": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		a.acs().payloadless()
		s := a.tcs()
		for _, status := range []types.InstanceHealthCheckState{"OK", "IMPAIRED"} {
			got := s.publish("PublishInstanceStatusRequest", object{"metadata": a.metadata(object{"requestId": "r"}), "timestamp": seconds(), "statuses": []any{
				object{"type": "ContainerRuntime", "status": status, "lastUpdated": seconds(), "lastStatusChange": seconds()}}})
			if got != "AckPublishInstanceStatus" {
				t.Errorf("answered with %s", got)
			}
			if h := p.instance(t, a.cluster, a.arn).HealthStatus; h == nil || h.OverallStatus != status || len(h.Details) != 1 || h.Details[0].LastStatusChange == nil {
				t.Errorf("after %s: %+v", status, h)
			}
		}
	},
	"a frame's signature covers its body": func(t *testing.T, p *plane) {
		a, b := p.joined(t, p.cluster(t)), p.joined(t, p.cluster(t))
		body := []byte(`{"type":"PublishMetricsRequest","message":{"metadata":{"idle":true}}}`)
		for name, frame := range map[string]func(*socket) []byte{
			"another body":   func(s *socket) []byte { return bytes.Replace(s.signed(a.key, body), []byte("true"), []byte("null"), 1) },
			"another's key":  func(s *socket) []byte { return s.signed(b.key, body) },
			"the root's key": func(s *socket) []byte { return s.signed(root, body) },
			"a wrong secret": func(s *socket) []byte { k := a.key; k.Secret = "x"; return s.signed(k, body) },
			"no headers":     func(*socket) []byte { return body },
			"no blank line": func(s *socket) []byte {
				return bytes.Replace(s.signed(a.key, body), []byte("\r\n\r\n"), []byte("\r\n"), 1)
			},
			"line feeds only": func(s *socket) []byte { return bytes.ReplaceAll(s.signed(a.key, body), []byte("\r\n"), []byte("\n")) },
			"nothing":         func(*socket) []byte { return nil },
			"signed garbage":  func(s *socket) []byte { return s.signed(a.key, []byte("}{")) },
			"signed wrong types": func(s *socket) []byte {
				return s.signed(a.key, []byte(`{"type":"PublishHealthRequest","message":{"tasks":"all"}}`))
			},
		} {
			s := a.tcs()
			s.raw(frame(s))
			if code := s.ended(); code != websocket.StatusPolicyViolation {
				t.Errorf("%s: closed with %d", name, code)
			}
		}
	},
	"a blank line inside the JSON": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		s := a.tcs()
		body := []byte("{\"type\":\"PublishMetricsRequest\",\r\n\r\n\"message\":{\"metadata\":{\"messageId\":\"a\",\"idle\":true,\"fin\":true}}}")
		if !json.Valid(body) {
			t.Fatal("the body is no JSON")
		}
		s.raw(s.signed(a.key, body))
		s.expect("AckPublishMetric")
	},
	"telemetry of unknown types is ignored": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		s := a.tcs()
		s.raw(s.signed(a.key, []byte(`{"type":"StartTelemetrySessionRequest","message":{"cluster":"c"}}`)))
		if got := s.publish("PublishHealthRequest", object{"metadata": a.metadata(nil), "tasks": []any{}}); got != "AckPublishHealth" {
			t.Errorf("answered with %s", got)
		}
	},
	"a frame of a megabyte": func(t *testing.T, p *plane) {
		a := p.joined(t, p.cluster(t))
		s := a.tcs()
		var tasks []any
		for range 10 {
			var containers []any
			for range 80 {
				containers = append(containers, containerMetric(strings.Repeat("c", 200)))
			}
			tasks = append(tasks, object{"taskArn": "arn:aws:ecs:us-east-1:000000000000:task/c/" + strings.Repeat("0", 32), "containerMetrics": containers})
		}
		if got := s.publish("PublishMetricsRequest", object{"metadata": a.metadata(nil), "timestamp": seconds(), "taskMetrics": tasks}); got != "AckPublishMetric" {
			t.Errorf("answered with %s", got)
		}
	},
	"telemetry alone is no presence": func(t *testing.T, p *plane) {
		a := p.newAgent(t, p.cluster(t))
		a.register(nil)
		s := a.tcs()
		s.publish("PublishHealthRequest", object{"metadata": a.metadata(nil), "tasks": []any{}})
		if p.instance(t, a.cluster, a.arn).AgentConnected {
			t.Error("the agent counts as connected")
		}
		p.deregister(t, a, false)
		body := []byte(`{"type":"PublishHealthRequest","message":{"tasks":[]}}`)
		s.raw(s.signed(a.key, body))
		if code := s.ended(); code != websocket.StatusNormalClosure {
			t.Errorf("deregistered, and closed with %d", code)
		}
	},
}

// payloadCases are what a task definition becomes.
var payloadCases = map[string]func(*testing.T, *plane){
	"host mode is said to Docker": func(t *testing.T, p *plane) {
		in := one(1, 10, func(c *types.ContainerDefinition) {
			c.PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(81)}}
		})
		in.NetworkMode = types.NetworkModeHost
		task, _, host := p.sent(t, in)
		port := task["containers"].([]any)[0].(object)["portMappings"].([]any)[0].(object)
		if task["networkMode"] != "host" || host["NetworkMode"] != "host" || port["hostPort"] != 81.0 || port["containerPort"] != 81.0 {
			t.Errorf("network mode %v, Docker's %v, port %v", task["networkMode"], host["NetworkMode"], port)
		}
	},
	"bridge with a dynamic port": func(t *testing.T, p *plane) {
		task, _, host := p.sent(t, one(7, 10, func(c *types.ContainerDefinition) {
			c.PortMappings = []types.PortMapping{{ContainerPort: aws.Int32(80)}, {ContainerPortRange: aws.String("100-102"), Protocol: "udp"}}
		}))
		c := task["containers"].([]any)[0].(object)
		ports := c["portMappings"].([]any)
		one, many := ports[0].(object), ports[1].(object)
		if host["NetworkMode"] != "bridge" || one["hostPort"] != 0.0 || one["protocol"] != "tcp" || many["containerPortRange"] != "100-102" || many["protocol"] != "udp" {
			t.Errorf("mode %v, ports %v", host["NetworkMode"], ports)
		}
		if c["cpu"] != 7.0 || c["memory"] != 10.0 || c["essential"] != true || c["image"] != "busybox" || c["name"] != "main" {
			t.Errorf("container %v", c)
		}
		if task["cpu"] != nil || task["memory"] != nil {
			t.Errorf("the task is limited to %v, %v: its definition says nothing of that", task["cpu"], task["memory"])
		}
	},
	"the task's own limits": func(t *testing.T, p *plane) {
		in := one(1, 10)
		in.Cpu, in.Memory = aws.String("0.5 vCPU"), aws.String("1 GB")
		if task, _, _ := p.sent(t, in); task["cpu"] != 0.5 || task["memory"] != 1024.0 {
			t.Errorf("cpu %v vCPU, memory %v MiB", task["cpu"], task["memory"])
		}
	},
	"a health check in nanoseconds": func(t *testing.T, p *plane) {
		task, config, _ := p.sent(t, one(1, 10, func(c *types.ContainerDefinition) {
			c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "check"}, Interval: aws.Int32(7), StartPeriod: aws.Int32(9)}
		}))
		check := config["Healthcheck"].(object)
		if task["containers"].([]any)[0].(object)["healthCheckType"] != "docker" || check["Interval"] != 7e9 || check["Timeout"] != 5e9 || check["StartPeriod"] != 9e9 || check["Retries"] != 3.0 {
			t.Errorf("check %v", check)
		}
	},
	"the environment says who runs it": func(t *testing.T, p *plane) {
		task, _, _ := p.sent(t, one(1, 10, func(c *types.ContainerDefinition) {
			c.Environment = []types.KeyValuePair{{Name: aws.String("A"), Value: aws.String("1")}}
		}))
		env := task["containers"].([]any)[0].(object)["environment"].(object)
		if env["AWS_EXECUTION_ENV"] != "AWS_ECS_EC2" || env["A"] != "1" || env["AWS_ENDPOINT_URL"] == "" || len(env) != 3 {
			t.Errorf("environment %v", env)
		}
	},
	"an anonymous volume has a host": func(t *testing.T, p *plane) {
		in := one(1, 10)
		in.Volumes = []types.Volume{{Name: aws.String("scratch")}, {Name: aws.String("data"), Host: &types.HostVolumeProperties{SourcePath: aws.String("/data")}},
			{Name: aws.String("named"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Scope: types.ScopeShared, Autoprovision: aws.Bool(true), Driver: aws.String("local")}}}
		task, _, _ := p.sent(t, in)
		v := task["volumes"].([]any)
		scratch, data, named := v[0].(object), v[1].(object), v[2].(object)
		if host, ok := scratch["host"].(object); !ok || len(host) != 0 || scratch["type"] != "host" {
			t.Errorf("the anonymous volume is %v", scratch)
		}
		if data["host"].(object)["sourcePath"] != "/data" {
			t.Errorf("the host's is %v", data)
		}
		if c := named["dockerVolumeConfiguration"].(object); named["type"] != "docker" || c["scope"] != "shared" || c["autoprovision"] != true || c["driver"] != "local" {
			t.Errorf("the named one is %v", named)
		}
	},
	"no version of Docker's API is asked for": func(t *testing.T, p *plane) {
		task, _, _ := p.sent(t, one(1, 10))
		docker := task["containers"].([]any)[0].(object)["dockerConfig"].(object)
		if len(docker) != 2 {
			t.Errorf("dockerConfig %v", docker)
		}
	},
	"labels by which tasks are known": func(t *testing.T, p *plane) {
		task, config, _ := p.sent(t, one(1, 10, func(c *types.ContainerDefinition) { c.DockerLabels = map[string]string{"team": "a"} }))
		labels := config["Labels"].(object)
		for name, want := range map[string]any{"team": "a", "com.amazonaws.ecs.task-arn": task["arn"], "com.amazonaws.ecs.container-name": "main",
			"com.amazonaws.ecs.task-definition-family": task["family"], "com.amazonaws.ecs.task-definition-version": task["version"]} {
			if labels[name] != want {
				t.Errorf("label %s is %v, want %v", name, labels[name], want)
			}
		}
	},
	"logs go to where the agent found the server": func(t *testing.T, p *plane) {
		task, _, host := p.sent(t, one(1, 10, func(c *types.ContainerDefinition) {
			c.LogConfiguration = &types.LogConfiguration{LogDriver: "awslogs", Options: map[string]string{
				"awslogs-group": "g", "awslogs-region": region, "awslogs-stream-prefix": "web", "awslogs-create-group": "true"}}
		}))
		arn := task["arn"].(string)
		log := host["LogConfig"].(object)
		options := log["Config"].(object)
		if log["Type"] != "awslogs" || options["awslogs-endpoint"] != p.endpoint() || options["awslogs-stream"] != "web/main/"+arn[strings.LastIndexByte(arn, '/')+1:] ||
			options["awslogs-create-group"] != "true" || options["awslogs-stream-prefix"] != nil {
			t.Errorf("logs %v", log)
		}
	},
}

// sent places a task of a definition on a new machine, and returns its payload
// with the first container's Docker objects.
func (p *plane) sent(t *testing.T, in *ecs.RegisterTaskDefinitionInput) (task, config, host object) {
	t.Helper()
	a := p.joined(t, p.cluster(t))
	p.run(t, a.cluster, p.define(t, in))
	task = a.acs().payload()
	docker := task["containers"].([]any)[0].(object)["dockerConfig"].(object)
	// Strings, not objects.
	if err := json.Unmarshal([]byte(docker["config"].(string)), &config); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(docker["hostConfig"].(string)), &host); err != nil {
		t.Fatal(err)
	}
	return task, config, host
}
