// Package cgroup is the small part of cgroup handling that the runtime needs
// beside libcontainer: finding the hierarchies, killing and removing a subtree,
// reading a container's usage, on cgroup v1 (one hierarchy per controller) and
// v2 (one for all).
//
// It is used by the shim, and by native when a shim is gone and its containers
// must be ended. Limits are set through libcontainer's managers, not here.
//
// Invariants: nothing outside the path given is touched; every wait is bounded.
//
// Read cgroup.go first; stats.go reads usage.
package cgroup
