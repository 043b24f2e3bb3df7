package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"longshore.dev/longshore/internal/pki"
	"longshore.dev/longshore/internal/tcp"
)

// fleetLost is how long the fleet's nodes may be away.
const fleetLost = 12 * time.Second

// fleet is a server on a bridge of this machine, and nodes in network namespaces
// that are plugged into it: each with links, routes and tables of its own.
type fleet struct {
	*longshore
	server *child
	bridge string
	subnet string // "10.203.7."
	nodes  []*fleetNode
}

// fleetNode is one of them.
type fleetNode struct {
	fleet     *fleet
	namespace string
	link      string // the bridge's end
	data      string
	agent     *child
	machine   *longshore // what it has on this machine
	instance  string     // its container instance
}

func runCommand(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// newFleet starts a server and joins n nodes.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	needRoot(t)
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: a fleet in network namespaces needs it", tool)
		}
	}
	tag := fmt.Sprintf("%x", os.Getpid()&0xffff)
	f := &fleet{bridge: "lsf" + tag, subnet: fmt.Sprintf("10.203.%d.", os.Getpid()%200+20)}
	runCommand(t, "ip", "link", "add", f.bridge, "type", "bridge")
	t.Cleanup(func() { runCommand(t, "ip", "link", "del", f.bridge) })
	runCommand(t, "ip", "addr", "add", f.subnet+"1/24", "dev", f.bridge)
	runCommand(t, "ip", "link", "set", f.bridge, "up")

	f.longshore = &longshore{t: t, listen: f.subnet + "1:4566", data: t.TempDir(), output: &bytes.Buffer{}}
	f.endpoint = "https://" + f.listen
	root := []string{"LONGSHORE_ROOT_ACCESS_KEY_ID=" + keyID, "LONGSHORE_ROOT_SECRET_ACCESS_KEY=" + secret}
	f.server = spawn(t, root, "server", "--data", f.data, "--listen", f.listen, "--lost-after", fleetLost.String())
	f.exited = f.server.exited
	t.Cleanup(func() {
		if err := f.server.end(syscall.SIGINT); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the server wrote:\n%s", f.server.output.String())
		}
	})
	f.eventually("the server has an authority", func() error {
		raw, err := os.ReadFile(filepath.Join(f.data, "ca.pem"))
		if err != nil {
			return err
		}
		config, err := pki.Trusting(raw)
		if err != nil {
			return err
		}
		f.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: time.Minute}
		_, err = f.ecs().ListClusters(context.Background(), &ecs.ListClustersInput{})
		return err
	})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(makeToken(t, f.data, "--uses", fmt.Sprint(n))), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		f.plug(i, tag)
	}
	for _, k := range f.nodes {
		k.start("--token-file", token)
	}
	for _, k := range f.nodes {
		k.awaitInstance()
	}
	return f
}

// plug makes a namespace and plugs it into the bridge.
func (f *fleet) plug(i int, tag string) {
	f.t.Helper()
	k := &fleetNode{fleet: f, namespace: fmt.Sprintf("lsf%s-%d", tag, i), link: fmt.Sprintf("lsf%s.%d", tag, i), data: f.t.TempDir()}
	k.machine = &longshore{t: f.t, name: nodeName(k.data), output: f.output, exited: f.exited}
	runCommand(f.t, "ip", "netns", "add", k.namespace)
	f.t.Cleanup(func() { runCommand(f.t, "ip", "netns", "del", k.namespace) })
	checkLeaks(f.t, k.data)
	f.t.Cleanup(k.end)
	inside := []string{"ip", "-n", k.namespace}
	runCommand(f.t, "ip", "link", "add", k.link, "type", "veth", "peer", "name", "eth0", "netns", k.namespace)
	runCommand(f.t, "ip", "link", "set", k.link, "master", f.bridge, "up")
	runCommand(f.t, append(inside, "link", "set", "lo", "up")...)
	runCommand(f.t, append(inside, "addr", "add", fmt.Sprintf("%s%d/24", f.subnet, 10+i), "dev", "eth0")...)
	runCommand(f.t, append(inside, "link", "set", "eth0", "up")...)
	runCommand(f.t, append(inside, "route", "add", "default", "via", f.subnet+"1")...)
	f.nodes = append(f.nodes, k)
}

// start starts the node's agent in its namespace, as on a machine of its own: the
// file system is shared, so that a restart finds what is mounted.
func (k *fleetNode) start(flags ...string) {
	k.fleet.t.Helper()
	command := append([]string{"--net=/run/netns/" + k.namespace, binary(k.fleet.t), "agent", "--data", k.data, "--join", k.fleet.endpoint}, flags...)
	k.agent = spawnCommand(k.fleet.t, exec.Command("nsenter", command...))
}

// awaitInstance waits until the node is connected as a container instance of its own.
func (k *fleetNode) awaitInstance() {
	k.fleet.t.Helper()
	f := k.fleet
	f.eventually("node "+k.namespace+" is connected", func() error {
		known := map[string]bool{}
		for _, other := range f.nodes {
			known[other.instance] = other != k
		}
		out, err := f.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: f.instances()})
		if err != nil {
			return err
		}
		for _, i := range out.ContainerInstances {
			arn := aws.ToString(i.ContainerInstanceArn)
			if i.AgentConnected && !known[arn] && k.isIn(aws.ToString(i.Ec2InstanceId)) {
				k.instance = arn
				return nil
			}
		}
		return fmt.Errorf("no instance is this node's; its agent wrote %q", k.agent.output.String())
	})
}

// isIn tells whether the agent says that it is a node.
func (k *fleetNode) isIn(id string) bool {
	return strings.Contains(k.agent.output.String(), "node      "+id+" joins")
}

func (k *fleetNode) describe() types.ContainerInstance {
	k.fleet.t.Helper()
	out, err := k.fleet.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{k.instance}})
	if err != nil || len(out.ContainerInstances) != 1 {
		k.fleet.t.Fatalf("%+v %v", out, err)
	}
	return out.ContainerInstances[0]
}

func (k *fleetNode) awaitConnected(want bool) {
	k.fleet.t.Helper()
	k.fleet.eventually(fmt.Sprintf("node %s's agentConnected is %v", k.namespace, want), func() error {
		if k.describe().AgentConnected != want {
			return fmt.Errorf("it is %v", !want)
		}
		return nil
	})
}

// cut and mend the node's cable.
func (k *fleetNode) cut() { runCommand(k.fleet.t, "ip", "link", "set", k.link, "nomaster") }
func (k *fleetNode) mend() {
	runCommand(k.fleet.t, "ip", "link", "set", k.link, "master", k.fleet.bridge)
}

// end ends the agent, whose tasks must be over; those of a test that failed are
// killed, or they would keep their namespace.
func (k *fleetNode) end() {
	if k.fleet.t.Failed() {
		defer k.killTasks()
	}
	if k.agent == nil {
		return
	}
	if err := k.agent.end(syscall.SIGINT); err != nil {
		k.fleet.t.Errorf("the agent of %s ended with %v", k.namespace, err)
	}
	if k.fleet.t.Failed() {
		k.fleet.t.Logf("the agent of %s wrote:\n%s", k.namespace, k.agent.output.String())
	}
	k.agent = nil
}

// killTasks kills the shims that name the node in their command line, and with them
// what is in the node's network namespace.
func (k *fleetNode) killTasks() {
	for _, task := range k.machine.groupsOnMachine() {
		for _, pid := range k.machine.processes(task) {
			_ = exec.Command("kill", "-9", pid).Run() // it may have ended
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil && bytes.Contains(raw, []byte(`"node":"`+k.machine.name+`"`)) {
			_ = exec.Command("kill", "-9", filepath.Base(filepath.Dir(file))).Run()
		}
	}
}

func (k *fleetNode) kill() {
	k.fleet.t.Helper()
	if err := k.agent.end(syscall.SIGKILL); err == nil {
		k.fleet.t.Fatal("the agent ended well on SIGKILL")
	}
	k.agent = nil
}

// tasks runs n tasks by a strategy and returns them by their instances, RUNNING.
func (f *fleet) place(definition string, n int32, strategy types.PlacementStrategyType, field string) map[string][]string {
	f.t.Helper()
	by := map[string][]string{}
	for _, task := range f.runTasks(&ecs.RunTaskInput{TaskDefinition: &definition, Count: &n, PlacementStrategy: []types.PlacementStrategy{{Type: strategy, Field: &field}}}) {
		arn := aws.ToString(task.TaskArn)
		f.await("", arn, "RUNNING")
		by[aws.ToString(task.ContainerInstanceArn)] = append(by[aws.ToString(task.ContainerInstanceArn)], arn)
	}
	return by
}

// lost waits until a node's task is stopped because the node is lost.
func (k *fleetNode) lost(arn string) {
	k.fleet.t.Helper()
	task := k.fleet.ended(arn)
	reason := aws.ToString(task.StoppedReason)
	if !strings.HasPrefix(reason, "Host (instance "+aws.ToString(k.describe().Ec2InstanceId)+") lost at 20") ||
		!strings.Contains(reason, "disconnected since 20") || task.StopCode != types.TaskStopCodeTerminationNotice {
		k.fleet.t.Errorf("a lost node's task stopped with %s %q", task.StopCode, reason)
	}
	shown := k.describe()
	if !slices.EqualFunc(shown.RemainingResources[:2], shown.RegisteredResources[:2], func(a, b types.Resource) bool { return a.IntegerValue == b.IntegerValue }) {
		k.fleet.t.Errorf("a lost node has %+v of %+v left", shown.RemainingResources[:2], shown.RegisteredResources[:2])
	}
}

// runsOnly waits until the node runs these tasks and no others.
func (k *fleetNode) runsOnly(tasks ...string) {
	k.fleet.t.Helper()
	var want []string
	for _, arn := range tasks {
		want = append(want, idOf(arn))
	}
	slices.Sort(want)
	k.fleet.eventually("node "+k.namespace+" runs what it should", func() error {
		got := k.machine.groupsOnMachine()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("it runs %v, and should run %v", got, want)
		}
		return nil
	})
}

// TestFleet shows four nodes behind one server: joined over TLS, placed on, drained,
// killed, cut off, lost and back, restarted, deregistered, and revoked.
func TestFleet(t *testing.T) {
	f := newFleet(t, 4)
	a, b, c, d := f.nodes[0], f.nodes[1], f.nodes[2], f.nodes[3]
	f.secretsAreNotShown()
	definition := f.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")

	spread := f.place(definition, 4, types.PlacementStrategyTypeSpread, "instanceId")
	if len(spread) != 4 {
		t.Fatalf("four tasks spread over %d of four nodes", len(spread))
	}
	of := func(k *fleetNode) string { return spread[k.instance][0] }
	beforeC := c.machine.taskProcess(idOf(of(c)))

	packed := f.place(definition, 3, types.PlacementStrategyTypeBinpack, "memory")
	if len(packed) != 1 {
		t.Errorf("three tasks were packed onto %v", packed)
	}
	f.drains(a, definition)

	// Two vanish: one's agent is killed, the other's cable is cut, so that its sockets
	// stay half open on both sides. The rest goes on meanwhile.
	b.kill()
	c.cut()
	cutAt := time.Now()
	b.awaitConnected(false)
	f.lives(a)
	f.leaves(d, of(d))

	c.awaitConnected(false)
	if took := time.Since(cutAt); took > tcp.Noticed+10*time.Second {
		t.Errorf("a cut cable was noticed after %s", took)
	}
	b.lost(of(b))
	c.lost(of(c))
	if after := c.machine.taskProcess(idOf(of(c))); after != beforeC {
		t.Errorf("the cut node's task had process %s and has %s: nobody could tell it anything", beforeC, after)
	}

	// They return as what they were, and stop what should not run any more.
	formerB, formerC := b.instance, c.instance
	b.start()
	c.mend()
	b.awaitConnected(true)
	c.awaitConnected(true)
	b.runsOnly()
	c.runsOnly()
	if b.awaitInstance(); b.instance != formerB || c.instance != formerC {
		t.Errorf("they came back as %s and %s, and were %s and %s", b.instance, c.instance, formerB, formerC)
	}
	f.revoked(c)
	again := f.place(definition, 3, types.PlacementStrategyTypeSpread, "instanceId")
	if len(again[b.instance]) == 0 || len(again[d.instance]) == 0 || len(again[formerC]) > 0 { // a has some already
		t.Errorf("after their return three tasks are on %v", again)
	}
	b.runsOnly(again[b.instance]...)
	f.stopEverything()
}

// drains: a DRAINING node takes no tasks.
func (f *fleet) drains(k *fleetNode, definition string) {
	f.t.Helper()
	set := func(status types.ContainerInstanceStatus) {
		f.t.Helper()
		_, err := f.ecs().UpdateContainerInstancesState(context.Background(), &ecs.UpdateContainerInstancesStateInput{ContainerInstances: []string{k.instance}, Status: status})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	set(types.ContainerInstanceStatusDraining)
	if by := f.place(definition, 3, types.PlacementStrategyTypeSpread, "instanceId"); len(by[k.instance]) > 0 {
		f.t.Errorf("a draining node got %v", by[k.instance])
	}
	set(types.ContainerInstanceStatusActive)
}

// lives: an agent that is killed and started again is the same instance, and its
// tasks have not noticed.
func (f *fleet) lives(k *fleetNode) {
	f.t.Helper()
	tasks := k.machine.groupsOnMachine()
	if len(tasks) == 0 {
		f.t.Fatal("the node has no task that could notice")
	}
	former, before := k.instance, k.machine.taskProcess(tasks[0])
	k.kill()
	k.awaitConnected(false)
	k.start()
	k.awaitConnected(true)
	k.awaitInstance()
	if after := k.machine.taskProcess(tasks[0]); after != before || k.instance != former {
		f.t.Errorf("after the agent's restart the instance is %s, process %s; it was %s, %s", k.instance, after, former, before)
	}
}

// leaves: a deregistration is refused while tasks run, unless it is forced; then the
// agent's next start makes a new instance that stops what is left.
func (f *fleet) leaves(k *fleetNode, arn string) {
	f.t.Helper()
	in := &ecs.DeregisterContainerInstanceInput{ContainerInstance: &k.instance}
	if _, err := f.ecs().DeregisterContainerInstance(context.Background(), in); code(err) != "InvalidParameterException" || !strings.Contains(err.Error(), "Found running tasks on the instance.") {
		f.t.Errorf("without force: %v", err)
	}
	in.Force = aws.Bool(true)
	out, err := f.ecs().DeregisterContainerInstance(context.Background(), in)
	if err != nil || aws.ToString(out.ContainerInstance.Status) != "INACTIVE" || out.ContainerInstance.RunningTasksCount != 0 {
		f.t.Fatalf("with force: %v %+v", err, out)
	}
	if task := f.ended(arn); aws.ToString(task.StoppedReason) != "Container instance deregistration forced by user" || task.StopCode != types.TaskStopCodeUserInitiated {
		f.t.Errorf("its task stopped with %s %q", task.StopCode, aws.ToString(task.StoppedReason))
	}
	if err := k.agent.end(syscall.SIGINT); err != nil {
		f.t.Errorf("the deregistered node's agent ended with %v", err)
	}
	former := k.instance
	k.start()
	k.awaitInstance()
	if k.instance == former {
		f.t.Errorf("it came back as the same instance")
	}
	k.runsOnly()
}

// revoked: a node whose key is ended is out at once, and its agent says why.
func (f *fleet) revoked(k *fleetNode) {
	f.t.Helper()
	id := aws.ToString(k.describe().Ec2InstanceId)
	if out, err := exec.Command(binary(f.t), "node", "revoke", "--data", f.data, id).CombinedOutput(); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	if shown := k.describe(); shown.AgentConnected || aws.ToString(shown.Status) != "INACTIVE" {
		f.t.Errorf("a revoked node's instance is %s, connected %v", aws.ToString(shown.Status), shown.AgentConnected)
	}
	if err := k.agent.end(syscall.SIGINT); err != nil {
		f.t.Errorf("the revoked node's agent ended with %v", err)
	}
	k.start()
	if err := k.agent.end(0); err == nil || !strings.Contains(k.agent.output.String(), "credentials.sealed") {
		f.t.Errorf("a revoked node's agent ended with %v and wrote\n%s", err, k.agent.output.String())
	}
	k.agent = nil
}

// secretsAreNotShown looks at the command lines of all processes, and at TLS as a
// tool sees it.
func (f *fleet) secretsAreNotShown() {
	f.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, file := range lines {
		if raw, err := os.ReadFile(file); err == nil && bytes.Contains(raw, []byte("lsj1.")) {
			f.t.Errorf("a token is in %s: %q", file, raw)
		}
	}
	raw, err := exec.Command(binary(f.t), "env", "--data", f.data).Output()
	if err != nil || !strings.Contains(string(raw), "export AWS_CA_BUNDLE='"+f.data+"/ca.pem'") || !strings.Contains(string(raw), "AWS_ENDPOINT_URL='"+f.endpoint+"'") {
		f.t.Errorf("longshore env: %v\n%s", err, raw)
	}
	if plain, err := net.DialTimeout("tcp", f.listen, 5*time.Second); err != nil {
		f.t.Error(err)
	} else {
		plain.Close()
	}
	untrusting := ecs.New(ecs.Options{Region: region, BaseEndpoint: &f.endpoint, Credentials: aws.CredentialsProviderFunc(credentials), RetryMaxAttempts: 1})
	if _, err := untrusting.ListClusters(context.Background(), &ecs.ListClustersInput{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		f.t.Errorf("a client that does not know the authority: %v", err)
	}
	if _, err := os.Stat(debianCLI); err != nil {
		f.t.Log("Debian's awscli is not installed: it is not tried over TLS")
		return
	}
	script := `eval "$(` + binary(f.t) + ` env --data ` + f.data + `)" && command ` + debianCLI + ` --endpoint-url "$AWS_ENDPOINT_URL" ecs list-container-instances`
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil || strings.Count(string(out), "arn:aws:ecs:") != len(f.nodes) {
		f.t.Errorf("the CLI with longshore env: %v\n%s", err, out)
	}
}

func (f *fleet) stopEverything() {
	f.t.Helper()
	out, err := f.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, arn := range out.TaskArns {
		if _, err := f.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &arn}); err != nil {
			f.t.Error(err)
		}
	}
	f.awaitStopped("default", out.TaskArns)
	for _, k := range f.nodes {
		k.runsOnly()
	}
}
