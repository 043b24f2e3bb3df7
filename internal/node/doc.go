// Package node is the composition root of a node: it opens images, networks, the
// runtime and the log drivers in the node's directories, hands them to an agent,
// and serves the machine's owner on a local socket (image import).
//
// It holds no behaviour of its own beyond start order and shutdown. What a node
// does with its tasks is in package agent.
//
// Read node.go first.
package node
