// Package bulk keeps data that is too much for the store: log events and the
// history of finished tasks, fsynced before a write is acknowledged.
//
// Each kind of data has a contract of its own (Logs, History), so that a
// distributed engine can stand in for Pebble on a fleet. Implementations:
// pebblebulk keeps them on disk, membulk in memory for simulations and fast
// tests; both pass bulktest. Keys are built on generation ids, never on names
// that can be reused.
//
// It does not know AWS's API: quotas, tokens and error codes belong to the rooms.
//
// Read logs.go first.
package bulk
