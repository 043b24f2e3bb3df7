package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"longshore.dev/longshore/internal/wire/sigv4"
)

const (
	logGroup    = "/bench"
	logStreams  = 8
	logBatch    = 1000
	logLineSize = 120 // bytes
)

// measureLogs times PutLogEvents, which answers when the events are on disk.
func measureLogs(ctx context.Context, b *bench) (err error) {
	const floorSync, floorRate = "floor: write + fdatasync, one event", "floor: write + fdatasync, batches"
	if err := b.measureSync(ctx, floorSync, floorRate); err != nil {
		return err
	}
	s, err := b.open(ctx, "logs", "server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	client := s.logs()
	if _, err := client.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String(logGroup)}); err != nil {
		return err
	}
	for i := range logStreams {
		_, err := client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String(logGroup), LogStreamName: stream(i)})
		if err != nil {
			return err
		}
	}
	put := func(ctx context.Context, i, events int) error {
		out, err := client.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{
			LogGroupName: aws.String(logGroup), LogStreamName: stream(i), LogEvents: logEvents(events),
		})
		if err == nil && out.RejectedLogEventsInfo != nil {
			err = errors.New("events were rejected")
		}
		return err
	}
	for _, c := range []struct {
		events  int
		floor   string
		samples int
	}{{1, floorSync, b.samples(500, 50)}, {logBatch, "", b.samples(200, 20)}} {
		samples, err := sequence(c.samples, func() error { return put(ctx, 0, c.events) })
		if err != nil {
			return err
		}
		r := latency(fmt.Sprintf("PutLogEvents, %d × %d bytes", c.events, logLineSize), samples, true)
		r.Floor, r.Note = c.floor, "one call after the other, durable when answered"
		b.add(r)
	}
	return b.measureIngest(ctx, s, floorRate)
}

// measureIngest is how much the server takes when clients cost little: calls are
// written beforehand, and only signed and sent.
func (b *bench) measureIngest(ctx context.Context, s *server, floor string) error {
	bodies, hashes := make([][]byte, logStreams), make([]string, logStreams)
	for i := range bodies {
		var events []map[string]any
		for _, e := range logEvents(logBatch) {
			events = append(events, map[string]any{"timestamp": *e.Timestamp, "message": *e.Message})
		}
		body, err := json.Marshal(map[string]any{"logGroupName": logGroup, "logStreamName": *stream(i), "logEvents": events})
		if err != nil {
			return err
		}
		bodies[i], hashes[i] = body, sigv4.Hash(body)
	}
	before, err := s.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	rate, err := b.rate(ctx, logStreams, func(ctx context.Context, i int) (int, error) {
		return logBatch, s.post(ctx, "logs", "Logs_20140328.PutLogEvents", bodies[i], hashes[i])
	})
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := s.cpu()
	if err != nil {
		return err
	}
	b.add(row{
		Name: fmt.Sprintf("PutLogEvents, %d streams", logStreams), Unit: "events/s", Median: rate, Budget: 150_000, Goal: 400_000, Floor: floor,
		Note: fmt.Sprintf("calls of %d events of %d bytes, written beforehand; durable when answered; the server takes %s µs of CPU an event",
			logBatch, logLineSize, figure((after-before).Seconds()*1e6/(rate*took))),
	})
	return nil
}

func stream(i int) *string { return aws.String(fmt.Sprintf("stream-%d", i)) }

// logEvents are lines as web servers write them: much alike, but no two the same.
func logEvents(n int) []types.InputLogEvent {
	now := time.Now()
	events := make([]types.InputLogEvent, n)
	for i := range events {
		events[i] = types.InputLogEvent{Timestamp: aws.Int64(now.UnixMilli()), Message: aws.String(logLine(now, i))}
	}
	return events
}

func logLine(now time.Time, i int) string {
	line := fmt.Sprintf(`%s 10.0.%d.%d "GET /items/%d HTTP/1.1" 200 %d %dus `, now.Format(time.RFC3339Nano), i%256, i*7%256, i*7919%100_000, i*131%9000, i*17%5000)
	return line + strings.Repeat("-", max(0, logLineSize-len(line)))
}

// measureSync is the least that durable logs can cost: the same bytes appended to
// a file for each stream.
func (b *bench) measureSync(ctx context.Context, one, rate string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for i := range logStreams {
		f, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("sync-%d", i)))
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	line := []byte(logLine(time.Now(), 0) + "\n")
	batch := []byte(strings.Repeat(string(line), logBatch))
	samples, err := sequence(b.samples(500, 50), func() error { return appendDurably(files[0], line) })
	if err != nil {
		return err
	}
	b.add(latency(one, samples, true))
	perSecond, err := b.rate(ctx, logStreams, func(_ context.Context, i int) (int, error) { return logBatch, appendDurably(files[i], batch) })
	if err != nil {
		return err
	}
	b.add(row{Name: rate, Unit: "events/s", Median: perSecond, Note: fmt.Sprintf("%d files, %d lines each time, not parsed, compressed or indexed", logStreams, logBatch)})
	return nil
}

func appendDurably(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}

// sequence times n calls, one after the other.
func sequence(n int, call func() error) (times, error) {
	samples := make(times, 0, n)
	for range n {
		if err := samples.take(call); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// rate lets so many callers work for a while, each one call after the other, and
// returns what they got done in a second. Calls under way at the end count with
// the time that they take.
func (b *bench) rate(ctx context.Context, callers int, call func(ctx context.Context, caller int) (done int, err error)) (float64, error) {
	length := 4 * time.Second
	if b.quick {
		length = 500 * time.Millisecond
	}
	var total atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range callers {
		group.Go(func() error {
			for time.Since(began) < length {
				n, err := call(ctx, i)
				if err != nil {
					return err
				}
				total.Add(int64(n))
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(total.Load()) / time.Since(began).Seconds(), err
}
