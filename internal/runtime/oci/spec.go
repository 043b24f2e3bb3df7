package oci

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore.dev/longshore/internal/runtime"
)

// DefaultPath is the PATH of a container that sets none.
const DefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	defaultShmBytes = 64 << 20
	cpuPeriodMicros = 100_000
	// defaultPIDs is how many processes and threads a container may have that does
	// not say: enough for any service, and too few to fill the machine's table.
	defaultPIDs = 4096
	// maxPIDs is the most that the kernel knows (PID_MAX_LIMIT); more is no limit.
	maxPIDs = 1 << 22
	// initPath is where the minimal init is mounted: /dev is our own tmpfs, so that
	// nothing is left in the image's files.
	initPath = "/dev/init"
)

// User is a process's user, looked up in the root file system.
type User struct {
	UID, GID int
	Groups   []int
	Home     string
}

// Host is what a Spec is turned into for: this machine and what was prepared.
type Host struct {
	Arch       string // GOARCH
	Compat     bool   // the image has programs of the 32-bit architecture
	RootFSPath string // where the root file system is mounted in MountNS
	CgroupPath string
	// Paths of namespaces to join; MountNS is always set, the others when shared.
	MountNS, PIDNS, IPCNS string
	User                  User
	// Capabilities is the mask of what this process may give away.
	Capabilities uint64
	// HardLimits are this process's own hard limits by Docker's name.
	HardLimits map[string]uint64
	// SwapAccounting tells that memory plus swap can be limited.
	SwapAccounting bool
	CgroupV2       bool
	// CountsPIDs tells that processes can be limited.
	CountsPIDs bool
	// SparedByOOM tells that this process counts for less than its use when the machine
	// runs out of memory. The container's count by what they use, as Docker's do.
	SparedByOOM bool
	// Runner is the executable that is mounted as the container's init.
	Runner string
	// Devices are Spec.Devices as found on the host, or all for a privileged container.
	Devices []specs.LinuxDevice
	// DeviceRules allow their use.
	DeviceRules []specs.LinuxDeviceCgroup
}

// Build returns the specification, and notes about what could not be had.
func Build(s runtime.Spec, h Host) (*specs.Spec, []string, error) {
	if len(s.Args) == 0 || s.Args[0] == "" {
		return nil, nil, errors.New("no command specified")
	}
	if s.Cwd != "" && !path.IsAbs(s.Cwd) {
		return nil, nil, fmt.Errorf("working directory %q is not an absolute path", s.Cwd)
	}
	caps, missing, err := capabilities(s.CapAdd, s.CapDrop, s.Privileged, h.Capabilities)
	if err != nil {
		return nil, nil, err
	}
	var notes []string
	for _, name := range missing {
		notes = append(notes, name+" cannot be given: this node does not have it itself")
	}
	limits, limitNotes, err := rlimits(s.Rlimits, h)
	if err != nil {
		return nil, nil, err
	}
	mounts, err := mounts(s, h)
	if err != nil {
		return nil, nil, err
	}
	spec := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: h.RootFSPath, Readonly: s.RootFS.ReadOnly},
		Hostname: s.Hostname,
		Mounts:   mounts,
		Process: &specs.Process{
			Terminal: s.Terminal, Args: args(s), Env: Environment(s, h.User.Home),
			Cwd: cwd(s.Cwd), User: processUser(h.User), Rlimits: limits,
			NoNewPrivileges: s.NoNewPrivileges,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Linux: &specs.Linux{
			CgroupsPath: h.CgroupPath,
			Namespaces:  namespaces(s, h),
			Resources:   resources(s, h),
			Devices:     h.Devices,
			Sysctl:      s.Sysctls,
		},
	}
	if h.SparedByOOM {
		spec.Process.OOMScoreAdj = new(int)
	}
	if !s.Privileged {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
		if !s.SeccompUnconfined {
			spec.Linux.Seccomp = seccompProfile(h.Arch, h.Compat, caps)
		}
	}
	return spec, append(notes, limitNotes...), nil
}

func args(s runtime.Spec) []string {
	if s.Init {
		return append([]string{initPath, "tini", "--"}, s.Args...)
	}
	return s.Args
}

func cwd(dir string) string {
	if dir == "" {
		return "/"
	}
	return path.Clean(dir)
}

func processUser(u User) specs.User {
	user := specs.User{UID: uint32(u.UID), GID: uint32(u.GID)}
	for _, g := range u.Supplementary() {
		user.AdditionalGids = append(user.AdditionalGids, uint32(g))
	}
	return user
}

// Supplementary lists the supplementary groups, with the primary one among them:
// else a process could leave a group whose members are denied something by
// changing its primary group (CVE-2022-36109).
func (u User) Supplementary() []int {
	if slices.Contains(u.Groups, u.GID) {
		return u.Groups
	}
	return append([]int{u.GID}, u.Groups...)
}

// Environment is the Spec's with Docker's defaults for what it does not set.
func Environment(s runtime.Spec, home string) []string {
	env := slices.Clone(s.Env)
	set := func(entry string) {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(s.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			env = append(env, entry)
		}
	}
	set(DefaultPath)
	if s.Hostname != "" {
		set("HOSTNAME=" + s.Hostname)
	}
	if s.Terminal {
		set("TERM=xterm")
	}
	if home == "" {
		home = "/"
	}
	set("HOME=" + home)
	return env
}

func namespaces(s runtime.Spec, h Host) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace, Path: h.MountNS},
		{Type: specs.UTSNamespace},
		{Type: specs.CgroupNamespace},
	}
	if s.PIDMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: h.PIDNS})
	}
	if s.IPCMode != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: h.IPCNS})
	}
	if s.NetNS != "host" {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.NetNS})
	}
	return ns
}

func resources(s runtime.Spec, h Host) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if s.Privileged {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		r.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, h.DeviceRules...)
	}
	want := s.Resources
	if want.CPUShares > 0 || want.CPUQuotaMicros > 0 {
		r.CPU = &specs.LinuxCPU{}
		if want.CPUShares > 0 {
			shares := max(2, want.CPUShares) // the kernel's least
			r.CPU.Shares = &shares
		}
		if want.CPUQuotaMicros > 0 {
			quota, period := want.CPUQuotaMicros, uint64(cpuPeriodMicros)
			r.CPU.Quota, r.CPU.Period = &quota, &period
		}
	}
	if want.MemoryBytes > 0 || want.ReservationBytes > 0 {
		r.Memory = &specs.LinuxMemory{}
		if want.MemoryBytes > 0 {
			r.Memory.Limit = &want.MemoryBytes
			if swap := SwapLimit(want, h.SwapAccounting); swap != 0 {
				r.Memory.Swap = &swap
			}
			r.Memory.Swappiness = want.Swappiness
		}
		if want.ReservationBytes > 0 {
			r.Memory.Reservation = &want.ReservationBytes
		}
	}
	if h.CountsPIDs {
		pids := pidsLimit(s)
		r.Pids = &specs.LinuxPids{Limit: &pids}
	}
	return r
}

// pidsLimit is what the Spec says; else what it has as its limit of processes per
// user, if that is more than the default: who raises the one means the other.
func pidsLimit(s runtime.Spec) int64 {
	if s.Resources.PIDs != 0 {
		return max(s.Resources.PIDs, -1)
	}
	limit := uint64(defaultPIDs)
	for _, l := range s.Rlimits {
		if strings.EqualFold(l.Name, "nproc") {
			limit = max(limit, l.Hard)
		}
	}
	if limit > maxPIDs {
		return -1
	}
	return int64(limit)
}

// SwapLimit is the limit of memory plus swap to set, 0 for none: where swap is
// not accounted there is no file for it.
func SwapLimit(r runtime.Resources, accounting bool) int64 {
	switch {
	case !accounting || r.MemoryBytes <= 0:
		return 0
	case r.SwapBytes < 0:
		return -1
	}
	return max(r.SwapBytes, r.MemoryBytes)
}

var rlimitNames = strings.Fields(`core cpu data fsize locks memlock msgqueue nice nofile nproc rss
	rtprio rttime sigpending stack as`)

// rlimits clamps what this process may not raise to its own hard limit.
func rlimits(want []runtime.Rlimit, h Host) (limits []specs.POSIXRlimit, notes []string, err error) {
	for _, l := range want {
		name := strings.ToLower(l.Name)
		if !slices.Contains(rlimitNames, name) {
			return nil, nil, fmt.Errorf("unknown resource limit %q", l.Name)
		}
		if l.Soft > l.Hard {
			return nil, nil, fmt.Errorf("resource limit %s: the soft limit %d is above the hard limit %d", name, l.Soft, l.Hard)
		}
		if own, known := h.HardLimits[name]; known && h.Capabilities&SysResource == 0 && l.Hard > own {
			notes = append(notes, fmt.Sprintf("resource limit %s is clamped from %d to %d: this node may not raise it", name, l.Hard, own))
			l.Hard, l.Soft = own, min(l.Soft, own)
		}
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name), Soft: l.Soft, Hard: l.Hard})
	}
	return limits, notes, nil
}
