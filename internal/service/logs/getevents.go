package logs

import (
	"context"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
)

// Limits of one page of events.
const (
	maxPageEvents = 10_000
	maxPageBytes  = 1 << 20
)

// GetLogEvents returns a page of one stream's events. Its tokens lead forward
// and backward from the page, and never end: at the end of the stream the answer
// holds the token that was passed in.
func (s *Service) GetLogEvents(ctx context.Context, in *cloudwatchlogs.GetLogEventsInput) (*cloudwatchlogs.GetLogEventsOutput, error) {
	name, err := nameOrIdentifier(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if err := checkRange(in.StartTime, in.EndTime); err != nil {
		return nil, err
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	g, err := s.group(snap, sc, name)
	if err != nil {
		return nil, err
	}
	st, err := s.stream(snap, sc, g, aws.ToString(in.LogStreamName))
	if err != nil {
		return nil, err
	}
	first := bulk.LogPosition{Timestamp: max(aws.ToInt64(in.StartTime), g.cutoff(s.nowMillis()))}
	end := bulk.MaxPosition
	if in.EndTime != nil {
		end = bulk.LogPosition{Timestamp: *in.EndTime}
	}
	scan := bulk.LogScan{
		From: first, To: end, Limit: pageSize(in.Limit, maxPageEvents), MaxBytes: maxPageBytes, Reverse: !aws.ToBool(in.StartFromHead),
	}
	at := first // where the tokens of an empty page point
	if in.NextToken != nil {
		token, forward, err := parseEventToken(*in.NextToken)
		if err != nil {
			return nil, err
		}
		at, scan.Reverse = token, !forward
		if forward && token.Compare(first) > 0 {
			scan.From = token
		}
		if !forward && token.Compare(end) < 0 {
			scan.To = token
		}
	}
	events, err := s.events.Scan(ctx, eventsOf(g, st), scan)
	if err != nil {
		return nil, stored(err)
	}
	if scan.Reverse {
		slices.Reverse(events)
	}
	return eventPage(events, at), nil
}

// eventPage returns events, in order of time, with the tokens around them.
func eventPage(events []bulk.LogEvent, empty bulk.LogPosition) *cloudwatchlogs.GetLogEventsOutput {
	before, after := empty, empty
	if n := len(events); n > 0 {
		before, after = events[0].Position(), events[n-1].Position().Next()
	}
	out := &cloudwatchlogs.GetLogEventsOutput{
		Events:            make([]types.OutputLogEvent, len(events)),
		NextForwardToken:  aws.String(forwardToken(after)),
		NextBackwardToken: aws.String(backwardToken(before)),
	}
	for i, e := range events {
		out.Events[i] = types.OutputLogEvent{
			Timestamp: aws.Int64(e.Timestamp), IngestionTime: aws.Int64(e.IngestionTime), Message: aws.String(e.Message),
		}
	}
	return out
}

func checkRange(start, end *int64) error {
	switch {
	case start != nil && *start < 0, end != nil && *end < 0, end != nil && *end == math.MaxInt64:
		return invalid("startTime and endTime are milliseconds after January 1, 1970.")
	case start != nil && end != nil && *start > *end:
		return invalid("startTime must not be after endTime.")
	}
	return nil
}
