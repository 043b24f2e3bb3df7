package bulktest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"longshore.dev/longshore/internal/bulk"
)

// Logs runs the suite. open returns an empty implementation, closed by t.Cleanup.
func Logs(t *testing.T, open func(t testing.TB) bulk.Logs) {
	for name, test := range map[string]func(*testing.T, bulk.Logs){
		"AppendedEventsComeBackInOrderOfTime": logsOrder,
		"EqualTimestampsKeepTheirOrder":       logsEqualTimestamps,
		"MessagesComeBackByteForByte":         logsBytes,
		"PagesCoverARangeOnce":                logsPages,
		"MaxBytesBoundsAPage":                 logsMaxBytes,
		"RangesAreHalfOpen":                   logsRange,
		"ExtremeTimestamps":                   logsExtremes,
		"TrimRemovesWhatIsEarlier":            logsTrim,
		"DeleteLeavesOthersAlone":             logsDelete,
		"StatCountsAsAWSDoes":                 logsStat,
		"BadArgumentsAreRefused":              logsInvalid,
		"ReaderBehindWritersMissesNothing":    logsConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("BehavesAsASortedSlice", func(t *testing.T) { logsModel(t, open) })
}

var stream = bulk.StreamID{Group: "g1", Stream: "s1"}

func event(ts int64, message string) bulk.LogEvent {
	return bulk.LogEvent{Timestamp: ts, IngestionTime: ts + 7, Message: message}
}

func mustAppend(t testing.TB, l bulk.Logs, id bulk.StreamID, events ...bulk.LogEvent) {
	t.Helper()
	if _, err := l.Append(t.Context(), id, events); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

func everything() bulk.LogScan {
	return bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: math.MaxInt32}
}

func mustScan(t testing.TB, l bulk.Logs, id bulk.StreamID, s bulk.LogScan) []bulk.LogEvent {
	t.Helper()
	events, err := l.Scan(t.Context(), id, s)
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return events
}

func messages(events []bulk.LogEvent) string {
	var b []string
	for _, e := range events {
		b = append(b, e.Message)
	}
	return strings.Join(b, " ")
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func logsOrder(t *testing.T, l bulk.Logs) {
	mustAppend(t, l, stream, event(3000, "c"), event(1000, "a"))
	mustAppend(t, l, stream, event(90_000_000, "e"), event(2000, "b"), event(4000, "d"))
	got := mustScan(t, l, stream, everything())
	expect(t, "forward", messages(got), "a b c d e")
	if got[1].Timestamp != 2000 || got[1].IngestionTime != 2007 {
		t.Errorf("times of b: %+v", got[1])
	}
	s := everything()
	s.Reverse = true
	expect(t, "reverse", messages(mustScan(t, l, stream, s)), "e d c b a")
}

func logsEqualTimestamps(t *testing.T, l bulk.Logs) {
	var want []string
	var lastSeq uint64
	for i := range 50 {
		a, b := fmt.Sprintf("m%02da", i), fmt.Sprintf("m%02db", i)
		seq, err := l.Append(t.Context(), stream, []bulk.LogEvent{event(500, a), event(500, b)})
		if err != nil {
			t.Fatal(err)
		}
		if seq <= lastSeq {
			t.Fatalf("sequence number %d after %d", seq, lastSeq)
		}
		lastSeq = seq
		want = append(want, a, b)
	}
	got := mustScan(t, l, stream, everything())
	expect(t, "order", messages(got), strings.Join(want, " "))
	if last := got[len(got)-1].Seq; last != lastSeq {
		t.Errorf("last event has sequence number %d, Append returned %d", last, lastSeq)
	}
}

func logsBytes(t *testing.T, l bulk.Logs) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	want := []bulk.LogEvent{
		event(1, "x"), event(2, string(all[:])), event(3, "größe ✓ 日本"),
		event(4, strings.Repeat("long ", 250_000)), event(5, strings.Repeat("\x00", 5000)),
	}
	mustAppend(t, l, stream, want...)
	got := mustScan(t, l, stream, everything())
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Message != want[i].Message {
			t.Errorf("event %d differs (%d and %d bytes)", i, len(got[i].Message), len(want[i].Message))
		}
	}
}

// spread appends n events in several overlapping batches and returns their messages in order.
func spread(t testing.TB, l bulk.Logs, n int) []string {
	t.Helper()
	want := make([]string, n)
	for part := range 7 {
		var batch []bulk.LogEvent
		for i := part; i < n; i += 7 {
			want[i] = fmt.Sprintf("event-%05d", i)
			batch = append(batch, event(int64(i)*37, want[i]))
		}
		mustAppend(t, l, stream, batch...)
	}
	return want
}

func logsPages(t *testing.T, l bulk.Logs) {
	want := spread(t, l, 5000)
	for _, limit := range []int{1999, 613, 5000, 9000} {
		var forward, backward []string
		for s := (bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: limit}); ; {
			page := mustScan(t, l, stream, s)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				forward = append(forward, e.Message)
			}
			s.From = page[len(page)-1].Position().Next()
		}
		for s := (bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: limit, Reverse: true}); ; {
			page := mustScan(t, l, stream, s)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				backward = append(backward, e.Message)
			}
			s.To = page[len(page)-1].Position()
		}
		slices.Reverse(backward)
		if !slices.Equal(forward, want) {
			t.Errorf("limit %d: forward pages hold %d events, want %d in order", limit, len(forward), len(want))
		}
		if !slices.Equal(backward, want) {
			t.Errorf("limit %d: backward pages hold %d events, want %d in order", limit, len(backward), len(want))
		}
	}
}

func logsMaxBytes(t *testing.T, l bulk.Logs) {
	for i := range 10 {
		mustAppend(t, l, stream, event(int64(i), strings.Repeat(string(rune('0'+i)), 74))) // 100 bytes each
	}
	for _, c := range []struct {
		maxBytes int64
		want     int
	}{{1, 1}, {100, 1}, {199, 1}, {200, 2}, {999, 9}, {1000, 10}, {0, 10}} {
		for _, reverse := range []bool{false, true} {
			s := everything()
			s.MaxBytes, s.Reverse = c.maxBytes, reverse
			if got := mustScan(t, l, stream, s); len(got) != c.want {
				t.Errorf("MaxBytes %d, reverse %v: %d events, want %d", c.maxBytes, reverse, len(got), c.want)
			}
		}
	}
}

func logsRange(t *testing.T, l bulk.Logs) {
	mustAppend(t, l, stream, event(10, "a"), event(20, "b"), event(20, "c"), event(30, "d"))
	all := mustScan(t, l, stream, everything())
	at := func(ts int64) bulk.LogPosition { return bulk.LogPosition{Timestamp: ts} }
	for _, c := range []struct {
		from, to bulk.LogPosition
		want     string
	}{
		{at(10), at(30), "a b c"},
		{at(11), at(31), "b c d"},
		{at(20), at(20), ""},
		{at(30), at(10), ""},
		{all[1].Position(), all[2].Position(), "b"},
		{all[1].Position().Next(), bulk.MaxPosition, "c d"},
		{at(31), bulk.MaxPosition, ""},
	} {
		for _, reverse := range []bool{false, true} {
			got := mustScan(t, l, stream, bulk.LogScan{From: c.from, To: c.to, Limit: 100, Reverse: reverse})
			if reverse {
				slices.Reverse(got)
			}
			expect(t, fmt.Sprintf("%v to %v, reverse %v", c.from, c.to, reverse), messages(got), c.want)
		}
	}
}

func logsExtremes(t *testing.T, l bulk.Logs) {
	mustAppend(t, l, stream, event(math.MaxInt64-8, "z"), event(0, "b"), event(math.MinInt64, "a"), event(1<<40, "c"))
	expect(t, "forward", messages(mustScan(t, l, stream, everything())), "a b c z")
	s := everything()
	s.Reverse = true
	expect(t, "reverse", messages(mustScan(t, l, stream, s)), "z c b a")
}

func logsTrim(t *testing.T, l bulk.Logs) {
	want := spread(t, l, 4000)
	const cut = 1234
	if err := l.Trim(t.Context(), stream, cut*37); err != nil {
		t.Fatal(err)
	}
	got := mustScan(t, l, stream, everything())
	expect(t, "kept", messages(got), strings.Join(want[cut:], " "))
	st, err := l.Stat(t.Context(), stream)
	if err != nil || st.First != cut*37 || st.Last != 3999*37 || st.Events != 4000-cut || st.Bytes != (4000-cut)*(11+26) {
		t.Errorf("Stat after Trim: %+v, %v", st, err)
	}
	mustAppend(t, l, stream, event(5, "late"))
	expect(t, "an early event may come after", mustScan(t, l, stream, everything())[0].Message, "late")
	if err := l.Trim(t.Context(), stream, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if st, err := l.Stat(t.Context(), stream); err != nil || st != (bulk.LogStat{}) {
		t.Errorf("Stat of an emptied stream: %+v, %v", st, err)
	}
	if st, err := l.Stat(t.Context(), bulk.StreamID{Group: stream.Group}); err != nil || st.Bytes != 0 || st.Events != 0 {
		t.Errorf("Stat of an emptied group: %+v, %v", st, err)
	}
}

func logsDelete(t *testing.T, l bulk.Logs) {
	ids := []bulk.StreamID{{Group: "g1", Stream: "s"}, {Group: "g1", Stream: "s1"}, {Group: "g1", Stream: "s1x"}, {Group: "g1x", Stream: "s1"}, {Group: "g", Stream: "1s1"}}
	for _, id := range ids {
		mustAppend(t, l, id, event(1, id.Group+id.Stream))
	}
	if err := l.Delete(t.Context(), bulk.StreamID{Group: "g1", Stream: "s1"}); err != nil {
		t.Fatal(err)
	}
	left := func() string {
		var b []string
		for _, id := range ids {
			for _, e := range mustScan(t, l, id, everything()) {
				b = append(b, e.Message)
			}
		}
		return strings.Join(b, " ")
	}
	expect(t, "after deleting a stream", left(), "g1s g1s1x g1xs1 g1s1")
	if st, _ := l.Stat(t.Context(), bulk.StreamID{Group: "g1"}); st.Events != 2 {
		t.Errorf("group holds %d events, want 2", st.Events)
	}
	if err := l.Delete(t.Context(), bulk.StreamID{Group: "g1"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "after deleting a group", left(), "g1xs1 g1s1")
	for _, id := range ids[:3] {
		if st, err := l.Stat(t.Context(), id); err != nil || st != (bulk.LogStat{}) {
			t.Errorf("Stat of deleted %v: %+v, %v", id, st, err)
		}
	}
	if err := l.Delete(t.Context(), bulk.StreamID{Group: "never"}); err != nil {
		t.Errorf("deleting what does not exist: %v", err)
	}
}

func logsStat(t *testing.T, l bulk.Logs) {
	other := bulk.StreamID{Group: stream.Group, Stream: "s2"}
	mustAppend(t, l, stream, event(100, "12345"), event(50, "é")) // 5 and 2 bytes
	mustAppend(t, l, stream, event(75, "x"))
	mustAppend(t, l, other, event(1, "yy"))
	st, err := l.Stat(t.Context(), stream)
	if want := (bulk.LogStat{Bytes: 8 + 3*26, Events: 3, First: 50, Last: 100, LastIngestion: 107}); err != nil || st != want {
		t.Errorf("Stat of the stream: %+v, %v, want %+v", st, err, want)
	}
	st, err = l.Stat(t.Context(), bulk.StreamID{Group: stream.Group})
	if err != nil || st.Bytes != 10+4*26 || st.Events != 4 {
		t.Errorf("Stat of the group: %+v, %v", st, err)
	}
	if st, err := l.Stat(t.Context(), bulk.StreamID{Group: "none", Stream: "none"}); err != nil || st != (bulk.LogStat{}) {
		t.Errorf("Stat of what does not exist: %+v, %v", st, err)
	}
}

func logsInvalid(t *testing.T, l bulk.Logs) {
	for _, id := range []bulk.StreamID{{}, {Group: "g", Stream: ""}, {Group: "", Stream: "s"}, {Group: "g\x00", Stream: "s"}, {Group: "g", Stream: strings.Repeat("s", 129)}} {
		if _, err := l.Append(t.Context(), id, []bulk.LogEvent{event(1, "x")}); !errors.Is(err, bulk.ErrInvalid) {
			t.Errorf("Append to %q: %v", id, err)
		}
		if _, err := l.Scan(t.Context(), id, everything()); !errors.Is(err, bulk.ErrInvalid) {
			t.Errorf("Scan of %q: %v", id, err)
		}
	}
	if _, err := l.Scan(t.Context(), stream, bulk.LogScan{To: bulk.MaxPosition}); !errors.Is(err, bulk.ErrInvalid) {
		t.Errorf("Scan without a limit: %v", err)
	}
}

// logsConcurrent follows a stream to which several writers append with the same
// timestamps: a reader that goes on from the last position it saw gets everything.
func logsConcurrent(t *testing.T, l bulk.Logs) {
	const writers, batches, size = 8, 25, 4
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				var events []bulk.LogEvent
				for i := range size {
					events = append(events, event(1000, fmt.Sprintf("%d-%d-%d", w, b, i)))
				}
				if _, err := l.Append(t.Context(), stream, events); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	seen := map[string]bool{}
	scan := bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: 7}
	for ended := false; ; {
		page := mustScan(t, l, stream, scan)
		for _, e := range page {
			seen[e.Message] = true
			scan.From = e.Position().Next()
		}
		if len(page) > 0 {
			continue
		}
		if ended {
			break
		}
		select {
		case <-done:
			ended = true
		default:
		}
	}
	if len(seen) != writers*batches*size {
		t.Errorf("the reader saw %d events, want %d", len(seen), writers*batches*size)
	}
}
