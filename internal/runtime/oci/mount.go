package oci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore.dev/longshore/internal/runtime"
)

// Kernel files that tell or change too much about the host, as Docker hides them.
var (
	maskedPaths = strings.Fields(`/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys
		/proc/latency_stats /proc/timer_list /proc/timer_stats /proc/sched_debug /proc/scsi
		/sys/firmware /sys/devices/virtual/powercap`)
	readonlyPaths = strings.Fields(`/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger`)
)

// mounts are the defaults, where the Spec does not mount something else there,
// and then the Spec's own, parents before children.
func mounts(s runtime.Spec, h Host) ([]specs.Mount, error) {
	var own []specs.Mount
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/" {
			return nil, fmt.Errorf("mount destination %q is not an absolute path below /", m.Destination)
		}
		if strings.ContainsRune(m.Destination, 0) || strings.ContainsRune(m.Source, 0) {
			return nil, fmt.Errorf("mount %q contains a zero byte", m.Destination)
		}
		own = append(own, mount(m))
	}
	slices.SortStableFunc(own, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	all := slices.DeleteFunc(defaultMounts(s), func(d specs.Mount) bool {
		return slices.ContainsFunc(own, func(m specs.Mount) bool { return m.Destination == d.Destination })
	})
	if s.Init {
		all = append(all, specs.Mount{
			Destination: initPath, Type: "bind", Source: h.Runner, Options: []string{"bind", "ro", "nosuid", "nodev"},
		})
	}
	return append(all, own...), nil
}

func mount(m runtime.Mount) specs.Mount {
	options := slices.Clone(m.Options)
	kind := m.Type
	if kind == "" {
		kind = "bind"
	}
	isBind := func(o string) bool { return o == "bind" || o == "rbind" }
	if kind == "bind" && !slices.ContainsFunc(options, isBind) {
		options = append(options, "rbind")
	}
	if kind == "bind" && !slices.ContainsFunc(options, isPropagation) {
		options = append(options, "rprivate")
	}
	source := m.Source
	if source == "" {
		source = kind
	}
	return specs.Mount{Destination: path.Clean(m.Destination), Type: kind, Source: source, Options: options}
}

func isPropagation(o string) bool {
	return strings.HasSuffix(o, "private") || strings.HasSuffix(o, "shared") || strings.HasSuffix(o, "slave")
}

func defaultMounts(s runtime.Spec) []specs.Mount {
	shm := s.ShmBytes
	if shm <= 0 {
		shm = defaultShmBytes
	}
	access := "ro"
	if s.Privileged {
		access = "rw"
	}
	quiet := []string{"nosuid", "noexec", "nodev"}
	with := func(options ...string) []string { return append(slices.Clone(quiet), options...) }
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: quiet},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: with(access)},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: with(access)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: quiet},
	}
	if s.IPCMode == "host" {
		return append(mounts, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}})
	}
	return append(mounts, specs.Mount{
		Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: with("mode=1777", fmt.Sprintf("size=%d", shm)),
	})
}
