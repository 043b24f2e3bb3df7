package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// site is a server and a node that a test kills and starts as it likes: two
// processes, or one `longshore up`.
type site struct {
	*longshore
	apart         bool
	serverData    string
	server, agent *child // the same one when not apart
	past          []*child
	seen          map[string]int // shims, when they were last listed
}

// newSite starts a site. At the test's end every task is stopped, the processes
// end in order, and the machine is compared with before.
func newSite(t *testing.T, apart bool) *site {
	t.Helper()
	needRoot(t)
	data := t.TempDir()
	return newSiteIn(t, apart, data, data)
}

// newSiteIn does so with the node's and the server's data in directories of the caller's.
func newSiteIn(t *testing.T, apart bool, data, serverData string) *site {
	t.Helper()
	if apart && serverData == data {
		serverData = t.TempDir()
	}
	s := &site{longshore: &longshore{t: t, data: data, name: nodeName(data), listen: freeAddress(t), output: &bytes.Buffer{}}, apart: apart, serverData: serverData}
	s.endpoint = "http://" + s.listen
	checkLeaks(t, data)
	t.Cleanup(s.close)
	s.startServer()
	s.startAgent()
	s.connected()
	return s
}

var siteEnv = []string{
	"LONGSHORE_ROOT_ACCESS_KEY_ID=" + keyID, "LONGSHORE_ROOT_SECRET_ACCESS_KEY=" + secret,
}

func (s *site) startServer() {
	s.t.Helper()
	if !s.apart {
		s.server = spawn(s.t, siteEnv, "up", "--no-sample", "--data", s.data, "--listen", s.listen)
		s.agent = s.server
		s.past = append(s.past, s.server)
		return
	}
	s.server = spawn(s.t, siteEnv, "server", "--data", s.serverData, "--listen", s.listen)
	s.past = append(s.past, s.server)
	if s.agent == nil { // a node's first start needs its server
		s.answers()
	}
}

func (s *site) startAgent() {
	s.t.Helper()
	if !s.apart {
		return
	}
	var env []string
	if s.agent == nil { // it joins once, and has credentials of its own from then on
		env = []string{"LONGSHORE_TOKEN=" + makeToken(s.t, s.serverData)}
	}
	s.agent = spawn(s.t, env, "agent", "--data", s.data, "--join", s.endpoint)
	s.past = append(s.past, s.agent)
}

// restart starts what has ended.
func (s *site) restart(agentFirst bool) {
	s.t.Helper()
	starts := []func(){func() {
		if s.server.ended() {
			s.startServer()
		}
	}, func() {
		if s.agent.ended() {
			s.startAgent()
		}
	}}
	if agentFirst {
		slices.Reverse(starts)
	}
	for _, start := range starts {
		start()
	}
}

// answers waits until the server does.
func (s *site) answers() {
	s.t.Helper()
	s.eventually("the server answers", func() error {
		if s.server.ended() {
			s.t.Fatalf("the server ended; it wrote\n%s", s.server.output.String())
		}
		response, err := http.Get(s.endpoint + "/_longshore/health")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
}

// connected waits until the server answers and the node is connected to it.
func (s *site) connected() {
	s.t.Helper()
	s.answers()
	s.eventually("the node is connected", func() error {
		if s.agent.ended() {
			s.t.Fatalf("the agent ended; it wrote\n%s", s.agent.output.String())
		}
		out, err := s.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: s.instances()})
		if err != nil {
			return err
		}
		for _, i := range out.ContainerInstances {
			if i.AgentConnected {
				return nil
			}
		}
		return errors.New("no container instance is connected")
	})
}

// close stops every task and ends the processes in order.
func (s *site) close() {
	if s.server == nil || s.agent == nil {
		return
	}
	defer func() {
		if s.t.Failed() { // perhaps half way: leave nothing to the next test
			s.reboot()
		}
	}()
	s.restart(false)
	s.connected()
	for _, cluster := range s.clusters() {
		out, err := s.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{Cluster: &cluster})
		if err != nil {
			s.t.Error(err)
			continue
		}
		for _, arn := range out.TaskArns {
			if _, err := s.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Cluster: &cluster, Task: &arn}); err != nil {
				s.t.Error(err)
			}
		}
		s.awaitStopped(cluster, out.TaskArns)
	}
	s.nothingBut(nil)
	for _, c := range []*child{s.agent, s.server} {
		if c.ended() {
			continue
		}
		err := c.end(syscall.SIGINT)
		if err != nil {
			s.t.Errorf("it ended with %v and wrote\n%s", err, c.output.String())
		}
		c.exited <- err
	}
	for _, c := range s.past {
		said := c.output.String()
		if strings.Contains(said, "panic: ") || strings.Contains(said, "goroutine 1 [") {
			s.t.Errorf("a process panicked:\n%s", said)
		} else if s.t.Failed() && said != "" {
			s.t.Logf("%v wrote\n%s", c.cmd.Args[1], said)
		}
	}
}

// ended tells whether the process has.
func (c *child) ended() bool {
	select {
	case err := <-c.exited:
		c.exited <- err
		return true
	default:
		return false
	}
}

// kill ends processes with SIGKILL, all at once, and waits for those that are ours.
func (s *site) killAll(pids ...int) {
	s.t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatal(err)
		}
	}
	for _, c := range []*child{s.server, s.agent} {
		if slices.Contains(pids, c.cmd.Process.Pid) {
			c.exited <- c.end(0)
		}
	}
}

// shims are the processes of the node's shims, by the name of their directory:
// the task's id, or that of a spare.
func (s *site) shims() map[string]int {
	s.t.Helper()
	found := map[string]int{}
	logs, err := filepath.Glob("/proc/[0-9]*/fd/2")
	if err != nil {
		s.t.Fatal(err)
	}
	prefix := "/run/longshore/" + s.name + "/runtime/"
	for _, log := range logs {
		target, err := os.Readlink(log)
		if err != nil || !strings.HasPrefix(target, prefix) || !strings.Contains(target, "/shim.log") {
			continue
		}
		pid := strings.Split(log, "/")[2]
		args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if a := strings.Split(string(args), "\x00"); len(a) < 2 || a[1] != "shim" {
			continue // a container's init that has yet to let go
		}
		name := filepath.Base(filepath.Dir(target))
		if found[name], err = strconv.Atoi(pid); err != nil {
			s.t.Fatal(err)
		}
	}
	s.seen = found
	return found
}

// shimOf is the pid of a task's shim, 0 when it has none. It looks first at those
// seen last: a spare one may have become the task's.
func (s *site) shimOf(task string) int {
	want := "/run/longshore/" + s.name + "/runtime/" + task + "/shim.log"
	for _, pid := range s.seen {
		if log, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", pid)); log == want {
			return pid
		}
	}
	return s.shims()[task]
}

// spare is the pid of the shim that waits for the next task, 0 when there is none.
func (s *site) spare() int {
	for name, pid := range s.shims() {
		if strings.HasPrefix(name, ".spare-") {
			return pid
		}
	}
	return 0
}

// onRecord is what the runtime has on disk of a task's first container.
type onRecord struct {
	Phase string
	PID   int
}

func (s *site) onRecord(task string) (r onRecord, there bool) {
	raw, err := os.ReadFile(filepath.Join(s.data, "node/runtime/containers", task+"-0.json"))
	if err != nil || json.Unmarshal(raw, &r) != nil {
		return r, false
	}
	return r, true
}

// nothingBut waits until the node has something of these tasks, by their ids, and
// of no others: processes, cgroups, networks, records, output, file systems.
func (s *site) nothingBut(tasks []string) {
	s.t.Helper()
	s.eventually("the node has nothing but its running tasks'", func() error {
		if got := s.groupsOnMachine(); !slices.Equal(got, sorted(tasks)) {
			return fmt.Errorf("there are cgroups of %v, want %v", got, sorted(tasks))
		}
		shims := s.shims()
		for name := range shims {
			if !strings.HasPrefix(name, ".spare-") && !slices.Contains(tasks, name) {
				return fmt.Errorf("the shim %d of task %s is left", shims[name], name)
			}
		}
		if len(shims) > len(tasks)+1 {
			return fmt.Errorf("there are %d shims for %d tasks: %v", len(shims), len(tasks), shims)
		}
		run, node := "/run/longshore/"+s.name, filepath.Join(s.data, "node")
		for _, dir := range []string{
			run + "/runtime", run + "/network/sandboxes", run + "/network/netns",
			node + "/network/sandboxes", node + "/runtime/containers", node + "/runtime/spool", node + "/images/rootfs",
		} {
			if err := onlyOf(dir, tasks); err != nil {
				return err
			}
		}
		return nil
	})
}

// onlyOf tells what else than things of the tasks a directory holds.
func onlyOf(dir string, tasks []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if len(e.Name()) < 32 || strings.HasPrefix(e.Name(), ".spare-") {
			continue
		}
		if !slices.ContainsFunc(tasks, func(id string) bool { return strings.HasPrefix(strings.TrimPrefix(e.Name(), "."), id) }) {
			return fmt.Errorf("%s is left", filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

func sorted(all []string) []string {
	all = append([]string{}, all...)
	slices.Sort(all)
	return all
}

func (l *longshore) describe(arn string) (types.Task, error) {
	out, err := l.ecs().DescribeTasks(context.Background(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
	if err != nil {
		return types.Task{}, err
	}
	if len(out.Tasks) != 1 {
		return types.Task{}, fmt.Errorf("the task %s is not there: %+v", arn, out.Failures)
	}
	return out.Tasks[0], nil
}
