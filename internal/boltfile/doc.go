// Package boltfile opens bbolt databases that a crash, a bad disk or a restore may
// have damaged. bbolt itself trusts its pages: on a damaged one it panics, later
// and on goroutines of its own, or reads what is not mapped.
//
// Open proves first that every page in use can be followed and is used once, and
// reports ErrDamaged if not; what to do then is for the caller to say. verify.go
// reads the file's bytes and knows bbolt's format, version 2.
package boltfile
