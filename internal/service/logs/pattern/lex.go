package pattern

import (
	"fmt"
	"regexp"
	"strings"
)

type kind int

const (
	end    kind = iota
	symbol      // ( ) && || = != < <= > >= , ...
	word        // a selector, a name, a number, a keyword, or text with '*'
	text        // in double quotes
	re          // between percent signs
)

type token struct {
	kind  kind
	value string
	re    *regexp.Regexp
}

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return fmt.Sprintf("%q", t.value)
}

// lex splits a condition into tokens.
func lex(s string) ([]token, error) {
	var tokens []token
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return tokens, nil
		}
		t, rest, err := next(s)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		s = rest
	}
}

func next(s string) (token, string, error) {
	switch s[0] {
	case '"':
		value, rest, err := quoted(s)
		return token{kind: text, value: value}, rest, err
	case '%':
		expr, rest, err := regex(s)
		return token{kind: re, value: "%", re: expr}, rest, err
	}
	for _, op := range []string{"...", "&&", "||", "!=", "<=", ">=", "=", "<", ">", "(", ")", ","} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return token{kind: symbol, value: op}, rest, nil
		}
	}
	i := 0
	for i < len(s) && !strings.ContainsRune(" \t\r\n\"%&|!<>=(),", rune(s[i])) {
		if s[i] == '[' { // a selector's ['name'] or [0] may hold anything
			n := strings.IndexByte(s[i:], ']')
			if n < 0 {
				return token{}, "", fmt.Errorf("a '[' is not closed: %s", s)
			}
			i += n
		}
		i++
	}
	if i == 0 {
		return token{}, "", fmt.Errorf("unexpected %q", s[0])
	}
	return token{kind: word, value: s[:i]}, s[i:], nil
}
