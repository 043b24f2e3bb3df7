package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

const hybridTable = `25 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 99 0:26 /docker/x /elsewhere rw,relatime - cgroup cgroup rw,memory
`

func TestParseV1(t *testing.T) {
	l := parseV1(hybridTable)
	want := []string{"/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/systemd/a", "/sys/fs/cgroup/unified/a"}
	if got := l.Dirs("/a"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if l.dir("cpuacct", "/a") != want[0] || l.dir("memory", "/a") != want[1] || l.dir("pids", "/a") != "" {
		t.Error("a controller is not where it is mounted")
	}
}

// files writes a directory tree.
func files(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStatsV2(t *testing.T) {
	root := t.TempDir()
	files(t, root, map[string]string{
		"n/memory.max":         "max\n",
		"n/g/memory.max":       "1000000\n",
		"n/g/c/memory.max":     "5000000\n",
		"n/g/c/cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 0\n",
		"n/g/c/memory.current": "4096\n", "n/g/c/memory.stat": "anon 1\nfile 2048\n", "n/g/c/pids.current": "3\n",
		"n/g/c/io.stat":       "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n",
		"n/g/c/memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\n",
	})
	l := Layout{V2: true, controllers: map[string]string{"": root}}
	now := time.Unix(1, 0)
	got, err := l.Stats("/n/g/c", now)
	want := runtime.Stats{
		At: now, CPUNanos: 3e6, CPUUserNanos: 2e6, CPUSystemNanos: 1e6, MemoryBytes: 4096,
		MemoryLimitBytes: 1000000, MemoryCacheBytes: 2048, PIDs: 3, ReadBytes: 101, WriteBytes: 202,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if n := l.OOMKills("/n/g/c"); n != 1 {
		t.Errorf("%d kills", n)
	}
	if _, err := l.Stats("/n/x", now); err == nil {
		t.Error("a cgroup that does not exist has usage")
	}
}

func TestStatsV1(t *testing.T) {
	root := t.TempDir()
	files(t, root, map[string]string{
		"cpuacct/c/cpuacct.usage": "3000000\n", "cpuacct/c/cpuacct.stat": "user 2\nsystem 1\n",
		"memory/c/memory.usage_in_bytes":                    "4096\n",
		"memory/c/memory.stat":                              "cache 1\nhierarchical_memory_limit 1000000\ntotal_cache 2048\n",
		"memory/c/memory.oom_control":                       "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"pids/c/pids.current":                               "3\n",
		"blkio/c/blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\nTotal 300\n",
	})
	l := Layout{controllers: map[string]string{}}
	for _, c := range []string{"cpuacct", "memory", "pids", "blkio"} {
		l.controllers[c] = filepath.Join(root, c)
	}
	now := time.Unix(1, 0)
	got, err := l.Stats("/c", now)
	want := runtime.Stats{
		At: now, CPUNanos: 3e6, CPUUserNanos: 2e7, CPUSystemNanos: 1e7, MemoryBytes: 4096,
		MemoryLimitBytes: 1000000, MemoryCacheBytes: 2048, PIDs: 3, ReadBytes: 100, WriteBytes: 200,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if n := l.OOMKills("/c"); n != 3 {
		t.Errorf("%d kills", n)
	}
}

func TestRemoveIsRecursiveAndRepeatable(t *testing.T) {
	root := t.TempDir()
	l := Layout{V2: true, controllers: map[string]string{"": root}}
	if err := l.Ensure("/a/b/c"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Remove(context.Background(), "/a/b"); err != nil {
			t.Fatal(err)
		}
	}
	if l.Exists("/a/b") || !l.Exists("/a") {
		t.Error("too much or too little was removed")
	}
	l.RemoveIfEmpty("/a")
	if l.Exists("/a") {
		t.Error("what is empty is still there")
	}
}

// TestANameIsNoState: a process may call itself "x) Z", and must be killed all the same.
func TestANameIsNoState(t *testing.T) {
	for stat, want := range map[string]bool{
		"12 (sleep) S 1 12":           false,
		"12 (sleep) Z 1 12":           true,
		"12 (sleep) X 1 12":           true,
		"12 (x) Z 1 ) S 1 12":         false,
		"12 (a) X () b) R 1 12":       false,
		"12 (a) S 1 (b) Z 1 12":       true,
		"":                            false,
		"12 (unclosed":                false,
		"12 (new\nline) Z) S 1 12 13": false,
	} {
		if got := zombieStat(stat); got != want {
			t.Errorf("%q counts as dead: %v", stat, got)
		}
	}
}
