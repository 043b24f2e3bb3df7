//go:build linux && cgo

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
)

const (
	defaultExecTimeout = 60 * time.Second
	defaultExecOutput  = 4 << 10
	maxExecOutput      = 4 << 20
)

// newProcess is the process in libcontainer's terms.
func newProcess(p *specs.Process) (*libcontainer.Process, error) {
	caps := p.Capabilities
	process := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd,
		UID: int(p.User.UID), GID: int(p.User.GID),
		NoNewPrivileges: &p.NoNewPrivileges,
		Capabilities: &configs.Capabilities{
			Bounding: caps.Bounding, Effective: caps.Effective, Permitted: caps.Permitted,
		},
		LogLevel: "3", // logrus: warnings and worse
	}
	for _, g := range p.User.AdditionalGids {
		process.AdditionalGroups = append(process.AdditionalGroups, int(g))
	}
	for _, l := range p.Rlimits {
		resource, ok := rlimitNumbers[l.Type]
		if !ok {
			return nil, fmt.Errorf("unknown resource limit %q", l.Type)
		}
		process.Rlimits = append(process.Rlimits, configs.Rlimit{Type: resource, Hard: l.Hard, Soft: l.Soft})
	}
	return process, nil
}

var rlimitNumbers = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
	"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// exec runs one more process in the container, to its end or its timeout.
func (c *container) exec(ctx context.Context, spec runtime.ExecSpec) (runtime.ExecResult, error) {
	if len(spec.Args) == 0 {
		return runtime.ExecResult{}, errors.New("exec: no command specified")
	}
	record := c.status()
	if record.Phase != runtime.PhaseRunning {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: %w", c.spec.ID, runtime.ErrNotRunning)
	}
	process, err := c.execProcess(record.PID, spec)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	read, write, err := pipe()
	if err != nil {
		return runtime.ExecResult{}, err
	}
	defer read.Close()
	process.Stdout, process.Stderr = write, write
	err = c.startProcess(process)
	_ = write.Close()
	if err != nil {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s: %w", c.spec.ID, err)
	}

	limit := spec.OutputLimit
	if limit <= 0 {
		limit = defaultExecOutput
	}
	collected := make(chan []byte, 1)
	go func() { collected <- collect(read, min(limit, maxExecOutput)) }()
	timeout := spec.Timeout
	if timeout <= 0 {
		timeout = defaultExecTimeout
	}
	code, timedOut := awaitProcess(ctx, process, timeout)
	// What it started may hold the pipe: what it wrote itself is there already.
	_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	result := runtime.ExecResult{Code: code, Output: <-collected, TimedOut: timedOut}
	return result, ctx.Err()
}

func (c *container) execProcess(pid int, spec runtime.ExecSpec) (*libcontainer.Process, error) {
	process := &libcontainer.Process{
		Args: spec.Args, Cwd: spec.Cwd, LogLevel: "3",
		Env: append(slices.Clone(c.env), spec.Env...),
	}
	if process.Cwd == "" {
		process.Cwd = c.spec.Cwd
	}
	if process.Cwd == "" {
		process.Cwd = "/"
	}
	name := spec.User
	if name == "" {
		name = c.spec.User
	}
	u, err := lookupUser(fmt.Sprintf("/proc/%d/root", pid), name)
	if err != nil {
		return nil, err
	}
	process.UID, process.GID, process.AdditionalGroups = u.UID, u.GID, u.Supplementary()
	return process, nil
}

// awaitProcess kills the process, with its session, when it takes too long or
// nobody waits any more.
func awaitProcess(ctx context.Context, process *libcontainer.Process, timeout time.Duration) (code int, timedOut bool) {
	pid, err := process.Pid()
	if err != nil {
		return 255, false
	}
	exited := make(chan int, 1)
	go func() {
		waitExit(pid)
		state, _ := process.Wait()
		exited <- exitCode(state)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case code := <-exited:
		return code, false
	case <-timer.C:
		timedOut = true
	case <-ctx.Done():
	}
	// libcontainer has made it the leader of a session and so of a group.
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = process.Signal(unix.SIGKILL)
	return <-exited, timedOut
}

// collect reads to the end and keeps the first limit bytes.
func collect(r io.Reader, limit int) []byte {
	var kept bytes.Buffer
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		kept.Write(buf[:min(n, limit-kept.Len())])
		if err != nil {
			return kept.Bytes()
		}
	}
}
