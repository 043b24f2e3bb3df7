package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"longshore.dev/longshore/internal/netdump"
)

// mustRun runs a command of the machine's.
func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// replace makes a directory's content that of a copy.
func replace(t *testing.T, dir, with string) {
	t.Helper()
	mustRun(t, "sh", "-c", `find "$1" -mindepth 1 -delete && cp -a "$2/." "$1/"`, "sh", dir, with)
}

// sleeper starts a task that runs until it is stopped, and returns its ARN.
func (s *site) sleeper() string {
	s.t.Helper()
	out, err := s.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: aws.String("sleeper")})
	if err != nil || len(out.Tasks) != 1 {
		s.t.Fatalf("no task was placed: %v, %+v", err, out)
	}
	arn := aws.ToString(out.Tasks[0].TaskArn)
	s.await("", arn, "RUNNING")
	return arn
}

// runs expects a task to run as a process, which it returns; "" takes any.
func (s *site) runs(arn, pid string) string {
	s.t.Helper()
	s.await("", arn, "RUNNING")
	now := s.taskProcess(idOf(arn))
	if pid != "" && now != pid {
		s.t.Errorf("the task %s was process %s and is %s", arn, pid, now)
	}
	return now
}

// TestOlderCopies puts copies, taken while everything ran, in the place of what node
// and server have on disk. What both still know runs on; what only one knows is
// stopped; nothing is left.
func TestOlderCopies(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newSite(t, true)
	s.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
	stays, ends := s.sleeper(), s.sleeper()
	pid := s.runs(stays, "")
	copies := t.TempDir()
	for name, dir := range map[string]string{"node": s.data, "server": s.serverData} {
		mustRun(t, "sh", "-c", `cp -a "$1" "$2" || true`, "sh", dir, filepath.Join(copies, name)) // files come and go meanwhile
	}
	s.longshore.stop(ends)
	s.ended(ends)
	later := s.sleeper()

	t.Log("the node's older copy")
	s.killAll(s.agent.cmd.Process.Pid)
	replace(t, s.data, filepath.Join(copies, "node"))
	s.startAgent()
	s.connected()
	if task := s.ended(later); !strings.Contains(aws.ToString(task.StoppedReason), "lost its records") {
		t.Errorf("the task that the copy does not have ended with %q", aws.ToString(task.StoppedReason))
	}
	s.runs(stays, pid)
	s.nothingBut([]string{idOf(stays)})
	afterwards := s.sleeper()

	t.Log("the server's older copy")
	s.killAll(s.server.cmd.Process.Pid)
	replace(t, s.serverData, filepath.Join(copies, "server"))
	s.startServer()
	s.connected()
	// The copy says that this one runs; the node knows better.
	s.ended(ends)
	s.runs(stays, pid)
	s.nothingBut([]string{idOf(stays)}) // the server does not know those that came later
	if _, err := s.describe(afterwards); err == nil {
		t.Error("the server knows a task that is not in its copy")
	}
	s.longshore.stop(s.sleeper())
	s.runs(stays, pid)
}

// TestReboot takes from the machine all that a reboot does: tasks that ran are
// reported stopped, nothing of them is left, new ones run.
func TestReboot(t *testing.T) {
	s := newSite(t, true)
	s.sampleTask("sleeper", types.NetworkModeBridge, "sleep", "3600")
	s.sampleTask("vpc", types.NetworkModeAwsvpc, "sleep", "3600")
	s.sampleTask("host", types.NetworkModeHost, "sleep", "3600")
	arns := []string{s.sleeper(), s.sleeper()}
	for family, network := range map[string]*types.NetworkConfiguration{"vpc": s.anySubnet(), "host": nil} {
		task := s.longshore.run(&ecs.RunTaskInput{TaskDefinition: aws.String(family), NetworkConfiguration: network})
		arns = append(arns, aws.ToString(task.TaskArn))
	}
	pairs := s.pair("pair")
	arns = append(arns, aws.ToString(s.longshore.run(&ecs.RunTaskInput{TaskDefinition: &pairs}).TaskArn))
	s.reboot()
	s.restart(false)
	s.connected()
	for _, arn := range arns {
		task := s.ended(arn)
		for _, c := range task.Containers {
			if aws.ToString(c.Name) == "init" { // it had ended before
				if c.ExitCode == nil || *c.ExitCode != 0 {
					t.Errorf("the first container of the pair has the exit code %v", c.ExitCode)
				}
				continue
			}
			if c.ExitCode != nil || !strings.Contains(aws.ToString(c.Reason), "was lost") {
				t.Errorf("%s of %s ended with %v, %q", aws.ToString(c.Name), arn, c.ExitCode, aws.ToString(c.Reason))
			}
		}
		if task.StopCode != types.TaskStopCodeEssentialContainerExited {
			t.Errorf("%s stopped with %s %q", arn, task.StopCode, aws.ToString(task.StoppedReason))
		}
	}
	s.nothingBut(nil)
	s.nothingBut([]string{idOf(s.sleeper())})
}

// reboot ends everything of the site and takes from the machine what a reboot
// would: processes, mounts, links, tables, cgroups.
func (s *site) reboot() {
	s.t.Helper()
	pids := []int{s.server.cmd.Process.Pid, s.agent.cmd.Process.Pid}
	for _, pid := range s.shims() {
		pids = append(pids, pid)
	}
	groups := s.groupsOnMachine()
	s.killAll(pids...)
	for _, task := range groups {
		s.eventually("the containers have ended", func() error {
			left := s.processes(task)
			if len(left) == 0 {
				return nil
			}
			for _, pid := range left {
				_ = exec.Command("kill", "-9", pid).Run()
			}
			return errNotYet("not all of them gone")
		})
	}
	run := "/run/longshore/" + s.name
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4]+"/", run+"/") {
			_ = syscall.Unmount(f[4], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(run); err != nil {
		s.t.Fatal(err)
	}
	hash := networkHash(s.data)
	links, err := netdump.Whole(netlink.LinkList)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, link := range links {
		if name := link.Attrs().Name; strings.HasPrefix(name, "lb"+hash) || strings.HasPrefix(name, "lv"+hash) {
			_ = netlink.LinkDel(link) // the other end of a pair takes both
		}
	}
	mustRun(s.t, "sh", "-c", `nft list tables | grep "longshore-$1" | while read -r _ family table; do nft delete table "$family" "$table"; done`, "sh", hash)
	mustRun(s.t, "sh", "-c", `find /sys/fs/cgroup -depth -type d -path "*/longshore/$1*" -exec rmdir {} \;`, "sh", s.name)
}
