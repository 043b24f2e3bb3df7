//go:build linux && cgo

package runner

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/oomscore"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/cgroup"
)

// maxDevices bounds a directory of devices.
const maxDevices = 256

// machine is what this process may give to containers.
type machine struct {
	capabilities   uint64
	hardLimits     map[string]uint64
	swapAccounting bool
	sparedByOOM    bool
}

func inspect(layout cgroup.Layout) machine {
	m := machine{hardLimits: map[string]uint64{}, capabilities: permittedCapabilities(), sparedByOOM: oomscore.Lowered()}
	for name, resource := range map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	} {
		var l unix.Rlimit
		if unix.Getrlimit(resource, &l) == nil {
			m.hardLimits[name] = l.Max
		}
	}
	m.swapAccounting = true
	if !layout.V2 {
		for _, dir := range layout.Dirs("/") {
			if _, err := os.Stat(filepath.Join(dir, "memory.limit_in_bytes")); err == nil {
				_, err = os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes"))
				m.swapAccounting = err == nil
			}
		}
	}
	return m
}

// permittedCapabilities reads the mask of /proc/self/status; 0 when it cannot.
func permittedCapabilities() uint64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			mask, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return mask
		}
	}
	return 0
}

// findDevices looks the Spec's devices up on the host. A privileged container
// gets all of /dev.
func findDevices(spec runtime.Spec) (nodes []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	wanted := spec.Devices
	if spec.Privileged {
		wanted = append([]runtime.Device{{HostPath: "/dev", ContainerPath: "/dev", Permissions: "rwm"}}, wanted...)
	}
	for _, d := range wanted {
		permissions := d.Permissions
		if permissions == "" {
			permissions = "rwm"
		}
		if strings.Trim(permissions, "rwm") != "" {
			return nil, nil, fmt.Errorf("device %s: permissions %q are not of r, w and m", d.HostPath, permissions)
		}
		target := d.ContainerPath
		if target == "" {
			target = d.HostPath
		}
		found, err := walkDevices(d.HostPath, target)
		if err != nil {
			return nil, nil, err
		}
		for _, node := range found {
			nodes = append(nodes, node)
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: node.Type, Major: &node.Major, Minor: &node.Minor, Access: permissions,
			})
		}
	}
	return nodes, rules, nil
}

// walkDevices returns the device at path, or those in the directory at path.
func walkDevices(path, target string) ([]specs.LinuxDevice, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", path, err)
	}
	var nodes []specs.LinuxDevice
	err = filepath.WalkDir(real, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			switch {
			case p == "/dev/pts" || p == "/dev/shm" || p == "/dev/mqueue" || p == "/dev/fd":
				return fs.SkipDir // the container has its own
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 || p == "/dev/console" || p == "/dev/ptmx" || p == "/dev/tty" {
			return nil
		}
		if len(nodes) == maxDevices {
			return fmt.Errorf("more than %d devices in %s", maxDevices, path)
		}
		node, err := device(p, filepath.Join(target, strings.TrimPrefix(p, real)))
		nodes = append(nodes, node)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", path, err)
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%s is not a device", path)
	}
	return nodes, nil
}

func device(path, target string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return specs.LinuxDevice{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := "c"
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: target, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}
