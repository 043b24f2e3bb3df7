// Package netdump lists the kernel's network objects whole.
//
// The kernel answers such a listing in parts, and says so when something changed
// between two of them; the netlink library then returns what it has and an error.
// On a machine where containers come and go that is every day's affair.
package netdump
