package bulktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/membulk"
)

// logsModel compares an implementation with membulk under random operations.
func logsModel(t *testing.T, open func(t testing.TB) bulk.Logs) {
	l := open(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++ // streams of its own for each run
		ids := []bulk.StreamID{{Group: fmt.Sprintf("g%d", run), Stream: "a"}, {Group: fmt.Sprintf("g%d", run), Stream: "b"}}
		m := &logsMachine{got: l, want: membulk.NewLogs(), ids: ids}
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "scan": m.scan, "trim": m.trim, "delete": m.delete, "": m.check,
		})
	})
}

type logsMachine struct {
	got, want bulk.Logs
	ids       []bulk.StreamID
	serial    int
}

// instant draws times that cluster and times far apart.
func instant(t *rapid.T, label string) int64 {
	scale := rapid.SampledFrom([]int64{1, 100, 5000, 90_000, 2_000_000, 40_000_000, 400_000_000, 1 << 45}).Draw(t, label+" scale")
	return rapid.Int64Range(-2, 40).Draw(t, label) * scale
}

func (m *logsMachine) id(t *rapid.T) bulk.StreamID { return rapid.SampledFrom(m.ids).Draw(t, "stream") }

func (m *logsMachine) append(t *rapid.T) {
	id, n := m.id(t), rapid.IntRange(1, 12).Draw(t, "events")
	base := instant(t, "base")
	events := make([]bulk.LogEvent, n)
	for i := range events {
		m.serial++
		events[i] = bulk.LogEvent{
			Timestamp:     base + instant(t, "offset"),
			IngestionTime: int64(m.serial),
			Message:       fmt.Sprintf("%d%s", m.serial, strings.Repeat(".", rapid.IntRange(0, 300).Draw(t, "length"))),
		}
	}
	for _, l := range []bulk.Logs{m.got, m.want} {
		if _, err := l.Append(t.Context(), id, events); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *logsMachine) scan(t *rapid.T) {
	scan := bulk.LogScan{
		From:     bulk.LogPosition{Timestamp: instant(t, "from")},
		To:       bulk.LogPosition{Timestamp: instant(t, "to")},
		Limit:    rapid.IntRange(1, 40).Draw(t, "limit"),
		MaxBytes: rapid.Int64Range(0, 3000).Draw(t, "bytes"),
		Reverse:  rapid.Bool().Draw(t, "reverse"),
	}
	m.compare(t, m.id(t), scan)
}

func (m *logsMachine) compare(t *rapid.T, id bulk.StreamID, scan bulk.LogScan) {
	got, err1 := m.got.Scan(t.Context(), id, scan)
	want, err2 := m.want.Scan(t.Context(), id, scan)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	same := slices.EqualFunc(got, want, func(a, b bulk.LogEvent) bool {
		return a.Timestamp == b.Timestamp && a.IngestionTime == b.IngestionTime && a.Message == b.Message
	})
	if !same {
		t.Fatalf("scan %+v of %v:\n got %v\nwant %v", scan, id, got, want)
	}
}

func (m *logsMachine) trim(t *rapid.T) {
	id, before := m.id(t), instant(t, "before")
	for _, l := range []bulk.Logs{m.got, m.want} {
		if err := l.Trim(t.Context(), id, before); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *logsMachine) delete(t *rapid.T) {
	id := m.id(t)
	if rapid.IntRange(0, 3).Draw(t, "group") == 0 {
		id.Stream = ""
	}
	for _, l := range []bulk.Logs{m.got, m.want} {
		if err := l.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *logsMachine) check(t *rapid.T) {
	for _, id := range append(m.ids, bulk.StreamID{Group: m.ids[0].Group}) {
		got, err1 := m.got.Stat(t.Context(), id)
		want, err2 := m.want.Stat(t.Context(), id)
		if err1 != nil || err2 != nil || got != want {
			t.Fatalf("stat of %v: got %+v, want %+v (%v, %v)", id, got, want, err1, err2)
		}
	}
	for _, id := range m.ids {
		m.compare(t, id, everything())
	}
}
