package logdriver

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// Limits of one PutLogEvents call.
const (
	eventOverhead  = 26
	maxBatchBytes  = 1 << 20
	maxBatchEvents = 10_000
	maxBatchSpan   = 24 * time.Hour
)

// batch collects events for one call.
type batch struct {
	maxEvents   int
	events      []types.InputLogEvent
	bytes       int
	first, last int64 // timestamps in ms
}

// fits tells whether an event can be added within the limits.
func (b *batch) fits(e event) bool {
	if len(b.events) == 0 {
		return true
	}
	ts := e.at.UnixMilli()
	return len(b.events) < b.maxEvents && b.bytes+len(e.text)+eventOverhead <= maxBatchBytes &&
		max(b.last, ts)-min(b.first, ts) <= maxBatchSpan.Milliseconds()
}

func (b *batch) add(e event) {
	ts := e.at.UnixMilli()
	if len(b.events) == 0 {
		b.first, b.last = ts, ts
	}
	b.first, b.last = min(b.first, ts), max(b.last, ts)
	b.bytes += len(e.text) + eventOverhead
	b.events = append(b.events, types.InputLogEvent{Timestamp: &ts, Message: &e.text})
}

// take returns the events in order of time, as a call must have them, and
// empties the batch.
func (b *batch) take() []types.InputLogEvent {
	events := b.events
	slices.SortStableFunc(events, func(x, y types.InputLogEvent) int { return int(*x.Timestamp - *y.Timestamp) })
	*b = batch{maxEvents: b.maxEvents}
	return events
}
