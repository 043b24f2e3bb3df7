package native_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"longshore.dev/longshore/internal/leakcheck"
	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/native"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

// runnerPath and rootfs are made once, by TestMain.
var runnerPath, rootfs string

// callerEnv makes the test binary the caller that a test kills; see survive_test.go.
const callerEnv = "LONGSHORE_TEST_CALLER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(callerEnv); dir != "" {
		runCaller(dir)
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if reason := missing(); reason != "" {
		fmt.Println("SKIP: the tests with containers need", reason)
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "longshore-native-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if !native.Embedded() {
		runnerPath = filepath.Join(dir, "longshore-runner")
		build := exec.Command("go", "build", "-tags", "seccomp netgo osusergo", "-ldflags", `-extldflags "-static" -s -w`,
			"-o", runnerPath, "longshore.dev/longshore/cmd/longshore-runner")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("build the runner: %v\n%s", err, out)
			return 1
		}
	}
	if rootfs, err = runtimetest.MakeRootFS(filepath.Join(dir, "rootfs")); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// missing says what this machine lacks.
func missing() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	if _, err := os.Stat("/usr/include/seccomp.h"); err != nil && !native.Embedded() {
		return "a built runner (make build), or libseccomp-dev to build one"
	}
	return ""
}

func needMachine(t testing.TB) {
	t.Helper()
	if reason := missing(); reason != "" {
		t.Skip("needs ", reason)
	}
}

// machine is one node's directories.
type machine struct {
	options native.Options
	layers  string
	layer   atomic.Int64
}

var nodes atomic.Int64

// newMachine begins the leak check; the directories go with the test.
func newMachine(t testing.TB) *machine {
	t.Helper()
	needMachine(t)
	base, fast := t.TempDir(), t.TempDir()
	// As in earnest, the run directory is on tmpfs where there is one.
	if dir, err := os.MkdirTemp("/dev/shm", "longshore-native-"); err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		fast = dir
	}
	node := fmt.Sprintf("t%d-%d", os.Getpid(), nodes.Add(1))
	m := &machine{
		layers:  filepath.Join(base, "layers"),
		options: native.Options{StateDir: filepath.Join(base, "state"), RunDir: filepath.Join(fast, "run"), Node: node, Runner: runnerPath},
	}
	// The lock file of the run directory stays.
	if err := os.MkdirAll(m.options.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.options.RunDir, ".lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	leakcheck.Check(t, leakcheck.Scope{
		Node:  node,
		Paths: []string{m.options.RunDir, filepath.Join(m.options.StateDir, "containers"), filepath.Join(m.options.StateDir, "spool")},
	})
	return m
}

// open is closed with the test.
func (m *machine) open(t testing.TB) *native.Runtime {
	t.Helper()
	options := m.options
	options.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	r, err := native.New(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// spec is a container over a fresh writable layer.
func (m *machine) spec(id string, args ...string) runtime.Spec {
	layer := filepath.Join(m.layers, fmt.Sprint(m.layer.Add(1)))
	upper, work := filepath.Join(layer, "upper"), filepath.Join(layer, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			panic(err)
		}
	}
	return runtime.Spec{
		ID: id, Group: "g-" + id, Args: args,
		RootFS: runtime.RootFS{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + rootfs, "upperdir=" + upper, "workdir=" + work,
		}},
	}
}

func TestContract(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Harness {
		m := newMachine(t)
		m.options.Prestart = true
		return runtimetest.Harness{Runtime: m.open(t), Spec: func(id string) runtime.Spec { return m.spec(id) }}
	})
}

// node is a runtime and its machine, for tests of one container.
type node struct {
	*native.Runtime
	*machine
	t   *testing.T
	ctx context.Context
}

func newNode(t *testing.T) *node {
	m := newMachine(t)
	return &node{Runtime: m.open(t), machine: m, t: t, ctx: t.Context()}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) start(spec runtime.Spec) {
	n.t.Helper()
	n.must(n.Create(n.ctx, spec))
	n.t.Cleanup(func() {
		if err := n.Delete(context.Background(), spec.ID); err != nil {
			n.t.Error(err)
		}
		if err := n.RemoveSpool(context.Background(), spec.ID); err != nil {
			n.t.Error(err)
		}
	})
	n.must(n.Start(n.ctx, spec.ID))
}

// run runs a container to its end and returns what it wrote.
func (n *node) run(spec runtime.Spec) (string, runtime.Exit) {
	n.t.Helper()
	n.start(spec)
	exit, err := n.Wait(n.ctx, spec.ID)
	n.must(err)
	out, errs := runtimetest.Output(n.ctx, n.t, n.Runtime, spec.ID)
	return out + errs, exit
}

// await waits until the container has written text.
func (n *node) await(id, text string) string {
	n.t.Helper()
	spool, err := n.OpenSpool(n.ctx, id)
	n.must(err)
	defer spool.Close()
	var seen strings.Builder
	for cursor := int64(0); !strings.Contains(seen.String(), text); {
		chunk, err := spool.Next(n.ctx, cursor)
		if err != nil {
			n.t.Fatalf("waiting for %q, have %q: %v", text, seen.String(), err)
		}
		seen.Write(chunk.Data)
		cursor = chunk.Cursor
	}
	return seen.String()
}

// More containers are asked for than are made at once, and some callers give up
// while they wait for their turn: the others run, and of those nothing is left.
func TestManyAtOnceTakeTurns(t *testing.T) {
	n := newNode(t)
	const many = 20
	var group sync.WaitGroup
	errs := make([]error, many)
	specs := make([]runtime.Spec, many)
	for i := range specs {
		specs[i] = n.spec(fmt.Sprint("c", i), "ignore")
		ctx := n.ctx
		if i%4 == 3 {
			short, cancel := context.WithTimeout(n.ctx, time.Duration(i)*time.Millisecond)
			defer cancel()
			ctx = short
		}
		group.Go(func() {
			if errs[i] = n.Create(ctx, specs[i]); errs[i] == nil {
				errs[i] = n.Start(n.ctx, specs[i].ID)
			}
		})
	}
	group.Wait()
	for i, err := range errs {
		status, missing := n.Status(n.ctx, specs[i].ID)
		switch {
		case err == nil && (missing != nil || status.Phase != runtime.PhaseRunning):
			t.Errorf("container %d: %+v, %v", i, status, missing)
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("container %d: %v", i, err)
		case err != nil && !errors.Is(missing, runtime.ErrNotFound):
			t.Errorf("container %d was given up and is left: %+v, %v", i, status, missing)
		case err == nil:
			n.must(n.Delete(n.ctx, specs[i].ID))
			n.must(n.RemoveSpool(n.ctx, specs[i].ID))
		}
	}
}
