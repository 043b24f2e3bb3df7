package pattern

import (
	"fmt"
	"strconv"
	"strings"
)

// value is what a selector finds: text as it is compared, with the number it
// stands for, if any.
type value struct {
	text   string
	number float64
	isNum  bool
	isNull bool
	isBool bool
}

func textValue(s string) value {
	n, err := strconv.ParseFloat(s, 64)
	return value{text: s, number: n, isNum: err == nil}
}

// lookup returns the values that a selector finds.
type lookup func(selector string) []value

// condition is a parsed condition.
type condition func(lookup) bool

// parser parses conditions: comparisons joined by && and ||, in parentheses.
type parser struct {
	tokens []token
	// check refuses what cannot be a selector.
	check func(selector string) error
	depth int
}

func (p *parser) peek() token {
	if len(p.tokens) == 0 {
		return token{}
	}
	return p.tokens[0]
}

func (p *parser) take() token {
	t := p.peek()
	if len(p.tokens) > 0 {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) accept(sym string) bool {
	if t := p.peek(); t.kind == symbol && t.value == sym {
		p.take()
		return true
	}
	return false
}

func (p *parser) or() (condition, error) {
	left, err := p.and()
	for err == nil && p.accept("||") {
		var right condition
		a := left
		right, err = p.and()
		left = func(l lookup) bool { return a(l) || right(l) }
	}
	return left, err
}

func (p *parser) and() (condition, error) {
	left, err := p.unit()
	for err == nil && p.accept("&&") {
		var right condition
		a := left
		right, err = p.unit()
		left = func(l lookup) bool { return a(l) && right(l) }
	}
	return left, err
}

func (p *parser) unit() (condition, error) {
	if !p.accept("(") {
		return p.comparison()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("conditions are nested more than %d deep", maxDepth)
	}
	c, err := p.or()
	if err == nil && !p.accept(")") {
		err = fmt.Errorf("expected ')', found %s", p.peek())
	}
	p.depth--
	return c, err
}

func (p *parser) comparison() (condition, error) {
	t := p.take()
	if t.kind != word {
		return nil, fmt.Errorf("expected a selector, found %s", t)
	}
	if err := p.check(t.value); err != nil {
		return nil, err
	}
	op := p.take()
	if op.kind == word {
		return p.keyword(t.value, op)
	}
	if op.kind != symbol || !strings.Contains(" = != < <= > >= ", " "+op.value+" ") {
		return nil, fmt.Errorf("expected a comparison after %s, found %s", t.value, op)
	}
	test, err := literal(op.value, p.take())
	if err != nil {
		return nil, err
	}
	return func(l lookup) bool { return anyOf(l(t.value), test) }, nil
}

func (p *parser) keyword(selector string, op token) (condition, error) {
	words := strings.ToUpper(op.value)
	if t := p.peek(); t.kind == word {
		words += " " + strings.ToUpper(p.take().value)
	}
	var test func(value) bool
	switch words {
	case "NOT EXISTS":
		return func(l lookup) bool { return len(l(selector)) == 0 }, nil
	case "IS NULL":
		test = func(v value) bool { return v.isNull }
	case "IS TRUE":
		test = func(v value) bool { return v.isBool && v.text == "true" }
	case "IS FALSE":
		test = func(v value) bool { return v.isBool && v.text == "false" }
	default:
		return nil, fmt.Errorf("expected IS NULL, IS TRUE, IS FALSE or NOT EXISTS after %s, found %s", selector, words)
	}
	return func(l lookup) bool { return anyOf(l(selector), test) }, nil
}

func anyOf(values []value, test func(value) bool) bool {
	for _, v := range values {
		if test(v) {
			return true
		}
	}
	return false
}

// literal returns the test of a value against what stands right of an operator.
func literal(op string, t token) (func(value) bool, error) {
	if t.kind == end || t.kind == symbol {
		return nil, fmt.Errorf("expected a value after %s, found %s", op, t)
	}
	if t.kind == re {
		switch op {
		case "=":
			return func(v value) bool { return t.re.MatchString(v.text) }, nil
		case "!=":
			return func(v value) bool { return !t.re.MatchString(v.text) }, nil
		}
		return nil, fmt.Errorf("a regular expression can be compared with = and != only")
	}
	number, err := strconv.ParseFloat(t.value, 64)
	isNumber := err == nil && t.kind == word
	switch op {
	case "=", "!=":
		return func(v value) bool {
			same := wildcard(t.value, v.text) || isNumber && v.isNum && v.number == number
			return same == (op == "=")
		}, nil
	}
	if !isNumber {
		return nil, fmt.Errorf("%s compares numbers, and %s is none", op, t)
	}
	return func(v value) bool {
		if !v.isNum {
			return false
		}
		switch op {
		case "<":
			return v.number < number
		case "<=":
			return v.number <= number
		case ">":
			return v.number > number
		}
		return v.number >= number
	}, nil
}
