package logs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/service/logs"
	"longshore.dev/longshore/internal/store"
	"longshore.dev/longshore/internal/store/memkv"
	"longshore.dev/longshore/internal/wire"
)

// A server that dies between the deletion and the sweep finishes it when it is
// back: the intent is in the store.
func TestDeletionIsCompletedAfterARestart(t *testing.T) {
	kv, events := memkv.New(), onDisk(t)
	ctx := wire.WithCall(t.Context(), &wire.Call{Account: "123456789012", Region: "eu-west-1"})
	n := 0
	open := func() (*logs.Service, *store.DB) {
		db := store.New(kv, store.Options{})
		s, err := logs.New(logs.Deps{DB: db, Events: events, Now: func() time.Time { return noon }, NewID: func() string { n++; return fmt.Sprint("id", n) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s, db
	}
	first, db := open()
	g, st := aws.String("g"), aws.String("s")
	_, err1 := first.CreateLogGroup(ctx, &api.CreateLogGroupInput{LogGroupName: g})
	_, err2 := first.CreateLogStream(ctx, &api.CreateLogStreamInput{LogGroupName: g, LogStreamName: st})
	e := at(0, "x")
	in := &api.PutLogEventsInput{LogGroupName: g, LogStreamName: st}
	in.LogEvents = append(in.LogEvents, e)
	_, err3 := first.PutLogEvents(ctx, in)
	_, err4 := first.DeleteLogGroup(ctx, &api.DeleteLogGroupInput{LogGroupName: g})
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	group := bulk.StreamID{Group: "id1"}
	if stat, err := events.Stat(t.Context(), group); err != nil || stat.Events != 1 {
		t.Fatalf("before the sweep: %+v, %v", stat, err)
	}

	again, db := open()
	defer db.Close()
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- again.Run(run) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := events.Stat(t.Context(), group)
		if err != nil || stat.Events == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the deleted group's event is still there")
			break
		}
	}
	stop()
	<-ended
}

func BenchmarkPutLogEvents(b *testing.B) {
	r := newRoom(b)
	r.group("g")
	r.stream("g", "s")
	in := &api.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")}
	for i := range 1000 {
		in.LogEvents = append(in.LogEvents, at(0, fmt.Sprintf(`10.0.%d.%d - "GET /items/%d HTTP/1.1" 200 %d "-" "agent/1.0"`, i%7, i%251, i*7919%10007, i%4096)))
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Client.PutLogEvents(b.Context(), in); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "events/s")
}
