package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantile(t *testing.T) {
	hundred := make(times, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100-i) * time.Millisecond // in no helpful order
	}
	for _, c := range []struct {
		samples times
		q, want float64
	}{
		{nil, 0.5, 0},
		{times{3 * time.Millisecond}, 0.99, 3},
		{times{4 * time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond}, 0.5, 3},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
	} {
		if got := c.samples.quantile(c.q); got != c.want {
			t.Errorf("quantile %v of %d samples = %v, want %v", c.q, len(c.samples), got, c.want)
		}
	}
}

// A quantile is a sample, at least that share of the samples is not above it, and
// taking it leaves the samples in their order.
func TestQuantileProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := times(rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, 1000), func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }), 1, 50).Draw(t, "samples"))
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		before := slices.Clone(samples)
		got := time.Duration(samples.quantile(q) * float64(time.Millisecond))
		if !slices.Equal(before, samples) {
			t.Fatal("the samples were reordered")
		}
		notAbove := 0
		for _, s := range samples {
			if s <= got {
				notAbove++
			}
		}
		if !slices.Contains(samples, got) || float64(notAbove) < q*float64(len(samples)) {
			t.Fatalf("quantile %v of %v = %v", q, samples, got)
		}
	})
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	all := table{Rows: []row{
		{Name: "bare", Unit: "ms", Samples: 30, Median: 2},
		{Name: "peer", Unit: "ms", Samples: 30, Median: 25, Floor: "bare"},
		{Name: "ours", Unit: "ms", Samples: 30, Median: 50, P99: 123.4, Budget: 60, P99Budget: 200, Goal: 15, Floor: "bare", Peer: "peer"},
		{Name: "rate", Unit: "calls/s", Median: 1000, Budget: 500, Floor: "bare", Note: "another unit is not compared"},
		{Name: "absent", Note: "no engine | here\nat all"},
	}}
	var out bytes.Buffer
	if err := all.markdown(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		"what|n|median|p99|unit|budget|× floor|× peer|how",
		"",
		"bare|30|2.00||ms||||",
		"peer|30|25.0||ms||12.5×||",
		"ours|30|50.0|123|ms|≤60/200 (goal 15)|25.0×|2.00×|",
		"rate||1000||calls/s|≥500|||another unit is not compared",
		"absent||–||||||no engine / here at all",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		if len([]rune(line)) != len([]rune(lines[0])) {
			t.Errorf("line %d is not aligned: %s", i, line)
		}
		if i == 1 {
			continue // the rule
		}
		fields := strings.Split(strings.Trim(line, "|"), "|")
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		if got := strings.Join(fields, "|"); got != want[i] {
			t.Errorf("line %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

func TestJSONCanBeReadBack(t *testing.T) {
	all := table{Environment: []string{"2 cores"}, Rows: []row{{Subject: "start", Name: "ours", Unit: "ms", Median: 1.5, P99: 2}}}
	var out bytes.Buffer
	if err := all.json(&out); err != nil {
		t.Fatal(err)
	}
	var back table
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Rows) != 1 || back.Rows[0] != all.Rows[0] || back.Environment[0] != "2 cores" {
		t.Errorf("read back %+v", back)
	}
}
