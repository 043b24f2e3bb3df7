// Package pki is the server's own certificate authority: it makes the authority,
// issues the server's certificate and renews it while the server runs, and lets a
// node verify a server of which it knows nothing but the authority's pin.
//
// It keeps nothing: package control stores the authority, its key sealed, and
// package node keeps the certificate of the authority that it joined. Time and
// randomness are passed in. The authority signs nothing but server certificates.
//
// Read authority.go first, then server.go and pin.go.
package pki
