// Package etcdkv is the store's key-value contract on etcd: a member embedded in
// this process with no listener at all (OpenEmbedded), or an existing cluster
// (OpenRemote). Above the client both are the same code.
//
// A group of transactions becomes one etcd transaction that holds each of them,
// nested, with its own guards; transactions that touch a key which another one
// of the group writes go into a later round, since etcd evaluates all guards
// before it writes anything (rounds.go).
//
// The embedded member keeps itself small: history is compacted, freed space is
// given back when most of the file is free, and a full quota is repaired
// (maintain.go). A remote cluster is compacted by its own settings.
//
// Invariants: an acknowledged commit has been fsynced; one process uses a data
// directory (a lock file with its pid); a data directory of a newer format, or
// one that cannot be read, is refused with an error that says what to do. etcd's
// way of ending the process on a fatal error is turned into Stopped and Err.
//
// Read kv.go first, then rounds.go and embedded.go.
package etcdkv
