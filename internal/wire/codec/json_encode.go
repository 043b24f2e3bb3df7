package codec

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/smithy-go/document"
)

// AppendJSON appends v, a pointer to a struct, as a JSON object.
func (c *Codec) AppendJSON(dst []byte, v any) ([]byte, error) {
	rv, s, err := c.structValue(v)
	if err != nil {
		return dst, err
	}
	return appendJSON(dst, s, rv)
}

// AppendJSONMembers appends v's members without the braces around them, each
// followed by a comma, for error bodies that hold more than the shape.
func (c *Codec) AppendJSONMembers(dst []byte, v any) ([]byte, error) {
	rv, s, err := c.structValue(v)
	if err != nil {
		return dst, err
	}
	return appendJSONMembers(dst, s, rv)
}

func appendJSON(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	switch s.kind {
	case kindPointer:
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return appendJSON(dst, s.elem, v.Elem())
	case kindString:
		return appendJSONString(dst, v.String()), nil
	case kindBool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case kindInt:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case kindFloat:
		return appendJSONFloat(dst, v.Float(), s.bits), nil
	case kindTime:
		return appendEpoch(dst, timeOf(v)), nil
	case kindBlob:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes())
		return append(dst, '"'), nil
	case kindStruct:
		dst = append(dst, '{')
		dst, err := appendJSONMembers(dst, s, v)
		return closeJSON(dst, '}'), err
	case kindList:
		return appendJSONList(dst, s, v)
	case kindMap:
		return appendJSONMap(dst, s, v)
	case kindUnion:
		return appendJSONUnion(dst, s, v)
	case kindDocument:
		return appendJSONDocument(dst, v)
	}
	return dst, fmt.Errorf("codec: cannot encode %v", s.typ)
}

func appendJSONMembers(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	for i := range s.members {
		m := &s.members[i]
		f := v.Field(m.field)
		if m.absent(f) {
			continue
		}
		dst = append(dst, m.json...)
		if dst, err = appendJSON(dst, m.shape, f); err != nil {
			return dst, err
		}
		dst = append(dst, ',')
	}
	return dst, nil
}

// closeJSON replaces the comma after the last element by the closing bracket.
func closeJSON(dst []byte, bracket byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, bracket)
}

func appendJSONList(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	dst = append(dst, '[')
	for i := range v.Len() {
		if dst, err = appendJSON(dst, s.elem, v.Index(i)); err != nil {
			return dst, err
		}
		dst = append(dst, ',')
	}
	return closeJSON(dst, ']'), nil
}

// appendJSONMap writes keys in order, so that equal values have equal bytes.
func appendJSONMap(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	dst = append(dst, '{')
	for _, k := range sortedKeys(v) {
		dst = appendJSONString(dst, k.String())
		dst = append(dst, ':')
		if dst, err = appendJSON(dst, s.elem, v.MapIndex(k)); err != nil {
			return dst, err
		}
		dst = append(dst, ',')
	}
	return closeJSON(dst, '}'), nil
}

func sortedKeys(v reflect.Value) []reflect.Value {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch {
		case a.String() < b.String():
			return -1
		case a.String() > b.String():
			return 1
		}
		return 0
	})
	return keys
}

func appendJSONUnion(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, "null"...), nil
	}
	m, value, err := s.unionMember(v)
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, '{'), m.json...)
	dst, err = appendJSON(dst, m.shape, value)
	return append(dst, '}'), err
}

func appendJSONDocument(dst []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, "null"...), nil
	}
	b, err := v.Interface().(document.Marshaler).MarshalSmithyDocument()
	if err != nil {
		return dst, fmt.Errorf("codec: document: %w", err)
	}
	return append(dst, b...), nil
}

func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

// appendEpoch writes seconds since 1970 with up to three decimals: AWS's
// clients read no more.
func appendEpoch(dst []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		dst = append(dst, '-')
		ms = -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	rest := ms % 1000
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+rest/100))
	if rest %= 100; rest != 0 {
		dst = append(dst, byte('0'+rest/10))
		if rest %= 10; rest != 0 {
			dst = append(dst, byte('0'+rest))
		}
	}
	return dst
}

func appendJSONFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

const hexDigits = "0123456789abcdef"

// plain tells the bytes that stand for themselves in a JSON string.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != 0x7f
	}
	return t
}()

func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if plain[b] {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscape(dst, b)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			start = i + 1
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
}
