package logs_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// reference is what is asked about each operation that is served: the resource, without
// what all begin with, and the condition keys. The service authorization reference
// speaks of log-group and log-stream; AWS's denials show that a group is asked about as
// what is in it ("log-stream:"), but for the operations that name an ARN. TagLogGroup and
// UntagLogGroup have no keys of the tags, as their documentation says.
const reference = `
CreateLogGroup g:log-stream: aws:RequestTag/k aws:TagKeys
CreateLogStream g:log-stream:s aws:ResourceTag/team
DeleteLogGroup g:log-stream: aws:ResourceTag/team
DeleteLogStream g:log-stream:s aws:ResourceTag/team
DeleteRetentionPolicy g:log-stream: aws:ResourceTag/team
DescribeLogGroups :log-stream:
DescribeLogStreams g:log-stream: aws:ResourceTag/team
FilterLogEvents g:log-stream: aws:ResourceTag/team
GetLogEvents g:log-stream:s aws:ResourceTag/team
ListLogGroups :log-stream:
ListTagsForResource g aws:ResourceTag/team
ListTagsLogGroup g:log-stream: aws:ResourceTag/team
PutLogEvents g:log-stream:s aws:ResourceTag/team
PutLogGroupDeletionProtection g:log-stream: aws:ResourceTag/team
PutRetentionPolicy g:log-stream: aws:ResourceTag/team
TagLogGroup g:log-stream: aws:ResourceTag/team
TagResource g aws:RequestTag/k aws:ResourceTag/team aws:TagKeys
UntagLogGroup g:log-stream: aws:ResourceTag/team
UntagResource g aws:ResourceTag/team aws:TagKeys
`

func TestOperationsAskWhatTheReferenceSays(t *testing.T) {
	r := newRoom(t)
	if _, err := r.Client.CreateLogGroup(t.Context(), &api.CreateLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"team": "a"}}); err != nil {
		t.Fatal(err)
	}
	r.stream("g", "s")
	values := map[string]any{
		"LogGroupName": aws.String("g"), "LogGroupIdentifier": aws.String("g"), "LogStreamName": aws.String("s"), "RetentionInDays": aws.Int32(1),
		"ResourceArn": aws.String("arn:aws:logs:eu-west-1:123456789012:log-group:g"), "TagKeys": []string{"k"}, "DeletionProtectionEnabled": aws.Bool(true),
		"LogEvents": []types.InputLogEvent{{Message: aws.String("x"), Timestamp: aws.Int64(0)}},
	}
	client := reflect.ValueOf(r.Client)
	for line := range strings.Lines(strings.TrimSpace(reference)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		r.Deny("logs:" + name) // so that what is there stays
		method := client.MethodByName(name)
		in := reflect.New(method.Type().In(1).Elem())
		for field, value := range values {
			if f := in.Elem().FieldByName(field); f.IsValid() && !(field == "LogGroupIdentifier" && in.Elem().FieldByName("LogGroupName").IsValid()) {
				f.Set(reflect.ValueOf(value))
			}
		}
		switch tags := in.Elem().FieldByName("Tags"); {
		case !tags.IsValid():
		case tags.Type() == reflect.TypeFor[map[string]string]():
			tags.Set(reflect.ValueOf(map[string]string{"k": "v"}))
		case tags.Type() == reflect.TypeFor[[]string]():
			tags.Set(reflect.ValueOf([]string{"k"}))
		}
		err, _ := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})[1].Interface().(error)
		refused(t, name, err, "AccessDeniedException", "logs:"+name)
		q := r.Authorized.Load()
		got := strings.TrimPrefix(strings.Join(q.Resources, ","), "arn:aws:logs:eu-west-1:123456789012:log-group:")
		for _, key := range slices.Sorted(maps.Keys(q.Conditions)) {
			got += " " + key
		}
		if q.Action != "logs:"+name || got != want {
			t.Errorf("%s: asked about %s\nwant %s", name, got, want)
		}
	}
}
