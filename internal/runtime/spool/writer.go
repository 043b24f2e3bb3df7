package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

const (
	defaultMaxBytes = 16 << 20
	minMaxBytes     = 128 << 10
	maxSegment      = 2 << 20
	// drainBytes bounds what is taken past MaxBytes after the container's exit: a
	// pipe holds 64 KiB, so more comes only from processes that outlive it.
	drainBytes = 1 << 20
)

// errDropped tells append's caller that the disk refused the frame.
var errDropped = errors.New("spool cannot be written")

// Writer appends a container's output to its spool. Its methods may be called
// concurrently.
type Writer struct {
	dir         string
	now         func() time.Time
	maxBytes    int64
	segmentSize int64
	nonBlocking bool

	draining  chan struct{} // closed when the container is gone: wait no more
	drainOnce sync.Once

	mu       sync.Mutex // held while blocked: both streams wait together
	file     *os.File
	segments []int64 // starts of the segments that may still exist
	offset   int64   // position after the last frame
	acked    int64
	dropped  uint64 // bytes the disk refused since the last frame
	drained  int64
	ended    bool
}

// NewWriter starts an empty spool in dir, replacing what was there.
func NewWriter(dir string, output runtime.Output, now func() time.Time) (*Writer, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	limit := output.MaxBytes
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	limit = max(limit, minMaxBytes)
	w := &Writer{
		dir: dir, now: now, maxBytes: limit, nonBlocking: output.NonBlocking,
		// Segments are what is forgotten at a time: small against the bound.
		segmentSize: min(maxSegment, limit/8),
		draining:    make(chan struct{}),
	}
	return w, w.rotate()
}

// Copy spools what r delivers until it ends. An error of r is its end.
//
// What is read at once is cut at line ends, so that every line begins with a chunk,
// or within one of whole lines: who reads on from a cursor at which no line was
// unfinished begins with a line.
func (w *Writer) Copy(stream runtime.Stream, r io.Reader) {
	buf := make([]byte, headerSize+MaxData)
	midLine := false
	for {
		n, err := r.Read(buf[headerSize:])
		for at := headerSize; at < headerSize+n; {
			size := cut(buf[at:headerSize+n], midLine)
			midLine = buf[at+size-1] != '\n'
			// The header takes the place of what has been written before.
			if !w.add(buf[at-headerSize:at+size], stream) {
				return
			}
			at += size
		}
		if err != nil {
			return
		}
	}
}

// cut returns the length of the first piece of data: the rest of a line that was
// begun before, or whole lines, or the beginning of a line.
func cut(data []byte, midLine bool) int {
	end := bytes.LastIndexByte(data, '\n')
	if midLine {
		end = bytes.IndexByte(data, '\n')
	}
	if end < 0 {
		return len(data)
	}
	return end + 1
}

// Drain tells that the container is gone: from now on nothing waits for
// acknowledgement or for the disk.
func (w *Writer) Drain() { w.drainOnce.Do(func() { close(w.draining) }) }

// End writes the end marker and closes the spool. It waits for what is being
// written; later output is dropped.
func (w *Writer) End() error {
	w.Drain()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	w.ended = true
	buf := make([]byte, headerSize)
	seal(buf, streamEnd, w.now(), w.dropped)
	err := w.write(buf)
	return errors.Join(err, w.file.Close())
}

// add reports whether more may come.
func (w *Writer) add(frame []byte, stream runtime.Stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	size := int64(len(frame))
	if w.isDraining() {
		if w.drained += size; w.drained > drainBytes {
			return false
		}
	}
	at := w.now()
	w.makeRoom(size)
	seal(frame, stream, at, w.dropped)
	if err := w.append(frame); err != nil {
		w.dropped += uint64(size - headerSize)
		return true
	}
	w.dropped = 0
	return true
}

// append writes a frame. When the disk refuses it, blocking mode tries again
// until the container is gone, so that nothing is lost while space is freed.
func (w *Writer) append(frame []byte) error {
	pause := 10 * time.Millisecond
	for {
		err := w.write(frame)
		if err == nil {
			return nil
		}
		if w.nonBlocking || !w.pause(pause) {
			return errors.Join(errDropped, err)
		}
		pause = min(2*pause, time.Second)
	}
}

func (w *Writer) write(frame []byte) error {
	if at := w.offset - w.last(); at > 0 && at+int64(len(frame)) > w.segmentSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	at := w.offset - w.last()
	if _, err := w.file.WriteAt(frame, at); err != nil {
		// Part of it may be there: a reader must never take it for a frame.
		return errors.Join(err, w.file.Truncate(at))
	}
	w.offset += int64(len(frame))
	return nil
}

func (w *Writer) last() int64 { return w.segments[len(w.segments)-1] }

// rotate begins the next segment at the present position.
func (w *Writer) rotate() error {
	f, err := os.OpenFile(filepath.Join(w.dir, segmentName(w.offset)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create spool segment: %w", err)
	}
	if w.file != nil {
		_ = w.file.Close()
	}
	w.file = f
	w.segments = append(w.segments, w.offset)
	return nil
}

// makeRoom waits until size more bytes are within the bound, or drops the oldest
// segments. It gives up once the container is gone.
func (w *Writer) makeRoom(size int64) {
	pause := 2 * time.Millisecond
	for w.offset-w.acked+size > w.maxBytes {
		w.acked = max(w.acked, readAcked(w.dir))
		w.forgetAcked()
		if w.offset-w.acked+size <= w.maxBytes {
			return
		}
		if w.nonBlocking {
			w.dropOldest()
			continue
		}
		if !w.pause(pause) {
			return
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// forgetAcked forgets the segments that the reader has removed.
func (w *Writer) forgetAcked() {
	for len(w.segments) > 1 && w.segments[1] <= w.acked {
		w.segments = w.segments[1:]
	}
}

func (w *Writer) dropOldest() {
	if len(w.segments) == 1 {
		if w.offset == w.last() || w.rotate() != nil {
			w.acked = w.offset
			return
		}
	}
	_ = os.Remove(filepath.Join(w.dir, segmentName(w.segments[0])))
	w.segments = w.segments[1:]
	// From here on acked stands for "acknowledged or dropped".
	w.acked = max(w.acked, w.segments[0])
}

// pause reports false when the container is gone.
func (w *Writer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.draining:
		return false
	case <-timer.C:
		return true
	}
}

func (w *Writer) isDraining() bool {
	select {
	case <-w.draining:
		return true
	default:
		return false
	}
}
