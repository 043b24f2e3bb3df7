// Package pebblebulk keeps bulk data on disk, in one Pebble database.
//
// All writes go through one goroutine (writer.go), which puts whatever is
// waiting into one batch and syncs it once: concurrent appenders share an fsync,
// sequence numbers are assigned in commit order, and maintenance (trim, delete)
// needs no locks.
//
// Log events are stored as chunks of up to 1,024 events of one stream, compressed
// together (chunk.go). A chunk's key holds its class, which bounds the time it
// spans, and the position of its first event (keys.go). A scan therefore knows
// how far before its range a chunk that reaches into it can begin, and events
// that arrive out of order need no rewriting: chunks simply overlap.
//
// Totals per stream and group are kept by a merge operator (stat.go), so that
// appending reads nothing.
//
// Read db.go first, then keys.go, logs.go and writer.go.
package pebblebulk
