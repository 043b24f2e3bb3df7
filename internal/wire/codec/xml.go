package codec

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// AppendXML appends the response of an awsQuery operation: v's members inside
// <OperationResponse><OperationResult>, and the request's id.
func (c *Codec) AppendXML(dst []byte, v any, operation, namespace, requestID string) ([]byte, error) {
	rv, s, err := c.structValue(v)
	if err != nil {
		return dst, err
	}
	dst = append(dst, '<')
	dst = append(append(dst, operation...), `Response xmlns="`...)
	dst = append(appendXMLText(dst, namespace), `">`...)
	// An empty result is written too: clients insist on it where the model has one.
	result := operation + "Result"
	dst = openXML(dst, result)
	if dst, err = appendXMLMembers(dst, s, rv); err != nil {
		return dst, err
	}
	dst = endXML(dst, result)
	dst = append(dst, "<ResponseMetadata>"...)
	dst = appendXMLElement(dst, "RequestId", requestID)
	dst = append(dst, "</ResponseMetadata>"...)
	return endXML(dst, operation+"Response"), nil
}

// AppendXMLError appends awsQuery's error document. exception is nil or an SDK
// exception, whose members beyond the message are added.
func (c *Codec) AppendXMLError(dst []byte, namespace, requestID, code, message string, sender bool, exception any) []byte {
	dst = append(dst, `<ErrorResponse xmlns="`...)
	dst = append(appendXMLText(dst, namespace), `"><Error>`...)
	side := "Receiver"
	if sender {
		side = "Sender"
	}
	dst = appendXMLElement(dst, "Type", side)
	dst = appendXMLElement(dst, "Code", code)
	dst = appendXMLElement(dst, "Message", message)
	if exception != nil {
		dst = c.appendXMLExtras(dst, exception)
	}
	dst = append(dst, "</Error>"...)
	dst = appendXMLElement(dst, "RequestId", requestID)
	return append(dst, "</ErrorResponse>"...)
}

func (c *Codec) appendXMLExtras(dst []byte, exception any) []byte {
	rv, s, err := c.structValue(exception)
	if err != nil {
		return dst
	}
	for i := range s.members {
		m := &s.members[i]
		if m.name == "message" || m.name == "Message" || m.absent(rv.Field(m.field)) {
			continue
		}
		if b, err := appendXMLMember(dst, m, m.name, rv.Field(m.field)); err == nil {
			dst = b
		}
	}
	return dst
}

func appendXMLMembers(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	for i := range s.members {
		m := &s.members[i]
		f := v.Field(m.field)
		if m.absent(f) {
			continue
		}
		if dst, err = appendXMLMember(dst, m, m.name, f); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendXMLMember(dst []byte, m *member, name string, v reflect.Value) ([]byte, error) {
	dst = openXML(dst, name)
	dst, err := appendXMLValue(dst, m.shape, v, m.item)
	return endXML(dst, name), err
}

// appendXMLValue appends what stands inside an element. item names the elements
// of a list.
func appendXMLValue(dst []byte, s *shape, v reflect.Value, item string) ([]byte, error) {
	switch s.kind {
	case kindPointer:
		if v.IsNil() {
			return dst, nil
		}
		return appendXMLValue(dst, s.elem, v.Elem(), item)
	case kindString:
		return appendXMLText(dst, v.String()), nil
	case kindBool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case kindInt:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case kindFloat:
		return appendXMLFloat(dst, v.Float(), s.bits), nil
	case kindTime:
		return timeOf(v).UTC().AppendFormat(dst, "2006-01-02T15:04:05.999Z"), nil
	case kindBlob:
		return base64.StdEncoding.AppendEncode(dst, v.Bytes()), nil
	case kindStruct:
		return appendXMLMembers(dst, s, v)
	case kindList:
		return appendXMLList(dst, s, v, item)
	case kindMap:
		return appendXMLMap(dst, s, v)
	case kindUnion:
		if v.IsNil() {
			return dst, nil
		}
		m, value, err := s.unionMember(v)
		if err != nil {
			return dst, err
		}
		return appendXMLMember(dst, m, m.name, value)
	}
	return dst, fmt.Errorf("codec: cannot write %v as XML", s.typ)
}

func appendXMLList(dst []byte, s *shape, v reflect.Value, item string) ([]byte, error) {
	var err error
	for i := range v.Len() {
		dst = openXML(dst, item)
		if dst, err = appendXMLValue(dst, s.elem, v.Index(i), "member"); err != nil {
			return dst, err
		}
		dst = endXML(dst, item)
	}
	return dst, nil
}

func appendXMLMap(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	for _, k := range sortedKeys(v) {
		dst = append(dst, "<entry>"...)
		dst = appendXMLElement(dst, "key", k.String())
		dst = append(dst, "<value>"...)
		if dst, err = appendXMLValue(dst, s.elem, v.MapIndex(k), "member"); err != nil {
			return dst, err
		}
		dst = append(dst, "</value></entry>"...)
	}
	return dst, nil
}

func appendXMLFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

func appendXMLElement(dst []byte, name, text string) []byte {
	return endXML(appendXMLText(openXML(dst, name), text), name)
}

func openXML(dst []byte, name string) []byte { return append(append(append(dst, '<'), name...), '>') }

func endXML(dst []byte, name string) []byte {
	return append(append(append(dst, "</"...), name...), '>')
}

// appendXMLText escapes text. What XML 1.0 cannot hold becomes U+FFFD.
func appendXMLText(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '"':
			dst = append(dst, "&quot;"...)
		case r == '\'':
			dst = append(dst, "&#39;"...)
		case r == '\t' || r == '\n' || r == '\r':
			// As references, or a parser would fold them.
			dst = append(append(append(dst, "&#x"...), hexDigits[r]), ';')
		case r < ' ' || r == utf8.RuneError || r == 0xFFFE || r == 0xFFFF:
			dst = append(dst, "\uFFFD"...)
		default:
			dst = append(dst, s[i:i+size]...)
		}
		i += size
	}
	return dst
}
