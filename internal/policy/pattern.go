package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

type pieceKind byte

const (
	literalPiece  pieceKind = iota
	onePiece                // ?
	anyPiece                // *
	variablePiece           // ${key} or ${key, 'fallback'}
)

// piece is a part of a pattern.
type piece struct {
	kind pieceKind
	// text of a literal, or a variable's key in lower case.
	text string
	// fallback is what a variable without a value stands for, if there is one.
	fallback    string
	hasFallback bool
	// colons tells that a wildcard may stand for colons too.
	colons bool
}

// shape tells how a pattern is matched.
type shape byte

const (
	exactShape  shape = iota // text
	prefixShape              // text*
	allShape                 // *
	globShape                // pieces, without variables
	varShape                 // pieces, with variables
)

// pattern is a compiled text with wildcards and variables.
type pattern struct {
	shape  shape
	text   string
	pieces []piece
}

// syntax says what a pattern's text may have in it.
type syntax struct {
	wildcards bool
	variables bool
	// arn confines wildcards in the first five segments of an ARN to their segment,
	// but for a * at a segment's end.
	arn bool
}

var errVariable = errors.New("a policy variable has no closing brace, no name, or a default value that is not in single quotes")

// compile makes a pattern of a text. keys hears the names of the variables.
func compile(text string, s syntax, keys func(name string)) (pattern, error) {
	b := builder{syntax: s}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case s.variables && strings.HasPrefix(text[i:], "${"):
			n := strings.IndexByte(text[i:], '}')
			if n < 0 {
				return pattern{}, errVariable
			}
			name, err := b.variable(text[i+2 : i+n])
			if err != nil {
				return pattern{}, err
			}
			if name != "" {
				keys(name)
			}
			i += n + 1
			continue
		case s.wildcards && c == '*':
			end := i+1 == len(text) || text[i+1] == ':'
			b.wildcard(piece{kind: anyPiece, colons: b.free() || end})
		case s.wildcards && c == '?':
			b.wildcard(piece{kind: onePiece, colons: b.free()})
		default:
			if c == ':' {
				b.segment++
			}
			b.literal.WriteByte(c)
		}
		i++
	}
	return b.done(), nil
}

type builder struct {
	syntax
	literal strings.Builder
	pieces  []piece
	segment int
}

// free tells that wildcards are not confined to their segment here.
func (b *builder) free() bool { return !b.arn || b.segment >= 5 }

// variable adds what stands between ${ and }, and returns the key's name, "" for the
// three that stand for a character.
func (b *builder) variable(inside string) (string, error) {
	if inside == "*" || inside == "?" || inside == "$" {
		b.literal.WriteString(inside)
		return "", nil
	}
	name, fallback, hasFallback := strings.Cut(inside, ",")
	name = strings.TrimSpace(name)
	if hasFallback {
		fallback = strings.TrimSpace(fallback)
		if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
			return "", errVariable
		}
		fallback = fallback[1 : len(fallback)-1]
	}
	if name == "" || strings.ContainsAny(name, "*?${'") {
		return "", errVariable
	}
	b.flush()
	b.pieces = append(b.pieces, piece{kind: variablePiece, text: strings.ToLower(name), fallback: fallback, hasFallback: hasFallback})
	return name, nil
}

func (b *builder) wildcard(p piece) {
	b.flush()
	if n := len(b.pieces); n > 0 && p.kind == anyPiece && b.pieces[n-1].kind == anyPiece {
		b.pieces[n-1].colons = b.pieces[n-1].colons || p.colons // ** is *
		return
	}
	b.pieces = append(b.pieces, p)
}

func (b *builder) flush() {
	if b.literal.Len() > 0 {
		b.pieces = append(b.pieces, piece{kind: literalPiece, text: b.literal.String()})
		b.literal.Reset()
	}
}

func (b *builder) done() pattern {
	b.flush()
	p := b.pieces
	for i := range p {
		if p[i].kind == variablePiece {
			return pattern{shape: varShape, pieces: p}
		}
	}
	switch {
	case len(p) == 0:
		return pattern{shape: exactShape}
	case len(p) == 1 && p[0].kind == literalPiece:
		return pattern{shape: exactShape, text: p[0].text}
	case len(p) == 1 && p[0].kind == anyPiece && p[0].colons:
		return pattern{shape: allShape}
	case len(p) == 2 && p[0].kind == literalPiece && p[1].kind == anyPiece && p[1].colons:
		return pattern{shape: prefixShape, text: p[0].text}
	}
	return pattern{shape: globShape, pieces: p}
}

// match tells whether s is what the pattern describes. A variable without a value
// makes it match nothing.
func (p *pattern) match(s string, c *Context) bool {
	switch p.shape {
	case exactShape:
		return s == p.text
	case prefixShape:
		return strings.HasPrefix(s, p.text)
	case allShape:
		return true
	case globShape:
		return glob(p.pieces, s)
	}
	var few [12]piece
	pieces, ok := resolve(few[:0], p.pieces, c)
	return ok && glob(pieces, s)
}

// resolve puts values in the place of variables; they are literal whatever they
// contain.
func resolve(into, pieces []piece, c *Context) ([]piece, bool) {
	for _, p := range pieces {
		if p.kind == variablePiece {
			value, ok := c.single(p.text)
			switch {
			case ok:
			case p.hasFallback:
				value = p.fallback
			default:
				return nil, false
			}
			p = piece{kind: literalPiece, text: value}
		}
		into = append(into, p)
	}
	return into, true
}

// fold tells whether s is the pattern's text, whatever the case of the letters; the
// pattern has no wildcards.
func (p *pattern) fold(s string, c *Context) bool {
	if p.shape != varShape {
		return strings.EqualFold(s, p.text)
	}
	pieces, ok := resolve(nil, p.pieces, c)
	var text strings.Builder
	for _, p := range pieces {
		text.WriteString(p.text)
	}
	return ok && strings.EqualFold(s, text.String())
}

// mark is where matching goes on after a mismatch: the piece behind a *, and how far
// that * has eaten.
type mark struct{ piece, pos int }

// glob matches pieces without variables. Two marks are enough: the last * that may
// eat colons makes all earlier ones needless, and so does the last confined * those
// of its segment, whose end the next colon fixes.
func glob(pieces []piece, s string) bool {
	free, confined := mark{piece: -1}, mark{piece: -1}
	i, j := 0, 0
	for {
		if i < len(pieces) {
			switch p := &pieces[i]; p.kind {
			case anyPiece:
				i++
				if p.colons {
					free, confined = mark{i, j}, mark{piece: -1}
				} else {
					confined = mark{i, j}
				}
				continue
			case onePiece:
				if j < len(s) && (p.colons || s[j] != ':') {
					i, j = i+1, j+runeWidth(s[j:])
					continue
				}
			default:
				if strings.HasPrefix(s[j:], p.text) {
					i, j = i+1, j+len(p.text)
					continue
				}
			}
		} else if j == len(s) || free.piece == len(pieces) {
			return true
		}
		switch {
		case confined.piece >= 0 && confined.pos < len(s) && s[confined.pos] != ':':
			confined.pos += runeWidth(s[confined.pos:])
			i, j = confined.piece, confined.pos
		case free.piece >= 0 && free.pos < len(s):
			confined.piece = -1
			free.pos += runeWidth(s[free.pos:])
			i, j = free.piece, free.pos
		default:
			return false
		}
	}
}

func runeWidth(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
