package logdriver

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"longshore.dev/longshore/internal/runtime"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		driver  string
		options map[string]string
		output  runtime.Output
		stream  string
	}{
		"no configuration is json-file": {"", nil, runtime.Output{NonBlocking: true, MaxBytes: 64 << 20}, ""},
		"json-file in rotation":         {JSONFile, map[string]string{"max-size": "10m", "max-file": "3"}, runtime.Output{NonBlocking: true, MaxBytes: 30 << 20}, ""},
		"none":                          {None, nil, runtime.Output{Discard: true}, ""},
		"awslogs by default":            {AWSLogs, map[string]string{"awslogs-group": "g", "awslogs-stream-prefix": "web"}, runtime.Output{NonBlocking: true, MaxBytes: 10 << 20}, "web/app/0123abcd"},
		"awslogs with a buffer":         {AWSLogs, map[string]string{"awslogs-group": "g", "mode": "non-blocking", "max-buffer-size": "25MB"}, runtime.Output{NonBlocking: true, MaxBytes: 25 << 20}, "c0ffee"},
		"awslogs blocking":              {AWSLogs, map[string]string{"awslogs-group": "g", "mode": "blocking", "awslogs-stream": "a:b*c"}, runtime.Output{}, "a_b_c"},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(c.options)
			s, err := Parse(c.driver, c.options, app)
			if err != nil {
				t.Fatal(err)
			}
			if s.Output != c.output {
				t.Errorf("output %+v, want %+v", s.Output, c.output)
			}
			if s.awslogs != nil && s.awslogs.stream != c.stream {
				t.Errorf("stream %q, want %q", s.awslogs.stream, c.stream)
			}
			if !maps.Equal(before, c.options) {
				t.Error("Parse changed the options")
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	ok := map[string]string{"awslogs-group": "g", "awslogs-stream-prefix": "web"}
	for _, c := range []struct {
		driver, option, value, says string
	}{
		{"splunk", "", "", `"splunk" is not supported`},
		{AWSLogs, "awslogs-flavour", "x", "unknown log opt 'awslogs-flavour' for awslogs log driver"},
		{AWSLogs, "awslogs-group", "", "must specify a value for log opt 'awslogs-group'"},
		{AWSLogs, "mode", "lazy", "mode must be blocking or non-blocking"},
		{AWSLogs, "max-buffer-size", "lots", "max-buffer-size must be a size"},
		{AWSLogs, "max-buffer-size", "0m", "max-buffer-size must be more than nothing"},
		{AWSLogs, "awslogs-create-group", "perhaps", "awslogs-create-group must be true or false"},
		{AWSLogs, "awslogs-multiline-pattern", "(", "awslogs-multiline-pattern: could not parse"},
		{AWSLogs, "awslogs-datetime-format", "%Y-%Q", "unknown code %Q"},
		{AWSLogs, "awslogs-datetime-format", "%Y-%", "ends with a single %"},
		{JSONFile, "awslogs-group", "g", "unknown log opt 'awslogs-group' for json-file"},
		{JSONFile, "max-file", "3", "max-file needs max-size"},
		{None, "mode", "blocking", "unknown log opt 'mode' for none"},
	} {
		options := map[string]string{}
		if c.driver == AWSLogs {
			options = maps.Clone(ok)
		}
		if c.option != "" {
			options[c.option] = c.value
		}
		_, err := Parse(c.driver, options, app)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s=%q: %v, want an error about %q", c.driver, c.option, c.value, err, c.says)
		}
	}
	both := maps.Clone(ok)
	both["awslogs-datetime-format"], both["awslogs-multiline-pattern"] = "%Y", "^x"
	if _, err := Parse(AWSLogs, both, app); err == nil || !strings.Contains(err.Error(), "at the same time") {
		t.Errorf("both patterns: %v", err)
	}
	fargate := app
	fargate.Fargate = true
	if _, err := Parse(AWSLogs, map[string]string{"awslogs-group": "g"}, fargate); err == nil || !strings.Contains(err.Error(), "awslogs-stream-prefix") {
		t.Errorf("Fargate without a prefix: %v", err)
	}
	blocking := maps.Clone(ok)
	blocking["mode"], blocking["max-buffer-size"] = "blocking", "1m"
	if _, err := Parse(AWSLogs, blocking, app); err == nil || !strings.Contains(err.Error(), "non-blocking") {
		t.Errorf("a buffer in blocking mode: %v", err)
	}
	nowhere := app
	nowhere.Region = ""
	if _, err := Parse(AWSLogs, ok, nowhere); err == nil || !strings.Contains(err.Error(), "awslogs-region") {
		t.Errorf("without a region: %v", err)
	}
}

func TestDatetimePattern(t *testing.T) {
	for _, c := range []struct {
		format, line string
		want         bool
	}{
		{`\[%b %d, %Y %H:%M:%S\]`, "[May 01, 2017 19:00:01] A message", true},
		{`\[%b %d, %Y %H:%M:%S\]`, "  at com.example.Main", false},
		{`%Y-%m-%dT%H:%M:%S`, "2026-08-10T12:00:00Z x", true},
		{`^%Y-%m-%d`, "x 2026-08-10", false},
		{`%Y-%m-%d`, "2026-13-10", false},
		{`%d/%b/%Y:%H:%M:%S %z`, `10/Oct/2000:13:25:15 -0700`, true},
		{`%I:%M %p`, "09:30 AM", true},
		{`%H:%M:%S%L`, "23:59:59.123", true},
		{`%S,%f`, "59,123456", true},
		{`100%%`, "at 100% now", true},
		{`%A %j`, "Monday 366", true},
	} {
		p, err := datetimePattern(c.format)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		if got := regexp.MustCompile(p).MatchString(c.line); got != c.want {
			t.Errorf("%s on %q: %v, want %v", c.format, c.line, got, c.want)
		}
	}
	for code, p := range datetimeCodes {
		if _, err := regexp.Compile(p); err != nil {
			t.Errorf("%%%c: %v", code, err)
		}
	}
}
