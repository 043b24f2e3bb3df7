package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of what is parsed at all. IAM's own quotas on documents are smaller, and
// its room's to check.
const (
	maxBytes = 128 << 10
	maxDepth = 12
)

type nodeKind byte

const (
	objectNode nodeKind = iota
	arrayNode
	stringNode
	scalarNode // a number or a boolean; text is what was written
	nullNode
)

// node is a JSON value and where it stands.
type node struct {
	kind nodeKind
	text string
	// keys of an object's members; items are their values, or an array's.
	keys  []string
	items []*node
	// start and end are byte offsets: of an object's braces, elsewhere of the end.
	start, end int
}

// parseJSON reads a text into nodes. A key that comes twice in one object is an
// error: readers would disagree on which of the two holds.
func parseJSON(text []byte) (*node, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("the document is larger than %d bytes", maxBytes)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the document is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	root, err := parseValue(d, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at(text, int(d.InputOffset())), jsonError(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows the document", at(text, int(d.InputOffset())))
	}
	return root, nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the document ends too early")
	}
	return err
}

func parseValue(d *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels are nested", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	n := &node{end: int(d.InputOffset())}
	n.start = n.end
	switch t := token.(type) {
	case string:
		n.kind, n.text = stringNode, t
	case json.Number:
		n.kind, n.text = scalarNode, t.String()
	case bool:
		n.kind, n.text = scalarNode, fmt.Sprint(t)
	case nil:
		n.kind = nullNode
	case json.Delim:
		n.start--
		if t == '{' {
			n.kind = objectNode
			return n, n.parseMembers(d, depth)
		}
		n.kind = arrayNode
		return n, n.parseItems(d, depth)
	}
	return n, nil
}

func (n *node) parseMembers(d *json.Decoder, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok || seen[key] {
			return fmt.Errorf("the key %q is there twice", key)
		}
		seen[key] = true
		value, err := parseValue(d, depth+1)
		if err != nil {
			return err
		}
		n.keys, n.items = append(n.keys, key), append(n.items, value)
	}
	return n.close(d)
}

func (n *node) parseItems(d *json.Decoder, depth int) error {
	for d.More() {
		item, err := parseValue(d, depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	return n.close(d)
}

func (n *node) close(d *json.Decoder) error {
	_, err := d.Token()
	n.end = int(d.InputOffset())
	return err
}

// list returns an array's items, and any other value as the list of itself: what
// the language writes as "one or several".
func (n *node) list() []*node {
	if n.kind == arrayNode {
		return n.items
	}
	return []*node{n}
}

// Position is a place in a document's text; lines and columns count from 1.
type Position struct {
	Line, Column int
}

// at returns the position of a byte offset.
func at(text []byte, offset int) Position {
	before := text[:min(offset, len(text))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return Position{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[line:]) + 1}
}

func (p Position) String() string { return fmt.Sprintf("line %d, column %d", p.Line, p.Column) }
