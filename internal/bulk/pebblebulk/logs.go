package pebblebulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

// Logs implements bulk.Logs.
type Logs struct{ db *DB }

var _ bulk.Logs = (*Logs)(nil)

// Append implements bulk.Logs.
func (l *Logs) Append(ctx context.Context, stream bulk.StreamID, events []bulk.LogEvent) (uint64, error) {
	if err := stream.Validate(); err != nil {
		return 0, err
	}
	if len(events) == 0 {
		return 0, nil
	}
	for i, e := range events {
		if len(e.Message) > maxMessage {
			return 0, fmt.Errorf("log event %d is %d bytes long, more than %d: %w", i, len(e.Message), maxMessage, bulk.ErrInvalid)
		}
	}
	release, err := l.db.use()
	if err != nil {
		return 0, err
	}
	defer release()
	a := &appendLogs{db: l.db, stream: stream, chunks: l.db.encodeChunks(events)}
	r := &request{apply: a.apply}
	for _, c := range a.chunks {
		r.size += len(c.value)
	}
	err = l.db.writer.do(ctx, r)
	if err != nil {
		return 0, fmt.Errorf("append %d log events: %w", len(events), err)
	}
	return a.lastSeq, nil
}

// appendLogs is one append on its way through the writer.
type appendLogs struct {
	db      *DB
	stream  bulk.StreamID
	chunks  []chunk
	lastSeq uint64
}

func (a *appendLogs) apply(b *pebble.Batch) error {
	prefix := streamPrefix(spaceEvents, a.stream)
	total := noTimes
	for _, c := range a.chunks {
		seq, err := a.db.writer.takeSeqs(b, c.key.count)
		if err != nil {
			return err
		}
		c.key.first.Seq = seq
		a.lastSeq = seq + uint64(c.key.count) - 1
		if err := b.Set(c.key.append(prefix), c.value, nil); err != nil {
			return err
		}
		total.add(stat{c.key.bytes, int64(c.key.count), c.key.last(), c.lastIngestion})
	}
	return mergeStats(b, a.stream, total)
}

// mergeStats adds to a stream's total and to its group's.
func mergeStats(b *pebble.Batch, stream bulk.StreamID, s stat) error {
	value := s.encode()
	return errors.Join(
		b.Merge(streamPrefix(spaceStreamStat, stream), value, nil),
		b.Merge(groupPrefix(spaceGroupStat, stream.Group), value, nil))
}

// Scan implements bulk.Logs.
func (l *Logs) Scan(ctx context.Context, stream bulk.StreamID, scan bulk.LogScan) ([]bulk.LogEvent, error) {
	if err := stream.Validate(); err != nil {
		return nil, err
	}
	if scan.Limit <= 0 {
		return nil, fmt.Errorf("scan with limit %d: %w", scan.Limit, bulk.ErrInvalid)
	}
	if scan.From.Compare(scan.To) >= 0 {
		return nil, nil
	}
	release, err := l.db.use()
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := newScanner(ctx, l.db, stream, scan)
	if err != nil {
		return nil, err
	}
	if scan.Reverse {
		err = s.backward()
	} else {
		err = s.forward()
	}
	if err = errors.Join(err, s.it.Close()); err != nil {
		return nil, fmt.Errorf("scan log events: %w", readError(err))
	}
	return s.page.events, nil
}

// Stat implements bulk.Logs.
func (l *Logs) Stat(_ context.Context, stream bulk.StreamID) (bulk.LogStat, error) {
	if err := stream.ValidateGroup(); err != nil {
		return bulk.LogStat{}, err
	}
	release, err := l.db.use()
	if err != nil {
		return bulk.LogStat{}, err
	}
	defer release()
	if stream.Stream == "" {
		s, err := l.db.readStat(groupPrefix(spaceGroupStat, stream.Group))
		return bulk.LogStat{Bytes: s.bytes, Events: s.events}, err
	}
	s, err := l.db.readStat(streamPrefix(spaceStreamStat, stream))
	if err != nil || s.events == 0 {
		return bulk.LogStat{}, err
	}
	first, err := l.db.firstTimestamp(stream)
	if err != nil {
		return bulk.LogStat{}, fmt.Errorf("first log event: %w", readError(err))
	}
	return bulk.LogStat{Bytes: s.bytes, Events: s.events, First: first, Last: s.last, LastIngestion: s.lastIngestion}, nil
}

func (d *DB) readStat(key []byte) (stat, error) {
	value, closer, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return stat{}, nil
	}
	if err != nil {
		return stat{}, fmt.Errorf("total of log events: %w", readError(err))
	}
	defer closer.Close()
	return decodeStat(value)
}
