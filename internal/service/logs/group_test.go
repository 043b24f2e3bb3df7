package logs_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"longshore.dev/longshore/internal/bulk"
)

func TestLogGroupLifecycle(t *testing.T) {
	r := newRoom(t)
	c, ctx := r.Client, t.Context()
	name := aws.String("/ecs/web#1")
	_, err := c.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: name, Tags: map[string]string{"team": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: name})
	refused(t, "creating it again", err, "ResourceAlreadyExistsException", "The specified log group already exists")
	_, err = c.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: aws.String("aws/mine")})
	refused(t, "a reserved name", err, "InvalidParameterException", "reserved")
	_, err = c.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: aws.String("a b")})
	refused(t, "a bad name", err, "InvalidParameterException", "logGroupName")

	out := must[*api.DescribeLogGroupsOutput](t, "DescribeLogGroups")(c.DescribeLogGroups(ctx, &api.DescribeLogGroupsInput{}))
	if len(out.LogGroups) != 1 {
		t.Fatalf("%d groups", len(out.LogGroups))
	}
	g := out.LogGroups[0]
	equal(t, "name", *g.LogGroupName, *name)
	equal(t, "ARN", *g.Arn, "arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/web#1:*")
	equal(t, "log group ARN", *g.LogGroupArn, "arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/web#1")
	equal(t, "creation time", *g.CreationTime, noon.UnixMilli())
	equal(t, "class", g.LogGroupClass, types.LogGroupClassStandard)
	equal(t, "stored bytes", *g.StoredBytes, 0)
	equal(t, "metric filters", *g.MetricFilterCount, 0)
	equal(t, "retention is absent", g.RetentionInDays == nil, true)

	_, err = c.DeleteLogGroup(ctx, &api.DeleteLogGroupInput{LogGroupName: name})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteLogGroup(ctx, &api.DeleteLogGroupInput{LogGroupName: name})
	refused(t, "deleting it again", err, "ResourceNotFoundException", "The specified log group does not exist.")
}

func TestDeletionProtection(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	protect := func(on bool, identifier string) {
		t.Helper()
		must[*api.PutLogGroupDeletionProtectionOutput](t, "PutLogGroupDeletionProtection")(
			r.Client.PutLogGroupDeletionProtection(t.Context(), &api.PutLogGroupDeletionProtectionInput{
				LogGroupIdentifier: &identifier, DeletionProtectionEnabled: &on}))
	}
	protect(true, "arn:aws:logs:eu-west-1:123456789012:log-group:g")
	_, err := r.Client.DeleteLogGroup(t.Context(), &api.DeleteLogGroupInput{LogGroupName: aws.String("g")})
	refused(t, "deleting a protected group", err, "ValidationException", "deletion protection")
	_, err = r.Client.DeleteLogStream(t.Context(), &api.DeleteLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")})
	refused(t, "deleting a protected group's stream", err, "ValidationException", "deletion protection")
	protect(false, "g")
	if _, err := r.Client.DeleteLogGroup(t.Context(), &api.DeleteLogGroupInput{LogGroupName: aws.String("g")}); err != nil {
		t.Errorf("deleting it without protection: %v", err)
	}
}

func TestDescribeLogGroupsPagesAndFilters(t *testing.T) {
	r := newRoom(t)
	for i := range 60 {
		r.group(fmt.Sprintf("/app/%02d", i))
	}
	r.group("/other/x1")
	list := func(in api.DescribeLogGroupsInput) (names []string, pages int) {
		for p := api.NewDescribeLogGroupsPaginator(r.Client, &in); p.HasMorePages(); pages++ {
			for _, g := range must[*api.DescribeLogGroupsOutput](t, "page")(p.NextPage(t.Context())).LogGroups {
				names = append(names, *g.LogGroupName)
			}
		}
		return names, pages
	}
	names, pages := list(api.DescribeLogGroupsInput{})
	equal(t, "groups", len(names), 61)
	equal(t, "pages of 50", pages, 2)
	equal(t, "in order", slices.IsSorted(names), true)
	names, pages = list(api.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/app/1"), Limit: aws.Int32(3)})
	equal(t, "with the prefix", len(names), 10)
	equal(t, "pages of 3", pages, 4)
	names, _ = list(api.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("er/x")})
	equal(t, "with the pattern", strings.Join(names, " "), "/other/x1")
	names, _ = list(api.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"/app/07", "arn:aws:logs:eu-west-1:123456789012:log-group:/app/09", "/none"}})
	equal(t, "by identifier", strings.Join(names, " "), "/app/07 /app/09")

	_, err := r.Client.DescribeLogGroups(t.Context(), &api.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("a"), LogGroupNamePrefix: aws.String("a")})
	refused(t, "prefix and pattern", err, "InvalidParameterException", "mutually exclusive")
	_, err = r.Client.DescribeLogGroups(t.Context(), &api.DescribeLogGroupsInput{NextToken: aws.String("junk")})
	refused(t, "junk token", err, "InvalidParameterException", "nextToken is invalid")

	short := must[*api.ListLogGroupsOutput](t, "ListLogGroups")(
		r.Client.ListLogGroups(t.Context(), &api.ListLogGroupsInput{LogGroupNamePattern: aws.String("^/other|p/05")}))
	equal(t, "ListLogGroups", len(short.LogGroups), 2)
}

func TestRetention(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	r.stream("g", "s")
	_, err := r.Client.PutRetentionPolicy(t.Context(), &api.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(2)})
	refused(t, "2 days", err, "InvalidParameterException", "Value '2' at 'retentionInDays'")
	r.put("g", "s", at(-30*time.Hour, "old"), at(-20*time.Hour, "mid"))
	r.put("g", "s", at(0, "new"))
	stored := func() int64 {
		out := must[*api.DescribeLogGroupsOutput](t, "DescribeLogGroups")(r.Client.DescribeLogGroups(t.Context(), &api.DescribeLogGroupsInput{}))
		return *out.LogGroups[0].StoredBytes
	}
	equal(t, "stored bytes", stored(), 3*(3+26))
	if _, err := r.Client.PutRetentionPolicy(t.Context(), &api.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	read := &api.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")}
	equal(t, "expired events are not shown", got(r.get(read).Events), "mid new")
	if err := r.Service.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "stored bytes after trimming", stored(), 2*(3+26))
	if _, err := r.Client.DeleteRetentionPolicy(t.Context(), &api.DeleteRetentionPolicyInput{LogGroupName: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	r.SetTime(noon.Add(1000 * 24 * time.Hour))
	if err := r.Service.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "without retention nothing goes", got(r.get(read).Events), "mid new")
}

func TestTags(t *testing.T) {
	r := newRoom(t)
	r.group("g")
	c, ctx := r.Client, t.Context()
	arn := aws.String("arn:aws:logs:eu-west-1:123456789012:log-group:g")
	if _, err := c.TagResource(ctx, &api.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"a": "1", "b": "2"}}); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the older operations are served too
	if _, err := c.TagLogGroup(ctx, &api.TagLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"b": "3", "c": ""}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UntagResource(ctx, &api.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"a", "none"}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"b": "3", "c": ""}
	tags := must[*api.ListTagsForResourceOutput](t, "ListTagsForResource")(c.ListTagsForResource(ctx, &api.ListTagsForResourceInput{ResourceArn: arn})).Tags
	equal(t, "tags", maps.Equal(tags, want), true)
	//lint:ignore SA1019 the older operations are served too
	older := must[*api.ListTagsLogGroupOutput](t, "ListTagsLogGroup")(c.ListTagsLogGroup(ctx, &api.ListTagsLogGroupInput{LogGroupName: aws.String("g")})).Tags
	equal(t, "tags the older way", maps.Equal(older, want), true)

	many := map[string]string{}
	for i := range 49 {
		many[fmt.Sprint("t", i)] = "x"
	}
	_, err := c.TagResource(ctx, &api.TagResourceInput{ResourceArn: arn, Tags: many})
	refused(t, "51 tags", err, "TooManyTagsException", "50 tags")
	_, err = c.TagResource(ctx, &api.TagResourceInput{ResourceArn: aws.String(*arn + "x"), Tags: want})
	refused(t, "an unknown group", err, "ResourceNotFoundException", "log group does not exist")
	_, err = c.TagResource(ctx, &api.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"aws:x": "y"}})
	refused(t, "a reserved key", err, "InvalidParameterException", "reserved")
}

// A group of the same name starts empty, and the sweep removes what the old one held.
func TestDeletedGroupLeavesNothing(t *testing.T) {
	r := newRoom(t)
	for range 2 {
		r.group("g")
		for i := range 150 {
			r.stream("g", fmt.Sprint("s", i))
		}
		r.put("g", "s7", at(0, "gone"))
		if _, err := r.Client.DeleteLogGroup(t.Context(), &api.DeleteLogGroupInput{LogGroupName: aws.String("g")}); err != nil {
			t.Fatal(err)
		}
	}
	r.group("g")
	_, err := r.tryPut("g", "s7", at(0, "x"))
	refused(t, "an old stream", err, "ResourceNotFoundException", "The specified log stream does not exist.")
	r.stream("g", "s7")
	r.put("g", "s7", at(0, "kept"))
	if err := r.Service.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "the new stream's events", got(r.get(&api.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s7")}).Events), "kept")
	var left int64
	for id := range 2000 {
		st, err := r.Events.Stat(t.Context(), bulk.StreamID{Group: fmt.Sprintf("%032x", id)})
		if err != nil {
			t.Fatal(err)
		}
		left += st.Events
	}
	equal(t, "events left in all groups", left, 1)
}
