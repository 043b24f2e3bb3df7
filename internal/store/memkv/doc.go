// Package memkv is the store's key-value contract in memory: deterministic,
// for simulations and fast tests.
//
// Nothing is durable. Each applied transaction has a revision of its own. The
// history that watches read is bounded: a watch that falls behind it ends with
// store.ErrCompacted, as it does with etcd.
package memkv
