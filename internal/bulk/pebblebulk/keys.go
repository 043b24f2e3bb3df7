package pebblebulk

import (
	"encoding/binary"
	"math"

	"longshore.dev/longshore/internal/bulk"
)

// Key spaces, by first byte.
const (
	spaceMeta        = 'm'
	spaceEvents      = 'e' // e group 0 stream 0 <chunk key>
	spaceStreamStat  = 's' // s group 0 stream 0
	spaceGroupStat   = 'S' // S group 0
	spaceHistory     = 'h' // h account 0 region 0 kind 0 id
	spaceHistoryTime = 't' // t account 0 region 0 kind 0 <time> id
)

var seqKey = []byte{spaceMeta, 's', 'e', 'q'}

// Chunks are sorted into classes by the time they span: class c holds those of
// less than 16^(c+1) milliseconds. A scan from t looks for chunks of class c
// from t−16^(c+1) on, so that the many short chunks do not have to be searched
// as far back as the few long ones.
const (
	classes      = 7
	chunkKeySize = 1 + 8 + 8 + 4 + 4 + 4
)

// classSpan returns the bound of the time that a chunk of class c spans.
func classSpan(c int) int64 { return 1 << (4 * (c + 1)) }

// maxSpan is what the longest chunk may span.
const maxSpan = 1<<(4*classes) - 1

func classOf(span int64) int {
	for c := range classes - 1 {
		if span < classSpan(c) {
			return c
		}
	}
	return classes - 1
}

// chunkKey is what a chunk's key says about it.
type chunkKey struct {
	first bulk.LogPosition
	span  int64 // last timestamp − first timestamp
	count int
	bytes int64 // as AWS counts them
}

func (k chunkKey) last() int64 { return k.first.Timestamp + k.span }

func (k chunkKey) append(prefix []byte) []byte {
	b := appendSeek(prefix, classOf(k.span), k.first)
	b = binary.BigEndian.AppendUint32(b, uint32(k.span))
	b = binary.BigEndian.AppendUint32(b, uint32(k.count))
	return binary.BigEndian.AppendUint32(b, uint32(k.bytes))
}

// appendSeek returns the place in a class before all chunks that begin at pos or later.
func appendSeek(prefix []byte, class int, pos bulk.LogPosition) []byte {
	b := make([]byte, 0, len(prefix)+chunkKeySize)
	b = append(b, prefix...)
	b = append(b, byte(class))
	b = binary.BigEndian.AppendUint64(b, orderedInt(pos.Timestamp))
	return binary.BigEndian.AppendUint64(b, pos.Seq)
}

// parseChunkKey reads the part of a key after the stream's prefix.
func parseChunkKey(b []byte) (class int, k chunkKey, ok bool) {
	if len(b) != chunkKeySize {
		return 0, chunkKey{}, false
	}
	k.first.Timestamp = fromOrderedInt(binary.BigEndian.Uint64(b[1:]))
	k.first.Seq = binary.BigEndian.Uint64(b[9:])
	k.span = int64(binary.BigEndian.Uint32(b[17:]))
	k.count = int(binary.BigEndian.Uint32(b[21:]))
	k.bytes = int64(binary.BigEndian.Uint32(b[25:]))
	return int(b[0]), k, int(b[0]) == classOf(k.span)
}

// orderedInt maps integers to unsigned ones that sort in the same order.
func orderedInt(v int64) uint64     { return uint64(v) ^ 1<<63 }
func fromOrderedInt(v uint64) int64 { return int64(v ^ 1<<63) }

// groupPrefix and streamPrefix begin the keys of a group and a stream in a space.
func groupPrefix(space byte, group string) []byte {
	b := make([]byte, 0, 2+len(group)+130+chunkKeySize)
	b = append(b, space)
	b = append(b, group...)
	return append(b, 0)
}

func streamPrefix(space byte, id bulk.StreamID) []byte {
	return append(append(groupPrefix(space, id.Group), id.Stream...), 0)
}

// prefixEnd returns the first key after all that begin with a prefix, which
// ends in 0.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

// earlier returns t−d, or the earliest time there is.
func earlier(t, d int64) int64 {
	if t < math.MinInt64+d {
		return math.MinInt64
	}
	return t - d
}

// later returns t+d, or the latest time there is.
func later(t, d int64) int64 {
	if t > math.MaxInt64-d {
		return math.MaxInt64
	}
	return t + d
}
