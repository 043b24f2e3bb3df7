package native_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
)

// TestEscapeKernelFiles: files by which the kernel is made to run a program, or to do
// as it should not, cannot be written to.
func TestEscapeKernelFiles(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	out, _ := n.run(n.spec("a", "open", "w",
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sysrq-trigger",
		"/proc/sys/fs/binfmt_misc/register", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/sysrq", "/proc/irq/0/smp_affinity",
		"/sys/kernel/uevent_helper", "/sys/kernel/profiling", "/sys/power/state", "/sys/kernel/debug/x", "/sys/module/kernel/parameters/panic",
		"/proc/fs/x", "/proc/bus/pci/00/00.0", "/proc/mtrr", "/dev/mem", "/dev/kmsg", "/proc/kmsg"))
	wantNo(t, "writing", out, ": done")
	wantText(t, "writing", out, "core_pattern: read-only file system")
	// What is masked looks empty.
	out, _ = n.run(n.spec("b", "cat", "/proc/kcore", "/proc/keys", "/proc/timer_list"))
	wantNo(t, "masked files", out, "ELF", "Timer", "keyring")
}

// TestEscapeMounts: nothing can be mounted, nothing that hides something taken away.
func TestEscapeMounts(t *testing.T) {
	n := newNode(t)
	for i, change := range []func(*runtime.Spec){
		func(*runtime.Spec) {},
		func(s *runtime.Spec) { s.SeccompUnconfined = true }, // then the capabilities are what holds
		func(s *runtime.Spec) { s.CapAdd = []string{"NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_CHROOT"} },
	} {
		spec := n.spec(fmt.Sprint("m", i), "mounts")
		change(&spec)
		out, exit := n.run(spec)
		wantNo(t, "mounting", out, ": done")
		if exit.Code != 0 || strings.Count(out, "not permitted") < 15 {
			t.Errorf("%+v: %s", exit, out)
		}
	}
}

// TestEscapeCVE20220492: namespaces of its own, in which a cgroup v1 hierarchy can be
// mounted and a program of the host's named as its release agent.
func TestEscapeCVE20220492(t *testing.T) {
	n := newNode(t)
	n.unharmed()
	out, _ := n.run(n.spec("a", "userns"))
	wantNo(t, "namespaces", out, "clone user: done", "clone cgroup: done", "clone mount: done", "unshare: done", "release_agent: done")
	wantText(t, "namespaces", out, "not permitted")
	spec := n.spec("b", "userns")
	spec.SeccompUnconfined = true
	out, _ = n.run(spec)
	wantNo(t, "without a system call filter", out, "release_agent: done")
}

// TestEscapeShocker: files of the host opened by handle, without a name.
func TestEscapeShocker(t *testing.T) {
	n := newNode(t)
	for i, unconfined := range []bool{false, true} {
		spec := n.spec(fmt.Sprint("s", i), "shocker")
		spec.SeccompUnconfined = unconfined
		out, _ := n.run(spec)
		wantNo(t, "opening by handle", out, ": done")
		if strings.Count(out, "not permitted") != 3 {
			t.Errorf("unconfined %v: %s", unconfined, out)
		}
	}
}

// TestEscapeSystemCalls: what Docker's default profile denies as well.
func TestEscapeSystemCalls(t *testing.T) {
	n := newNode(t)
	denied := map[string]int{
		"keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "bpf": unix.SYS_BPF,
		"userfaultfd": unix.SYS_USERFAULTFD, "io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER,
		"io_uring_register": unix.SYS_IO_URING_REGISTER, "perf_event_open": unix.SYS_PERF_EVENT_OPEN,
		"kexec_load": unix.SYS_KEXEC_LOAD, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
		"delete_module": unix.SYS_DELETE_MODULE, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "mount": unix.SYS_MOUNT,
		"umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT,
		"fsopen": unix.SYS_FSOPEN, "fsmount": unix.SYS_FSMOUNT, "mount_setattr": unix.SYS_MOUNT_SETATTR, "setns": unix.SYS_SETNS,
		"unshare": unix.SYS_UNSHARE, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "reboot": unix.SYS_REBOOT,
		"settimeofday": unix.SYS_SETTIMEOFDAY, "clock_settime": unix.SYS_CLOCK_SETTIME, "acct": unix.SYS_ACCT,
		"quotactl": unix.SYS_QUOTACTL, "lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "kcmp": unix.SYS_KCMP, "syslog": unix.SYS_SYSLOG,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD, "fanotify_init": unix.SYS_FANOTIFY_INIT, "move_pages": unix.SYS_MOVE_PAGES,
		"migrate_pages": unix.SYS_MIGRATE_PAGES, "vhangup": unix.SYS_VHANGUP, "sethostname": unix.SYS_SETHOSTNAME,
		"setdomainname": unix.SYS_SETDOMAINNAME, "nfsservctl": unix.SYS_NFSSERVCTL,
	}
	spec := n.spec("a", "call")
	for _, number := range denied {
		spec.Args = append(spec.Args, fmt.Sprint(number))
	}
	out, _ := n.run(spec)
	for name, number := range denied {
		if !strings.Contains(out, fmt.Sprintf("%d: operation not permitted\n", number)) {
			t.Errorf("%s (%d) is not denied", name, number)
		}
	}
}

// TestEscapeSockets: CAP_NET_RAW is there as in Docker's default; the hypervisor,
// which knows no network namespaces, is out of reach.
func TestEscapeSockets(t *testing.T) {
	n := newNode(t)
	out, _ := n.run(n.spec("a", "packet"))
	wantText(t, "sockets", out, "socket raw: done", "socket netlink: done", "socket vsock: operation not permitted")
}

// TestEscapeTIOCSTI: nobody types into a terminal of the host: without a terminal
// there is none, with one it is the container's own.
func TestEscapeTIOCSTI(t *testing.T) {
	n := newNode(t)
	out, _ := n.run(n.spec("a", "tiocsti"))
	wantNo(t, "typing", out, "done")
	spec := n.spec("b", "fds")
	spec.Terminal = true
	out, _ = n.run(spec)
	wantText(t, "the terminal", out, "fd 0 /dev/pts/0")
	out, _ = n.run(n.spec("c", "open", "rw", "/dev/tty"))
	wantText(t, "the controlling terminal", out, "no such device or address")
}

// TestEscapeHostProcesses: in the host's process namespace, the host's own processes
// can be seen, and neither traced nor looked into.
func TestEscapeHostProcesses(t *testing.T) {
	n := newNode(t)
	other := n.spec("other", "ignore")
	n.start(other)
	spec := n.spec("a", "ptrace-other", "1", fmt.Sprint(os.Getpid()), fmt.Sprint(n.shimOf(other.Group)))
	spec.PIDMode = "host"
	out, _ := n.run(spec)
	wantNo(t, "the host's processes", out, "traced", "looked into", "read the environment")
	wantText(t, "the host's processes", out, "tried 3")
}

// TestEscapePrivilegedOnlyWhenAsked: what makes a container privileged is there when
// the task asks for it, and not otherwise.
func TestEscapePrivilegedOnlyWhenAsked(t *testing.T) {
	n := newNode(t)
	for _, privileged := range []bool{false, true} {
		spec := n.spec(fmt.Sprint("p-", privileged), "cat", "/proc/self/status")
		spec.Privileged = privileged
		out, _ := n.run(spec)
		if strings.Contains(out, "CapBnd:\t00000000a80425fb") == privileged || strings.Contains(out, "Seccomp:\t2") == privileged {
			t.Errorf("privileged %v: %s", privileged, out)
		}
		devices := n.spec(fmt.Sprint("d-", privileged), "ls", "/dev")
		devices.Privileged = privileged
		out, _ = n.run(devices)
		if strings.Contains(out, "kmsg") != privileged {
			t.Errorf("privileged %v: /dev has %s", privileged, strings.Fields(out))
		}
	}
	// All capabilities are not yet privilege: devices, masks and the filter stay.
	spec := n.spec("all", "open", "w", "/proc/sysrq-trigger", "/dev/mem", "/dev/kmsg")
	spec.CapAdd = []string{"ALL"}
	out, _ := n.run(spec)
	wantNo(t, "with all capabilities", out, ": done")
}

// TestEscapeExecIntoHostileContainer: the files that are read to run a command in a
// container are the container's, which does what it likes with them meanwhile.
func TestEscapeExecIntoHostileContainer(t *testing.T) {
	n := newNode(t)
	outside := n.unharmed()
	secret := filepath.Join(outside, "passwd")
	n.must(os.WriteFile(secret, []byte("outsider:x:4711:4711::/:/bin/sh\n"), 0o644))
	t.Cleanup(func() { _ = os.Remove(secret) })
	for name, put := range map[string]func(path string) error{
		"link":      func(p string) error { return os.Symlink(secret, p) },
		"proc":      func(p string) error { return os.Symlink("/proc/1/root"+secret, p) },
		"pipe":      func(p string) error { return unix.Mkfifo(p, 0o644) },
		"device":    func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"huge":      func(p string) error { return os.Truncate(mustCreate(p), 1<<40) },
	} {
		spec := n.spec(name, "ignore")
		n.must(os.Mkdir(filepath.Join(upper(spec), "etc"), 0o755))
		n.start(spec)
		n.await(name, "ready")
		passwd := filepath.Join(upper(spec), "etc", "passwd")
		n.must(put(passwd + ".new"))
		n.must(os.Rename(passwd+".new", passwd))
		ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
		result, err := n.Exec(ctx, name, runtime.ExecSpec{Args: []string{"id"}, User: "outsider"})
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		cancel()
	}
}

func mustCreate(path string) string {
	f, err := os.Create(path)
	if err != nil {
		panic(err)
	}
	_ = f.Close()
	return path
}
