package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	ecsdocument "github.com/aws/aws-sdk-go-v2/service/ecs/document"
	"github.com/aws/smithy-go/document"
)

// filler fills SDK structs with random values.
type filler struct {
	rng    *rand.Rand
	unions []any
	// controls draws control characters too: XML cannot hold them.
	controls bool
	// emptyMaps draws empty maps too: they have no form in query parameters.
	emptyMaps bool
	// full sets every pointer: SDK clients check required members themselves.
	full bool
}

// deepest bounds recursive types; it is below what any required member needs.
const deepest = 16

func (f *filler) fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if depth < deepest && (f.full || f.rng.IntN(5) > 0) {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth)
		}
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(f.rng.IntN(2) == 0)
	case reflect.Int32, reflect.Int64:
		f.fillInt(v)
	case reflect.Float32, reflect.Float64:
		x := math.Ldexp(f.rng.Float64()-0.5, f.rng.IntN(60)-20)
		v.SetFloat(float64(float32(x)))
	case reflect.Slice:
		f.fillSlice(v, depth)
	case reflect.Map:
		f.fillMap(v, depth)
	case reflect.Interface:
		f.fillInterface(v, depth)
	case reflect.Struct:
		f.fillStruct(v, depth)
	default:
		panic(fmt.Sprintf("cannot fill %v", v.Type()))
	}
}

func (f *filler) fillStruct(v reflect.Value, depth int) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.UnixMilli(f.rng.Int64N(4e12) - 1e12).UTC()))
		return
	}
	for i := range v.NumField() {
		if sf := v.Type().Field(i); sf.IsExported() && sf.Name != "ResultMetadata" {
			f.fill(v.Field(i), depth+1)
		}
	}
}

func (f *filler) fillInt(v reflect.Value) {
	n := f.rng.Int64() >> f.rng.IntN(60)
	if f.rng.IntN(2) == 0 {
		n = -n
	}
	if v.Kind() == reflect.Int32 {
		n = int64(int32(n))
	}
	v.SetInt(n)
}

func (f *filler) fillSlice(v reflect.Value, depth int) {
	n := f.some(depth)
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, 1+f.rng.IntN(40))
		for i := range b {
			b[i] = byte(f.rng.Uint32())
		}
		v.SetBytes(b)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		f.fill(v.Index(i), depth+1)
	}
}

// some is how many elements a list has: fewer the deeper it lies.
func (f *filler) some(depth int) int {
	switch {
	case depth >= deepest:
		return 0
	case depth > 4:
		return f.rng.IntN(2)
	}
	return f.rng.IntN(4)
}

func (f *filler) fillMap(v reflect.Value, depth int) {
	v.Set(reflect.MakeMap(v.Type()))
	n := f.some(depth)
	if !f.emptyMaps {
		n = max(n, 1)
	}
	for range n {
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(k, depth+1)
		f.fill(e, depth+1)
		v.SetMapIndex(k, e)
	}
}

func (f *filler) fillInterface(v reflect.Value, depth int) {
	if v.Type() == reflect.TypeFor[ecsdocument.Interface]() {
		v.Set(reflect.ValueOf(ecsdocument.NewLazyDocument(map[string]any{f.text(): []any{f.text(), true, 3}})))
		return
	}
	var variants []reflect.Type
	for _, u := range f.unions {
		if t := reflect.TypeOf(u); t.Implements(v.Type()) {
			variants = append(variants, t)
		}
	}
	p := reflect.New(variants[f.rng.IntN(len(variants))].Elem())
	f.fill(p.Elem().FieldByName("Value"), depth+1)
	v.Set(p)
}

func (f *filler) text() string {
	alphabet := []rune("abcXYZ019 -_./:<>&\"'\\%+=;,äß€漢字🙂~*")
	if f.controls {
		alphabet = append(alphabet, '\n', '\t', '\r', '\x00', '\x1b', '\u2028', 0xFFFD)
	}
	r := make([]rune, 1+f.rng.IntN(12))
	for i := range r {
		r[i] = alphabet[f.rng.IntN(len(alphabet))]
	}
	return string(r)
}

// differ returns the path to the first difference of two SDK values, or "". A
// document equals another that stands for the same JSON.
func differ(a, b reflect.Value, path string) string {
	if a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type() && !a.Type().Implements(reflect.TypeFor[document.Marshaler]()) {
		return path + ": types differ"
	}
	if !a.IsValid() {
		return ""
	}
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return unequal(a.IsNil() == b.IsNil(), a, b, path)
		}
		return differ(a.Elem(), b.Elem(), path)
	case reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return unequal(a.IsNil() == b.IsNil(), a, b, path)
		}
		if m, ok := a.Interface().(document.Marshaler); ok {
			x, _ := m.MarshalSmithyDocument()
			y, _ := b.Interface().(document.Marshaler).MarshalSmithyDocument()
			return unequal(sameJSON(x, y), reflect.ValueOf(string(x)), reflect.ValueOf(string(y)), path)
		}
		return differ(a.Elem(), b.Elem(), path)
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			// The SDK's clients cut milliseconds off a binary fraction: one is lost.
			d := a.Interface().(time.Time).Sub(b.Interface().(time.Time))
			return unequal(d.Abs() <= time.Millisecond, a, b, path)
		}
		for i := range a.NumField() {
			if sf := a.Type().Field(i); sf.IsExported() && sf.Name != "ResultMetadata" {
				if d := differ(a.Field(i), b.Field(i), path+"."+sf.Name); d != "" {
					return d
				}
			}
		}
		return ""
	case reflect.Slice:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return unequal(false, a, b, path)
		}
		for i := range a.Len() {
			if d := differ(a.Index(i), b.Index(i), fmt.Sprintf("%s[%d]", path, i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Map:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return unequal(false, a, b, path)
		}
		for _, k := range a.MapKeys() {
			if d := differ(a.MapIndex(k), b.MapIndex(k), fmt.Sprintf("%s[%q]", path, k)); d != "" {
				return d
			}
		}
		return ""
	}
	return unequal(a.Interface() == b.Interface(), a, b, path)
}

func sameJSON(x, y []byte) bool {
	var a, b any
	return json.Unmarshal(x, &a) == nil && json.Unmarshal(y, &b) == nil && reflect.DeepEqual(a, b)
}

func unequal(equal bool, a, b reflect.Value, path string) string {
	if equal {
		return ""
	}
	return fmt.Sprintf("%s: %#v and %#v differ", path, a, b)
}
