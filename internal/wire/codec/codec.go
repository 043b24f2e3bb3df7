package codec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxDepth bounds the nesting of values, known, unknown and documents alike.
	maxDepth = 64
	// maxDecoded bounds the memory of lists' and maps' elements and of nested
	// structures: "{}" is two bytes on the wire, and hundreds in Go.
	maxDecoded = 64 << 20
)

// Options describe the service whose types a Codec handles.
type Options struct {
	// Service is the model's name: the key into the table of exceptional names.
	Service string
	// LowerCamel tells that wire names begin with a small letter.
	LowerCamel bool
	// Unions lists a nil pointer to each variant of each union type.
	Unions []any
	// NewDocument makes the service's document type from a Go value.
	NewDocument func(v any) any
}

// Codec encodes and decodes one service's types. It is safe for concurrent use.
type Codec struct {
	opts     Options
	variants []reflect.Type
	names    map[string]string

	mu     sync.Mutex // serialises building
	shapes sync.Map   // reflect.Type → *shape, complete ones only
}

// New returns the codec of one service.
func New(opts Options) *Codec {
	c := &Codec{opts: opts, names: exceptions[opts.Service]}
	for _, v := range opts.Unions {
		c.variants = append(c.variants, reflect.TypeOf(v))
	}
	return c
}

// Prepare builds the shapes of the given struct types ahead of their first use.
// It fails when one reaches a type that the codec cannot handle, such as a union
// none of whose variants is registered.
func (c *Codec) Prepare(types ...reflect.Type) error {
	for _, t := range types {
		if _, err := c.shapeOf(t); err != nil {
			return err
		}
	}
	return nil
}

// Error says that input cannot be decoded: where and why. The message uses
// AWS's words where it has some.
type Error struct {
	// Path leads to the value, in the notation of AWS's validation messages
	// ("tags.1.member.key"); empty at the top.
	Path    string
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Message + " (at " + e.Path + ")"
}

// Presence records which zero-valued scalars without a pointer a client gave.
// The zero value is ready for use; a nil *Presence records nothing.
type Presence struct {
	paths map[string]struct{}
}

// Has tells whether the scalar at path was given, although it is zero.
func (p *Presence) Has(path string) bool {
	_, ok := p.paths[path]
	return ok
}

func (p *Presence) add(path string) {
	if p.paths == nil {
		p.paths = map[string]struct{}{}
	}
	p.paths[path] = struct{}{}
}

// trail is the way from the top to the value being decoded.
type trail struct {
	steps    []step
	presence *Presence
	// spent is the memory of the elements made so far.
	spent uintptr
}

// step is a member (name), an element of a list (index from 1) or a map's value
// (name is the key, index -1).
type step struct {
	name  string
	index int
}

func (t *trail) push(s step) error {
	if len(t.steps) >= 2*maxDepth {
		return t.errorf("Nesting is deeper than %d levels", maxDepth)
	}
	t.steps = append(t.steps, s)
	return nil
}

func (t *trail) pop() { t.steps = t.steps[:len(t.steps)-1] }

func (t *trail) path() string {
	var b strings.Builder
	for i, s := range t.steps {
		if i > 0 {
			b.WriteByte('.')
		}
		switch {
		case s.index > 0:
			b.WriteString(strconv.Itoa(s.index))
			b.WriteString(".member")
		case s.index < 0:
			b.WriteString(s.name)
			b.WriteString(".member")
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}

func (t *trail) errorf(format string, args ...any) error {
	return &Error{Path: clip(t.path()), Message: fmt.Sprintf(format, args...)}
}

// saw records that the scalar at the end of the trail was given and is zero.
func (t *trail) saw(s *shape, v reflect.Value) {
	if t.presence != nil && s.isNumberOrBool() && v.IsZero() {
		t.presence.add(t.path())
	}
}

// spend accounts for n new values of type t.
func (t *trail) spend(typ reflect.Type, n int) error {
	if t.spent += typ.Size() * uintptr(n); t.spent > maxDecoded {
		return t.errorf("The input is larger than %d bytes once decoded", maxDecoded)
	}
	return nil
}

// clip shortens text that a client chose, for messages.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// structValue returns the struct that v points to, and its shape.
func (c *Codec) structValue(v any) (reflect.Value, *shape, error) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() || rv.Elem().Kind() != reflect.Struct {
		return rv, nil, fmt.Errorf("codec: %T is not a pointer to a struct", v)
	}
	s, err := c.shapeOf(rv.Type().Elem())
	return rv.Elem(), s, err
}
