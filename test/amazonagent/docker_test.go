package amazonagent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// dockerAgent runs payloads with Docker as Amazon's agent does, and reports.
type dockerAgent struct {
	*agent
	docker *docker
	socket *socket
	ids    map[string]string // task/container → Docker's id
}

// serve takes payloads until n tasks have been started or stopped.
func (a *dockerAgent) serve(n int) {
	a.t.Helper()
	for n > 0 {
		kind, m, err := a.socket.read()
		if err != nil {
			a.t.Fatal(err)
		}
		a.socket.ack(m)
		if kind != "PayloadMessage" {
			continue
		}
		n--
		task := only(a.t, m)
		if task["desiredStatus"] == "STOPPED" {
			a.stop(task["arn"].(string))
		} else {
			a.start(task)
		}
	}
}

// start creates and starts the containers of a task and reports it RUNNING.
func (a *dockerAgent) start(task object) {
	a.t.Helper()
	arn := task["arn"].(string)
	var reports []object
	for _, x := range task["containers"].([]any) {
		c := x.(object)
		name := c["name"].(string)
		var created struct{ Id string }
		a.docker.must(http.MethodPost, "/containers/create?name="+url.QueryEscape(fmt.Sprintf("ecs-%s-%s-%s", task["family"], name, arn[len(arn)-8:])), a.config(task, c), &created)
		a.docker.must(http.MethodPost, "/containers/"+created.Id+"/start", nil, nil)
		a.ids[arn+"/"+name] = created.Id
		reports = append(reports, object{"containerName": name, "status": "RUNNING", "runtimeId": created.Id, "networkBindings": []any{}})
	}
	a.submit(arn, "RUNNING", reports...)
}

// config puts a container's members and its Docker objects together.
func (a *dockerAgent) config(task, c object) object {
	a.t.Helper()
	docker := c["dockerConfig"].(object)
	var config, host object
	for text, into := range map[string]*object{docker["config"].(string): &config, docker["hostConfig"].(string): &host} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			a.t.Fatal(err)
		}
	}
	var env []string
	variables, _ := c["environment"].(object)
	for k, v := range variables {
		env = append(env, fmt.Sprint(k, "=", v))
	}
	config["Image"], config["Cmd"], config["Env"] = c["image"], c["command"], env
	if c["entryPoint"] != nil {
		config["Entrypoint"] = c["entryPoint"]
	}
	memory, _ := c["memory"].(float64)
	cpu, _ := c["cpu"].(float64)
	host["Memory"], host["CpuShares"] = int64(memory)<<20, max(int64(cpu), 2)
	volumes := map[any]object{}
	list, _ := task["volumes"].([]any)
	for _, v := range list {
		volumes[v.(object)["name"]] = v.(object)
	}
	var binds []string
	mounts, _ := c["mountPoints"].([]any)
	for _, m := range mounts {
		volume := volumes[m.(object)["sourceVolume"]]
		source, _ := volume["host"].(object)["sourcePath"].(string)
		if source == "" {
			source = fmt.Sprintf("ecs-%s-%s", task["arn"].(string)[len(task["arn"].(string))-8:], volume["name"])
		}
		bind := source + ":" + m.(object)["containerPath"].(string)
		if m.(object)["readOnly"] == true {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	host["Binds"] = binds
	if mode, _ := task["pidMode"].(string); mode == "host" {
		host["PidMode"] = mode
	}
	config["HostConfig"] = host
	return config
}

// wait waits for a container's end and reports its task STOPPED.
func (a *dockerAgent) wait(arn string) {
	a.t.Helper()
	var reports []object
	for key, id := range a.ids {
		if task, name, _ := cut(key); task == arn {
			var end struct{ StatusCode int }
			a.docker.must(http.MethodPost, "/containers/"+id+"/wait", nil, &end)
			reports = append(reports, object{"containerName": name, "status": "STOPPED", "exitCode": end.StatusCode, "runtimeId": id})
		}
	}
	a.submit(arn, "STOPPED", reports...)
}

func (a *dockerAgent) stop(arn string) {
	a.t.Helper()
	for key, id := range a.ids {
		if task, _, _ := cut(key); task == arn {
			if status, raw := a.docker.call(http.MethodPost, "/containers/"+id+"/stop?t=30", nil); status >= 400 {
				a.t.Fatalf("stop: %d %s", status, raw)
			}
		}
	}
	a.wait(arn)
}

func cut(key string) (task, container string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	return key[:i], key[i+1:], true
}

// everything is a definition of all that a container on Docker can be told.
func everything(volume string) *ecs.RegisterTaskDefinitionInput {
	in := one(128, 64, func(c *types.ContainerDefinition) {
		c.Image, c.EntryPoint, c.Command = aws.String(dockerImage), []string{"/bin/sample"}, []string{"sleep", "600"}
		c.MemoryReservation, c.User, c.WorkingDirectory = aws.Int32(32), aws.String("1000:1001"), aws.String("/srv")
		c.Environment = []types.KeyValuePair{{Name: aws.String("COLOUR"), Value: aws.String("blue = green")}}
		c.DockerLabels = map[string]string{"team": "a"}
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "/bin/sample", "id"}, Interval: aws.Int32(5), Timeout: aws.Int32(4), Retries: aws.Int32(2), StartPeriod: aws.Int32(10)}
		c.ReadonlyRootFilesystem, c.StopTimeout = aws.Bool(true), aws.Int32(20)
		c.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: 1024, HardLimit: 2048}}
		c.ExtraHosts = []types.HostEntry{{Hostname: aws.String("db"), IpAddress: aws.String("10.1.2.3")}}
		c.DnsServers, c.DnsSearchDomains = []string{"10.0.0.2"}, []string{"example.test"}
		c.PseudoTerminal, c.Interactive = aws.Bool(true), aws.Bool(true)
		c.LogConfiguration = &types.LogConfiguration{LogDriver: "json-file", Options: map[string]string{"max-size": "1m", "max-file": "2"}}
		c.MountPoints = []types.MountPoint{{SourceVolume: aws.String("data"), ContainerPath: aws.String("/data"), ReadOnly: aws.Bool(true)}, {SourceVolume: aws.String("scratch"), ContainerPath: aws.String("/scratch")}}
		c.LinuxParameters = &types.LinuxParameters{
			Capabilities: &types.KernelCapabilities{Add: []string{"NET_ADMIN"}, Drop: []string{"MKNOD"}}, InitProcessEnabled: aws.Bool(false),
			SharedMemorySize: aws.Int32(16), MaxSwap: aws.Int32(100), Swappiness: aws.Int32(10),
			Tmpfs:   []types.Tmpfs{{ContainerPath: aws.String("/tmp"), Size: 8, MountOptions: []string{"noexec"}}},
			Devices: []types.Device{{HostPath: aws.String("/dev/null"), ContainerPath: aws.String("/dev/nothing"), Permissions: []types.DeviceCgroupPermission{"read"}}},
		}
	})
	in.NetworkMode = types.NetworkModeHost
	in.Volumes = []types.Volume{{Name: aws.String("data"), Host: &types.HostVolumeProperties{SourcePath: &volume}}, {Name: aws.String("scratch")}}
	return in
}

func TestAmazonAgentRunsTasksWithDocker(t *testing.T) {
	p := newPlane(t)
	a := &dockerAgent{agent: p.newAgent(t, p.cluster(t)), ids: map[string]string{}}
	a.docker = startDocker(t, a.key)
	a.register(nil)
	a.socket = a.acs()

	data := t.TempDir()
	arn := p.run(t, a.cluster, p.define(t, everything(data)))
	a.serve(1)
	if got := p.task(t, a.cluster, arn); *got.LastStatus != "RUNNING" || len(aws.ToString(got.Containers[0].RuntimeId)) != 64 {
		t.Fatalf("the task is %s", *got.LastStatus)
	}
	var inspected object
	a.docker.must(http.MethodGet, "/containers/"+a.ids[arn+"/main"]+"/json", nil, &inspected)
	checkInspected(t, inspected, arn, data)
	// Docker's own check says that it works, which the agent passes on.
	eventually(t, "the container is healthy", func() bool {
		a.docker.must(http.MethodGet, "/containers/"+a.ids[arn+"/main"]+"/json", nil, &inspected)
		state := inspected["State"].(object)
		return state["Running"] == true && state["Health"].(object)["Status"] == "healthy"
	})
	a.tcs().publish("PublishHealthRequest", object{"metadata": a.metadata(nil), "timestamp": seconds(), "tasks": []any{
		object{"taskArn": arn, "containers": []any{object{"containerName": "main", "healthStatus": "HEALTHY", "statusSince": seconds()}}}}})
	if got := p.task(t, a.cluster, arn).HealthStatus; got != types.HealthStatusHealthy {
		t.Errorf("the task is %s", got)
	}
	p.stopTask(t, a.cluster, arn, "enough")
	a.serve(1)
	if got := p.task(t, a.cluster, arn); *got.LastStatus != "STOPPED" || aws.ToInt32(got.Containers[0].ExitCode) != 143 || got.StopCode != types.TaskStopCodeUserInitiated {
		_, output := a.docker.call(http.MethodGet, "/containers/"+a.ids[arn+"/main"]+"/logs?stdout=1&stderr=1", nil)
		t.Errorf("stopped: %s %s, exit code %d, output %q", *got.LastStatus, got.StopCode, aws.ToInt32(got.Containers[0].ExitCode), output)
	}

	t.Run("an override and an exit code", func(t *testing.T) {
		definition := p.define(t, one(1, 32, func(c *types.ContainerDefinition) { c.Image = aws.String(dockerImage) }, func(c *types.ContainerDefinition) { c.Command = []string{"sleep", "1"} }))
		out, err := p.user().RunTask(t.Context(), &ecs.RunTaskInput{Cluster: &a.cluster, TaskDefinition: p.noNetwork(t, definition), Overrides: &types.TaskOverride{
			ContainerOverrides: []types.ContainerOverride{{Name: aws.String("main"), Command: []string{"exit", "7"}}}}})
		if err != nil || len(out.Tasks) != 1 {
			t.Fatalf("%v %s", err, failures(out))
		}
		arn := *out.Tasks[0].TaskArn
		a.serve(1)
		a.wait(arn)
		if got := p.task(t, a.cluster, arn); *got.LastStatus != "STOPPED" || aws.ToInt32(got.Containers[0].ExitCode) != 7 || got.StopCode != types.TaskStopCodeEssentialContainerExited {
			t.Errorf("%s %s, exit code %d", *got.LastStatus, got.StopCode, aws.ToInt32(got.Containers[0].ExitCode))
		}
	})
	for name, prefix := range map[string]string{"logs by Docker's driver": "web", "logs without a prefix": ""} {
		t.Run(name, func(t *testing.T) {
			options := map[string]string{"awslogs-group": "docker-" + prefix, "awslogs-region": region, "awslogs-create-group": "true", "mode": "non-blocking"}
			if prefix != "" {
				options["awslogs-stream-prefix"] = prefix
			}
			in := one(1, 32, func(c *types.ContainerDefinition) {
				c.Image, c.Command = aws.String(dockerImage), []string{"echo", "through", "Docker"}
				c.LogConfiguration = &types.LogConfiguration{LogDriver: "awslogs", Options: options}
			})
			in.NetworkMode = types.NetworkModeNone
			arn := p.run(t, a.cluster, p.define(t, in))
			a.serve(1)
			a.wait(arn)
			id := arn[strings.LastIndexByte(arn, '/')+1:]
			stream := id + "-main"
			if prefix != "" {
				stream = prefix + "/main/" + id
			}
			eventually(t, "the line is in "+stream, func() bool { return slices.Contains(p.logged("docker-"+prefix, stream), "through Docker") })
		})
	}
}

// noNetwork is the definition again, with networkMode none.
func (p *plane) noNetwork(t *testing.T, definition string) *string {
	t.Helper()
	old, err := p.user().DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: &definition})
	if err != nil {
		t.Fatal(err)
	}
	arn := p.define(t, &ecs.RegisterTaskDefinitionInput{ContainerDefinitions: old.TaskDefinition.ContainerDefinitions, NetworkMode: types.NetworkModeNone})
	return &arn
}

// logged are the messages of a log stream.
func (p *plane) logged(group, stream string) (messages []string) {
	body, _ := json.Marshal(object{"logGroupName": group, "logStreamName": stream, "startFromHead": true})
	r, err := http.NewRequest(http.MethodPost, p.endpoint()+"/", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Logs_20140328.GetLogEvents")
	sign(r, root, "logs", body)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	raw, _ := io.ReadAll(answer.Body)
	var out struct{ Events []struct{ Message string } }
	if json.Unmarshal(raw, &out) != nil {
		return nil
	}
	for _, e := range out.Events {
		messages = append(messages, e.Message)
	}
	return messages
}

// checkInspected holds what Docker made of the definition against it.
func checkInspected(t *testing.T, inspected object, arn, data string) {
	t.Helper()
	config, host := inspected["Config"].(object), inspected["HostConfig"].(object)
	want := func(where object, name string, value any) {
		t.Helper()
		got, _ := json.Marshal(where[name])
		expected, _ := json.Marshal(value)
		if !bytes.Equal(got, expected) {
			t.Errorf("%s is %s, want %s", name, got, expected)
		}
	}
	want(config, "Image", dockerImage)
	want(config, "Cmd", []string{"sleep", "600"})
	want(config, "Entrypoint", []string{"/bin/sample"})
	want(config, "User", "1000:1001")
	want(config, "WorkingDir", "/srv")
	want(config, "Tty", true)
	want(config, "OpenStdin", true)
	want(config, "Healthcheck", object{"Test": []string{"CMD", "/bin/sample", "id"}, "Interval": 5e9, "Timeout": 4e9, "StartPeriod": 10e9, "Retries": 2})
	labels := config["Labels"].(object)
	want(labels, "team", "a")
	want(labels, "com.amazonaws.ecs.task-arn", arn)
	want(labels, "com.amazonaws.ecs.container-name", "main")
	env, _ := json.Marshal(config["Env"])
	for _, v := range []string{"COLOUR=blue = green", "AWS_EXECUTION_ENV=AWS_ECS_EC2"} {
		if !bytes.Contains(env, []byte(v)) {
			t.Errorf("the environment %s has no %s", env, v)
		}
	}
	want(host, "NetworkMode", "host")
	want(host, "Memory", 64<<20)
	want(host, "MemoryReservation", 32<<20)
	want(host, "MemorySwap", 164<<20)
	want(host, "MemorySwappiness", 10)
	want(host, "CpuShares", 128)
	want(host, "ReadonlyRootfs", true)
	want(host, "Privileged", false)
	want(host, "Init", false)
	want(host, "ShmSize", 16<<20)
	want(host, "CapAdd", []string{"NET_ADMIN"})
	want(host, "CapDrop", []string{"MKNOD"})
	want(host, "Dns", []string{"10.0.0.2"})
	want(host, "DnsSearch", []string{"example.test"})
	want(host, "ExtraHosts", []string{"db:10.1.2.3"})
	want(host, "Tmpfs", object{"/tmp": "size=8m,noexec"})
	want(host, "Ulimits", []object{{"Name": "nofile", "Hard": 2048, "Soft": 1024}})
	want(host, "Devices", []object{{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}})
	want(host, "LogConfig", object{"Type": "json-file", "Config": object{"max-size": "1m", "max-file": "2"}})
	binds, _ := json.Marshal(host["Binds"])
	if !bytes.Contains(binds, []byte(data+":/data:ro")) || !bytes.Contains(binds, []byte(":/scratch")) {
		t.Errorf("binds %s", binds)
	}
}
