package native_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// The tests named TestEscapeCVE… replay what has once led out of a container, on
// the way that our containers take: our preparation of the root file system, our
// mounts, our way to run a command in a container. docs/security-runtime.md lists
// them.

// hostFiles are what escapes write to.
var hostFiles = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
	"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/sysrq",
	"/proc/sys/net/ipv4/ip_unprivileged_port_start", "/sys/kernel/uevent_helper", "/etc/passwd", "/etc/shadow",
}

// unharmed compares the host with itself at the test's end: files that make the
// kernel run a program, our runner, and a directory "outside" with one file in it.
func (n *node) unharmed() (outside string) {
	n.t.Helper()
	outside = n.t.TempDir()
	n.must(os.WriteFile(filepath.Join(outside, "marker"), []byte("of the host"), 0o644))
	n.must(os.Chmod(outside, 0o777))
	read := func() map[string]string {
		state := map[string]string{}
		agents, _ := filepath.Glob("/sys/fs/cgroup/*/release_agent")
		runners, _ := filepath.Glob(filepath.Join(n.options.StateDir, "bin", "*"))
		for _, file := range append(append(agents, hostFiles...), append(runners, runnerPath)...) {
			if data, err := os.ReadFile(file); err == nil {
				info, _ := os.Stat(file)
				state[file] = fmt.Sprintf("%x %v", sha256.Sum256(data), info.Mode())
			}
		}
		entries, err := os.ReadDir(outside)
		n.must(err)
		for _, e := range entries {
			info, _ := e.Info()
			state[filepath.Join(outside, e.Name())] = fmt.Sprint(info.Mode(), info.Size())
		}
		table, _ := os.ReadFile("/proc/self/mountinfo")
		state["mounts there"] = fmt.Sprint(bytes.Count(table, []byte(outside)))
		return state
	}
	before := read()
	n.t.Cleanup(func() {
		for file, was := range before {
			if is := read()[file]; is != was {
				n.t.Errorf("the host is harmed: %s is now %q, was %q", file, is, was)
			}
		}
		for file := range read() {
			if _, was := before[file]; !was {
				n.t.Errorf("the host is harmed: %s was not there", file)
			}
		}
	})
	return outside
}

// attempt runs a container that may be refused. What it writes, or why it was
// refused, is returned.
func (n *node) attempt(spec runtime.Spec) (out string, ran bool) {
	n.t.Helper()
	if err := n.Create(n.ctx, spec); err != nil {
		if strings.Contains(err.Error(), "does not") {
			n.t.Errorf("%s: %v", spec.ID, err)
		}
		return err.Error(), false
	}
	n.deleteLater(spec.ID)
	n.must(n.Start(n.ctx, spec.ID))
	_, err := n.Wait(n.ctx, spec.ID)
	n.must(err)
	out, errs := runtimetest.Output(n.ctx, n.t, n.Runtime, spec.ID)
	return out + errs, true
}

func wantNo(t *testing.T, what, got string, bad ...string) {
	t.Helper()
	for _, b := range bad {
		if strings.Contains(got, b) {
			t.Errorf("%s has %q:\n%s", what, b, brief(got))
		}
	}
}

// TestEscapeCVE20195736: the runner's executable is overwritten through
// /proc/PID/exe, by an image whose command is /proc/self/exe, by a container that
// lies in wait for commands that are run in it, and through the minimal init.
func TestEscapeCVE20195736(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	spec := n.spec("image", "/evil", "shim", "{}")
	n.must(os.Symlink("/proc/self/exe", filepath.Join(upper(spec), "evil")))
	if _, ran := n.attempt(spec); ran {
		t.Log("the runner's copy was run inside")
	}
	for _, init := range []bool{false, true} {
		id := fmt.Sprint("waiting-", init)
		spec := n.spec(id, "overwrite")
		spec.Init = init
		n.start(spec)
		n.await(id, "ready")
		for _, command := range []string{"/bin/echo", "/proc/self/exe", "/bin/id", "/bin/echo"} {
			_, _ = n.Exec(n.ctx, id, runtime.ExecSpec{Args: []string{command}})
		}
		result, err := n.Exec(n.ctx, id, runtime.ExecSpec{Args: []string{"open", "w", "/dev/init", "/proc/1/exe", "/proc/self/exe"}})
		n.must(err)
		wantNo(t, "writing to executables", string(result.Output), "done")
		n.must(n.Signal(n.ctx, id, 9, true))
		if _, err := n.Wait(n.ctx, id); err != nil {
			t.Error(err)
		}
		out := n.await(id, "saw ")
		wantNo(t, "the attack", out, "overwrote")
	}
}

// TestEscapeCVE201916884: a volume over /proc, directly or through a link of the
// image, so that security labels and limits are written to the attacker's files.
func TestEscapeCVE201916884(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	for i, m := range []runtime.Mount{
		{Destination: "/proc", Source: outside},
		{Destination: "/proc", Type: "tmpfs"},
		{Destination: "/proc/", Source: outside},
		{Destination: "/proc/self", Source: outside},
		{Destination: "/proc/sys", Source: outside},
		{Destination: "/proc/thread-self/attr", Type: "tmpfs"},
		{Destination: "/link", Source: outside},
		{Destination: "/link", Type: "tmpfs"},
		{Destination: "/link/self/attr", Source: outside},
		{Destination: "/etc/../proc", Source: outside},
	} {
		spec := n.spec(fmt.Sprint("m", i), "statfs", "/proc")
		n.must(os.Symlink("/proc", filepath.Join(upper(spec), "link")))
		spec.Mounts = []runtime.Mount{m}
		if out, ran := n.attempt(spec); ran && !strings.Contains(out, "statfs /proc 0x9fa0") {
			t.Errorf("%+v: /proc is %s", m, out)
		} else if !ran && !strings.Contains(out, "proc") {
			t.Errorf("%+v: refused with %s", m, out)
		}
	}
}

// TestEscapeCVE202327561: an image whose /proc, /sys or /dev is a link, so that what
// is to be masked or read-only there is somewhere else (also CVE-2023-28642).
func TestEscapeCVE202327561(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	for i, link := range []string{"/elsewhere", outside, "../../../../.." + outside, "/volume", "/proc"} {
		for _, name := range []string{"proc", "sys"} {
			spec := n.spec(fmt.Sprint(name, i), "open", "w", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/sys/power/state")
			n.must(os.Symlink(link, filepath.Join(upper(spec), name)))
			n.must(os.Mkdir(filepath.Join(upper(spec), "elsewhere"), 0o755))
			spec.Mounts = []runtime.Mount{{Destination: "/volume", Source: t.TempDir()}}
			out, _ := n.attempt(spec)
			wantNo(t, name+" as a link to "+link, out, ": done")
		}
	}
}

// TestEscapeCVE202641579: an image whose /dev is a link to a directory of the host,
// so that devices and links are made there.
func TestEscapeCVE202641579(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	for i, link := range []string{outside, "../../../../../../.." + outside, "/proc/1/root" + outside, "/proc/self/cwd"} {
		for _, terminal := range []bool{false, true} {
			spec := n.spec(fmt.Sprint("d", i, terminal), "stat", "/dev/null")
			n.must(os.Symlink(link, filepath.Join(upper(spec), "dev")))
			spec.Terminal = terminal
			n.attempt(spec)
		}
	}
}

// TestEscapeCVE202015257: the shim's API must not be reachable from a container in
// the host's network namespace, as containerd's was through an abstract socket.
func TestEscapeCVE202015257(t *testing.T) {
	n := newNode(t)
	spec := n.spec("victim", "ignore")
	n.start(spec)
	socket := filepath.Join(n.options.RunDir, spec.Group, "shim.sock")
	attacker := n.spec("attacker", "connect", socket, "@"+socket, "@longshore", "@shim.sock", "/proc/1/root"+socket)
	attacker.NetNS = "host"
	out, _ := n.run(attacker)
	wantNo(t, "connecting", out, ": done")
	if names := regexp.MustCompile(`(?i)abstract .*(longshore|shim|containerd).*`).FindString(out); names != "" {
		t.Errorf("an abstract socket of ours: %s", names)
	}
	for file, mode := range map[string]os.FileMode{socket: 0o600 | os.ModeSocket, n.options.RunDir: 0o700 | os.ModeDir, filepath.Join(n.options.RunDir, spec.Group): 0o700 | os.ModeDir} {
		if info, err := os.Stat(file); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

// TestEscapeCVE202141091: who is a user of the host finds neither the records nor
// the output nor the sockets of containers.
func TestEscapeCVE202141091(t *testing.T) {
	n := newNode(t)
	n.start(n.spec("a", "ignore"))
	state := n.options.StateDir
	for _, dir := range []string{n.options.RunDir, filepath.Join(state, "containers"), filepath.Join(state, "spool"), filepath.Join(state, "spool", "a")} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

// TestEscapeCVE202143784: values that overflow the 16-bit lengths of the message by
// which the runner's first process is told its namespaces.
func TestEscapeCVE202143784(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	for i, length := range []int{65_535, 65_536, 65_536 + 17, 70_000, 140_000} {
		spec := n.spec(fmt.Sprint("ns", i), "id")
		spec.NetNS = "/proc/self" + strings.Repeat("/.", (length-17)/2) + "/ns/net"
		if out, ran := n.attempt(spec); ran {
			t.Errorf("a name of %d bytes was taken: %s", length, out)
		}
		spec = n.spec(fmt.Sprint("host", i), "id")
		spec.Hostname = strings.Repeat("h", length)
		if out, ran := n.attempt(spec); ran {
			t.Errorf("a host name of %d bytes was taken: %s", length, out)
		}
	}
	n.responsive("after")
}

// TestEscapeCVE202224769: no process begins with inheritable capabilities, neither
// the container's nor one added to it (CVE-2022-29162).
func TestEscapeCVE202224769(t *testing.T) {
	n := newNode(t)
	for i, change := range []func(*runtime.Spec){
		func(*runtime.Spec) {},
		func(s *runtime.Spec) { s.User = "worker" },
		func(s *runtime.Spec) { s.CapAdd = []string{"ALL"} },
		func(s *runtime.Spec) { s.Privileged = true },
		func(s *runtime.Spec) { s.Init = true },
	} {
		spec := n.spec(fmt.Sprint("c", i), "inheritable")
		change(&spec)
		out, _ := n.run(spec)
		wantText(t, "the container's", out, "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000")
	}
	spec := n.spec("exec", "ignore")
	n.start(spec)
	for _, user := range []string{"", "worker"} {
		result, err := n.Exec(n.ctx, "exec", runtime.ExecSpec{Args: []string{"cat", "/proc/self/status"}, User: user})
		n.must(err)
		wantText(t, "an added process's", string(result.Output), "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000")
	}
}

// TestEscapeCVE202236109: a process keeps its primary group when it changes it.
func TestEscapeCVE202236109(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "ignore")
	spec.User = "1234:5678"
	n.start(spec)
	for user, want := range map[string]string{"": "groups=[5678]", "worker": "groups=[1001 1002]", "worker:extra": "groups=[1002]", "0": "groups=[0]"} {
		result, err := n.Exec(n.ctx, "a", runtime.ExecSpec{Args: []string{"id"}, User: user})
		n.must(err)
		wantText(t, "user "+user, string(result.Output), want)
	}
}

// TestEscapeCVE202440635: a user number that overflows must not become root.
func TestEscapeCVE202440635(t *testing.T) {
	n := newNode(t)
	for i, user := range []string{"4294967296", "2147483648", "4294967296:4294967296", "0:4294967296", "-1", "-4294967296", "18446744073709551616", "1000:-1"} {
		spec := n.spec(fmt.Sprint("u", i), "id")
		spec.User = user
		if out, ran := n.attempt(spec); ran {
			t.Errorf("user %q runs: %s", user, out)
		}
	}
}

// TestEscapeCVE202325809: no cgroup can be written to, whichever hierarchy; nor can
// the container raise its own limits or make cgroups of its own.
func TestEscapeCVE202325809(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "open", "w")
	for _, dir := range []string{"memory/", "pids/", "cpu/", "freezer/", "devices/", "systemd/", "unified/", ""} {
		for _, file := range []string{
			"cgroup.procs", "tasks", "release_agent", "notify_on_release", "memory.limit_in_bytes", "memory.max", "pids.max",
			"cpu.shares", "cpu.cfs_quota_us", "cpu.max", "freezer.state", "devices.allow", "cgroup.kill", "cgroup.subtree_control",
		} {
			spec.Args = append(spec.Args, "/sys/fs/cgroup/"+dir+file)
		}
	}
	out, _ := n.run(spec)
	wantNo(t, "writing to cgroups", out, ": done")
	wantText(t, "writing to cgroups", out, "read-only file system")
}

// ownDescriptor is one that a process of a container may have: its standard streams,
// and what Go's runtime opens itself to learn its share of the processors.
var ownDescriptor = regexp.MustCompile(`^fd ([012] (pipe:\[\d+\]|/dev/null|/dev/pts/\d+)|\d+ /sys/fs/cgroup/(cpu/cpu\.cfs_(quota|period)_us|cpu\.max))$`)

// TestEscapeCVE202421626: descriptors of the host that leak into the container, as
// its working directory or open in its processes.
func TestEscapeCVE202421626(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	marker := strings.TrimPrefix(filepath.Join(outside, "marker"), "/")
	clean := func(what, out string) {
		t.Helper()
		wantNo(t, what, out, "escaped", outside, n.options.RunDir, n.options.StateDir)
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); f[0] == "fd" && !ownDescriptor.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s has an open descriptor: %s", what, line)
			}
		}
	}
	for _, terminal := range []bool{false, true} {
		spec := n.spec(fmt.Sprint("init-", terminal), "fds", marker)
		spec.Terminal = terminal
		out, _ := n.run(spec)
		clean("the container", out)
		wantText(t, "the container", out, "fd 1 ", "cwd /", "root /")
	}
	for fd := 3; fd < 8; fd++ {
		spec := n.spec(fmt.Sprint("cwd", fd), "fds", marker)
		spec.Cwd = fmt.Sprint("/proc/self/fd/", fd)
		if fd%2 == 0 { // the same through a link of the image
			n.must(os.Symlink(spec.Cwd, filepath.Join(upper(spec), "way")))
			spec.Cwd = "/way"
		}
		if out, ran := n.attempt(spec); ran {
			clean(spec.Cwd, out)
		}
	}
	n.start(n.spec("running", "ignore"))
	for fd := 3; fd < 9; fd++ {
		cwd := fmt.Sprint("/proc/self/fd/", fd)
		if result, err := n.Exec(n.ctx, "running", runtime.ExecSpec{Args: []string{"fds", marker}, Cwd: cwd}); err == nil {
			clean("a command in "+cwd, string(result.Output))
		}
	}
	result, err := n.Exec(n.ctx, "running", runtime.ExecSpec{Args: []string{"fds", marker}})
	n.must(err)
	clean("a command", string(result.Output))
	wantText(t, "a command", string(result.Output), "fd 1 pipe")
	// Nor can a program be run from there.
	for fd := 3; fd < 8; fd++ {
		_, ran := n.attempt(n.spec(fmt.Sprint("exe", fd), fmt.Sprintf("/proc/self/fd/%d/../../../../../../../../../bin/sh", fd), "-c", "echo escaped"))
		if ran {
			t.Errorf("descriptor %d led to a program", fd)
		}
	}
}

// TestEscapeDevicesDeniedByDefault is runc's advisory of 2020, GHSA-g54h-m393-cpwq:
// the list of devices is of what is allowed. A container may make a node for the
// host's disk, and cannot open it.
func TestEscapeDevicesDeniedByDefault(t *testing.T) {
	n := newNode(t)
	var root unix.Stat_t
	n.must(unix.Stat("/", &root))
	disk := fmt.Sprintf("b:%d:%d", unix.Major(root.Dev), unix.Minor(root.Dev))
	out, _ := n.run(n.spec("a", "node", disk, "b:7:0", "b:8:0", "c:1:1", "c:1:2", "c:1:4", "c:1:11", "c:10:229", "c:10:237", "c:4:0"))
	wantNo(t, "devices", out, "read "+disk+": done", "write "+disk+": done")
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "mknod") && !strings.Contains(line, "not permitted") && !strings.Contains(line, "no such file") {
			t.Error(line)
		}
	}
	// What every container has works.
	out, _ = n.run(n.spec("b", "node", "c:1:3", "c:1:5", "c:1:9"))
	if strings.Count(out, ": done") != 9 {
		t.Errorf("the usual devices: %s", out)
	}
}
