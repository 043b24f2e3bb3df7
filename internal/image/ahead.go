package image

import (
	"io"
	"sync"
)

const (
	// aheadChunk is how much is read at a time, aheadChunks how many chunks may wait.
	aheadChunk  = 256 << 10
	aheadChunks = 4
)

// aheadReader reads from another reader on a goroutine of its own, a few chunks
// before they are asked for.
type aheadReader struct {
	full, empty chan []byte
	stop        chan struct{}
	once        sync.Once
	done        sync.WaitGroup
	err         error // set before full is closed

	whole, rest []byte // the present chunk, and what is left of it
}

func readAhead(r io.Reader) *aheadReader {
	a := &aheadReader{full: make(chan []byte, aheadChunks), empty: make(chan []byte, aheadChunks), stop: make(chan struct{})}
	for range aheadChunks {
		a.empty <- make([]byte, aheadChunk)
	}
	a.done.Go(func() {
		defer close(a.full)
		for a.err == nil {
			var chunk []byte
			select {
			case chunk = <-a.empty:
			case <-a.stop:
				a.err = io.ErrClosedPipe
				return
			}
			n := 0
			for n < aheadChunk && a.err == nil {
				var got int
				got, a.err = r.Read(chunk[n:aheadChunk])
				n += got
			}
			if n > 0 {
				a.full <- chunk[:n] // has room for every chunk
			}
		}
	})
	return a
}

// Read implements io.Reader.
func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.whole != nil {
			a.empty <- a.whole // has room for every chunk
			a.whole = nil
		}
		chunk, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.whole, a.rest = chunk, chunk
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits for it; the source is the caller's again.
func (a *aheadReader) Close() error {
	a.once.Do(func() { close(a.stop) })
	a.done.Wait()
	return nil
}
