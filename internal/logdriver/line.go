package logdriver

import (
	"bytes"
	"regexp"
	"time"
	"unicode/utf8"

	"longshore.dev/longshore/internal/runtime"
)

// maxEventBytes is the most that one event's message may hold, as with Docker:
// 256 KiB less what CloudWatch Logs counts for an event.
const maxEventBytes = 256<<10 - eventOverhead

// event is one log event: valid UTF-8, not empty, at most maxEventBytes.
type event struct {
	at   time.Time
	text string
}

// assembler makes events of one stream's chunks: it cuts lines, which may
// begin and end in the middle of chunks, and joins lines that belong together.
type assembler struct {
	start *regexp.Regexp // see awslogsSettings
	emit  func(event)

	// line is the unfinished line, joined the unfinished event of several lines.
	line, joined     []byte
	lineAt, joinedAt time.Time
	// lineFrom and joinedFrom are where the chunks begin in which those begin.
	lineFrom, joinedFrom place
	// changed is when joined last grew.
	changed time.Time
}

// place is a place in the spool: its cursor, and how many bytes this run read before.
type place struct{ cursor, bytes int64 }

// unfinished returns the place beyond which nothing must be acknowledged, because
// reading has to go on there after a restart.
func (a *assembler) unfinished() (from place, ok bool) {
	switch {
	case len(a.joined) > 0:
		return a.joinedFrom, true
	case len(a.line) > 0:
		return a.lineFrom, true
	}
	return place{}, false
}

// add takes a chunk's data; from is the place before the chunk, now the time.
func (a *assembler) add(c runtime.Chunk, from place, now time.Time) {
	data := c.Data
	for len(data) > 0 {
		if len(a.line) == 0 {
			a.lineAt, a.lineFrom = c.At, from
		}
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			a.line = append(a.line, data[:i]...)
			data = data[i+1:]
			a.endLine(now)
			continue
		}
		a.line = append(a.line, data...)
		data = nil
		for len(a.line) > maxEventBytes {
			n := cut(a.line, maxEventBytes)
			rest := a.line[n:]
			a.line = a.line[:n]
			a.finishLine(now)
			a.line = append(a.line, rest...)
			a.lineAt, a.lineFrom = c.At, from
		}
	}
	// A long line that is done leaves no large buffer behind.
	if len(a.line) == 0 && cap(a.line) > 64<<10 {
		a.line = nil
	}
}

// endLine finishes a line of which the end was seen.
func (a *assembler) endLine(now time.Time) {
	if n := len(a.line); n > 0 && a.line[n-1] == '\r' {
		a.line = a.line[:n-1]
	}
	a.finishLine(now)
}

// finishLine makes an event of the line, or a part of one.
func (a *assembler) finishLine(now time.Time) {
	if a.start == nil {
		a.send(a.lineAt, a.line)
		a.line = a.line[:0]
		return
	}
	if len(a.joined)+len(a.line)+1 > maxEventBytes || a.start.Match(a.line) {
		a.flushJoined()
	}
	if len(a.joined) == 0 {
		a.joinedAt, a.joinedFrom = a.lineAt, a.lineFrom
	}
	a.joined = append(append(a.joined, a.line...), '\n') // as Docker does, after the last line too
	a.changed = now
	a.line = a.line[:0]
}

func (a *assembler) flushJoined() {
	a.send(a.joinedAt, a.joined)
	a.joined = a.joined[:0]
}

// flush finishes everything: at the end of the output, or when too much waits.
func (a *assembler) flush(now time.Time) {
	if len(a.line) > 0 {
		a.finishLine(now)
	}
	if len(a.joined) > 0 {
		a.flushJoined()
	}
}

// send emits text as one event, or as several when it becomes too long. Empty
// text makes none: CloudWatch Logs takes no empty events.
func (a *assembler) send(at time.Time, text []byte) {
	valid := validUTF8(text)
	for len(valid) > 0 {
		n := cut(valid, maxEventBytes)
		a.emit(event{at, string(valid[:n])})
		valid = valid[n:]
	}
}

// cut returns where to cut text so that at most n bytes stand before and no
// character is cut apart.
func cut(text []byte, n int) int {
	if len(text) <= n {
		return len(text)
	}
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return n // not UTF-8
}

// validUTF8 replaces every byte that is not part of a character by U+FFFD, as
// JSON does.
func validUTF8(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/2)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		out = utf8.AppendRune(out, r)
		text = text[n:]
	}
	return out
}
