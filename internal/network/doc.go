// Package network gives a container or a task its network: a sandbox is a
// network namespace with its links, addresses, routes and port mappings, made
// with netlink and nftables and without plugin processes.
//
// Modes: bridge (a namespace per container behind a host bridge, host ports
// mapped by nftables), awsvpc (a namespace per task whose address is the ENI's),
// host (no namespace), none (a namespace without a way out). In every mode the
// task metadata endpoint answers at 169.254.170.2:80.
//
// Everything carries the node's name, so several nodes live on one machine;
// Setup and Teardown are idempotent, and Sandboxes tells what exists, so that a
// restarted agent adopts or removes it.
//
// Read network.go first.
package network
