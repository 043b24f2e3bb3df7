// Package spool keeps a container's output on disk between the shim that writes
// it and the agent that carries it away: a directory of append-only segment
// files, each named by the position at which it begins.
//
// A segment is a row of frames: checksum, length, time, stream, data. A cursor is
// a byte position in the endless row of all segments. The file "acked" holds the
// position before which everything may be forgotten. A frame of stream 0 ends
// the output.
//
// One Writer (the shim) and any number of Readers work on a directory from
// different processes, without locks: frames are written with one write call,
// and a reader takes an incomplete frame as not there yet. Cut repairs what a
// writer that died has left.
//
// Invariants: at most MaxBytes (plus one segment) is kept; in blocking mode
// nothing is dropped; the writer survives a full disk.
//
// Read frame.go, then writer.go and reader.go.
package spool
