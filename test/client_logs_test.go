package test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// TestLogsThroughTheAPI writes and reads log events with AWS's SDK for Go, and
// reads them with the CLI's tail.
func TestLogsThroughTheAPI(t *testing.T) {
	l := up(t, "--no-sample")
	for name, test := range map[string]func(*longshore){
		"limits": (*longshore).limitsBatches, "walk": (*longshore).walksAStream, "search": (*longshore).searchesAGroup,
		"names": (*longshore).forgetsDeletedNames, "retention": (*longshore).retainsForDays, "tail": (*longshore).tailsWithTheCLI,
	} {
		t.Run(name, func(t *testing.T) { test(l.within(t)) })
	}
}

func (l *longshore) stream(group string, names ...string) {
	l.t.Helper()
	ctx := context.Background()
	if _, err := l.logs().CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &group}); err != nil && code(err) != "ResourceAlreadyExistsException" {
		l.t.Fatal(err)
	}
	for _, name := range names {
		if _, err := l.logs().CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &name}); err != nil {
			l.t.Fatal(err)
		}
	}
}

func event(at time.Time, message string) types.InputLogEvent {
	return types.InputLogEvent{Timestamp: aws.Int64(at.UnixMilli()), Message: &message}
}

func (l *longshore) put(group, stream string, events ...types.InputLogEvent) (*cloudwatchlogs.PutLogEventsOutput, error) {
	return l.logs().PutLogEvents(context.Background(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events})
}

func (l *longshore) mustPut(group, stream string, events ...types.InputLogEvent) {
	l.t.Helper()
	out, err := l.put(group, stream, events...)
	if err != nil || out.RejectedLogEventsInfo != nil {
		l.t.Fatalf("PutLogEvents: %v %+v", err, out)
	}
}

func (l *longshore) limitsBatches() {
	const group, stream = "/limits", "s"
	l.stream(group, stream)
	now := time.Now()
	many := func(n, size int) []types.InputLogEvent {
		events := make([]types.InputLogEvent, n)
		for i := range events {
			events[i] = event(now, strings.Repeat("x", size))
		}
		return events
	}
	for name, events := range map[string][]types.InputLogEvent{
		"10,001 events":        many(10001, 1),
		"more than 1 MiB":      many(10, (1<<20)/10-26+1),
		"empty message":        {event(now, "")},
		"not in order":         {event(now, "b"), event(now.Add(-time.Second), "a")},
		"more than 24 hours":   {event(now.Add(-25*time.Hour), "a"), event(now, "b")},
		"a negative timestamp": {{Timestamp: aws.Int64(-1), Message: aws.String("x")}},
	} {
		if _, err := l.put(group, stream, events...); code(err) != "InvalidParameterException" {
			l.t.Errorf("%s: %v", name, err)
		}
	}
	l.mustPut(group, stream, many(10000, 1)...)
	l.mustPut(group, stream, many(10, (1<<20)/10-26)...)
	out, err := l.put(group, stream, event(now.Add(-15*24*time.Hour), "too old"))
	if err != nil || out.RejectedLogEventsInfo == nil || aws.ToInt32(out.RejectedLogEventsInfo.TooOldLogEventEndIndex) != 1 {
		l.t.Errorf("15 days old: %v %+v", err, out)
	}
	out, err = l.put(group, stream, event(now, "good"), event(now.Add(3*time.Hour), "too new"))
	if err != nil || out.RejectedLogEventsInfo == nil || aws.ToInt32(out.RejectedLogEventsInfo.TooNewLogEventStartIndex) != 1 {
		l.t.Errorf("3 hours early: %v %+v", err, out)
	}
}

// walk reads a stream page by page until the token repeats.
func (l *longshore) walk(group, stream string, limit int32, forward bool, token *string) (messages []string, last *string) {
	l.t.Helper()
	for range 1000 {
		out, err := l.logs().GetLogEvents(context.Background(), &cloudwatchlogs.GetLogEventsInput{
			LogGroupName: &group, LogStreamName: &stream, Limit: &limit, StartFromHead: &forward, NextToken: token})
		if err != nil {
			l.t.Fatal(err)
		}
		page := []string{}
		for _, e := range out.Events {
			page = append(page, *e.Message)
		}
		next := out.NextForwardToken
		if forward {
			messages = append(messages, page...)
		} else {
			messages, next = append(page, messages...), out.NextBackwardToken
		}
		if token != nil && *token == *next {
			return messages, next
		}
		token = next
	}
	l.t.Fatal("the walk does not end")
	return nil, nil
}

func (l *longshore) walksAStream() {
	const group, stream = "/walk", "s"
	l.stream(group, stream)
	base := time.Now().Add(-time.Hour)
	var want []string
	for batch := range 5 {
		var events []types.InputLogEvent
		for i := range 50 {
			n := batch*50 + i
			message := fmt.Sprintf("line %03d \u00e9\u4e16", n)
			want = append(want, message)
			events = append(events, event(base.Add(time.Duration(n/3)*time.Second), message)) // three share a time
		}
		l.mustPut(group, stream, events...)
	}
	forward, end := l.walk(group, stream, 37, true, nil)
	if !slices.Equal(forward, want) {
		l.t.Errorf("forward: %d events, %q…", len(forward), forward[:min(len(forward), 5)])
	}
	if backward, _ := l.walk(group, stream, 37, false, nil); !slices.Equal(backward, want) {
		l.t.Errorf("backward: %d events, %q…", len(backward), backward[:min(len(backward), 5)])
	}
	l.mustPut(group, stream, event(time.Now(), "later"))
	if more, _ := l.walk(group, stream, 37, true, end); !slices.Equal(more, []string{"later"}) {
		l.t.Errorf("the last token, when there is more, gives %q", more)
	}
}

// search collects all pages of FilterLogEvents.
func (l *longshore) search(in cloudwatchlogs.FilterLogEventsInput) (messages []string) {
	l.t.Helper()
	seen := map[string]bool{}
	for pages := cloudwatchlogs.NewFilterLogEventsPaginator(l.logs(), &in); pages.HasMorePages(); {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			l.t.Fatal(err)
		}
		for _, e := range page.Events {
			if id := *e.EventId; seen[id] {
				l.t.Errorf("event %s is found twice", id)
			} else {
				seen[id] = true
			}
			messages = append(messages, *e.Message)
		}
	}
	return messages
}

func (l *longshore) searchesAGroup() {
	const group = "/search"
	l.stream(group, "a", "b", "other")
	base := time.Now().Add(-time.Hour)
	var want []string
	batches := map[string][]types.InputLogEvent{}
	for i := range 120 {
		stream, message := []string{"a", "b", "other"}[i%3], fmt.Sprintf("ERROR number %03d", i)
		if i%4 == 0 {
			message = fmt.Sprintf(`{"level":"warn","n":%d}`, i)
		}
		want = append(want, message)
		batches[stream] = append(batches[stream], event(base.Add(time.Duration(i)*time.Second), message))
	}
	for stream, events := range batches {
		l.mustPut(group, stream, events...)
	}
	if got := l.search(cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group), Limit: aws.Int32(7)}); !slices.Equal(got, want) {
		l.t.Errorf("three streams by time: %d events, %.300q", len(got), got)
	}
	for pattern, n := range map[string]int{
		`ERROR`: 90, `error`: 0, `"number 001"`: 1, `?"number 001" ?"number 002"`: 2, `ERROR -"number 001"`: 89,
		`{ $.level = "warn" }`: 30, `{ $.level = "warn" && $.n > 100 }`: 4, `{ $.n IS NULL }`: 0, `%number 00[1-3]%`: 3,
	} {
		if got := l.search(cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group), FilterPattern: &pattern, Limit: aws.Int32(11)}); len(got) != n {
			l.t.Errorf("%s finds %d, want %d: %.200q", pattern, len(got), n, got)
		}
	}
	got := l.search(cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group), LogStreamNamePrefix: aws.String("o"),
		StartTime: aws.Int64(base.Add(60 * time.Second).UnixMilli()), EndTime: aws.Int64(base.Add(65 * time.Second).UnixMilli())})
	if !slices.Equal(got, []string{want[62], want[65]}) { // the end belongs to it
		l.t.Errorf("one stream, five seconds: %q", got)
	}
}

func (l *longshore) forgetsDeletedNames() {
	const group, stream = "/names", "s"
	ctx := context.Background()
	for round := range 3 {
		l.stream(group, stream)
		if got, _ := l.walk(group, stream, 100, true, nil); len(got) != 0 {
			l.t.Errorf("round %d: a new stream holds %q", round, got)
		}
		if got := l.search(cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String(group)}); len(got) != 0 {
			l.t.Errorf("round %d: a new group holds %q", round, got)
		}
		l.mustPut(group, stream, event(time.Now(), fmt.Sprint("of round ", round)))
		if round == 1 { // the stream alone
			if _, err := l.logs().DeleteLogStream(ctx, &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: aws.String(group), LogStreamName: aws.String(stream)}); err != nil {
				l.t.Fatal(err)
			}
			continue
		}
		if _, err := l.logs().DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String(group)}); err != nil {
			l.t.Fatal(err)
		}
	}
	if _, err := l.put(group, stream, event(time.Now(), "x")); code(err) != "ResourceNotFoundException" {
		l.t.Errorf("writing to a deleted group: %v", err)
	}
}

func (l *longshore) retainsForDays() {
	const group, stream = "/retention", "s"
	l.stream(group, stream)
	now := time.Now()
	l.mustPut(group, stream, event(now.Add(-5*24*time.Hour), "five days old"))
	l.mustPut(group, stream, event(now, "new"))
	if _, err := l.logs().PutRetentionPolicy(context.Background(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String(group), RetentionInDays: aws.Int32(3)}); err != nil {
		l.t.Fatal(err)
	}
	if got, _ := l.walk(group, stream, 100, true, nil); !slices.Equal(got, []string{"new"}) {
		l.t.Errorf("three days are kept, and %q", got)
	}
	out, err := l.put(group, stream, event(now.Add(-4*24*time.Hour), "expired"))
	if err != nil || out.RejectedLogEventsInfo == nil || aws.ToInt32(out.RejectedLogEventsInfo.ExpiredLogEventEndIndex) != 1 {
		l.t.Errorf("an event older than the retention: %v %+v", err, out)
	}
}

func (l *longshore) tailsWithTheCLI() {
	const group = "/tail"
	l.stream(group, "s")
	now := time.Now()
	l.mustPut(group, "s", event(now.Add(-2*time.Hour), "long ago"), event(now.Add(-2*time.Second), "plain text"), event(now.Add(-time.Second), `{"level":"error"}`))
	tail := func(args ...string) string {
		c := l.command(append([]string{"logs", "tail", group}, args...)...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			l.t.Errorf("aws logs tail %v: %v\n%s", args, err, &stderr)
		}
		return string(out)
	}
	lines := func(s string) int { return strings.Count(strings.TrimSpace(s), "\n") + 1 }
	if out := tail("--since", "10m", "--format", "short"); lines(out) != 2 || !strings.Contains(out, "plain text") || strings.Contains(out, "long ago") {
		l.t.Errorf("the last ten minutes: %q", out)
	}
	if out := tail("--since", "3h", "--filter-pattern", `{ $.level = "error" }`, "--format", "json"); !strings.Contains(out, `"level": "error"`) || strings.Contains(out, "plain") {
		l.t.Errorf("by a pattern, as JSON: %q", out)
	}
	if out := tail("--since", "3h"); lines(out) != 3 || !strings.Contains(out, " s ") {
		l.t.Errorf("the long format: %q", out)
	}
}
