package logdriver

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"longshore.dev/longshore/internal/runtime"
)

// assemble cuts chunks of one stream into events.
func assemble(start string, chunks ...string) []string {
	var got []string
	a := &assembler{emit: func(e event) { got = append(got, e.text) }}
	if start != "" {
		a.start = regexp.MustCompile(start)
	}
	now := time.Unix(1e9, 0)
	for i, c := range chunks {
		a.add(runtime.Chunk{Data: []byte(c), At: now}, place{cursor: int64(i)}, now)
	}
	a.flush(now)
	return got
}

func TestLines(t *testing.T) {
	long := strings.Repeat("ü", maxEventBytes) // two bytes each
	for name, c := range map[string]struct {
		start        string
		chunks, want []string
	}{
		"lines":                       {"", []string{"a\nb\n"}, []string{"a", "b"}},
		"a line over several chunks":  {"", []string{"one ", "two", " three\nfour\nfi", "ve\n"}, []string{"one two three", "four", "five"}},
		"the last line without end":   {"", []string{"a\nb"}, []string{"a", "b"}},
		"empty lines make no event":   {"", []string{"\n\n\r\na\n\n"}, []string{"a"}},
		"CRLF":                        {"", []string{"a\r\nb\r", "\nc\rd\n"}, []string{"a", "b", "c\rd"}},
		"NUL and tabs stay":           {"", []string{"a\x00b\tc\n"}, []string{"a\x00b\tc"}},
		"invalid UTF-8":               {"", []string{"a\xff\xfeb\n"}, []string{"a\uFFFD\uFFFDb"}},
		"a character over two chunks": {"", []string{"gr\xc3", "\xb6\xc3\x9fe\n"}, []string{"größe"}},
		"long lines are cut between characters": {"", []string{long + "end\n"},
			[]string{long[:maxEventBytes], long[maxEventBytes : 2*maxEventBytes], "end"}},
		"several lines are one event":      {"^[0-9]", []string{"1 a\n  b\n", "  c\n2 d\n"}, []string{"1 a\n  b\n  c\n", "2 d\n"}},
		"lines before the first start":     {"^[0-9]", []string{"x\ny\n1 a\n"}, []string{"x\ny\n", "1 a\n"}},
		"empty lines are part of an event": {"^[0-9]", []string{"1 a\n\nb\n"}, []string{"1 a\n\nb\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := assemble(c.start, c.chunks...); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("got %.200q, want %.200q", got, c.want)
			}
		})
	}
}

func TestLongEventsOfSeveralLinesAreCut(t *testing.T) {
	line := strings.Repeat("x", 99_999) + "\n"
	got := assemble("^START", "START\n", line, line, line, line)
	if len(got) != 2 || len(got[0]) != 6+2*100_000 || strings.Join(got, "") != "START\n"+strings.Repeat(line, 4) {
		t.Errorf("%d events", len(got))
	}
}

// However the output is cut into chunks, the events are the same, every event is
// valid and bounded, and nothing but line ends is lost.
func TestChunksDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.StringMatching(`[a-zé✓]{0,20}\n`), rapid.StringMatching(`[0-9 ]{1,10}`), rapid.Just("\n"), rapid.Just("\xff"))
		text := strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(t, "text"), "")
		start := rapid.SampledFrom([]string{"", "^[0-9]"}).Draw(t, "start")
		var chunks []string
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "chunk")
			chunks = append(chunks, rest[:n])
			rest = rest[n:]
		}
		got, want := assemble(start, chunks...), assemble(start, text)
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("in chunks %q\n at once %q", got, want)
		}
		for _, e := range got {
			if e == "" || !utf8.ValidString(e) || len(e) > maxEventBytes {
				t.Fatalf("event %q", e)
			}
		}
		kept := func(s string) string { return strings.ReplaceAll(string(validUTF8([]byte(s))), "\n", "") }
		if strings.ReplaceAll(strings.Join(got, ""), "\n", "") != kept(text) {
			t.Fatalf("events %q of %q", got, text)
		}
	})
}
