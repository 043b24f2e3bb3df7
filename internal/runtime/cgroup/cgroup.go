package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	unifiedMount = "/sys/fs/cgroup"
	hybridKey    = "unified"
	freezerState = "freezer.state"
)

// Layout is how this machine's cgroups are mounted.
type Layout struct {
	// V2 tells that one unified hierarchy holds every controller.
	V2 bool
	// controllers maps a v1 controller ("memory", "name=systemd") to the mount
	// point of its hierarchy; on v2 the only key is "". On a v1 machine that has
	// mounted v2 as well, hybridKey is that mount: libcontainer joins it too.
	controllers map[string]string
}

// Detect finds the machine's layout.
func Detect() (Layout, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(unifiedMount, &st); err != nil {
		return Layout{}, fmt.Errorf("no cgroups are mounted at %s: %w", unifiedMount, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return Layout{V2: true, controllers: map[string]string{"": unifiedMount}}, nil
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Layout{}, fmt.Errorf("read the mount table: %w", err)
	}
	l := parseV1(string(info))
	if len(l.controllers) == 0 {
		return Layout{}, fmt.Errorf("no cgroup v1 hierarchy is mounted below %s", unifiedMount)
	}
	return l, nil
}

// parseV1 reads the v1 hierarchies out of a mountinfo table.
func parseV1(mountinfo string) Layout {
	l := Layout{controllers: map[string]string{}}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		// A bind mount of some subtree shows a root other than "/".
		if !ok || len(left) < 5 || len(right) < 3 || left[3] != "/" {
			continue
		}
		if right[0] == "cgroup2" {
			l.controllers[hybridKey] = left[4]
		}
		if right[0] != "cgroup" {
			continue
		}
		for opt := range strings.SplitSeq(right[2], ",") {
			switch opt {
			case "rw", "ro", "xattr", "noprefix", "clone_children", "favordynmods":
			default:
				if _, dup := l.controllers[opt]; !dup {
					l.controllers[opt] = left[4]
				}
			}
		}
	}
	return l
}

// dir is the directory of path in a controller's hierarchy, or "".
func (l Layout) dir(controller, path string) string {
	if l.V2 {
		controller = ""
	}
	mount, ok := l.controllers[controller]
	if !ok {
		return ""
	}
	return filepath.Join(mount, path)
}

// Has tells whether a controller is there. Every v2 machine has what we use.
func (l Layout) Has(controller string) bool { return l.dir(controller, "/") != "" }

// Dirs lists path's directory in every hierarchy, whether it exists or not.
func (l Layout) Dirs(path string) []string {
	var dirs []string
	for _, mount := range l.controllers {
		dirs = append(dirs, filepath.Join(mount, path))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// Ensure creates path in every hierarchy.
func (l Layout) Ensure(path string) error {
	for _, dir := range l.Dirs(path) {
		// Another instance may remove an empty parent between our two mkdirs.
		var err error
		for range 5 {
			if err = os.MkdirAll(dir, 0o755); err == nil || !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("create cgroup %s: %w", path, err)
		}
	}
	return nil
}

// Exists tells whether path is there in any hierarchy.
func (l Layout) Exists(path string) bool {
	return slices.ContainsFunc(l.Dirs(path), func(dir string) bool {
		_, err := os.Stat(dir)
		return err == nil
	})
}

// Procs lists the processes in path and below, in any hierarchy, without zombies.
func (l Layout) Procs(path string) ([]int, error) {
	seen := map[int]bool{}
	for _, dir := range l.Dirs(path) {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return ignoreGone(err)
			}
			data, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for field := range strings.FieldsSeq(string(data)) {
				// 0 is a process of another pid namespace, which cannot be ours.
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list the processes of cgroup %s: %w", path, err)
		}
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		if !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func isZombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	return zombieStat(string(data))
}

// zombieStat reads the state out of /proc/PID/stat. The process chooses its name,
// which stands before it in parentheses and may hold some itself: the last one counts.
func zombieStat(stat string) bool {
	state := stat[strings.LastIndexByte(stat, ')')+1:]
	return strings.HasPrefix(state, " Z") || strings.HasPrefix(state, " X")
}

// Kill sends SIGKILL to every process in path and below until none is left.
func (l Layout) Kill(ctx context.Context, path string) error {
	pause := time.Millisecond
	for {
		if l.V2 {
			// One write kills the whole subtree without a race (Linux 5.14).
			_ = os.WriteFile(filepath.Join(l.dir("", path), "cgroup.kill"), []byte("1"), 0)
		}
		pids, err := l.Procs(path)
		if err != nil || len(pids) == 0 {
			return err
		}
		// A fork bomb outruns one pass of kills unless it is frozen meanwhile.
		l.freeze(path)
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		l.thaw(path)
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s still has %d processes: %w", path, len(pids), ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

// freeze and thaw are of v1 alone: cgroup.kill has no such race, and ends what is frozen.
func (l Layout) freeze(path string) {
	if dir := l.freezerDir(path); dir != "" {
		_ = os.WriteFile(filepath.Join(dir, freezerState), []byte("FROZEN"), 0)
	}
}

// thaw reaches what is below as well: a privileged container may have frozen
// cgroups of its own, in which no signal arrives.
func (l Layout) thaw(path string) {
	dir := l.freezerDir(path)
	if dir == "" {
		return
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.WriteFile(filepath.Join(p, freezerState), []byte("THAWED"), 0)
		}
		return nil
	})
}

func (l Layout) freezerDir(path string) string {
	if l.V2 {
		return ""
	}
	return l.dir("freezer", path)
}

// LimitPIDs bounds how many processes and threads there may be in path and below,
// all together.
func (l Layout) LimitPIDs(path string, most int64) error {
	if l.V2 {
		// A limit can only be set where the level above hands the controller down.
		above := "/"
		for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			_ = os.WriteFile(filepath.Join(l.dir("", above), "cgroup.subtree_control"), []byte("+pids"), 0)
			above = filepath.Join(above, name)
		}
	}
	dir := l.dir("pids", path)
	if dir == "" {
		return fmt.Errorf("limit the processes of cgroup %s: this machine has no pids controller", path)
	}
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.FormatInt(most, 10)), 0); err != nil {
		return fmt.Errorf("limit the processes of cgroup %s: %w", path, err)
	}
	return nil
}

// Remove removes path and what is below it from every hierarchy. The processes
// must be gone. What does not exist is no error.
func (l Layout) Remove(ctx context.Context, path string) error {
	for _, dir := range l.Dirs(path) {
		if err := removeTree(ctx, dir); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", path, err)
		}
	}
	return nil
}

// RemoveIfEmpty removes path where it has no children and no processes.
func (l Layout) RemoveIfEmpty(path string) {
	for _, dir := range l.Dirs(path) {
		_ = unix.Rmdir(dir)
	}
}

func removeTree(ctx context.Context, dir string) error {
	pause := time.Millisecond
	for {
		err := removeOnce(dir)
		// The kernel answers EBUSY for a moment after the last process died.
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

func removeOnce(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeOnce(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
