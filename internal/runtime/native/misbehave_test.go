package native_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// gone deletes a container, and fails unless that works within a limit and leaves
// no process.
func (n *node) gone(spec runtime.Spec, within time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, within)
	defer cancel()
	began := time.Now()
	if err := n.Delete(ctx, spec.ID); err != nil {
		n.t.Fatalf("delete %s: %v", spec.ID, err)
	}
	if took := time.Since(began); took > within {
		n.t.Errorf("deleting %s took %s", spec.ID, took)
	}
	if left := processesOf(n.t, n.options.Node, spec.Group); len(left) != 0 {
		n.t.Errorf("%s is deleted, and runs on: %v", spec.ID, left)
	}
}

// responsive tells that another container can be run to its end.
func (n *node) responsive(id string) {
	n.t.Helper()
	if out, exit := n.run(n.spec(id, "echo", "here")); out != "here\n" || exit.Code != 0 {
		n.t.Errorf("another container meanwhile: %q, %+v", out, exit)
	}
	n.must(n.Delete(n.ctx, id))
}

func TestMisbehaveHundredChildren(t *testing.T) {
	n := newNode(t)
	for _, mode := range []string{"", "host"} {
		spec := n.spec("brood"+mode, "brood", "100")
		spec.PIDMode = mode
		n.start(spec)
		n.await(spec.ID, "ready")
		if use, err := n.Stats(n.ctx, spec.ID); err != nil || use.PIDs < 101 {
			t.Errorf("mode %q: %d processes, %v", mode, use.PIDs, err)
		}
		n.must(n.Signal(n.ctx, spec.ID, 15, false))
		n.must(n.Signal(n.ctx, spec.ID, 9, true))
		if exit, err := n.Wait(n.ctx, spec.ID); err != nil || exit.Code != 137 || exit.OOMKilled {
			t.Errorf("mode %q: exit %+v, %v", mode, exit, err)
		}
		n.gone(spec, 20*time.Second)
	}
}

// TestMisbehaveForkBomb: a bomb runs into its limit, what else is on the node runs
// on, and the bomb can be removed.
func TestMisbehaveForkBomb(t *testing.T) {
	n := newNode(t)
	for _, mode := range []string{"", "host"} {
		spec := n.spec("bomb"+mode, "bomb")
		spec.PIDMode, spec.Resources.PIDs = mode, 80
		spec.Resources.CPUShares = 2 // it would win against everything else on the machine
		n.start(spec)
		n.await(spec.ID, "refused")
		if use, err := n.Stats(n.ctx, spec.ID); err != nil || use.PIDs > 80 {
			t.Errorf("mode %q: %d processes, %v", mode, use.PIDs, err)
		}
		n.responsive("neighbour" + mode)
		n.gone(spec, 20*time.Second)
	}
}

// TestMisbehaveDefaultProcessLimit: nobody has to ask for a limit.
func TestMisbehaveDefaultProcessLimit(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "ignore")
	n.start(spec)
	node := "/longshore/" + n.options.Node
	for dir, most := range map[string]int{node + "/" + spec.Group + "/a": 4096, node: 1 << 22} {
		var data []byte
		for _, base := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
			if found, err := os.ReadFile(filepath.Join(base, dir, "pids.max")); err == nil {
				data = found
			}
		}
		limit := 0
		if _, err := fmt.Sscan(string(data), &limit); err != nil || limit <= 0 || limit > most {
			t.Errorf("the limit of %s is %q", dir, data)
		}
	}
}

// TestMisbehaveName: a process that calls itself dead is killed like any other.
func TestMisbehaveName(t *testing.T) {
	n := newNode(t)
	for i, name := range []string{") Z 1 1 (", "a) X 0", "(((", "two\nlines", "\xff\xfe"} {
		spec := n.spec(fmt.Sprint("named-", i), "rename", name)
		n.start(spec)
		n.await(spec.ID, "renamed")
		n.gone(spec, 20*time.Second)
	}
}

// TestMisbehaveDaemon: what is left behind by a double fork, holding the output,
// ends with the container, and does not keep its end from being reported.
func TestMisbehaveDaemon(t *testing.T) {
	n := newNode(t)
	for _, mode := range []string{"", "host"} {
		spec := n.spec("daemon"+mode, "daemon")
		spec.PIDMode = mode
		began := time.Now()
		out, exit := n.run(spec)
		if exit.Code != 0 || !strings.Contains(out, "daemon: done") {
			t.Errorf("mode %q: %q, %+v", mode, out, exit)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("mode %q: its end took %s", mode, took)
		}
		n.gone(spec, 10*time.Second)
	}
}

func TestMisbehaveClosedStreams(t *testing.T) {
	n := newNode(t)
	if out, exit := n.run(n.spec("a", "shut")); exit.Code != 5 || out != "closing\n" {
		t.Errorf("%q, %+v", out, exit)
	}
}

// TestMisbehaveZombies: a first process that collects no children fills its own
// limit, and nobody else's.
func TestMisbehaveZombies(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "zombies", "1000")
	spec.Resources.PIDs = 40
	n.start(spec)
	n.await("a", "refused")
	n.responsive("b")
	n.gone(spec, 10*time.Second)
}

// TestMisbehaveStopsItself: its first process is traced and stopped, by itself and
// from outside.
func TestMisbehaveStopsItself(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "stopped")
	n.start(spec)
	n.await("a", "ready")
	n.must(n.Signal(n.ctx, "a", int(unix.SIGSTOP), false))
	n.must(n.Signal(n.ctx, "a", int(unix.SIGTERM), false))
	n.must(n.Signal(n.ctx, "a", int(unix.SIGKILL), true))
	if exit, err := n.Wait(n.ctx, "a"); err != nil || exit.Code != 137 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	n.gone(spec, 10*time.Second)
}

// TestMisbehaveFreezesItself: a privileged container freezes a cgroup of its own,
// in which SIGKILL does not arrive; the nearest that can be had to a process that
// hangs in the kernel.
func TestMisbehaveFreezesItself(t *testing.T) {
	if _, err := os.Stat("/sys/fs/cgroup/freezer"); err != nil {
		t.Skip("needs cgroup v1's freezer: v2's kill reaches what is frozen")
	}
	n := newNode(t)
	spec := n.spec("a", "freeze")
	spec.Privileged = true
	n.start(spec)
	if out := n.await("a", "ready"); !strings.Contains(out, "freeze: done") {
		t.Fatal(out)
	}
	n.gone(spec, 10*time.Second)
}

// TestMisbehaveChangesIdentity: another user and no capabilities keep nobody from
// ending it, nor from running a command in it.
func TestMisbehaveChangesIdentity(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "setid", "12345")
	n.start(spec)
	if out := n.await("a", "ready"); !strings.Contains(out, "setuid 0: operation not permitted") || !strings.Contains(out, "write /etc/passwd: open") {
		t.Error(out)
	}
	result, err := n.Exec(n.ctx, "a", runtime.ExecSpec{Args: []string{"id"}})
	if err != nil || !strings.Contains(string(result.Output), "uid=0") {
		t.Errorf("exec: %+v, %v", result, err)
	}
	n.gone(spec, 10*time.Second)
}

// TestMisbehaveDeletesItsRoot: it can delete its own files; the image's stay, and
// so does what is needed to end it.
func TestMisbehaveDeletesItsRoot(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "rmroot")
	n.start(spec)
	n.await("a", "removed")
	if _, err := n.Exec(n.ctx, "a", runtime.ExecSpec{Args: []string{"echo"}}); err == nil {
		t.Error("a command that was deleted ran")
	}
	n.gone(spec, 10*time.Second)
	for _, file := range []string{"bin/program", "etc/passwd"} {
		if _, err := os.Stat(filepath.Join(rootfs, file)); err != nil {
			t.Errorf("the image has lost a file: %v", err)
		}
	}
}

// TestMisbehaveSharedMemoryFull: /dev/shm is bounded, and counts as the container's memory.
func TestMisbehaveSharedMemoryFull(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "fill", "/dev/shm/file")
	spec.ShmBytes = 4 << 20
	if out, exit := n.run(spec); exit.Code != 28 || out != "full after 4 MiB: write /dev/shm/file: no space left on device\n" {
		t.Errorf("%q, %+v", out, exit)
	}
	spec = n.spec("b", "fill", "/dev/shm/file")
	spec.ShmBytes, spec.Resources.MemoryBytes = 256<<20, 32<<20
	if out, exit := n.run(spec); exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("%q, %+v", out, exit)
	}
}

// TestMisbehaveDiskFull: a container whose file system is full is told so, and the
// node runs on.
func TestMisbehaveDiskFull(t *testing.T) {
	n := newNode(t)
	disk := t.TempDir()
	n.must(unix.Mount("tmpfs", disk, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { n.must(unix.Unmount(disk, unix.MNT_DETACH)) })
	upper, work := filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	n.must(os.Mkdir(upper, 0o755))
	n.must(os.Mkdir(work, 0o755))
	spec := n.spec("a", "fill", "/file")
	spec.RootFS.Options = []string{"lowerdir=" + rootfs, "upperdir=" + upper, "workdir=" + work}
	if out, exit := n.run(spec); exit.Code != 28 || !strings.Contains(out, "no space left on device") {
		t.Errorf("%q, %+v", out, exit)
	}
	n.gone(spec, 10*time.Second)
	n.responsive("b")
}

// TestMisbehaveChildOutOfMemory: the kernel ends a child, the first process lives.
func TestMisbehaveChildOutOfMemory(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "oomchild", "200")
	spec.Resources.MemoryBytes = 50 << 20
	out, exit := n.run(spec)
	if exit.Code != 3 || !exit.OOMKilled || exit.Signal != 0 || !strings.Contains(out, "child: signal: killed") {
		t.Errorf("%q, %+v", out, exit)
	}
}

// TestMisbehaveGarbage: bytes come as they were written.
func TestMisbehaveGarbage(t *testing.T) {
	n := newNode(t)
	out, exit := n.run(n.spec("a", "garbage"))
	var want strings.Builder
	for i := range 256 {
		want.WriteByte(byte(i))
	}
	want.WriteString("\nnul \x00 in the middle\n\xff\xfe\xc3\x28 invalid\n\u20ac joined\n\x1b[2J\x1b]0;title\x07\nend\n")
	if exit.Code != 0 || out != want.String() {
		t.Errorf("%q", out)
	}
}

// TestMisbehaveOneLine: 100 MB without a line end come whole, in order, and take
// little of the shim's memory and little of the disk.
func TestMisbehaveOneLine(t *testing.T) {
	n := newNode(t)
	const size = 100_000_000
	n.start(n.spec("a", "oneline", fmt.Sprint(size)))
	spool, err := n.OpenSpool(n.ctx, "a")
	n.must(err)
	defer spool.Close()
	total, cursor, memory, disk := 0, int64(0), 0, int64(0)
	const pattern = "0123456789abcdef"
	for {
		chunk, err := spool.Next(n.ctx, cursor)
		if err == io.EOF {
			break
		}
		n.must(err)
		for i, c := range chunk.Data {
			if c != pattern[(total+i)%16] {
				t.Fatalf("byte %d is %q", total+i, c)
			}
		}
		total, cursor = total+len(chunk.Data), chunk.Cursor
		if total%(4<<20) < len(chunk.Data) {
			memory = max(memory, residentBytes(t, n.shimOf("g-a")))
			disk = max(disk, sizeOf(t, filepath.Join(n.options.StateDir, "spool", "a")))
			n.must(spool.Ack(cursor))
		}
	}
	if exit, err := n.Wait(n.ctx, "a"); err != nil || exit.Code != 0 || total != size {
		t.Errorf("%d bytes, exit %+v, %v", total, exit, err)
	}
	t.Logf("the shim took at most %d KiB of memory, the spool %d KiB of disk", memory>>10, disk>>10)
	if memory > 32<<20 || disk > 18<<20 {
		t.Errorf("the shim took %d bytes of memory, the spool %d of disk", memory, disk)
	}
}

// TestMisbehaveFloodWithoutReader: while nobody reads, a blocking container waits at
// its bound, one that does not block loses its oldest output and is told of; both
// can be stopped.
func TestMisbehaveFloodWithoutReader(t *testing.T) {
	n := newNode(t)
	for _, nonBlocking := range []bool{false, true} {
		spec := n.spec(fmt.Sprint("flood-", nonBlocking), "oneline", "100000000")
		spec.Output = runtime.Output{MaxBytes: 1 << 20, NonBlocking: nonBlocking}
		n.start(spec)
		dir := filepath.Join(n.options.StateDir, "spool", spec.ID)
		if nonBlocking {
			if exit, err := n.Wait(n.ctx, spec.ID); err != nil || exit.Code != 0 {
				t.Errorf("not blocking: exit %+v, %v", exit, err)
			}
		} else {
			n.awaitSize(dir, 1<<20-256<<10)
			if status, err := n.Status(n.ctx, spec.ID); err != nil || status.Phase != runtime.PhaseRunning {
				t.Errorf("blocking: %+v, %v", status, err)
			}
		}
		if size := sizeOf(t, dir); size > 2<<20 {
			t.Errorf("not blocking %v: the spool takes %d bytes", nonBlocking, size)
		}
		n.gone(spec, 20*time.Second)
		total, dropped := 0, int64(0)
		spool, err := n.OpenSpool(n.ctx, spec.ID)
		n.must(err)
		for cursor := int64(0); ; {
			chunk, err := spool.Next(n.ctx, cursor)
			if err == io.EOF {
				break
			}
			n.must(err)
			total, dropped, cursor = total+len(chunk.Data), dropped+chunk.Dropped, chunk.Cursor
		}
		n.must(spool.Close())
		if nonBlocking != (dropped > 90_000_000) || total == 0 {
			t.Errorf("not blocking %v: %d bytes came, %d were dropped", nonBlocking, total, dropped)
		}
	}
}

func (n *node) awaitSize(dir string, least int64) {
	n.t.Helper()
	for end := time.Now().Add(20 * time.Second); sizeOf(n.t, dir) < least; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("%s has %d bytes", dir, sizeOf(n.t, dir))
		}
	}
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

// TestMisbehaveHugeArguments: what the kernel takes runs; what it does not take
// says so and leaves nothing.
func TestMisbehaveHugeArguments(t *testing.T) {
	n := newNode(t)
	spec := n.spec("fits", "env")
	for i := range 500 {
		spec.Env = append(spec.Env, fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("x", 1000)))
	}
	if out, exit := n.run(spec); exit.Code != 0 || len(out) < 500_000 {
		t.Errorf("%d bytes, %+v", len(out), exit)
	}
	spec = n.spec("one", "echo", strings.Repeat("x", 200_000))
	n.cannotRun(spec, "argument list too long")
	spec = n.spec("all", "env")
	for i := range 5000 {
		spec.Env = append(spec.Env, fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("x", 1000)))
	}
	n.cannotRun(spec, "argument list too long")
	spec = n.spec("frame", "env")
	spec.Env = []string{"A=" + strings.Repeat("x", 9<<20)}
	n.cannotRun(spec, "over the limit")
}

// cannotRun expects that creating or starting fails with a text, or that the
// container ends with it as its output.
func (n *node) cannotRun(spec runtime.Spec, text string) {
	n.t.Helper()
	err := n.Create(n.ctx, spec)
	if err == nil {
		n.deleteLater(spec.ID)
		err = n.Start(n.ctx, spec.ID)
	}
	said := fmt.Sprint(err)
	if err == nil {
		exit, werr := n.Wait(n.ctx, spec.ID)
		n.must(werr)
		out, errs := runtimetest.Output(n.ctx, n.t, n.Runtime, spec.ID)
		said = out + errs
		if exit.Code == 0 {
			n.t.Errorf("%s ended well", spec.ID)
		}
	}
	if !strings.Contains(said, text) {
		n.t.Errorf("%s: %s; want %q in it", spec.ID, brief(said), text)
	}
}

func brief(s string) string { return s[:min(len(s), 500)] }

// TestMisbehaveCommands: commands that cannot be run, by their own fault.
func TestMisbehaveCommands(t *testing.T) {
	n := newNode(t)
	for i, c := range []struct {
		args       []string
		cwd, user  string
		text, file string
		content    string
		mode       os.FileMode
	}{
		{args: []string{"no-such-program"}, text: `exec: "no-such-program": executable file not found in $PATH`},
		{args: []string{"/no/such/program"}, text: `exec: "/no/such/program": stat /no/such/program: no such file or directory`},
		{args: []string{"/etc"}, text: `exec: "/etc": is a directory`},
		{args: []string{"/plain"}, file: "plain", content: "#!/bin/echo\n", mode: 0o644, text: `exec: "/plain": permission denied`},
		{args: []string{"/arch"}, file: "arch", content: "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00" + strings.Repeat("\x00", 100), mode: 0o755, text: "exec format error"},
		{args: []string{"/text"}, file: "text", content: "just text\n", mode: 0o755, text: "exec format error"},
		{args: []string{"/script"}, file: "script", content: "#!/no/such/interpreter\n", mode: 0o755, text: "no such file or directory"},
		{args: []string{"echo"}, cwd: "/etc/passwd", text: "not a directory"},
		{args: []string{"echo"}, user: "nobody-knows", text: "unable to find user nobody-knows"},
		{args: []string{"echo"}, user: "0:nogroup", text: "unable to find group nogroup"},
	} {
		spec := n.spec(fmt.Sprint("c", i), c.args...)
		spec.Cwd, spec.User = c.cwd, c.user
		if c.file != "" {
			n.inUpper(spec, c.file, c.content, c.mode)
		}
		n.cannotRun(spec, c.text)
	}
}

// upper is the writable layer of a spec.
func upper(spec runtime.Spec) string {
	for _, o := range spec.RootFS.Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			return dir
		}
	}
	return ""
}

// inUpper puts a file into the container's root.
func (n *node) inUpper(spec runtime.Spec, name, content string, mode os.FileMode) {
	n.t.Helper()
	path := filepath.Join(upper(spec), name)
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path, []byte(content), mode))
	n.must(os.Chmod(path, mode))
}

// TestMisbehaveHungShim: somebody has stopped the shim. Its neighbours do not
// notice, stopping its container takes a bounded time, and nothing is left.
func TestMisbehaveHungShim(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	spec := n.spec("a", "ignore")
	n.start(spec)
	n.await("a", "ready")
	shim := n.shimOf(spec.Group)
	n.must(unix.Kill(shim, unix.SIGSTOP))
	n.responsive("b")
	if status, err := n.Status(n.ctx, "a"); err != nil || status.Phase != runtime.PhaseRunning {
		t.Errorf("%+v, %v", status, err)
	}
	// The signal arrives all the same.
	n.must(n.Signal(n.ctx, "a", int(unix.SIGKILL), true))
	again := n.spec("again", "echo")
	again.Group = spec.Group
	again.Env = []string{"A=" + strings.Repeat("x", 4<<20)} // more than the socket's buffer holds
	if err := n.Create(n.ctx, again); err == nil || !strings.Contains(err.Error(), "the shim does not answer") {
		t.Errorf("another container of the group: %v", err)
	}
	n.gone(spec, 30*time.Second)
	if exit, err := n.Wait(n.ctx, "a"); err == nil {
		t.Errorf("after Delete: %+v", exit)
	}
	if err := unix.Kill(shim, 0); err != nil && err != unix.ESRCH {
		t.Error(err)
	} else if err == nil {
		if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", shim)); strings.Contains(string(stat), ") T") {
			t.Errorf("the shim is still there: %s", stat)
		}
	}
	again.Env = nil
	if out, exit := n.run(again); out != "\n" || exit.Code != 0 {
		t.Errorf("the group afterwards: %q, %+v", out, exit)
	}
}

// TestMisbehaveHungShimAdopted: the same, found by a process that has just started.
func TestMisbehaveHungShimAdopted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	startAndDie(t, m, m.spec("a", "ignore"), m.spec("b", "trap", "4"))
	n := &node{machine: m, t: t, ctx: t.Context()}
	n.must(unix.Kill(n.shimOf("g-a"), unix.SIGSTOP))
	n.Runtime = m.open(t)
	n.deleteLater("a", "b")
	all, err := n.List(n.ctx)
	n.must(err)
	if len(all) != 2 || all[0].Phase != runtime.PhaseRunning || all[1].Phase != runtime.PhaseRunning {
		t.Errorf("found %+v", all)
	}
	n.gone(runtime.Spec{ID: "a", Group: "g-a"}, 30*time.Second)
	n.await("b", "ready")
	n.must(n.Signal(n.ctx, "b", 15, false))
	if exit, err := n.Wait(n.ctx, "b"); err != nil || exit.Code != 4 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

// TestFailedCreateEndsItsShim: a shim that is told to end answers before it does, even
// while its former answer is still on its way; else its directory stayed.
func TestFailedCreateEndsItsShim(t *testing.T) {
	n := newNode(t)
	var creating sync.WaitGroup
	for i := range 12 {
		spec := n.spec(fmt.Sprint("bad-", i), "no-such-program")
		creating.Go(func() {
			if err := n.Create(n.ctx, spec); err == nil || !strings.Contains(err.Error(), "no-such-program") {
				t.Errorf("creating what cannot run: %v", err)
			}
			if _, err := os.Stat(filepath.Join(n.options.RunDir, spec.Group)); !os.IsNotExist(err) {
				t.Errorf("the directory of %s: %v", spec.Group, err)
			}
		})
	}
	creating.Wait()
}
