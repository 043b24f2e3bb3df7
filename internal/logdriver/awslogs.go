package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

const (
	// flushEvery is how often events are sent at most, gather how long the first
	// ones after a pause wait for others.
	flushEvery = 250 * time.Millisecond
	gather     = 15 * time.Millisecond
)

// awslogs sends a container's output to CloudWatch Logs.
type awslogs struct {
	settings *awslogsSettings
	client   LogsClient
	log      *slog.Logger
	// holdLimit bounds what an unfinished line keeps from being acknowledged.
	holdLimit int64
}

// holdLimit is a quarter of what the shim keeps, so that a container in blocking
// mode is never stopped by its own unfinished line.
func holdLimit(o runtime.Output) int64 {
	if o.MaxBytes <= 0 {
		return 4 << 20
	}
	return max(o.MaxBytes/4, 1)
}

// Run implements Driver.
func (d *awslogs) Run(ctx context.Context, spool runtime.Spool) error {
	acked, err := spool.Acked()
	if err != nil {
		return fmt.Errorf("read the output's position: %w", err)
	}
	readCtx, stop := context.WithCancel(ctx)
	chunks := make(chan read)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		readSpool(readCtx, spool, acked, chunks)
	}()
	defer func() {
		stop()
		<-ended
	}()
	s := &shipment{driver: d, ctx: ctx, spool: spool, acked: acked, processed: place{cursor: acked}, batch: batch{maxEvents: d.settings.maxEvents}}
	for i := range s.streams {
		s.streams[i] = &assembler{start: d.settings.start, emit: s.add}
	}
	return s.run(chunks)
}

// read is what a read of the spool returned.
type read struct {
	chunk runtime.Chunk
	err   error
}

// readSpool sends chunks until an error, which it sends too. It reads no further
// than one chunk ahead of what is processed.
func readSpool(ctx context.Context, spool runtime.Spool, cursor int64, out chan<- read) {
	for {
		chunk, err := spool.Next(ctx, cursor)
		select {
		case out <- read{chunk, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
		cursor = chunk.Cursor
	}
}

// shipment is one Run.
type shipment struct {
	driver  *awslogs
	ctx     context.Context
	spool   runtime.Spool
	streams [2]*assembler // stdout, stderr
	batch   batch
	// processed is up to where chunks have been cut into events, acked the cursor
	// that the spool was told.
	processed place
	acked     int64
	// since is when the batch got its first event, sent when the last one was sent.
	since, sent time.Time
	err         error
}

func (s *shipment) run(chunks <-chan read) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.wait(time.Now()))
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case r := <-chunks:
			switch {
			case errors.Is(r.err, io.EOF):
				return s.finish()
			case s.ctx.Err() != nil:
				return s.ctx.Err()
			case r.err != nil:
				return fmt.Errorf("read the container's output: %w", r.err)
			}
			s.process(r.chunk)
		case <-timer.C:
		}
		s.expire(time.Now())
		if s.due(time.Now()) {
			s.flush()
		}
		if s.err != nil {
			return s.err
		}
	}
}

// finish sends everything that is left at the end of the output.
func (s *shipment) finish() error {
	for _, a := range s.streams {
		a.flush(time.Now())
	}
	s.flush()
	return s.err
}

func (s *shipment) process(c runtime.Chunk) {
	now := time.Now()
	i := 0
	if c.Stream == runtime.Stderr {
		i = 1
	}
	if c.Dropped > 0 {
		s.tellDropped(c, now)
	}
	s.streams[i].add(c, s.processed, now)
	s.processed.cursor = c.Cursor
	s.processed.bytes += int64(len(c.Data))
	for _, a := range s.streams {
		if from, ok := a.unfinished(); ok && s.processed.bytes-from.bytes > s.driver.holdLimit {
			a.flush(now)
		}
	}
	if len(s.batch.events) == 0 {
		s.acknowledge() // there was nothing to send, not even a line
	}
}

// tellDropped says in the log itself that something is missing before a chunk. What
// was begun before it ends there, for its rest may be what is missing.
func (s *shipment) tellDropped(c runtime.Chunk, now time.Time) {
	for _, a := range s.streams {
		a.flush(now)
	}
	s.add(event{c.At, fmt.Sprintf("longshore: about %d bytes of output are missing here: the container wrote faster than "+
		"they could be delivered (the log driver's mode is non-blocking, max-buffer-size says how much waits), "+
		"or the node's disk was full", c.Dropped)})
}

// add takes an event from an assembler; a full batch is sent first.
func (s *shipment) add(e event) {
	if s.err != nil {
		return
	}
	if !s.batch.fits(e) {
		s.flush()
	}
	if len(s.batch.events) == 0 {
		s.since = time.Now()
	}
	s.batch.add(e)
}

// expire ends events of several lines to which nothing was added for a while.
func (s *shipment) expire(now time.Time) {
	for _, a := range s.streams {
		if len(a.joined) > 0 && len(a.line) == 0 && now.Sub(a.changed) >= s.driver.settings.idle {
			a.flushJoined()
		}
	}
}

// flushAt returns when a batch that is not empty is to be sent.
func (s *shipment) flushAt() time.Time {
	at := s.since.Add(gather)
	if next := s.sent.Add(flushEvery); next.After(at) {
		return next
	}
	return at
}

func (s *shipment) due(now time.Time) bool {
	return len(s.batch.events) > 0 && !now.Before(s.flushAt())
}

// wait returns how long there is nothing to do unless a chunk comes.
func (s *shipment) wait(now time.Time) time.Duration {
	wait := time.Hour
	if len(s.batch.events) > 0 {
		wait = s.flushAt().Sub(now)
	}
	for _, a := range s.streams {
		if len(a.joined) > 0 && len(a.line) == 0 {
			wait = min(wait, a.changed.Add(s.driver.settings.idle).Sub(now))
		}
	}
	return max(wait, 0)
}

// flush sends the batch and acknowledges what has been delivered with it.
func (s *shipment) flush() {
	if s.err != nil {
		return
	}
	if len(s.batch.events) > 0 {
		if s.err = s.driver.put(s.ctx, s.batch.take()); s.err != nil {
			return
		}
		s.sent = time.Now()
	}
	s.acknowledge()
}

// acknowledge tells the spool what need not be read again: everything before the
// first chunk with an unfinished line. In the middle of a chunk, processed is
// still the cursor before it.
func (s *shipment) acknowledge() {
	done := s.processed.cursor
	for _, a := range s.streams {
		if from, ok := a.unfinished(); ok {
			done = min(done, from.cursor)
		}
	}
	if s.err != nil || done <= s.acked {
		return
	}
	if err := s.spool.Ack(done); err != nil {
		s.err = fmt.Errorf("acknowledge the container's output: %w", err)
		return
	}
	s.acked = done
}
