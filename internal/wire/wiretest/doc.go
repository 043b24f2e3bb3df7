// Package wiretest has what tests and measurements share that call a server with
// AWS's own clients.
//
// [PlainBodies] is the transport for clients that do not retry: the SDK and
// net/http together lose about one answer in a thousand of a server that answers
// faster than they write, which a client with retries hides.
package wiretest
