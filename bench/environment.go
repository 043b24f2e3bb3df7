package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// environment describes what the figures were measured on.
func environment(ctx context.Context, binary, dir string) []string {
	version := "unknown version"
	if out, err := exec.CommandContext(ctx, binary, "version").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	size := ""
	if info, err := os.Stat(binary); err == nil {
		size = fmt.Sprintf(", a program of %d MB", info.Size()>>20)
	}
	return []string{
		version + size + ", " + runtime.Version(),
		fmt.Sprintf("%d cores (%s), %s of memory; clients and server share them", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory()),
		"kernel " + kernel() + ", cgroup " + cgroupVersion() + ", data on " + fileSystem(dir) + ", " + privileges(),
		"load at the start: " + loadAverage(),
	}
}

func privileges() string {
	if os.Geteuid() == 0 {
		return "as root"
	}
	return "not as root: no containers"
}

// field returns the value of the first "name: value" line of a file in /proc.
func field(path, name string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kib); err != nil {
		return "an unknown amount"
	}
	return fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// cgroupVersion tells v2 from v1, which may have an empty v2 hierarchy beside it.
func cgroupVersion() string {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return "absent"
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v2"
	}
	if err := unix.Statfs("/sys/fs/cgroup/unified", &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "v1 hybrid"
	}
	return "v1"
}

// fileSystem names the type of the file system that holds dir: of the mount with
// the longest matching path.
func fileSystem(dir string) string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	best, kind := "", "unknown"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		at := strings.TrimSuffix(fields[1], "/")
		if (dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= len(best) {
			best, kind = at, fields[2]
		}
	}
	return kind
}

func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(raw))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
