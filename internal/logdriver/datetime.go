package logdriver

import (
	"fmt"
	"strings"
)

// datetimeCodes are the regular expressions of strftime's codes.
var datetimeCodes = map[byte]string{
	'A': `(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)`,
	'a': `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`,
	'B': `(?:January|February|March|April|May|June|July|August|September|October|November|December)`,
	'b': `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`,
	'd': `(?:0[1-9]|[12][0-9]|3[01])`,
	'e': `(?: [1-9]|[12][0-9]|3[01])`,
	'F': `\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])`,
	'f': `\d{6}`,
	'H': `(?:[01][0-9]|2[0-3])`,
	'I': `(?:0[1-9]|1[0-2])`,
	'j': `(?:00[1-9]|0[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])`,
	'L': `\.\d{3}`, // Docker's own: milliseconds with their point
	'M': `[0-5][0-9]`,
	'm': `(?:0[1-9]|1[0-2])`,
	'p': `[AP]M`,
	'S': `(?:[0-5][0-9]|60)`,
	's': `\d+`,
	'T': `(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)`,
	'U': `(?:[0-4][0-9]|5[0-3])`,
	'W': `(?:[0-4][0-9]|5[0-3])`,
	'w': `[0-6]`,
	'Y': `\d{4}`,
	'y': `\d{2}`,
	'Z': `[A-Z]{3,5}`,
	'z': `[+-]\d{4}`,
	'%': `%`,
}

// datetimePattern turns a strftime format into a regular expression. What is
// not a code is one already, as with Docker: "\[%b %d, %Y %H:%M:%S\]".
func datetimePattern(format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		if i++; i == len(format) {
			return "", fmt.Errorf("%q ends with a single %%", format)
		}
		code, ok := datetimeCodes[format[i]]
		if !ok {
			return "", fmt.Errorf("%q holds the unknown code %%%c", format, format[i])
		}
		b.WriteString(code)
	}
	return b.String(), nil
}
