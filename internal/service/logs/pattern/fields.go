package pattern

import (
	"fmt"
	"strings"
)

// field is one part of a space-delimited pattern.
type field struct {
	name string
	cond condition // nil: anything
	rest bool      // "...": any number of fields
}

// parseFields parses [a, b = x, ..., c > 1] over the fields of a message.
func parseFields(s string) (func(string) bool, error) {
	if !strings.HasSuffix(s, "]") {
		return nil, fmt.Errorf("a '[' is not closed")
	}
	tokens, err := lex(s[1 : len(s)-1])
	if err != nil {
		return nil, err
	}
	fields, ellipsis := []field{}, -1
	p := &parser{tokens: tokens}
	for p.peek().kind != end {
		f, err := p.field()
		if err != nil {
			return nil, err
		}
		if f.rest {
			if ellipsis >= 0 {
				return nil, fmt.Errorf("'...' can stand once only")
			}
			ellipsis = len(fields)
		}
		fields = append(fields, f)
		if !p.accept(",") && p.peek().kind != end {
			return nil, fmt.Errorf("expected ',' or ']', found %s", p.peek())
		}
	}
	return func(message string) bool { return matchFields(fields, ellipsis, split(message)) }, nil
}

// field parses a name, a condition on one name, or "...".
func (p *parser) field() (field, error) {
	if p.accept("...") {
		return field{rest: true}, nil
	}
	f := field{}
	p.check = func(name string) error {
		if f.name != "" && name != f.name {
			return fmt.Errorf("the condition on the field %s names %s", f.name, name)
		}
		f.name = name
		return nil
	}
	if len(p.tokens) > 0 && p.tokens[0].kind == word && (len(p.tokens) == 1 || p.tokens[1].kind == symbol && p.tokens[1].value == ",") {
		return field{name: p.take().value}, nil
	}
	cond, err := p.or()
	f.cond = cond
	return f, err
}

func matchFields(fields []field, ellipsis int, have []string) bool {
	if ellipsis < 0 {
		return len(have) == len(fields) && holds(fields, have)
	}
	head, tail := fields[:ellipsis], fields[ellipsis+1:]
	if len(have) < len(head)+len(tail) {
		return false
	}
	return holds(head, have[:len(head)]) && holds(tail, have[len(have)-len(tail):])
}

func holds(fields []field, have []string) bool {
	for i, f := range fields {
		if f.cond != nil && !f.cond(func(string) []value { return []value{textValue(have[i])} }) {
			return false
		}
	}
	return true
}

// split cuts a message at spaces; text in quotes or brackets is one field.
func split(message string) []string {
	var fields []string
	for message = strings.TrimLeft(message, " "); message != ""; message = strings.TrimLeft(message, " ") {
		closing := map[byte]string{'"': `"`, '[': "]"}[message[0]]
		if closing != "" {
			if i := strings.Index(message[1:], closing); i >= 0 {
				fields = append(fields, message[1:1+i])
				message = message[i+2:]
				continue
			}
		}
		i := strings.IndexByte(message, ' ')
		if i < 0 {
			i = len(message)
		}
		fields = append(fields, message[:i])
		message = message[i:]
	}
	return fields
}
