// Package backup is the format of a server's backup: one sealed, compressed stream with
// a manifest, the store's entries and the files of the bulk data.
//
// Write makes it, Read hands its parts out in that order. What Read has handed out
// counts only once it has returned nil: then the stream has come to its own end, and
// nothing of it was changed, left out or cut off.
//
// It does not take the cut and puts nothing in its place: package control does.
//
// Read backup.go.
package backup
