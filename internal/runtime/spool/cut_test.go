package spool_test

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/spool"
)

// TestChunksBeginWithLines: whatever the sizes of the reads, a chunk that does not
// begin a line holds nothing but the rest of one, and nothing is lost.
func TestChunksBeginWithLines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "bc", "\n", "\n\n", "long line"}), 1, 60).Draw(rt, "text"), "")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 12), 1, 20).Draw(rt, "reads")
		dir := filepath.Join(t.TempDir(), "spool")
		w, err := spool.NewWriter(dir, runtime.Output{}, time.Now)
		if err != nil {
			rt.Fatal(err)
		}
		w.Copy(runtime.Stdout, &choppy{strings.NewReader(text), sizes})
		if err := w.End(); err != nil {
			rt.Fatal(err)
		}
		r, err := spool.Open(dir, nil, never)
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		var chunks []string
		for cursor := int64(0); ; {
			c, err := r.Next(t.Context(), cursor)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				rt.Fatal(err)
			}
			chunks, cursor = append(chunks, string(c.Data)), c.Cursor
		}
		if got := strings.Join(chunks, ""); got != text {
			rt.Fatalf("spooled %q of %q", got, text)
		}
		midLine := false
		for _, c := range chunks {
			if midLine && strings.Contains(strings.TrimSuffix(c, "\n"), "\n") {
				rt.Fatalf("chunk %q goes on after the line that it ends: %q", c, chunks)
			}
			if !midLine && strings.Contains(c, "\n") && !strings.HasSuffix(c, "\n") {
				rt.Fatalf("chunk %q holds whole lines and the beginning of another: %q", c, chunks)
			}
			midLine = !strings.HasSuffix(c, "\n")
		}
	})
}

// choppy reads as much at a time as its sizes say, in turns.
type choppy struct {
	r     io.Reader
	sizes []int
}

func (c *choppy) Read(p []byte) (int, error) {
	size := c.sizes[0]
	c.sizes = append(slices.Clone(c.sizes[1:]), size)
	return c.r.Read(p[:min(size, len(p))])
}
