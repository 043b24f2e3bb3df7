package balance

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Request is what rules look at.
type Request struct {
	Method string
	// Host without a port.
	Host string
	// Path as it came, percent-encoded.
	Path string
	// Query as it came, without ?.
	Query string
	// Header holds values by canonical names, as net/http has it.
	Header map[string][]string
	Source netip.Addr

	// host is Host in lower case.
	host string
}

// Router is a listener's rules, ready for matching.
type Router struct {
	rules     []route
	otherwise *Action
}

type route struct {
	id     string
	tests  []test
	action *Action
}

// test tells whether a request meets a condition.
type test func(*Request) bool

// NewRouter makes the listener's rules ready, in the order of their priority.
func NewRouter(l *Listener) (*Router, error) {
	otherwise, err := last(l.DefaultActions)
	if err != nil {
		return nil, fmt.Errorf("the default actions of listener %s: %w", l.ID, err)
	}
	r := &Router{otherwise: otherwise}
	rules := slices.Clone(l.Rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return a.Priority - b.Priority })
	for i := range rules {
		action, err := last(rules[i].Actions)
		if err != nil {
			return nil, fmt.Errorf("rule %s of listener %s: %w", rules[i].ID, l.ID, err)
		}
		made := route{id: rules[i].ID, action: action}
		for _, c := range rules[i].Conditions {
			t, err := newTest(&c)
			if err != nil {
				return nil, fmt.Errorf("rule %s of listener %s: %w", rules[i].ID, l.ID, err)
			}
			made.tests = append(made.tests, t)
		}
		r.rules = append(r.rules, made)
	}
	return r, nil
}

// last is the action that ends a rule; the others would authenticate, which nothing here
// does.
func last(actions []Action) (*Action, error) {
	if len(actions) != 1 {
		return nil, fmt.Errorf("there are %d actions; give exactly one forward, redirect or fixed-response", len(actions))
	}
	a := &actions[0]
	switch {
	case a.Type == ForwardAction && a.Forward != nil && len(a.Forward.Groups) > 0:
		return a, nil
	case a.Type == RedirectAction && a.Redirect != nil:
		if code := a.Redirect.StatusCode; code != 301 && code != 302 {
			return nil, fmt.Errorf("a redirect has the status code %d; use 301 or 302", code)
		}
		return a, nil
	case a.Type == FixedResponseAction && a.FixedResponse != nil:
		if code := a.FixedResponse.StatusCode; code/100 != 2 && code/100 != 4 && code/100 != 5 {
			return nil, fmt.Errorf("a fixed response has the status code %d; use one of 2XX, 4XX or 5XX", code)
		}
		return a, nil
	}
	return nil, fmt.Errorf("the action %q lacks its configuration, or is not served; give a forward with target groups, a redirect or a fixed-response", a.Type)
}

// Route returns what to do with a request, and the rule that says so, "" for the default.
func (r *Router) Route(q *Request) (*Action, string) {
	q.host = strings.ToLower(q.Host)
	for i := range r.rules {
		if r.rules[i].meets(q) {
			return r.rules[i].action, r.rules[i].id
		}
	}
	return r.otherwise, ""
}

func (r *route) meets(q *Request) bool {
	for _, t := range r.tests {
		if !t(q) {
			return false
		}
	}
	return true
}

func newTest(c *Condition) (test, error) {
	switch c.Field {
	case HostHeader:
		match, err := newMatcher(c, true)
		return func(q *Request) bool { return match(q.host) }, err
	case PathPattern:
		match, err := newMatcher(c, false)
		return func(q *Request) bool { return match(q.Path) }, err
	case HTTPHeader:
		match, err := newMatcher(c, true)
		name := canonical(c.HeaderName)
		return func(q *Request) bool {
			return slices.ContainsFunc(q.Header[name], func(v string) bool { return match(strings.ToLower(v)) })
		}, err
	case HTTPMethod:
		return func(q *Request) bool { return slices.Contains(c.Values, q.Method) }, nil
	case QueryString:
		return queryTest(c.Query), nil
	case SourceIP:
		return sourceTest(c.Values)
	}
	return nil, fmt.Errorf("the condition field %q is not known", c.Field)
}

// newMatcher of a condition's values and expressions; with fold, it is given text in
// lower case.
func newMatcher(c *Condition, fold bool) (func(string) bool, error) {
	var patterns []pattern
	for _, v := range c.Values {
		patterns = append(patterns, newPattern(v, false, fold))
	}
	var expressions []*regexp.Regexp
	for _, v := range c.Regexes {
		if fold {
			v = "(?i)" + v
		}
		e, err := regexp.Compile(v)
		if err != nil {
			return nil, fmt.Errorf("the regular expression of a %s condition: %w", c.Field, err)
		}
		expressions = append(expressions, e)
	}
	return func(text string) bool {
		return slices.ContainsFunc(patterns, func(p pattern) bool { return p.match(text) }) ||
			slices.ContainsFunc(expressions, func(e *regexp.Regexp) bool { return e.MatchString(text) })
	}, nil
}

// queryTest compares both as it came and decoded: AWS does not say which it takes.
func queryTest(pairs []QueryPair) test {
	type want struct{ key, value pattern }
	var wants []want
	for _, p := range pairs {
		wants = append(wants, want{newPattern(p.Key, true, true), newPattern(p.Value, true, true)})
	}
	return func(q *Request) bool {
		for part := range strings.SplitSeq(q.Query, "&") {
			key, value, _ := strings.Cut(strings.ToLower(part), "=")
			for _, w := range wants {
				if (w.key.empty() || either(w.key, key)) && either(w.value, value) {
					return true
				}
			}
		}
		return false
	}
}

func either(p pattern, text string) bool {
	if p.match(text) {
		return true
	}
	decoded, err := url.QueryUnescape(text)
	return err == nil && decoded != text && p.match(strings.ToLower(decoded))
}

func sourceTest(values []string) (test, error) {
	var blocks []netip.Prefix
	for _, v := range values {
		block, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, fmt.Errorf("the source-ip %q is not a CIDR block such as 10.0.0.0/8: %w", v, err)
		}
		blocks = append(blocks, block.Masked())
	}
	return func(q *Request) bool {
		return slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(q.Source) })
	}, nil
}

// canonical is textproto's form of a header's name.
func canonical(name string) string {
	upper, b := true, []byte(name)
	for i, c := range b {
		switch {
		case upper && 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !upper && 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return string(b)
}
