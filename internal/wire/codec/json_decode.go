package codec

import (
	"encoding/base64"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/aws/smithy-go/document"
)

// DecodeJSON decodes a JSON object into v, a pointer to a struct, and records in
// p (may be nil) the zero scalars that were given. An empty body is an empty
// object. Its errors about the input are *Error.
func (c *Codec) DecodeJSON(data []byte, v any, p *Presence) error {
	rv, s, err := c.structValue(v)
	if err != nil {
		return err
	}
	d := &jsonDecoder{codec: c, data: data}
	d.presence = p
	d.space()
	if d.pos == len(d.data) {
		return nil
	}
	if err := d.value(s, rv); err != nil {
		return err
	}
	d.space()
	if d.pos != len(d.data) {
		return d.errorf("Unexpected character after the end of the document at offset %d", d.pos)
	}
	return nil
}

// value decodes the next value into v, which is settable.
func (d *jsonDecoder) value(s *shape, v reflect.Value) error {
	if s.kind == kindPointer {
		if d.null() {
			return nil
		}
		if err := d.spend(s.elem.typ, 1); err != nil {
			return err
		}
		v.Set(reflect.New(s.elem.typ))
		return d.value(s.elem, v.Elem())
	}
	if s.kind != kindDocument && d.null() {
		return nil
	}
	switch s.kind {
	case kindString:
		str, err := d.stringValue()
		if err != nil {
			return err
		}
		v.SetString(str)
		return nil
	case kindBool:
		return d.boolValue(s, v)
	case kindInt:
		return d.intValue(s, v)
	case kindFloat:
		return d.floatValue(s, v)
	case kindTime:
		return d.timeValue(v)
	case kindBlob:
		return d.blobValue(v)
	case kindStruct:
		return d.structValue(s, v)
	case kindList:
		return d.listValue(s, v)
	case kindMap:
		return d.mapValue(s, v)
	case kindUnion:
		return d.unionValue(s, v)
	case kindDocument:
		return d.documentValue(v)
	}
	return d.errorf("cannot decode a %v", s.typ)
}

// structValue decodes an object. A member given twice: the last one wins.
func (d *jsonDecoder) structValue(s *shape, v reflect.Value) error {
	return d.object("structure", func(key []byte) error {
		i, ok := s.byName[string(key)]
		if !ok {
			return d.skip()
		}
		m := &s.members[i]
		if err := d.push(step{name: m.name}); err != nil {
			return err
		}
		f := v.Field(m.field)
		null := d.peekNull()
		f.SetZero()
		if err := d.value(m.shape, f); err != nil {
			return err
		}
		if !null {
			d.saw(m.shape, f)
		}
		d.pop()
		return nil
	})
}

func (d *jsonDecoder) unionValue(s *shape, v reflect.Value) error {
	found := false
	err := d.object("structure", func(key []byte) error {
		i, ok := s.byName[string(key)]
		if !ok {
			return d.skip()
		}
		m := &s.members[i]
		if d.null() {
			return nil
		}
		if found {
			return d.errorf("A union holds more than one member")
		}
		found = true
		if err := d.push(step{name: m.name}); err != nil {
			return err
		}
		whole, value := m.newVariant()
		if err := d.value(m.shape, value); err != nil {
			return err
		}
		d.pop()
		v.Set(whole)
		return nil
	})
	if err == nil && !found {
		return d.errorf("A union holds none of its members")
	}
	return err
}

func (d *jsonDecoder) listValue(s *shape, v reflect.Value) error {
	if d.peek() != '[' {
		return d.unexpected("list")
	}
	d.pos++
	v.Set(reflect.MakeSlice(s.typ, 0, 0))
	d.space()
	if d.peek() == ']' {
		d.pos++
		return nil
	}
	for n := 0; ; n++ {
		if err := d.push(step{index: n + 1}); err != nil {
			return err
		}
		if d.peekNull() && s.elem.kind != kindDocument {
			return d.errorf("A list's element is null")
		}
		if err := d.spend(s.elem.typ, 1); err != nil {
			return err
		}
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		v.Index(n).SetZero()
		if err := d.value(s.elem, v.Index(n)); err != nil {
			return err
		}
		d.pop()
		more, err := d.more(']')
		if err != nil || !more {
			return err
		}
	}
}

func (d *jsonDecoder) mapValue(s *shape, v reflect.Value) error {
	m := reflect.MakeMap(s.typ)
	v.Set(m)
	return d.object("map", func(key []byte) error {
		k := reflect.New(s.typ.Key()).Elem()
		k.SetString(string(key))
		if err := d.push(step{name: k.String(), index: -1}); err != nil {
			return err
		}
		if d.peekNull() && s.elem.kind != kindDocument {
			return d.errorf("A map's value is null")
		}
		if err := d.spend(s.elem.typ, 1); err != nil {
			return err
		}
		e := reflect.New(s.elem.typ).Elem()
		if err := d.value(s.elem, e); err != nil {
			return err
		}
		d.pop()
		m.SetMapIndex(k, e)
		return nil
	})
}

func (d *jsonDecoder) boolValue(s *shape, v reflect.Value) error {
	switch {
	case d.literal("true"):
		v.SetBool(true)
	case d.literal("false"):
		v.SetBool(false)
	default:
		return d.mismatch("Boolean")
	}
	return nil
}

func (d *jsonDecoder) intValue(s *shape, v reflect.Value) error {
	text, err := d.number("Integer")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		// 1e3 and 5.0 are integers too; nothing else with a point or exponent is.
		f, ferr := strconv.ParseFloat(string(text), 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 || isDigits(text) {
			return d.errorf("%s can not be converted to a %d-bit integer", clip(string(text)), s.bits)
		}
		n = int64(f)
	}
	if v.OverflowInt(n) {
		return d.errorf("%d is out of the range of a %d-bit integer", n, s.bits)
	}
	v.SetInt(n)
	return nil
}

func isDigits(b []byte) bool {
	for i, c := range b {
		if (c < '0' || c > '9') && !(i == 0 && c == '-') {
			return false
		}
	}
	return true
}

func (d *jsonDecoder) floatValue(s *shape, v reflect.Value) error {
	if d.peek() == '"' {
		str, err := d.stringValue()
		if err != nil {
			return err
		}
		f, ok := specialFloat(str)
		if !ok {
			return d.errorf("STRING_VALUE can not be converted to a Double")
		}
		v.SetFloat(f)
		return nil
	}
	text, err := d.number("Double")
	if err != nil {
		return err
	}
	f, err := strconv.ParseFloat(string(text), s.bits)
	if err != nil {
		return d.errorf("%s is out of the range of a %d-bit number", clip(string(text)), s.bits)
	}
	v.SetFloat(f)
	return nil
}

// specialFloat knows the floats that have no number in JSON.
func specialFloat(s string) (float64, bool) {
	switch s {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	return 0, false
}

func (d *jsonDecoder) timeValue(v reflect.Value) error {
	var t time.Time
	var ok bool
	if d.peek() == '"' {
		str, err := d.stringValue()
		if err != nil {
			return err
		}
		if t, ok = parseTime(str); !ok {
			return d.errorf("STRING_VALUE can not be converted to a Timestamp: %s", clip(str))
		}
	} else {
		text, err := d.number("Timestamp")
		if err != nil {
			return err
		}
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return d.errorf("%s is out of the range of a Timestamp", clip(string(text)))
		}
		if t, ok = epoch(f); !ok {
			return d.errorf("%s is out of the range of a Timestamp", clip(string(text)))
		}
	}
	v.Set(reflect.ValueOf(t))
	return nil
}

// epoch converts seconds since 1970; beyond the years 1 to 9999 it is not ok.
func epoch(seconds float64) (time.Time, bool) {
	const first, last = -62135596800, 253402300799
	if !(seconds >= first && seconds <= last) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), true
}

// parseTime reads ISO 8601 as AWS's services do: with or without fraction and
// offset, or a date alone.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func (d *jsonDecoder) blobValue(v reflect.Value) error {
	str, err := d.stringValue()
	if err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(str)
	if err != nil {
		return d.errorf("STRING_VALUE can not be converted to a Blob: it is not base64")
	}
	v.SetBytes(b)
	return nil
}

func (d *jsonDecoder) documentValue(v reflect.Value) error {
	doc, err := d.any()
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(d.codec.opts.NewDocument(doc)))
	return nil
}

// any decodes a document: its numbers keep their digits.
func (d *jsonDecoder) any() (any, error) {
	if err := d.spend(typeAny, 4); err != nil {
		return nil, err
	}
	switch c := d.peek(); {
	case c == '{':
		m := map[string]any{}
		err := d.object("document", func(key []byte) error {
			k := string(key)
			e, err := d.any()
			m[k] = e
			return err
		})
		return m, err
	case c == '[':
		return d.anyList()
	case c == '"':
		return d.stringValue()
	case d.literal("true"):
		return true, nil
	case d.literal("false"):
		return false, nil
	case d.null():
		return nil, nil
	}
	text, err := d.number("Document")
	return document.Number(text), err
}

func (d *jsonDecoder) anyList() (any, error) {
	list := []any{}
	err := d.array(func() error {
		e, err := d.any()
		list = append(list, e)
		return err
	})
	return list, err
}
