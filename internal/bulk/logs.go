package bulk

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
)

// EventOverhead is what AWS counts for each stored event besides its message, in bytes.
const EventOverhead = 26

// StreamID names a log stream by generations: ids that are never used again
// after the stream, or its group, was deleted. An empty Stream names the whole
// group where a method says so.
type StreamID struct {
	Group, Stream string
}

// Validate refuses ids that cannot be part of a key.
func (id StreamID) Validate() error {
	for _, s := range []string{id.Group, id.Stream} {
		if s == "" || len(s) > 128 || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("log stream id %q/%q: want 1 to 128 bytes each, none of them NUL: %w", id.Group, id.Stream, ErrInvalid)
		}
	}
	return nil
}

// ValidateGroup is Validate for methods that accept an empty Stream.
func (id StreamID) ValidateGroup() error {
	if id.Stream == "" {
		id.Stream = "-"
	}
	return id.Validate()
}

// LogEvent is one stored event. Times are milliseconds since the epoch.
type LogEvent struct {
	Timestamp     int64
	IngestionTime int64
	Message       string
	// Seq is assigned by Append. It is unique among all streams, grows in the order
	// in which batches became durable, and orders events with the same timestamp.
	Seq uint64
}

// Position returns where the event stands among others.
func (e LogEvent) Position() LogPosition { return LogPosition{e.Timestamp, e.Seq} }

// Size returns what AWS counts for the event, in bytes.
func (e LogEvent) Size() int64 { return int64(len(e.Message)) + EventOverhead }

// LogPosition is a place between events, ordered by (Timestamp, Seq).
type LogPosition struct {
	Timestamp int64
	Seq       uint64
}

// The ends of the order of positions.
var (
	MinPosition = LogPosition{math.MinInt64, 0}
	MaxPosition = LogPosition{math.MaxInt64, math.MaxUint64}
)

// Compare returns -1, 0 or 1 as p stands before, at or after q.
func (p LogPosition) Compare(q LogPosition) int {
	if c := cmp.Compare(p.Timestamp, q.Timestamp); c != 0 {
		return c
	}
	return cmp.Compare(p.Seq, q.Seq)
}

// Next returns the position right after p.
func (p LogPosition) Next() LogPosition {
	if p.Seq == math.MaxUint64 {
		return LogPosition{p.Timestamp + 1, 0}
	}
	return LogPosition{p.Timestamp, p.Seq + 1}
}

// LogScan asks for a page of events with From ≤ position < To.
type LogScan struct {
	From, To LogPosition
	// Limit bounds the number of events and must be positive.
	Limit int
	// MaxBytes bounds the sum of the events' sizes; one event is returned however
	// large it is. 0 means no bound.
	MaxBytes int64
	// Reverse returns the last events of the range, latest first.
	Reverse bool
}

// LogStat tells what a stream, or a group, holds.
type LogStat struct {
	// Bytes as AWS counts them (see LogEvent.Size).
	Bytes  int64
	Events int64
	// First and Last are the earliest and latest timestamps, LastIngestion the
	// latest ingestion time (of an event that may have been trimmed since). They are
	// set for streams that hold events.
	First, Last, LastIngestion int64
}

// Logs keeps log events. What was acknowledged survives a crash of process and
// machine. All methods may be called concurrently.
//
// Events that are visible to Scan stay in place: a later Append to the same
// stream never gets a position before an event with the same timestamp.
type Logs interface {
	// Append adds events to a stream, which needs no creation; they need not be in
	// order of time. It answers when they are on disk, with the Seq of the last one.
	// After an error of ctx the events may or may not be stored.
	Append(ctx context.Context, stream StreamID, events []LogEvent) (uint64, error)
	// Scan returns a page of a stream's events in order of position, or in reverse.
	// Only an empty page tells that the range holds no events.
	Scan(ctx context.Context, stream StreamID, scan LogScan) ([]LogEvent, error)
	// Trim removes the events of a stream whose timestamp is before the given time.
	Trim(ctx context.Context, stream StreamID, before int64) error
	// Delete removes a stream's events, or a whole group's when Stream is empty.
	Delete(ctx context.Context, stream StreamID) error
	// Stat tells what a stream holds, or a whole group (Bytes and Events only) when
	// Stream is empty. What does not exist holds nothing.
	Stat(ctx context.Context, stream StreamID) (LogStat, error)
}
