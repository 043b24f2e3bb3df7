package logs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

func gs(in api.GetLogEventsInput) *api.GetLogEventsInput {
	in.LogGroupName, in.LogStreamName = aws.String("g"), aws.String("s")
	return &in
}

func TestGetLogEventsForwardToTheEndAndOn(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	empty := r.get(gs(api.GetLogEventsInput{StartFromHead: aws.Bool(true)}))
	if len(empty.Events) != 0 || !strings.HasPrefix(*empty.NextForwardToken, "f/") || !strings.HasPrefix(*empty.NextBackwardToken, "b/") {
		t.Fatalf("empty stream: %+v", empty)
	}
	again := r.get(gs(api.GetLogEventsInput{NextToken: empty.NextForwardToken, StartFromHead: aws.Bool(true)}))
	equal(t, "the end gives the same token", *again.NextForwardToken, *empty.NextForwardToken)

	r.put("g", "s", at(0, "a"), at(0, "b"), at(1, "c"), at(time.Second, "d"), at(2*time.Second, "e"))
	page := r.get(gs(api.GetLogEventsInput{NextToken: again.NextForwardToken, StartFromHead: aws.Bool(true), Limit: aws.Int32(2)}))
	equal(t, "first page", got(page.Events), "a b")
	page = r.get(gs(api.GetLogEventsInput{NextToken: page.NextForwardToken, StartFromHead: aws.Bool(true), Limit: aws.Int32(2)}))
	equal(t, "second page", got(page.Events), "c d")
	back := r.get(gs(api.GetLogEventsInput{NextToken: page.NextBackwardToken, Limit: aws.Int32(1)}))
	equal(t, "one back", got(back.Events), "b")
	page = r.get(gs(api.GetLogEventsInput{NextToken: page.NextForwardToken, StartFromHead: aws.Bool(true), Limit: aws.Int32(2)}))
	equal(t, "third page", got(page.Events), "e")
	last := r.get(gs(api.GetLogEventsInput{NextToken: page.NextForwardToken, StartFromHead: aws.Bool(true)}))
	equal(t, "no more events", len(last.Events), 0)
	equal(t, "the token that was passed in", *last.NextForwardToken, *page.NextForwardToken)
	r.put("g", "s", at(2*time.Second, "f"))
	equal(t, "a later event with the same time", got(r.get(gs(api.GetLogEventsInput{NextToken: last.NextForwardToken, StartFromHead: aws.Bool(true)})).Events), "f")
}

func TestGetLogEventsBackward(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	var all []types.InputLogEvent
	for i := range 10 {
		all = append(all, at(time.Duration(i)*time.Second, fmt.Sprint(i)))
	}
	r.put("g", "s", all...)
	page := r.get(gs(api.GetLogEventsInput{Limit: aws.Int32(4)}))
	equal(t, "the latest, in order", got(page.Events), "6 7 8 9")
	older := r.get(gs(api.GetLogEventsInput{Limit: aws.Int32(4), NextToken: page.NextBackwardToken}))
	equal(t, "before them", got(older.Events), "2 3 4 5")
	oldest := r.get(gs(api.GetLogEventsInput{Limit: aws.Int32(4), NextToken: older.NextBackwardToken}))
	equal(t, "and before", got(oldest.Events), "0 1")
	end := r.get(gs(api.GetLogEventsInput{Limit: aws.Int32(4), NextToken: oldest.NextBackwardToken}))
	equal(t, "nothing before", len(end.Events), 0)
	equal(t, "the token that was passed in", *end.NextBackwardToken, *oldest.NextBackwardToken)

	from, to := noon.Add(3*time.Second).UnixMilli(), noon.Add(6*time.Second).UnixMilli()
	equal(t, "startTime is in, endTime is not", got(r.get(gs(api.GetLogEventsInput{StartTime: &from, EndTime: &to})).Events), "3 4 5")
	for _, token := range []string{"junk", "f/123/s", "f/" + strings.Repeat("9", 56) + "/s", "x/" + strings.Repeat("0", 56) + "/s"} {
		_, err := r.Client.GetLogEvents(t.Context(), gs(api.GetLogEventsInput{NextToken: &token}))
		refused(t, token, err, "InvalidParameterException", "The specified nextToken is invalid.")
	}
}

func TestGetLogEventsPagesAreBoundedByBytes(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	for i := range 5 {
		r.put("g", "s", at(time.Duration(i)*time.Second, strings.Repeat(fmt.Sprint(i), 300_000)))
	}
	var seen int
	for in := gs(api.GetLogEventsInput{StartFromHead: aws.Bool(true)}); ; {
		page := r.get(in)
		if len(page.Events) == 0 {
			break
		}
		if len(page.Events) > 3 {
			t.Errorf("a page holds %d events of 300,000 bytes", len(page.Events))
		}
		seen += len(page.Events)
		in.NextToken = page.NextForwardToken
	}
	equal(t, "events", seen, 5)
}

// fillStreams puts n events into each of several streams and returns what
// FilterLogEvents shall return.
func (r *room) fillStreams(streams, n int) []string {
	r.t.Helper()
	r.group("g")
	want := make([]string, streams*n)
	for s := range streams {
		name := fmt.Sprintf("s%02d", s)
		r.stream("g", name)
		var events []types.InputLogEvent
		for i := range n {
			k := i*streams + s
			want[k] = fmt.Sprintf("%s:%d", name, k)
			events = append(events, at(time.Duration(k)*time.Millisecond, fmt.Sprint(k)))
		}
		r.put("g", name, events...)
	}
	return want
}

func (r *room) filterAll(in api.FilterLogEventsInput) (all []string, pages int) {
	r.t.Helper()
	in.LogGroupName = aws.String("g")
	ids := map[string]bool{}
	for p := api.NewFilterLogEventsPaginator(r.Client, &in); p.HasMorePages(); pages++ {
		page := must[*api.FilterLogEventsOutput](r.t, "page")(p.NextPage(r.t.Context()))
		for _, e := range page.Events {
			all = append(all, *e.LogStreamName+":"+*e.Message)
			if ids[*e.EventId] {
				r.t.Fatalf("event id %s twice", *e.EventId)
			}
			ids[*e.EventId] = true
		}
	}
	return all, pages
}

func TestFilterLogEventsInterleavesAndPages(t *testing.T) {
	r := newRoom(t)
	want := r.fillStreams(20, 60)
	for _, limit := range []int32{7, 333, 10_000} {
		all, pages := r.filterAll(api.FilterLogEventsInput{Limit: aws.Int32(limit)})
		equal(t, fmt.Sprintf("all events in order by %d", limit), slices.Equal(all, want), true)
		equal(t, "pages", pages, (len(want)+int(limit)-1)/int(limit))
	}
	start := noon.UnixMilli()
	all, _ := r.filterAll(api.FilterLogEventsInput{Limit: aws.Int32(100), StartFromHead: aws.Bool(false), StartTime: &start})
	slices.Reverse(all)
	equal(t, "newest first", slices.Equal(all, want), true)

	from, to := noon.Add(100*time.Millisecond).UnixMilli(), noon.Add(103*time.Millisecond).UnixMilli()
	all, _ = r.filterAll(api.FilterLogEventsInput{StartTime: &from, EndTime: &to})
	equal(t, "both ends are in", strings.Join(all, " "), strings.Join(want[100:104], " "))
	all, _ = r.filterAll(api.FilterLogEventsInput{LogStreamNames: []string{"s03", "s01", "s03"}, EndTime: aws.Int64(noon.Add(25 * time.Millisecond).UnixMilli())})
	equal(t, "of two streams", strings.Join(all, " "), "s01:1 s03:3 s01:21 s03:23")
	all, _ = r.filterAll(api.FilterLogEventsInput{LogStreamNamePrefix: aws.String("s1")})
	equal(t, "of streams with a prefix", len(all), 10*60)
	all, _ = r.filterAll(api.FilterLogEventsInput{FilterPattern: aws.String(`"77"`), Limit: aws.Int32(3)})
	equal(t, "that match a pattern", strings.Join(all, " "), "s17:77 s17:177 s17:277 s17:377 s17:477 s17:577 s17:677 s10:770 s11:771 s12:772 s13:773 s14:774 s15:775 s16:776 s17:777 s18:778 s19:779 s17:877 s17:977 s17:1077 s17:1177")
}

func TestFilterLogEventsRefuses(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	for what, c := range map[string]struct {
		in            api.FilterLogEventsInput
		code, message string
	}{
		"a broken pattern":         {api.FilterLogEventsInput{FilterPattern: aws.String(`{ $.a = `)}, "InvalidParameterException", "Invalid filter pattern: a '{' is not closed"},
		"names and prefix":         {api.FilterLogEventsInput{LogStreamNames: []string{"s"}, LogStreamNamePrefix: aws.String("s")}, "InvalidParameterException", "both"},
		"an unknown stream":        {api.FilterLogEventsInput{LogStreamNames: []string{"s", "t"}}, "ResourceNotFoundException", "The specified log stream does not exist."},
		"newest first of all time": {api.FilterLogEventsInput{StartFromHead: aws.Bool(false)}, "InvalidParameterException", "January 1, 2024"},
		"a junk token":             {api.FilterLogEventsInput{NextToken: aws.String("junk")}, "InvalidParameterException", "nextToken"},
		"end before start":         {api.FilterLogEventsInput{StartTime: aws.Int64(5), EndTime: aws.Int64(4)}, "InvalidParameterException", "startTime"},
	} {
		c.in.LogGroupName = aws.String("g")
		_, err := r.Client.FilterLogEvents(t.Context(), &c.in)
		refused(t, what, err, c.code, c.message)
	}
	_, err := r.Client.FilterLogEvents(t.Context(), &api.FilterLogEventsInput{LogGroupName: aws.String("none")})
	refused(t, "no group", err, "ResourceNotFoundException", "The specified log group does not exist.")
	_, err = r.Client.FilterLogEvents(t.Context(), &api.FilterLogEventsInput{LogGroupIdentifier: aws.String("arn:aws:logs:eu-west-1:999999999999:log-group:g")})
	refused(t, "another account's group", err, "ResourceNotFoundException", "")
}

// Writers on several streams, deletions and the sweep go on at once; every
// acknowledged event of the streams that stay is found.
func TestConcurrentUse(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Service.Run(ctx) }()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			keep, drop := fmt.Sprint("keep", w), fmt.Sprint("drop", w)
			r.stream("g", keep)
			for i := range 20 {
				r.stream("g", drop)
				r.put("g", drop, at(0, "dropped"))
				r.put("g", keep, at(time.Duration(i)*time.Millisecond, fmt.Sprint(w, "-", i)))
				_, err := r.Client.DeleteLogStream(t.Context(), &api.DeleteLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: &drop})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	if err := <-ran; err != context.Canceled {
		t.Errorf("Run: %v", err)
	}
	if err := r.Service.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := r.filter(&api.FilterLogEventsInput{LogGroupName: aws.String("g")})
	equal(t, "events", len(out.Events), 80)
	if s := filtered(out.Events); strings.Contains(s, "dropped") {
		t.Errorf("a deleted stream's event is still there: %s", s)
	}
	groups := must[*api.DescribeLogGroupsOutput](t, "DescribeLogGroups")(r.Client.DescribeLogGroups(t.Context(), &api.DescribeLogGroupsInput{}))
	var want int64
	for _, e := range out.Events {
		want += int64(len(*e.Message)) + 26
	}
	equal(t, "stored bytes", *groups.LogGroups[0].StoredBytes, want)
}
