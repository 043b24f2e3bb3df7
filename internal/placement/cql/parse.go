package cql

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxLength of an expression in characters, as ECS documents it.
	MaxLength = 2000
	// maxDepth bounds parentheses and negations inside one another.
	maxDepth = 50
)

// Expression is a parsed expression. The zero value is not valid; see Parse.
type Expression struct {
	source string
	root   node
	tasks  bool
}

// String returns the expression as it was given.
func (e *Expression) String() string { return e.source }

// ReadsTasks tells whether the outcome depends on what runs on the instance
// (runningTasksCount, task:group), and so changes when a task is placed on it.
func (e *Expression) ReadsTasks() bool { return e.tasks }

// SyntaxError says where an expression is wrong, and how.
type SyntaxError struct {
	// Position is the character, counted from 1, at which the error is.
	Position int
	Message  string
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("at character %d: %s", e.Position, e.Message)
}

// Parse parses an expression. An error is a *SyntaxError.
func Parse(source string) (*Expression, error) {
	p := &parser{source: source}
	if n := utf8.RuneCountInString(source); n > MaxLength {
		return nil, &SyntaxError{MaxLength + 1, fmt.Sprintf("the expression has %d characters, the limit is %d", n, MaxLength)}
	}
	if !utf8.ValidString(source) {
		return nil, &SyntaxError{1, "the expression is not valid UTF-8"}
	}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.skipSpace(); p.pos < len(source) {
		return nil, p.failf(p.pos, "unexpected %s; expected and, or, or the end", p.near())
	}
	return &Expression{source: source, root: root, tasks: p.tasks}, nil
}

// parser is a recursive descent over the source; pos is a byte offset.
type parser struct {
	source string
	pos    int
	tasks  bool
}

func (p *parser) failf(pos int, format string, args ...any) error {
	return &SyntaxError{utf8.RuneCountInString(p.source[:pos]) + 1, fmt.Sprintf(format, args...)}
}

func (p *parser) rest() string { return p.source[p.pos:] }

func (p *parser) skipSpace() {
	p.pos = len(p.source) - len(strings.TrimLeftFunc(p.rest(), unicode.IsSpace))
}

// near quotes what follows, for messages.
func (p *parser) near() string {
	if p.rest() == "" {
		return "end of the expression"
	}
	word := p.rest()
	if i := strings.IndexFunc(word, unicode.IsSpace); i > 0 {
		word = word[:i]
	}
	if len(word) > 40 {
		word = strings.ToValidUTF8(word[:40], "") + "…"
	}
	return "'" + word + "'"
}

// symbol consumes s if it is next.
func (p *parser) symbol(s string) bool {
	p.skipSpace()
	if !strings.HasPrefix(p.rest(), s) {
		return false
	}
	p.pos += len(s)
	return true
}

// word consumes w if it is next and is a whole word.
func (p *parser) word(w string) bool {
	p.skipSpace()
	after, found := strings.CutPrefix(p.rest(), w)
	if !found || after != "" && isSubjectByte(after[0]) {
		return false
	}
	p.pos += len(w)
	return true
}

func (p *parser) or(depth int) (node, error) {
	left, err := p.and(depth)
	for err == nil && (p.symbol("||") || p.word("or")) {
		var right node
		right, err = p.and(depth)
		left = orNode{left, right}
	}
	return left, err
}

func (p *parser) and(depth int) (node, error) {
	left, err := p.not(depth)
	for err == nil && (p.symbol("&&") || p.word("and")) {
		var right node
		right, err = p.not(depth)
		left = andNode{left, right}
	}
	return left, err
}

func (p *parser) not(depth int) (node, error) {
	if depth > maxDepth {
		return nil, p.failf(p.pos, "nested deeper than %d levels", maxDepth)
	}
	if p.symbol("!") || p.word("not") {
		inner, err := p.not(depth + 1)
		return notNode{inner}, err
	}
	if p.symbol("(") {
		open := p.pos
		inner, err := p.or(depth + 1)
		if err == nil && !p.symbol(")") {
			err = p.failf(p.pos, "expected ')' for the '(' at character %d, found %s", open, p.near())
		}
		return inner, err
	}
	return p.comparison()
}

func (p *parser) comparison() (node, error) {
	p.skipSpace()
	start := p.pos
	for p.pos < len(p.source) && isSubjectByte(p.source[p.pos]) {
		p.pos++
	}
	name := p.source[start:p.pos]
	if name == "" {
		return nil, p.failf(start, "expected a subject such as attribute:name, found %s", p.near())
	}
	subject, err := newSubject(name)
	if err != nil {
		return nil, p.failf(start, "%s", err)
	}
	p.skipSpace()
	at := p.pos
	op, ok := p.operator()
	if !ok {
		return nil, p.failf(at, "expected an operator after %s, found %s", name, p.near())
	}
	if !subject.allows(op) {
		return nil, p.failf(at, "%s does not have the operator %s", subject.kind, op)
	}
	p.tasks = p.tasks || subject.kind == kindRunningTasks || subject.kind == kindTaskGroup
	return p.operand(subject, op)
}

// operator reads an operator; longer spellings come before their prefixes.
func (p *parser) operator() (operator, bool) {
	for _, s := range symbols {
		if p.symbol(s.text) {
			return s.op, true
		}
	}
	for _, w := range words {
		if p.word(w.text) {
			return w.op, true
		}
	}
	return 0, false
}

// operand reads what op takes and compiles the comparison.
func (p *parser) operand(s subject, op operator) (node, error) {
	c := &comparison{subject: s, op: op}
	switch op {
	case opExists, opNotExists:
		return c, nil
	case opIn, opNotIn:
		list, err := p.list()
		c.list = list
		return c, err
	}
	at := p.skipTo()
	text, err := p.argument(op == opMatches || op == opNotMatches)
	if err != nil {
		return nil, err
	}
	if op == opMatches || op == opNotMatches {
		// Alone first: "a)|(b" would become valid inside our own parentheses.
		if _, err = syntax.Parse(text, syntax.Perl); err == nil {
			// Java's String.matches is anchored on both ends.
			c.pattern, err = regexp.Compile(`^(?:` + text + `)$`)
		}
		if err != nil {
			return nil, p.failf(at, "the pattern %q is not supported: %s", text, patternProblem(err))
		}
		return c, nil
	}
	if c.value, err = s.parseValue(text); err != nil {
		return nil, p.failf(at, "%s", err)
	}
	return c, nil
}

func (p *parser) skipTo() int {
	p.skipSpace()
	return p.pos
}

func (p *parser) list() ([]string, error) {
	if !p.symbol("[") {
		return nil, p.failf(p.pos, "expected a list such as [a, b], found %s", p.near())
	}
	var list []string
	for {
		v, err := p.argument(false)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if p.symbol("]") {
			return list, nil
		}
		if !p.symbol(",") {
			return nil, p.failf(p.pos, "expected ',' or ']' in the list, found %s", p.near())
		}
	}
}

// argument reads a literal, quoted or bare. A bare pattern may hold commas and
// balanced brackets; any other bare literal ends before them.
func (p *parser) argument(pattern bool) (string, error) {
	start := p.skipTo()
	if p.pos == len(p.source) {
		return "", p.failf(p.pos, "expected an argument, found %s", p.near())
	}
	if q := p.source[p.pos]; q == '\'' || q == '"' {
		return p.quoted(q)
	}
	depth := 0
	for p.pos < len(p.source) {
		rest := p.rest()
		if depth == 0 && (strings.HasPrefix(rest, "&&") || strings.HasPrefix(rest, "||")) {
			break
		}
		r, size := utf8.DecodeRuneInString(rest)
		if unicode.IsSpace(r) || !pattern && strings.ContainsRune(",[]()", r) {
			break
		}
		if pattern {
			next, done := patternDepth(depth, r)
			if done {
				break
			}
			depth = next
			if r == '\\' && len(rest) > 1 {
				p.pos++
				_, size = utf8.DecodeRuneInString(p.rest())
			}
		}
		p.pos += size
	}
	if p.pos == start {
		return "", p.failf(start, "expected an argument, found %s", p.near())
	}
	return p.source[start:p.pos], nil
}

// patternDepth counts brackets; done means that r closes one opened outside.
func patternDepth(depth int, r rune) (next int, done bool) {
	switch r {
	case '(', '[', '{':
		return depth + 1, false
	case ')', ']', '}':
		return depth - 1, depth == 0
	}
	return depth, false
}

// quoted reads a literal in quotes. A backslash stands for itself, so that
// patterns need no doubling, except before the quote.
func (p *parser) quoted(quote byte) (string, error) {
	start := p.pos
	var b strings.Builder
	for p.pos++; p.pos < len(p.source); p.pos++ {
		c := p.source[p.pos]
		if c == '\\' && p.pos+1 < len(p.source) {
			if p.source[p.pos+1] != quote {
				b.WriteByte(c)
			}
			p.pos++
			b.WriteByte(p.source[p.pos])
			continue
		}
		if c == quote {
			p.pos++
			return b.String(), nil
		}
		b.WriteByte(c)
	}
	return "", p.failf(start, "the quote %c is not closed", quote)
}

// isSubjectByte tells what a subject consists of: the characters that ECS
// allows in attribute names, and the colon after attribute and task.
func isSubjectByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(`-_./\:`, c) >= 0
}

// patternProblem drops the pattern itself from a regexp error.
func patternProblem(err error) string {
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}
