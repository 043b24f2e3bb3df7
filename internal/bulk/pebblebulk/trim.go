package pebblebulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

// trimChunks bounds how many chunks one trimming request looks at, because
// appends wait meanwhile.
const trimChunks = 10_000

// Trim implements bulk.Logs.
func (l *Logs) Trim(ctx context.Context, stream bulk.StreamID, before int64) error {
	if err := stream.Validate(); err != nil {
		return err
	}
	release, err := l.db.use()
	if err != nil {
		return err
	}
	defer release()
	for more := true; more; {
		err := l.db.writer.do(ctx, &request{exclusive: true, apply: func(b *pebble.Batch) (err error) {
			t := trimmer{b: b, stream: stream, before: before}
			more, err = t.run(ctx, l.db)
			return err
		}})
		if err != nil {
			return fmt.Errorf("trim log events: %w", readError(err))
		}
	}
	return nil
}

// trimmer collects one step of a trim in a batch.
type trimmer struct {
	b       *pebble.Batch
	stream  bulk.StreamID
	before  int64
	removed stat
	// runStart and runEnd are the first and last key of chunks that go as a range.
	runStart, runEnd []byte
}

// run removes what is due and tells whether it stopped before the end.
func (t *trimmer) run(ctx context.Context, d *DB) (more bool, err error) {
	s, err := newScanner(ctx, d, t.stream, bulk.LogScan{})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.it.Close()) }()
	seen := 0
	for class := 0; class < classes && !more; class++ {
		for ok := s.it.SeekGE(appendSeek(s.prefix, class, bulk.MinPosition)); ok; ok = s.it.Next() {
			c, key, err := s.at()
			if err != nil {
				return false, err
			}
			if c > class || key.first.Timestamp >= t.before {
				break
			}
			if seen++; seen > trimChunks {
				more = true
				break
			}
			if err := t.chunk(s, key); err != nil {
				return false, err
			}
		}
		if err := errors.Join(s.it.Error(), t.endRun()); err != nil {
			return false, err
		}
	}
	if t.removed.events == 0 {
		return more, nil
	}
	return more, t.account(d)
}

// chunk removes a chunk that begins too early, or the part of it that does.
func (t *trimmer) chunk(s *scanner, key chunkKey) error {
	if key.last() < t.before {
		if t.runStart == nil {
			t.runStart = bytes.Clone(s.it.Key())
		}
		t.runEnd = append(t.runEnd[:0], s.it.Key()...)
		t.removed.bytes += key.bytes
		t.removed.events += int64(key.count)
		return nil
	}
	value, err := s.it.ValueAndErr()
	if err != nil {
		return err
	}
	events, err := s.db.decodeChunk(key, value)
	if err != nil {
		return err
	}
	n, size := 0, int64(0)
	for events[n].Timestamp < t.before {
		size += events[n].Size()
		n++
	}
	rest := s.db.encodeChunk(events[n:], key.bytes-size)
	t.removed.bytes += size
	t.removed.events += int64(n)
	return errors.Join(t.endRun(),
		t.b.Delete(s.it.Key(), nil),
		t.b.Set(rest.key.append(s.prefix), rest.value, nil))
}

func (t *trimmer) endRun() error {
	if t.runStart == nil {
		return nil
	}
	err := t.b.DeleteRange(t.runStart, append(t.runEnd, 0), nil)
	t.runStart, t.runEnd = nil, nil
	return err
}

// account takes what was removed from the totals; an empty stream has none.
func (t *trimmer) account(d *DB) error {
	key := streamPrefix(spaceStreamStat, t.stream)
	have, err := d.readStat(key)
	if err != nil {
		return err
	}
	value := t.removed.removed().encode()
	if have.events == t.removed.events {
		err = t.b.Delete(key, nil)
	} else {
		err = t.b.Merge(key, value, nil)
	}
	return errors.Join(err, t.b.Merge(groupPrefix(spaceGroupStat, t.stream.Group), value, nil))
}

// Delete implements bulk.Logs.
func (l *Logs) Delete(ctx context.Context, stream bulk.StreamID) error {
	if err := stream.ValidateGroup(); err != nil {
		return err
	}
	release, err := l.db.use()
	if err != nil {
		return err
	}
	defer release()
	remove := l.db.removeStream
	if stream.Stream == "" {
		remove = l.db.removeGroup
	}
	err = l.db.writer.do(ctx, &request{exclusive: true, apply: func(b *pebble.Batch) error { return remove(b, stream) }})
	if err != nil {
		return fmt.Errorf("delete log events: %w", err)
	}
	return nil
}

func (d *DB) removeStream(b *pebble.Batch, stream bulk.StreamID) error {
	statKey := streamPrefix(spaceStreamStat, stream)
	have, err := d.readStat(statKey)
	if err != nil || have.events == 0 {
		return err
	}
	prefix := streamPrefix(spaceEvents, stream)
	return errors.Join(
		b.DeleteRange(prefix, prefixEnd(prefix), nil),
		b.Delete(statKey, nil),
		b.Merge(groupPrefix(spaceGroupStat, stream.Group), have.removed().encode(), nil))
}

func (d *DB) removeGroup(b *pebble.Batch, stream bulk.StreamID) error {
	statKey := groupPrefix(spaceGroupStat, stream.Group)
	have, err := d.readStat(statKey)
	if err != nil || have == (stat{}) {
		return err
	}
	events, stats := groupPrefix(spaceEvents, stream.Group), groupPrefix(spaceStreamStat, stream.Group)
	return errors.Join(
		b.DeleteRange(events, prefixEnd(events), nil),
		b.DeleteRange(stats, prefixEnd(stats), nil),
		b.Delete(statKey, nil))
}
