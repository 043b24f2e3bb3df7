package logs

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/service/logs/pattern"
	"longshore.dev/longshore/internal/store"
)

// A call that finds little looks at no more than this before it returns what it
// has, perhaps nothing, with a token to go on.
const (
	maxSearchedEvents = 100_000
	maxSearchedBytes  = 32 << 20
)

// newestFirstSince is the earliest startTime of a search with startFromHead false.
var newestFirstSince = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// FilterLogEvents searches the streams of a log group, interleaved in order of time.
func (s *Service) FilterLogEvents(ctx context.Context, in *cloudwatchlogs.FilterLogEventsInput) (*cloudwatchlogs.FilterLogEventsOutput, error) {
	name, err := nameOrIdentifier(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	match, err := pattern.Parse(aws.ToString(in.FilterPattern))
	if err != nil {
		return nil, invalid("Invalid filter pattern: %s", err)
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	g, err := s.group(snap, sc, name)
	if err != nil {
		return nil, err
	}
	scan, err := searchRange(in, g.cutoff(s.nowMillis()))
	if err != nil {
		return nil, err
	}
	streams, err := s.searched(snap, sc, g, in)
	if err != nil {
		return nil, err
	}
	m, err := newMerge(ctx, s.events, g, streams, scan)
	if err != nil {
		return nil, stored(err)
	}
	out, err := search(m, match, pageSize(in.Limit, maxPageEvents))
	return out, stored(err)
}

// searchRange returns where a search starts and ends, and its direction.
func searchRange(in *cloudwatchlogs.FilterLogEventsInput, cutoff int64) (bulk.LogScan, error) {
	if err := checkRange(in.StartTime, in.EndTime); err != nil {
		return bulk.LogScan{}, err
	}
	scan := bulk.LogScan{From: bulk.LogPosition{Timestamp: max(aws.ToInt64(in.StartTime), cutoff)}, To: bulk.MaxPosition}
	if in.EndTime != nil { // inclusive, unlike GetLogEvents'
		scan.To = bulk.LogPosition{Timestamp: *in.EndTime + 1}
	}
	content, given, err := transparent("filter", in.NextToken)
	if err != nil {
		return scan, err
	}
	if !given {
		scan.Reverse = in.StartFromHead != nil && !*in.StartFromHead
		if scan.Reverse && aws.ToInt64(in.StartTime) < newestFirstSince {
			return scan, invalid("Setting startFromHead to false requires a startTime on or after January 1, 2024 00:00:00 UTC.")
		}
		return scan, nil
	}
	at, forward, err := parseEventToken(content)
	if err != nil {
		return scan, err
	}
	if scan.Reverse = !forward; forward && at.Compare(scan.From) > 0 {
		scan.From = at
	} else if !forward && at.Compare(scan.To) < 0 {
		scan.To = at
	}
	return scan, nil
}

// searched returns the streams that a search looks at.
func (s *Service) searched(r store.Reader, sc store.Scope, g *group, in *cloudwatchlogs.FilterLogEventsInput) ([]*stream, error) {
	if in.LogStreamNames != nil && in.LogStreamNamePrefix != nil {
		return nil, invalid("logStreamNames and logStreamNamePrefix cannot both be specified.")
	}
	var streams []*stream
	if in.LogStreamNames == nil {
		for st := range s.streamsOf(r, sc, g, aws.ToString(in.LogStreamNamePrefix)) {
			streams = append(streams, st)
		}
		return streams, nil
	}
	seen := map[string]bool{}
	for _, name := range in.LogStreamNames {
		st, err := s.stream(r, sc, g, name)
		if err != nil {
			return nil, err
		}
		if !seen[name] {
			seen[name] = true
			streams = append(streams, st)
		}
	}
	return streams, nil
}

// search reads a merge until a page is full, enough was looked at, or nothing is left.
func search(m *merge, match *pattern.Pattern, limit int) (*cloudwatchlogs.FilterLogEventsOutput, error) {
	out := &cloudwatchlogs.FilterLogEventsOutput{Events: []types.FilteredLogEvent{}, SearchedLogStreams: []types.SearchedLogStream{}}
	var pageBytes, searchedBytes int64
	for searched := 0; ; searched++ {
		e, name, ok, err := m.peek()
		if err != nil || !ok {
			return out, err
		}
		matches := match.Match(e.Message)
		full := matches && (len(out.Events) == limit || len(out.Events) > 0 && pageBytes+e.Size() > maxPageBytes)
		if full || searched == maxSearchedEvents || searched > 0 && searchedBytes+e.Size() > maxSearchedBytes {
			out.NextToken = opaque("filter", m.token())
			return out, nil
		}
		m.pop()
		searchedBytes += e.Size()
		if !matches {
			continue
		}
		pageBytes += e.Size()
		out.Events = append(out.Events, types.FilteredLogEvent{
			LogStreamName: aws.String(name), Timestamp: aws.Int64(e.Timestamp), IngestionTime: aws.Int64(e.IngestionTime),
			// A copy: the event's message may share the memory of events that did not match.
			Message: aws.String(strings.Clone(e.Message)), EventId: aws.String(digits(e.Position())),
		})
	}
}
