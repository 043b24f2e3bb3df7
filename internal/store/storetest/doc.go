// Package storetest is the suite that every implementation of store.KV passes.
//
// Run covers the contract written at store.KV: single keys, ranges at one
// revision, guards, groups with their order, watches without a gap, compaction,
// bounds and closing. It assumes nothing about an implementation but an extra
// method to compact history.
//
// What the typed DB adds is tested in package store; crashes, full disks and
// broken connections are tested with the implementation they concern.
package storetest
