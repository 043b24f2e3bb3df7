// Package placement decides, purely, on which container instances tasks go.
//
// Place takes instances with what they have left, a request (resources, ports,
// attributes, constraints, strategies, count) and returns assignments and, for
// what could not be placed, how many instances were refused for each reason and
// the nearest fit. RunTask and the service scheduler call the same function.
//
// No I/O, no clock, no global randomness: the random strategy draws from a
// source that the caller passes. Package cql inside it parses and evaluates the
// cluster query language of memberOf constraints and list filters.
//
// Read placement.go first, then task.go (the tests and strategies of a request)
// and field.go (how the best candidate is found).
package placement
