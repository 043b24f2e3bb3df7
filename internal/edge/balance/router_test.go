package balance

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func fixed(status int) []Action {
	return []Action{{Type: FixedResponseAction, FixedResponse: &FixedResponse{StatusCode: status}}}
}

// ask is a request that most cases change a little.
func ask(change func(*Request)) *Request {
	h := map[string][]string{"X-Env": {"Prod", "blue"}, "User-Agent": {"curl/8.1"}}
	q := &Request{Method: "GET", Host: "Shop.Example.com", Path: "/img/a/b.png", Query: "Version=V1&x=a%20b&empty",
		Header: h, Source: netip.MustParseAddr("10.1.2.3")}
	if change != nil {
		change(q)
	}
	return q
}

func TestConditions(t *testing.T) {
	pairs := func(s ...string) (list []QueryPair) {
		for i := 0; i < len(s); i += 2 {
			list = append(list, QueryPair{s[i], s[i+1]})
		}
		return list
	}
	for name, c := range map[string]struct {
		condition Condition
		change    func(*Request)
		want      bool
	}{
		"host, whatever its case":                {Condition{Field: HostHeader, Values: []string{"shop.EXAMPLE.com"}}, nil, true},
		"host with *":                            {Condition{Field: HostHeader, Values: []string{"*.example.com"}}, nil, true},
		"* stands for a whole subdomain, not .":  {Condition{Field: HostHeader, Values: []string{"*.example.com"}}, func(q *Request) { q.Host = "example.com" }, false},
		"host with ?":                            {Condition{Field: HostHeader, Values: []string{"sh?p.example.com"}}, nil, true},
		"one of several hosts":                   {Condition{Field: HostHeader, Values: []string{"a.b", "shop.example.com"}}, nil, true},
		"host by expression":                     {Condition{Field: HostHeader, Regexes: []string{"^shop[.].*com$"}}, nil, true},
		"path":                                   {Condition{Field: PathPattern, Values: []string{"/img/*"}}, nil, true},
		"path is case-sensitive":                 {Condition{Field: PathPattern, Values: []string{"/IMG/*"}}, nil, false},
		"path is matched as a whole":             {Condition{Field: PathPattern, Values: []string{"/img"}}, nil, false},
		"* crosses slashes":                      {Condition{Field: PathPattern, Values: []string{"/*/b.???"}}, nil, true},
		"path by expression":                     {Condition{Field: PathPattern, Regexes: []string{`\.png$`}}, nil, true},
		"path is not the query":                  {Condition{Field: PathPattern, Values: []string{"*Version*"}}, nil, false},
		"header, whatever the cases":             {Condition{Field: HTTPHeader, HeaderName: "x-ENV", Values: []string{"PROD"}}, nil, true},
		"header, second value":                   {Condition{Field: HTTPHeader, HeaderName: "X-Env", Values: []string{"bl*"}}, nil, true},
		"header that is not there":               {Condition{Field: HTTPHeader, HeaderName: "X-None", Values: []string{"*"}}, nil, false},
		"header by expression":                   {Condition{Field: HTTPHeader, HeaderName: "user-agent", Regexes: []string{"CURL/[0-9]"}}, nil, true},
		"method":                                 {Condition{Field: HTTPMethod, Values: []string{"POST", "GET"}}, nil, true},
		"method is case-sensitive":               {Condition{Field: HTTPMethod, Values: []string{"get"}}, nil, false},
		"method knows no wildcards":              {Condition{Field: HTTPMethod, Values: []string{"*"}}, nil, false},
		"query by key and value":                 {Condition{Field: QueryString, Query: pairs("version", "v1")}, nil, true},
		"query by another value":                 {Condition{Field: QueryString, Query: pairs("version", "v2")}, nil, false},
		"query by any key":                       {Condition{Field: QueryString, Query: pairs("", "v?")}, nil, true},
		"query, decoded":                         {Condition{Field: QueryString, Query: pairs("x", "a b")}, nil, true},
		"query, one of the pairs":                {Condition{Field: QueryString, Query: pairs("no", "1", "x", "*")}, nil, true},
		"query with a literal *":                 {Condition{Field: QueryString, Query: pairs("q", `a\*`)}, func(q *Request) { q.Query = "q=a*" }, true},
		"a literal * is no wildcard":             {Condition{Field: QueryString, Query: pairs("q", `a\*`)}, func(q *Request) { q.Query = "q=abc" }, false},
		"query without a value":                  {Condition{Field: QueryString, Query: pairs("empty", "")}, nil, true},
		"source":                                 {Condition{Field: SourceIP, Values: []string{"192.168.0.0/16", "10.0.0.0/8"}}, nil, true},
		"another source":                         {Condition{Field: SourceIP, Values: []string{"10.2.0.0/16"}}, nil, false},
		"an address in place of a block's start": {Condition{Field: SourceIP, Values: []string{"10.1.2.77/24"}}, nil, true},
		"IPv6":                                   {Condition{Field: SourceIP, Values: []string{"fd00::/8"}}, func(q *Request) { q.Source = netip.MustParseAddr("fd00::1") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewRouter(&Listener{DefaultActions: fixed(404), Rules: []Rule{{ID: "r", Conditions: []Condition{c.condition}, Actions: fixed(200)}}})
			if err != nil {
				t.Fatal(err)
			}
			action, rule := r.Route(ask(c.change))
			if (rule == "r") != c.want || (action.FixedResponse.StatusCode == 200) != c.want {
				t.Errorf("rule %q with %d, want a match: %v", rule, action.FixedResponse.StatusCode, c.want)
			}
		})
	}
}

func TestRulesAreTriedByPriority(t *testing.T) {
	get := Condition{Field: HTTPMethod, Values: []string{"GET"}}
	img := Condition{Field: PathPattern, Values: []string{"/img/*"}}
	r, err := NewRouter(&Listener{DefaultActions: fixed(404), Rules: []Rule{
		{ID: "late", Priority: 30, Conditions: []Condition{get}, Actions: fixed(200)},
		{ID: "both", Priority: 20, Conditions: []Condition{get, img}, Actions: fixed(200)},
		{ID: "not", Priority: 10, Conditions: []Condition{img, {Field: HTTPMethod, Values: []string{"PUT"}}}, Actions: fixed(200)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Request){
		"both": nil,
		"late": func(q *Request) { q.Path = "/" },
		"not":  func(q *Request) { q.Method = "PUT" },
		"":     func(q *Request) { q.Method = "DELETE" },
	} {
		if _, got := r.Route(ask(change)); got != want {
			t.Errorf("rule %q, want %q", got, want)
		}
	}
}

// What a pattern costs is bounded: this one takes for ever where each * backtracks.
func TestPatternsAreNotExponential(t *testing.T) {
	for _, end := range []string{"b", "?b"} {
		if newPattern(strings.Repeat("a*", 60)+end, false, false).match(strings.Repeat("a", 16<<10)) {
			t.Errorf("it matches with %s", end)
		}
	}
}

func TestWhatCannotBeServedIsSaid(t *testing.T) {
	group := TargetGroup{ID: "g", Protocol: HTTP}
	to := func(id string) []Action {
		return []Action{{Type: ForwardAction, Forward: &Forward{Groups: []WeightedGroup{{ID: id}}}}}
	}
	table := func(l Listener, g TargetGroup) Table {
		return Table{LoadBalancers: []LoadBalancer{{ID: "lb", Listeners: []Listener{l}}}, TargetGroups: []TargetGroup{g}}
	}
	for want, table := range map[string]Table{
		"target group x, which is not in the table":  table(Listener{ID: "l", Protocol: HTTP, DefaultActions: to("x")}, group),
		`protocol "UDP" is not served`:               table(Listener{ID: "l", Protocol: "UDP", DefaultActions: to("g")}, group),
		"no certificate":                             table(Listener{ID: "l", Protocol: HTTPS, DefaultActions: to("g")}, group),
		"forwards to target group g of HTTP":         table(Listener{ID: "l", Protocol: TCP, DefaultActions: to("g")}, group),
		"is not one for TCP":                         table(Listener{ID: "l", Protocol: TCP, DefaultActions: fixed(200)}, group),
		"is not an IP address":                       table(Listener{ID: "l", Protocol: HTTP, Address: "here", DefaultActions: to("g")}, group),
		`the matcher "2xx" is neither`:               table(Listener{ID: "l", Protocol: HTTP, DefaultActions: to("g")}, TargetGroup{ID: "g", Protocol: HTTP, HealthCheck: HealthCheck{Matcher: "200,2xx"}}),
		"give an IP address and a port":              table(Listener{ID: "l", Protocol: HTTP, DefaultActions: to("g")}, TargetGroup{ID: "g", Protocol: HTTP, Targets: []Target{{ID: "a", IP: "a", Port: 1}}}),
		"target a with port 1 is there twice":        table(Listener{ID: "l", Protocol: HTTP, DefaultActions: to("g")}, TargetGroup{ID: "g", Protocol: HTTP, Targets: []Target{{ID: "a", IP: "::1", Port: 1}, {ID: "a", IP: "::2", Port: 1}}}),
		`the algorithm "best" is not served`:         {TargetGroups: []TargetGroup{{ID: "g", Protocol: HTTP, Algorithm: "best"}}},
		`version "HTTP3" is not served`:              {TargetGroups: []TargetGroup{{ID: "g", Protocol: HTTP, ProtocolVersion: "HTTP3"}}},
		"there are two target groups g":              {TargetGroups: []TargetGroup{group, group}},
		"there are two load balancers lb":            {LoadBalancers: []LoadBalancer{{ID: "lb"}, {ID: "lb"}}},
		`the protocol "QUIC" is not served; use HTT`: {TargetGroups: []TargetGroup{{ID: "g", Protocol: "QUIC"}}},
	} {
		if err := table.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, l := range map[string]Listener{
		"there are 0 actions":           {},
		"the status code 0; use one of": {DefaultActions: fixed(0)},
		"the status code 307; use 301":  {DefaultActions: []Action{{Type: RedirectAction, Redirect: &Redirect{StatusCode: 307}}}},
		"is not served":                 {DefaultActions: []Action{{Type: "authenticate-oidc"}}},
		"is not a CIDR block":           {DefaultActions: fixed(200), Rules: []Rule{{Conditions: []Condition{{Field: SourceIP, Values: []string{"10.0.0.1"}}}, Actions: fixed(200)}}},
		"regular expression of":         {DefaultActions: fixed(200), Rules: []Rule{{Conditions: []Condition{{Field: PathPattern, Regexes: []string{"("}}}, Actions: fixed(200)}}},
		"is not known":                  {DefaultActions: fixed(200), Rules: []Rule{{Conditions: []Condition{{Field: "cookie"}}, Actions: fixed(200)}}},
	} {
		if _, err := NewRouter(&l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestRedirect(t *testing.T) {
	query := func(q string) *string { return &q }
	from := Origin{Protocol: "HTTP", Host: "example.com", Port: "80", Path: "/a/b", Query: "x=1"}
	for want, r := range map[string]Redirect{
		"https://example.com:443/a/b?x=1":          {Protocol: "HTTPS", Port: "443"},
		"http://www.example.com:80/a/b?x=1":        {Host: "www.#{host}"},
		"http://example.com:80/new/a/b?x=1":        {Path: "/new/#{path}"},
		"http://example.com:80/a/b?x=1&y=2":        {Query: query("#{query}&y=2")},
		"http://example.com:80/a/b":                {Query: query("")},
		"http://example.com:8080/example.com/80?":  {Port: "8080", Path: "/#{host}/#{port}?", Query: query("")},
		"http://example.com:80/http?protocol=HTTP": {Path: "/http", Query: query("protocol=#{protocol}")},
	} {
		if got := r.Location(from); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Patterns mean what the regular expressions mean that they stand for.
func TestPatternsAreRegularExpressions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab*?é.]{0,8}`).Draw(t, "pattern")
		subject := rapid.StringMatching(`[abé.]{0,10}`).Draw(t, "subject")
		if rapid.Bool().Draw(t, "no ?") {
			text = strings.ReplaceAll(text, "?", "")
		}
		expression := "^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(text)) + "$"
		if got, want := newPattern(text, false, false).match(subject), regexp.MustCompile(expression).MatchString(subject); got != want {
			t.Errorf("%q matches %q: %v, as an expression: %v", text, subject, got, want)
		}
	})
}
