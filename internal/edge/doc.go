// Package edge is the process that serves on a node what must go on while server and
// agent are away: its load balancers.
//
// It follows the node-state stream by itself, keeps the last state on the disk, and tells
// the server how its targets are. A control socket gives it new credentials, hands its
// listening sockets to a process that takes over, and ends it. balance has the tables,
// proxy the data plane.
package edge
