package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
)

// world makes random policies and requests of a small vocabulary, in which things
// meet often.
type world struct{ *rand.Rand }

func (w world) of(list ...string) string { return list[w.IntN(len(list))] }

// some is one of a list, or a list of some.
func (w world) some(list ...string) any {
	if w.IntN(2) == 0 {
		return w.of(list...)
	}
	var out []any
	for range w.IntN(3) + 1 {
		out = append(out, w.of(list...))
	}
	return out
}

var (
	actions = []string{"*", "s3:*", "s3:Get*", "S3:GETOBJECT", "s3:GetObject", "s3:*Object", "s3:?etObject", "*:GetObject",
		"logs:*", "s?:Get*", "s3:PutObject", "ecs:RunTask"}
	resources = []string{"*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/alice/x", "arn:aws:s3:::b/${aws:username}/*", "arn:aws:s3:::*/x",
		"arn:aws:s3:::b/${aws:username, 'bob'}/?", "arn:aws:s3:*", "arn:aws:ecs:us-*-1:*:task/*a*", "arn:aws:ecs:us*1:*:*", "arn:aws:ecs:*:*:*",
		"arn:aws:ecs:us-*:123456789012:task/?:b", "arn:aws:s3:::b/${*}${$}/x", "arn:aws:ecs"}
	arns = []string{"*", "arn:aws:s3:::b/alice/x", "arn:aws:s3:::b/bob/y", "arn:aws:s3:::b/*$/x", "arn:aws:s3:::c/x", "arn:aws:s3:::b/ünï/x",
		"arn:aws:ecs:us-east-1:123456789012:task/a:b", "arn:aws:ecs:us-east-1:123456789012:task/bab", "arn:aws:ecs:us-west-1:210987654321:x:y"}
	people         = []Principal{alice, bob, worker, carol, root, foreRoot, tasks, provider}
	principalTexts = []string{`"*"`, `{"AWS":"*"}`, `{"AWS":"123456789012"}`, `{"AWS":"arn:aws:iam::210987654321:root"}`,
		`{"AWS":"arn:aws:iam::123456789012:user/alice"}`, `{"AWS":["arn:aws:iam::123456789012:role/Worker","arn:aws:iam::123456789012:user/team/bob"]}`,
		`{"AWS":["arn:aws:sts::123456789012:assumed-role/Worker/s1","arn:aws:iam::123456789012:role/Worker","123456789012"]}`,
		`{"AWS":"arn:aws:sts::123456789012:assumed-role/Worker/s1","Service":"ecs-tasks.amazonaws.com"}`,
		`{"Service":["ec2.amazonaws.com","ecs-tasks.amazonaws.com"],"Federated":"accounts.google.com"}`,
		`{"AWS":["arn:aws:iam::123456789012:user/alice","arn:aws:iam::123456789012:root"]}`}
	texts = []string{"", "a", "A", "ab", "a*", "*", "?", "alice", "${aws:username}", "${aws:username, 'a'}", "${missing}x", "${*}", "ü?"}
)

// condition is a random operator with keys and values that suit it.
func (w world) condition() (op string, block map[string]any) {
	op = w.of("", "", "", "ForAllValues:", "ForAnyValue:")
	after := w.of("", "", "", "IfExists")
	key := w.of("text", "TEXT", "list", "missing")
	var values any
	switch w.IntN(9) {
	case 0, 1, 2:
		op += w.of("StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase")
		values = w.some(texts...)
	case 3:
		key = w.of("arn", "arns")
		op += w.of("ArnLike", "ArnNotLike", "ArnEquals", "ArnNotEquals")
		values = w.some("*", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::123456789012:user/*", "arn:*:iam::?*:role/W?rker", "${arn}", "arn:aws:iam", "nothing")
	case 4:
		key = w.of("number", "numbers", "text")
		op += "Numeric" + w.of("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
		values = w.some("1", "2.0", "-3", "1e1")
	case 5:
		key = w.of("date", "dates")
		op += "Date" + w.of("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
		values = w.some("2026-11-26T00:00:00Z", "2026-11-26T01:00:00+01:00", "1795651201", "2027-01-01T00:00:00Z")
	case 6:
		key = w.of("ip", "ips", "text")
		op += w.of("IpAddress", "NotIpAddress")
		values = w.some("10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1", "0.0.0.0/0")
	case 7:
		key = w.of("bool", "text")
		op += w.of("Bool", "Bool", "BinaryEquals")
		if strings.HasSuffix(op, "Bool") {
			values = w.some("true", "False")
		} else {
			values = w.some("YQ==", "YWI=")
		}
	default:
		return "Null", map[string]any{w.of("text", "list", "missing", "arns"): w.some("true", "false")}
	}
	return op + after, map[string]any{key: values}
}

func (w world) context() map[string][]string {
	c := map[string][]string{}
	maybe := func(key string, n int, values ...string) {
		if w.IntN(5) == 0 {
			return
		}
		for range w.IntN(n) + 1 {
			c[key] = append(c[key], w.of(values...))
		}
	}
	maybe("aws:username", 1, "alice", "bob", "*", "")
	maybe("text", 1, "", "a", "A", "ab", "alice", "*", "?", "üx", "YQ==", "10.1.2.3", "1")
	maybe("list", 3, "", "a", "A", "ab", "b", "*")
	maybe("arn", 1, alice.ARN, worker.Source, "arn:aws:iam", "nothing")
	maybe("arns", 3, alice.ARN, bob.ARN, worker.Source, "x")
	maybe("number", 1, "1", "2", "-3", "10", "x")
	maybe("numbers", 3, "1", "2", "2.5")
	maybe("date", 1, "2026-11-26T00:00:00Z", "1795651201", "x")
	maybe("dates", 3, "2026-11-26T00:00:00Z", "2027-01-01T00:00:00Z")
	maybe("ip", 1, "10.1.2.3", "11.0.0.1", "2001:db8::5", "::1", "x")
	maybe("ips", 3, "10.1.2.3", "11.0.0.1")
	maybe("bool", 1, "true", "false", "TRUE", "x")
	return c
}

func (w world) statement(kind Kind) map[string]any {
	st := map[string]any{"Effect": w.of("Allow", "Allow", "Allow", "Deny")}
	if kind == Trust {
		st["Action"] = w.some("sts:AssumeRole", "sts:*", "sts:TagSession")
	} else {
		st[w.of("Action", "Action", "Action", "NotAction")] = w.some(actions...)
		st[w.of("Resource", "Resource", "Resource", "NotResource")] = w.some(resources...)
	}
	if kind != Identity {
		name := "Principal"
		if kind == Resource && w.IntN(4) == 0 {
			name = "NotPrincipal"
		}
		st[name] = json.RawMessage(w.of(principalTexts...))
	}
	block := map[string]any{}
	for range w.IntN(3) {
		op, keys := w.condition()
		block[op] = keys
	}
	if len(block) > 0 {
		st["Condition"] = block
	}
	return st
}

func (w world) policy(kind Kind) string {
	doc := map[string]any{"Version": version2012}
	if kind != Identity && w.IntN(4) == 0 {
		delete(doc, "Version")
	}
	var list []any
	for range w.IntN(3) + 1 {
		list = append(list, w.statement(kind))
	}
	doc["Statement"] = list
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (w world) policies() refPolicies {
	p := refPolicies{rules: w.IntN(8) == 0, trust: w.IntN(6) == 0}
	for range w.IntN(4) {
		p.identity = append(p.identity, w.policy(Identity))
	}
	for w.IntN(3) == 0 {
		p.session = append(p.session, w.policy(Identity))
	}
	if w.IntN(3) == 0 {
		p.boundary = w.policy(Identity)
	}
	switch {
	case p.trust:
		p.resource = w.policy(Trust)
	case w.IntN(2) == 0:
		p.resource = w.policy(Resource)
	}
	return p
}

func (w world) request() refRequest {
	return refRequest{
		who:             people[w.IntN(len(people))],
		action:          w.of("s3:GetObject", "s3:GetObject", "s3:PutObject", "logs:GetLogEvents", "sts:AssumeRole", "sts:AssumeRole"),
		resource:        w.of(arns...),
		resourceAccount: w.of("", account, account, other),
		context:         w.context(),
	}
}

func (r refRequest) compiled() *Request {
	c := NewContext(len(r.context))
	for k, v := range r.context {
		c.Set(k, v...)
	}
	q := NewRequest(r.who, r.action, r.resource, c)
	q.ResourceAccount = r.resourceAccount
	return q
}

func (p refPolicies) compiled(t testing.TB) *Policies {
	attach := func(text string, kind Kind) Attached { return Attached{ID: text, Document: mustParse(t, text, kind)} }
	out := &Policies{ResourceRules: p.rules}
	for _, text := range p.identity {
		out.Identity = append(out.Identity, attach(text, Identity))
	}
	for _, text := range p.session {
		out.Session = append(out.Session, attach(text, Identity))
	}
	if p.boundary != "" {
		a := attach(p.boundary, Identity)
		out.Boundary = &a
	}
	if p.resource != "" {
		a := attach(p.resource, map[bool]Kind{false: Resource, true: Trust}[p.trust])
		out.Resource = &a
	}
	return out
}

// rounds of a generated test: enough to find what is wrong in seconds, or, under
// LONGSHORE_SOAK, in minutes.
func generated(normal, soak int) int {
	if os.Getenv("LONGSHORE_SOAK") != "" {
		return soak
	}
	return normal
}

// The evaluator and the reference decide the same, whatever is asked.
func TestAgreesWithReference(t *testing.T) {
	const requests = 10
	n := generated(100_000, 4_000_000) / requests
	var wg sync.WaitGroup
	counts := [2][]int{make([]int, 12), make([]int, 12)}
	for half := range 2 {
		wg.Go(func() {
			for seed := half; seed < n; seed += 2 {
				w := world{rand.New(rand.NewPCG(uint64(seed), 1))}
				p := w.policies()
				compiled := p.compiled(t)
				for range requests {
					r := w.request()
					got, want := Evaluate(r.compiled(), compiled), refDecide(r, p)
					if got != want || Explain(r.compiled(), compiled).Decision != want {
						t.Errorf("seed %d: got %v, the reference %v\nrequest %+v\npolicies %+v", seed, got, want, r, p)
						return
					}
					at := int(got.By) * 2
					if got.Allowed {
						at++
					}
					counts[half][at]++
				}
			}
		})
	}
	wg.Wait()
	// A comparison of cases that are all alike shows nothing.
	for by := IdentityBased; by <= RoleTrust; by++ {
		denied, allowed := counts[0][by*2]+counts[1][by*2], counts[0][by*2+1]+counts[1][by*2+1]
		t.Logf("type %d: %d denied, %d allowed", by, denied, allowed)
		if denied < n*requests/500 || (by == IdentityBased || by == ResourceBased || by == RoleTrust) && allowed < n*requests/500 {
			t.Errorf("type %d decided %d denials and %d allowances of %d", by, denied, allowed, n*requests)
		}
	}
}

// What must hold of any policies, without knowing what they mean.
func TestProperties(t *testing.T) {
	n := generated(3_000, 300_000)
	for seed := range n {
		w := world{rand.New(rand.NewPCG(uint64(seed), 2))}
		p, r := w.policies(), w.request()
		request := r.compiled()
		before := Evaluate(request, p.compiled(t))
		check := func(name string, p refPolicies, holds func(after Decision) bool) {
			if after := Evaluate(request, p.compiled(t)); !holds(after) {
				t.Fatalf("seed %d: %s: %v became %v\nrequest %+v\npolicies %+v", seed, name, before, after, r, p)
			}
		}
		same := func(after Decision) bool { return after == before }
		never := func(after Decision) bool { return before.Allowed || !after.Allowed }

		q := p
		q.identity = append(append([]string{}, p.identity...), withEffect(w, "Deny"))
		check("a denial added allows", q, never)
		q.identity = shuffled(w, p.identity)
		q.session = shuffled(w, p.session)
		check("the order of policies matters", q, same)
		for _, text := range []*string{&q.boundary, &q.resource} {
			if *text != "" {
				*text = reordered(w, *text)
			}
		}
		for i := range q.identity {
			q.identity[i] = reordered(w, q.identity[i])
		}
		check("the order of statements matters", q, same)
		q = p
		if q.boundary == "" {
			q.boundary = w.policy(Identity)
			check("a boundary adds", q, never)
		}
		q = p
		if len(q.session) == 0 {
			q.session = []string{w.policy(Identity)}
			check("a session policy adds", q, never)
		}
		q = p
		q.identity = append(append([]string{}, p.identity...), withEffect(w, "Allow"))
		check("an allowance added denies", q, func(after Decision) bool { return after.Allowed || !before.Allowed })
	}
}

// withEffect is a policy all of whose statements have one effect.
func withEffect(w world, effect string) string {
	text := w.policy(Identity)
	for _, e := range []string{"Allow", "Deny"} {
		text = strings.ReplaceAll(text, fmt.Sprintf("%q:%q", "Effect", e), fmt.Sprintf("%q:%q", "Effect", effect))
	}
	return text
}

func shuffled(w world, list []string) []string {
	out := append([]string{}, list...)
	w.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// reordered shuffles a policy's statements and the members of its objects.
func reordered(w world, text string) string {
	var doc map[string]json.RawMessage
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &doc) != nil || json.Unmarshal(doc["Statement"], &list) != nil {
		panic(text)
	}
	w.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var statements, members []string
	for _, raw := range list {
		var st map[string]json.RawMessage
		if json.Unmarshal(raw, &st) != nil {
			panic(text)
		}
		var parts []string
		for k, v := range st {
			parts = append(parts, fmt.Sprintf("%q:%s", k, v))
		}
		statements = append(statements, "{"+strings.Join(parts, ",")+"}")
	}
	for k, v := range doc {
		if k == "Statement" {
			v = json.RawMessage("[" + strings.Join(statements, ",") + "]")
		}
		members = append(members, fmt.Sprintf("%q:%s", k, v))
	}
	return "{" + strings.Join(members, ",") + "}"
}
