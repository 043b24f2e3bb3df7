package constraint

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"longshore.dev/longshore/internal/wire/constraint/table"
)

// plan is a shape of the table laid over a Go type: what to check in a value,
// without looking anything up by name.
type plan struct {
	shape *table.Shape
	typ   reflect.Type
	// low and high bound a length or a number; nil is unbounded.
	low, high *limit
	pattern   *regexp.Regexp
	// enum holds the model's values and those of the SDK's own type.
	enum map[string]bool
	// fields of a structure that is not a union; variants of one that is, by the
	// Go type's name.
	fields   []field
	variants map[string]field
	// elem and key are nil when there is nothing to check in them.
	elem, key *plan
	// plain tells that a value may be shown: it and all in it are simple.
	plain bool
}

// field is a member of a structure.
type field struct {
	table.Member
	index []int
	// shown is the name in messages: AWS's services name members as Java does.
	shown string
	// zero tells that a Go zero value may be a value, and not absence.
	zero bool
	// value is nil when there is nothing to check but presence.
	value *plan
}

type planKey struct {
	shape string
	typ   reflect.Type
}

// plan returns the plan of a shape for a type, made once.
func (s *service) plan(shape string, typ reflect.Type) (*plan, error) {
	if known, ok := s.plans.Load(planKey{shape, typ}); ok {
		return known.(*plan), nil
	}
	b := builder{service: s, made: make(map[planKey]*plan)}
	p, err := b.build(shape, typ)
	if err != nil {
		return nil, fmt.Errorf("constraint: %s: %w", s.table.Service, err)
	}
	for key, made := range b.made {
		s.plans.LoadOrStore(key, made)
	}
	return p, nil
}

// builder makes plans; made breaks the recursion of recursive shapes, and is
// published only when all of it is complete.
type builder struct {
	service *service
	made    map[planKey]*plan
}

func (b *builder) build(name string, typ reflect.Type) (*plan, error) {
	if name == table.None {
		return nil, nil
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	key := planKey{name, typ}
	if p := b.made[key]; p != nil {
		return p, nil
	}
	shape := b.service.table.Shapes[name]
	p := &plan{shape: shape, typ: typ, plain: !shape.Sensitive}
	b.made[key] = p
	err := p.compile()
	if err != nil {
		return nil, err
	}
	switch shape.Kind {
	case table.Structure:
		p.plain = false
		err = b.members(p)
	case table.List:
		if typ.Kind() != reflect.Slice {
			return nil, fmt.Errorf("the list %s is a %s", name, typ)
		}
		p.elem, err = b.build(shape.Elem, typ.Elem())
		p.plain = p.plain && simple(typ.Elem()) && (p.elem == nil || p.elem.plain)
	case table.Map:
		if typ.Kind() != reflect.Map {
			return nil, fmt.Errorf("the map %s is a %s", name, typ)
		}
		if p.key, err = b.build(shape.Key, typ.Key()); err != nil {
			return nil, err
		}
		p.elem, err = b.build(shape.Elem, typ.Elem())
		p.plain = p.plain && simple(typ.Elem()) && (p.elem == nil || p.elem.plain) && (p.key == nil || p.key.plain)
	}
	return p, err
}

// simple tells whether a list of such elements can be shown in a message.
func simple(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.String, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Bool:
		return true
	}
	return false
}

func (p *plan) compile() error {
	var err error
	if p.shape.Pattern != "" {
		if p.pattern, err = table.Compile(p.shape.Pattern); err != nil {
			return err
		}
	}
	if p.low, err = bound(p.shape.Min); err != nil {
		return err
	}
	if p.high, err = bound(p.shape.Max); err != nil {
		return err
	}
	if len(p.shape.Enum) > 0 {
		p.enum = make(map[string]bool)
		for _, v := range append(sdkValues(p.typ), p.shape.Enum...) {
			p.enum[v] = true
		}
	}
	return nil
}

// limit is a bound; whole numbers are compared exactly.
type limit struct {
	whole   int64
	isWhole bool
	float   float64
}

func bound(text string) (*limit, error) {
	if text == "" {
		return nil, nil
	}
	whole, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		return &limit{whole: whole, isWhole: true, float: float64(whole)}, nil
	}
	float, err := strconv.ParseFloat(text, 64)
	return &limit{float: float}, err
}

func (l *limit) compareWhole(n int64) int {
	if l.isWhole {
		return cmp.Compare(n, l.whole)
	}
	return cmp.Compare(float64(n), l.float)
}

// sdkValues returns what the enumeration's own Values method lists.
func sdkValues(typ reflect.Type) []string {
	if typ.Kind() != reflect.String {
		return nil
	}
	// The name is a constant: the linker keeps methods of this name only.
	method := reflect.New(typ).Elem().MethodByName("Values")
	if !method.IsValid() || method.Type().NumIn() != 0 || method.Type().NumOut() != 1 {
		return nil
	}
	list := method.Call(nil)[0]
	var values []string
	for i := range list.Len() {
		values = append(values, list.Index(i).String())
	}
	return values
}

func (b *builder) members(p *plan) error {
	if p.typ.Kind() == reflect.Interface {
		// A union: its variants are known by name when a value comes.
		p.variants = make(map[string]field)
		for _, m := range p.shape.Members {
			p.variants[p.typ.Name()+"Member"+upperFirst(m.Name)] = field{Member: m, shown: lowerFirst(m.Name)}
		}
		return nil
	}
	if p.typ.Kind() != reflect.Struct {
		return fmt.Errorf("the structure %s is a %s", p.shape.Name, p.typ)
	}
	for _, m := range p.shape.Members {
		f, ok := fieldOf(p.typ, m.Name)
		if !ok {
			return fmt.Errorf("%s has no field for the member %s of %s", p.typ, m.Name, p.shape.Name)
		}
		value, err := b.build(m.Shape, f.Type)
		if err != nil {
			return err
		}
		p.fields = append(p.fields, field{Member: m, index: f.Index, shown: lowerFirst(m.Name), zero: isScalar(f.Type), value: value})
	}
	return nil
}

// fieldOf finds the field of a member: the SDK raises the first letter, and
// changes the rest only where Go's names or its own would collide.
func fieldOf(typ reflect.Type, member string) (reflect.StructField, bool) {
	if f, ok := typ.FieldByName(upperFirst(member)); ok {
		return f, true
	}
	return typ.FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, member) })
}

// isScalar tells whether the type's zero value cannot be told from absence.
func isScalar(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Int32, reflect.Int64, reflect.Float64, reflect.Float32, reflect.Bool:
		return true
	}
	return false
}

func lowerFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[size:]
}

func upperFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
