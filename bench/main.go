package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// wholeLimit bounds a run.
const wholeLimit = 30 * time.Minute

// bench is one run.
type bench struct {
	binary string
	dir    string // of all that the run leaves on disk; removed at its end
	quick  bool
	steps  bool
	table  table
}

// subject is a group of rows that is measured together.
type subject struct {
	name string
	run  func(context.Context, *bench) error
}

func subjects() []subject {
	return []subject{
		{"start", measureStart},
		{"memory", measureMemory},
		{"containers", measureContainers},
		{"storm", measureStorm},
		{"images", measureImages},
		{"output", measureOutput},
		{"logs", measureLogs},
		{"wire", measureWire},
		{"api", measureAPI},
		{"fleet", measureFleet},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work := run
	if config, ok := agentsOf(); ok {
		work = func(ctx context.Context) error { return runAgents(ctx, config) }
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	b := &bench{}
	var only, jsonFile, dir string
	flag.StringVar(&only, "run", "", "measure the subjects that match this `regexp`: start, memory, containers, storm, images, output, logs, wire, api, fleet")
	flag.StringVar(&jsonFile, "json", "", "also write the figures as JSON to this `file`")
	flag.StringVar(&dir, "dir", "/var/tmp", "`directory` for data; its file system is what is measured")
	flag.StringVar(&b.binary, "longshore", "bin/longshore", "the `program` to measure")
	flag.BoolVar(&b.quick, "quick", false, "take few samples")
	flag.BoolVar(&b.steps, "steps", false, "also show where the time of a task's start goes")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("there is no program to measure (make build makes it): %w", err)
	}
	if b.dir, err = os.MkdirTemp(dir, "longshore-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	ctx, cancel := context.WithTimeout(ctx, wholeLimit)
	defer cancel()
	b.table.Environment = environment(ctx, b.binary, b.dir)
	began := time.Now()
	b.measure(ctx, pattern)
	b.table.Environment = append(b.table.Environment, fmt.Sprintf("load at the end: %s; the run took %s", loadAverage(), time.Since(began).Round(time.Second)))
	return b.report(jsonFile)
}

// measure runs the subjects that match. One that fails is a row that says so;
// the others still count.
func (b *bench) measure(ctx context.Context, pattern *regexp.Regexp) {
	for _, s := range subjects() {
		if ctx.Err() != nil || !pattern.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		first := len(b.table.Rows)
		if err := s.run(ctx, b); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", s.name, err)
			b.add(row{Name: s.name + " (failed)", Note: clip(err.Error(), 160)})
		}
		for i := range b.table.Rows[first:] {
			b.table.Rows[first+i].Subject = s.name
		}
	}
}

func (b *bench) add(r row) { b.table.Rows = append(b.table.Rows, r) }

// samples is how many samples to take: n, or few.
func (b *bench) samples(n, few int) int {
	if b.quick {
		return few
	}
	return n
}

func (b *bench) report(jsonFile string) error {
	for _, line := range b.table.Environment {
		fmt.Println("- " + line)
	}
	fmt.Println()
	if err := b.table.markdown(os.Stdout); err != nil {
		return err
	}
	if jsonFile == "" {
		return nil
	}
	f, err := os.Create(jsonFile)
	if err != nil {
		return err
	}
	return errors.Join(b.table.json(f), f.Close())
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
