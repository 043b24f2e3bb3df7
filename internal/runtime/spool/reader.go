package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// ErrCorrupt is returned for a position that is not the beginning of a frame, or
// when the disk returned other bytes than were written.
var ErrCorrupt = errors.New("spool is damaged, or the cursor is not one of its cursors")

// idlePoll is how often a reader that waits looks by itself, for writers whose
// changes cannot be watched.
const idlePoll = time.Second

// Reader reads one spool; it implements runtime.Spool. Next must not be called
// concurrently; Ack and Close may be called beside it.
type Reader struct {
	dir    string
	wake   <-chan struct{}
	cancel func()
	poll   time.Duration
	// over tells that no writer is left, for spools without an end marker.
	over func() bool

	file  *os.File
	start int64

	ackMu sync.Mutex
}

var _ runtime.Spool = (*Reader)(nil)

// Open reads the spool in dir. watcher may be nil: then the reader polls. over
// tells whether the writer is gone for good; it is asked only at the end of what
// is there.
func Open(dir string, watcher *Watcher, over func() bool) (*Reader, error) {
	if _, err := os.Stat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no output is kept: %w", runtime.ErrNotFound)
		}
		return nil, fmt.Errorf("open spool: %w", err)
	}
	r := &Reader{dir: dir, over: over, poll: idlePoll, cancel: func() {}}
	if watcher != nil {
		if wake, cancel, err := watcher.Watch(dir); err == nil {
			r.wake, r.cancel = wake, cancel
		}
	}
	if r.wake == nil {
		r.poll = 20 * time.Millisecond
	}
	return r, nil
}

// Next implements runtime.Spool.
func (r *Reader) Next(ctx context.Context, cursor int64) (runtime.Chunk, error) {
	if cursor < 0 {
		return runtime.Chunk{}, fmt.Errorf("cursor %d is negative: %w", cursor, ErrCorrupt)
	}
	asked, mismatches := cursor, 0
	for {
		if err := ctx.Err(); err != nil {
			return runtime.Chunk{}, err
		}
		// Asked before looking: what was written until then is seen by the look.
		over := r.over()
		chunk, next, err := r.look(cursor)
		cursor = next
		switch {
		case err == nil:
			if chunk.Stream == streamEnd {
				return runtime.Chunk{}, io.EOF
			}
			chunk.Dropped += r.gap(asked, chunk)
			return chunk, nil
		case errors.Is(err, ErrCorrupt):
			// A frame that is being written can be seen for a moment.
			if mismatches++; over || mismatches > 3 {
				return runtime.Chunk{}, err
			}
		case !errors.Is(err, errNotYet):
			return runtime.Chunk{}, err
		case over:
			return runtime.Chunk{}, io.EOF
		}
		if err := r.wait(ctx); err != nil {
			return runtime.Chunk{}, err
		}
	}
}

// gap is how much was dropped between the position asked for and the chunk.
func (r *Reader) gap(asked int64, c runtime.Chunk) int64 {
	begin := c.Cursor - int64(len(c.Data)) - headerSize
	if begin <= asked {
		return 0
	}
	return max(0, begin-max(asked, readAcked(r.dir)))
}

var errNotYet = errors.New("nothing to read yet")

// look reads the frame at cursor, moving on over segments that are gone or done.
func (r *Reader) look(cursor int64) (runtime.Chunk, int64, error) {
	for {
		if r.file == nil || cursor < r.start {
			var err error
			if cursor, err = r.seek(cursor); err != nil {
				return runtime.Chunk{}, cursor, err
			}
		}
		chunk, err := r.frame(cursor)
		if !errors.Is(err, errNotYet) {
			return chunk, cursor, err
		}
		next, found, err := r.following()
		if err != nil {
			return chunk, cursor, err
		}
		if !found {
			return chunk, cursor, errNotYet
		}
		// The writer may have filled this segment between our two looks.
		if next > cursor {
			if chunk, err = r.frame(cursor); !errors.Is(err, errNotYet) {
				return chunk, cursor, err
			}
		}
		cursor = max(cursor, next)
		r.closeFile()
	}
}

// seek opens the segment that holds cursor, or the oldest when it is gone.
func (r *Reader) seek(cursor int64) (int64, error) {
	r.closeFile()
	for range 10 {
		starts, err := segments(r.dir)
		if err != nil {
			return cursor, r.explain(err)
		}
		if len(starts) == 0 {
			return cursor, errNotYet
		}
		start := starts[0]
		for _, s := range starts {
			if s <= cursor {
				start = s
			}
		}
		f, err := os.Open(filepath.Join(r.dir, segmentName(start)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return cursor, fmt.Errorf("open spool segment: %w", err)
		}
		r.file, r.start = f, start
		return max(cursor, start), nil
	}
	return cursor, errNotYet
}

// following returns where the segment after the open one begins.
func (r *Reader) following() (int64, bool, error) {
	starts, err := segments(r.dir)
	if err != nil {
		return 0, false, r.explain(err)
	}
	i := slices.IndexFunc(starts, func(s int64) bool { return s > r.start })
	if i < 0 {
		return 0, false, nil
	}
	return starts[i], true, nil
}

func (r *Reader) explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the output was removed: %w", runtime.ErrNotFound)
	}
	return fmt.Errorf("list spool segments: %w", err)
}

// frame reads the frame at cursor from the open segment.
func (r *Reader) frame(cursor int64) (runtime.Chunk, error) {
	h, frame, err := readFrame(r.file, cursor-r.start)
	if err != nil {
		return runtime.Chunk{}, err
	}
	return runtime.Chunk{
		Stream: h.stream, At: h.at, Data: frame[headerSize:], Dropped: h.dropped,
		Cursor: cursor + int64(len(frame)),
	}, nil
}

// readFrame returns errNotYet when the file ends before the frame does.
func readFrame(f *os.File, at int64) (header, []byte, error) {
	var head [headerSize]byte
	if n, err := f.ReadAt(head[:], at); n < headerSize {
		if err == nil || errors.Is(err, io.EOF) {
			return header{}, nil, errNotYet
		}
		return header{}, nil, fmt.Errorf("read spool: %w", err)
	}
	h := parseHeader(head[:])
	if h.length > MaxData {
		return h, nil, ErrCorrupt
	}
	frame := make([]byte, headerSize+h.length)
	if n, err := f.ReadAt(frame, at); n < len(frame) {
		if err == nil || errors.Is(err, io.EOF) {
			return h, nil, errNotYet
		}
		return h, nil, fmt.Errorf("read spool: %w", err)
	}
	if !h.valid(frame) {
		return h, nil, ErrCorrupt
	}
	return h, frame, nil
}

func (r *Reader) wait(ctx context.Context) error {
	timer := time.NewTimer(r.poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.wake:
	case <-timer.C:
	}
	return nil
}

// Ack implements runtime.Spool.
func (r *Reader) Ack(cursor int64) error {
	r.ackMu.Lock()
	defer r.ackMu.Unlock()
	if cursor <= readAcked(r.dir) {
		return nil
	}
	if err := writeAcked(r.dir, cursor); err != nil {
		return fmt.Errorf("acknowledge output: %w", err)
	}
	starts, err := segments(r.dir)
	if err != nil {
		return r.explain(err)
	}
	for i := 1; i < len(starts) && starts[i] <= cursor; i++ {
		err := os.Remove(filepath.Join(r.dir, segmentName(starts[i-1])))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove acknowledged output: %w", err)
		}
	}
	return nil
}

// Acked implements runtime.Spool.
func (r *Reader) Acked() (int64, error) { return readAcked(r.dir), nil }

// Close implements runtime.Spool.
func (r *Reader) Close() error {
	r.cancel()
	r.closeFile()
	return nil
}

func (r *Reader) closeFile() {
	if r.file != nil {
		_ = r.file.Close()
		r.file = nil
	}
}

// Cut repairs the spool of a writer that died: what follows the last whole frame
// is cut off, and the end marker is added. A spool that has ended stays as it is.
func Cut(dir string, at time.Time) error {
	starts, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(starts) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("repair spool: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, segmentName(starts[len(starts)-1])), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("repair spool: %w", err)
	}
	defer f.Close()
	var end int64
	for {
		h, frame, err := readFrame(f, end)
		if err != nil {
			break
		}
		if h.stream == streamEnd {
			return nil
		}
		end += int64(len(frame))
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("repair spool: %w", err)
	}
	marker := make([]byte, headerSize)
	seal(marker, streamEnd, at, 0)
	if _, err := f.WriteAt(marker, end); err != nil {
		return fmt.Errorf("repair spool: %w", err)
	}
	return nil
}
