// Package policy is the IAM policy language: it parses policy documents and decides
// by them whether a request is allowed. It is pure; who holds which policies, and
// what a request is about, its callers say.
//
// Parse makes a Document of a text, once; Evaluate decides with documents on a
// Request, Explain tells as well which statements decided. The IAM room parses what
// clients give and what it has stored; its authoriser and its simulator, and STS
// with roles' trust policies, evaluate.
//
// AWS's user guide is the specification ("Policy evaluation logic", "IAM JSON policy
// element reference"). Where it leaves a choice, the choice is the one that gives
// less: what a variable brings in is never a wildcard, NotPrincipal with Deny spares
// only whom it names with the role and the account behind, an allowance with
// NotPrincipal covers nobody whose account, role or session is named.
//
// Invariants: Parse neither panics nor accepts what it does not understand; a
// Document is never changed after Parse and may be shared; a decision depends on its
// arguments only, and not on the order of policies, statements or keys; a boundary, a
// session policy and a denial only ever take away.
//
// Read evaluate.go first, then statement.go and condition.go.
package policy
