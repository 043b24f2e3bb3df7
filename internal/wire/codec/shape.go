package codec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/document"
)

type kind uint8

const (
	kindString kind = iota
	kindBool
	kindInt
	kindFloat
	kindTime
	kindBlob
	kindStruct
	kindList
	kindMap
	kindPointer
	kindUnion
	kindDocument
)

// shape is what the codec knows of one Go type.
type shape struct {
	kind    kind
	typ     reflect.Type
	bits    int      // kindInt, kindFloat
	elem    *shape   // kindList, kindMap, kindPointer
	members []member // kindStruct: fields; kindUnion: variants
	byName  map[string]int
}

// member is a struct's field, or a union's variant.
type member struct {
	name string // on the wire
	json []byte // `"name":`
	cbor []byte // the name as CBOR text
	// field is the index in the struct.
	field int
	shape *shape
	// variant is the variant's struct type (union), whose Value has the shape.
	variant reflect.Type
	// optional: a zero value is not written.
	optional bool
	// item is the XML name of a list's element; flat lists have no wrapper.
	item string
}

var (
	typeTime      = reflect.TypeFor[time.Time]()
	typeMarshaler = reflect.TypeFor[document.Marshaler]()
	typeAny       = reflect.TypeFor[any]()
	typeAPIError  = reflect.TypeFor[smithy.APIError]()
)

func (s *shape) isNumberOrBool() bool {
	return s.kind == kindBool || s.kind == kindInt || s.kind == kindFloat
}

// shapeOf returns the shape of t, building it and all that it reaches once.
func (c *Codec) shapeOf(t reflect.Type) (*shape, error) {
	if s, ok := c.shapes.Load(t); ok {
		return s.(*shape), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Shapes become visible to others only when everything they reach is built.
	fresh := map[reflect.Type]*shape{}
	s, err := c.build(t, fresh)
	if err != nil {
		return nil, err
	}
	for t, s := range fresh {
		c.shapes.Store(t, s)
	}
	return s, nil
}

func (c *Codec) build(t reflect.Type, fresh map[reflect.Type]*shape) (*shape, error) {
	if s, ok := c.shapes.Load(t); ok {
		return s.(*shape), nil
	}
	if s, ok := fresh[t]; ok {
		return s, nil // recursive types end here
	}
	s := &shape{typ: t}
	fresh[t] = s
	var err error
	switch t.Kind() {
	case reflect.String:
		s.kind = kindString
	case reflect.Bool:
		s.kind = kindBool
	case reflect.Int32, reflect.Int64, reflect.Int16, reflect.Int8:
		s.kind, s.bits = kindInt, t.Bits()
	case reflect.Float32, reflect.Float64:
		s.kind, s.bits = kindFloat, t.Bits()
	case reflect.Slice:
		s.kind = kindList
		if t.Elem().Kind() == reflect.Uint8 {
			s.kind = kindBlob
			break
		}
		s.elem, err = c.build(t.Elem(), fresh)
	case reflect.Map:
		s.kind = kindMap
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("codec: %v: keys must be strings", t)
		}
		s.elem, err = c.build(t.Elem(), fresh)
	case reflect.Pointer:
		s.kind = kindPointer
		s.elem, err = c.build(t.Elem(), fresh)
	case reflect.Interface:
		err = c.buildInterface(s, fresh)
	case reflect.Struct:
		if t == typeTime {
			s.kind = kindTime
			break
		}
		err = c.buildStruct(s, fresh)
	default:
		err = fmt.Errorf("codec: cannot handle %v", t)
	}
	return s, err
}

func (c *Codec) buildStruct(s *shape, fresh map[reflect.Type]*shape) error {
	s.kind = kindStruct
	s.byName = make(map[string]int, s.typ.NumField())
	for i := range s.typ.NumField() {
		f := s.typ.Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" || f.Name == "ErrorCodeOverride" {
			continue
		}
		fs, err := c.build(f.Type, fresh)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", s.typ, f.Name, err)
		}
		m := newMember(c.wireName(s.typ, f.Name), fs)
		m.field = i
		m.item = c.itemName(s.typ.Name(), f.Name)
		s.byName[m.name] = len(s.members)
		s.members = append(s.members, m)
	}
	return nil
}

func newMember(name string, s *shape) member {
	return member{
		name:     name,
		json:     append(strconv.AppendQuote(nil, name), ':'),
		cbor:     appendCBORText(nil, name),
		shape:    s,
		optional: !s.isNumberOrBool(),
	}
}

// buildInterface makes a union of the registered variants that implement the
// interface, or a document.
func (c *Codec) buildInterface(s *shape, fresh map[reflect.Type]*shape) error {
	if s.typ.Implements(typeMarshaler) {
		s.kind = kindDocument
		if c.opts.NewDocument == nil {
			return fmt.Errorf("codec: %v is a document and no NewDocument is registered", s.typ)
		}
		return nil
	}
	s.kind = kindUnion
	s.byName = map[string]int{}
	for _, v := range c.variants {
		if !v.Implements(s.typ) {
			continue
		}
		name, ok := strings.CutPrefix(v.Elem().Name(), s.typ.Name()+"Member")
		if !ok {
			continue
		}
		f, ok := v.Elem().FieldByName("Value")
		if !ok {
			return fmt.Errorf("codec: %v has no Value", v)
		}
		vs, err := c.build(f.Type, fresh)
		if err != nil {
			return fmt.Errorf("%v: %w", v, err)
		}
		m := newMember(c.wireName(s.typ, name), vs)
		m.variant, m.field = v.Elem(), f.Index[0]
		m.item = "member"
		s.byName[m.name] = len(s.members)
		s.members = append(s.members, m)
	}
	if len(s.members) == 0 {
		return fmt.Errorf("codec: no variant of the union %v is registered", s.typ)
	}
	return nil
}

// wireName returns the wire name of a Go field, by rule or by exception.
func (c *Codec) wireName(t reflect.Type, field string) string {
	if n, ok := c.names[t.Name()+"."+field]; ok {
		return n
	}
	if c.opts.LowerCamel || field == "Message" && reflect.PointerTo(t).Implements(typeAPIError) {
		return lowerFirst(field)
	}
	return field
}

func (c *Codec) itemName(typeName, field string) string {
	if n, ok := itemNames[c.opts.Service+":"+typeName+"."+field]; ok {
		return n
	}
	return "member"
}

func lowerFirst(s string) string {
	r := []rune(s)
	r[0] = unicode.ToLower(r[0])
	return string(r)
}

// unionMember returns the variant that v (a non-nil union) holds, and its value.
func (s *shape) unionMember(v reflect.Value) (*member, reflect.Value, error) {
	p := v.Elem()
	if p.Kind() == reflect.Pointer && !p.IsNil() {
		for i := range s.members {
			if m := &s.members[i]; m.variant == p.Type().Elem() {
				return m, p.Elem().Field(m.field), nil
			}
		}
	}
	return nil, v, fmt.Errorf("codec: %v is not a registered variant of %v", p.Type(), s.typ)
}

// newVariant returns a new variant of type m.variant and its Value, settable.
func (m *member) newVariant() (whole, value reflect.Value) {
	p := reflect.New(m.variant)
	return p, p.Elem().Field(m.field)
}

// absent tells that a struct's member is not written.
func (m *member) absent(v reflect.Value) bool {
	switch m.shape.kind {
	case kindPointer, kindList, kindMap, kindUnion, kindDocument, kindBlob:
		return v.IsNil()
	case kindString, kindTime:
		return v.IsZero()
	}
	return false
}
