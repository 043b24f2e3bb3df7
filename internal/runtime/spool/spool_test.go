package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/spool"
)

func never() bool { return false }

func newWriter(t *testing.T, o runtime.Output) (*spool.Writer, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	w, err := spool.NewWriter(dir, o, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.End() })
	return w, dir
}

func open(t testing.TB, dir string, over func() bool) *spool.Reader {
	t.Helper()
	watcher, err := spool.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	r, err := spool.Open(dir, watcher, over)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Close()
		_ = watcher.Close()
	})
	return r
}

// readAll reads to the end and returns the text, the last cursor and what was dropped.
func readAll(t testing.TB, r *spool.Reader, cursor int64) (text string, last, dropped int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var b strings.Builder
	for {
		chunk, err := r.Next(ctx, cursor)
		if errors.Is(err, io.EOF) {
			return b.String(), cursor, dropped
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", b.Len(), err)
		}
		b.Write(chunk.Data)
		dropped += chunk.Dropped
		cursor = chunk.Cursor
	}
}

// TestRoundTrip: any output, in any pieces, over many segments, comes back whole
// from any cursor that was ever returned.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		w, err := spool.NewWriter(filepath.Join(dir, "s"), runtime.Output{MaxBytes: 1 << 30}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		for i, size := range rapid.SliceOfN(rapid.IntRange(1, 100_000), 0, 40).Draw(t, "sizes") {
			piece := bytes.Repeat([]byte{byte(i)}, size)
			want.Write(piece)
			w.Copy(runtime.Stdout, bytes.NewReader(piece))
		}
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		r, err := spool.Open(filepath.Join(dir, "s"), nil, never)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var got bytes.Buffer
		cursors, offsets := []int64{0}, []int{0}
		for cursor := int64(0); ; {
			chunk, err := r.Next(context.Background(), cursor)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got.Write(chunk.Data)
			cursor = chunk.Cursor
			cursors, offsets = append(cursors, cursor), append(offsets, got.Len())
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%d bytes came back of %d", got.Len(), want.Len())
		}
		i := rapid.IntRange(0, len(cursors)-1).Draw(t, "resume")
		chunk, err := r.Next(context.Background(), cursors[i])
		switch {
		case offsets[i] == want.Len():
			if !errors.Is(err, io.EOF) {
				t.Fatalf("at the end: %v", err)
			}
		case err != nil:
			t.Fatal(err)
		case !bytes.HasPrefix(want.Bytes()[offsets[i]:], chunk.Data):
			t.Fatal("another chunk follows the cursor than before")
		}
	})
}

func TestBlocksUntilAcknowledged(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{MaxBytes: 256 << 10})
	text := strings.Repeat("0123456789abcde\n", 64<<10) // 1 MiB
	done := make(chan struct{})
	go func() {
		w.Copy(runtime.Stdout, strings.NewReader(text))
		_ = w.End()
		close(done)
	}()
	r := open(t, dir, never)
	var got strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for cursor := int64(0); ; {
		chunk, err := r.Next(ctx, cursor)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Len() < 100<<10 {
			select {
			case <-done:
				t.Fatal("the writer did not wait")
			default:
			}
		}
		got.WriteString(string(chunk.Data))
		cursor = chunk.Cursor
		if err := r.Ack(cursor); err != nil {
			t.Fatal(err)
		}
		if size := diskUse(t, dir); size > 512<<10 {
			t.Fatalf("%d bytes are kept", size)
		}
	}
	if got.String() != text {
		t.Errorf("%d of %d bytes came through", got.Len(), len(text))
	}
}

func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

func TestDrainEndsTheWait(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{MaxBytes: 128 << 10})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Copy(runtime.Stdout, strings.NewReader(strings.Repeat("x", 300<<10)))
	}()
	r := open(t, dir, never)
	first, err := r.Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// The container is gone: what its pipe holds is taken without anyone's leave.
	w.Drain()
	<-done
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	rest, _, _ := readAll(t, r, first.Cursor)
	if got := len(first.Data) + len(rest); got != 300<<10 {
		t.Errorf("%d bytes are kept", got)
	}
}

func TestDropsOldest(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{MaxBytes: 256 << 10, NonBlocking: true})
	const total = 4 << 20
	var text strings.Builder
	for i := 0; text.Len() < total; i++ {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	w.Copy(runtime.Stdout, strings.NewReader(text.String()))
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	kept, _, dropped := readAll(t, open(t, dir, never), 0)
	if !strings.HasSuffix(text.String(), kept) || len(kept) < 100<<10 || len(kept) > 300<<10 {
		t.Errorf("%d bytes are kept, not the newest", len(kept))
	}
	if sum := int64(len(kept)) + dropped; sum < int64(text.Len()) || sum > int64(text.Len())*11/10 {
		t.Errorf("kept %d and dropped %d of %d", len(kept), dropped, text.Len())
	}
	if size := diskUse(t, dir); size > 300<<10 {
		t.Errorf("%d bytes are on the disk", size)
	}
}

func TestAckRemovesWholeSegments(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{MaxBytes: 1 << 20})
	w.Copy(runtime.Stdout, strings.NewReader(strings.Repeat("x", 900<<10)))
	_ = w.End()
	r := open(t, dir, never)
	_, last, _ := readAll(t, r, 0)
	if err := r.Ack(last); err != nil {
		t.Fatal(err)
	}
	if size := diskUse(t, dir); size > 140<<10 {
		t.Errorf("%d bytes are left after all was acknowledged", size)
	}
	// A cursor from before continues at what is left, and nothing counts as dropped.
	if _, _, dropped := readAll(t, open(t, dir, never), 0); dropped != 0 {
		t.Errorf("%d acknowledged bytes count as dropped", dropped)
	}
}

func TestCutRepairsWhatACrashLeft(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"nothing":       func(b []byte) []byte { return b },
		"half a frame":  func(b []byte) []byte { return append(b, b[:30]...) },
		"half a header": func(b []byte) []byte { return append(b, 1, 2, 3) },
		"zeroes":        func(b []byte) []byte { return append(b, make([]byte, 4096)...) },
		"garbage":       func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xfe}, 500)...) },
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := newWriter(t, runtime.Output{})
			w.Copy(runtime.Stdout, strings.NewReader("before the crash\n"))
			// The crash: no end marker, and whatever the last write left.
			files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			crashed := filepath.Join(t.TempDir(), "crashed")
			if err := os.Mkdir(crashed, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(crashed, filepath.Base(files[0])), damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // doing it again changes nothing
				if err := spool.Cut(crashed, time.Now()); err != nil {
					t.Fatal(err)
				}
				if text, _, _ := readAll(t, open(t, crashed, never), 0); text != "before the crash\n" {
					t.Errorf("kept %q", text)
				}
			}
		})
	}
	if err := spool.Cut(filepath.Join(t.TempDir(), "missing"), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestEndWithoutMarker(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{})
	w.Copy(runtime.Stdout, strings.NewReader("text"))
	if text, _, _ := readAll(t, open(t, dir, func() bool { return true }), 0); text != "text" {
		t.Errorf("kept %q", text)
	}
}

func TestBadCursor(t *testing.T) {
	w, dir := newWriter(t, runtime.Output{})
	w.Copy(runtime.Stdout, strings.NewReader(strings.Repeat("text", 100)))
	_ = w.End()
	r := open(t, dir, never)
	for _, cursor := range []int64{-1, 7} {
		if _, err := r.Next(t.Context(), cursor); !errors.Is(err, spool.ErrCorrupt) {
			t.Errorf("cursor %d: %v", cursor, err)
		}
	}
}

func TestRemovedWhileWaiting(t *testing.T) {
	_, dir := newWriter(t, runtime.Output{})
	r := open(t, dir, never)
	errs := make(chan error, 1)
	go func() {
		_, err := r.Next(context.Background(), 0)
		errs <- err
	}()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-errs:
		if !errors.Is(err, runtime.ErrNotFound) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader still waits")
	}
	if _, err := spool.Open(dir, nil, never); !errors.Is(err, runtime.ErrNotFound) {
		t.Error(err)
	}
}

// TestFullDisk: a disk that is full blocks, or drops and counts, and later output
// comes through.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	for _, nonBlocking := range []bool{true, false} {
		t.Run(fmt.Sprint("nonBlocking=", nonBlocking), func(t *testing.T) {
			disk := t.TempDir()
			if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
			ballast := filepath.Join(disk, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 300<<10), 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := spool.NewWriter(filepath.Join(disk, "spool"), runtime.Output{NonBlocking: nonBlocking}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				w.Copy(runtime.Stdout, strings.NewReader(strings.Repeat("x", 400<<10)))
			}()
			if nonBlocking {
				<-done
			} else {
				select {
				case <-done:
					t.Fatal("the writer did not wait for space")
				case <-time.After(200 * time.Millisecond): // it is seen to wait
				}
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			<-done
			w.Copy(runtime.Stdout, strings.NewReader("later"))
			if err := w.End(); err != nil {
				t.Fatal(err)
			}
			text, _, dropped := readAll(t, open(t, filepath.Join(disk, "spool"), never), 0)
			if !strings.HasSuffix(text, "later") || int64(len(text))+dropped != 400<<10+5 {
				t.Errorf("kept %d, dropped %d", len(text), dropped)
			}
			if !nonBlocking && dropped != 0 {
				t.Errorf("%d bytes were dropped in blocking mode", dropped)
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	w, err := spool.NewWriter(filepath.Join(b.TempDir(), "s"), runtime.Output{NonBlocking: true}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	piece := bytes.Repeat([]byte("x"), spool.MaxData)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		w.Copy(runtime.Stdout, bytes.NewReader(piece))
	}
	_ = w.End()
}
