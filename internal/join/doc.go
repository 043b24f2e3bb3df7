// Package join is what a node that joins a server and the server say to each
// other: the text of a registration token, and the one request and its answer.
//
// A token is "lsj1.ID.SECRET.PIN": the id names the token's record, the secret is
// known to the server as a hash only, and the pin is the hash of the public key of
// the authority that signs the server's certificate. The pin is what authenticates
// the server to a node that has never met it. It is "-" for a server without an
// authority of its own: plain http, or a certificate that the machine's own roots
// vouch for.
//
// It keeps nothing and decides nothing: package iam keeps tokens, package control
// answers, package node asks. Read token.go.
package join
