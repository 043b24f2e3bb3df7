package native_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/native"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// callerPlan is what a caller process reads from its standard input.
type callerPlan struct {
	StateDir, RunDir, Node, Runner string
	Specs                          []runtime.Spec
}

// runCaller is the process that a test kills: it starts containers and waits.
func runCaller(string) {
	var plan callerPlan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx := context.Background()
	r, err := native.New(ctx, native.Options{
		StateDir: plan.StateDir, RunDir: plan.RunDir, Node: plan.Node, Runner: plan.Runner, Prestart: true,
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, spec := range plan.Specs {
		if err := errors.Join(r.Create(ctx, spec), r.Start(ctx, spec.ID)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startAndDie lets another process start the containers and kills that process.
func startAndDie(t *testing.T, m *machine, specs ...runtime.Spec) {
	t.Helper()
	caller := exec.Command("/proc/self/exe")
	caller.Env = append(os.Environ(), callerEnv+"=1")
	input, err := caller.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := caller.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	caller.Stderr = os.Stderr
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	o := m.options
	plan := callerPlan{StateDir: o.StateDir, RunDir: o.RunDir, Node: o.Node, Runner: o.Runner, Specs: specs}
	if err := json.NewEncoder(input).Encode(plan); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4096)
	n, _ := output.Read(answer)
	_ = caller.Process.Kill()
	_ = caller.Wait()
	if string(answer[:n]) != "started\n" {
		t.Fatalf("the caller says %q", answer[:n])
	}
}

func TestContainersOutliveTheCaller(t *testing.T) {
	m := newMachine(t)
	runs := m.spec("runs", "trap", "42")
	ends := m.spec("ends", "exit", "43")
	ends.Group = runs.Group
	startAndDie(t, m, runs, ends)

	n := &node{Runtime: m.open(t), machine: m, t: t, ctx: t.Context()}
	n.deleteLater("runs", "ends")
	exit, err := n.Wait(n.ctx, "ends")
	n.must(err)
	if exit.Code != 43 || exit.Lost {
		t.Errorf("what ended meanwhile: %+v", exit)
	}
	status, err := n.Status(n.ctx, "runs")
	n.must(err)
	if status.Phase != runtime.PhaseRunning {
		t.Fatalf("after the caller's death: %+v", status)
	}
	n.await("runs", "ready")
	result, err := n.Exec(n.ctx, "runs", runtime.ExecSpec{Args: []string{"echo", "still here"}})
	n.must(err)
	if string(result.Output) != "still here\n" {
		t.Errorf("exec: %+v", result)
	}
	n.must(n.Signal(n.ctx, "runs", 15, false))
	if exit, err := n.Wait(n.ctx, "runs"); err != nil || exit.Code != 42 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	// Everything it wrote is there, also from before the death.
	if out, _ := runtimetest.Output(n.ctx, t, n, "runs"); out != "ready\nterminated\n" {
		t.Errorf("output %q", out)
	}
}

func (n *node) deleteLater(ids ...string) {
	n.t.Cleanup(func() {
		for _, id := range ids {
			if err := n.Delete(context.Background(), id); err != nil {
				n.t.Error(err)
			}
			if err := n.RemoveSpool(context.Background(), id); err != nil {
				n.t.Error(err)
			}
		}
	})
}

// shimOf returns the process that serves the group.
func (n *node) shimOf(group string) int {
	n.t.Helper()
	pid, ok := n.findShim(group)
	if !ok {
		n.t.Fatalf("no shim of group %s", group)
	}
	return pid
}

func (n *node) findShim(group string) (int, bool) {
	n.t.Helper()
	entries, err := os.ReadDir("/proc")
	n.must(err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Its log, in the group's directory, is its standard error.
		log, _ := os.Readlink(filepath.Join("/proc", e.Name(), "fd", "2"))
		if log == filepath.Join(n.options.RunDir, group, "shim.log") {
			return pid, true
		}
	}
	return 0, false
}

func TestShimKilledMeansLost(t *testing.T) {
	n := newNode(t)
	spec := n.spec("a", "orphan")
	n.start(spec)
	n.await("a", "orphan")
	other := n.spec("b", "ignore")
	n.start(other)
	ended := n.spec("ended", "exit", "3")
	ended.Group = spec.Group
	if _, exit := n.run(ended); exit.Code != 3 {
		t.Fatalf("exit %+v", exit)
	}

	waited := make(chan runtime.Exit, 1)
	go func() {
		exit, err := n.Wait(n.ctx, "a")
		if err != nil {
			t.Error(err)
		}
		waited <- exit
	}()
	n.must(unix.Kill(n.shimOf(spec.Group), unix.SIGKILL))
	select {
	case exit := <-waited:
		if !exit.Lost || exit.Code != 137 || exit.At.IsZero() {
			t.Errorf("exit %+v", exit)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody notices the shim's death")
	}
	if left := processesOf(t, n.options.Node, spec.Group); len(left) != 0 {
		t.Errorf("processes are left: %v", left)
	}
	// The output ends, and holds what was written.
	if out, _ := runtimetest.Output(n.ctx, t, n, "a"); !strings.HasPrefix(out, "orphan ") {
		t.Errorf("output %q", out)
	}
	// An exit that was recorded stays, other groups run on, the group can be used again.
	if exit, err := n.Wait(n.ctx, "ended"); err != nil || exit.Code != 3 || exit.Lost {
		t.Errorf("the earlier exit is now %+v, %v", exit, err)
	}
	if status, err := n.Status(n.ctx, "b"); err != nil || status.Phase != runtime.PhaseRunning {
		t.Errorf("the other group: %+v, %v", status, err)
	}
	again := n.spec("again", "echo", "fresh")
	again.Group = spec.Group
	if out, exit := n.run(again); out != "fresh\n" || exit.Code != 0 {
		t.Errorf("the group afterwards: %q, %+v", out, exit)
	}
	if exit, err := n.Wait(n.ctx, "a"); err != nil || !exit.Lost {
		t.Errorf("the lost one is now %+v, %v", exit, err)
	}
}

// TestInitKilledBeforeItsStart: the start finds no init, and the exit tells why.
func TestInitKilledBeforeItsStart(t *testing.T) {
	n := newNode(t)
	for i := range 5 {
		spec := n.spec(fmt.Sprint("a", i), "ignore")
		n.must(n.Create(n.ctx, spec))
		n.deleteLater(spec.ID)
		status, err := n.Status(n.ctx, spec.ID)
		n.must(err)
		n.must(unix.Kill(status.PID, unix.SIGKILL))
		if err := n.Start(n.ctx, spec.ID); err != nil {
			t.Errorf("start: %v", err)
		}
		if exit, err := n.Wait(n.ctx, spec.ID); err != nil || exit.Code != 137 || exit.Lost {
			t.Errorf("exit %+v, %v", exit, err)
		}
	}
}

// TestShimKilledWhileItMakesAContainer: the caller is told that it may ask again,
// and that works.
func TestShimKilledWhileItMakesAContainer(t *testing.T) {
	n := newNode(t)
	cut := 0
	for try := 0; cut < 5 && try < 50; try++ {
		spec := n.spec(fmt.Sprintf("cut-%d", try), "exit", "44")
		created := make(chan error, 1)
		go func() { created <- n.Create(n.ctx, spec) }()
		err := n.killShimUntil(spec.Group, created)
		switch {
		case errors.Is(err, runtime.ErrCutOff):
			cut++
			n.must(n.Create(n.ctx, spec))
			n.must(n.Start(n.ctx, spec.ID))
			if exit, err := n.Wait(n.ctx, spec.ID); err != nil || exit.Code != 44 {
				t.Errorf("made again: %+v, %v", exit, err)
			}
		case err != nil:
			t.Errorf("create, its shim killed: %v", err)
		}
		n.must(n.Delete(n.ctx, spec.ID))
		n.must(n.RemoveSpool(n.ctx, spec.ID))
	}
	if cut == 0 {
		t.Fatal("no shim of 50 could be killed in time")
	}
}

// killShimUntil kills the group's shim as soon as there is one, and returns what
// comes out of created.
func (n *node) killShimUntil(group string, created <-chan error) error {
	for {
		select {
		case err := <-created:
			return err
		default:
		}
		if pid, ok := n.findShim(group); ok {
			_ = unix.Kill(pid, unix.SIGKILL)
			return <-created
		}
	}
}

func TestShimAndCallerKilled(t *testing.T) {
	m := newMachine(t)
	startAndDie(t, m, m.spec("a", "ignore"))
	n := &node{machine: m, t: t, ctx: t.Context()}
	n.must(unix.Kill(n.shimOf("g-a"), unix.SIGKILL))
	n.Runtime = m.open(t)
	n.deleteLater("a")
	all, err := n.List(n.ctx)
	n.must(err)
	if len(all) != 1 || all[0].Phase != runtime.PhaseExited || !all[0].Exit.Lost {
		t.Errorf("found %+v", all)
	}
	if left := processesOf(t, m.options.Node, "g-a"); len(left) != 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// TestAfterReboot: the tmpfs is empty, the records on disk are not.
func TestAfterReboot(t *testing.T) {
	m := newMachine(t)
	startAndDie(t, m, m.spec("a", "ignore"))
	n := &node{machine: m, t: t, ctx: t.Context()}
	n.must(unix.Kill(n.shimOf("g-a"), unix.SIGKILL))
	n.must(os.RemoveAll(filepath.Join(m.options.RunDir, "g-a")))
	// A record whose write the power failure has cut.
	n.must(os.WriteFile(filepath.Join(m.options.StateDir, "containers", "cut.json"), []byte(`{"id":"cut","gro`), 0o600))
	n.Runtime = m.open(t)
	n.deleteLater("a", "cut")
	for _, id := range []string{"a", "cut"} {
		if exit, err := n.Wait(n.ctx, id); err != nil || !exit.Lost {
			t.Errorf("%s: exit %+v, %v", id, exit, err)
		}
	}
}

// TestCloseEndsWaits: what waits is told, and the container runs on.
func TestCloseEndsWaits(t *testing.T) {
	m := newMachine(t)
	first, err := native.New(t.Context(), m.options)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Runtime: first, machine: m, t: t, ctx: t.Context()}
	spec := m.spec("a", "ignore")
	n.must(n.Create(n.ctx, spec))
	n.must(n.Start(n.ctx, "a"))
	n.await("a", "ready")
	errs := make(chan error, 1)
	go func() {
		_, err := first.Wait(context.Background(), "a")
		errs <- err
	}()
	n.must(first.Close())
	if err := <-errs; err == nil {
		t.Error("Wait of a closed runtime reports an exit")
	}
	n.Runtime = m.open(t)
	n.deleteLater("a")
	if status, err := n.Status(n.ctx, "a"); err != nil || status.Phase != runtime.PhaseRunning {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestOneRuntimePerDirectory(t *testing.T) {
	n := newNode(t)
	if _, err := native.New(n.ctx, n.options); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second runtime in the same directory: %v", err)
	}
}

// processesOf lists what is in a group's cgroup, zombies aside.
func processesOf(t *testing.T, node, group string) []string {
	t.Helper()
	var left []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if strings.Contains(string(data), ":/longshore/"+node+"/"+group) && !strings.Contains(string(stat), ") Z") {
			left = append(left, string(stat))
		}
	}
	return left
}

// TestRecordsLostUnderALivingShim: an older copy of the directory was put in place, or
// its files were damaged, while the shim and its containers run on. They are found,
// as they are, and can be removed.
func TestRecordsLostUnderALivingShim(t *testing.T) {
	m := newMachine(t)
	gone, cut, old := m.spec("gone", "ignore"), m.spec("cut", "ignore"), m.spec("old", "ignore")
	cut.Group = gone.Group
	startAndDie(t, m, gone, cut, old)
	dir := filepath.Join(m.options.StateDir, "containers")
	n := &node{machine: m, t: t, ctx: t.Context()}
	n.must(os.Remove(filepath.Join(dir, "gone.json")))
	n.must(os.WriteFile(filepath.Join(dir, "cut.json"), []byte(`{"id":"cut","gro`), 0o600))
	n.must(os.WriteFile(filepath.Join(dir, "old.json"), []byte(`{"id":"old","group":"g-old","phase":"created","createdAt":"2026-01-01T00:00:00Z"}`), 0o600))
	// One that no shim has any more.
	n.must(os.WriteFile(filepath.Join(dir, "ghost.json"), []byte(`{"id":"ghost","group":"g-old","phase":"running","pid":1,"createdAt":"2026-01-01T00:00:00Z"}`), 0o600))
	n.Runtime = m.open(t)
	n.deleteLater("gone", "cut", "old", "ghost")
	for _, id := range []string{"gone", "cut", "old"} {
		status, err := n.Status(n.ctx, id)
		if err != nil || status.Phase != runtime.PhaseRunning || status.PID == 0 {
			t.Errorf("%s is %+v, %v", id, status, err)
		}
		if err := unix.Kill(status.PID, 0); err != nil {
			t.Errorf("%s: process %d: %v", id, status.PID, err)
		}
	}
	if _, err := n.Wait(n.ctx, "ghost"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a container that its shim does not have: %v", err)
	}
}
