package pattern

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseJSON parses { condition } over the properties of a JSON message.
func parseJSON(s string) (func(string) bool, error) {
	if !strings.HasSuffix(s, "}") {
		return nil, fmt.Errorf("a '{' is not closed")
	}
	tokens, err := lex(s[1 : len(s)-1])
	if err != nil {
		return nil, err
	}
	paths := map[string][]step{}
	p := &parser{tokens: tokens, check: func(selector string) error {
		path, err := parsePath(selector)
		paths[selector] = path
		return err
	}}
	cond, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, fmt.Errorf("expected && or ||, found %s", t)
	}
	return func(message string) bool {
		if !strings.HasPrefix(strings.TrimLeft(message, " \t\r\n"), "{") {
			return false
		}
		var root any
		d := json.NewDecoder(strings.NewReader(message))
		d.UseNumber()
		if d.Decode(&root) != nil {
			return false
		}
		return cond(func(selector string) []value {
			var found []value
			collect(root, paths[selector], &found)
			return found
		})
	}, nil
}

// step is one part of a selector: a property, an element, or all elements.
type step struct {
	property string
	index    int
	element  bool
	all      bool
}

// parsePath parses $.a.b[0].c, $.a[*] and $['a b'].c.
func parsePath(selector string) ([]step, error) {
	bad := fmt.Errorf("%q is not a selector: it begins with '$.'", selector)
	rest, ok := strings.CutPrefix(selector, "$")
	if !ok {
		return nil, bad
	}
	var path []step
	for rest != "" {
		switch rest[0] {
		case '.':
			rest = rest[1:]
			if strings.HasPrefix(rest, "[") {
				continue
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, bad
			}
			path = append(path, step{property: rest[:end]})
			rest = rest[end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, bad
			}
			st, err := bracket(rest[1:end])
			if err != nil {
				return nil, err
			}
			path = append(path, st)
			rest = rest[end+1:]
		default:
			return nil, bad
		}
	}
	if len(path) == 0 {
		return nil, bad
	}
	return path, nil
}

func bracket(inner string) (step, error) {
	if inner == "*" {
		return step{all: true}, nil
	}
	if n := len(inner); n > 2 && inner[0] == '\'' && inner[n-1] == '\'' {
		return step{property: inner[1 : n-1]}, nil
	}
	i, err := strconv.Atoi(inner)
	if err != nil || i < 0 {
		return step{}, fmt.Errorf("[%s] is neither an index, [*] nor ['name']", inner)
	}
	return step{index: i, element: true}, nil
}

// collect adds the scalars that a path leads to.
func collect(v any, path []step, found *[]value) {
	if len(path) == 0 {
		if scalar, ok := scalarValue(v); ok {
			*found = append(*found, scalar)
		}
		return
	}
	switch st := path[0]; {
	case st.element, st.all:
		list, _ := v.([]any)
		if st.element {
			list = list[min(st.index, len(list)):min(st.index+1, len(list))]
		}
		for item := range slices.Values(list) {
			collect(item, path[1:], found)
		}
	default:
		object, _ := v.(map[string]any)
		if item, ok := object[st.property]; ok {
			collect(item, path[1:], found)
		}
	}
}

// scalarValue returns a JSON value as it is compared. Objects and arrays are
// there (for NOT EXISTS), but equal nothing.
func scalarValue(v any) (value, bool) {
	switch v := v.(type) {
	case nil:
		return value{text: "null", isNull: true}, true
	case bool:
		return value{text: strconv.FormatBool(v), isBool: true}, true
	case json.Number:
		n, err := v.Float64()
		return value{text: v.String(), number: n, isNum: err == nil}, true
	case string:
		return value{text: v}, true
	}
	return value{text: "\x00"}, true
}
