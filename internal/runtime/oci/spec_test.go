package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore.dev/longshore/internal/runtime"
)

const everything = uint64(1)<<41 - 1

func build(t *testing.T, s runtime.Spec, change func(*Host)) (*specs.Spec, []string) {
	t.Helper()
	if s.Args == nil {
		s.Args = []string{"run"}
	}
	h := Host{Arch: "amd64", Capabilities: everything, SwapAccounting: true, CountsPIDs: true, RootFSPath: "/root", MountNS: "/ns", User: User{Home: "/home/me"}}
	if change != nil {
		change(&h)
	}
	spec, notes, err := Build(s, h)
	if err != nil {
		t.Fatal(err)
	}
	return spec, notes
}

func TestCapabilities(t *testing.T) {
	for name, c := range map[string]struct {
		add, drop  []string
		privileged bool
		available  uint64
		want       []string
		missing    int
	}{
		"default":      {available: everything, want: defaultCapabilities},
		"add":          {add: []string{"NET_ADMIN"}, available: everything, want: append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN")},
		"add prefixed": {add: []string{"cap_net_admin"}, available: everything, want: append(slices.Clone(defaultCapabilities), "CAP_NET_ADMIN")},
		"drop":         {drop: []string{"ALL"}, available: everything},
		"drop, add":    {drop: []string{"ALL"}, add: []string{"KILL"}, available: everything, want: []string{"CAP_KILL"}},
		"all but":      {add: []string{"ALL"}, drop: []string{"SYS_ADMIN"}, available: everything, want: slices.DeleteFunc(slices.Clone(capabilityNames), func(s string) bool { return s == "CAP_SYS_ADMIN" })},
		"privileged":   {privileged: true, available: everything &^ SysResource, want: slices.DeleteFunc(slices.Clone(capabilityNames), func(s string) bool { return s == "CAP_SYS_RESOURCE" })},
		"missing":      {add: []string{"SYS_RESOURCE"}, available: everything &^ SysResource, want: defaultCapabilities, missing: 1},
	} {
		t.Run(name, func(t *testing.T) {
			have, missing, err := capabilities(c.add, c.drop, c.privileged, c.available)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(have)
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(have, want) || len(missing) != c.missing {
				t.Errorf("have %v, want %v; missing %v", have, want, missing)
			}
		})
	}
	if _, _, err := capabilities([]string{"NOPE"}, nil, false, everything); err == nil {
		t.Error("an unknown capability was accepted")
	}
}

func allows(p *specs.LinuxSeccomp, name string) (always, sometimes bool) {
	for _, s := range p.Syscalls {
		if s.Action == specs.ActAllow && slices.Contains(s.Names, name) {
			if len(s.Args) == 0 {
				return true, true
			}
			sometimes = true
		}
	}
	return false, sometimes
}

func TestSeccompFollowsCapabilities(t *testing.T) {
	plain := seccompProfile("amd64", false, defaultCapabilities)
	for _, name := range strings.Fields(`keyctl add_key request_key mount umount2 unshare setns bpf
		perf_event_open init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff
		pivot_root acct settimeofday clock_settime open_by_handle_at userfaultfd io_uring_setup
		iopl ioperm syslog quotactl nfsservctl vhangup get_mempolicy mbind move_pages kcmp`) {
		if _, some := allows(plain, name); some {
			t.Errorf("%s is allowed by default", name)
		}
	}
	for _, name := range strings.Fields("read write execve futex openat epoll_wait chroot rseq landlock_restrict_self ptrace") {
		if always, _ := allows(plain, name); !always {
			t.Errorf("%s is not allowed", name)
		}
	}
	for _, name := range strings.Fields("clone socket personality") {
		if always, some := allows(plain, name); always || !some {
			t.Errorf("%s is not allowed by its arguments", name)
		}
	}
	admin := seccompProfile("amd64", false, append(slices.Clone(defaultCapabilities), "CAP_SYS_ADMIN"))
	for _, name := range strings.Fields("mount unshare clone3 clone bpf setns") {
		if always, _ := allows(admin, name); !always {
			t.Errorf("CAP_SYS_ADMIN does not open %s", name)
		}
	}
	for capability, names := range capabilitySyscalls {
		if !slices.Contains(capabilityNames, capability) {
			t.Errorf("%s is no capability", capability)
		}
		profile := seccompProfile("amd64", false, []string{capability})
		for name := range strings.FieldsSeq(names) {
			if always, _ := allows(profile, name); !always {
				t.Errorf("%s does not open %s", capability, name)
			}
		}
	}
	if n := len(seccompProfile("amd64", true, nil).Architectures); n != 2 {
		t.Errorf("with 32-bit programs: %d architectures", n)
	}
}

func TestPrivilegedHasNoFences(t *testing.T) {
	spec, _ := build(t, runtime.Spec{Privileged: true}, nil)
	if spec.Linux.Seccomp != nil || spec.Linux.MaskedPaths != nil || spec.Linux.ReadonlyPaths != nil {
		t.Error("a privileged container is fenced")
	}
	spec, _ = build(t, runtime.Spec{}, nil)
	if spec.Linux.Seccomp == nil || len(spec.Linux.MaskedPaths) == 0 || len(spec.Linux.ReadonlyPaths) == 0 {
		t.Error("a plain container lacks a fence")
	}
	if d := spec.Linux.Resources.Devices; len(d) == 0 || d[0].Allow || d[0].Access != "rwm" {
		t.Errorf("devices are not denied first: %+v", d)
	}
	spec, _ = build(t, runtime.Spec{SeccompUnconfined: true}, nil)
	if spec.Linux.Seccomp != nil {
		t.Error("unconfined has a seccomp profile")
	}
}

func TestEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		spec runtime.Spec
		want []string
	}{
		"defaults": {runtime.Spec{}, []string{DefaultPath, "HOME=/home/me"}},
		"all":      {runtime.Spec{Hostname: "h", Terminal: true}, []string{DefaultPath, "HOSTNAME=h", "TERM=xterm", "HOME=/home/me"}},
		"own":      {runtime.Spec{Env: []string{"PATH=/x", "HOME="}}, []string{"PATH=/x", "HOME="}},
	} {
		spec, _ := build(t, c.spec, nil)
		if !slices.Equal(spec.Process.Env, c.want) {
			t.Errorf("%s: %q, want %q", name, spec.Process.Env, c.want)
		}
	}
}

func TestNamespaces(t *testing.T) {
	types := func(s runtime.Spec) string {
		spec, _ := build(t, s, func(h *Host) {
			if strings.HasPrefix(s.PIDMode, "container:") {
				h.PIDNS = "/proc/5/ns/pid"
			}
		})
		var names []string
		for _, n := range spec.Linux.Namespaces {
			names = append(names, string(n.Type)+"="+n.Path)
		}
		return strings.Join(names, " ")
	}
	for want, s := range map[string]runtime.Spec{
		"mount=/ns uts= cgroup= pid= ipc= network=/run/netns/x":               {NetNS: "/run/netns/x"},
		"mount=/ns uts= cgroup=":                                              {NetNS: "host", PIDMode: "host", IPCMode: "host"},
		"mount=/ns uts= cgroup= pid=/proc/5/ns/pid ipc= network=/run/netns/x": {NetNS: "/run/netns/x", PIDMode: "container:x"},
	} {
		if got := types(s); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
}

func TestResources(t *testing.T) {
	spec, _ := build(t, runtime.Spec{Resources: runtime.Resources{CPUShares: 1, CPUQuotaMicros: 50_000, MemoryBytes: 1 << 20, ReservationBytes: 1 << 19, PIDs: 7}}, nil)
	r := spec.Linux.Resources
	if *r.CPU.Shares != 2 || *r.CPU.Quota != 50_000 || *r.CPU.Period != 100_000 || *r.Memory.Limit != 1<<20 || *r.Memory.Swap != 1<<20 || *r.Memory.Reservation != 1<<19 || *r.Pids.Limit != 7 {
		t.Errorf("%+v %+v %+v", r.CPU, r.Memory, r.Pids)
	}
	for _, c := range []struct {
		r          runtime.Resources
		accounting bool
		want       int64
	}{
		{runtime.Resources{MemoryBytes: 10}, true, 10},
		{runtime.Resources{MemoryBytes: 10, SwapBytes: 30}, true, 30},
		{runtime.Resources{MemoryBytes: 10, SwapBytes: -1}, true, -1},
		{runtime.Resources{MemoryBytes: 10, SwapBytes: 30}, false, 0},
		{runtime.Resources{SwapBytes: 30}, true, 0},
	} {
		if got := SwapLimit(c.r, c.accounting); got != c.want {
			t.Errorf("%+v: %d, want %d", c.r, got, c.want)
		}
	}
}

func TestRlimitsAreClampedOnlyWithoutTheRight(t *testing.T) {
	s := runtime.Spec{Rlimits: []runtime.Rlimit{{Name: "NOFILE", Soft: 5000, Hard: 9000}}}
	limited := func(h *Host) { h.HardLimits = map[string]uint64{"nofile": 1000} }
	spec, notes := build(t, s, func(h *Host) { limited(h); h.Capabilities &^= SysResource })
	if l := spec.Process.Rlimits[0]; l.Hard != 1000 || l.Soft != 1000 || l.Type != "RLIMIT_NOFILE" || len(notes) != 1 {
		t.Errorf("%+v, %v", l, notes)
	}
	spec, notes = build(t, s, limited)
	if l := spec.Process.Rlimits[0]; l.Hard != 9000 || l.Soft != 5000 || len(notes) != 0 {
		t.Errorf("%+v, %v", l, notes)
	}
}

func TestMounts(t *testing.T) {
	spec, _ := build(t, runtime.Spec{
		ShmBytes: 1000, Init: true,
		Mounts: []runtime.Mount{
			{Destination: "/a/b/c", Source: "/1"},
			{Destination: "/a", Source: "/2", Options: []string{"bind", "ro"}},
			{Destination: "/dev/shm", Type: "tmpfs"},
		},
	}, func(h *Host) { h.Runner = "/runner" })
	var order []string
	for _, m := range spec.Mounts {
		order = append(order, m.Destination)
		switch m.Destination {
		case "/a/b/c":
			if !slices.Equal(m.Options, []string{"rbind", "rprivate"}) || m.Type != "bind" {
				t.Errorf("%+v", m)
			}
		case "/a":
			if !slices.Equal(m.Options, []string{"bind", "ro", "rprivate"}) {
				t.Errorf("%+v", m)
			}
		}
	}
	if slices.Index(order, "/a") > slices.Index(order, "/a/b/c") {
		t.Errorf("children before parents: %v", order)
	}
	if n := len(slices.DeleteFunc(slices.Clone(order), func(s string) bool { return s != "/dev/shm" })); n != 1 {
		t.Errorf("/dev/shm is mounted %d times", n)
	}
	if spec.Process.Args[0] != initPath || !slices.Contains(order, initPath) {
		t.Errorf("no init: %v, %v", spec.Process.Args, order)
	}
}

func TestBadSpecs(t *testing.T) {
	for name, s := range map[string]runtime.Spec{
		"no command":     {Args: []string{""}},
		"relative cwd":   {Cwd: "x"},
		"relative mount": {Mounts: []runtime.Mount{{Destination: "x"}}},
		"mount over /":   {Mounts: []runtime.Mount{{Destination: "/a/.."}}},
		"limits crossed": {Rlimits: []runtime.Rlimit{{Name: "core", Soft: 2, Hard: 1}}},
		"unknown limit":  {Rlimits: []runtime.Rlimit{{Name: "x"}}},
		"unknown cap":    {CapDrop: []string{"x"}},
	} {
		if s.Args == nil {
			s.Args = []string{"run"}
		}
		if _, _, err := Build(s, Host{Capabilities: everything}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestEveryContainerHasAProcessLimit: what the task says, or the default.
func TestEveryContainerHasAProcessLimit(t *testing.T) {
	nproc := func(n uint64) []runtime.Rlimit { return []runtime.Rlimit{{Name: "nproc", Soft: n, Hard: n}} }
	for name, c := range map[string]struct {
		spec runtime.Spec
		want int64
	}{
		"default":               {runtime.Spec{}, defaultPIDs},
		"privileged":            {runtime.Spec{Privileged: true}, defaultPIDs},
		"given":                 {runtime.Spec{Resources: runtime.Resources{PIDs: 9}}, 9},
		"unlimited":             {runtime.Spec{Resources: runtime.Resources{PIDs: -1}}, -1},
		"raised with nproc":     {runtime.Spec{Rlimits: nproc(20_000)}, 20_000},
		"not lowered":           {runtime.Spec{Rlimits: nproc(10)}, defaultPIDs},
		"without limit by user": {runtime.Spec{Rlimits: nproc(1<<64 - 1)}, -1},
	} {
		spec, _ := build(t, c.spec, nil)
		if got := *spec.Linux.Resources.Pids.Limit; got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if spec, _ := build(t, runtime.Spec{}, func(h *Host) { h.CountsPIDs = false }); spec.Linux.Resources.Pids != nil {
		t.Error("a limit where the machine has none to set")
	}
}

// A shim that the kernel spares does not hand that on to what it starts.
func TestOOMScoreIsNotInherited(t *testing.T) {
	if spec, _ := build(t, runtime.Spec{}, nil); spec.Process.OOMScoreAdj != nil {
		t.Errorf("the kernel's choice is changed to %d without need", *spec.Process.OOMScoreAdj)
	}
	spared, _ := build(t, runtime.Spec{}, func(h *Host) { h.SparedByOOM = true })
	if score := spared.Process.OOMScoreAdj; score == nil || *score != 0 {
		t.Errorf("a container inherits that its shim is spared: %v", score)
	}
}
