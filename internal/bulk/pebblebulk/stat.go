package pebblebulk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"longshore.dev/longshore/internal/bulk"
)

// stat is a stored total. Two merge by adding the sums and keeping the later times.
type stat struct {
	bytes, events       int64
	last, lastIngestion int64
}

// noTimes is a stat that leaves another's times as they are.
var noTimes = stat{last: math.MinInt64, lastIngestion: math.MinInt64}

const statSize = 32

func (s stat) encode() []byte {
	b := make([]byte, 0, statSize)
	for _, v := range []int64{s.bytes, s.events, s.last, s.lastIngestion} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeStat(b []byte) (stat, error) {
	if len(b) != statSize {
		return stat{}, fmt.Errorf("%w: total of %d bytes", bulk.ErrDamaged, len(b))
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	return stat{at(0), at(1), at(2), at(3)}, nil
}

func (s *stat) add(o stat) {
	s.bytes += o.bytes
	s.events += o.events
	s.last = max(s.last, o.last)
	s.lastIngestion = max(s.lastIngestion, o.lastIngestion)
}

// removed returns the stat that takes s's sums away.
func (s stat) removed() stat {
	r := noTimes
	r.bytes, r.events = -s.bytes, -s.events
	return r
}

// statMerger adds stats up. Its name is on disk: the format cannot change under it.
var statMerger = &pebble.Merger{
	Name: "longshore.stat.1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		s, err := decodeStat(value)
		return (*statSum)(&s), err
	},
}

type statSum stat

func (s *statSum) MergeNewer(value []byte) error { return s.merge(value) }
func (s *statSum) MergeOlder(value []byte) error { return s.merge(value) }

func (s *statSum) merge(value []byte) error {
	o, err := decodeStat(value)
	(*stat)(s).add(o)
	return err
}

func (s *statSum) Finish(bool) ([]byte, io.Closer, error) { return stat(*s).encode(), nil, nil }
