package pebblebulk

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

// scanner fills one page. It goes through the classes one after the other; each
// adds the chunks that reach into the range and that the page still has room for.
// At any time it holds the page and one decoded chunk.
type scanner struct {
	ctx    context.Context
	db     *DB
	prefix []byte
	it     *pebble.Iterator
	scan   bulk.LogScan
	page   page
}

func newScanner(ctx context.Context, d *DB, stream bulk.StreamID, scan bulk.LogScan) (*scanner, error) {
	prefix := streamPrefix(spaceEvents, stream)
	it, err := d.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("scan log events: %w", readError(err))
	}
	return &scanner{ctx: ctx, db: d, prefix: prefix, it: it, scan: scan, page: page{scan: scan}}, nil
}

// at parses the key that the iterator stands on.
func (s *scanner) at() (int, chunkKey, error) {
	class, key, ok := parseChunkKey(s.it.Key()[len(s.prefix):])
	if !ok {
		return 0, chunkKey{}, fmt.Errorf("%w: key of log events", bulk.ErrDamaged)
	}
	return class, key, nil
}

func (s *scanner) forward() error {
	for class := 0; class < classes; class++ {
		from := bulk.LogPosition{Timestamp: earlier(s.scan.From.Timestamp, classSpan(class))}
		ok := s.it.SeekGE(appendSeek(s.prefix, class, from))
		for ; ok; ok = s.it.Next() {
			c, key, err := s.at()
			if err != nil {
				return err
			}
			if c > class {
				class = c - 1 // the classes between are empty
				break
			}
			if key.first.Compare(s.scan.To) >= 0 || s.page.full && s.page.last().Compare(key.first) < 0 {
				break
			}
			if key.last() < s.scan.From.Timestamp {
				continue
			}
			if err := s.add(key); err != nil {
				return err
			}
		}
		if !ok {
			return s.it.Error()
		}
	}
	return s.it.Error()
}

func (s *scanner) backward() error {
	for class := classes - 1; class >= 0; class-- {
		ok := s.it.SeekLT(appendSeek(s.prefix, class, s.scan.To))
		for ; ok; ok = s.it.Prev() {
			c, key, err := s.at()
			if err != nil {
				return err
			}
			if c < class {
				class = c + 1
				break
			}
			// No chunk of this class that begins earlier reaches beyond this.
			reach := later(key.first.Timestamp, classSpan(class))
			if reach < s.scan.From.Timestamp || s.page.full && reach < s.page.last().Timestamp {
				break
			}
			if key.last() < s.scan.From.Timestamp || s.page.full && key.last() < s.page.last().Timestamp {
				continue
			}
			if err := s.add(key); err != nil {
				return err
			}
		}
		if !ok {
			return s.it.Error()
		}
	}
	return s.it.Error()
}

// add puts the events of the chunk at hand that are in range into the page.
func (s *scanner) add(key chunkKey) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	value, err := s.it.ValueAndErr()
	if err != nil {
		return err
	}
	events, err := s.db.decodeChunk(key, value)
	if err != nil {
		return err
	}
	before := func(p bulk.LogPosition) int {
		return sort.Search(len(events), func(i int) bool { return events[i].Position().Compare(p) >= 0 })
	}
	events = events[before(s.scan.From):before(s.scan.To)]
	if s.scan.Reverse {
		slices.Reverse(events)
	}
	s.page.add(events)
	return nil
}

// page holds the first events of a range, as many as the scan's bounds allow, of
// those that were added.
type page struct {
	scan   bulk.LogScan
	events []bulk.LogEvent
	bytes  int64
	// full: events after the last one are of no interest any more.
	full bool
}

func (p *page) last() bulk.LogPosition { return p.events[len(p.events)-1].Position() }

// compare orders events as the page has them.
func (p *page) compare(a, b bulk.LogEvent) int {
	c := a.Position().Compare(b.Position())
	if p.scan.Reverse {
		return -c
	}
	return c
}

// add merges events, which are in the page's order.
func (p *page) add(events []bulk.LogEvent) {
	if len(events) == 0 {
		return
	}
	if n := len(p.events); n == 0 || p.compare(p.events[n-1], events[0]) < 0 {
		if !p.full {
			p.fill(p.events, events)
		}
		return
	}
	old := p.events
	merged := make([]bulk.LogEvent, 0, min(p.scan.Limit, len(old)+len(events)))
	for len(merged) < p.scan.Limit && (len(old) > 0 || len(events) > 0 && !p.full) {
		if len(events) == 0 || len(old) > 0 && p.compare(old[0], events[0]) < 0 {
			merged = append(merged, old[0])
			old = old[1:]
			continue
		}
		e := events[0]
		// The page keeps little of this chunk: do not hold on to all of its memory.
		e.Message = strings.Clone(e.Message)
		merged = append(merged, e)
		events = events[1:]
	}
	p.bytes = 0
	wasFull := p.full
	p.fill(nil, merged)
	p.full = p.full || wasFull || len(old) > 0 || len(events) > 0
}

// fill appends events to those in hand until a bound is met.
func (p *page) fill(have, events []bulk.LogEvent) {
	for _, e := range events {
		if len(have) == p.scan.Limit || len(have) > 0 && p.scan.MaxBytes > 0 && p.bytes+e.Size() > p.scan.MaxBytes {
			p.full = true
			break
		}
		p.bytes += e.Size()
		have = append(have, e)
	}
	p.events = have
	p.full = p.full || len(have) == p.scan.Limit
}

// firstTimestamp returns the earliest timestamp of a stream that holds events.
func (d *DB) firstTimestamp(stream bulk.StreamID) (int64, error) {
	s, err := newScanner(context.Background(), d, stream, bulk.LogScan{})
	if err != nil {
		return 0, err
	}
	defer s.it.Close()
	first := bulk.MaxPosition.Timestamp
	for class := 0; class < classes; class++ {
		if !s.it.SeekGE(appendSeek(s.prefix, class, bulk.MinPosition)) {
			break
		}
		c, key, err := s.at()
		if err != nil {
			return 0, err
		}
		first = min(first, key.first.Timestamp)
		class = c
	}
	return first, s.it.Error()
}
