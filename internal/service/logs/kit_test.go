package logs_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/pebblebulk"
	"longshore.dev/longshore/internal/service/logs/logstest"
)

var noon = time.Date(2026, 8, 10, 12, 0, 0, 0, time.UTC)

// onDisk returns log events kept by Pebble.
func onDisk(t testing.TB) bulk.Logs {
	t.Helper()
	db, err := pebblebulk.Open(t.TempDir(), pebblebulk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db.Logs()
}

// room is a served room at noon with helpers that fail the test.
type room struct {
	*logstest.Server
	Client *api.Client
	t      testing.TB
}

func newRoom(t testing.TB) *room {
	s := logstest.Start(t, onDisk(t))
	s.SetTime(noon)
	c := api.New(api.Options{Region: logstest.Region, BaseEndpoint: &s.URL, Credentials: logstest.Credentials()})
	return &room{s, c, t}
}

func must[T any](t testing.TB, what string) func(out T, err error) T {
	return func(out T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return out
	}
}

func (r *room) group(name string) {
	r.t.Helper()
	must[*api.CreateLogGroupOutput](r.t, "CreateLogGroup")(
		r.Client.CreateLogGroup(r.t.Context(), &api.CreateLogGroupInput{LogGroupName: &name}))
}

func (r *room) stream(group, name string) {
	r.t.Helper()
	must[*api.CreateLogStreamOutput](r.t, "CreateLogStream")(
		r.Client.CreateLogStream(r.t.Context(), &api.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &name}))
}

// at builds an event a time after noon.
func at(d time.Duration, message string) types.InputLogEvent {
	return types.InputLogEvent{Timestamp: aws.Int64(noon.Add(d).UnixMilli()), Message: &message}
}

func (r *room) tryPut(group, stream string, events ...types.InputLogEvent) (*api.PutLogEventsOutput, error) {
	return r.Client.PutLogEvents(r.t.Context(), &api.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events})
}

func (r *room) put(group, stream string, events ...types.InputLogEvent) *api.PutLogEventsOutput {
	r.t.Helper()
	return must[*api.PutLogEventsOutput](r.t, "PutLogEvents")(r.tryPut(group, stream, events...))
}

func (r *room) get(in *api.GetLogEventsInput) *api.GetLogEventsOutput {
	r.t.Helper()
	return must[*api.GetLogEventsOutput](r.t, "GetLogEvents")(r.Client.GetLogEvents(r.t.Context(), in))
}

func (r *room) filter(in *api.FilterLogEventsInput) *api.FilterLogEventsOutput {
	r.t.Helper()
	return must[*api.FilterLogEventsOutput](r.t, "FilterLogEvents")(r.Client.FilterLogEvents(r.t.Context(), in))
}

func got(events []types.OutputLogEvent) string {
	var m []string
	for _, e := range events {
		m = append(m, *e.Message)
	}
	return strings.Join(m, " ")
}

func filtered(events []types.FilteredLogEvent) string {
	var m []string
	for _, e := range events {
		m = append(m, *e.LogStreamName+":"+*e.Message)
	}
	return strings.Join(m, " ")
}

// equal compares what is printed, so that numbers need no conversion.
func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// refused holds an error against a code and a part of its message.
func refused(t testing.TB, what string, err error, code, message string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) {
		t.Errorf("%s: got %v, want %s", what, err, code)
		return
	}
	if e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), message) {
		t.Errorf("%s: got %s: %s, want %s: %s", what, e.ErrorCode(), e.ErrorMessage(), code, message)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
