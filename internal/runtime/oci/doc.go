// Package oci turns the runtime contract's Spec into an OCI runtime specification
// with the isolation that Docker gives by default: the capability set, masked and
// read-only paths, default mounts and devices, a seccomp allow-list.
//
// It is pure: what it must know of the machine comes in as a Host. The shim calls
// it; nothing here needs libcontainer, cgo or root.
//
// Invariants: what a Spec does not ask for is denied; a capability or limit that
// the machine cannot give is left out and reported as a note, not as an error.
//
// Read spec.go first; seccomp.go holds the syscall table.
package oci
