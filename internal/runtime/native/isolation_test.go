package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
)

func wantText(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, got)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "alloc", "200")
	spec.Resources.MemoryBytes = 50 << 20
	if _, exit := n.run(spec); !exit.OOMKilled || exit.Code != 137 {
		t.Errorf("beyond its memory: %+v", exit)
	}
	spec = n.spec("b", "alloc", "20")
	spec.Resources.MemoryBytes = 50 << 20
	if _, exit := n.run(spec); exit.OOMKilled || exit.Code != 0 {
		t.Errorf("within its memory: %+v", exit)
	}
	// The least that ECS allows must be enough to start in, and so must the least in
	// which no garbage is collected.
	for _, size := range []int64{6, 32} {
		spec = n.spec(fmt.Sprint("least-", size), "exit", "0")
		spec.Resources.MemoryBytes = size << 20
		if _, exit := n.run(spec); exit.OOMKilled || exit.Code != 0 {
			t.Errorf("with %d MiB of memory: %+v", size, exit)
		}
	}
	spec = n.spec("least-of-group", "exit", "0")
	spec.GroupResources.MemoryBytes = 6 << 20
	if _, exit := n.run(spec); exit.OOMKilled || exit.Code != 0 {
		t.Errorf("with 6 MiB for its group: %+v", exit)
	}
	spec = n.spec("c", "alloc", "200")
	spec.GroupResources.MemoryBytes = 50 << 20
	if _, exit := n.run(spec); !exit.OOMKilled || exit.Code != 137 {
		t.Errorf("beyond its group's memory: %+v", exit)
	}
}

// The runner lets its own monitor thread sleep longer; its containers' timers are
// as precise as the node's.
func TestTimersAreTheNodesOwn(t *testing.T) {
	n := newNode(t)
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	n.must(err)
	want := fmt.Sprintf("%d %d\n", own, own)
	if out, exit := n.run(n.spec("a", "slack")); exit.Code != 0 || out != want {
		t.Errorf("the timers' slack in ns, now and by default: %q, want %q; %+v", out, want, exit)
	}
	n.start(n.spec("b", "ignore"))
	result, err := n.Exec(n.ctx, "b", runtime.ExecSpec{Args: []string{"/bin/slack"}})
	if err != nil || string(result.Output) != want {
		t.Errorf("the timers' slack in ns of one more process: %q, want %q; %v", result.Output, want, err)
	}
}

func TestProcessLimit(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "forks", "100")
	spec.Resources.PIDs = 40
	out, _ := n.run(spec)
	wantText(t, "output", out, "refused")
}

func TestCPULimits(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "ignore")
	spec.Resources = runtime.Resources{CPUShares: 512, CPUQuotaMicros: 25_000, ReservationBytes: 32 << 20}
	spec.GroupResources = runtime.Resources{CPUShares: 1500, MemoryBytes: 256 << 20}
	n.start(spec)
	group := filepath.Join("/longshore", n.options.Node, spec.Group)
	want := map[string]string{}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		base := filepath.Join("/sys/fs/cgroup", group)
		want[base+"/a/cpu.max"] = "25000 100000"
		want[base+"/memory.max"] = fmt.Sprint(256 << 20)
	} else {
		want["/sys/fs/cgroup/cpu"+group+"/a/cpu.shares"] = "512"
		want["/sys/fs/cgroup/cpu"+group+"/a/cpu.cfs_quota_us"] = "25000"
		want["/sys/fs/cgroup/memory"+group+"/a/memory.soft_limit_in_bytes"] = fmt.Sprint(32 << 20)
		want["/sys/fs/cgroup/cpu"+group+"/cpu.shares"] = "1500"
		want["/sys/fs/cgroup/memory"+group+"/memory.limit_in_bytes"] = fmt.Sprint(256 << 20)
	}
	for file, value := range want {
		if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) != value {
			t.Errorf("%s is %q (%v), want %s", file, data, err, value)
		}
	}
	use, err := n.Stats(n.ctx, "a")
	n.must(err)
	if use.MemoryLimitBytes != 256<<20 {
		t.Errorf("the group's memory limit shows as %d", use.MemoryLimitBytes)
	}
}

func TestSeccomp(t *testing.T) {
	n := newNode(t)
	denied := []int{unix.SYS_KEYCTL, unix.SYS_UNSHARE, unix.SYS_MOUNT, unix.SYS_BPF, unix.SYS_REBOOT, unix.SYS_INIT_MODULE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_SETNS}
	args := []string{"call"}
	for _, number := range denied {
		args = append(args, fmt.Sprint(number))
	}
	args = append(args, fmt.Sprint(unix.SYS_CLONE3), fmt.Sprint(unix.SYS_CLOSE))
	out, exit := n.run(n.spec("a", args...))
	if exit.Code != 0 {
		t.Fatalf("exit %+v: %s", exit, out)
	}
	for _, number := range denied {
		wantText(t, "seccomp", out, fmt.Sprintf("%d: operation not permitted", number))
	}
	// clone3 must look missing, so that libc falls back; close is allowed and fails by itself.
	wantText(t, "seccomp", out, fmt.Sprintf("%d: function not implemented", unix.SYS_CLONE3), fmt.Sprintf("%d: bad file descriptor", unix.SYS_CLOSE))

	spec := n.spec("b", "cat", "/proc/self/status")
	out, _ = n.run(spec)
	wantText(t, "status", out, "Seccomp:\t2", "NoNewPrivs:\t0", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapAmb:\t0000000000000000")
	spec = n.spec("c", "cat", "/proc/self/status")
	spec.SeccompUnconfined, spec.NoNewPrivileges = true, true
	spec.CapDrop, spec.CapAdd = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
	out, _ = n.run(spec)
	wantText(t, "status", out, "Seccomp:\t0", "NoNewPrivs:\t1", "CapEff:\t0000000000000400")
	spec = n.spec("d", "cat", "/proc/self/status")
	spec.User = "worker"
	spec.NoNewPrivileges = true
	out, _ = n.run(spec)
	wantText(t, "status", out, "Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Uid:\t1000")
}

func TestHostIsNotVisible(t *testing.T) {
	n := newNode(t)
	out, _ := n.run(n.spec("a", "ls", "/proc"))
	for line := range strings.Lines(out) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid != 1 {
			t.Errorf("process %d is visible", pid)
		}
	}
	masked := []string{"cat"}
	for _, file := range []string{"/proc/kcore", "/proc/keys", "/proc/interrupts", "/proc/timer_list"} {
		if _, err := os.Stat(file); err == nil {
			masked = append(masked, file)
		}
	}
	out, _ = n.run(n.spec("b", masked...))
	if out != "" || len(masked) == 1 {
		t.Errorf("masked files hold %q", out)
	}
	out, _ = n.run(n.spec("c", "write", "/proc/sys/kernel/domainname", "x"))
	wantText(t, "writing to /proc/sys", out, "read-only file system")
	out, _ = n.run(n.spec("d", "write", "/sys/kernel/x", "x"))
	wantText(t, "writing to /sys", out, "read-only file system")
	// Of the host's mounts only the container's own are there.
	out, _ = n.run(n.spec("e", "cat", "/proc/self/mountinfo", "/proc/self/cgroup"))
	if strings.Contains(out, n.options.RunDir) || strings.Contains(out, n.options.Node) {
		t.Errorf("the host shows through:\n%s", out)
	}
	wantText(t, "mounts", out, " / / ", "/dev/shm", "/dev/pts", "/dev/mqueue", "/sys/fs/cgroup")
	out, _ = n.run(n.spec("f", "stat", "/dev/null", "/dev/zero", "/dev/random", "/dev/tty", "/dev/ptmx", "/dev/fd", "/dev/stdin"))
	wantText(t, "devices", out, "/dev/null Dcrw-rw-rw-")
	out, _ = n.run(n.spec("g", "ls", "/proc/self/fd"))
	if fds := len(strings.Fields(out)); fds > 6 {
		t.Errorf("%d descriptors are open in the container", fds)
	}
}

func TestIdentity(t *testing.T) {
	n := newNode(t)
	for user, want := range map[string]string{
		"":             "uid=0 gid=0",
		"1000":         "uid=1000 gid=1001 groups=[1001 1002]",
		"worker":       "uid=1000 gid=1001 groups=[1001 1002]",
		"worker:extra": "uid=1000 gid=1002 groups=[1002]",
		"1234:5678":    "uid=1234 gid=5678 groups=[5678]",
		"1234":         "uid=1234 gid=0",
	} {
		spec := n.spec("u"+fmt.Sprint(len(user)), "id")
		spec.User, spec.Hostname = user, "the-host"
		out, exit := n.run(spec)
		if !strings.Contains(out, want) || exit.Code != 0 {
			t.Errorf("user %q is %q", user, out)
		}
		wantText(t, "identity", out, "host=the-host", "pid=1")
		n.must(n.Delete(n.ctx, spec.ID))
	}
	spec := n.spec("nobody", "id")
	spec.User = "no-such-user"
	if err := n.Create(n.ctx, spec); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("an unknown user: %v", err)
	}
}

// TestUserFilesStayInTheImage: an image whose /etc/passwd points out of it.
func TestUserFilesStayInTheImage(t *testing.T) {
	n := newNode(t)
	secret := filepath.Join(t.TempDir(), "passwd")
	n.must(os.WriteFile(secret, []byte("outsider:x:4711:4711::/:/bin/sh\n"), 0o644))
	spec := n.spec("a", "id")
	for _, o := range spec.RootFS.Options {
		if upper, ok := strings.CutPrefix(o, "upperdir="); ok {
			n.must(os.Mkdir(filepath.Join(upper, "etc"), 0o755))
			n.must(os.Symlink(secret, filepath.Join(upper, "etc", "passwd")))
		}
	}
	spec.User = "outsider"
	if err := n.Create(n.ctx, spec); err == nil {
		t.Error("a user of the host's file was found")
		n.must(n.Delete(n.ctx, "a"))
	}
}

func TestEnvironmentAndDirectory(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "env")
	spec.Env, spec.User, spec.Hostname = []string{"A=1", "SECRET=s3cret-value"}, "worker", "box"
	out, _ := n.run(spec)
	wantText(t, "environment", out, "A=1", "PATH=/usr/local/sbin:", "HOME=/home/worker", "HOSTNAME=box", "SECRET=s3cret-value")
	// The secret is in no file and no command line.
	for _, dir := range []string{n.options.RunDir, n.options.StateDir} {
		_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() && !strings.HasSuffix(path, ".seg") {
				if data, _ := os.ReadFile(path); strings.Contains(string(data), "s3cret-value") {
					t.Errorf("%s holds a secret", path)
				}
			}
			return nil
		})
	}
	spec = n.spec("b", "cwd")
	spec.Cwd = "/made/for/it"
	if out, _ := n.run(spec); out != "/made/for/it\n" {
		t.Errorf("working directory %q", out)
	}
	spec = n.spec("c", "env")
	spec.Env, spec.Terminal = []string{"PATH=/bin", "HOME=/x", "TERM=dumb"}, true
	out, _ = n.run(spec)
	wantText(t, "environment", out, "PATH=/bin\r", "HOME=/x", "TERM=dumb")
}

func TestMounts(t *testing.T) {
	n := newNode(t)
	host := t.TempDir()
	n.must(os.WriteFile(filepath.Join(host, "hello"), []byte("from the host"), 0o644))
	spec := n.spec("a", "cat", "/data/hello", "/proc/self/mountinfo")
	spec.Mounts = []runtime.Mount{
		{Destination: "/data/deeper", Type: "tmpfs", Options: []string{"size=1m", "noexec"}},
		{Destination: "/data", Source: host, Options: []string{"ro"}},
		{Destination: "/one-file", Source: filepath.Join(host, "hello")},
	}
	n.must(os.Mkdir(filepath.Join(host, "deeper"), 0o755))
	spec.ShmBytes = 8 << 20
	out, exit := n.run(spec)
	if exit.Code != 0 {
		t.Fatal(out)
	}
	wantText(t, "mounts", out, "from the host", " /data ro", " /data/deeper rw", "size=1024k", " /one-file rw", "size=8192k")

	spec = n.spec("b", "write", "/data/new", "x")
	spec.Mounts = []runtime.Mount{{Destination: "/data", Source: host}}
	if out, exit := n.run(spec); exit.Code != 0 {
		t.Error(out)
	}
	if data, err := os.ReadFile(filepath.Join(host, "new")); err != nil || string(data) != "x" {
		t.Errorf("written through the mount: %q, %v", data, err)
	}
	spec = n.spec("c", "exit", "0")
	spec.Mounts = []runtime.Mount{{Destination: "/data", Source: filepath.Join(host, "missing")}}
	if err := n.Create(n.ctx, spec); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a mount of what is not there: %v", err)
	}
	// On the host nothing of all this is mounted while it runs.
	spec = n.spec("d", "ignore")
	n.start(spec)
	table, err := os.ReadFile("/proc/self/mountinfo")
	n.must(err)
	if strings.Contains(string(table), n.options.RunDir) || strings.Contains(string(table), n.layers) {
		t.Errorf("mounted on the host:\n%s", table)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "write", "/file", "x")
	spec.RootFS.ReadOnly = true
	out, _ := n.run(spec)
	wantText(t, "writing", out, "read-only file system")
	spec = n.spec("b", "write", "/tmp/file", "x")
	spec.RootFS.ReadOnly = true
	spec.Mounts = []runtime.Mount{{Destination: "/tmp", Type: "tmpfs"}}
	if out, exit := n.run(spec); exit.Code != 0 {
		t.Error(out)
	}
}

func TestBindRoot(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "echo", "bound")
	spec.RootFS = runtime.RootFS{Type: "bind", Source: rootfs, Options: []string{"rbind", "ro"}}
	if out, exit := n.run(spec); out != "bound\n" || exit.Code != 0 {
		t.Errorf("%q, %+v", out, exit)
	}
}

func TestLimitsAreClamped(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "cat", "/proc/self/limits")
	spec.Rlimits = []runtime.Rlimit{{Name: "nofile", Soft: 888, Hard: 888}, {Name: "nproc", Soft: 1 << 40, Hard: 1 << 40}}
	spec.CapAdd = []string{"SYS_RESOURCE", "NET_ADMIN"}
	out, exit := n.run(spec)
	if exit.Code != 0 {
		t.Fatal(out)
	}
	fields := strings.Join(strings.Fields(out), " ")
	wantText(t, "limits", fields, "Max open files 888 888")
	spec = n.spec("b", "exit", "0")
	spec.Rlimits = []runtime.Rlimit{{Name: "nonsense", Soft: 1, Hard: 1}}
	if err := n.Create(n.ctx, spec); err == nil {
		t.Error("a limit that does not exist was accepted")
	}
}

func TestMinimalInit(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "trap", "6")
	spec.Init = true
	n.start(spec)
	n.await("a", "ready")
	result, err := n.Exec(n.ctx, "a", runtime.ExecSpec{Args: []string{"cat", "/proc/1/cmdline", "/proc/1/status"}})
	n.must(err)
	wantText(t, "process 1", string(result.Output), "tini", "Threads:\t1")
	n.must(n.Signal(n.ctx, "a", 15, false))
	if exit, err := n.Wait(n.ctx, "a"); err != nil || exit.Code != 6 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	spec = n.spec("b", "signal", "9")
	spec.Init = true
	if _, exit := n.run(spec); exit.Code != 137 {
		t.Errorf("a child killed by a signal: %+v", exit)
	}
	spec = n.spec("c", "no-such-program")
	spec.Init = true
	if _, exit := n.run(spec); exit.Code != 127 {
		t.Errorf("a missing program: %+v", exit)
	}
}

func TestSharedNamespaces(t *testing.T) {
	n := newNode(t)
	first := n.spec("first", "ignore")
	n.start(first)
	n.await("first", "ready")
	second := n.spec("second", "ls", "/proc")
	second.Group, second.PIDMode, second.IPCMode = first.Group, "container:first", "container:first"
	out, exit := n.run(second)
	if exit.Code != 0 || !strings.Contains("\n"+out, "\n1\n") {
		t.Errorf("the first container's process is not seen:\n%s", out)
	}
	third := n.spec("third", "write", "/dev/shm/shared", "hello")
	third.Group, third.IPCMode = first.Group, "container:first"
	if out, exit := n.run(third); exit.Code != 0 {
		t.Fatal(out)
	}
	result, err := n.Exec(n.ctx, "first", runtime.ExecSpec{Args: []string{"cat", "/dev/shm/shared"}})
	n.must(err)
	if string(result.Output) != "hello" {
		t.Errorf("through shared memory came %q", result.Output)
	}
	stranger := n.spec("stranger", "exit", "0")
	stranger.PIDMode = "container:first"
	if err := n.Create(n.ctx, stranger); err == nil {
		t.Error("namespaces of another group's container were shared")
	}
}

func TestHostPIDLeavesNothing(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "orphan")
	spec.PIDMode = "host"
	n.start(spec)
	n.await("a", "orphan")
	n.must(n.Signal(n.ctx, "a", 9, false))
	if exit, err := n.Wait(n.ctx, "a"); err != nil || exit.Code != 137 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if left := processesOf(t, n.options.Node, spec.Group); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestBigOutputTakesNoMemory(t *testing.T) {
	n := newNode(t)
	const size = 100_000_000
	n.start(n.spec("a", "spam", fmt.Sprint(size)))
	spool, err := n.OpenSpool(n.ctx, "a")
	n.must(err)
	defer spool.Close()
	debug.FreeOSMemory()
	total, cursor := 0, int64(0)
	peak := 0
	for total < size {
		chunk, err := spool.Next(n.ctx, cursor)
		n.must(err)
		total += len(chunk.Data)
		cursor = chunk.Cursor
		if total%(1<<20) < len(chunk.Data) {
			n.must(spool.Ack(cursor))
			peak = max(peak, residentBytes(t, n.shimOf("g-a")))
		}
	}
	if exit, err := n.Wait(n.ctx, "a"); err != nil || exit.Code != 0 || total != size {
		t.Errorf("%d bytes, exit %+v, %v", total, exit, err)
	}
	t.Logf("the shim's resident memory: %d KiB at most", peak>>10)
	if peak > 32<<20 {
		t.Errorf("the shim grew to %d bytes", peak)
	}
}

func residentBytes(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
