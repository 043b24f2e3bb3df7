package logs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
)

// Limits of one PutLogEvents batch.
const (
	maxBatchBytes  = 1 << 20 // messages and bulk.EventOverhead each; so is one event's
	maxBatchEvents = 10_000
	maxBatchSpan   = 24 * time.Hour
	maxEventAge    = 14 * 24 * time.Hour
	maxEventLead   = 2 * time.Hour
)

// PutLogEvents appends a batch of events to a stream. It answers when they are
// on disk. The sequence token is ignored, as AWS ignores it.
func (s *Service) PutLogEvents(ctx context.Context, in *cloudwatchlogs.PutLogEventsInput) (*cloudwatchlogs.PutLogEventsOutput, error) {
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	sc := scopeOf(ctx)
	g, err := s.group(s.db.Snapshot(), sc, aws.ToString(in.LogGroupName))
	if err != nil {
		return nil, err
	}
	lock := s.writingTo(g.Generation)
	lock.RLock()
	defer lock.RUnlock()
	snap := s.db.Snapshot() // under the lock: see Service.writing
	if g, err = s.group(snap, sc, g.Name); err != nil {
		return nil, err
	}
	st, err := s.stream(snap, sc, g, aws.ToString(in.LogStreamName))
	if err != nil {
		return nil, err
	}
	now := s.nowMillis()
	accepted, rejected, err := sift(in.LogEvents, now, g.RetentionDays)
	if err != nil {
		return nil, err
	}
	events := make([]bulk.LogEvent, len(accepted))
	for i, e := range accepted {
		events[i] = bulk.LogEvent{Timestamp: *e.Timestamp, IngestionTime: now, Message: *e.Message}
	}
	last, err := s.events.Append(ctx, eventsOf(g, st), events)
	if err != nil {
		return nil, stored(err)
	}
	out := &cloudwatchlogs.PutLogEventsOutput{RejectedLogEventsInfo: rejected, NextSequenceToken: aws.String(sequenceToken(last))}
	if in.Entity != nil { // events are kept without the entity, and the client is told so
		out.RejectedEntityInfo = &types.RejectedEntityInfo{ErrorType: types.EntityRejectionErrorTypeUnsupportedLogGroupType}
	}
	return out, nil
}

// checkBatch holds a batch against what makes AWS refuse it as a whole.
func checkBatch(events []types.InputLogEvent) error {
	if len(events) == 0 || len(events) > maxBatchEvents {
		return invalid("A PutLogEvents request holds between 1 and %d log events, this one %d.", maxBatchEvents, len(events))
	}
	var size int64
	last := int64(0)
	for i, e := range events {
		if e.Message == nil || e.Timestamp == nil || *e.Timestamp < 0 {
			return invalid("Log event %d has no message or no valid timestamp.", i)
		}
		if *e.Message == "" {
			return invalid("Log event message must not be empty.")
		}
		n := int64(len(*e.Message)) + bulk.EventOverhead
		if n > maxBatchBytes {
			return invalid("Log event too large: %d bytes exceeds limit of %d", n, maxBatchBytes)
		}
		size += n
		if *e.Timestamp < last {
			return invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
		last = *e.Timestamp
	}
	if size > maxBatchBytes {
		return invalid("Upload too large: %d bytes exceeds limit of %d", size, maxBatchBytes)
	}
	return nil
}

// sift splits a batch, which is in order of time, into the events that are
// accepted at a time and what AWS says about the others.
func sift(events []types.InputLogEvent, now int64, retentionDays int32) ([]types.InputLogEvent, *types.RejectedLogEventsInfo, error) {
	var tooOld, expired int
	tooNew := len(events)
	oldest := now - maxEventAge.Milliseconds()
	retained := (&group{RetentionDays: retentionDays}).cutoff(now)
	for i, e := range events {
		switch ts := *e.Timestamp; {
		case ts < oldest:
			tooOld = i + 1
		case ts < retained:
			expired = i + 1
		case ts > now+maxEventLead.Milliseconds() && i < tooNew:
			tooNew = i
		}
	}
	var rejected *types.RejectedLogEventsInfo
	if tooOld > 0 || expired > 0 || tooNew < len(events) {
		rejected = &types.RejectedLogEventsInfo{}
		if tooOld > 0 {
			rejected.TooOldLogEventEndIndex = aws.Int32(int32(tooOld))
		}
		if expired > 0 {
			rejected.ExpiredLogEventEndIndex = aws.Int32(int32(expired))
		}
		if tooNew < len(events) {
			rejected.TooNewLogEventStartIndex = aws.Int32(int32(tooNew))
		}
	}
	accepted := events[max(tooOld, expired):tooNew]
	if n := len(accepted); n > 0 && *accepted[n-1].Timestamp-*accepted[0].Timestamp > maxBatchSpan.Milliseconds() {
		return nil, nil, invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	return accepted, rejected, nil
}
