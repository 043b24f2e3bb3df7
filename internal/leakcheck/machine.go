package leakcheck

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// processes finds those in the node's cgroups and the node's shims.
func processes(scope Scope, add func(string, ...any)) error {
	if scope.Node == "" {
		return nil
	}
	for _, pid := range pids() {
		if name, ours := ownProcess(pid, scope.Node); ours {
			add("process %d: %s", pid, name)
		}
	}
	return nil
}

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// ownProcess reads what may vanish meanwhile: what cannot be read is not there.
func ownProcess(pid int, node string) (name string, ours bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", false
	}
	// After the name, which the process chooses and which may hold parentheses itself.
	if state := stat[bytes.LastIndexByte(stat, ')')+1:]; bytes.HasPrefix(state, []byte(" Z")) {
		return "", false // ended; its parent has yet to notice
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
	name = strings.Join(args, " ")
	if len(args) > 2 && args[1] == "shim" && strings.Contains(args[2], `"node":"`+node+`"`) {
		return name, true
	}
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	for line := range strings.Lines(string(data)) {
		if strings.Contains(strings.TrimSpace(line)+"/", ":/longshore/"+node+"/") {
			return name, true
		}
	}
	return "", false
}

func cgroups(scope Scope, add func(string, ...any)) error {
	if scope.Node == "" {
		return nil
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*/longshore/" + scope.Node)
	if err != nil {
		return err
	}
	for _, root := range append(roots, "/sys/fs/cgroup/longshore/"+scope.Node) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreGone(err)
			}
			if d.IsDir() {
				add("cgroup %s", path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list cgroups: %w", err)
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func mounts(scope Scope, add func(string, ...any)) error {
	if len(scope.Paths) == 0 {
		return nil
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mount table: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && below(f[4], scope.Paths) {
			add("mount %s", strings.TrimSpace(line))
		}
	}
	return nil
}

func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	})
}

func files(scope Scope, add func(string, ...any)) error {
	for _, dir := range scope.Paths {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return ignoreGone(err)
			}
			if path != dir {
				add("file %s", path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list files: %w", err)
		}
	}
	return nil
}

func namespaces(scope Scope, add func(string, ...any)) error {
	if scope.NetNSPrefix == "" {
		return nil
	}
	entries, err := os.ReadDir("/run/netns")
	if ignoreGone(err) != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), scope.NetNSPrefix) {
			add("network namespace /run/netns/%s", e.Name())
		}
	}
	return nil
}

// tcpListen is TCP_LISTEN in /proc/net/tcp.
const tcpListen = "0A"

func ports(scope Scope, add func(string, ...any)) error {
	if !scope.Ports {
		return nil
	}
	sockets := socketsOf("self")
	if scope.Node != "" {
		for _, pid := range pids() {
			if _, ours := ownProcess(pid, scope.Node); ours {
				sockets = append(sockets, socketsOf(strconv.Itoa(pid))...)
			}
		}
	}
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile("/proc/net/" + protocol)
		if ignoreGone(err) != nil {
			return fmt.Errorf("list ports: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 10 || !slices.Contains(sockets, f[9]) {
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			number, err := strconv.ParseUint(port, 16, 16)
			if err == nil && (f[3] == tcpListen || strings.HasPrefix(protocol, "udp")) {
				add("listening port %s/%d, socket %s", protocol, number, f[9])
			}
		}
	}
	return nil
}

// socketsOf lists the inodes of a process's sockets.
func socketsOf(pid string) []string {
	dir := filepath.Join("/proc", pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var inodes []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}
