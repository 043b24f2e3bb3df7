package runtimetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

func outputStreams(s *suite) {
	s.start("out", "echo", "one", "two")
	s.start("err", "err", "three")
	s.wait("out")
	s.wait("err")
	if out, errs := Output(s.ctx, s.T, s.h.Runtime, "out"); out != "one two\n" || errs != "" {
		s.Errorf("stdout %q, stderr %q", out, errs)
	}
	if out, errs := Output(s.ctx, s.T, s.h.Runtime, "err"); out != "" || errs != "three\n" {
		s.Errorf("stdout %q, stderr %q", out, errs)
	}
}

func outputIsTailed(s *suite) {
	s.start("a", "trap", "0")
	spool := s.spool("a")
	cursor := s.awaitOutput(spool, 0, "ready")
	// Nothing more yet: Next waits, and can be told to stop.
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := spool.Next(ctx, cursor)
	s.wantError(err, context.DeadlineExceeded)

	type result struct {
		chunk runtime.Chunk
		err   error
	}
	next := make(chan result, 1)
	go func() {
		chunk, err := spool.Next(s.ctx, cursor)
		next <- result{chunk, err}
	}()
	s.must(s.h.Runtime.Signal(s.ctx, "a", 15, false))
	r := <-next
	s.must(r.err)
	if string(r.chunk.Data) != "terminated\n" || r.chunk.Stream != runtime.Stdout || r.chunk.At.IsZero() {
		s.Errorf("tailed %+v", r.chunk)
	}
	_, err = spool.Next(s.ctx, r.chunk.Cursor)
	s.wantError(err, io.EOF)
	_, err = spool.Next(s.ctx, r.chunk.Cursor)
	s.wantError(err, io.EOF)
}

func outputResumes(s *suite) {
	s.start("a", "lines", "200")
	s.wait("a")
	first := s.spool("a")
	var text strings.Builder
	var cursor int64
	for strings.Count(text.String(), "\n") < 1 {
		chunk, err := first.Next(s.ctx, cursor)
		s.must(err)
		text.Write(chunk.Data)
		cursor = chunk.Cursor
	}
	s.must(first.Ack(cursor))
	s.must(first.Close())

	second := s.spool("a")
	acked, err := second.Acked()
	s.must(err)
	if acked != cursor {
		s.Fatalf("acknowledged %d, find %d", cursor, acked)
	}
	// Late and repeated acknowledgements change nothing.
	s.must(second.Ack(cursor - 1))
	if again, _ := second.Acked(); again != cursor {
		s.Errorf("an older acknowledgement moved the position to %d", again)
	}
	for {
		chunk, err := second.Next(s.ctx, acked)
		if errors.Is(err, io.EOF) {
			break
		}
		s.must(err)
		text.Write(chunk.Data)
		acked = chunk.Cursor
	}
	s.must(second.Ack(acked))
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 200 || lines[0] != "line 0" || lines[199] != "line 199" {
		s.Errorf("%d lines, first %q, last %q", len(lines), lines[0], lines[len(lines)-1])
	}
}

func outputAfterDelete(s *suite) {
	s.start("a", "echo", "kept")
	s.wait("a")
	s.must(s.h.Runtime.Delete(s.ctx, "a"))
	if out, _ := Output(s.ctx, s.T, s.h.Runtime, "a"); out != "kept\n" {
		s.Errorf("after Delete the output is %q", out)
	}
	s.must(s.h.Runtime.RemoveSpool(s.ctx, "a"))
	_, err := s.h.Runtime.OpenSpool(s.ctx, "a")
	s.wantError(err, runtime.ErrNotFound)
}

// spamBytes is well above the bound that the two tests below set.
const (
	spamBytes  = 2_000_000
	spoolBound = 256 << 10
)

func outputBlocks(s *suite) {
	s.create("a", func(spec *runtime.Spec) { spec.Output.MaxBytes = spoolBound }, "spam", "2000000")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	spool := s.spool("a")
	total, unacked, cursor := 0, int64(0), int64(0)
	for {
		chunk, err := spool.Next(s.ctx, cursor)
		if errors.Is(err, io.EOF) {
			break
		}
		s.must(err)
		if chunk.Dropped != 0 {
			s.Fatalf("%d bytes were dropped in blocking mode", chunk.Dropped)
		}
		total += len(chunk.Data)
		unacked += chunk.Cursor - cursor
		cursor = chunk.Cursor
		// Only when all that may be kept has been read must the writer be let on.
		if unacked > spoolBound*3/4 {
			status, err := s.h.Runtime.Status(s.ctx, "a")
			s.must(err)
			if status.Phase != runtime.PhaseRunning && total < spamBytes/2 {
				s.Fatalf("the container ended with %d of %d bytes read", total, spamBytes)
			}
			s.must(spool.Ack(cursor))
			unacked = 0
		}
	}
	if exit := s.wait("a"); exit.Code != 0 || total != spamBytes {
		s.Errorf("read %d bytes of %d, exit %+v", total, spamBytes, exit)
	}
}

func outputDropsOldest(s *suite) {
	s.create("a", func(spec *runtime.Spec) {
		spec.Output.MaxBytes, spec.Output.NonBlocking = spoolBound, true
	}, "spam", "2000000")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	// It must not wait for us.
	if exit := s.wait("a"); exit.Code != 0 {
		s.Fatalf("exit %+v", exit)
	}
	spool := s.spool("a")
	total, dropped, cursor := int64(0), int64(0), int64(0)
	for {
		chunk, err := spool.Next(s.ctx, cursor)
		if errors.Is(err, io.EOF) {
			break
		}
		s.must(err)
		total += int64(len(chunk.Data))
		dropped += chunk.Dropped
		cursor = chunk.Cursor
	}
	if total < spoolBound/4 || total > spoolBound*2 {
		s.Errorf("%d bytes were kept at a bound of %d", total, spoolBound)
	}
	if all := total + dropped; all < spamBytes || all > spamBytes*3/2 {
		s.Errorf("kept %d and dropped %d do not make %d", total, dropped, spamBytes)
	}
}

func outputDiscarded(s *suite) {
	s.create("a", func(spec *runtime.Spec) { spec.Output.Discard = true }, "echo", "gone")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	if exit := s.wait("a"); exit.Code != 0 {
		s.Errorf("exit %+v", exit)
	}
	if out, _ := Output(s.ctx, s.T, s.h.Runtime, "a"); out != "" {
		s.Errorf("discarded output is %q", out)
	}
}

func execs(s *suite) {
	s.create("a", func(spec *runtime.Spec) { spec.Env = []string{"FROM=spec", "BOTH=spec"} }, "ignore")
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	run := func(e runtime.ExecSpec) runtime.ExecResult {
		s.Helper()
		result, err := s.h.Runtime.Exec(s.ctx, "a", e)
		s.must(err)
		return result
	}
	if r := run(runtime.ExecSpec{Args: []string{"exit", "9"}}); r.Code != 9 || r.TimedOut {
		s.Errorf("exit 9: %+v", r)
	}
	if r := run(runtime.ExecSpec{Args: []string{"echo", "hello"}}); string(r.Output) != "hello\n" || r.Code != 0 {
		s.Errorf("echo: %+v", r)
	}
	r := run(runtime.ExecSpec{Args: []string{"env"}, Env: []string{"MORE=exec"}})
	for _, want := range []string{"FROM=spec", "MORE=exec"} {
		if !strings.Contains(string(r.Output), want) {
			s.Errorf("environment %q lacks %s", r.Output, want)
		}
	}
	if r := run(runtime.ExecSpec{Args: []string{"spam", "100000"}, OutputLimit: 1000}); len(r.Output) != 1000 || r.Code != 0 {
		s.Errorf("bounded output: %d bytes, code %d", len(r.Output), r.Code)
	}
	if _, err := s.h.Runtime.Exec(s.ctx, "a", runtime.ExecSpec{Args: []string{"no-such-program"}}); err == nil {
		s.Error("a program that does not exist ran")
	}
	status, err := s.h.Runtime.Status(s.ctx, "a")
	s.must(err)
	if status.Phase != runtime.PhaseRunning {
		s.Errorf("after exec: %+v", status)
	}
}

func execTimeout(s *suite) {
	s.start("a", "ignore")
	r, err := s.h.Runtime.Exec(s.ctx, "a", runtime.ExecSpec{Args: []string{"sleep", "1000"}, Timeout: 100 * time.Millisecond})
	s.must(err)
	if !r.TimedOut || r.Code == 0 {
		s.Errorf("%+v", r)
	}
}

func execNeedsRunning(s *suite) {
	s.create("a", nil, "exit", "0")
	_, err := s.h.Runtime.Exec(s.ctx, "a", runtime.ExecSpec{Args: []string{"exit"}})
	s.wantError(err, runtime.ErrNotRunning)
	s.must(s.h.Runtime.Start(s.ctx, "a"))
	s.wait("a")
	_, err = s.h.Runtime.Exec(s.ctx, "a", runtime.ExecSpec{Args: []string{"exit"}})
	s.wantError(err, runtime.ErrNotRunning)
}
