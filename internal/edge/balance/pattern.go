package balance

import (
	"strings"
	"unicode/utf8"
)

// pattern is text with wildcards.
type pattern struct {
	// parts are what is between the *, if there is no ?; chars are all characters else.
	parts []string
	chars []rune
}

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
	var chars []rune
	parts, one, literal := []string{""}, false, false
	add := func(c rune) {
		chars = append(chars, c)
		parts[len(parts)-1] += string(c)
	}
	for _, c := range text {
		switch {
		case literal:
			add(c)
			literal = false
		case escapes && c == '\\':
			literal = true
		case c == '*':
			chars, parts = append(chars, anything), append(parts, "")
		case c == '?':
			chars, one = append(chars, anyOne), true
		default:
			add(c)
		}
	}
	if literal {
		add('\\')
	}
	if one {
		return pattern{chars: chars}
	}
	return pattern{parts: parts}
}

func (p pattern) empty() bool { return len(p.parts) == 1 && p.parts[0] == "" }

func (p pattern) match(text string) bool {
	if p.parts == nil {
		return matchChars(p.chars, text)
	}
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(p.parts) == 1 {
		return text == first
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// matchChars tries the last * only with more characters when what follows does not fit:
// the time is bounded by the product of the lengths.
func matchChars(p []rune, text string) bool {
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
