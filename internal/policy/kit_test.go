package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	account = "123456789012"
	other   = "210987654321"
)

var (
	alice = Principal{Account: account, ARN: "arn:aws:iam::123456789012:user/alice", ID: "AIDAALICEALICEALICE12"}
	bob   = Principal{Account: account, ARN: "arn:aws:iam::123456789012:user/team/bob", ID: "AIDABOBBOBBOBBOBBOB12"}
	// worker is a session of the role Worker.
	worker = Principal{Account: account, ARN: "arn:aws:sts::123456789012:assumed-role/Worker/s1", Source: "arn:aws:iam::123456789012:role/Worker",
		SourceID: "AROAWORKERWORKERWORK1"}
	carol    = Principal{Account: other, ARN: "arn:aws:iam::210987654321:user/carol"}
	root     = Principal{Kind: RootPrincipal, Account: account, ARN: "arn:aws:iam::123456789012:root"}
	foreRoot = Principal{Kind: RootPrincipal, Account: other, ARN: "arn:aws:iam::210987654321:root"}
	tasks    = Principal{Kind: ServicePrincipal, ARN: "ecs-tasks.amazonaws.com"}
	provider = Principal{Kind: FederatedPrincipal, ARN: "accounts.google.com"}
)

func mustParse(t testing.TB, text string, kind Kind) *Document {
	t.Helper()
	d, err := Parse([]byte(text), kind)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return d
}

// policyOf is a policy of statements that are written without their braces.
func policyOf(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[{` + strings.Join(statements, "},{") + `}]}`
}

func identity(t testing.TB, statements ...string) Attached {
	t.Helper()
	return Attached{ID: "identity", Document: mustParse(t, policyOf(statements...), Identity)}
}

func resource(t testing.TB, statements ...string) *Attached {
	t.Helper()
	return &Attached{ID: "resource", Document: mustParse(t, policyOf(statements...), Resource)}
}

func trust(t testing.TB, statements ...string) *Attached {
	t.Helper()
	return &Attached{ID: "trust", Document: mustParse(t, policyOf(statements...), Trust)}
}

// contextOf makes a context of "key=value" texts; a key that comes several times has
// several values.
func contextOf(pairs ...string) *Context {
	c := NewContext(len(pairs))
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		c.Set(key, append(c.get(lower(key)), value)...)
	}
	return c
}

func (d Decision) String() string {
	return fmt.Sprintf("allowed=%t explicit=%t by=%d", d.Allowed, d.Explicit, d.By)
}

func messageOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Message
	}
	return fmt.Sprint(err)
}
