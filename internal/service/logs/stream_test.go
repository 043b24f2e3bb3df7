package logs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

func TestLogStreamLifecycle(t *testing.T) {
	r := newRoom(t)
	c, ctx := r.Client, t.Context()
	_, err := c.CreateLogStream(ctx, &api.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")})
	refused(t, "without a group", err, "ResourceNotFoundException", "The specified log group does not exist.")
	r.group("g")
	r.stream("g", "web/app/1")
	_, err = c.CreateLogStream(ctx, &api.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("web/app/1")})
	refused(t, "creating it again", err, "ResourceAlreadyExistsException", "The specified log stream already exists")
	_, err = c.CreateLogStream(ctx, &api.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("a:b")})
	refused(t, "a bad name", err, "InvalidParameterException", "logStreamName")

	r.put("g", "web/app/1", at(time.Second, "x"))
	del := &api.DeleteLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("web/app/1")}
	if _, err := c.DeleteLogStream(ctx, del); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteLogStream(ctx, del)
	refused(t, "deleting it again", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	r.stream("g", "web/app/1")
	read := &api.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("web/app/1")}
	equal(t, "a new stream of the same name", got(r.get(read).Events), "")
	if err := r.Service.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := must[*api.DescribeLogGroupsOutput](t, "DescribeLogGroups")(c.DescribeLogGroups(ctx, &api.DescribeLogGroupsInput{}))
	equal(t, "stored bytes after the sweep", *out.LogGroups[0].StoredBytes, 0)
}

func TestDescribeLogStreams(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	for _, s := range []string{"a", "b", "b2", "c"} {
		r.stream("g", s)
	}
	r.put("g", "a", at(time.Minute, "x"), at(time.Hour, "y"))
	r.put("g", "b", at(2*time.Hour, "x"))
	r.put("g", "c", at(-time.Hour, "x"))
	list := func(in api.DescribeLogStreamsInput) string {
		t.Helper()
		in.LogGroupName = aws.String("g")
		var names []string
		for p := api.NewDescribeLogStreamsPaginator(r.Client, &in); p.HasMorePages(); {
			for _, s := range must[*api.DescribeLogStreamsOutput](t, "page")(p.NextPage(t.Context())).LogStreams {
				names = append(names, *s.LogStreamName)
			}
		}
		return strings.Join(names, " ")
	}
	for _, limit := range []int32{1, 3, 50} {
		l := &limit
		equal(t, "by name", list(api.DescribeLogStreamsInput{Limit: l}), "a b b2 c")
		equal(t, "by name, descending", list(api.DescribeLogStreamsInput{Limit: l, Descending: aws.Bool(true)}), "c b2 b a")
		equal(t, "by prefix", list(api.DescribeLogStreamsInput{Limit: l, LogStreamNamePrefix: aws.String("b")}), "b b2")
		equal(t, "by time", list(api.DescribeLogStreamsInput{Limit: l, OrderBy: types.OrderByLastEventTime}), "b2 c a b")
		equal(t, "by time, descending", list(api.DescribeLogStreamsInput{Limit: l, OrderBy: types.OrderByLastEventTime, Descending: aws.Bool(true)}), "b a c b2")
	}
	_, err := r.Client.DescribeLogStreams(t.Context(), &api.DescribeLogStreamsInput{
		LogGroupName: aws.String("g"), OrderBy: types.OrderByLastEventTime, LogStreamNamePrefix: aws.String("b")})
	refused(t, "by time with a prefix", err, "InvalidParameterException", "LastEventTime")
	_, err = r.Client.DescribeLogStreams(t.Context(), &api.DescribeLogStreamsInput{LogGroupName: aws.String("g"), LogGroupIdentifier: aws.String("g")})
	refused(t, "named twice", err, "InvalidParameterException", "both")
	_, err = r.Client.DescribeLogStreams(t.Context(), &api.DescribeLogStreamsInput{LogGroupName: aws.String("none")})
	refused(t, "no group", err, "ResourceNotFoundException", "The specified log group does not exist.")

	out := must[*api.DescribeLogStreamsOutput](t, "DescribeLogStreams")(r.Client.DescribeLogStreams(t.Context(), &api.DescribeLogStreamsInput{
		LogGroupIdentifier: aws.String("arn:aws:logs:eu-west-1:123456789012:log-group:g:*"[:len("arn:aws:logs:eu-west-1:123456789012:log-group:g")])}))
	a, b2 := out.LogStreams[0], out.LogStreams[2]
	equal(t, "ARN", *a.Arn, "arn:aws:logs:eu-west-1:123456789012:log-group:g:log-stream:a")
	equal(t, "first event", *a.FirstEventTimestamp, noon.Add(time.Minute).UnixMilli())
	equal(t, "last event", *a.LastEventTimestamp, noon.Add(time.Hour).UnixMilli())
	equal(t, "last ingestion", *a.LastIngestionTime, noon.UnixMilli())
	//lint:ignore SA1019 AWS still answers with the member, as zero
	equal(t, "stored bytes are not reported for streams", *a.StoredBytes, 0)
	equal(t, "an empty stream has no event times", b2.FirstEventTimestamp == nil && b2.LastEventTimestamp == nil, true)
}

func TestPutLogEventsRejects(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	day := 24 * time.Hour

	out := r.put("g", "s", at(-15*day, "old"), at(-14*day-time.Second, "old"), at(-time.Hour, "ok"), at(2*time.Hour, "ok2"), at(2*time.Hour+time.Second, "new"), at(9*day, "new"))
	info := out.RejectedLogEventsInfo
	if info == nil || aws.ToInt32(info.TooOldLogEventEndIndex) != 2 || aws.ToInt32(info.TooNewLogEventStartIndex) != 4 || info.ExpiredLogEventEndIndex != nil {
		t.Errorf("rejected: %+v", info)
	}
	equal(t, "a next sequence token", len(aws.ToString(out.NextSequenceToken)), 56)
	if _, err := r.Client.PutRetentionPolicy(t.Context(), &api.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(3)}); err != nil {
		t.Fatal(err)
	}
	info = r.put("g", "s", at(-15*day, "old"), at(-4*day, "expired"), at(-2*day, "ok3")).RejectedLogEventsInfo
	if info == nil || aws.ToInt32(info.TooOldLogEventEndIndex) != 1 || aws.ToInt32(info.ExpiredLogEventEndIndex) != 2 || info.TooNewLogEventStartIndex != nil {
		t.Errorf("rejected under retention: %+v", info)
	}
	read := &api.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")}
	equal(t, "what was stored", got(r.get(read).Events), "ok3 ok ok2")

	_, err := r.tryPut("g", "s", at(0, "b"), at(-1*time.Millisecond, "a"))
	refused(t, "out of order", err, "InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order.")
	_, err = r.tryPut("g", "s", at(-day-time.Second, "a"), at(0, "b"))
	refused(t, "more than a day", err, "InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	_, err = r.tryPut("g", "s", at(0, strings.Repeat("x", 1<<20-25)))
	refused(t, "a large event", err, "InvalidParameterException", "Log event too large: 1048577 bytes exceeds limit of 1048576")
	_, err = r.tryPut("g", "s", at(0, strings.Repeat("x", 600_000)), at(0, strings.Repeat("x", 600_000)))
	refused(t, "a large batch", err, "InvalidParameterException", "Upload too large: 1200052 bytes exceeds limit of 1048576")
	_, err = r.tryPut("g", "s", at(0, ""))
	refused(t, "an empty message", err, "InvalidParameterException", "")
	many := make([]types.InputLogEvent, 10_001)
	for i := range many {
		many[i] = at(0, "x")
	}
	_, err = r.tryPut("g", "s", many...)
	refused(t, "10,001 events", err, "InvalidParameterException", "")
	_, err = r.tryPut("g", "none", at(0, "x"))
	refused(t, "no stream", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	_, err = r.tryPut("none", "s", at(0, "x"))
	refused(t, "no group", err, "ResourceNotFoundException", "The specified log group does not exist.")
	equal(t, "nothing of what was refused is stored", got(r.get(read).Events), "ok3 ok ok2")

	full := many[:10_000]
	if info := r.put("g", "s", full...).RejectedLogEventsInfo; info != nil {
		t.Errorf("10,000 events: rejected %+v", info)
	}
	r.put("g", "s", at(0, strings.Repeat("x", 1<<20-26)))
}

func TestSequenceTokensAreIgnored(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	for i := range 2 {
		_, err := r.Client.PutLogEvents(t.Context(), &api.PutLogEventsInput{
			LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), SequenceToken: aws.String("made up"),
			LogEvents: []types.InputLogEvent{at(0, fmt.Sprint(i))},
		})
		if err != nil {
			t.Errorf("put %d: %v", i, err)
		}
	}
}
