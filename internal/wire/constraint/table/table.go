package table

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kinds of shapes. A Number is an integer, long, float or double; an Other
// (boolean, timestamp, document) can only be sensitive.
const (
	Structure = "structure"
	List      = "list"
	Map       = "map"
	String    = "string"
	Blob      = "blob"
	Number    = "number"
	Other     = "other"
)

// None names the shape of a member that has no constraint but being required.
const None = "-"

// Table is the constraints of one service's inputs.
type Table struct {
	Service string
	// Version is the API's version.
	Version string
	// Operations maps each operation to its input's shape, "-" when nothing in
	// the input is constrained.
	Operations map[string]string
	// Shapes by name: those that are constrained, or lead to one that is.
	Shapes map[string]*Shape
}

// Shape is one shape of a model, with its constraints.
type Shape struct {
	Name string
	Kind string
	// Sensitive values must not appear in messages or logs.
	Sensitive bool
	// Min and Max bound the length or, for a Number, the value; "" is unbounded.
	// They are kept as the model writes them, for they appear in messages.
	Min, Max string
	// Pattern as the model has it, "" for none.
	Pattern string
	// Enum holds the values of an enumeration in the model's order.
	Enum []string
	// Members of a Structure, in the model's order. Those without a constraint
	// anywhere below them are left out.
	Members []Member
	// Elem is the shape of a List's elements or a Map's values, Key of its keys.
	Elem, Key string
}

// Member is a member of a structure.
type Member struct {
	// Name as the model has it, which is the name on the wire.
	Name     string
	Required bool
	// Shape is a name in Table.Shapes, or None.
	Shape string
}

// Format writes the table; Parse reads it back.
func (t *Table) Format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Generated from the published model by go generate ./internal/wire/constraint; do not edit.\n")
	fmt.Fprintf(&b, "service %s %s\n", t.Service, t.Version)
	for _, name := range slices.Sorted(maps.Keys(t.Operations)) {
		fmt.Fprintf(&b, "operation %s %s\n", name, t.Operations[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.Shapes)) {
		t.Shapes[name].format(&b)
	}
	return b.Bytes()
}

func (s *Shape) format(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s %s", s.Kind, s.Name)
	if s.Sensitive {
		b.WriteString(" sensitive")
	}
	if s.Min != "" || s.Max != "" {
		fmt.Fprintf(b, " %s..%s", s.Min, s.Max)
	}
	switch s.Kind {
	case List:
		fmt.Fprintf(b, " %s", s.Elem)
	case Map:
		fmt.Fprintf(b, " %s %s", s.Key, s.Elem)
	}
	if len(s.Enum) > 0 {
		fmt.Fprintf(b, " enum %s", strings.Join(s.Enum, "|"))
	}
	if s.Pattern != "" {
		fmt.Fprintf(b, " /%s", s.Pattern)
	}
	b.WriteByte('\n')
	for _, m := range s.Members {
		star := ""
		if m.Required {
			star = "*"
		}
		fmt.Fprintf(b, "  %s%s %s\n", star, m.Name, m.Shape)
	}
}

// Parse reads a table. An error names the line.
func Parse(text []byte) (*Table, error) {
	t := &Table{Operations: make(map[string]string), Shapes: make(map[string]*Shape)}
	var structure *Shape
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		var err error
		if member, ok := strings.CutPrefix(line, "  "); ok {
			err = structure.addMember(member)
		} else {
			structure, err = t.addLine(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return t, t.complete()
}

func (s *Shape) addMember(line string) error {
	name, shape, ok := strings.Cut(line, " ")
	if s == nil || s.Kind != Structure || !ok {
		return fmt.Errorf("%q is not a member of a structure", line)
	}
	bare, required := strings.CutPrefix(name, "*")
	s.Members = append(s.Members, Member{Name: bare, Required: required, Shape: shape})
	return nil
}

// addLine adds what a line without indentation says, and returns its shape.
func (t *Table) addLine(line string) (*Shape, error) {
	head, pattern, _ := strings.Cut(line, " /")
	words := strings.Split(head, " ")
	switch {
	case words[0] == "service" && len(words) == 3:
		t.Service, t.Version = words[1], words[2]
		return nil, nil
	case words[0] == "operation" && len(words) == 3:
		t.Operations[words[1]] = words[2]
		return nil, nil
	case len(words) < 2:
		return nil, fmt.Errorf("%q says nothing", line)
	}
	s := &Shape{Kind: words[0], Name: words[1], Pattern: pattern}
	rest := words[2:]
	if len(rest) > 0 && rest[0] == "sensitive" {
		s.Sensitive, rest = true, rest[1:]
	}
	if len(rest) > 0 {
		if low, high, ok := strings.Cut(rest[0], ".."); ok {
			s.Min, s.Max, rest = low, high, rest[1:]
		}
	}
	switch {
	case s.Kind == List && len(rest) == 1:
		s.Elem, rest = rest[0], nil
	case s.Kind == Map && len(rest) == 2:
		s.Key, s.Elem, rest = rest[0], rest[1], nil
	case s.Kind == String && len(rest) == 2 && rest[0] == "enum":
		s.Enum, rest = strings.Split(rest[1], "|"), nil
	}
	if len(rest) > 0 || !slices.Contains([]string{Structure, List, Map, String, Blob, Number, Other}, s.Kind) {
		return nil, fmt.Errorf("cannot read %q", line)
	}
	t.Shapes[s.Name] = s
	return s, nil
}

// complete reports names that lead nowhere.
func (t *Table) complete() error {
	known := func(from, name string) error {
		if name != "" && name != None && t.Shapes[name] == nil {
			return fmt.Errorf("%s refers to the unknown shape %s", from, name)
		}
		return nil
	}
	for op, input := range t.Operations {
		if err := known("operation "+op, input); err != nil {
			return err
		}
	}
	for _, s := range t.Shapes {
		names := []string{s.Elem, s.Key}
		for _, m := range s.Members {
			names = append(names, m.Shape)
		}
		for _, name := range names {
			if err := known(s.Name, name); err != nil {
				return err
			}
		}
	}
	return nil
}
