package codec

import (
	"math"
	"reflect"
	"strings"
)

// DecodeCBOR decodes a CBOR map into v, a pointer to a struct. An empty body is
// an empty map.
func (c *Codec) DecodeCBOR(data []byte, v any, p *Presence) error {
	rv, s, err := c.structValue(v)
	if err != nil || len(data) == 0 {
		return err
	}
	d := &cborDecoder{data: data}
	d.presence = p
	if err := d.value(s, rv); err != nil {
		return err
	}
	if d.pos != len(d.data) {
		return d.errorf("Unexpected bytes after the end of the document at offset %d", d.pos)
	}
	return nil
}

func (d *cborDecoder) value(s *shape, v reflect.Value) error {
	if d.null() {
		return nil
	}
	switch s.kind {
	case kindPointer:
		if err := d.spend(s.elem.typ, 1); err != nil {
			return err
		}
		v.Set(reflect.New(s.elem.typ))
		return d.value(s.elem, v.Elem())
	case kindString:
		b, err := d.bytes(cborText, "String")
		v.SetString(string(b))
		return err
	case kindBlob:
		b, err := d.bytes(cborBytes, "Blob")
		v.SetBytes(append([]byte{}, b...))
		return err
	case kindBool:
		return d.boolValue(v)
	case kindInt:
		return d.intValue(s, v)
	case kindFloat:
		f, err := d.float("Double")
		if err != nil {
			return err
		}
		if v.OverflowFloat(f) {
			return d.errorf("%g is out of the range of a %d-bit number", f, s.bits)
		}
		v.SetFloat(f)
		return nil
	case kindTime:
		return d.timeValue(v)
	case kindStruct:
		return d.structValue(s, v)
	case kindList:
		return d.listValue(s, v)
	case kindMap:
		return d.mapValue(s, v)
	case kindUnion:
		return d.unionValue(s, v)
	}
	return d.errorf("A %v cannot be given as CBOR", s.typ)
}

func (d *cborDecoder) structValue(s *shape, v reflect.Value) error {
	return d.mapOf("structure", func(key string) error {
		i, ok := s.byName[key]
		if !ok {
			return d.skip()
		}
		m := &s.members[i]
		if err := d.push(step{name: m.name}); err != nil {
			return err
		}
		f := v.Field(m.field)
		f.SetZero()
		null := d.peekNull()
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

func (d *cborDecoder) unionValue(s *shape, v reflect.Value) error {
	found := false
	err := d.mapOf("structure", func(key string) error {
		i, ok := s.byName[key]
		if !ok {
			return d.skip()
		}
		if d.null() {
			return nil
		}
		if found {
			return d.errorf("A union holds more than one member")
		}
		found = true
		m := &s.members[i]
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

func (d *cborDecoder) listValue(s *shape, v reflect.Value) error {
	v.Set(reflect.MakeSlice(s.typ, 0, 0))
	n := 0
	return d.arrayOf("list", func() error {
		if err := d.push(step{index: n + 1}); err != nil {
			return err
		}
		if d.peekNull() {
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
		n++
		return nil
	})
}

func (d *cborDecoder) mapValue(s *shape, v reflect.Value) error {
	m := reflect.MakeMap(s.typ)
	v.Set(m)
	return d.mapOf("map", func(key string) error {
		if err := d.push(step{name: key, index: -1}); err != nil {
			return err
		}
		if d.peekNull() {
			return d.errorf("A map's value is null")
		}
		if err := d.spend(s.elem.typ, 1); err != nil {
			return err
		}
		k := reflect.New(s.typ.Key()).Elem()
		k.SetString(strings.Clone(key))
		e := reflect.New(s.elem.typ).Elem()
		if err := d.value(s.elem, e); err != nil {
			return err
		}
		d.pop()
		m.SetMapIndex(k, e)
		return nil
	})
}

func (d *cborDecoder) boolValue(v reflect.Value) error {
	switch d.peek() {
	case cborTrue:
		v.SetBool(true)
	case cborFalse:
		v.SetBool(false)
	default:
		return d.mismatch("Boolean")
	}
	d.pos++
	return nil
}

func (d *cborDecoder) intValue(s *shape, v reflect.Value) error {
	major := d.peek() >> 5
	if d.pos >= len(d.data) || major != cborUint && major != cborNegative && major != cborSimple {
		return d.mismatch("Integer")
	}
	var n int64
	if major == cborSimple {
		f, err := d.float("Integer")
		if err != nil {
			return err
		}
		if f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
			return d.errorf("%g can not be converted to a %d-bit integer", f, s.bits)
		}
		n = int64(f)
	} else {
		_, u, err := d.head()
		if err != nil {
			return err
		}
		if u > math.MaxInt64 {
			return d.errorf("A number is out of the range of a %d-bit integer", s.bits)
		}
		n = int64(u)
		if major == cborNegative {
			n = -1 - n
		}
	}
	if v.OverflowInt(n) {
		return d.errorf("%d is out of the range of a %d-bit integer", n, s.bits)
	}
	v.SetInt(n)
	return nil
}

func (d *cborDecoder) timeValue(v reflect.Value) error {
	if d.peek()>>5 != cborTag {
		return d.mismatch("Timestamp")
	}
	_, tag, err := d.head()
	if err != nil {
		return err
	}
	if tag != cborEpochTag {
		return d.errorf("Tag %d is not a Timestamp", tag)
	}
	f, err := d.float("Timestamp")
	if err != nil {
		return err
	}
	t, ok := epoch(f)
	if !ok {
		return d.errorf("%g is out of the range of a Timestamp", f)
	}
	v.Set(reflect.ValueOf(t))
	return nil
}
