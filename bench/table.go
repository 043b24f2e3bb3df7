package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// row is one line of the table. Figures are in Unit; zero means not measured, or
// none.
type row struct {
	Subject string  `json:"subject"`
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Samples int     `json:"samples,omitempty"`
	Median  float64 `json:"median,omitempty"`
	P99     float64 `json:"p99,omitempty"`
	// Budget and Goal are what the design promises, P99Budget for the tail.
	Budget    float64 `json:"budget,omitempty"`
	P99Budget float64 `json:"p99Budget,omitempty"`
	Goal      float64 `json:"goal,omitempty"`
	// Floor and Peer name the rows of this run that this one is compared with.
	Floor string `json:"floor,omitempty"`
	Peer  string `json:"peer,omitempty"`
	// Note says how it was measured, or why it was not.
	Note string `json:"note,omitempty"`
}

// table collects rows in their order.
type table struct {
	Environment []string `json:"environment"`
	Rows        []row    `json:"rows"`
}

// times are the samples of one latency.
type times []time.Duration

// take times f and keeps the sample, unless f fails.
func (t *times) take(f func() error) error {
	began := time.Now()
	err := f()
	if err == nil {
		*t = append(*t, time.Since(began))
	}
	return err
}

// quantile is the nearest-rank quantile of the samples in milliseconds, zero
// without any.
func (t times) quantile(q float64) float64 {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return milliseconds(sorted[min(max(rank, 0), len(sorted)-1)])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// latency makes a row of samples; with tail it also has their 99th percentile.
func latency(name string, samples times, tail bool) row {
	r := row{Name: name, Unit: "ms", Samples: len(samples), Median: samples.quantile(0.5)}
	if tail {
		r.P99 = samples.quantile(0.99)
	}
	return r
}

// median is the nearest-rank median of figures of any unit.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// rising tells that more is better in this unit.
func rising(unit string) bool { return strings.HasSuffix(unit, "/s") }

// ratio compares a row with the row named other: how many times the other's
// time or memory it takes, or what share of the other's rate it reaches.
func (t *table) ratio(r row, other string) string {
	for _, o := range t.Rows {
		if o.Name == other && o.Median > 0 && r.Median > 0 && o.Unit == r.Unit {
			return figure(r.Median/o.Median) + "×"
		}
	}
	return ""
}

// figure writes a number with three significant digits.
func figure(v float64) string {
	switch {
	case v == 0:
		return ""
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// promise writes a budget with its tail and its goal.
func promise(r row) string {
	if r.Budget == 0 {
		return ""
	}
	sign := "≤"
	if rising(r.Unit) {
		sign = "≥"
	}
	text := sign + figureShort(r.Budget)
	if r.P99Budget > 0 {
		text += "/" + figureShort(r.P99Budget)
	}
	if r.Goal > 0 {
		text += " (goal " + figureShort(r.Goal) + ")"
	}
	return text
}

func figureShort(v float64) string { return fmt.Sprintf("%.4g", v) }

// oneCell keeps a text within its cell.
var oneCell = strings.NewReplacer("|", "/", "\n", " ", "\t", " ", "\r", " ")

// markdown writes the table, its columns aligned so that it can also be read as it is.
func (t *table) markdown(w io.Writer) error {
	cells := [][]string{{"what", "n", "median", "p99", "unit", "budget", "× floor", "× peer", "how"}}
	for _, r := range t.Rows {
		samples, middle := "", figure(r.Median)
		if r.Samples > 0 {
			samples = fmt.Sprint(r.Samples)
		}
		if r.Median == 0 {
			middle = "–"
		}
		cells = append(cells, []string{
			r.Name, samples, middle, figure(r.P99), r.Unit, promise(r), t.ratio(r, r.Floor), t.ratio(r, r.Peer), oneCell.Replace(r.Note),
		})
	}
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	for _, line := range slices.Insert(cells, 1, rule) {
		var b strings.Builder
		for i, cell := range line {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-len([]rune(cell))) + " ")
		}
		if _, err := fmt.Fprintln(w, b.String()+"|"); err != nil {
			return err
		}
	}
	return nil
}

// json writes environment and rows.
func (t *table) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(t)
}
