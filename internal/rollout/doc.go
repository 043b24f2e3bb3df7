// Package rollout decides what a service does next: how many tasks it starts, which it
// stops, and when a deployment has come to its end, or has failed.
//
// Next is a pure function of what is there and of the time. Its laws, held by
// properties over random histories: no task is stopped below the minimum of healthy
// tasks, none started above the maximum of all, whatever can be done is done, and from
// any state it comes to rest with the tasks that are wanted, once they stay.
//
// It knows no store, no nodes and no AWS: who calls it carries the plan out.
//
// Read rollout.go.
package rollout
