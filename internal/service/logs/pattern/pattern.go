package pattern

import (
	"fmt"
	"regexp"
	"strings"
)

// maxDepth bounds the nesting of a condition.
const maxDepth = 32

// Pattern is a parsed filter pattern.
type Pattern struct {
	match func(message string) bool
}

// Match tells whether a message matches.
func (p *Pattern) Match(message string) bool { return p.match(message) }

// Parse parses a filter pattern. The empty pattern matches everything. The error
// says what is wrong with the text.
func Parse(text string) (*Pattern, error) {
	trimmed := strings.TrimSpace(text)
	var match func(string) bool
	var err error
	switch {
	case trimmed == "":
		match = func(string) bool { return true }
	case trimmed[0] == '{':
		match, err = parseJSON(trimmed)
	case trimmed[0] == '[':
		match, err = parseFields(trimmed)
	default:
		match, err = parseTerms(trimmed)
	}
	if err != nil {
		return nil, err
	}
	return &Pattern{match}, nil
}

// parseTerms parses the first form: every term must be there, no excluded one,
// and of the optional ones (if there are no others) at least one.
func parseTerms(text string) (func(string) bool, error) {
	var required, excluded, optional []func(string) bool
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		list := &required
		switch text[0] {
		case '-':
			list, text = &excluded, text[1:]
		case '?':
			list, text = &optional, text[1:]
		}
		term, rest, err := parseTerm(text)
		if err != nil {
			return nil, err
		}
		*list = append(*list, term)
		text = rest
	}
	return func(message string) bool {
		for _, term := range excluded {
			if term(message) {
				return false
			}
		}
		for _, term := range required {
			if !term(message) {
				return false
			}
		}
		if len(required) > 0 || len(excluded) > 0 || len(optional) == 0 {
			return true // AWS ignores ?terms beside others
		}
		for _, term := range optional {
			if term(message) {
				return true
			}
		}
		return false
	}, nil
}

func parseTerm(text string) (match func(string) bool, rest string, err error) {
	if text == "" {
		return nil, "", fmt.Errorf("a term is missing at the end")
	}
	switch text[0] {
	case '"':
		phrase, rest, err := quoted(text)
		return contains(phrase), rest, err
	case '%':
		re, rest, err := regex(text)
		if err != nil {
			return nil, "", err
		}
		return re.MatchString, rest, nil
	}
	end := strings.IndexAny(text, " \t\r\n")
	if end < 0 {
		end = len(text)
	}
	term := text[:end]
	for _, r := range term {
		if r < 0x80 && !isWord(byte(r)) {
			return nil, "", fmt.Errorf("the term %s holds %q: terms with other characters than letters, digits and '_' stand in double quotes", term, r)
		}
	}
	return contains(term), text[end:], nil
}

func contains(phrase string) func(string) bool {
	return func(message string) bool { return strings.Contains(message, phrase) }
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// quoted reads a string in double quotes, in which a backslash escapes.
func quoted(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), text[i+1:], nil
		case '\\':
			if i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\') {
				i++
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("a double quote is not closed: %s", text)
}

// regex reads a regular expression between percent signs.
func regex(text string) (re *regexp.Regexp, rest string, err error) {
	end := strings.IndexByte(text[1:], '%')
	if end < 0 {
		return nil, "", fmt.Errorf("a regular expression is not closed by '%%': %s", text)
	}
	re, err = regexp.Compile(text[1 : 1+end])
	if err != nil {
		return nil, "", fmt.Errorf("the regular expression between '%%' is invalid: %w", err)
	}
	return re, text[end+2:], nil
}

// wildcard matches text with '*' for any characters.
func wildcard(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
