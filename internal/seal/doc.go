// Package seal encrypts secrets before they reach a disk.
//
// A Sealer holds one root key and seals byte strings with authenticated encryption
// bound to a context string (the record's key), so that a sealed value copied to
// another record does not open. A Keyring holds the root key in use and its
// predecessors, so that a key can be replaced while what it sealed is sealed again;
// File keeps them, under a passphrase if there is one. A Writer and a Reader do the
// same to streams of any length.
//
// It does not decide what is secret: the store's callers do. It knows no other place
// for root keys than files. Read seal.go, then keyring.go.
package seal
