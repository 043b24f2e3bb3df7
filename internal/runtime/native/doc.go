// Package native runs containers on this machine: it implements runtime.Runtime
// with one shim process per group, started from the longshore-runner executable
// that is embedded here, and talks to the shims over shimrpc. It needs no cgo.
//
// Two directories hold everything. StateDir, on disk, has what survives a reboot:
// records of containers, exits, output. RunDir, on tmpfs, has a directory per
// group with its shim's socket and lock. A shim holds its group's lock as long as
// it lives, so that a lock that can be taken is a shim that is dead.
//
// Invariants: one Runtime at a time uses a pair of directories; a dead shim's
// containers are killed and recorded as lost before anyone is told about them;
// the reader of output never needs the shim.
//
// Read native.go first, then group.go, which starts, finds and buries shims.
package native
