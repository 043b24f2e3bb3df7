package logdriver

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"longshore.dev/longshore/internal/runtime"
)

// The drivers served.
const (
	AWSLogs  = "awslogs"
	JSONFile = "json-file"
	None     = "none"
)

// Defaults and bounds of what the shim keeps.
const (
	defaultBuffer   = 10 << 20 // max-buffer-size, as ECS documents it
	defaultJSONFile = 64 << 20
	minKept         = 64 << 10
	maxKept         = 4 << 30
)

// Settings is a parsed log configuration.
type Settings struct {
	// Driver is the driver's name.
	Driver string
	// Output is how the shim shall keep the container's output.
	Output runtime.Output

	container Container
	awslogs   *awslogsSettings
}

// awslogsSettings are the options of the awslogs driver.
type awslogsSettings struct {
	group, stream             string
	region, endpoint          string
	createGroup, createStream bool
	// start matches lines that begin an event of several lines; nil: every line is one.
	start *regexp.Regexp
	// idle ends such an event when no line follows.
	idle      time.Duration
	maxEvents int
}

// Parse reads a log configuration: the driver's name (empty means json-file, as
// with Docker) and its options, in which secrets have been resolved. The error
// names the option that is wrong.
func Parse(driver string, options map[string]string, c Container) (Settings, error) {
	s := Settings{Driver: cmp.Or(driver, JSONFile), container: c}
	o := optionReader{driver: s.Driver, left: maps.Clone(options)}
	switch s.Driver {
	case AWSLogs:
		s.awslogs = o.awslogs(c)
		s.Output = o.output()
	case JSONFile:
		s.Output = o.jsonFile()
	case None:
		s.Output = runtime.Output{Discard: true}
	default:
		return Settings{}, fmt.Errorf("log driver %q is not supported here: use awslogs, json-file or none", driver)
	}
	if err := o.finish(); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// optionReader takes options out of a map and keeps the first error.
type optionReader struct {
	driver string
	left   map[string]string
	err    error
}

func (o *optionReader) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

func (o *optionReader) take(name string) (value string, given bool) {
	value, given = o.left[name]
	delete(o.left, name)
	return value, given
}

func (o *optionReader) boolean(name string, otherwise bool) bool {
	value, given := o.take(name)
	if !given {
		return otherwise
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		o.fail("log option %s must be true or false, not %q", name, value)
	}
	return b
}

func (o *optionReader) positive(name string, otherwise int) int {
	value, given := o.take(name)
	if !given {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 || n > math.MaxInt32 {
		o.fail("log option %s must be a positive number, not %q", name, value)
	}
	return n
}

var sizePattern = regexp.MustCompile(`^(\d{1,15})\s?([kKmMgGtT]?)[iI]?[bB]?$`)

// size reads a number of bytes such as 512k or 10m.
func (o *optionReader) size(name string, otherwise int64) int64 {
	value, given := o.take(name)
	if !given {
		return otherwise
	}
	m := sizePattern.FindStringSubmatch(strings.TrimSpace(value))
	if m == nil {
		o.fail("log option %s must be a size such as 512k or 10m, not %q", name, value)
		return otherwise
	}
	n, _ := strconv.ParseFloat(m[1], 64) // 15 digits are exact
	shift := map[string]int{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.ToLower(m[2])]
	n *= float64(int64(1) << shift)
	if n < 1 {
		o.fail("log option %s must be more than nothing, not %q", name, value)
	}
	return int64(min(max(n, minKept), maxKept))
}

// finish refuses what was not taken.
func (o *optionReader) finish() error {
	if o.err == nil && len(o.left) > 0 {
		return fmt.Errorf("unknown log opt '%s' for %s log driver", slices.Sorted(maps.Keys(o.left))[0], o.driver)
	}
	return o.err
}

// output reads the options about the delivery mode that awslogs has from Docker.
// ECS's default is non-blocking.
func (o *optionReader) output() runtime.Output {
	mode, given := o.take("mode")
	if given && mode != "blocking" && mode != "non-blocking" {
		o.fail("log option mode must be blocking or non-blocking, not %q", mode)
	}
	if mode == "blocking" {
		if _, given := o.take("max-buffer-size"); given {
			o.fail("log option max-buffer-size is only supported with mode=non-blocking")
		}
		return runtime.Output{}
	}
	return runtime.Output{NonBlocking: true, MaxBytes: o.size("max-buffer-size", defaultBuffer)}
}

// jsonFile reads the options of json-file: the output is kept in the spool, the
// oldest is dropped at the bound.
func (o *optionReader) jsonFile() runtime.Output {
	if mode, given := o.take("mode"); given && mode != "blocking" && mode != "non-blocking" {
		o.fail("log option mode must be blocking or non-blocking, not %q", mode)
	}
	_ = o.size("max-buffer-size", 0) // nothing waits for json-file: there is nothing to buffer
	_, rotated := o.left["max-size"]
	size := o.size("max-size", defaultJSONFile)
	files := o.positive("max-file", 1)
	if files > 1 && !rotated {
		o.fail("log option max-file needs max-size")
	}
	o.boolean("compress", false) // the spool is not compressed, which nobody sees
	return runtime.Output{NonBlocking: true, MaxBytes: int64(min(float64(size)*float64(files), maxKept))}
}

func (o *optionReader) awslogs(c Container) *awslogsSettings {
	s := &awslogsSettings{}
	s.group, _ = o.take("awslogs-group")
	if s.group == "" {
		o.fail("must specify a value for log opt 'awslogs-group'")
	}
	s.region, _ = o.take("awslogs-region")
	if s.region = cmp.Or(s.region, c.Region); s.region == "" {
		o.fail("must specify a value for log opt 'awslogs-region'")
	}
	s.endpoint, _ = o.take("awslogs-endpoint")
	s.createGroup = o.boolean("awslogs-create-group", false)
	s.createStream = o.boolean("awslogs-create-stream", true)
	s.stream = o.streamName(c)
	s.start = o.eventStart()
	s.idle = time.Duration(o.positive("awslogs-force-flush-interval-seconds", 1)) * time.Second
	s.maxEvents = min(o.positive("awslogs-max-buffered-events", maxBatchEvents), maxBatchEvents)
	return s
}

// streamName returns prefix/container/task, as ECS names streams; or what the
// options say; or the container's id, as Docker does.
func (o *optionReader) streamName(c Container) string {
	prefix, prefixed := o.take("awslogs-stream-prefix")
	name, named := o.take("awslogs-stream")
	switch {
	case prefixed && prefix != "":
		name = prefix + "/" + c.Name + "/" + c.TaskID
	case c.Fargate:
		o.fail("must specify a value for log opt 'awslogs-stream-prefix' on Fargate")
	case !named || name == "":
		name = c.ID
	}
	return strings.NewReplacer(":", "_", "*", "_").Replace(name) // stream names cannot hold them
}

// eventStart returns the pattern of lines that begin an event of several lines.
func (o *optionReader) eventStart() *regexp.Regexp {
	format, hasFormat := o.take("awslogs-datetime-format")
	pattern, hasPattern := o.take("awslogs-multiline-pattern")
	name := "awslogs-multiline-pattern"
	switch {
	case hasFormat && hasPattern:
		o.fail("you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time")
		return nil
	case hasFormat:
		name = "awslogs-datetime-format"
		var err error
		if pattern, err = datetimePattern(format); err != nil {
			o.fail("log option %s: %w", name, err)
			return nil
		}
	case !hasPattern:
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		o.fail("log option %s: could not parse %q: %w", name, pattern, err)
	}
	return re
}
