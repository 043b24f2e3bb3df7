package image

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func TestReadAheadGivesWhatTheSourceHas(t *testing.T) {
	data := make([]byte, 3*aheadChunk+17)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	broken := errors.New("broken")
	for name, source := range map[string]func() io.Reader{
		"at once":       func() io.Reader { return bytes.NewReader(data) },
		"byte by byte":  func() io.Reader { return iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(data))) },
		"then an error": func() io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)) },
		"cut short":     func() io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)) },
	} {
		want := map[string]error{"then an error": broken, "cut short": io.ErrUnexpectedEOF}[name]
		a := readAhead(source())
		got, err := io.ReadAll(a)
		if !bytes.Equal(got, data) || !errors.Is(err, want) {
			t.Errorf("%s: %d bytes, %v; want %d, %v", name, len(got), err, len(data), want)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadAheadEndsWhenItIsClosed(t *testing.T) {
	endless := readAhead(rand.NewChaCha8([32]byte{}))
	if _, err := io.ReadFull(endless, make([]byte, 10*aheadChunk+3)); err != nil {
		t.Fatal(err)
	}
	_ = endless.Close() // returns only when the goroutine has ended
	_ = endless.Close()
	if _, err := io.Copy(io.Discard, endless); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after Close: %v", err)
	}
}
