package store

import "reflect"

// clone copies everything that JSON can reach: exported fields, elements,
// pointers and interfaces. Unexported fields are copied as they are (time.Time's
// location may be shared).
func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	c := new(T)
	*c = *v
	deepen(reflect.ValueOf(c).Elem())
	return c
}

// deepen replaces whatever v, a settable shallow copy, shares with its original.
func deepen(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(v.Elem())
			deepen(p.Elem())
			v.Set(p)
		}
	case reflect.Interface:
		if !v.IsNil() {
			e := reflect.New(v.Elem().Type()).Elem()
			e.Set(v.Elem())
			deepen(e)
			v.Set(e)
		}
	case reflect.Slice:
		if !v.IsNil() {
			s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(s, v)
			deepenElements(s)
			v.Set(s)
		}
	case reflect.Array:
		deepenElements(v)
	case reflect.Map:
		if !v.IsNil() {
			v.Set(cloneMap(v))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				deepen(f)
			}
		}
	}
}

func deepenElements(v reflect.Value) {
	if isFlat(v.Type().Elem().Kind()) {
		return
	}
	for i := range v.Len() {
		deepen(v.Index(i))
	}
}

func cloneMap(v reflect.Value) reflect.Value {
	m := reflect.MakeMapWithSize(v.Type(), v.Len())
	flat := isFlat(v.Type().Elem().Kind())
	for it := v.MapRange(); it.Next(); {
		value := it.Value()
		if !flat {
			value = reflect.New(v.Type().Elem()).Elem()
			value.Set(it.Value())
			deepen(value)
		}
		m.SetMapIndex(it.Key(), value)
	}
	return m
}

func isFlat(k reflect.Kind) bool {
	return k <= reflect.Complex128 || k == reflect.String
}
