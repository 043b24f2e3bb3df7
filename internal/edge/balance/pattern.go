package balance

import (
	"strings"
	"unicode/utf8"
)

// pattern is text with wildcards, one element for each character.
type pattern []rune

// Wildcards are outside Unicode, so that an escaped * is just a *.
const (
	anything rune = -1 - iota
	anyOne
)

// newPattern reads * and ?; with escapes, a backslash makes the next character literal.
func newPattern(text string, escapes, fold bool) pattern {
	if fold {
		text = strings.ToLower(text)
	}
	var p pattern
	literal := false
	for _, c := range text {
		switch {
		case literal:
			p, literal = append(p, c), false
		case escapes && c == '\\':
			literal = true
		case c == '*':
			p = append(p, anything)
		case c == '?':
			p = append(p, anyOne)
		default:
			p = append(p, c)
		}
	}
	if literal {
		p = append(p, '\\')
	}
	return p
}

// match tries the last * only with more characters when what follows does not fit: the
// time is bounded by the product of the lengths.
func (p pattern) match(text string) bool {
	at, star, resume := 0, -1, 0
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case at < len(p) && p[at] == anything:
			star, resume = at, i
			at++
		case at < len(p) && (p[at] == c || p[at] == anyOne):
			at++
			i += size
		case star >= 0:
			_, size = utf8.DecodeRuneInString(text[resume:])
			resume += size
			at, i = star+1, resume
		default:
			return false
		}
	}
	for at < len(p) && p[at] == anything {
		at++
	}
	return at == len(p)
}
