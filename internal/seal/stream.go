package seal

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// A sealed stream is a mark, an id of its own, and sealed pieces, each behind its
// length. What a piece is sealed for names the stream, its place in it, and whether it
// is the last: none can be changed, left out, moved or taken from another stream, and
// an end that was cut off is noticed.
var streamMark = []byte("LSSEALED\x00\x01")

const (
	pieceSize = 256 << 10
	streamID  = 16
)

func pieceContext(purpose string, id []byte, n uint64, last bool) string {
	return fmt.Sprintf("stream/%s/%s/%d/%t", purpose, hex.EncodeToString(id), n, last)
}

// Sealing is what a stream is written with: a Sealer or a Keyring.
type Sealing interface {
	Seal(context string, plaintext []byte) ([]byte, error)
}

// Opening is what a stream is read with: a Sealer or a Keyring.
type Opening interface {
	Open(context string, sealed []byte) ([]byte, error)
}

// Writer seals a stream. It is whole once Close has returned nil.
type Writer struct {
	out     io.Writer
	sealer  Sealing
	purpose string
	id      []byte
	n       uint64
	buffer  []byte
	err     error
}

// NewWriter begins a stream for a purpose: only a Reader for the same opens it.
func NewWriter(out io.Writer, s Sealing, purpose string) (*Writer, error) {
	w := &Writer{out: out, sealer: s, purpose: purpose, id: make([]byte, streamID), buffer: make([]byte, 0, pieceSize)}
	if _, err := rand.Read(w.id); err != nil {
		return nil, fmt.Errorf("seal: no randomness: %w", err)
	}
	_, err := out.Write(append(append([]byte{}, streamMark...), w.id...))
	return w, err
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && w.err == nil {
		if len(w.buffer) == pieceSize {
			w.flush(false)
		}
		n := min(len(p), pieceSize-len(w.buffer))
		w.buffer, p = append(w.buffer, p[:n]...), p[n:]
	}
	if w.err != nil {
		return 0, w.err
	}
	return total, nil
}

func (w *Writer) flush(last bool) {
	sealed, err := w.sealer.Seal(pieceContext(w.purpose, w.id, w.n, last), w.buffer)
	if err == nil {
		_, err = w.out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(sealed))), sealed...))
	}
	w.err, w.buffer, w.n = err, w.buffer[:0], w.n+1
}

// Close writes the last piece. It does not close what is below.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.flush(true)
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("seal: the stream is closed")
	return nil
}

// Reader opens a sealed stream. It returns io.EOF only at the stream's own end;
// what was changed or cut off is ErrTampered, at the piece where it shows.
type Reader struct {
	in      *bufio.Reader
	sealer  Opening
	purpose string
	id      []byte
	n       uint64
	piece   []byte
	last    bool
	err     error
}

// NewReader begins to read a stream of a purpose.
func NewReader(in io.Reader, s Opening, purpose string) (*Reader, error) {
	r := &Reader{in: bufio.NewReader(in), sealer: s, purpose: purpose}
	head := make([]byte, len(streamMark)+streamID)
	if _, err := io.ReadFull(r.in, head); err != nil || string(head[:len(streamMark)]) != string(streamMark) {
		return nil, fmt.Errorf("%w: this is no sealed stream of a version that this program knows", ErrTampered)
	}
	r.id = head[len(streamMark):]
	return r, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.piece) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.piece) > 0 {
		n := copy(p, r.piece)
		r.piece = r.piece[n:]
		return n, nil
	}
	return 0, r.err
}

func (r *Reader) next() error {
	if r.last {
		if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: something follows the end of the stream", ErrTampered)
		}
		return io.EOF
	}
	var length [4]byte
	if _, err := io.ReadFull(r.in, length[:]); err != nil {
		return r.cut(err)
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > pieceSize+1024 {
		return fmt.Errorf("%w: piece %d has %d bytes", ErrTampered, r.n, size)
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(r.in, sealed); err != nil {
		return r.cut(err)
	}
	piece, err := r.sealer.Open(pieceContext(r.purpose, r.id, r.n, false), sealed)
	if errors.Is(err, ErrTampered) {
		if piece, err = r.sealer.Open(pieceContext(r.purpose, r.id, r.n, true), sealed); err == nil {
			r.last = true
		}
	}
	r.piece, r.n = piece, r.n+1
	return err
}

func (r *Reader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the stream ends within piece %d", ErrTampered, r.n)
	}
	return err
}
