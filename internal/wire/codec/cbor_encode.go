package codec

import (
	"fmt"
	"math"
	"reflect"
)

// The major types of CBOR (RFC 8949).
const (
	cborUint byte = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborFalse      = cborSimple<<5 | 20
	cborTrue       = cborSimple<<5 | 21
	cborNull       = cborSimple<<5 | 22
	cborFloat32    = cborSimple<<5 | 26
	cborFloat64    = cborSimple<<5 | 27
	cborBreak      = 0xff
	cborOpenMap    = cborMap<<5 | 31
	cborEpochTag   = 1
	cborIndefinite = 31
)

// AppendCBOR appends v, a pointer to a struct, as a CBOR map.
func (c *Codec) AppendCBOR(dst []byte, v any) ([]byte, error) {
	rv, s, err := c.structValue(v)
	if err != nil {
		return dst, err
	}
	return appendCBOR(dst, s, rv)
}

// AppendCBORError appends an error's body: __type, and the members of
// exception, an SDK exception, or else the message alone.
func (c *Codec) AppendCBORError(dst []byte, typ, message string, exception any) []byte {
	dst = append(dst, cborOpenMap)
	dst = appendCBORText(appendCBORText(dst, "__type"), typ)
	if exception != nil {
		if rv, s, err := c.structValue(exception); err == nil {
			if b, err := appendCBORMembers(dst, s, rv); err == nil {
				return append(b, cborBreak)
			}
		}
	}
	dst = appendCBORText(appendCBORText(dst, "message"), message)
	return append(dst, cborBreak)
}

func appendCBOR(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	switch s.kind {
	case kindPointer:
		if v.IsNil() {
			return append(dst, cborNull), nil
		}
		return appendCBOR(dst, s.elem, v.Elem())
	case kindString:
		return appendCBORText(dst, toValid(v.String())), nil
	case kindBool:
		if v.Bool() {
			return append(dst, cborTrue), nil
		}
		return append(dst, cborFalse), nil
	case kindInt:
		return appendCBORInt(dst, v.Int()), nil
	case kindFloat:
		return appendCBORFloat(dst, v.Float(), s.bits), nil
	case kindTime:
		ms := timeOf(v).UnixMilli()
		dst = appendCBORHead(dst, cborTag, cborEpochTag)
		if ms%1000 == 0 {
			return appendCBORInt(dst, ms/1000), nil
		}
		return appendCBORFloat(dst, float64(ms)/1000, 64), nil
	case kindBlob:
		return append(appendCBORHead(dst, cborBytes, uint64(v.Len())), v.Bytes()...), nil
	case kindStruct:
		// Open-ended: how many members there are shows only on the way.
		dst, err := appendCBORMembers(append(dst, cborOpenMap), s, v)
		return append(dst, cborBreak), err
	case kindList:
		var err error
		dst = appendCBORHead(dst, cborArray, uint64(v.Len()))
		for i := range v.Len() {
			if dst, err = appendCBOR(dst, s.elem, v.Index(i)); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case kindMap:
		var err error
		dst = appendCBORHead(dst, cborMap, uint64(v.Len()))
		for _, k := range sortedKeys(v) {
			dst = appendCBORText(dst, toValid(k.String()))
			if dst, err = appendCBOR(dst, s.elem, v.MapIndex(k)); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case kindUnion:
		return appendCBORUnion(dst, s, v)
	}
	return dst, fmt.Errorf("codec: cannot write %v as CBOR", s.typ)
}

func appendCBORMembers(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	var err error
	for i := range s.members {
		m := &s.members[i]
		f := v.Field(m.field)
		if m.absent(f) {
			continue
		}
		dst = append(dst, m.cbor...)
		if dst, err = appendCBOR(dst, m.shape, f); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendCBORUnion(dst []byte, s *shape, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(dst, cborNull), nil
	}
	m, value, err := s.unionMember(v)
	if err != nil {
		return dst, err
	}
	dst = append(appendCBORHead(dst, cborMap, 1), m.cbor...)
	return appendCBOR(dst, m.shape, value)
}

func appendCBORInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendCBORHead(dst, cborNegative, uint64(-(n + 1)))
	}
	return appendCBORHead(dst, cborUint, uint64(n))
}

func appendCBORFloat(dst []byte, f float64, bits int) []byte {
	if bits == 32 {
		n := math.Float32bits(float32(f))
		return append(dst, cborFloat32, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	n := math.Float64bits(f)
	return append(dst, cborFloat64, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// appendCBORHead appends a major type with its argument in the shortest form.
func appendCBORHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return append(dst, major|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(dst, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, major|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32),
		byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func appendCBORText(dst []byte, s string) []byte {
	return append(appendCBORHead(dst, cborText, uint64(len(s))), s...)
}
