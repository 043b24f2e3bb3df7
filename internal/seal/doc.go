// Package seal encrypts secrets before they reach a disk.
//
// A Sealer holds the root key (a file of mode 0600) and seals byte strings with
// authenticated encryption bound to a context string (the record's key), so that
// a sealed value copied to another record does not open.
//
// It does not decide what is secret: the store's callers do. Read seal.go.
package seal
