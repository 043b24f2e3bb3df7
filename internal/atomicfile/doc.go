// Package atomicfile replaces small files whole: after a crash at any moment the
// file is what it was before or what it was to become, never a part of it.
//
// It is for state that a process keeps beside its databases (how a server is
// reached, a node's id and credentials). It knows nothing of what it writes and
// makes no directories.
//
// Read atomicfile.go.
package atomicfile
