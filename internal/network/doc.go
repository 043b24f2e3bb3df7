// Package network gives a container or a task its network: a sandbox is a
// network namespace with its link, address, routes and port mappings, made with
// netlink and nftables and without plugin processes.
//
// Modes: bridge (a namespace per container on the node's private subnet, host
// ports mapped by nftables), awsvpc (a namespace per task whose address is the
// ENI's), host (no namespace), none (a namespace without a way out). In every
// mode the task metadata endpoint answers at 169.254.170.2:80, and in all but none
// the node's way to the API at port 4566 of the same address.
//
// One construct serves every mode with a namespace: a veth pair whose host end
// has a /32 route to the sandbox. Sandboxes share no link, so that source
// addresses are checked by reverse path, ARP is static, and everything between
// two sandboxes passes the host's forward chain. The node's bridge device has no
// ports: it anchors the gateway's address and reserves the subnet.
//
// Everything carries a hash of the node's name, so several nodes live on one
// machine. Setup and Teardown are idempotent; a record precedes every action, so
// that New, after a kill at any point, removes what is half made and adopts the
// rest. A host port in use is a bound socket as well as a map entry.
//
// New turns IPv4 forwarding on, which nobody turns off again. Other firewalls have
// the last word, as a drop in their forward or input chain is final: New enters
// rules into Docker's chain for that purpose, and warns of others. Sandboxes have
// no IPv6 (but ::1), and no broadcast or multicast between them.
//
// It does not start processes, resolve names or serve metadata.
//
// Read network.go (the contract), setup_linux.go, then ruleset_linux.go.
package network
