// Package runner is the shim: the process that runs the containers of one group
// through libcontainer, holds their output, records their exits and outlives the
// agent that started it. cmd/longshore-runner is its executable; native starts it
// and talks to it over shimrpc.
//
// It needs cgo (libcontainer joins namespaces in C before Go starts) and, for the
// default seccomp profile, the build tag seccomp with libseccomp. Without cgo the
// package is empty.
//
// Invariants: an exit is on the disk before it is answered; root file systems are
// mounted only in the container's own mount namespace, so that no mount is left
// on the host whatever dies; a request names only containers of this shim.
//
// The shim ends when its last container is deleted, or when none came in time.
//
// Read shim.go first, then container.go; rootfs.go prepares the mounts.
package runner
