package logdriver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/runtime"
)

// running is a driver's Run in a bubble of virtual time.
type running struct {
	spool  *memorySpool
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, d Driver, spool *memorySpool) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{spool, cancel, make(chan error, 1)}
	go func() { r.done <- d.Run(ctx, spool) }()
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("%s: got %.300q, want %.300q", what, got, want)
	}
}

func TestLinesArriveWhileTheContainerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, spool := &fakeClient{}, newSpool()
		r := start(t, driver(t, c, nil), spool)
		spool.write(runtime.Stdout, "hel")
		spool.write(runtime.Stderr, "oops\n")
		spool.write(runtime.Stdout, "lo\nunfin")
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		expect(t, "after 20 ms", c.messages(), []string{"oops", "hello"})
		expect(t, "acknowledged up to the unfinished line's chunk", spool.position(), int64(2))

		begin := time.Now()
		for range 40 {
			spool.write(runtime.Stdout, "x\n")
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, "all lines", len(c.messages()), 42)
		if n := len(c.times); n > 12 {
			t.Errorf("%d calls in %v, want one in 250 ms", n, time.Since(begin))
		}
		expect(t, "the joined line", c.messages()[2], "unfinx")
		r.stop(t)
	})
}

func TestMultilineEventsEndWhenNothingFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, spool := &fakeClient{}, newSpool()
		r := start(t, driver(t, c, map[string]string{"awslogs-multiline-pattern": "^ERR"}), spool)
		spool.write(runtime.Stdout, "ERR 1\n  at a\n")
		time.Sleep(500 * time.Millisecond)
		spool.write(runtime.Stdout, "  at b\n")
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		expect(t, "while it may go on", c.messages(), []string(nil))
		expect(t, "not acknowledged", spool.position(), int64(0))
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, "after the pause", c.messages(), []string{"ERR 1\n  at a\n  at b\n"})
		expect(t, "acknowledged", spool.position(), int64(2))
		r.stop(t)
	})
}

func TestNothingIsLostWhenTheServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage := time.Now().Add(10 * time.Minute)
		c := &fakeClient{fail: func(call string, n int) error {
			switch {
			case n == 1:
				return &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
			case n == 2:
				return &types.ServiceUnavailableException{}
			case time.Now().Before(outage):
				return errors.New("dial tcp: connection refused")
			}
			return nil
		}}
		spool := newSpool()
		r := start(t, driver(t, c, nil), spool)
		var want []string
		for i := range 100 {
			line := fmt.Sprint("line ", i)
			want = append(want, line)
			spool.write(runtime.Stdout, line+"\n")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		expect(t, "nothing is acknowledged during the outage", spool.position(), int64(0))
		time.Sleep(9 * time.Minute)
		spool.end()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		expect(t, "lines", c.messages(), want)
		expect(t, "acknowledged", spool.position(), int64(100))
		if n := c.counts["put"]; n > 200 {
			t.Errorf("%d calls in ten minutes", n)
		}
	})
}

// TestMissingOutputIsTold: where output was dropped the log says so, and halves of
// lines are not joined over the gap.
func TestMissingOutputIsTold(t *testing.T) {
	spool, client := newSpool(), &fakeClient{}
	spool.write(runtime.Stdout, "whole\nbegun before ")
	spool.write(runtime.Stderr, "too")
	spool.write(runtime.Stdout, "end of another\nnext\n")
	spool.chunks[2].Dropped = 4711
	spool.end()
	if err := driver(t, client, nil).Run(t.Context(), spool); err != nil {
		t.Fatal(err)
	}
	got := client.messages()
	if len(got) != 6 || !strings.HasPrefix(got[3], "longshore: about 4711 bytes of output are missing here: ") {
		t.Fatalf("%q", got)
	}
	got[3] = "-"
	if want := []string{"whole", "begun before ", "too", "-", "end of another", "next"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if spool.position() != 3 {
		t.Errorf("acknowledged up to %d", spool.position())
	}
}

func TestRestartResumesAtTheAcknowledgedCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, spool := &fakeClient{}, newSpool()
		d := driver(t, c, nil)
		r := start(t, d, spool)
		for i := range 5 {
			spool.write(runtime.Stdout, fmt.Sprintf("a%d\n", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r.stop(t)
		for i := range 5 {
			spool.write(runtime.Stdout, fmt.Sprintf("b%d\n", i))
		}
		spool.end()
		if err := d.Run(t.Context(), spool); err != nil {
			t.Fatal(err)
		}
		expect(t, "lines", c.messages(), []string{"a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4"})
	})
}

func TestUnfinishedLineDoesNotStopTheContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, spool := &fakeClient{}, newSpool()
		r := start(t, driver(t, c, nil), spool)
		spool.write(runtime.Stderr, "progress...")
		line := strings.Repeat("x", 99_999) + "\n"
		for range 100 {
			spool.write(runtime.Stdout, line)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if spool.position() < 50 {
			t.Errorf("acknowledged %d of 101 chunks", spool.position())
		}
		expect(t, "the unfinished line was sent", slices.Contains(c.messages(), "progress..."), true)
		spool.write(runtime.Stdout, "\n\n\n")
		spool.write(runtime.Stdout, "\n\n\n")
		synctest.Wait()
		expect(t, "empty lines are acknowledged too", spool.position(), int64(103))
		r.stop(t)
	})
}

func TestBatchesKeepTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, spool := &fakeClient{}, newSpool()
		long := strings.Repeat("x", 200_000)
		for range 12 {
			spool.write(runtime.Stdout, long+"\n")
		}
		spool.write(runtime.Stdout, strings.Repeat("y\n", 25_000))
		spool.writeAt(runtime.Stdout, "tomorrow\n", time.Now().Add(25*time.Hour))
		spool.writeAt(runtime.Stderr, "earlier\n", time.Now().Add(-time.Minute))
		spool.end()
		if err := driver(t, c, nil).Run(t.Context(), spool); err != nil {
			t.Fatal(err)
		}
		expect(t, "events", len(c.messages()), 12+25_000+2)
		i := 0
		for _, n := range c.sizes {
			bytes, call := 0, c.events[i:i+n]
			for _, e := range call {
				bytes += len(*e.Message) + 26
			}
			sorted := slices.IsSortedFunc(call, func(a, b types.InputLogEvent) int { return int(*a.Timestamp - *b.Timestamp) })
			if n > 10_000 || bytes > 1<<20 || !sorted || *call[n-1].Timestamp-*call[0].Timestamp > (24*time.Hour).Milliseconds() {
				t.Errorf("a call with %d events of %d bytes, in order: %v", n, bytes, sorted)
			}
			i += n
		}
	})
}

func TestMissingStreamIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &types.ResourceNotFoundException{Message: aws.String("The specified log group does not exist.")}
		c := &fakeClient{fail: func(call string, n int) error {
			if call != "group" && n == 1 {
				return gone
			}
			return nil
		}}
		spool := newSpool()
		spool.write(runtime.Stdout, "a\n")
		spool.end()
		if err := driver(t, c, map[string]string{"awslogs-create-group": "true"}).Run(t.Context(), spool); err != nil {
			t.Fatal(err)
		}
		expect(t, "calls", c.calls, []string{"put", "stream", "group", "stream", "put"})
		expect(t, "lines", c.messages(), []string{"a"})
	})
}

func TestMissingGroupIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := time.Now().Add(time.Minute)
		c := &fakeClient{fail: func(string, int) error {
			if time.Now().Before(made) {
				return &types.ResourceNotFoundException{Message: aws.String("The specified log group does not exist.")}
			}
			return nil
		}}
		spool := newSpool()
		spool.write(runtime.Stdout, "a\n")
		spool.end()
		if err := driver(t, c, nil).Run(t.Context(), spool); err != nil {
			t.Fatal(err)
		}
		expect(t, "the group is not made", c.counts["group"], 0)
		expect(t, "lines", c.messages(), []string{"a"})
	})
}

func TestRefusalEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeClient{fail: func(string, int) error {
			return &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "User: x is not authorized"}
		}}
		spool := newSpool()
		spool.write(runtime.Stdout, "a\n")
		err := driver(t, c, nil).Run(t.Context(), spool)
		want := "CloudWatch Logs does not accept the container's log events (log group /ecs/web, stream web/app/0123abcd): AccessDeniedException: User: x is not authorized"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		expect(t, "acknowledged", spool.position(), int64(0))
	})
}

func TestPrepareWaitsForTheServerAndForCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeClient{fail: func(_ string, n int) error {
			if n < 4 {
				return errors.New("dial tcp: connection refused")
			}
			return nil
		}}
		if err := driver(t, c, nil).Prepare(t.Context()); err != nil {
			t.Errorf("Prepare: %v", err)
		}
		c.fail = func(string, int) error { return errors.New("dial tcp: connection refused") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := driver(t, c, nil).Prepare(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("Prepare without a server: %v", err)
		}
	})
}

func TestKeptOutput(t *testing.T) {
	for driver, acked := range map[string]int64{JSONFile: 0, None: 2} {
		s, err := Parse(driver, nil, app)
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(s, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		spool := newSpool()
		spool.write(runtime.Stdout, "a\n")
		spool.write(runtime.Stdout, "b\n")
		spool.end()
		if err := errors.Join(d.Prepare(t.Context()), d.Run(t.Context(), spool)); err != nil {
			t.Fatal(err)
		}
		expect(t, driver+" acknowledged", spool.position(), acked)
	}
}
