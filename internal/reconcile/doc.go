// Package reconcile is the one loop of the control plane: a keyed,
// de-duplicating work queue with per-key backoff and periodic resync, and the
// workers that drain it.
//
// A room gives a function that, for a key, reads a snapshot, decides purely what
// to do and commits it. The loop is level-triggered: a key says "look again",
// never what changed. Time is passed in, and the loop can be stepped by a
// simulation instead of being run.
//
// Read queue.go first, then loop.go.
package reconcile
