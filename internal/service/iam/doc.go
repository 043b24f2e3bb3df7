// Package iam knows who may sign and what they may do: the root user's access
// key, the keys of users and of nodes, session tokens, the registration tokens by
// which nodes get theirs, the source of credentials that the wire asks, and the
// authoriser that every call passes. It serves IAM's own API on users, groups, roles,
// instance profiles and policies (operations.txt).
//
// IAM is global: its records belong to an account and to no region, whatever region
// a call is signed for. Records are found by their name in lower case, as names have
// to differ by more than case, and refer to each other by ID, which survives a
// renaming; managed policies are referred to by ARN. The policies that AWS manages
// are our own documents (managed.json), cut to the services that we have.
//
// Invariants: a secret reaches the store only sealed, bound to its key id, and a
// registration token's only as a hash; sessions are not stored; an id is never used
// again; a node's id is drawn here and never taken from who joins; nothing refers to
// what is not there: a transaction that makes a reference writes both ends
// (Service.update), and what is referred to cannot be deleted.
//
// Read records.go first, then book.go and user.go; credentials.go, session.go,
// jointoken.go, trust.go and authorize.go for who gets in; resource.go for what
// authorisation is asked.
package iam
