package policy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The reference: a second evaluator, over the JSON as it stands, slow and plain. It
// shares nothing with the first but the request and the decision's type.

type refPolicies struct {
	identity, session  []string
	resource, boundary string
	trust, rules       bool
}

type refRequest struct {
	who                               Principal
	action, resource, resourceAccount string
	context                           map[string][]string
}

// refSays lists, for one type of policies, the ways in which a request is named by
// statements that allow and by ones that deny: "direct", "source", "account".
func refSays(texts []string, r refRequest, trust bool) (allows, denies map[string]bool) {
	allows, denies = map[string]bool{}, map[string]bool{}
	for _, text := range texts {
		var doc map[string]any
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			panic(err)
		}
		vars := doc["Version"] == "2012-10-17"
		for _, raw := range refList(doc["Statement"]) {
			st := raw.(map[string]any)
			how := refNamed(st, r.who)
			if how == "" || !refAction(st, r.action) || !trust && !refResource(st, r, vars) || !refConditions(st, r, vars) {
				continue
			}
			if st["Effect"] == "Allow" {
				allows[how] = true
			} else {
				denies[how] = true
			}
		}
	}
	return allows, denies
}

func refDecide(r refRequest, p refPolicies) Decision {
	var none map[string]bool
	identity, identityDeny := none, none
	session, sessionDeny := none, none
	boundary, boundaryDeny := none, none
	if r.who.Kind == IdentityPrincipal {
		identity, identityDeny = refSays(p.identity, r, false)
		session, sessionDeny = refSays(p.session, r, false)
		if p.boundary != "" {
			boundary, boundaryDeny = refSays([]string{p.boundary}, r, false)
		}
	}
	resource, resourceDeny := none, none
	if p.resource != "" {
		resource, resourceDeny = refSays([]string{p.resource}, r, p.trust)
	}
	resourceType := ResourceBased
	if p.trust {
		resourceType = RoleTrust
	}
	for _, d := range []struct {
		denies map[string]bool
		t      Type
	}{{identityDeny, IdentityBased}, {resourceDeny, resourceType}, {boundaryDeny, Boundary}, {sessionDeny, Session}} {
		if len(d.denies) > 0 {
			return Decision{Explicit: true, By: d.t}
		}
	}
	sameAccount := r.resourceAccount == "" || r.resourceAccount == r.who.Account
	mustAllow := p.rules || p.trust || !sameAccount
	switch r.who.Kind {
	case RootPrincipal:
		if !mustAllow {
			return Decision{Allowed: true}
		}
		return Decision{Allowed: len(resource) > 0, By: resourceType}
	case ServicePrincipal, FederatedPrincipal:
		return Decision{Allowed: len(resource) > 0, By: resourceType}
	}
	if sameAccount && resource["direct"] {
		return Decision{Allowed: true, By: resourceType}
	}
	by := IdentityBased
	if len(identity) == 0 {
		if !sameAccount || !resource["source"] {
			if (p.rules || p.trust) && len(resource) == 0 {
				by = resourceType
			}
			return Decision{By: by}
		}
		by = resourceType
	}
	if p.boundary != "" && len(boundary) == 0 {
		return Decision{By: Boundary}
	}
	if len(p.session) > 0 && len(session) == 0 {
		return Decision{By: Session}
	}
	if mustAllow && len(resource) == 0 {
		return Decision{By: resourceType}
	}
	return Decision{Allowed: true, By: by}
}

func refList(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	if v == nil {
		return nil
	}
	return []any{v}
}

// refRegexp turns a pattern into a regular expression: star and one are what the
// wildcards stand for. ok is false where a variable has no value.
func refRegexp(text string, r refRequest, vars, wild bool, star, one string) (expr string, ok bool) {
	for text != "" {
		c := text[:1]
		if vars && strings.HasPrefix(text, "${") {
			end := strings.Index(text, "}")
			value, found := refVariable(text[2:end], r)
			if !found {
				return "", false
			}
			expr += regexp.QuoteMeta(value)
			text = text[end+1:]
			continue
		}
		switch {
		case wild && c == "*":
			expr += star
		case wild && c == "?":
			expr += one
		default:
			expr += regexp.QuoteMeta(c)
		}
		text = text[1:]
	}
	return expr, true
}

func refVariable(inside string, r refRequest) (string, bool) {
	if inside == "*" || inside == "?" || inside == "$" {
		return inside, true
	}
	name, fallback, has := strings.Cut(inside, ", ")
	values := refGet(r.context, name)
	if len(values) == 1 && values[0] != "" {
		return values[0], true
	}
	return strings.Trim(fallback, "'"), has
}

func refGet(context map[string][]string, key string) []string {
	for k, v := range context {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return nil
}

// refCompiled keeps regular expressions: making them is most of the reference's time.
var refCompiled sync.Map

func refMatch(expr, s string) bool {
	re, ok := refCompiled.Load(expr)
	if !ok {
		re, _ = refCompiled.LoadOrStore(expr, regexp.MustCompile(`(?s)^(?:`+expr+`)$`))
	}
	return re.(*regexp.Regexp).MatchString(s)
}

func refAction(st map[string]any, action string) bool {
	list, not := st["Action"], false
	if list == nil {
		list, not = st["NotAction"], true
	}
	for _, a := range refList(list) {
		expr, _ := refRegexp(a.(string), refRequest{}, false, true, ".*", ".")
		if refMatch("(?i:"+expr+")", action) {
			return !not
		}
	}
	return not
}

func refResource(st map[string]any, r refRequest, vars bool) bool {
	list, not := st["Resource"], false
	if list == nil {
		list, not = st["NotResource"], true
	}
	for _, a := range refList(list) {
		if refARN(a.(string), r.resource, r, vars) {
			return !not
		}
	}
	return not
}

// refARN: in the first five segments a * at the end goes over colons, others don't.
// No test policy has a variable in those.
func refARN(pattern, arn string, r refRequest, vars bool) bool {
	if pattern == "*" {
		return true
	}
	parts := strings.SplitN(pattern, ":", 6)
	for len(parts) < 6 {
		parts = append(parts, "*")
	}
	var exprs []string
	for i, part := range parts {
		star, one, tail := "[^:]*", "[^:]", ""
		if i == 5 {
			star, one = ".*", "."
		} else if strings.HasSuffix(part, "*") {
			part, tail = strings.TrimRight(part, "*"), ".*"
		}
		expr, ok := refRegexp(part, r, vars, true, star, one)
		if !ok {
			return false
		}
		exprs = append(exprs, expr+tail)
	}
	return refMatch(strings.Join(exprs, ":"), arn)
}

func refConditions(st map[string]any, r refRequest, vars bool) bool {
	blocks, _ := st["Condition"].(map[string]any)
	for op, raw := range blocks {
		for key, values := range raw.(map[string]any) {
			if !refCondition(op, refGet(r.context, key), refList(values), r, vars) {
				return false
			}
		}
	}
	return true
}

func refCondition(op string, got []string, want []any, r refRequest, vars bool) bool {
	empty := strings.Join(got, "") == ""
	if op == "Null" {
		for _, w := range want {
			if fmt.Sprint(w) == fmt.Sprint(empty) {
				return true
			}
		}
		return false
	}
	set := ""
	if before, after, found := strings.Cut(op, ":"); found {
		set, op = before, after
	}
	ifExists := strings.HasSuffix(op, "IfExists")
	op = strings.TrimSuffix(op, "IfExists")
	negated := strings.Contains(op, "Not")
	op = strings.Replace(op, "Not", "", 1)
	hits := 0
	for _, g := range got {
		hit := false
		for _, w := range want {
			hit = hit || refCompare(op, g, fmt.Sprint(w), r, vars)
		}
		if hit != negated {
			hits++
		}
	}
	switch {
	case set == "ForAllValues":
		return empty || hits == len(got)
	case set == "ForAnyValue":
		return len(got) == 0 && ifExists || !empty && hits > 0
	case len(got) == 0:
		return ifExists || negated
	case negated:
		return hits == len(got)
	}
	return hits > 0
}

func refCompare(op, got, want string, r refRequest, vars bool) bool {
	pattern := func(wild, fold bool) bool {
		expr, ok := refRegexp(want, r, vars, wild, ".*", ".")
		if fold {
			expr = "(?i:" + expr + ")"
		}
		return ok && refMatch(expr, got)
	}
	switch op {
	case "StringEquals":
		return pattern(false, false)
	case "StringEqualsIgnoreCase":
		return pattern(false, true)
	case "StringLike":
		return pattern(true, false)
	case "ArnEquals", "ArnLike":
		return refArnLike(want, got, r, vars)
	case "Bool":
		return strings.EqualFold(got, want) && (strings.EqualFold(got, "true") || strings.EqualFold(got, "false"))
	case "BinaryEquals":
		a, err1 := base64.StdEncoding.DecodeString(got)
		b, err2 := base64.StdEncoding.DecodeString(want)
		return err1 == nil && err2 == nil && string(a) == string(b)
	case "IpAddress":
		_, block, err := net.ParseCIDR(want)
		if err != nil {
			return net.ParseIP(got) != nil && net.ParseIP(got).Equal(net.ParseIP(want))
		}
		ip := net.ParseIP(got)
		return ip != nil && block.Contains(ip)
	}
	if name, ok := strings.CutPrefix(op, "Numeric"); ok {
		a, err1 := strconv.ParseFloat(got, 64)
		b, err2 := strconv.ParseFloat(want, 64)
		return err1 == nil && err2 == nil && refOrder(name, a < b, a == b)
	}
	a, ok1 := refTime(got)
	b, ok2 := refTime(want)
	return ok1 && ok2 && refOrder(strings.TrimPrefix(op, "Date"), a.Before(b), a.Equal(b))
}

func refOrder(op string, less, equal bool) bool {
	switch op {
	case "Equals":
		return equal
	case "LessThan":
		return less
	case "LessThanEquals":
		return less || equal
	case "GreaterThan":
		return !less && !equal
	}
	return !less
}

func refTime(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil
}

func refArnLike(want, got string, r refRequest, vars bool) bool {
	if strings.Count(got, ":") < 5 {
		return false
	}
	if want == "*" {
		return true
	}
	if vars && strings.HasPrefix(want, "${") {
		expr, ok := refRegexp(want, r, true, false, "", "")
		return ok && refMatch(expr, got)
	}
	w, g := strings.SplitN(want, ":", 6), strings.SplitN(got, ":", 6)
	if len(w) != 6 || len(g) != 6 {
		return false
	}
	for i := range w {
		expr, ok := refRegexp(w[i], r, vars, true, ".*", ".")
		if !ok || !refMatch(expr, g[i]) {
			return false
		}
	}
	return true
}

// refNamed tells how a statement names a principal: "direct", "source", "account" or
// "" for not at all.
func refNamed(st map[string]any, who Principal) string {
	if not, ok := st["NotPrincipal"]; ok {
		names := refPrincipals(not)
		chain := []string{who.ARN}
		switch {
		case who.Kind == RootPrincipal:
			chain = []string{who.Account}
		case who.Kind == IdentityPrincipal && who.Source != "":
			chain = append(chain, who.Source, who.Account)
		case who.Kind == IdentityPrincipal:
			chain = append(chain, who.Account)
		}
		named := 0
		for _, link := range chain {
			if names[link] || names["*"] {
				named++
			}
		}
		if st["Effect"] == "Deny" && named == len(chain) || st["Effect"] == "Allow" && named > 0 {
			return ""
		}
		return "direct"
	}
	is, ok := st["Principal"]
	if !ok {
		return "direct"
	}
	names := refPrincipals(is)
	switch {
	case names["*"] || names[who.ARN] || who.Kind == RootPrincipal && names[who.Account]:
		return "direct"
	case who.Source != "" && names[who.Source]:
		return "source"
	case who.Account != "" && names[who.Account]:
		return "account"
	}
	return ""
}

// refPrincipals are the names in a Principal; a root ARN is its account's id.
func refPrincipals(v any) map[string]bool {
	names := map[string]bool{}
	add := func(v any) {
		for _, n := range refList(v) {
			name := n.(string)
			if strings.HasSuffix(name, ":root") {
				name = strings.Split(name, ":")[4]
			}
			names[name] = true
		}
	}
	if m, ok := v.(map[string]any); ok {
		for _, list := range m {
			add(list)
		}
	} else {
		add(v)
	}
	return names
}
