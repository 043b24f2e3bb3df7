package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/store"
)

// streamsPerPage is the most that DescribeLogStreams returns at once.
const streamsPerPage = 50

// CreateLogStream creates a log stream in a log group.
func (s *Service) CreateLogStream(ctx context.Context, in *cloudwatchlogs.CreateLogStreamInput) (*cloudwatchlogs.CreateLogStreamOutput, error) {
	sc, name := scopeOf(ctx), aws.ToString(in.LogStreamName)
	if name == "" || strings.ContainsAny(name, ":*") {
		return nil, invalid("The log stream name %q is invalid: it must not be empty or contain ':' or '*'.", name)
	}
	st := &stream{Name: name, Generation: s.id(), CreatedAt: s.nowMillis()}
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, aws.ToString(in.LogGroupName)) // guarded: a deleted group gets no stream
		if err != nil {
			return err
		}
		if _, ok := s.streams.Get(tx, sc, streamKey(g, name)); ok {
			return exists("The specified log stream already exists")
		}
		s.streams.Put(tx, sc, streamKey(g, name), st)
		return nil
	})
	if err != nil {
		return nil, stored(err)
	}
	return &cloudwatchlogs.CreateLogStreamOutput{}, nil
}

// DeleteLogStream deletes a log stream; its events follow.
func (s *Service) DeleteLogStream(ctx context.Context, in *cloudwatchlogs.DeleteLogStreamInput) (*cloudwatchlogs.DeleteLogStreamOutput, error) {
	sc := scopeOf(ctx)
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc, aws.ToString(in.LogGroupName))
		if err != nil {
			return err
		}
		st, err := s.stream(tx, sc, g, aws.ToString(in.LogStreamName))
		if err != nil {
			return err
		}
		if g.DeletionProtection {
			m := "The specified log stream cannot be deleted because deletion protection is enabled on its log group. Disable it with PutLogGroupDeletionProtection first."
			return &types.ValidationException{Message: &m}
		}
		s.streams.Delete(tx, sc, streamKey(g, st.Name))
		s.deletions.Put(tx, sc, streamKey(g, st.Generation), &deletion{Group: g.Generation, Stream: st.Generation})
		return nil
	})
	if err != nil {
		return nil, stored(err)
	}
	s.wake()
	return &cloudwatchlogs.DeleteLogStreamOutput{}, nil
}

// DescribeLogStreams lists a group's streams by name or by last event.
func (s *Service) DescribeLogStreams(ctx context.Context, in *cloudwatchlogs.DescribeLogStreamsInput) (*cloudwatchlogs.DescribeLogStreamsOutput, error) {
	byTime := in.OrderBy == types.OrderByLastEventTime
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	name, err := nameOrIdentifier(ctx, in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	after, _, err := transparent("streams", in.NextToken)
	if err != nil {
		return nil, err
	}
	sc, snap := scopeOf(ctx), s.db.Snapshot()
	g, err := s.group(snap, sc, name)
	if err != nil {
		return nil, err
	}
	rows := []streamRow{}
	for st := range s.streamsOf(snap, sc, g, aws.ToString(in.LogStreamNamePrefix)) {
		row := streamRow{stream: st}
		if byTime {
			if row.stat, err = s.events.Stat(ctx, eventsOf(g, st)); err != nil {
				return nil, stored(err)
			}
		}
		rows = append(rows, row)
	}
	page, next := orderedPage(rows, byTime, aws.ToBool(in.Descending), after, pageSize(in.Limit, streamsPerPage))
	out := &cloudwatchlogs.DescribeLogStreamsOutput{LogStreams: []types.LogStream{}, NextToken: next}
	for _, row := range page {
		if !byTime {
			if row.stat, err = s.events.Stat(ctx, eventsOf(g, row.stream)); err != nil {
				return nil, stored(err)
			}
		}
		out.LogStreams = append(out.LogStreams, row.view(sc, g))
	}
	return out, nil
}

// streamRow is a stream with what is known of its events.
type streamRow struct {
	stream *stream
	stat   bulk.LogStat
}

// order returns text by which rows sort: it is also where a page's token points.
func (r streamRow) order(byTime bool) string {
	if byTime {
		return fmt.Sprintf("%020d/%s", max(r.stat.Last, 0), r.stream.Name)
	}
	return r.stream.Name
}

// orderedPage sorts rows and returns those after a place, up to limit, with the
// token of the next page.
func orderedPage(rows []streamRow, byTime, descending bool, after string, limit int) ([]streamRow, *string) {
	compare := func(a, b string) int {
		if descending {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	}
	slices.SortFunc(rows, func(a, b streamRow) int { return compare(a.order(byTime), b.order(byTime)) })
	if after != "" {
		rows = slices.DeleteFunc(rows, func(r streamRow) bool { return compare(r.order(byTime), after) <= 0 })
	}
	if len(rows) <= limit {
		return rows, nil
	}
	rows = rows[:limit]
	return rows, opaque("streams", rows[limit-1].order(byTime))
}

func (r streamRow) view(sc store.Scope, g *group) types.LogStream {
	view := types.LogStream{
		//lint:ignore SA1019 AWS still answers with the member, as zero
		LogStreamName: &r.stream.Name, CreationTime: &r.stream.CreatedAt, StoredBytes: aws.Int64(0),
		Arn: aws.String(streamARN(sc, g.Name, r.stream.Name)), UploadSequenceToken: aws.String(sequenceToken(uint64(r.stat.Events))),
	}
	if r.stat.Events > 0 {
		view.FirstEventTimestamp, view.LastEventTimestamp = &r.stat.First, &r.stat.Last
		view.LastIngestionTime = &r.stat.LastIngestion
	}
	return view
}

// sequenceToken has the form of AWS's; none is ever looked at.
func sequenceToken(n uint64) string { return "49" + fmt.Sprintf("%054s", strconv.FormatUint(n, 10)) }
