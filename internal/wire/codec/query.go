package codec

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// DecodeQuery decodes awsQuery's parameters ("Tags.member.1.Key") into v, a
// pointer to a struct. Of a parameter given twice the last one counts.
func (c *Codec) DecodeQuery(values url.Values, v any, p *Presence) error {
	rv, s, err := c.structValue(v)
	if err != nil {
		return err
	}
	d := &queryDecoder{}
	d.presence = p
	d.params = make([]param, 0, len(values))
	for k, vs := range values {
		if len(vs) > 0 {
			d.params = append(d.params, param{k, vs[len(vs)-1]})
		}
	}
	slices.SortFunc(d.params, func(a, b param) int { return strings.Compare(a.key, b.key) })
	return d.structValue(s, rv, "")
}

// param is one decoded parameter.
type param struct{ key, value string }

// queryDecoder holds the parameters in key order, so that all below one prefix
// are neighbours: no tree is built from what a client sends.
type queryDecoder struct {
	trail
	params []param
}

// exact returns the parameter of this very key.
func (d *queryDecoder) exact(key string) (string, bool) {
	i, ok := slices.BinarySearchFunc(d.params, key, func(p param, k string) int { return strings.Compare(p.key, k) })
	if !ok {
		return "", false
	}
	return d.params[i].value, true
}

// below returns the parameters whose key begins with prefix.
func (d *queryDecoder) below(prefix string) []param {
	i, _ := slices.BinarySearchFunc(d.params, prefix, func(p param, k string) int { return strings.Compare(p.key, k) })
	n := i
	for n < len(d.params) && strings.HasPrefix(d.params[n].key, prefix) {
		n++
	}
	return d.params[i:n]
}

// given tells that a value at key, or anything below it, was sent.
func (d *queryDecoder) given(key string) bool {
	if _, ok := d.exact(key); ok {
		return true
	}
	i, _ := slices.BinarySearchFunc(d.params, key+".", func(p param, k string) int { return strings.Compare(p.key, k) })
	return i < len(d.params) && strings.HasPrefix(d.params[i].key, key+".")
}

// structValue decodes the members below prefix, which is empty or ends in a dot.
func (d *queryDecoder) structValue(s *shape, v reflect.Value, prefix string) error {
	for i := range s.members {
		m := &s.members[i]
		key := prefix + m.name
		if !d.given(key) {
			continue
		}
		if err := d.push(step{name: m.name}); err != nil {
			return err
		}
		f := v.Field(m.field)
		if err := d.value(m.shape, f, key, m.item); err != nil {
			return err
		}
		d.saw(m.shape, f)
		d.pop()
	}
	return nil
}

func (d *queryDecoder) value(s *shape, v reflect.Value, key, item string) error {
	switch s.kind {
	case kindPointer:
		v.Set(reflect.New(s.elem.typ))
		return d.value(s.elem, v.Elem(), key, item)
	case kindStruct:
		return d.structValue(s, v, key+".")
	case kindList:
		return d.listValue(s, v, key, item)
	case kindMap:
		return d.mapValue(s, v, key)
	case kindUnion:
		return d.unionValue(s, v, key)
	case kindDocument:
		return d.errorf("A document cannot be given as a query parameter")
	}
	text, ok := d.exact(key)
	if !ok {
		return d.errorf("Unexpected complex element: %s is a scalar", clip(key))
	}
	return d.setText(s, v, text)
}

func (d *queryDecoder) listValue(s *shape, v reflect.Value, key, item string) error {
	indices, err := d.indices(key + "." + item + ".")
	if err != nil {
		return err
	}
	if err := d.spend(s.elem.typ, len(indices)); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(s.typ, len(indices), len(indices)))
	for i, index := range indices {
		if err := d.push(step{index: i + 1}); err != nil {
			return err
		}
		at := key + "." + item + "." + strconv.Itoa(index)
		if err := d.value(s.elem, v.Index(i), at, "member"); err != nil {
			return err
		}
		d.pop()
	}
	return nil
}

func (d *queryDecoder) mapValue(s *shape, v reflect.Value, key string) error {
	indices, err := d.indices(key + ".entry.")
	if err != nil {
		return err
	}
	if err := d.spend(s.elem.typ, len(indices)); err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(s.typ, len(indices))
	v.Set(m)
	for _, index := range indices {
		entry := key + ".entry." + strconv.Itoa(index)
		name, ok := d.exact(entry + ".key")
		if !ok {
			return d.errorf("%s has no key", clip(entry))
		}
		if err := d.push(step{name: name, index: -1}); err != nil {
			return err
		}
		k := reflect.New(s.typ.Key()).Elem()
		k.SetString(name)
		e := reflect.New(s.elem.typ).Elem()
		if d.given(entry + ".value") {
			if err := d.value(s.elem, e, entry+".value", "member"); err != nil {
				return err
			}
		}
		m.SetMapIndex(k, e)
		d.pop()
	}
	return nil
}

func (d *queryDecoder) unionValue(s *shape, v reflect.Value, key string) error {
	for i := range s.members {
		m := &s.members[i]
		if !d.given(key + "." + m.name) {
			continue
		}
		if !v.IsNil() {
			return d.errorf("A union holds more than one member")
		}
		whole, value := m.newVariant()
		if err := d.value(m.shape, value, key+"."+m.name, m.item); err != nil {
			return err
		}
		v.Set(whole)
	}
	if v.IsNil() {
		return d.errorf("A union holds none of its members")
	}
	return nil
}

// indices returns the list positions used below prefix, ascending.
func (d *queryDecoder) indices(prefix string) ([]int, error) {
	var indices []int
	for _, p := range d.below(prefix) {
		text, _, _ := strings.Cut(p.key[len(prefix):], ".")
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != text {
			return nil, d.errorf("%q is not a position in a list", clip(text))
		}
		// Neighbours have the same position, as "." sorts before any digit.
		if k := len(indices); k == 0 || indices[k-1] != int(n) {
			indices = append(indices, int(n))
		}
	}
	slices.Sort(indices)
	return indices, nil
}

// setText sets a scalar from its text in a query string, path or header.
func (t *trail) setText(s *shape, v reflect.Value, text string) error {
	switch s.kind {
	case kindPointer:
		v.Set(reflect.New(s.elem.typ))
		return t.setText(s.elem, v.Elem(), text)
	case kindString:
		if !utf8.ValidString(text) {
			return t.errorf("Invalid UTF-8 in a string")
		}
		v.SetString(text)
	case kindBool:
		b, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return t.errorf("%q is not a valid boolean", clip(text))
		}
		v.SetBool(b)
	case kindInt:
		n, err := strconv.ParseInt(text, 10, s.bits)
		if err != nil {
			return t.errorf("%q is not a valid %d-bit integer", clip(text), s.bits)
		}
		v.SetInt(n)
	case kindFloat:
		f, err := strconv.ParseFloat(text, s.bits)
		if err != nil {
			return t.errorf("%q is not a valid number", clip(text))
		}
		v.SetFloat(f)
	case kindTime:
		at, ok := parseTime(text)
		if f, err := strconv.ParseFloat(text, 64); !ok && err == nil {
			at, ok = epoch(f)
		}
		if !ok {
			return t.errorf("%q is not a valid timestamp", clip(text))
		}
		v.Set(reflect.ValueOf(at.Truncate(time.Millisecond)))
	case kindBlob:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return t.errorf("Not valid base64")
		}
		v.SetBytes(b)
	default:
		return t.errorf("A %v cannot be given as text", s.typ)
	}
	return nil
}

// SetMember sets the member of this wire name from text: a label of a restJson1
// path, or the values of a query parameter.
func (c *Codec) SetMember(v any, name string, values []string) error {
	rv, s, err := c.structValue(v)
	if err != nil {
		return err
	}
	i, ok := s.byName[name]
	if !ok {
		return &Error{Path: clip(name), Message: "There is no such member"}
	}
	m := &s.members[i]
	f := rv.Field(m.field)
	t := &trail{steps: []step{{name: m.name}}}
	if m.shape.kind != kindList {
		return t.setText(m.shape, f, values[len(values)-1])
	}
	f.Set(reflect.MakeSlice(m.shape.typ, len(values), len(values)))
	for i, text := range values {
		if err := t.setText(m.shape.elem, f.Index(i), text); err != nil {
			return err
		}
	}
	return nil
}
