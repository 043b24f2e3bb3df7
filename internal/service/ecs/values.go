package ecs

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"
)

// deref returns what p points to, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// optional returns a pointer to v, or nil for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// optionalTime returns a pointer to t, or nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// derive makes an id of n hex digits that follows from a secret seed, so that
// functions given to DB.Update make no ids of their own.
func derive(seed, label string, n int) string {
	sum := sha256.Sum256([]byte(seed + "\x00" + label))
	return hex.EncodeToString(sum[:])[:n]
}

// deriveUUID is derive in the form of a UUID.
func deriveUUID(seed, label string) string {
	h := derive(seed, label, 32)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// parseCPU reads a task's cpu: units ("256") or vCPUs (".25 vCPU"). The result
// is in units of 1/1024 vCPU.
func parseCPU(s string) (int64, bool) {
	return parseSize(s, "vcpu")
}

// parseMemory reads a task's memory: MiB ("512") or GB ("0.5 GB"). The result is
// in MiB.
func parseMemory(s string) (int64, bool) {
	return parseSize(s, "gb")
}

// parseSize reads a whole number, or a decimal number of a unit that is 1024 of
// them.
func parseSize(s, unit string) (int64, bool) {
	text := strings.ToLower(strings.TrimSpace(s))
	if number, ok := strings.CutSuffix(text, unit); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0) || f > 1<<20 {
			return 0, false
		}
		return int64(math.Round(f * 1024)), true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return 0, false
	}
	return n, true
}

// fargateSize tells whether Fargate offers a task size, in units and MiB.
func fargateSize(cpu, memory int64) bool {
	const gb = 1024
	var least, most, step int64
	switch cpu {
	case 256:
		return memory == 512 || memory == gb || memory == 2*gb
	case 512:
		least, most, step = gb, 4*gb, gb
	case 1024:
		least, most, step = 2*gb, 8*gb, gb
	case 2048:
		least, most, step = 4*gb, 16*gb, gb
	case 4096:
		least, most, step = 8*gb, 30*gb, gb
	case 8192:
		least, most, step = 16*gb, 60*gb, 4*gb
	case 16384:
		least, most, step = 32*gb, 120*gb, 8*gb
	default:
		return false
	}
	return memory >= least && memory <= most && memory%step == 0
}
