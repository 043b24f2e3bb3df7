// Package nodestate is the stream that tells nodes what they must know besides tasks:
// load balancers today, peers, security groups and names to come.
//
// A kind of state is a set of entries: keys with JSON. A server's Hub serves each node a
// whole set first and then what has changed, for as long as the connection lives; a
// Follower keeps a connection open, and hands the whole set on at each change. It keeps
// the last one on the node's disk, sealed, so that what serves by it goes on while no
// server answers.
package nodestate
