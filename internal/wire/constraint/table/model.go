package table

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// model is the part of a published API model (service-2.json) that is read here.
type model struct {
	Metadata struct {
		APIVersion string `json:"apiVersion"`
	} `json:"metadata"`
	Operations map[string]struct {
		Input *modelRef `json:"input"`
	} `json:"operations"`
	Shapes map[string]*modelShape `json:"shapes"`
}

type modelRef struct {
	Shape string `json:"shape"`
}

type modelShape struct {
	Type      string      `json:"type"`
	Required  []string    `json:"required"`
	Members   orderedRefs `json:"members"`
	Member    *modelRef   `json:"member"`
	Key       *modelRef   `json:"key"`
	Value     *modelRef   `json:"value"`
	Min       json.Number `json:"min"`
	Max       json.Number `json:"max"`
	Pattern   string      `json:"pattern"`
	Enum      []string    `json:"enum"`
	Sensitive bool        `json:"sensitive"`
	Document  bool        `json:"document"`
	Exception bool        `json:"exception"`
}

// orderedRefs are a structure's members in the order of the file: messages list
// violations in that order.
type orderedRefs []namedRef

type namedRef struct {
	name, shape string
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *orderedRefs) UnmarshalJSON(data []byte) error {
	var byName map[string]modelRef
	if err := json.Unmarshal(data, &byName); err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name := key.(string)
		*r = append(*r, namedRef{name, byName[name].Shape})
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}

// FromModel derives the table of a service from its published model. It fails on
// a pattern that Compile cannot translate: such a pattern needs a decision.
func FromModel(service string, modelJSON []byte) (*Table, error) {
	var m model
	if err := json.Unmarshal(modelJSON, &m); err != nil {
		return nil, fmt.Errorf("model of %s: %w", service, err)
	}
	t := &Table{Service: service, Version: m.Metadata.APIVersion, Operations: make(map[string]string), Shapes: make(map[string]*Shape)}
	constrained := m.constrained()
	for name, op := range m.Operations {
		t.Operations[name] = None
		if op.Input == nil || !constrained[op.Input.Shape] {
			continue
		}
		t.Operations[name] = op.Input.Shape
		if err := m.collect(t, op.Input.Shape, constrained); err != nil {
			return nil, fmt.Errorf("model of %s: %w", service, err)
		}
	}
	return t, nil
}

func (s *modelShape) refs() []string {
	var refs []string
	for _, m := range s.Members {
		refs = append(refs, m.shape)
	}
	for _, r := range []*modelRef{s.Member, s.Key, s.Value} {
		if r != nil {
			refs = append(refs, r.Shape)
		}
	}
	return refs
}

// constrained finds the shapes that have a constraint or lead to one. To be
// sensitive counts as one: what holds such a value must not be repeated either.
func (m *model) constrained() map[string]bool {
	found := make(map[string]bool)
	for name, s := range m.Shapes {
		found[name] = len(s.Required) > 0 || s.Min != "" || s.Max != "" || s.Pattern != "" || len(s.Enum) > 0 || s.Sensitive
	}
	for grown := true; grown; {
		grown = false
		for name, s := range m.Shapes {
			if !found[name] && slices.ContainsFunc(s.refs(), func(r string) bool { return found[r] }) {
				found[name], grown = true, true
			}
		}
	}
	return found
}

// collect adds the shape and what it leads to.
func (m *model) collect(t *Table, name string, constrained map[string]bool) error {
	if t.Shapes[name] != nil {
		return nil
	}
	from := m.Shapes[name]
	if from == nil {
		return fmt.Errorf("no shape %s", name)
	}
	s := &Shape{
		Name: name, Kind: kindOf(from), Sensitive: from.Sensitive,
		Min: from.Min.String(), Max: from.Max.String(), Pattern: from.Pattern, Enum: from.Enum,
	}
	t.Shapes[name] = s
	if err := s.writable(); err != nil {
		return err
	}
	// use returns how to refer to a shape, and adds it.
	var failed error
	use := func(r string) string {
		if !constrained[r] {
			return None
		}
		if err := m.collect(t, r, constrained); err != nil {
			failed = err
		}
		return r
	}
	for _, member := range from.Members {
		ref := Member{Name: member.name, Required: slices.Contains(from.Required, member.name), Shape: use(member.shape)}
		if ref.Required || ref.Shape != None {
			s.Members = append(s.Members, ref)
		}
	}
	switch {
	case from.Member != nil:
		s.Elem = use(from.Member.Shape)
	case from.Value != nil && from.Key != nil:
		s.Key, s.Elem = use(from.Key.Shape), use(from.Value.Shape)
	}
	return failed
}

func kindOf(s *modelShape) string {
	switch s.Type {
	case "structure":
		if s.Document {
			return Other
		}
		return Structure
	case "list", "map", "string", "blob":
		return s.Type
	case "integer", "long", "short", "byte", "float", "double":
		return Number
	}
	return Other
}

// writable tells whether Format can write the shape so that Parse reads it back.
func (s *Shape) writable() error {
	for _, v := range s.Enum {
		if strings.ContainsAny(v, " |\n") {
			return fmt.Errorf("shape %s: the enum value %q cannot be written", s.Name, v)
		}
	}
	if strings.Contains(s.Pattern, "\n") {
		return fmt.Errorf("shape %s: the pattern %q cannot be written", s.Name, s.Pattern)
	}
	if s.Pattern != "" {
		if _, err := Compile(s.Pattern); err != nil {
			return fmt.Errorf("shape %s: %w", s.Name, err)
		}
	}
	return nil
}
