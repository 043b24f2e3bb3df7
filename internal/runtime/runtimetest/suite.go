package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// Harness is one implementation under test.
type Harness struct {
	Runtime runtime.Runtime
	// Spec returns a spec with that id as its id and group, ready to be created but
	// for its Args.
	Spec func(id string) runtime.Spec
}

// timeout bounds every test of the suite.
const timeout = 60 * time.Second

// Run holds an implementation to the contract. newHarness is called once per
// test; what it needs to undo, it does with t.Cleanup.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	tests := map[string]func(*suite){
		"Lifecycle":            lifecycle,
		"ExitCodes":            exitCodes,
		"Signals":              signals,
		"CreateIsExclusive":    createIsExclusive,
		"FailedCreateIsGone":   failedCreateIsGone,
		"Idempotency":          idempotency,
		"UnknownContainer":     unknownContainer,
		"DeleteKillsRunning":   deleteKillsRunning,
		"DeleteCreated":        deleteCreated,
		"WaitIsCancelled":      waitIsCancelled,
		"List":                 list,
		"OutputStreams":        outputStreams,
		"OutputIsTailed":       outputIsTailed,
		"OutputResumes":        outputResumes,
		"OutputAfterDelete":    outputAfterDelete,
		"OutputBlocks":         outputBlocks,
		"OutputDropsOldest":    outputDropsOldest,
		"OutputDiscarded":      outputDiscarded,
		"Exec":                 execs,
		"ExecTimeout":          execTimeout,
		"ExecNeedsRunning":     execNeedsRunning,
		"Stats":                stats,
		"OneGroupManyAtOnce":   oneGroup,
		"ManyGroupsAtOnce":     manyGroups,
		"SameIDAgainAfterward": sameIDAgain,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			test(&suite{T: t, h: newHarness(t), ctx: ctx})
		})
	}
}

type suite struct {
	*testing.T
	h   Harness
	ctx context.Context
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want %v", err, want)
	}
}

// create makes a container that is deleted after the test.
func (s *suite) create(id string, change func(*runtime.Spec), args ...string) {
	s.Helper()
	spec := s.h.Spec(id)
	spec.Args = args
	if change != nil {
		change(&spec)
	}
	s.must(s.h.Runtime.Create(s.ctx, spec))
	s.Cleanup(func() {
		if err := s.h.Runtime.Delete(context.Background(), id); err != nil {
			s.Error(err)
		}
		if err := s.h.Runtime.RemoveSpool(context.Background(), id); err != nil {
			s.Error(err)
		}
	})
}

func (s *suite) start(id string, args ...string) {
	s.Helper()
	s.create(id, nil, args...)
	s.must(s.h.Runtime.Start(s.ctx, id))
}

func (s *suite) wait(id string) runtime.Exit {
	s.Helper()
	exit, err := s.h.Runtime.Wait(s.ctx, id)
	s.must(err)
	return exit
}

func (s *suite) spool(id string) runtime.Spool {
	s.Helper()
	spool, err := s.h.Runtime.OpenSpool(s.ctx, id)
	s.must(err)
	s.Cleanup(func() { _ = spool.Close() })
	return spool
}

// awaitOutput reads from the cursor until text has come, and returns the cursor after.
func (s *suite) awaitOutput(spool runtime.Spool, cursor int64, text string) int64 {
	s.Helper()
	var seen strings.Builder
	for !strings.Contains(seen.String(), text) {
		chunk, err := spool.Next(s.ctx, cursor)
		if err != nil {
			s.Fatalf("waiting for %q, have %q: %v", text, seen.String(), err)
		}
		seen.Write(chunk.Data)
		cursor = chunk.Cursor
	}
	return cursor
}

// Output reads a spool from its beginning to its end.
func Output(ctx context.Context, t testing.TB, r runtime.Runtime, id string) (stdout, stderr string) {
	t.Helper()
	spool, err := r.OpenSpool(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	var out, errs strings.Builder
	for cursor := int64(0); ; {
		chunk, err := spool.Next(ctx, cursor)
		if errors.Is(err, io.EOF) {
			return out.String(), errs.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if chunk.Cursor <= cursor {
			t.Fatalf("cursor %d follows %d", chunk.Cursor, cursor)
		}
		cursor = chunk.Cursor
		if chunk.Stream == runtime.Stderr {
			errs.Write(chunk.Data)
		} else {
			out.Write(chunk.Data)
		}
	}
}

func lifecycle(s *suite) {
	before := time.Now().Add(-time.Minute)
	s.create("a", nil, "trap", "0")
	status, err := s.h.Runtime.Status(s.ctx, "a")
	s.must(err)
	if status.Phase != runtime.PhaseCreated || status.ID != "a" || status.Group == "" || status.CreatedAt.Before(before) || status.Exit != nil {
		s.Fatalf("after Create: %+v", status)
	}
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	status, err = s.h.Runtime.Status(s.ctx, "a")
	s.must(err)
	if status.Phase != runtime.PhaseRunning || status.PID == 0 || status.StartedAt.Before(before) {
		s.Fatalf("after Start: %+v", status)
	}
	s.awaitOutput(s.spool("a"), 0, "ready")
	s.must(s.h.Runtime.Signal(s.ctx, "a", 15, false))
	exit := s.wait("a")
	status, err = s.h.Runtime.Status(s.ctx, "a")
	s.must(err)
	if status.Phase != runtime.PhaseExited || status.Exit == nil || !status.Exit.At.Equal(exit.At) || exit.At.Before(before) || exit.Lost || exit.OOMKilled {
		s.Fatalf("after the end: %+v, exit %+v", status, exit)
	}
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	_, err = s.h.Runtime.Status(s.ctx, "a")
	s.wantError(err, runtime.ErrNotFound)
}

func exitCodes(s *suite) {
	for _, code := range []int{0, 1, 3, 127, 255} {
		id := fmt.Sprint("code-", code)
		s.start(id, "exit", fmt.Sprint(code))
		if exit := s.wait(id); exit.Code != code || exit.Signal != 0 {
			s.Errorf("exit %d came as %+v", code, exit)
		}
	}
}

func signals(s *suite) {
	s.start("term", "trap", "7")
	s.awaitOutput(s.spool("term"), 0, "ready")
	s.must(s.h.Runtime.Signal(s.ctx, "term", 15, false))
	if exit := s.wait("term"); exit.Code != 7 || exit.Signal != 0 {
		s.Errorf("a trapped SIGTERM ended with %+v", exit)
	}
	s.start("kill", "ignore")
	s.awaitOutput(s.spool("kill"), 0, "ready")
	s.must(s.h.Runtime.Signal(s.ctx, "kill", 15, false))
	s.must(s.h.Runtime.Signal(s.ctx, "kill", 9, false))
	if exit := s.wait("kill"); exit.Code != 137 || exit.Signal != 9 {
		s.Errorf("SIGKILL ended with %+v", exit)
	}
	s.wantError(s.h.Runtime.Signal(s.ctx, "kill", 15, false), runtime.ErrNotRunning)
	s.wantError(s.h.Runtime.Signal(s.ctx, "kill", 15, true), runtime.ErrNotRunning)
	s.start("all", "ignore")
	s.must(s.h.Runtime.Signal(s.ctx, "all", 9, true))
	if exit := s.wait("all"); exit.Code != 137 {
		s.Errorf("SIGKILL to all ended with %+v", exit)
	}
}

func createIsExclusive(s *suite) {
	s.start("a", "exit", "5")
	spec := s.h.Spec("a")
	spec.Args = []string{"exit", "6"}
	s.wantError(s.h.Runtime.Create(s.ctx, spec), runtime.ErrAlreadyExists)
	if exit := s.wait("a"); exit.Code != 5 {
		s.Errorf("the first one ended with %+v", exit)
	}
	// Also after its exit, and from another group.
	spec.Group = "elsewhere"
	s.wantError(s.h.Runtime.Create(s.ctx, spec), runtime.ErrAlreadyExists)
}

func failedCreateIsGone(s *suite) {
	spec := s.h.Spec("a")
	spec.Args = []string{"no-such-program"}
	if err := s.h.Runtime.Create(s.ctx, spec); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		s.Fatalf("creating what cannot run: %v", err)
	}
	_, err := s.h.Runtime.Status(s.ctx, "a")
	s.wantError(err, runtime.ErrNotFound)
	_, err = s.h.Runtime.OpenSpool(s.ctx, "a")
	s.wantError(err, runtime.ErrNotFound)
	s.start("a", "exit", "0")
	s.wait("a")
	for _, bad := range []string{"", "UPPER", "a/b", "..", strings.Repeat("x", 65)} {
		spec := s.h.Spec("a")
		spec.ID, spec.Args = bad, []string{"exit", "0"}
		if err := s.h.Runtime.Create(s.ctx, spec); err == nil {
			s.Errorf("id %q was accepted", bad)
		}
	}
}

func idempotency(s *suite) {
	s.start("a", "trap", "0")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	s.awaitOutput(s.spool("a"), 0, "ready")
	s.must(s.h.Runtime.Signal(s.ctx, "a", 15, false))
	first := s.wait("a")
	if again := s.wait("a"); again != first {
		s.Errorf("waiting again: %+v, first %+v", again, first)
	}
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	s.must(s.h.Runtime.RemoveSpool(s.ctx, "a"))
	s.must(s.h.Runtime.RemoveSpool(s.ctx, "a"))
}

func unknownContainer(s *suite) {
	r := s.h.Runtime
	s.wantError(r.Start(s.ctx, "x"), runtime.ErrNotFound)
	s.wantError(r.Signal(s.ctx, "x", 9, false), runtime.ErrNotFound)
	_, err := r.Wait(s.ctx, "x")
	s.wantError(err, runtime.ErrNotFound)
	_, err = r.Stats(s.ctx, "x")
	s.wantError(err, runtime.ErrNotFound)
	_, err = r.Exec(s.ctx, "x", runtime.ExecSpec{Args: []string{"exit"}})
	s.wantError(err, runtime.ErrNotFound)
	_, err = r.OpenSpool(s.ctx, "x")
	s.wantError(err, runtime.ErrNotFound)
	_, err = r.OpenSpool(s.ctx, "../x")
	s.wantError(err, runtime.ErrNotFound)
	s.must(r.Delete(s.ctx, "x"))
}

func deleteKillsRunning(s *suite) {
	s.start("a", "ignore")
	waited := make(chan runtime.Exit, 1)
	go func() {
		exit, _ := s.h.Runtime.Wait(s.ctx, "a")
		waited <- exit
	}()
	s.awaitOutput(s.spool("a"), 0, "ready")
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	all, err := s.h.Runtime.List(s.ctx)
	s.must(err)
	if len(all) != 0 {
		s.Errorf("after Delete there is %+v", all)
	}
	select {
	case <-waited: // told of the end, or that it is gone
	case <-s.ctx.Done():
		s.Error("Wait hangs after Delete")
	}
}

func deleteCreated(s *suite) {
	s.create("a", nil, "echo", "never")
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	_, err := s.h.Runtime.Status(s.ctx, "a")
	s.wantError(err, runtime.ErrNotFound)
	if out, _ := Output(s.ctx, s.T, s.h.Runtime, "a"); out != "" {
		s.Errorf("what was never started wrote %q", out)
	}
}

func waitIsCancelled(s *suite) {
	s.start("a", "ignore")
	ctx, cancel := context.WithCancel(s.ctx)
	errs := make(chan error, 1)
	go func() {
		_, err := s.h.Runtime.Wait(ctx, "a")
		errs <- err
	}()
	cancel()
	s.wantError(<-errs, context.Canceled)
	status, err := s.h.Runtime.Status(s.ctx, "a")
	s.must(err)
	if status.Phase != runtime.PhaseRunning {
		s.Errorf("after a cancelled Wait: %+v", status)
	}
}

func list(s *suite) {
	s.create("created", nil, "exit", "0")
	s.start("running", "ignore")
	s.start("exited", "exit", "4")
	s.wait("exited")
	all, err := s.h.Runtime.List(s.ctx)
	s.must(err)
	got := map[string]runtime.Phase{}
	for _, status := range all {
		got[status.ID] = status.Phase
	}
	want := map[string]runtime.Phase{"created": runtime.PhaseCreated, "running": runtime.PhaseRunning, "exited": runtime.PhaseExited}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("List: %v, want %v", got, want)
	}
}

func stats(s *suite) {
	s.create("a", func(spec *runtime.Spec) { spec.Resources.MemoryBytes = 64 << 20 }, "ignore")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	s.awaitOutput(s.spool("a"), 0, "ready")
	use, err := s.h.Runtime.Stats(s.ctx, "a")
	s.must(err)
	if use.At.IsZero() || use.CPUNanos == 0 || use.MemoryBytes == 0 || use.MemoryLimitBytes != 64<<20 || use.PIDs == 0 {
		s.Errorf("usage of a running container: %+v", use)
	}
	s.must(s.h.Runtime.Signal(s.ctx, "a", 9, false))
	s.wait("a")
	_, err = s.h.Runtime.Stats(s.ctx, "a")
	s.wantError(err, runtime.ErrNotRunning)
}

func oneGroup(s *suite) {
	many(s, 4, func(spec *runtime.Spec) { spec.Group = "together" })
	all, err := s.h.Runtime.List(s.ctx)
	s.must(err)
	if len(all) != 0 {
		s.Errorf("left: %+v", all)
	}
}

func manyGroups(s *suite) {
	many(s, 20, nil)
}

// many runs so many containers at once, each to its own end.
func many(s *suite, n int, change func(*runtime.Spec)) {
	var wg sync.WaitGroup
	for i := range n {
		spec := s.h.Spec(fmt.Sprint("c", i))
		spec.Args = []string{"exit", fmt.Sprint(i)}
		if change != nil {
			change(&spec)
		}
		wg.Go(func() {
			if err := one(s.ctx, s.h.Runtime, spec, i); err != nil {
				s.Errorf("container %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func one(ctx context.Context, r runtime.Runtime, spec runtime.Spec, code int) error {
	if err := r.Create(ctx, spec); err != nil {
		return err
	}
	if err := r.Start(ctx, spec.ID); err != nil {
		return err
	}
	exit, err := r.Wait(ctx, spec.ID)
	if err != nil {
		return err
	}
	if exit.Code != code {
		return fmt.Errorf("exit %+v, want %d", exit, code)
	}
	if err := r.Delete(ctx, spec.ID); err != nil {
		return err
	}
	return r.RemoveSpool(ctx, spec.ID)
}

func sameIDAgain(s *suite) {
	for i := range 3 {
		s.start("a", "exit", fmt.Sprint(i))
		if exit := s.wait("a"); exit.Code != i {
			s.Errorf("round %d: %+v", i, exit)
		}
		s.must(s.h.Runtime.Delete(s.ctx, "a"))
	}
}
