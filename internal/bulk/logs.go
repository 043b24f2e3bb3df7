package bulk

import "context"

// StreamID names a log stream by generation: an id that is never used again
// after the stream, or its group, was deleted.
type StreamID string

// LogEvent is one stored event. Times are milliseconds since the epoch.
type LogEvent struct {
	Timestamp     int64
	IngestionTime int64
	Message       string
	// Seq orders events of one stream with the same timestamp, and with the
	// timestamp makes up an event's position. Assigned by Append.
	Seq uint64
}

// LogPosition is a place between events of one stream, ordered by (Timestamp, Seq).
type LogPosition struct {
	Timestamp int64
	Seq       uint64
}

// Logs keeps log events. Append answers only when the events are on disk.
type Logs interface {
	// Append adds events to a stream; they need not be in order of time.
	Append(ctx context.Context, stream StreamID, events []LogEvent) error
	// Scan returns up to limit events of a stream with from ≤ position < to, in
	// order of position, or in reverse.
	Scan(ctx context.Context, stream StreamID, from, to LogPosition, limit int, reverse bool) ([]LogEvent, error)
	// Trim removes events whose timestamp is before the given time; Delete removes all.
	Trim(ctx context.Context, stream StreamID, before int64) error
	Delete(ctx context.Context, stream StreamID) error
	// Size returns the stored bytes of a stream as AWS counts them (message bytes + 26 each).
	Size(ctx context.Context, stream StreamID) (int64, error)
}
