package pebblebulk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"longshore.dev/longshore/internal/bulk"
)

func benchEvents(n int) []bulk.LogEvent {
	events := make([]bulk.LogEvent, n)
	for i := range events {
		events[i] = bulk.LogEvent{
			Timestamp: 1_760_000_000_000 + int64(i/10), IngestionTime: 1_760_000_000_000,
			Message: fmt.Sprintf(`%d 10.0.%d.%d - "GET /items/%d HTTP/1.1" 200 %d "-" "agent/1.0"`, i, i%7, i%251, i*7919%10007, i%4096),
		}
	}
	return events
}

// BenchmarkAppend appends batches, each synced, from several goroutines.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ writers, batch int }{{1, 1}, {1, 1000}, {16, 100}, {16, 1000}, {64, 10}, {64, 100}} {
		b.Run(fmt.Sprintf("writers=%d/batch=%d", c.writers, c.batch), func(b *testing.B) {
			l := open(b, b.TempDir()).Logs()
			events := benchEvents(c.batch)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range c.writers {
				wg.Go(func() {
					id := bulk.StreamID{Group: "g", Stream: fmt.Sprint(w)}
					for left.Add(-1) >= 0 {
						if _, err := l.Append(b.Context(), id, events); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkScan reads pages of 1,000 from a stream of 200,000 events.
func BenchmarkScan(b *testing.B) {
	for _, batch := range []int{10, 1000} {
		l := open(b, b.TempDir()).Logs()
		id := bulk.StreamID{Group: "g", Stream: "s"}
		all := benchEvents(200_000)
		for i := 0; i < len(all); i += batch {
			if _, err := l.Append(b.Context(), id, all[i:i+batch]); err != nil {
				b.Fatal(err)
			}
		}
		for _, reverse := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d/reverse=%v", batch, reverse), func(b *testing.B) {
				for i := range b.N {
					ts := all[(i*7919)%190_000+5000].Timestamp
					scan := bulk.LogScan{From: bulk.LogPosition{Timestamp: ts}, To: bulk.MaxPosition, Limit: 1000}
					if reverse {
						scan.From, scan.To, scan.Reverse = bulk.MinPosition, scan.From, true
					}
					page, err := l.Scan(b.Context(), id, scan)
					if err != nil || len(page) == 0 {
						b.Fatal(len(page), err)
					}
				}
			})
		}
	}
}
