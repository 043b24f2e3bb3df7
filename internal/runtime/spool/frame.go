package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// A frame's header: checksum of what follows it (4 bytes), length of the data
// (4), time in nanoseconds (8), stream (1), zero (3), bytes dropped before this
// frame (4, saturating).
const (
	headerSize = 24
	// MaxData is the most data that one frame holds.
	MaxData = 32 << 10

	streamEnd runtime.Stream = 0

	segmentSuffix = ".seg"
	ackedName     = "acked"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal writes the header of the frame whose data is buf[headerSize:].
func seal(buf []byte, stream runtime.Stream, at time.Time, dropped uint64) {
	binary.LittleEndian.PutUint32(buf[4:], uint32(len(buf)-headerSize))
	binary.LittleEndian.PutUint64(buf[8:], uint64(at.UnixNano()))
	binary.LittleEndian.PutUint32(buf[16:], uint32(stream))
	binary.LittleEndian.PutUint32(buf[20:], uint32(min(dropped, 1<<32-1)))
	binary.LittleEndian.PutUint32(buf, crc32.Checksum(buf[4:], castagnoli))
}

// header is what a frame's first bytes say.
type header struct {
	sum     uint32
	length  int
	at      time.Time
	stream  runtime.Stream
	dropped int64
}

func parseHeader(b []byte) header {
	return header{
		sum:     binary.LittleEndian.Uint32(b),
		length:  int(binary.LittleEndian.Uint32(b[4:])),
		at:      time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))),
		stream:  runtime.Stream(b[16]),
		dropped: int64(binary.LittleEndian.Uint32(b[20:])),
	}
}

// valid tells whether frame (header and data) carries its own checksum.
func (h header) valid(frame []byte) bool {
	return crc32.Checksum(frame[4:], castagnoli) == h.sum
}

func segmentName(start int64) string {
	return fmt.Sprintf("%016x%s", start, segmentSuffix)
}

// segments lists where the directory's segments begin, in order.
func segments(dir string) ([]int64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var starts []int64
	for _, name := range names {
		hex, ok := strings.CutSuffix(name, segmentSuffix)
		if !ok {
			continue
		}
		if start, err := strconv.ParseInt(hex, 16, 64); err == nil {
			starts = append(starts, start)
		}
	}
	slices.Sort(starts)
	return starts, nil
}

// readAcked returns the acknowledged position, 0 when there is none.
func readAcked(dir string) int64 {
	data, err := os.ReadFile(filepath.Join(dir, ackedName))
	if err != nil || len(data) < 8 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(data))
}

func writeAcked(dir string, cursor int64) error {
	f, err := os.OpenFile(filepath.Join(dir, ackedName), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Eight bytes in one write are never seen half: no rename is needed.
	_, err = f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(cursor)), 0)
	return err
}
