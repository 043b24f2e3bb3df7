// Package runtime is the contract for running containers on a node, and the
// types that it is made of. native runs them through libcontainer inside the
// longshore-runner shim; fake keeps them in memory for tests. Both pass
// runtimetest.
//
// A container here is one process tree in its own cgroup, with a root file
// system, mounts and namespaces that its caller has prepared: the runtime knows
// neither images nor networks nor tasks beyond a group id. Containers of one
// group share one shim process, which outlives its caller, holds the containers'
// output in a spool on disk and records each exit durably, so that a restarted
// agent adopts what runs.
//
// Invariants: every method is idempotent where it says so; Delete leaves
// nothing behind; an exit is recorded before it is reported.
//
// Read runtime.go first.
package runtime
