package codec

import (
	"unicode/utf16"
	"unicode/utf8"
)

// jsonDecoder reads JSON text from front to back.
type jsonDecoder struct {
	trail
	codec *Codec
	data  []byte
	pos   int
	depth int
	// scratch holds a string with escapes while it is decoded.
	scratch []byte
}

func (d *jsonDecoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (d *jsonDecoder) peek() byte {
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

// literal consumes word if it is next.
func (d *jsonDecoder) literal(word string) bool {
	end := d.pos + len(word)
	if end > len(d.data) || string(d.data[d.pos:end]) != word {
		return false
	}
	if end < len(d.data) && isWordByte(d.data[end]) {
		return false
	}
	d.pos = end
	return true
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

func (d *jsonDecoder) null() bool { return d.peek() == 'n' && d.literal("null") }

func (d *jsonDecoder) peekNull() bool {
	at := d.pos
	is := d.null()
	d.pos = at
	return is
}

// unexpected says that something else than a what stands here.
func (d *jsonDecoder) unexpected(what string) error {
	switch c := d.peek(); {
	case d.pos >= len(d.data):
		return d.errorf("Unexpected end of input: expected a %s", what)
	case c == '{':
		return d.errorf("Start of structure or map found where not expected: expected a %s", what)
	case c == '[':
		return d.errorf("Start of list found where not expected: expected a %s", what)
	case c == '"':
		return d.errorf("Unexpected field type: a string, expected a %s", what)
	case c == '-' || c >= '0' && c <= '9':
		return d.errorf("Unexpected field type: a number, expected a %s", what)
	case d.literal("true"), d.literal("false"):
		return d.errorf("Unexpected field type: a boolean, expected a %s", what)
	}
	return d.errorf("Unexpected character %q at offset %d: expected a %s", d.peek(), d.pos, what)
}

// mismatch says, as AWS does, that the scalar here is not a what.
func (d *jsonDecoder) mismatch(what string) error {
	switch c := d.peek(); {
	case c == '"':
		return d.errorf("STRING_VALUE can not be converted to %s %s", article(what), what)
	case c == '-' || c >= '0' && c <= '9':
		return d.errorf("NUMBER_VALUE can not be converted to %s %s", article(what), what)
	case d.literal("true"):
		return d.errorf("TRUE_VALUE can not be converted to %s %s", article(what), what)
	case d.literal("false"):
		return d.errorf("FALSE_VALUE can not be converted to %s %s", article(what), what)
	}
	return d.unexpected(what)
}

func article(what string) string {
	if what[0] == 'I' {
		return "an"
	}
	return "a"
}

// object consumes an object and calls member at each value, with its key, which
// is valid until the next read.
func (d *jsonDecoder) object(what string, member func(key []byte) error) error {
	if d.peek() != '{' {
		return d.unexpected(what)
	}
	if d.depth++; d.depth > maxDepth {
		return d.errorf("Nesting is deeper than %d levels", maxDepth)
	}
	d.pos++
	d.space()
	if d.peek() == '}' {
		d.pos++
		d.depth--
		return nil
	}
	for {
		if d.peek() != '"' {
			return d.unexpected("member name")
		}
		key, err := d.text()
		if err != nil {
			return err
		}
		d.space()
		if d.peek() != ':' {
			return d.unexpected("colon")
		}
		d.pos++
		d.space()
		if err := member(key); err != nil {
			return err
		}
		more, err := d.more('}')
		if err != nil {
			return err
		}
		if !more {
			d.depth--
			return nil
		}
	}
}

// array consumes a list and calls element at each value.
func (d *jsonDecoder) array(element func() error) error {
	if d.depth++; d.depth > maxDepth {
		return d.errorf("Nesting is deeper than %d levels", maxDepth)
	}
	d.pos++
	d.space()
	if d.peek() == ']' {
		d.pos++
		d.depth--
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		more, err := d.more(']')
		if err != nil {
			return err
		}
		if !more {
			d.depth--
			return nil
		}
	}
}

// more consumes what follows an element: a comma (true) or the end (false).
func (d *jsonDecoder) more(end byte) (bool, error) {
	d.space()
	switch d.peek() {
	case ',':
		d.pos++
		d.space()
		return true, nil
	case end:
		d.pos++
		return false, nil
	}
	return false, d.unexpected("comma or closing bracket")
}

// skip consumes one value of any kind, checking that it is JSON.
func (d *jsonDecoder) skip() error {
	switch c := d.peek(); {
	case c == '{':
		return d.object("value", func([]byte) error { return d.skip() })
	case c == '[':
		return d.array(d.skip)
	case c == '"':
		_, err := d.text()
		return err
	case d.literal("true"), d.literal("false"), d.null():
		return nil
	}
	_, err := d.number("value")
	return err
}

// number consumes a number and returns its text, which JSON's grammar allows.
func (d *jsonDecoder) number(what string) ([]byte, error) {
	start := d.pos
	c := d.peek()
	if c != '-' && (c < '0' || c > '9') {
		return nil, d.mismatch(what)
	}
	if c == '-' {
		d.pos++
	}
	if d.peek() == '0' {
		d.pos++
	} else if !d.digits() {
		return nil, d.errorf("Malformed number at offset %d", start)
	}
	if d.peek() == '.' {
		d.pos++
		if !d.digits() {
			return nil, d.errorf("Malformed number at offset %d", start)
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.pos++
		if c := d.peek(); c == '+' || c == '-' {
			d.pos++
		}
		if !d.digits() {
			return nil, d.errorf("Malformed number at offset %d", start)
		}
	}
	return d.data[start:d.pos], nil
}

func (d *jsonDecoder) digits() bool {
	start := d.pos
	for c := d.peek(); c >= '0' && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos > start
}

func (d *jsonDecoder) stringValue() (string, error) {
	if d.peek() != '"' {
		return "", d.mismatch("String")
	}
	b, err := d.text()
	return string(b), err
}

// text consumes a string. The result is valid until the next call.
func (d *jsonDecoder) text() ([]byte, error) {
	d.pos++
	start := d.pos
	ascii := true
	for ; d.pos < len(d.data); d.pos++ {
		switch c := d.data[d.pos]; {
		case c == '"':
			b := d.data[start:d.pos]
			d.pos++
			if !ascii && !utf8.Valid(b) {
				return nil, d.errorf("Invalid UTF-8 in a string")
			}
			return b, nil
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return nil, d.errorf("Unescaped control character 0x%02x in a string", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, d.errorf("Unexpected end of input in a string")
}

// escaped consumes the rest of a string whose first escape is at d.pos.
func (d *jsonDecoder) escaped(start int) ([]byte, error) {
	buf := append(d.scratch[:0], d.data[start:d.pos]...)
	for d.pos < len(d.data) {
		c := d.data[d.pos]
		d.pos++
		switch {
		case c == '"':
			d.scratch = buf
			if !utf8.Valid(buf) {
				return nil, d.errorf("Invalid UTF-8 in a string")
			}
			return buf, nil
		case c < ' ':
			return nil, d.errorf("Unescaped control character 0x%02x in a string", c)
		case c != '\\':
			buf = append(buf, c)
		default:
			var ok bool
			if buf, ok = d.escape(buf); !ok {
				return nil, d.errorf("Malformed escape in a string")
			}
		}
	}
	return nil, d.errorf("Unexpected end of input in a string")
}

func (d *jsonDecoder) escape(buf []byte) ([]byte, bool) {
	c := d.peek()
	d.pos++
	switch c {
	case '"', '\\', '/':
		return append(buf, c), true
	case 'b':
		return append(buf, '\b'), true
	case 'f':
		return append(buf, '\f'), true
	case 'n':
		return append(buf, '\n'), true
	case 'r':
		return append(buf, '\r'), true
	case 't':
		return append(buf, '\t'), true
	case 'u':
		r, ok := d.hex4()
		if utf16.IsSurrogate(r) {
			r = d.lowSurrogate(r)
		}
		return utf8.AppendRune(buf, r), ok
	}
	return buf, false
}

// lowSurrogate consumes the second half of a pair; without one the result is
// the replacement character.
func (d *jsonDecoder) lowSurrogate(high rune) rune {
	at := d.pos
	if d.peek() == '\\' {
		d.pos++
		if d.peek() == 'u' {
			d.pos++
			if low, ok := d.hex4(); ok {
				if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
					return r
				}
			}
		}
	}
	d.pos = at
	return utf8.RuneError
}

func (d *jsonDecoder) hex4() (rune, bool) {
	if d.pos+4 > len(d.data) {
		return 0, false
	}
	var r rune
	for _, c := range d.data[d.pos : d.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.pos += 4
	return r, true
}
