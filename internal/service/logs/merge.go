package logs

import (
	"container/heap"
	"context"

	"longshore.dev/longshore/internal/bulk"
)

// How much a merge reads ahead.
const (
	readAheadEvents = 512
	readAheadBytes  = 256 << 10
	// maxBuffered bounds what all streams of a merge hold together; beyond it the
	// others are emptied and read again when their turn comes.
	maxBuffered = 48 << 20
)

// merge reads the events of many streams as one sequence in order of position,
// or in reverse. A stream is first read when the sequence reaches the time of
// its first event.
type merge struct {
	ctx      context.Context
	events   bulk.Logs
	scan     bulk.LogScan
	cursors  []*cursor // a heap
	buffered int64
	budget   int64 // of buffered
}

// cursor is one stream of a merge. Its events are read from at on.
type cursor struct {
	name   string
	id     bulk.StreamID
	at     bulk.LogPosition // no event of the stream that is still to come stands before
	buffer []bulk.LogEvent
	bytes  int64
}

func newMerge(ctx context.Context, events bulk.Logs, g *group, streams []*stream, scan bulk.LogScan) (*merge, error) {
	m := &merge{ctx: ctx, events: events, scan: scan, budget: maxBuffered}
	m.scan.Limit, m.scan.MaxBytes = readAheadEvents, readAheadBytes
	for _, st := range streams {
		stat, err := events.Stat(ctx, eventsOf(g, st))
		if err != nil {
			return nil, err
		}
		if stat.Events == 0 || stat.Last < scan.From.Timestamp || stat.First > scan.To.Timestamp {
			continue
		}
		c := &cursor{name: st.Name, id: eventsOf(g, st)}
		if scan.Reverse {
			c.at = earliest(bulk.LogPosition{Timestamp: stat.Last, Seq: 1<<64 - 1}, scan.To)
		} else {
			c.at = latest(bulk.LogPosition{Timestamp: stat.First}, scan.From)
		}
		m.cursors = append(m.cursors, c)
	}
	heap.Init(m)
	return m, nil
}

func earliest(a, b bulk.LogPosition) bulk.LogPosition {
	if a.Compare(b) < 0 {
		return a
	}
	return b
}

func latest(a, b bulk.LogPosition) bulk.LogPosition {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// peek returns the next event and its stream's name; ok is false at the end.
func (m *merge) peek() (e bulk.LogEvent, name string, ok bool, err error) {
	for len(m.cursors) > 0 {
		c := m.cursors[0]
		if len(c.buffer) > 0 {
			return c.buffer[0], c.name, true, nil
		}
		if err := m.fill(c); err != nil {
			return e, "", false, err
		}
		switch {
		case len(c.buffer) == 0:
			heap.Pop(m)
		case m.buffered > m.budget:
			m.empty(c)
		default:
			heap.Fix(m, 0)
		}
	}
	return e, "", false, nil
}

func (m *merge) fill(c *cursor) error {
	scan := m.scan
	if scan.Reverse {
		scan.To = earliest(c.at, scan.To)
	} else {
		scan.From = latest(c.at, scan.From)
	}
	events, err := m.events.Scan(m.ctx, c.id, scan)
	if err != nil {
		return err
	}
	c.buffer, c.bytes = events, 0
	for _, e := range events {
		c.bytes += e.Size()
	}
	m.buffered += c.bytes
	if len(events) > 0 {
		c.at = events[0].Position()
	}
	return nil
}

// empty drops what all cursors but one have read ahead.
func (m *merge) empty(keep *cursor) {
	m.buffered = keep.bytes
	for _, c := range m.cursors {
		if c == keep || len(c.buffer) == 0 {
			continue
		}
		if c.at = c.buffer[0].Position(); m.scan.Reverse {
			c.at = c.at.Next() // the end of a range is not in it
		}
		c.buffer, c.bytes = nil, 0
	}
	heap.Init(m)
}

// pop passes over the event that peek returned.
func (m *merge) pop() {
	c := m.cursors[0]
	e := c.buffer[0]
	c.buffer = c.buffer[1:]
	if m.scan.Reverse {
		c.at = e.Position()
	} else {
		c.at = e.Position().Next()
	}
	if len(c.buffer) == 0 {
		m.buffered -= c.bytes
		c.buffer, c.bytes = nil, 0
	} else {
		c.at = c.buffer[0].Position()
	}
	heap.Fix(m, 0)
}

// token names the place of the event that peek returned, for a search to go on there.
func (m *merge) token() string {
	at := m.cursors[0].buffer[0].Position()
	if m.scan.Reverse {
		return backwardToken(at.Next())
	}
	return forwardToken(at)
}

// Len implements heap.Interface.
func (m *merge) Len() int { return len(m.cursors) }

// Less implements heap.Interface. Of two at the same place the one with an event
// comes first: the other's events, if any, stand behind it. (The other way round,
// two streams could empty each other's read-ahead forever.)
func (m *merge) Less(i, j int) bool {
	a, b := m.cursors[i], m.cursors[j]
	c := a.at.Compare(b.at)
	if m.scan.Reverse {
		c = -c
	}
	return c < 0 || c == 0 && len(a.buffer) > 0 && len(b.buffer) == 0
}

// Swap implements heap.Interface.
func (m *merge) Swap(i, j int) { m.cursors[i], m.cursors[j] = m.cursors[j], m.cursors[i] }

// Push implements heap.Interface; nothing is pushed.
func (m *merge) Push(x any) { m.cursors = append(m.cursors, x.(*cursor)) }

// Pop implements heap.Interface.
func (m *merge) Pop() any {
	c := m.cursors[len(m.cursors)-1]
	m.cursors = m.cursors[:len(m.cursors)-1]
	return c
}
