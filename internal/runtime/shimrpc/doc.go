// Package shimrpc is what native and the shim say to each other: the messages
// and their framing over the group's unix socket, the paths both use, and the
// record that is kept on disk of every container.
//
// A frame is a 4-byte length and a JSON object. Requests carry an id, answers
// come in any order, and a request whose connection ends is cancelled.
//
// Invariants: frames are bounded; secrets (a Spec's Env) travel in frames only
// and are in no file; a record is replaced whole, and its exit is on the disk
// before anyone is told.
//
// Read message.go first, then record.go; conn.go has client and server.
package shimrpc
