package table

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
)

// rewrites replaces patterns that RE2 cannot express as they are written by
// others that accept the same, given the lengths that their shapes also have.
var rewrites = map[string]string{
	// An account alias (3 to 63 characters) without two hyphens in a row.
	`^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`: `[a-z0-9](-?[a-z0-9])*`,
}

// classes are the POSIX classes that Java spells \p{Name}; within brackets.
var classes = strings.NewReplacer(
	`\p{Print}`, `\x20-\x7e`, `\p{Graph}`, `\x21-\x7e`, `\p{Alnum}`, `0-9A-Za-z`,
	`\p{Alpha}`, `A-Za-z`, `\p{Digit}`, `0-9`, `\p{ASCII}`, `\x00-\x7f`,
)

// Compile translates a pattern of a model, written for Java, to RE2. The whole
// value has to match, as in Java's Matcher.matches.
func Compile(pattern string) (*regexp.Regexp, error) {
	translated, ok := rewrites[pattern]
	if !ok {
		translated = classes.Replace(unescapeUnicode(pattern))
	}
	re, err := regexp.Compile(`^(?:` + translated + `)$`)
	if err != nil {
		return nil, fmt.Errorf("the pattern %q needs a rewrite: %w", pattern, err)
	}
	return re, nil
}

// unescapeUnicode turns \uXXXX, and two of them that are a surrogate pair, into
// \x{X}.
func unescapeUnicode(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); {
		r, size := unicodeEscape(pattern[i:])
		if size == 0 {
			n := 1
			if pattern[i] == '\\' && i+1 < len(pattern) {
				n = 2
			}
			b.WriteString(pattern[i : i+n])
			i += n
			continue
		}
		if low, lowSize := unicodeEscape(pattern[i+size:]); lowSize > 0 && utf16.DecodeRune(r, low) != '\uFFFD' {
			r, size = utf16.DecodeRune(r, low), size+lowSize
		}
		fmt.Fprintf(&b, `\x{%x}`, r)
		i += size
	}
	return b.String()
}

// unicodeEscape reads a \uXXXX at the beginning of s; size is 0 if there is none.
func unicodeEscape(s string) (r rune, size int) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, 0
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	if err != nil {
		return 0, 0
	}
	return rune(n), 6
}
