package logs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/membulk"
)

// A merge returns every event of its range once and in order, also when it has
// to give up what it read ahead, and when it is taken up again at any token.
func TestMergeReadsEverythingInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events, g := membulk.NewLogs(), &group{Generation: "g"}
		var streams []*stream
		var want []bulk.LogEvent
		for i := range rapid.IntRange(1, 6).Draw(t, "streams") {
			st := &stream{Name: fmt.Sprint("s", i), Generation: fmt.Sprint("s", i)}
			streams = append(streams, st)
			for range rapid.IntRange(0, 8).Draw(t, "batches") {
				var batch []bulk.LogEvent
				for range rapid.IntRange(1, 5).Draw(t, "events") {
					batch = append(batch, bulk.LogEvent{
						Timestamp: rapid.Int64Range(0, 20).Draw(t, "time"),
						Message:   strings.Repeat("x", rapid.IntRange(1, 100).Draw(t, "size")),
					})
				}
				if _, err := events.Append(t.Context(), eventsOf(g, st), batch); err != nil {
					t.Fatal(err)
				}
			}
			all, err := events.Scan(t.Context(), eventsOf(g, st), bulk.LogScan{From: bulk.MinPosition, To: bulk.MaxPosition, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, all...)
		}
		scan := bulk.LogScan{
			From:    bulk.LogPosition{Timestamp: rapid.Int64Range(0, 12).Draw(t, "from")},
			To:      bulk.LogPosition{Timestamp: rapid.Int64Range(5, 21).Draw(t, "to")},
			Reverse: rapid.Bool().Draw(t, "reverse"),
		}
		want = slices.DeleteFunc(want, func(e bulk.LogEvent) bool {
			return e.Position().Compare(scan.From) < 0 || e.Position().Compare(scan.To) >= 0
		})
		slices.SortFunc(want, func(a, b bulk.LogEvent) int {
			c := a.Position().Compare(b.Position())
			if scan.Reverse {
				return cmp.Compare(0, c)
			}
			return c
		})
		budget, step := rapid.Int64Range(0, 2000).Draw(t, "budget"), rapid.IntRange(1, 50).Draw(t, "step")
		var got []bulk.LogEvent
		for more := true; more; {
			m, err := newMerge(t.Context(), events, g, streams, scan)
			if err != nil {
				t.Fatal(err)
			}
			m.budget = budget
			more = false
			for n := 0; ; n++ {
				e, _, ok, err := m.peek()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				if n == step {
					at, _, err := parseEventToken(m.token())
					if err != nil {
						t.Fatal(err)
					}
					if more = true; scan.Reverse {
						scan.To = at
					} else {
						scan.From = at
					}
					break
				}
				m.pop()
				got = append(got, e)
			}
		}
		if !slices.EqualFunc(got, want, func(a, b bulk.LogEvent) bool { return a.Position() == b.Position() }) {
			t.Fatalf("got %d events %v\nwant %d %v", len(got), got, len(want), want)
		}
	})
}
