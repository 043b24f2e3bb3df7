// Package proxy is the data plane of a node's load balancers: it listens, forwards and
// checks targets' health, as an Application or a Network Load Balancer does.
//
// A Server serves the balance.Table that was last given to Apply. Tables are swapped
// without a lock on the way of a request: listeners that stay keep their sockets and
// connections, new ones are opened, those that are gone are drained with a bound. What
// to do with a request is decided by package balance; this package has the sockets, the
// clock and the counters. It knows no store and no AWS API: who owns it feeds tables in
// and reads Health and Counters out.
//
// Invariants: a target that drains gets nothing new, and what it has is ended at the end
// of the deregistration delay. A request is sent to a second target only when nothing of
// it has reached the first, or when it is safe, has no body and got no answer. What is
// forwarded is written anew from the parsed request, never copied from the wire, and so
// is framed in one way only. Every wait has a bound; every goroutine ends with Run.
//
// Read server.go first, then front.go (listeners), handler.go and forward.go (HTTP),
// tcp.go, group.go (targets) and check.go (their health).
package proxy
