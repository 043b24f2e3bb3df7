package pebblebulk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"longshore.dev/longshore/internal/bulk"
)

// Bounds of one chunk. A page of 1,000 events reads one or two; a single larger
// event has a chunk of its own.
const (
	chunkEvents = 1024
	chunkBytes  = 256 << 10
	// maxMessage bounds one event's message.
	maxMessage = 16 << 20
	// smallChunk is left to Pebble's block compression, which sees its neighbours too.
	smallChunk = 512
)

// The first byte of a chunk's value.
const (
	formatPlain = 1
	formatZstd  = 2
)

func newCodec() (*zstd.Encoder, *zstd.Decoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(chunkBytes),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(2*maxMessage),
		zstd.WithDecoderConcurrency(0))
	return enc, dec, err
}

// chunk is a part of an append, ready to be stored: everything but the sequence
// number of its first event is known.
type chunk struct {
	key           chunkKey
	lastIngestion int64
	value         []byte
}

// encodeChunks cuts events, which it sorts by time, into chunks.
func (d *DB) encodeChunks(events []bulk.LogEvent) []chunk {
	byTime := func(a, b bulk.LogEvent) int { return cmp.Compare(a.Timestamp, b.Timestamp) }
	if !slices.IsSortedFunc(events, byTime) {
		events = slices.Clone(events)
		slices.SortStableFunc(events, byTime)
	}
	var chunks []chunk
	for len(events) > 0 {
		n, size := 0, int64(0)
		for n < len(events) && n < chunkEvents {
			e := events[n]
			if n > 0 && (size+e.Size() > chunkBytes || !within(events[0].Timestamp, e.Timestamp, maxSpan)) {
				break
			}
			size += e.Size()
			n++
		}
		chunks = append(chunks, d.encodeChunk(events[:n], size))
		events = events[n:]
	}
	return chunks
}

// within tells whether b, which is not before a, is at most d after it.
func within(a, b, d int64) bool { return uint64(b)-uint64(a) <= uint64(d) }

func (d *DB) encodeChunk(events []bulk.LogEvent, size int64) chunk {
	c := chunk{key: chunkKey{
		first: events[0].Position(),
		span:  events[len(events)-1].Timestamp - events[0].Timestamp,
		count: len(events),
		bytes: size,
	}}
	plain := make([]byte, 1, int(size)+1)
	plain[0] = formatPlain
	ts, ingested := events[0].Timestamp, int64(0)
	for _, e := range events {
		plain = binary.AppendUvarint(plain, uint64(e.Timestamp-ts))
		plain = binary.AppendVarint(plain, e.IngestionTime-ingested)
		plain = binary.AppendUvarint(plain, uint64(len(e.Message)))
		ts, ingested = e.Timestamp, e.IngestionTime
		c.lastIngestion = max(c.lastIngestion, e.IngestionTime)
	}
	for _, e := range events {
		plain = append(plain, e.Message...)
	}
	c.value = plain
	if len(plain) >= smallChunk {
		packed := d.encoder.EncodeAll(plain[1:], append(make([]byte, 0, len(plain)/2), formatZstd))
		if len(packed) < len(plain) {
			c.value = packed
		}
	}
	return c
}

// decodeChunk returns a chunk's events in order of position. Their messages
// share one piece of memory.
func (d *DB) decodeChunk(key chunkKey, value []byte) ([]bulk.LogEvent, error) {
	damaged := func(what string) error {
		return fmt.Errorf("%w: chunk of log events at %d/%d: %s", bulk.ErrDamaged, key.first.Timestamp, key.first.Seq, what)
	}
	if len(value) == 0 {
		return nil, damaged("it is empty")
	}
	plain := value[1:]
	switch value[0] {
	case formatPlain:
	case formatZstd:
		var err error
		if plain, err = d.decoder.DecodeAll(plain, make([]byte, 0, key.bytes)); err != nil {
			return nil, damaged(err.Error())
		}
	default:
		return nil, damaged(fmt.Sprintf("unknown format %d", value[0]))
	}
	if key.count > len(plain) {
		return nil, damaged("it holds fewer events than it says")
	}
	events := make([]bulk.LogEvent, key.count)
	lengths := make([]int, key.count)
	ts, ingested, total := key.first.Timestamp, int64(0), 0
	for i := range events {
		dt, n1 := binary.Uvarint(plain)
		di, n2 := binary.Varint(plain[max(n1, 0):])
		length, n3 := binary.Uvarint(plain[max(n1, 0)+max(n2, 0):])
		if n1 <= 0 || n2 <= 0 || n3 <= 0 || length > maxMessage {
			return nil, damaged("its index cannot be read")
		}
		plain = plain[n1+n2+n3:]
		ts += int64(dt)
		ingested += di
		events[i] = bulk.LogEvent{Timestamp: ts, IngestionTime: ingested, Seq: key.first.Seq + uint64(i)}
		lengths[i] = int(length)
		total += int(length)
	}
	if total != len(plain) {
		return nil, damaged("its messages do not fit its index")
	}
	messages := string(plain)
	for i, n := range lengths {
		events[i].Message, messages = messages[:n], messages[n:]
	}
	return events, nil
}
