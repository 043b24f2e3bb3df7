// Package fake keeps containers in memory: a runtime.Runtime for the tests of
// what is above it, without root and without waiting for real processes.
//
// A container's command is a Program, a Go function named by Args[0]: exit, echo,
// err, sleep, trap, ignore, spam and lines are there (as in runtimetest's real
// program), and a test adds its own. Time comes from Options, so that a sleep
// takes no time under a test's clock. Faults are injected with FailCreate and
// FailStart, and Exit ends a container in any way: lost, out of memory.
//
// Invariants: it passes runtimetest's suite, as native does.
//
// Read fake.go first.
package fake
