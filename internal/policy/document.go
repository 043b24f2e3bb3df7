package policy

import (
	"slices"
	"strconv"
	"strings"
)

// Kind tells what a document is for, and so what it must and must not say.
type Kind int

// The kinds of document.
const (
	// Identity is a policy of a user, group or role, a permissions boundary, or a
	// session policy: it names no principal.
	Identity Kind = iota
	// Resource is a policy that a resource carries.
	Resource
	// Trust is a role's trust policy: a resource policy of which the role is the
	// resource.
	Trust
)

// The versions of the language. Variables came with the second.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// Document is a parsed policy. It is safe for concurrent use.
type Document struct {
	kind       Kind
	statements []statement
	keys       []string
	named      []naming
}

// naming is where a principal names a user, role or session.
type naming struct {
	name string
	end  int // the byte offset behind the string
}

// ContextKeys returns the condition keys that the document asks for, in conditions
// and variables, sorted, each once, as it writes them first.
func (d *Document) ContextKeys() []string { return slices.Clone(d.keys) }

// Named returns the ARNs and unique ids of the users, roles and sessions that the
// document's principals name, as they come.
func (d *Document) Named() []string {
	var names []string
	for _, n := range d.named {
		names = append(names, n.name)
	}
	return names
}

// Renamed returns the text that d was parsed from with other names in its principals:
// to is asked about each of Named.
func (d *Document) Renamed(text string, to func(name string) string) string {
	var b strings.Builder
	from := 0
	for _, n := range d.named {
		b.WriteString(text[from:openingQuote(text, n.end-1)])
		b.WriteString(strconv.Quote(to(n.name))) // printable ASCII: JSON's form as well
		from = n.end
	}
	b.WriteString(text[from:])
	return b.String()
}

// openingQuote returns where the string begins whose closing quote is at closing.
func openingQuote(text string, closing int) int {
	for i := closing - 1; ; i-- {
		if text[i] != '"' {
			continue
		}
		escapes := 0
		for text[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// Error says why a text is no policy.
type Error struct {
	// Message is IAM's text.
	Message string
	// Detail says what and where, if IAM's text does not.
	Detail string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + " (" + e.Detail + ")"
}

const (
	syntaxErrors = "Syntax errors in policy."
	legacyErrors = "The policy failed legacy parsing"
)

// Parse reads a policy document. Its errors are *Error, with what IAM says.
//
// IAM checks in rounds: first the whole document's form, then its version, then what
// its parser cannot read, then one rule after the other over all statements. The
// rounds are kept, so that a text with several errors gets IAM's answer.
func Parse(text []byte, kind Kind) (*Document, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, &Error{syntaxErrors, err.Error()}
	}
	p := parser{text: text, kind: kind, named: map[string]bool{}}
	p.document(root)
	for round := range rounds {
		if p.errs[round] != nil {
			return nil, p.errs[round]
		}
	}
	slices.SortFunc(p.doc.keys, func(a, b string) int { return strings.Compare(lower(a), lower(b)) })
	p.doc.kind = kind
	return &p.doc, nil
}

// round is one of the checks that IAM makes one after the other.
type round int

const (
	formRound round = iota
	versionRound
	legacyRound
	fieldRound // elements that the kind of policy demands or forbids
	sidRound
	resourceRound
	actionRound
	noActionRound
	noResourceRound
	principalRound
	rounds
)

// parser collects a document and the first error of each round.
type parser struct {
	text  []byte
	kind  Kind
	doc   Document
	errs  [rounds]*Error
	named map[string]bool // condition keys in lower case
	vars  bool
}

func (p *parser) fail(r round, message, detail string) {
	if p.errs[r] == nil {
		p.errs[r] = &Error{message, detail}
	}
}

// form reports what is not of the language's form.
func (p *parser) form(n *node, detail string) {
	p.fail(formRound, syntaxErrors, at(p.text, n.start).String()+": "+detail)
}

// legacy reports what has the form and cannot be read.
func (p *parser) legacy(n *node, detail string) {
	p.fail(legacyRound, legacyErrors, at(p.text, n.start).String()+": "+detail)
}

// key hears of every condition key that the document uses.
func (p *parser) key(name string) {
	if l := lower(name); !p.named[l] {
		p.named[l] = true
		p.doc.keys = append(p.doc.keys, name)
	}
}

func (p *parser) document(root *node) {
	if root.kind != objectNode {
		p.form(root, "a policy is a JSON object")
		return
	}
	version, statements := version2008, (*node)(nil)
	for i, key := range root.keys {
		value := root.items[i]
		switch key {
		case "Version":
			version = value.text
			if value.kind != stringNode || version != version2008 && version != version2012 {
				p.form(value, "Version is 2012-10-17 or 2008-10-17")
			}
		case "Id":
			if value.kind != stringNode {
				p.form(value, "Id is a string")
			}
		case "Statement":
			statements = value
		default:
			p.form(value, quoted(key)+" is no element of a policy")
		}
	}
	p.vars = version == version2012
	if p.kind == Identity && !p.vars {
		p.fail(versionRound, "Policy document must be version 2012-10-17 or greater.", "")
	}
	if statements == nil || len(statements.list()) == 0 {
		p.form(root, "a policy has at least one Statement")
		return
	}
	sids := map[string]bool{}
	for _, n := range statements.list() {
		p.statement(n, sids)
	}
}

// quoted is a client's text within a message.
func quoted(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return `"` + strings.ToValidUTF8(s, "") + `"`
}
