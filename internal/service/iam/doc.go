// Package iam knows who may sign and what they may do: the root user's access
// key and the nodes' keys, the registration tokens by which nodes get theirs, the
// source of credentials that the wire asks, and the authoriser that every call
// passes.
//
// AWS promises users, groups, roles and policies; none of IAM's own operations is
// served yet (operations.txt). Until they are, the root user may do everything in
// its account, a node may act for its own container instances and tasks only (the
// room that owns them decides, through Nodes), and nobody else exists.
//
// Invariants: a secret reaches the store only sealed, bound to its key id, and a
// token's only as a hash; an access key id is never reused; a node's id is drawn
// here and never taken from who joins.
//
// Read credentials.go first, then jointoken.go and authorize.go.
package iam
