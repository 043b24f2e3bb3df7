// Package agent is the node: it registers with a control plane as a container
// instance, keeps the ACS and TCS sessions, and runs the tasks it is assigned.
//
// One worker per task drives it forward through its states (state.go decides,
// worker.go acts) over four parts it is handed: images, networks, the runtime
// and log drivers. What a worker needs to resume is on disk before it acts, so
// that a killed agent adopts its running containers and finishes what it began.
//
// It also serves task metadata (v3, v4) to containers and collects their
// statistics. It does not place tasks and does not know services.
//
// Invariants: states move forward only; a change is on disk before it is
// submitted, but for RUNNING, which is told while it is being recorded (it is found
// again from the container itself); every resource of a stopped task is removed,
// whatever failed.
//
// The protocol's quirks are cases of the conformance tests, which play the control
// plane frame by frame; converge_test.go plays one with faults, from a seed.
//
// Read agent.go first, then engine.go, worker.go and state.go; session.go,
// assignments.go and accept.go for what comes from the control plane.
package agent
