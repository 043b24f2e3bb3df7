// Package sigv4 signs HTTP requests with AWS Signature Version 4 and verifies
// signatures, in the header form and in the query (presigned) form.
//
// A server calls Parse, which looks only at the request's head, finds the
// secret of the access key, calls Signature.CheckTime, and then
// Signature.Verify with the hash of the body. The order lets it refuse unknown
// callers before it reads a body.
//
// Every refusal is an *Error whose Reason tells AWS's error codes apart; what
// the code is called depends on the protocol, which this package does not know.
//
// Invariants: signatures are compared in constant time; the Host header, X-Amz-Date
// and X-Amz-Target are always covered by a signature that is accepted; a
// signature without a valid time never is.
//
// Read parse.go first, then verify.go and canonical.go; sign.go is the client.
package sigv4
