// Package iam knows who may sign and what they may do: the root user's access
// key and the nodes' keys, the source of credentials that the wire asks, and the
// authoriser that every call passes.
//
// AWS promises users, groups, roles and policies; none of IAM's own operations is
// served yet (operations.txt). Until they are, the root user may do everything in
// its account, a node may act for its own container instances and tasks only (the
// room that owns them decides, through Nodes), and nobody else exists.
//
// Invariants: a secret reaches the store only sealed, bound to its key id; an
// access key id is never reused.
//
// Read credentials.go first, then authorize.go.
package iam
