package constraint

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"longshore.dev/longshore/internal/wire/constraint/table"
)

const (
	// maxViolations and maxShown bound a message: violations told, and
	// characters of each value repeated.
	maxViolations = 20
	maxShown      = 1000
)

// place is where a value is: a path of names that is spelled out only when
// something is wrong there.
type place struct {
	parent *place
	// wire and shown are the name on the wire and in messages.
	wire, shown string
	// sensitive is inherited by all that is below.
	sensitive bool
}

func (p *place) path(shown bool) string {
	var names []string
	for ; p != nil; p = p.parent {
		if shown {
			names = append(names, p.shown)
		} else {
			names = append(names, p.wire)
		}
	}
	slices.Reverse(names)
	return strings.Join(names, ".")
}

// walk goes through one input and collects what is wrong.
type walk struct {
	service    *service
	present    func(path string) bool
	violations []string
	count      int
	failed     error
}

func (w *walk) violate(at *place, value, constraint string) {
	w.count++
	if len(w.violations) < maxViolations {
		w.violations = append(w.violations, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", value, at.path(true), constraint))
	}
}

// structure checks the members of v, which is a struct of p's type.
func (w *walk) structure(p *plan, v reflect.Value, at *place) {
	for i := range p.fields {
		f := &p.fields[i]
		member := v.FieldByIndex(f.index)
		absent := member.IsZero()
		if absent && !f.Required {
			continue
		}
		below := &place{parent: at, wire: f.Name, shown: f.shown, sensitive: at != nil && at.sensitive || p.shape.Sensitive}
		switch {
		case absent && !(f.zero && w.given(below)):
			w.violate(below, " null", "Member must not be null")
		case f.value != nil:
			w.value(f.value, member, below)
		}
	}
}

// given tells whether a required zero without a pointer counts as a value. (One
// that is not required counts as absent: nobody can tell.)
func (w *walk) given(at *place) bool {
	return w.present == nil || w.present(at.path(false))
}

// value checks v and what is in it. v is not nil.
func (w *walk) value(p *plan, v reflect.Value, at *place) {
	if p.typ.Kind() == reflect.Interface {
		w.union(p, v, at)
		return
	}
	v = reflect.Indirect(v)
	for _, c := range p.broken(v) {
		w.violate(at, p.show(v, at), c)
	}
	switch p.shape.Kind {
	case table.Structure:
		w.structure(p, v, at)
	case table.List:
		w.list(p, v, at)
	case table.Map:
		w.mapping(p, v, at)
	}
}

func (w *walk) list(p *plan, v reflect.Value, at *place) {
	if p.elem == nil {
		return
	}
	for i := range v.Len() {
		if p.elem.isBroken(v.Index(i)) {
			w.violate(at, p.show(v, at), "Member must satisfy constraint: ["+strings.Join(p.elem.all(), ", ")+"]")
			break
		}
	}
	if !p.elem.nests() {
		return
	}
	for i := range v.Len() {
		below := &place{parent: at, wire: strconv.Itoa(i+1) + ".member", sensitive: at.sensitive || p.shape.Sensitive}
		below.shown = below.wire
		w.inside(p.elem, v.Index(i), below)
	}
}

func (w *walk) mapping(p *plan, v reflect.Value, at *place) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	if p.key != nil && slices.ContainsFunc(keys, func(k reflect.Value) bool { return len(p.key.broken(k)) > 0 }) {
		w.violate(at, p.show(v, at), "Map keys must satisfy constraint: ["+strings.Join(p.key.all(), ", ")+"]")
	}
	if p.elem == nil {
		return
	}
	if slices.ContainsFunc(keys, func(k reflect.Value) bool { return p.elem.isBroken(v.MapIndex(k)) }) {
		w.violate(at, p.show(v, at), "Map value must satisfy constraint: ["+strings.Join(p.elem.all(), ", ")+"]")
	}
	if !p.elem.nests() {
		return
	}
	for _, k := range keys {
		below := &place{parent: at, wire: k.String() + ".member", sensitive: at.sensitive || p.shape.Sensitive}
		below.shown = clip(below.wire)
		w.inside(p.elem, v.MapIndex(k), below)
	}
}

// inside checks the contents of an element whose own constraints were told at
// its container.
func (w *walk) inside(p *plan, v reflect.Value, at *place) {
	v = reflect.Indirect(v)
	if !v.IsValid() {
		return
	}
	switch {
	case v.Kind() == reflect.Interface:
		w.union(p, v, at)
	case p.shape.Kind == table.Structure:
		w.structure(p, v, at)
	case p.shape.Kind == table.List:
		w.list(p, v, at)
	case p.shape.Kind == table.Map:
		w.mapping(p, v, at)
	}
}

// union checks the variant that v holds: a pointer to a struct whose only field
// is Value.
func (w *walk) union(p *plan, v reflect.Value, at *place) {
	variant := reflect.Indirect(v.Elem())
	if variant.Kind() != reflect.Struct {
		return
	}
	f, ok := p.variants[variant.Type().Name()]
	if !ok || f.Shape == table.None {
		return
	}
	value := variant.FieldByName("Value")
	if !value.IsValid() {
		return
	}
	inner, err := w.service.plan(f.Shape, value.Type())
	if err != nil {
		w.failed = err
		return
	}
	below := &place{parent: at, wire: f.Name, shown: f.shown, sensitive: at.sensitive || p.shape.Sensitive}
	w.value(inner, value, below)
}

// nests tells whether values of the shape have contents to be checked.
func (p *plan) nests() bool {
	return p.shape.Kind == table.Structure || p.elem != nil || p.key != nil
}

// isBroken tells whether an element breaks a constraint of the shape itself.
func (p *plan) isBroken(v reflect.Value) bool {
	v = reflect.Indirect(v)
	return v.IsValid() && len(p.broken(v)) > 0
}

// broken returns the constraints of the shape itself that v does not satisfy.
func (p *plan) broken(v reflect.Value) []string {
	switch p.shape.Kind {
	case table.String:
		return p.brokenString(v.String())
	case table.Blob, table.List, table.Map:
		return p.brokenBounds(int64(v.Len()))
	case table.Number:
		return p.brokenNumber(v)
	}
	return nil
}

func (p *plan) brokenString(s string) []string {
	broken := p.brokenBounds(int64(utf8.RuneCountInString(s)))
	if p.pattern != nil && !p.pattern.MatchString(s) {
		broken = append(broken, p.patternText())
	}
	if p.enum != nil && !p.enum[s] {
		broken = append(broken, p.enumText())
	}
	return broken
}

func (p *plan) brokenBounds(n int64) (broken []string) {
	if p.high != nil && p.high.compareWhole(n) > 0 {
		broken = append(broken, p.boundText("less", p.shape.Max))
	}
	if p.low != nil && p.low.compareWhole(n) < 0 {
		broken = append(broken, p.boundText("greater", p.shape.Min))
	}
	return broken
}

func (p *plan) brokenNumber(v reflect.Value) (broken []string) {
	if v.CanInt() {
		return p.brokenBounds(v.Int())
	}
	// Written so that what is not a number is within no bounds.
	if p.high != nil && !(v.Float() <= p.high.float) {
		broken = append(broken, p.boundText("less", p.shape.Max))
	}
	if p.low != nil && !(v.Float() >= p.low.float) {
		broken = append(broken, p.boundText("greater", p.shape.Min))
	}
	return broken
}

// all returns every constraint of the shape itself, as told for elements.
func (p *plan) all() []string {
	texts := p.boundTexts()
	if p.pattern != nil {
		texts = append(texts, p.patternText())
	}
	if p.enum != nil {
		texts = append(texts, p.enumText())
	}
	return texts
}

func (p *plan) boundTexts() (texts []string) {
	if p.high != nil {
		texts = append(texts, p.boundText("less", p.shape.Max))
	}
	if p.low != nil {
		texts = append(texts, p.boundText("greater", p.shape.Min))
	}
	return texts
}

func (p *plan) boundText(than, bound string) string {
	what := "length"
	if p.shape.Kind == table.Number {
		what = "value"
	}
	return fmt.Sprintf("Member must have %s %s than or equal to %s", what, than, bound)
}

func (p *plan) patternText() string {
	return "Member must satisfy regular expression pattern: " + p.shape.Pattern
}

func (p *plan) enumText() string {
	return "Member must satisfy enum value set: [" + strings.Join(p.shape.Enum, ", ") + "]"
}

// show spells a value as AWS's messages do, or not at all when it is sensitive
// or has structure.
func (p *plan) show(v reflect.Value, at *place) string {
	if !p.plain || at.sensitive {
		return ""
	}
	var text string
	switch v.Kind() {
	case reflect.Slice:
		if p.shape.Kind == table.Blob {
			return ""
		}
		var items []string
		for i := 0; i < v.Len() && i <= maxShown; i++ {
			items = append(items, fmt.Sprint(v.Index(i)))
		}
		text = "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		for _, k := range v.MapKeys() {
			items = append(items, fmt.Sprintf("%v=%v", k, v.MapIndex(k)))
		}
		slices.Sort(items)
		text = "{" + strings.Join(items, ", ") + "}"
	default:
		text = fmt.Sprint(v)
	}
	return " '" + clip(text) + "'"
}

// clip bounds what a message repeats of an input.
func clip(s string) string {
	if utf8.RuneCountInString(s) <= maxShown {
		return s
	}
	return string([]rune(s)[:maxShown]) + "…"
}
