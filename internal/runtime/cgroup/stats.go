package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// clockTick is USER_HZ, which Linux fixes at 100 for user space.
const clockTick = uint64(time.Second) / 100

// noLimit is what cgroup v1 shows above: a limit of "all there is".
const noLimit = uint64(1) << 62

// Stats reads the usage of path. Values whose controller is missing stay zero.
func (l Layout) Stats(path string, now time.Time) (runtime.Stats, error) {
	if !l.Exists(path) {
		return runtime.Stats{}, fmt.Errorf("read usage of cgroup %s: %w", path, fs.ErrNotExist)
	}
	s := runtime.Stats{At: now}
	if l.V2 {
		l.statsV2(path, &s)
	} else {
		l.statsV1(path, &s)
	}
	return s, nil
}

func (l Layout) statsV1(path string, s *runtime.Stats) {
	cpu := l.dir("cpuacct", path)
	s.CPUNanos = readUint(cpu, "cpuacct.usage")
	use := readPairs(cpu, "cpuacct.stat")
	s.CPUUserNanos, s.CPUSystemNanos = use["user"]*clockTick, use["system"]*clockTick

	memory := l.dir("memory", path)
	s.MemoryBytes = readUint(memory, "memory.usage_in_bytes")
	use = readPairs(memory, "memory.stat")
	s.MemoryCacheBytes = use["total_cache"]
	// The hierarchical value also knows the group's limit.
	if limit := use["hierarchical_memory_limit"]; limit < noLimit {
		s.MemoryLimitBytes = limit
	}
	s.PIDs = readUint(l.dir("pids", path), "pids.current")
	blkio := readFile(l.dir("blkio", path), "blkio.throttle.io_service_bytes_recursive")
	s.ReadBytes, s.WriteBytes = sumBlkioV1(blkio)
}

func (l Layout) statsV2(path string, s *runtime.Stats) {
	dir := l.dir("", path)
	cpu := readPairs(dir, "cpu.stat")
	s.CPUNanos = cpu["usage_usec"] * 1000
	s.CPUUserNanos, s.CPUSystemNanos = cpu["user_usec"]*1000, cpu["system_usec"]*1000
	s.MemoryBytes = readUint(dir, "memory.current")
	s.MemoryCacheBytes = readPairs(dir, "memory.stat")["file"]
	// Unlike v1, v2 does not show the ancestors' limits: take the lowest.
	for p := path; p != "/" && p != "."; p = filepath.Dir(p) {
		if limit := readUint(l.dir("", p), "memory.max"); limit > 0 && (s.MemoryLimitBytes == 0 || limit < s.MemoryLimitBytes) {
			s.MemoryLimitBytes = limit
		}
	}
	s.PIDs = readUint(dir, "pids.current")
	s.ReadBytes, s.WriteBytes = sumIOV2(readFile(dir, "io.stat"))
}

// OOMKills counts the processes of path that the kernel's OOM killer ended.
func (l Layout) OOMKills(path string) uint64 {
	if l.V2 {
		return readPairs(l.dir("", path), "memory.events")["oom_kill"]
	}
	return readPairs(l.dir("memory", path), "memory.oom_control")["oom_kill"]
}

// sumBlkioV1 adds the lines "8:0 Read 4096" over all devices.
func sumBlkioV1(text string) (read, write uint64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 10, 64)
		switch f[1] {
		case "Read":
			read += n
		case "Write":
			write += n
		}
	}
	return read, write
}

// sumIOV2 adds the fields of lines "8:0 rbytes=1 wbytes=2 rios=…".
func sumIOV2(text string) (read, write uint64) {
	for field := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(field, "rbytes="); ok {
			n, _ := strconv.ParseUint(v, 10, 64)
			read += n
		} else if v, ok := strings.CutPrefix(field, "wbytes="); ok {
			n, _ := strconv.ParseUint(v, 10, 64)
			write += n
		}
	}
	return read, write
}

func readFile(dir, name string) string {
	if dir == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return string(data)
}

// readUint reads a file with one number; "max" and errors are 0.
func readUint(dir, name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(readFile(dir, name)), 10, 64)
	return n
}

// readPairs reads a file of lines "key value".
func readPairs(dir, name string) map[string]uint64 {
	pairs := map[string]uint64{}
	for line := range strings.Lines(readFile(dir, name)) {
		if f := strings.Fields(line); len(f) == 2 {
			pairs[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return pairs
}
