// Package balance is what a load balancer decides: which rule a request meets, which
// target group and target it goes to, where a redirect leads, when a target is healthy.
//
// A Table is a snapshot of all load balancers, listeners, rules, target groups and
// targets that a node serves, in AWS's words, with zero values meaning AWS's defaults.
// Who has made one does not change it any more. NewRouter makes a listener's rules ready
// for matching; Choose, PickGroup and ByFlow choose; Health.Next is how a target's state
// goes on after a check.
//
// Everything here is a pure function of its arguments: no sockets, no clock, no
// randomness of its own. Package proxy acts on it.
//
// Read table.go first, then router.go and choose.go.
package balance
